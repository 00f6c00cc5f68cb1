"""The routes of `simfrcnn serve`: a page, studies in, results out. Needs the extra ``serve``."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from simfrcnn.dicom.mammogram import DicomOptions
from simfrcnn.errors import DataError
from simfrcnn.service.web_guard import FAULT, IS_PAGE, Access, App, Guard, Rate
from simfrcnn.service.web_pixels import REDUCTIONS, FilmCache
from simfrcnn.service.web_refusals import Refusal, malformed, many_uploads
from simfrcnn.service.web_results import (
    REPORTS,
    film_of,
    map_of,
    no_such_map,
    outlines_of,
    report_of,
)
from simfrcnn.service.web_settings import is_loopback
from simfrcnn.service.web_studies import Studies, Study
from simfrcnn.service.web_uploads import Bounds, no_space_to_spool, receive, require_space_to_spool
from simfrcnn.version import __version__
from simfrcnn.viewer import VIEWER_FILES, viewer_file

_FILES = Path(__file__).parent / "web_files"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_OWN_FILES = ("serve.js", "serve.css", "index.html")
_LARGE_BODY = 1.05
"""A multipart body is larger than its files by headers and separators."""
_MAX_FIELDS = 8
_UPLOADS_AT_A_TIME = 4
"""Each may fill the disk of temporary files by its bound."""


def make_app(
    studies: Studies,
    access: Access,
    bounds: Bounds,
    *,
    options: DicomOptions,
    model: Mapping[str, Any],
    score_threshold: float,
) -> App:
    """The whole service as an ASGI application.

    Args:
        studies: Of the folder; its thread judges.
        access: Who may ask.
        bounds: What is taken.
        options: Which DICOM files are read, for their pixels.
        model: What `/health` and the page say of the model, in JSON types.
        score_threshold: Smallest score of a region in a DICOM report, and where the slider begins.
    """
    app = FastAPI(title="simfrcnn", docs_url=None, redoc_url=None, openapi_url=None)
    pages = page_files()
    films = FilmCache(options)
    rate = Rate(bounds.per_minute)
    under_way = threading.BoundedSemaphore(_UPLOADS_AT_A_TIME)

    def refused(_: Request, refusal: Refusal) -> Response:
        headers = (
            {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
        )
        return JSONResponse(refusal.to_dict(), refusal.status, headers)

    def no_route(_: Request, error: HTTPException) -> Response:
        content = Refusal(
            error.status_code,
            "there is no such page, or not by this method",
            "GET / /health /studies /results/ID, POST /studies /studies/ID; see docs/serve.md",
            "look at the address and the method",
        ).to_dict()
        return JSONResponse(content, error.status_code)

    def failed(_: Request, __: Exception) -> Response:
        return JSONResponse(FAULT.to_dict(), FAULT.status)  # the guard logs it

    app.exception_handler(Refusal)(refused)
    app.exception_handler(Exception)(failed)
    app.exception_handler(HTTPException)(no_route)

    def page(name: str) -> Response:
        content, media_type = pages[name]
        return Response(content, media_type=media_type)

    @app.get("/")
    def index() -> Response:
        return page("index.html")

    @app.get("/page/{name}")
    def file_of_page(name: str) -> Response:
        if name not in pages:
            raise HTTPException(404)
        return page(name)

    @app.get("/health")
    def health() -> Response:
        is_well = studies.is_alive
        content = {
            "status": "ok" if is_well else "the thread that judges has ended: start again",
            "version": __version__,
            "waiting": studies.n_waiting,
            "waiting_at_most": studies.n_waiting_at_most,
            "needs_token": access.token is not None,
        }
        return JSONResponse(content, 200 if is_well else 503)

    @app.get("/model")
    def about_model() -> Response:
        return JSONResponse({**model, "score_threshold": score_threshold})

    @app.get("/studies")
    def list_studies() -> Response:
        return JSONResponse({"studies": [one.to_dict() for one in studies.listed()]})

    @app.post("/studies")
    async def upload(request: Request) -> Response:
        rate.take()
        await run_in_threadpool(studies.require_room)
        if not under_way.acquire(blocking=False):
            raise many_uploads(_UPLOADS_AT_A_TIME)
        try:
            added = await _uploaded(request)
        except ClientDisconnect:
            return Response(status_code=400)
        finally:
            under_way.release()
        content = {"studies": [one.to_dict() for one in added]}
        return JSONResponse(content, 202)

    async def _uploaded(request: Request) -> list[Study]:
        kind = request.headers.get("content-type", "")
        if not kind.lower().startswith("multipart/form-data"):
            raise malformed("the body is no form", "curl -F file=@a.dcm -F file=@b.dcm URL/studies")
        length = request.headers.get("content-length", str(bounds.max_bytes))
        await run_in_threadpool(require_space_to_spool, int(length[:20]))
        try:
            form = await request.form(
                max_files=bounds.max_files, max_fields=_MAX_FIELDS, max_part_size=2**16
            )
        except HTTPException as error:
            raise malformed("the form is damaged, or has too many parts") from error
        except OSError as error:
            raise no_space_to_spool() from error
        try:
            files = [one.file for _, one in form.multi_items() if not isinstance(one, str)]
            if not files:
                raise malformed("the form holds no file")
            received = await run_in_threadpool(receive, studies.uploads, files, bounds)
        finally:
            await form.close()
        return await run_in_threadpool(studies.add, received)

    @app.get("/studies/{name}")
    def one_study(name: str) -> Response:
        return JSONResponse(studies.study(name).to_dict())

    @app.post("/studies/{name}")
    def judge_study(name: str) -> Response:
        rate.take()
        return JSONResponse(studies.submit(name).to_dict(), 202)

    @app.get("/results/{name}")
    def result(name: str, request: Request) -> Response:
        if getattr(request.state, IS_PAGE):  # without a token: the header is not read again here
            return page("index.html")
        stem, _, suffix = name.partition(".")
        content = studies.result(stem)
        if suffix in ("", "json"):
            return JSONResponse(content)
        kind = suffix.removesuffix(".dcm")
        if kind not in REPORTS or not suffix.endswith(".dcm"):
            raise Refusal(
                404,
                "results do not come in this form",
                ", ".join(f"ID.{one}" for one in ("json", *(f"{kind}.dcm" for kind in REPORTS))),
                "take one of these",
            )
        report = report_of(content, studies.folder, kind, score_threshold)
        return Response(
            report,
            media_type="application/dicom",
            headers={"Content-Disposition": f'attachment; filename="{kind}.dcm"'},
        )

    @app.get("/results/{name}/outlines")
    def outlines(name: str) -> Response:
        return JSONResponse(outlines_of(studies.result(name), studies.folder))

    @app.get("/results/{name}/films/{number}/maps/{place}")
    def class_map(name: str, number: str, place: str) -> Response:
        content = studies.result(name)
        if not all(one.isdecimal() and len(one) <= 6 for one in (number, place)):
            raise no_such_map(content, 0)
        picture = map_of(content, int(number), int(place), studies.results)
        return Response(picture, media_type="image/png")

    @app.get("/results/{name}/films/{number}")
    def pixels(name: str, number: str, request: Request, reduce: str = "1") -> Response:
        reduction = int(reduce) if reduce in map(str, REDUCTIONS) else 0
        if not reduction or not number.isdecimal() or len(number) > 6:
            raise Refusal(
                404, "there are no such pixels",
                f"the number of a film, from 0, and reduce={', '.join(map(str, REDUCTIONS))}",
                "take one of these",
            )  # fmt: skip
        path = film_of(studies.result(name), int(number), studies.folder)
        try:
            block = films.film(path).block(reduction)
        except (DataError, OSError) as error:
            raise Refusal(
                410, "the film cannot be read any more", "the file that was judged",
                "put the file back, or judge the study again",
            ) from error  # fmt: skip
        headers = {}
        client = request.client
        is_near = client is None or is_loopback(client.host)
        if not is_near and "gzip" in request.headers.get("accept-encoding", ""):
            block, headers = gzip.compress(block, 1), {"Content-Encoding": "gzip"}
        return Response(block, media_type="application/octet-stream", headers=headers)

    return Guard(app, access, int(bounds.max_bytes * _LARGE_BODY) + 2**16)


def page_files() -> dict[str, tuple[bytes, str]]:
    """The files of the page: content and media type by name."""
    texts = {name: (_FILES / name).read_text("utf-8") for name in _OWN_FILES}
    texts |= {name: viewer_file(name) for name in VIEWER_FILES}
    return {name: (text.encode(), _TYPES[name[name.index(".") :]]) for name, text in texts.items()}
