"""How are many exams judged, one after the other, so that nothing is lost and nothing hides?

Headers are read first, to put files together to exams. Then processes decode, this one runs the
model, and threads draw and write: an exam is in one of these hands only, and whole when it is in
the output. A run that was killed goes on when it is started again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, Literal

from tqdm import tqdm

from simfrcnn.data.ahead import Processes
from simfrcnn.data.exams import ExamIndex, ExamPlan, Selection, Sources, index_of
from simfrcnn.data.naming import AsTheyAre, Naming, UnderPseudonyms
from simfrcnn.data.pseudonyms import Pseudonyms, require_outside, write_id_map
from simfrcnn.detector import Detector
from simfrcnn.dicom.mammogram import STRICT
from simfrcnn.dicom_out.saving import PICTURES_OF, kinds_of, require_identifiers
from simfrcnn.engines.common.decoding import killed_exam
from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.files import as_json
from simfrcnn.parallel import n_processes_of
from simfrcnn.wording import counted
from simfrcnn.workflows.prediction_facts import DESCRIBED
from simfrcnn.workflows.prediction_folder import (
    FAILURES,
    Done,
    Pictures,
    PredictionFolder,
    Tally,
)

logger = logging.getLogger("simfrcnn")

_State = Literal["another shard's", "left", "done", "done, by size"]
_SCREENING_VIEWS = Selection(STRICT)
_WRITERS = 2
_WAITING = 4
"""Exams that wait to be written, at most."""
_N_REASONS = 10
"""Of failures, the most frequent ones that are printed."""


@dataclass(frozen=True)
class PredictionOptions:
    """What is judged, what is written, and by how many processes.

    ``pictures``: of all images, of those with a box to draw (``findings``), or none.
    ``score_threshold`` is the smallest score of a box that is drawn. ``shard`` (i, n) judges the
    studies of shard i of n, from 1. ``workers`` decode files; None takes one for each core, at most
    8. ``dicom`` are the kinds of DICOM results (:data:`~simfrcnn.dicom_out.saving.KINDS`); they
    have the boxes that are drawn. Of a whole-image classifier, ``class_maps``: where it sees each
    target class, as a small map for a viewer; ``heat_maps``: that, and a picture of it.
    ``shows_progress`` draws a bar on standard error.
    """

    selection: Selection = _SCREENING_VIEWS
    pictures: Pictures = "all"
    score_threshold: float = 0.5
    shard: tuple[int, int] | None = None
    workers: int | None = None
    dicom: tuple[str, ...] = ()
    heat_maps: bool = False
    class_maps: bool = False
    shows_progress: bool = True

    @property
    def keeps_pixels(self) -> bool:
        """Whether anything that is written shows them."""
        return self.pictures != "none" or PICTURES_OF in self.dicom or self.heat_maps

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: One is outside its range.
        """
        if not 0 <= self.score_threshold <= 1:
            raise ConfigError(
                f"--score-threshold is {self.score_threshold}; legal is a score in [0, 1]"
            )
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise ConfigError(
                f"--shard is {self.shard[0]}/{self.shard[1]}; legal is i/n with i from 1 to n"
            )


@dataclass(frozen=True)
class Summary:
    """A finished prediction: what the folder holds, and what of it was there before this run."""

    output: Path
    tally: Tally
    n_done_before: int = 0
    n_own_pictures: int = 0

    def is_complete(self, skips_unreadable: bool = False) -> bool:
        """Whether something was judged, and everything that was to be judged."""
        return self.tally.n_images > 0 and (skips_unreadable or not self.tally.failures)

    def lines(self) -> Iterator[str]:
        """What came of it, for a terminal."""
        tally = self.tally
        if self.n_own_pictures:
            passed_over = "[picture|pictures] that simfrcnn drew [was|were] passed over"
            yield counted(self.n_own_pictures, passed_over)
        if self.n_done_before:
            done = counted(self.n_done_before, "[exam was|exams were]")
            yield f"gone on with: {done} done before"
        for what, n in sorted(tally.left_out.items()):
            yield f"left out, {what}: {counted(n, '[file|files]')}"
        if tally.failures:
            yield f"failures ({FAILURES} lists them):"
            for (what, why), n in tally.failures.most_common(_N_REASONS):
                yield f"  {n} x {what}: {why}"
            if len(tally.failures) > _N_REASONS:
                yield f"  and {counted(len(tally.failures) - _N_REASONS, 'other [reason|reasons]')}"
        if tally.n_called:
            exams = counted(tally.n_called, "[exam|exams]")
            yield f"called positive: {tally.n_positive} of {exams}"
        images = counted(tally.n_images, "[image|images]")
        yield f"{images} of {counted(tally.n_exams, '[exam|exams]')} in {self.output}"


