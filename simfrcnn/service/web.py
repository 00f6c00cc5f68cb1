"""A web page and REST over one function: a study goes in, the result of `predict` comes out."""

from __future__ import annotations

import contextlib
import importlib
import logging
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from simfrcnn.data.ahead import Processes
from simfrcnn.data.exams import Selection, Sources
from simfrcnn.detector import Detector, load
from simfrcnn.dicom.mammogram import STRICT
from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.locks import locked
from simfrcnn.service.web_guard import Access
from simfrcnn.service.web_settings import ServeOptions, token_of
from simfrcnn.service.web_studies import RESULTS, UPLOADS, Studies
from simfrcnn.service.web_uploads import Bounds, remove_unfinished
from simfrcnn.workflows.predict import PredictionOptions, facts_of, predict
from simfrcnn.workflows.prediction_folder import PredictionFolder

SELECTION = Selection(STRICT)
_CONNECTIONS = 100
"""At a time; uvicorn answers 503 beyond."""


def options_for(detector: Detector) -> PredictionOptions:
    """What is written of each study: what the page shows, which draws pictures itself."""
    return PredictionOptions(
        SELECTION,
        pictures="none",
        class_maps=detector.has_class_maps,
        shows_progress=False,
    )


def serve(options: ServeOptions, *, say: Callable[[str], None] = print) -> None:
    """Serve until the process is ended.

    Args:
        options: Of the command.
        say: Gets the address, once connections are taken.

    Raises:
        ConfigError: An option is missing or not legal, or the extra ``serve`` is not installed.
        CheckpointError: The model cannot be loaded.
        OutputError: Another server has the folder, it holds results of another model, or the
            address is in use.
    """
    weights, folder = options.required()
    _require_place(folder)
    access = access_of(options)
    uvicorn = import_uvicorn()
    from simfrcnn.service.web_app import make_app

    with _listening(options) as listener:
        detector = load(weights, device=options.device, operating_point=options.operating_point)
        with (
            quiet_libraries(),
            Processes(1) as processes,
            studies_of(detector, folder, options, processes) as studies,
        ):
            app = make_app(
                studies,
                access,
                bounds_of(options),
                options=STRICT,
                model=detector.provenance(),
                score_threshold=threshold_of(detector),
            )
            config = uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=30,
                limit_concurrency=_CONNECTIONS,
            )
            url = _url(options.address, listener)
            say(f"simfrcnn is at {url} (research use only; Ctrl-C ends it)")
            uvicorn.Server(config).run(sockets=[listener])


def _require_place(folder: Path) -> None:
    """Refuse a folder that cannot be meant; a new one is made where its parent exists.

    Raises:
        ConfigError: It is a file, or lies in a folder that does not exist.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--folder {folder} is a file; give the folder of the studies")
    if not folder.absolute().parent.is_dir():
        raise ConfigError(
            f"--folder {folder}: {folder.absolute().parent} does not exist; give the folder of the "
            "studies, or a new one in a folder that exists"
        )


@contextlib.contextmanager
def studies_of(
    detector: Detector, folder: Path, options: ServeOptions, processes: Processes
) -> Iterator[Studies]:
    """The studies of a folder, judged by a model with what `predict` does.

    As long as the block runs, no other server can do the same. What a server that was killed had
    not received whole is deleted, once it is sure that no other one is receiving it.

    Raises:
        OutputError: Another server has the folder, or its results are those of another model.
    """
    results = folder / RESULTS
    written = options_for(detector)
    facts = facts_of(detector, written, None)

    def judge(sources: Sources) -> None:
        predict(detector, sources, results, written, processes=processes)

    with locked(folder / UPLOADS):
        with PredictionFolder(results, facts).begin_or_go_on():
            pass  # refused here, not at the first study
        remove_unfinished(folder / UPLOADS)
        with Studies(
            folder, judge, selection=SELECTION, n_waiting_at_most=options.queue
        ) as studies:
            yield studies


def access_of(options: ServeOptions) -> Access:
    """Who may ask.

    Raises:
        ConfigError: An address that others can reach, and no token.
    """
    return Access(token_of(options))


def bounds_of(options: ServeOptions) -> Bounds:
    """What is taken of uploads."""
    return Bounds(options.max_upload_mb * 10**6, options.max_files, options.uploads_per_minute)


def threshold_of(detector: Detector) -> float:
    """Where the slider begins: the operating point, else EVAL.SCORE_THRESHOLD."""
    point = detector.decision.point
    return float(detector.cfg.EVAL.SCORE_THRESHOLD if point is None else point.score_threshold)


@contextlib.contextmanager
def _listening(options: ServeOptions) -> Iterator[socket.socket]:
    """The socket, taken before the model is loaded: an address in use is known at once."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            options.address, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(f"--address {options.address} is no address of this machine") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
            listener.listen(128)
        except OSError as error:
            raise OutputError(
                f"cannot listen on {options.address} port {options.port} ({error.strerror}): end "
                "what listens there, or give another --port"
            ) from error
        yield listener


def _url(address: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep identifiers out of logs: these remark on values that break a standard, and cite them."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "python_multipart")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pydicom")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def import_uvicorn() -> Any:
    """uvicorn, where FastAPI and what reads forms are there too.

    Raises:
        ConfigError: One of them is not installed; names the extra.
    """
    for name in ("fastapi", "python_multipart", "uvicorn"):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise ConfigError(
                f"simfrcnn serve needs {name.replace('_', '-')}, which is not installed: "
                "pip install 'simfrcnn[serve]'"
            ) from error
    return module
