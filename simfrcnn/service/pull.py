"""How are the mammograms of an archive judged over DICOMweb, each study once?

QIDO-RS finds studies, WADO-RS brings their films, and queue, judging and sending are those of a
node. What is done stays done: a second run, or one after a kill, takes up what is left.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation as FOR_PRESENTATION

from simfrcnn.errors import ConfigError
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
"""Studies that are asked for at a time."""
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
        SendingError: The source does not answer the search for studies, or ignores its offset.
        OutputError: Another node or pull is at work in the folder.
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
        for study_uid in _studies(client, source, dates):
            pulled.n_found += 1
            _pull_study(client, source, study_uid, work, pulled)
            _drain(work)
            remove_old(
                *(work.folder, work.queue, work.audit),
                keep_days=options.keep_days,
                keep_gb=options.keep_gb,
                now=work.now(),
            )
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
    seen: set[str] = set()
    offset = n_stale = 0
    while True:
        try:
            page = client.search_for_studies(
                search_filters={"ModalitiesInStudy": "MG", "StudyDate": dates},
                limit=_PAGE,
                offset=offset,
            )
        except Exception as error:  # of the HTTP library, or of an answer that is none
            raise web_error(source, error) from error
        if not page:
            return
        new = [uid for entry in page if (uid := _text(entry, _STUDY)) and uid not in seen]
        new = list(dict.fromkeys(new))
        yield from new
        seen.update(new)
        offset += len(page)  # a server may give fewer than were asked for
        n_stale = 0 if new else n_stale + 1
        if n_stale == _STALE_PAGES:
            raise SendingError(
                "the source does not page",
                f"{source} answers the same studies whatever the offset, so that some may be "
                "missing: pull fewer days at a time (--since, --until)",
            )


def _pull_study(client: Any, source: str, study_uid: str, work: Work, pulled: Pulled) -> None:
    """Take the films of one study that are not here, and let it be judged."""
    study = work.folder.name_of(study_uid)
    intake = Intake(work.folder, work.queue, work.now)
    try:
        films = dict(_films(client, study_uid))
        if not films:
            pulled.n_without_films += 1
            return
        digest = hashlib.sha256("\n".join(sorted(map(film_name, films))).encode())
        if work.queue.pulled(study) == digest.hexdigest():
            pulled.n_done_before += 1
            return
        n_bytes = 0
        for uid, series_uid in films.items():
            if not work.queue.has_film(study, film_name(uid)):
                content = _film(client, study_uid, series_uid, uid)
                intake.take(content, uid)
                n_bytes += len(content)
    except FullError:
        raise
    except Exception as error:  # of the HTTP library, or of an answer that is none
        pulled.n_not_read += 1
        code = web_error(source, error).code
        work.audit.note("not read", source=source, study=study, code=code)
        logger.warning("study %s: cannot be read from the source: %s", study, code)
        return
    work.queue.settle(work.now(), 0.0, study)  # first: what is noted is never looked at again
    work.queue.note_pulled(study, digest.hexdigest())
    work.audit.note("pulled", source=source, study=study, films=len(films), bytes=n_bytes)


def _films(client: Any, study_uid: str) -> Iterator[tuple[str, str]]:
    """(SOP, Series Instance UID) of the films of a study that are for presentation."""
    entries = client.search_for_instances(
        study_uid, search_filters={"Modality": "MG"}, fields=[_CLASS], get_remaining=True
    )
    for entry in entries:
        uid, series_uid = _text(entry, _INSTANCE), _text(entry, _SERIES)
        if uid and series_uid and _text(entry, _CLASS) == FOR_PRESENTATION:
            yield uid, series_uid


def _film(client: Any, study_uid: str, series_uid: str, uid: str) -> bytes:
    """One film as a DICOM file, in the transfer syntax in which the source keeps it."""
    dataset = client.retrieve_instance(
        study_uid, series_uid, uid, media_types=(("application/dicom", "*"),)
    )
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


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
