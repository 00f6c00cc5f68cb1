"""What is done with a study in the queue, and what when it goes wrong?"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simfrcnn.errors import SimFrcnnError
from simfrcnn.files import sha256_of, sync_folder, write_json
from simfrcnn.service.audit import Audit, now_text, time_text
from simfrcnn.service.folder import ServiceFolder
from simfrcnn.service.judging import Judge, Judged
from simfrcnn.service.options import ServiceOptions
from simfrcnn.service.queue import Job, Queue, State
from simfrcnn.service.sending import SendingError, Target
from simfrcnn.wording import counted

REASON = "reason.json"
_ENDED = "the process ended"
_ENTRY = re.compile(r"[0-9a-f]+-[0-9]+")
"""Names in ``failed/`` that are ours: study and revision."""
_LOST = "a result is lost"
_MOST_DOUBLINGS = 30

logger = logging.getLogger("simfrcnn")


class LostResultError(SimFrcnnError):
    """A result is gone from the disk, or its bytes have changed; judging makes it again."""


@dataclass
class Work:
    """Judges and sends the studies of a folder, one call one study.

    ``judge_one`` belongs to one thread, ``send_one`` to one other. ``last_error`` is what a log may
    say of the last study that went wrong, ``fault`` what has ended the thread that sends.
    """

    folder: ServiceFolder
    queue: Queue
    judge: Judge
    targets: Sequence[Target]
    options: ServiceOptions
    audit: Audit
    stop: threading.Event = field(default_factory=threading.Event)
    now: Callable[[], float] = time.time
    last_error: dict[str, str] | None = None
    fault: Exception | None = None
    _shown: dict[str, Job] = field(default_factory=dict)
    """Entries of ``failed/`` whose reason was written or compared with the queue."""

    def recover(self) -> None:
        """Take up what a process left that was killed, whenever that was."""
        self.folder.remove_unfinished()
        for study in self.queue.studies_with_films():
            if not self.folder.films_of(study).exists() and self.queue.is_finished(study):
                self.queue.forget_films(study)  # killed while it removed the study
        for study, film in self.folder.films():
            self.queue.add_film(study, film, self.now())  # killed before it answered
        n_moved = self.queue.recover(self.now())
        if n_moved:
            self.audit.note("taken up again", studies=n_moved)

    def judge_one(self) -> bool:
        """Judge the next study; whether there was one. An interrupt puts it back."""
        job = self.queue.take_for_judging(self.now())
        if job is None:
            return False
        if job.attempts > self.options.attempts:
            why = f"{_ENDED} {self.options.attempts} times while it judged this study"
            self._fail(job, "stable", _ENDED, why)
            return True
        if n_missing := self.queue.missing_films(job.study):
            self._fail(job, "stable", "films have left the disk", _send_again(n_missing))
            return True
        begun = time.monotonic()
        try:
            judged, results = self._judged(job)
        except Exception as error:  # whatever it is, the other studies can be judged
            self._go_wrong(job, "stable", type(error).__name__, f"{type(error).__name__}: {error}")
            return True
        except BaseException:
            self.queue.put_back(job, "stable")
            raise
        if judged.why_none is None and results and (not judged.may_succeed or self._is_last(job)):
            self.queue.judged(job, results)
            self.audit.note(
                "judged",
                **_named(job),
                images=judged.n_images,
                results=len(results),
                seconds=round(time.monotonic() - begun, 1),
                failed_films=judged.may_succeed or None,
            )
        elif judged.may_succeed:
            self._go_wrong(job, "stable", "a film failed", judged.why_none or "a film failed")
        else:
            why = judged.why_none or "the study has no DICOM result"
            self._fail(job, "stable", "no DICOM result", why)
        return True

    def send_one(self) -> bool:
        """Send the results of the next study to all targets; whether there was one."""
        job = self.queue.take_for_sending(self.now())
        if job is None:
            return False
        try:
            if not self._send(job):
                self.queue.put_back(job, "predicted")
                return True
        except SendingError as error:
            self._go_wrong(job, "predicted", error.code, str(error))
        except LostResultError as error:
            if self.queue.note_lost(job) > self.options.attempts:
                self._fail(job, "stable", _LOST, str(error))
            else:
                self._go_wrong(job, "stable", _LOST, str(error))
        except sqlite3.Error:
            raise
        except Exception as error:  # whatever it is, the results are here and can be sent later
            text = f"sending broke off ({type(error).__name__}: {error})"
            self._go_wrong(job, "predicted", type(error).__name__, text)
        else:
            self.queue.done(job, self.now())
            self.audit.note("done", **_named(job))
        return True

    def show_failed(self) -> None:
        """Let ``failed/`` hold the studies that are given up, with the reason, and no other."""
        failed = {f"{job.study}-{job.revision}": job for job in self.queue.failed()}
        there = set()
        for path in self.folder.failed.iterdir():
            if not _ENTRY.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
                continue  # not ours
            job = failed.get(path.name)
            if job is not None and self._is_shown(job, path):
                there.add(path.name)
            else:  # also one of an earlier failure, with its time and reason
                shutil.rmtree(path)
        for name in set(failed) - there:
            self._show(failed[name], self.folder.failed / name)

    def _is_shown(self, job: Job, place: Path) -> bool:
        """Whether an entry of ``failed/`` says what the queue does; its reason is read once."""
        path = place / REASON
        if not path.is_file():
            return False
        if self._shown.get(place.name) == job:
            return True
        try:
            is_so = bool(json.loads(path.read_text("utf-8")) == _reason_of(job))
        except (OSError, ValueError):
            return False
        if is_so:
            self._shown[place.name] = job
        return is_so

    def _show(self, job: Job, place: Path) -> None:
        """Make an entry of ``failed/``, at once and whole."""
        if place.exists() or place.is_symlink():
            return  # somebody has put another thing there, which is not ours to remove
        unfinished = self.folder.unfinished / f"failed-{place.name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        films = os.path.relpath(self.folder.films_of(job.study), place)
        (unfinished / "films").symlink_to(films, target_is_directory=True)
        write_json(unfinished / REASON, _reason_of(job))
        os.rename(unfinished, place)
        self._shown[place.name] = job

    def _judged(self, job: Job) -> tuple[Judged, dict[str, str]]:
        """Judge into a folder of its own, which gets its name when it is whole."""
        output = self.folder.unfinished / f"{job.study}-{job.revision}"
        shutil.rmtree(output, ignore_errors=True)
        judged = self.judge(self.folder.films_of(job.study), output)
        results = {name: sha256_of(output / name) for name in judged.files}
        target = self.folder.results_of(job.study, job.revision)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(output, target)
        sync_folder(target.parent)
        return judged, results

    def _send(self, job: Job) -> bool:
        """Send what was not confirmed before; False where it was asked to stop before the end.

        A target that fails keeps nothing from the others.

        Raises:
            SendingError: What the targets that failed have said, after all were tried.
        """
        folder = self.folder.results_of(job.study, job.revision)
        results = self.queue.results_of(job)
        errors: list[SendingError] = []
        for target in self.targets:
            try:
                for name, sha256 in results.items():
                    if self.queue.was_sent(sha256, target.name):
                        continue
                    if self.stop.is_set():
                        return False
                    self._send_file(job, folder / name, target, sha256)
            except SendingError as error:
                errors.append(error)
        if errors:
            codes = "; ".join(dict.fromkeys(error.code for error in errors))
            raise SendingError(codes, "; ".join(map(str, errors)))
        return True

    def _send_file(self, job: Job, path: Path, target: Target, sha256: str) -> None:
        def note() -> None:
            self.queue.confirm_sent(sha256, target.name, self.now())

        _require_whole(path, sha256)
        tries = self.queue.begin_sending(sha256, target.name, self.now())
        if tries > 1 and target.has(path):  # a kill came between its answer and our note
            note()
            self.audit.note("found there", **_named(job), target=target.name, result=path.name)
            return
        try:
            target.send(path, note)
        except SendingError as error:
            self.audit.note(
                "not sent", **_named(job), target=target.name, status=error.code, tries=tries
            )
            raise
        self.audit.note(
            "sent",
            **_named(job),
            target=target.name,
            result=path.name,
            tries=tries,
        )

    def _is_last(self, job: Job) -> bool:
        return job.attempts >= self.options.attempts

    def _go_wrong(self, job: Job, again: State, code: str, reason: str) -> None:
        """Try again later, or give up."""
        if self._is_last(job):
            self._fail(job, again, code, reason)
            return
        wait = self.options.retry_wait * 2.0 ** min(job.attempts - 1, _MOST_DOUBLINGS)
        wait = min(wait, self.options.longest_wait)
        self.queue.try_again(job, again, self.now() + wait)
        self._note_error("tried again later", job, code, wait_s=wait)

    def _fail(self, job: Job, again: State, code: str, reason: str) -> None:
        self.queue.fail(job, again, code, reason, self.now())
        self._note_error("failed", job, code)

    def _note_error(self, event: str, job: Job, code: str, **facts: float) -> None:
        self.last_error = {"time": now_text(), "study": job.study, "code": code}
        self.audit.note(event, **_named(job), code=code, attempts=job.attempts, **facts)
        logger.warning("study %s: %s, %s", job.study, code, event)


def _reason_of(job: Job) -> dict[str, str | int | None]:
    """What ``reason.json`` says."""
    return {
        "time": None if job.ended is None else time_text(job.ended),
        **_named(job),
        "code": job.code,
        "reason": job.reason,
        "attempts": job.attempts,
        "what_to_do": "remove the cause, then simfrcnn node --retry-failed FOLDER",
    }


def _named(job: Job) -> dict[str, str | int]:
    return {"study": job.study, "revision": job.revision}


def _send_again(n_missing: int) -> str:
    films = counted(n_missing, "earlier [film|films]")
    return (
        f"{films} of the study left the disk after judging (--keep-days, --keep-gb), and a report "
        "without them would look newer than the whole one: send the whole study again; then it "
        "goes on"
    )


def _require_whole(path: Path, sha256: str) -> None:
    try:
        found = sha256_of(path)
    except (OSError, SimFrcnnError) as error:
        raise LostResultError(f"the result {path.name} cannot be read") from error
    if found != sha256:
        raise LostResultError(f"the result {path.name} is not what was judged: it is damaged")
