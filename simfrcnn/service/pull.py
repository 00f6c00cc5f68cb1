"""How are the mammograms of an archive judged over DICOMweb, each study once?

QIDO-RS finds studies, WADO-RS brings their films, and queue, judging and sending are those of a
node. What is done stays done: a second run, or one after a kill, takes up what is left.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation as FOR_PRESENTATION

from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.service.folder import FullError, film_name
from simfrcnn.service.intake import Intake
from simfrcnn.service.judging import Judge
from simfrcnn.service.node import show, work_of
from simfrcnn.service.options import PullOptions
from simfrcnn.service.queue import Queue
from simfrcnn.service.retention import remove_old
from simfrcnn.service.sending import (
    SendingError,
    dicomweb_client,
    require_url,
    token_for,
    web_error,
)
from simfrcnn.service.working import Work

_STUDY, _SERIES, _INSTANCE, _CLASS = "0020000D", "0020000E", "00080018", "00080016"
_PAGE = 200
"""Studies, or images of one, that are asked for at a time."""
_STALE_PAGES = 2
"""Pages in a row with nothing new that end a pull; one can come of a study that was just added."""
_IDLE_S = 0.2

logger = logging.getLogger("simfrcnn")


@dataclass
class Pulled:
    """What a pull did: studies found at the source, and what became of them."""

    n_found: int = 0
    n_done_before: int = 0
    n_without_films: int = 0
    n_done: int = 0
    n_failed: int = 0
    n_not_read: int = 0

    def lines(self) -> list[str]:
        """What to print."""
        return [
            f"studies at the source: {self.n_found}, of which {self.n_done_before} were taken "
            f"before and {self.n_without_films} have no mammogram for presentation",
            f"in the folder: {self.n_done} done, {self.n_failed} failed",
            f"could not be read from the source: {self.n_not_read}",
        ]


def run_pull(
    options: PullOptions, *, judge: Judge | None = None, stop: threading.Event | None = None
) -> Pulled:
    """Judge all studies of an archive between two dates, and send the results.

    Args:
        options: Folder, weights, source and first date are needed; without ``to`` results go back
            to the source.
        judge: In place of the model of the options.
        stop: Set by whoever wants it to end after the study in hand.

    Raises:
        ConfigError: An option is missing or not legal.
        SendingError: The source does not answer the search for studies, or ignores an offset.
        OutputError: Another node or pull is at work in the folder, its disk is full, or its queue
            cannot be read or written.
    """
    options.require("folder", "source", "since", *(("weights",) if judge is None else ()))
    source = require_url("--from", str(options.source))
    dates = f"{_date('--since', options.since)}-{_date('--until', options.until)}"
    if not options.to:
        options = dataclasses.replace(options, to=(source,))
    token_for(source, options)  # refused before a model is loaded
    stop = threading.Event() if stop is None else stop
    with work_of(options, judge, stop) as work:
        client = dicomweb_client(source, options)
        pulled = Pulled()
        _make_room(work)  # a pull that a full disk has ended can free itself
        for study_uid in _studies(client, source, dates):
            pulled.n_found += 1
            _pull_study(client, source, study_uid, work, pulled)
            _make_room(work)
            if stop.is_set():
                break
        _drain(work, until_empty=True)
        show(work)
        counts = work.queue.counts()
        pulled.n_done, pulled.n_failed = counts["done"], counts["failed"]
        work.audit.note("pull ends", source=source, **dataclasses.asdict(pulled))
        return pulled


def _studies(client: Any, source: str, dates: str) -> Iterator[str]:
    """Study Instance UIDs with mammograms, page by page."""

    def ask(**place: int) -> list[Any]:
        filters = {"ModalitiesInStudy": "MG", "StudyDate": dates}
        try:
            return list(client.search_for_studies(search_filters=filters, **place))
        except Exception as error:  # of the HTTP library, or of an answer that is none
            raise web_error(source, error) from error

    remedy = "pull fewer days at a time (--since, --until)"
    return (uid for uid, _ in _paged(ask, _STUDY, f"{source} answers the same studies", remedy))


def _films(client: Any, source: str, study_uid: str) -> Iterator[tuple[str, str]]:
    """(SOP, Series Instance UID) of the films of a study that are for presentation."""

    def ask(**place: int) -> list[Any]:
        filters = {"Modality": "MG"}
        found = client.search_for_instances(
            study_uid, search_filters=filters, fields=[_CLASS], **place
        )
        return list(found)

    remedy = "let the archive send its studies to `simfrcnn node`"
    what = f"{source} answers the same images of a study"
    for uid, entry in _paged(ask, _INSTANCE, what, remedy):
        series_uid = _text(entry, _SERIES)
        if series_uid and _text(entry, _CLASS) == FOR_PRESENTATION:
            yield uid, series_uid


def _paged(
    ask: Callable[..., list[Any]], tag: str, what: str, remedy: str
) -> Iterator[tuple[str, Any]]:
    """All that a search finds, page by page, each UID once.

    Args:
        ask: Takes ``limit`` and ``offset``.
        tag: Of the UID.
        what: How the error begins.
        remedy: How it ends.

    Yields:
        (UID, entry), in the order of the source.

    Raises:
        SendingError: The source ignores the offset.
    """
    seen: set[str] = set()
    offset = n_stale = 0
    while page := ask(limit=_PAGE, offset=offset):
        new = {uid: one for one in page if (uid := _text(one, tag)) and uid not in seen}
        yield from new.items()
        seen.update(new)
        offset += len(page)  # a server may give fewer than were asked for
        n_stale = 0 if new else n_stale + 1
        if n_stale == _STALE_PAGES:
            raise SendingError(
                "the source does not page",
                f"{what} whatever the offset, so that some may be missing: {remedy}",
            )


def _pull_study(client: Any, source: str, study_uid: str, work: Work, pulled: Pulled) -> None:
    """Take the films of one study that are not here, and let it be judged."""
    study = work.folder.name_of(study_uid)
    try:
        films = dict(_films(client, source, study_uid))
        if not films:
            pulled.n_without_films += 1
            return
        digest = hashlib.sha256("\n".join(sorted(map(film_name, films))).encode())
        if work.queue.pulled(study) == digest.hexdigest():
            pulled.n_done_before += 1
            return
        n_bytes = _take_films(client, study_uid, films, work)
    except (SendingError, OutputError, sqlite3.Error):
        raise  # of all studies, or of this side
    except Exception as error:  # of the HTTP library, or of an answer that is none
        pulled.n_not_read += 1
        code = web_error(source, error).code
        work.audit.note("not read", source=source, study=study, code=code)
        logger.warning("study %s: cannot be read from the source: %s", study, code)
        return
    work.queue.settle(work.now(), 0.0, study)  # first: what is noted is never looked at again
    work.queue.note_pulled(study, digest.hexdigest())
    work.audit.note("pulled", source=source, study=study, films=len(films), bytes=n_bytes)


def _take_films(client: Any, study_uid: str, films: Mapping[str, str], work: Work) -> int:
    """Take what is not here; how many bytes. Where the disk is full, room is made once.

    Raises:
        OutputError: The disk is still full; names the folder and what to do.
    """
    try:
        return _take_missing(client, study_uid, films, work)
    except FullError:
        _make_room(work)
    try:  # from the first film on: those of an earlier revision may have made room
        return _take_missing(client, study_uid, films, work)
    except FullError as error:
        free = work.folder.free_bytes() / 1e9
        raise OutputError(
            f"{work.folder.path} takes no more films: {error} ({free:.2f} GB are free, and "
            f"--min-free-gb is {work.options.min_free_gb:g}). Free some space, or give a smaller "
            "--min-free-gb, --keep-days or --keep-gb, and start again; it goes on where it was"
        ) from error


def _take_missing(client: Any, study_uid: str, films: Mapping[str, str], work: Work) -> int:
    study = work.folder.name_of(study_uid)
    intake = Intake(work.folder, work.queue, work.now)
    n_bytes = 0
    for uid, series_uid in films.items():
        if not work.queue.has_film(study, film_name(uid)):
            content = _film(client, study_uid, series_uid, uid)
            try:
                intake.take(content, uid)
            except OSError as error:  # of this side: requests of the source are over
                raise OutputError(
                    f"{work.folder.path} cannot be read or written: {error.strerror}"
                ) from error
            n_bytes += len(content)
    return n_bytes


def _film(client: Any, study_uid: str, series_uid: str, uid: str) -> bytes:
    """One film as a DICOM file, in the transfer syntax in which the source keeps it."""
    dataset = client.retrieve_instance(
        study_uid, series_uid, uid, media_types=(("application/dicom", "*"),)
    )
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _make_room(work: Work) -> None:
    """Judge and send what can be, and let old studies leave the disk."""
    _drain(work)
    remove_old(
        *(work.folder, work.queue, work.audit),
        keep_days=work.options.keep_days,
        keep_gb=work.options.keep_gb,
        now=work.now(),
    )


def _drain(work: Work, *, until_empty: bool = False) -> None:
    """Judge and send what can be; with ``until_empty``, also what waits for another try."""
    while not work.stop.is_set():
        if work.judge_one() or work.send_one():
            continue
        if not until_empty or not _waits(work.queue):
            return
        time.sleep(_IDLE_S)


def _waits(queue: Queue) -> bool:
    counts = queue.counts()
    return any(counts[state] for state in ("stable", "predicting", "predicted", "sending"))


def _text(entry: Any, tag: str) -> str:
    values = entry.get(tag, {}).get("Value") or [""]
    return str(values[0]).strip()


def _date(option: str, text: str | None) -> str:
    """YYYYMMDD of a date, nothing of None."""
    if text is None:
        return ""
    for pattern in ("%Y-%m-%d", "%Y%m%d"):
        try:
            return datetime.strptime(str(text), pattern).strftime("%Y%m%d")
        except ValueError:
            continue
    raise ConfigError(f"{option} is {text!r}; legal is a date such as 2026-11-29")
