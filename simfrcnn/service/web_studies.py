"""Which studies are there, which of them have been judged, and who judges the next one?

Studies are the exams of all files below one folder, as `simfrcnn predict` puts them together. Each
is known to the outside by the name of its result file, a hash; a request's id is looked up in a
table of these and never becomes part of a path. One thread judges, one study at a time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simfrcnn.data.exams import (
    ExamIndex,
    ExamPlan,
    FileFacts,
    Selection,
    Sources,
    facts_of,
)
from simfrcnn.data.naming import AsTheyAre
from simfrcnn.errors import SimFrcnnError
from simfrcnn.images.finding import walk_images
from simfrcnn.service.web_refusals import Refusal, busy, too_many_studies, unknown_study
from simfrcnn.service.web_uploads import Received
from simfrcnn.workflows.prediction_folder import EXAMS

UPLOADS, RESULTS = "uploads", "results"
State = Literal["new", "waiting", "running", "done", "failed"]
Judge = Callable[[Sources], None]
"""Judges the exams of some files into the folder of results, as `predict` does."""
_FRESH_S = 5.0
"""The folder is looked through again after so many seconds, if somebody asks."""
_NAMING = AsTheyAre()
_REMEDIES = {
    "unreadable": "a file is damaged, or no DICOM file or picture that is read",
    "not a mammogram": "a DICOM file is of another modality, or FOR PROCESSING",
    "not a screening view": "a film is a scout, magnification, specimen or the like",
    "failed": "a file could not be read, and it is not to blame",
}

logger = logging.getLogger("simfrcnn")


@dataclass
class Study:
    """One exam of the folder; ``problem`` says why its state is ``failed``."""

    id: str
    plan: ExamPlan
    state: State
    score: float | None = None
    call: str | None = None
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """What a list shows."""
        return {
            "id": self.id,
            "state": self.state,
            "patient_id": _NAMING.patient(self.plan.patient_id),
            "exam_id": _NAMING.exam(self.plan.exam_id),
            "files": len(self.plan.files),
            "score": self.score,
            "call": self.call,
            **({"problem": self.problem} if self.problem else {}),
        }


class Studies:
    """The studies below a folder, and the thread that judges them; a context manager."""

    def __init__(
        self, folder: Path, judge: Judge, *, selection: Selection, n_waiting_at_most: int
    ) -> None:
        """Nothing is read yet.

        Args:
            folder: Of the studies; its sub-folder ``results`` is that of a prediction.
            judge: Called by one thread alone.
            selection: Which files are judged.
            n_waiting_at_most: More studies are refused.
        """
        self.folder = folder.absolute()
        self.n_waiting_at_most = n_waiting_at_most
        self._judge = judge
        self._selection = selection
        self._lock = threading.RLock()
        """Of the table, the queue and what is coming; held for moments."""
        self._looking = threading.Lock()
        """Of the folder's facts; held while it is looked through. Taken before the other."""
        self._n_coming = 0
        self._facts: dict[Path, tuple[tuple[int, int], FileFacts]] = {}
        self._studies: dict[str, Study] = {}
        self._looked_at = float("-inf")
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="judge", daemon=True)

    @property
    def uploads(self) -> Path:
        """Where uploads go."""
        return self.folder / UPLOADS

    @property
    def results(self) -> Path:
        """The output of the prediction."""
        return self.folder / RESULTS

    @property
    def n_waiting(self) -> int:
        """Studies that wait to be judged, come with an upload, or are being judged."""
        with self._lock:
            return self._n_coming + sum(
                one.state in ("waiting", "running") for one in self._studies.values()
            )

    @property
    def is_alive(self) -> bool:
        """Whether the thread that judges is there."""
        return self._worker.is_alive()

    def __enter__(self) -> Studies:
        """Begin to judge; first what was uploaded and not judged before a restart."""
        self._worker.start()
        self.look_again(at_once=True)
        with self._lock:
            left = [one for one in self._studies.values() if self._is_uploaded(one)]
        for study in left:
            if study.state == "new":
                self._submit(study)
        return self

    def __exit__(self, *_: object) -> None:
        """End after the study that is being judged; what waits is taken up at the next start."""
        with self._lock:
            while not self._queue.empty():
                self._queue.get_nowait()
        self._queue.put(None)
        self._worker.join()

    def listed(self) -> list[Study]:
        """All studies, by patient and exam."""
        self.look_again()
        with self._lock:
            return sorted(
                self._studies.values(), key=lambda one: (one.plan.patient_id, one.plan.exam_id)
            )

    def study(self, name: str) -> Study:
        """The study of an id.

        Raises:
            Refusal: There is none.
        """
        with self._lock:
            study = self._studies.get(name)
        if study is None:
            self.look_again()
            with self._lock:
                study = self._studies.get(name)
        if study is None:
            raise unknown_study()
        return study

    def require_room(self, n_more: int = 1) -> None:
        """Refuse where too many would wait.

        Raises:
            Refusal: With the time to wait, or because so many can never wait.
        """
        if n_more > self.n_waiting_at_most:
            raise too_many_studies(n_more, self.n_waiting_at_most)
        if (n_waiting := self.n_waiting) + n_more > self.n_waiting_at_most:
            raise busy(n_waiting, n_more)

    def submit(self, name: str) -> Study:
        """Let a study be judged; one that is done and has its result stays as it is.

        Raises:
            Refusal: There is none, or too many wait.
        """
        study = self.study(name)
        self._content_of(study)
        with self._lock:
            if study.state in ("new", "failed"):
                self.require_room()
                self._submit(study)
        return study

    def add(self, received: Received) -> list[Study]:
        """Keep an upload and let its studies be judged.

        Raises:
            Refusal: No file of it can be judged, or there is no room for its studies in the
                queue; it is deleted.
        """
        facts = [facts_of(path, received.folder, self._selection) for path in received.paths]
        if all(one.what is not None for one in facts):
            received.drop()
            raise _nothing_to_judge(facts)
        with self._coming(received, facts):
            kept = received.keep(secrets.token_hex(8))
            self.look_again(at_once=True)
            with self._lock:
                own = [one for one in self._studies.values() if self._has_files_below(one, kept)]
                for study in own:
                    if study.state in ("new", "failed"):
                        self._submit(study)
        return sorted(own, key=lambda one: one.id)

    @contextlib.contextmanager
    def _coming(self, received: Received, facts: Sequence[FileFacts]) -> Iterator[None]:
        """Hold places in the queue for an upload's studies, or drop it where there are too few."""
        with ExamIndex(received.folder) as index:
            index.add(facts)
            index.adopt_damaged_files()
            n_studies = sum(1 for _ in index.exams())
        try:
            with self._lock:
                self.require_room(n_studies)
                self._n_coming += n_studies
        except Refusal:
            received.drop()
            raise
        try:
            yield
        finally:
            with self._lock:
                self._n_coming -= n_studies

    def result(self, name: str) -> dict[str, Any]:
        """The result of a study, as `predict` wrote it.

        Raises:
            Refusal: There is no such study, or it is not judged yet.
        """
        study = self.study(name)
        content = self._content_of(study)
        if content is None:
            raise Refusal(
                409 if study.state in ("waiting", "running") else 404,
                f"the study has no result: it is {study.state}",
                "studies that are done",
                f"POST /studies/{study.id} lets it be judged; then wait until it is done",
                retry_after_s=2 if study.state in ("waiting", "running") else None,
            )
        return content

    def look_again(self, *, at_once: bool = False) -> None:
        """Find what came to the folder and what went; only new headers are read.

        Nobody who asks for what is in the table waits for it: the new table is put in at the end.
        """
        with self._looking:
            if not at_once and time.monotonic() - self._looked_at < _FRESH_S:
                return
            found = {
                _NAMING.stem(plan.exam_id): self._found_study(plan)
                for plan in sorted(self._plans(), key=lambda plan: _NAMING.stem(plan.exam_id))
            }
            with self._lock:
                self._studies = {name: self._updated(study) for name, study in found.items()}
                done = [one for one in self._studies.values() if one.state == "done"]
            for study in done:
                if not self._path_of_result(study.plan).exists():
                    self._content_of(study)
            self._looked_at = time.monotonic()

    def _plans(self) -> list[ExamPlan]:
        known = self._facts
        self._facts = {}
        with ExamIndex(self.folder) as index:
            for found in self._found():
                state, (state_before, facts) = _state_of(found), known.get(found, (None, None))
                if facts is None or state != state_before:
                    facts = facts_of(found, self.folder, self._selection)
                self._facts[found] = (state, facts)
                index.add([facts])
            index.adopt_damaged_files()
            return list(index.exams())

    def _found(self) -> Iterator[Path]:
        for found in walk_images(self.folder):
            if isinstance(found, Path) and RESULTS not in found.relative_to(self.folder).parts:
                yield found

    def _found_study(self, plan: ExamPlan) -> Study:
        """A study as its files say; its result is read only where it is new or changed."""
        study = Study(_NAMING.stem(plan.exam_id), plan, "new")
        before = self._studies.get(study.id)  # tables and plans are changed under `_looking` alone
        is_same = before is not None and before.plan.fingerprint == plan.fingerprint
        return study if is_same else self._with_result(study)

    def _updated(self, found: Study) -> Study:
        """The study of the table where it is as it was, or in work; else what was found."""
        before = self._studies.get(found.id)
        if before is None:
            return found
        is_same = before.plan.fingerprint == found.plan.fingerprint
        if not is_same and before.state not in ("waiting", "running"):
            return found
        before.plan = found.plan
        return before

    def _with_result(self, study: Study) -> Study:
        content = self._result_of(study.plan)
        if content is not None:
            study.state, study.score, study.problem = "done", content["score"], None
            study.call = content["decision"]["call"] if content["decision"] else None
        return study

    def _content_of(self, study: Study) -> dict[str, Any] | None:
        """The result of a study that is done; one whose result was deleted since is new again."""
        content = self._result_of(study.plan) if study.state == "done" else None
        if content is None:
            with self._lock:  # it may have been judged again meanwhile
                if study.state == "done" and (content := self._result_of(study.plan)) is None:
                    study.state, study.score, study.call = "new", None, None
        return content

    def _path_of_result(self, plan: ExamPlan) -> Path:
        stem = _NAMING.stem(plan.exam_id)
        return self.results / EXAMS / stem[-2:] / f"{stem}.json"

    def _result_of(self, plan: ExamPlan) -> dict[str, Any] | None:
        """What was written for these files, as far as is seen; None where that is nothing."""
        try:
            text = self._path_of_result(plan).read_text("utf-8")
            content: dict[str, Any] = json.loads(text)
        except (OSError, ValueError):
            return None
        known = [_NAMING.digest(one) for one in (plan.fingerprint, plan.fingerprint_by_size)]
        return content if content.get("fingerprint") in known else None

    def _submit(self, study: Study) -> None:
        study.state, study.problem = "waiting", None
        self._queue.put(study.id)

    def _work(self) -> None:
        while (name := self._queue.get()) is not None:
            with self._lock:
                study = self._studies.get(name)
                if study is None:  # its files went
                    continue
                study.state, plan = "running", study.plan
            problem = self._problem_of(plan)
            with self._lock:
                if study.plan.fingerprint != plan.fingerprint:  # more files came meanwhile
                    self._submit(study)
                    continue
                study.state = "new"
                self._with_result(study)
                if study.state == "new":
                    study.state, study.problem = "failed", problem or "it left no result"

    def _problem_of(self, plan: ExamPlan) -> str | None:
        """Judge a study; what went wrong, without a word of what its files hold."""
        try:
            self._judge(Sources(self.folder, tuple(plan.path_of(file) for file in plan.files)))
        except SimFrcnnError as error:
            logger.warning("a study could not be judged: %s", type(error).__name__)
            return f"it could not be judged ({type(error).__name__}); try again, or run predict"
        except Exception as error:  # whatever it is, the next study can be judged
            logger.error("a study could not be judged: unexpected %s", type(error).__name__)
            return f"it could not be judged: unexpected {type(error).__name__}"
        return None

    def _is_uploaded(self, study: Study) -> bool:
        return self._has_files_below(study, self.uploads)

    def _has_files_below(self, study: Study, folder: Path) -> bool:
        return any(study.plan.path_of(file).is_relative_to(folder) for file in study.plan.files)


def _state_of(path: Path) -> tuple[int, int]:
    try:
        state = os.stat(path)
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _nothing_to_judge(facts: Sequence[FileFacts]) -> Refusal:
    kinds = sorted({str(one.what) for one in facts})
    return Refusal(
        422,
        f"no file of the upload can be judged: {', '.join(kinds)}",
        "screening mammograms For Presentation as DICOM, or their pictures",
        "; ".join(_REMEDIES[kind] for kind in kinds if kind in _REMEDIES) or "send other files",
    )