def shard_of(text: str | None) -> tuple[int, int] | None:
    """A shard as it is written, ``I/N``.

    Raises:
        ConfigError: It is written in another way.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found:
        raise ConfigError(f"--shard is {text!r}; legal is I/N, such as 1/4")
    return int(found[1]), int(found[2])


def predict(
    detector: Detector,
    study: Path | Sequence[Path] | Sources,
    output: Path,
    options: PredictionOptions,
    *,
    pseudonyms: Pseudonyms | None = None,
    id_map: Path | None = None,
    processes: Processes | None = None,
) -> Summary:
    """Judge all exams of a folder into another folder, or go on with a run that was ended.

    Args:
        detector: The model.
        study: A folder with sub-folders, or files; :class:`Sources` say below which folder they
            have their names.
        output: A new or empty folder, or that of a run with the same model and options.
        options: What is judged and written.
        pseudonyms: The names that leave; None writes identifiers and paths as they are.
        id_map: Where what the pseudonyms stand for is written, before any result bears one.
        processes: Decode; they stay at work afterwards. By default those of ``options.workers``.

    Raises:
        DataError: There is nothing to read.
        OutputError: The output is in use or inside the input, or cannot be written. What is done
            stays.
        ConfigError: Heat maps are asked of a detector; the id map would lie in the output;
            DICOM results are asked for with pseudonyms, or need a library that is not installed.
    """
    require_identifiers(kinds_of(options.dicom), are_kept=pseudonyms is None)
    if options.heat_maps or options.class_maps:
        detector = detector.with_heat_maps()
    sources = study if isinstance(study, Sources) else Sources.of(study)
    _require_apart(output, sources)
    if id_map is not None:
        require_outside(id_map, output, "--id-map")
    naming: Naming = AsTheyAre() if pseudonyms is None else UnderPseudonyms(pseudonyms)
    folder = PredictionFolder(output, facts_of(detector, options, pseudonyms))
    with (
        _kept(processes, options) as at_work,
        folder.begin_or_go_on() as n_before,  # before the headers, which can take hours
        index_of(sources, options.selection, at_work) as index,
    ):
        _learn_names(index, naming, pseudonyms, id_map)
        _judge_all(detector, index, folder, options, naming, at_work, pseudonyms)
        return Summary(output, folder.finish(), n_before, index.n_own_pictures)


def facts_of(
    detector: Detector, options: PredictionOptions, pseudonyms: Pseudonyms | None
) -> dict[str, Any]:
    """All that a result hangs on, in JSON types; nothing that two equal runs do not share,
    but for what describes them to a reader."""
    selection, shard = options.selection, options.shard
    return {
        "kind": "simfrcnn-prediction",
        **detector.provenance(),
        DESCRIBED: {"date": datetime.now(timezone.utc).date().isoformat(), **detector.facts},
        "config_sha256": _config_hash(detector.cfg),
        "device": str(detector.cfg.MODEL.DEVICE).partition(":")[0],
        "decision": detector.decision.to_dict(),
        "pictures": options.pictures,
        "score_threshold_of_pictures": options.score_threshold,
        "all_views": selection.all_views,
        "allow_for_processing": selection.options.allow_for_processing,
        "any_modality": selection.options.any_modality,
        "identifiers": "kept" if pseudonyms is None else f"pseudonyms, key {pseudonyms.key_id}",
        "shard": None if shard is None else f"{shard[0]}/{shard[1]}",
        **({"dicom": list(options.dicom)} if options.dicom else {}),
        **({"heat_maps": True} if options.heat_maps else {}),
        **({"class_maps": True} if options.class_maps else {}),
    }


def _kept(
    processes: Processes | None, options: PredictionOptions
) -> contextlib.AbstractContextManager[Processes]:
    """The caller's processes, which go on, or some for this run alone."""
    if processes is None:
        return Processes(n_processes_of(options.workers))
    return contextlib.nullcontext(processes)


def _judge_all(
    detector: Detector,
    index: ExamIndex,
    folder: PredictionFolder,
    options: PredictionOptions,
    naming: Naming,
    processes: Processes,
    pseudonyms: Pseudonyms | None,
) -> None:
    """Judge what is left to do; every exam is in the manifest as soon as it is whole."""
    decoding = detector.decoding(options.selection.options, keeps_pixels=options.keeps_pixels)
    with (
        folder.done() as done,
        folder.manifest() as manifest,
        ThreadPoolExecutor(_WRITERS) as writers,
    ):
        states = Counter(_state_of(plan, options, naming, done) for plan in index.exams())
        _say_what_sizes_alone_know(states["done, by size"], folder)
        waiting: deque[Future[dict[str, Any]]] = deque()
        exams = processes.results(
            decoding, _to_do(index, options, naming, done), on_kill=killed_exam
        )
        with tqdm(
            total=states["left"],
            desc="predict",
            unit="exam",
            mininterval=1.0,
            disable=not options.shows_progress,
        ) as progress:
            for exam in exams:
                result = detector.judge(exam, naming)
                waiting.append(
                    writers.submit(
                        folder.write_exam,
                        result,
                        naming.stem(exam.plan.exam_id),
                        naming.digest(exam.plan.fingerprint),
                        options.pictures,
                        options.score_threshold,
                        options.dicom,
                        heat_maps=options.heat_maps,
                    )
                )
                if pseudonyms is not None:
                    pseudonyms.forget()
                while waiting and (waiting[0].done() or len(waiting) > _WAITING):
                    _note(waiting.popleft(), manifest)
                    progress.update()
            while waiting:
                _note(waiting.popleft(), manifest)
                progress.update()


def _note(written: Future[dict[str, Any]], manifest: IO[str]) -> None:
    manifest.write(as_json(written.result(), indent=None))
    manifest.flush()


def _to_do(
    index: ExamIndex, options: PredictionOptions, naming: Naming, done: Done
) -> Iterator[ExamPlan]:
    for plan in index.exams():
        if _state_of(plan, options, naming, done) == "left":
            yield plan


def _state_of(plan: ExamPlan, options: PredictionOptions, naming: Naming, done: Done) -> _State:
    if options.shard is not None and not plan.is_in_shard(options.shard):
        return "another shard's"
    stem = naming.stem(plan.exam_id)
    if done.holds(stem, naming.digest(plan.fingerprint)):
        return "done"
    is_as_large = done.holds(stem, naming.digest(plan.fingerprint_by_size))
    return "done, by size" if is_as_large else "left"


def _say_what_sizes_alone_know(n_exams: int, folder: PredictionFolder) -> None:
    if n_exams:
        logger.warning(
            f"{folder.path}: {counted(n_exams, '[exam was|exams were]')} judged by an earlier "
            "version, which knew files by their sizes alone: a file that has changed since and is "
            "as large as before is not noticed; to judge them again, give another --output"
        )


def _learn_names(
    index: ExamIndex, naming: Naming, pseudonyms: Pseudonyms | None, id_map: Path | None
) -> None:
    """Write the id map of all that will be named: a run that is killed leaves no name without."""
    if pseudonyms is None or id_map is None:
        return
    for plan in index.exams():
        naming.exam(plan.exam_id)
        naming.patient(plan.patient_id)
        for file in plan.files:
            naming.file(file.place)
    write_id_map(id_map, pseudonyms)
    pseudonyms.forget()


def _require_apart(output: Path, sources: Sources) -> None:
    """Refuse an output that would lie among the input, and be read as such next time."""
    if sources.files is None and output.resolve().is_relative_to(sources.root.resolve()):
        raise OutputError(
            f"--output {output}: lies inside {sources.root}, which is read, and would be read as "
            "part of it next time; give a folder outside"
        )


def _config_hash(cfg: Any) -> str:
    """Of the keys that a result hangs on; flips are a fact of its own (``flips``)."""
    test = {key: value for key, value in cfg.TEST.items() if key != "FLIPS"}
    keys = (cfg.MODEL, cfg.INPUT, test, cfg.EVAL.POOLING)
    text = json.dumps([_plain(node) for node in keys], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _plain(node[key]) for key in node if key not in ("DEVICE", "WEIGHTS")}
    return [_plain(item) for item in node] if isinstance(node, (list, tuple)) else node
