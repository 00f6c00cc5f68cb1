"""How are several models' detections of one test set compared? What Python and ``evaluate`` call.

Each model is judged by the same rules on the same cases, and all of them on the same resamplings.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.artifacts import DetectionFile
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.evaluation import evaluator
from simfrcnn.evaluation.comparison import Resampled, resample
from simfrcnn.evaluation.inputs import check_inputs, check_settings
from simfrcnn.evaluation.margins import require_margin
from simfrcnn.evaluation.metrics import PRIMARY
from simfrcnn.evaluation.multilabel import is_multilabel, require_same_labels
from simfrcnn.evaluation.ranking import compare_all, require_metric, require_metric_of
from simfrcnn.evaluation.reporting.comparison_report import (
    DATA,
    PAGE,
    PICTURES,
    TEXT,
    ComparisonReport,
    write_comparison,
)
from simfrcnn.evaluation.reporting.report import write_report
from simfrcnn.evaluation.results import Report
from simfrcnn.files import collector_at_rest, require_writable
from simfrcnn.settings import EXAMS_PER_GROUP, EvaluationSettings
from simfrcnn.wording import counted
from simfrcnn.workflows.class_maps import maps_beside
from simfrcnn.workflows.gallery import GalleryOptions
from simfrcnn.workflows.inputs import annotated_set, detections_of, origin_of, require_images

logger = logging.getLogger("simfrcnn")

_LONGEST_NAME = 60
_LEGAL_NAME = re.compile(r"\w[\w .+()=-]*")


@collector_at_rest()
def compare(
    annotations: str | Path | AnnotatedSet,
    detections: Mapping[str, str | Path | DetectionFile],
    *,
    output: str | Path | None = None,
    settings: EvaluationSettings | None = None,
    primary: str | None = None,
    pictures: bool = True,
    gallery: int = EXAMS_PER_GROUP,
    source_pictures: bool = False,
    margin: float | None = None,
) -> ComparisonReport:
    """Judge several models on the same cases, and rank them with what is known of the differences.

    Args:
        annotations: A COCO file of the test set, or what :func:`simfrcnn.read_coco` gave.
        detections: Name of a model -> its COCO results list, or what
            :func:`simfrcnn.read_detections` gave; at least two.
        output: A folder for the comparison, with a folder of its own for the report of each model;
            None writes nothing.
        settings: The rules; None takes the default ones.
        primary: The metric by which the models are ranked, None for the AUC by case. Name it before
            you look.
        pictures: Show the exams of the galleries; without them image files may be missing.
        gallery: At most so many exams for each reason.
        source_pictures: Beside each report, write a page for each exam of its gallery with every
            stored pixel of its films, as :func:`simfrcnn.evaluate` does.
        margin: The largest difference in the metric that ranks which does not matter: also say
            which models are shown to be non-inferior or equivalent. State it before you look.

    Returns:
        The figures of each model, the differences with their intervals, and the ranking.

    Raises:
        ConfigError: One model; a name that is not fit for a folder; a metric that is unknown or
            that these data do not have; a setting that is not legal; ``source_pictures`` without
            ``pictures``.
        SimFrcnnError: A file that cannot be read, or detections of other images.

    Example:
        Two models on four patients; the second is never wrong:

        >>> import json, tempfile
        >>> from pathlib import Path
        >>> import simfrcnn
        >>> folder = Path(tempfile.mkdtemp())
        >>> images = [
        ...     {"id": number, "file_name": f"{number}.png", "width": 100, "height": 100,
        ...      "patient_id": f"P{number}", "exam_id": f"E{number}",
        ...      "supervision": "boxes" if number < 3 else "normal"}
        ...     for number in (1, 2, 3, 4)
        ... ]
        >>> boxes = [
        ...     {"id": number, "image_id": number, "category_id": 1, "bbox": [10, 10, 30, 30],
        ...      "area": 900, "iscrowd": 0}
        ...     for number in (1, 2)
        ... ]
        >>> truth = {"images": images, "annotations": boxes,
        ...          "categories": [{"id": 1, "name": "malignant"}]}
        >>> _ = (folder / "test.json").write_text(json.dumps(truth))
        >>> for name, scores in (("old", (0.9, 0.3, 0.5, 0.1)), ("new", (0.9, 0.8, 0.2, 0.1))):
        ...     found = [
        ...         {"image_id": number, "category_id": 1, "bbox": [10, 10, 30, 30], "score": score}
        ...         for number, score in enumerate(scores, 1)
        ...     ]
        ...     _ = (folder / f"{name}.json").write_text(json.dumps(found))
        >>> report = simfrcnn.compare(
        ...     folder / "test.json",
        ...     {"old": folder / "old.json", "new": folder / "new.json"},
        ...     settings=simfrcnn.EvaluationSettings(bootstrap_replicates=20),
        ...     pictures=False,
        ... )
        >>> {name: figures["case/auc"].value for name, figures in report.figures.items()}
        {'old': 0.75, 'new': 1.0}
    """
    shown = GalleryOptions(no_images=not pictures, gallery=gallery, source_pictures=source_pictures)
    settings = settings or EvaluationSettings()
    primary = primary or PRIMARY
    require_metric(primary)
    require_margin(margin)
    folders = folders_of(detections)
    output = None if output is None else Path(output)
    if output is not None:
        if output.exists() and not output.is_dir():
            raise OutputError(f"{output} is a file; --output takes a folder for the reports")
        require_writable(output)
    annotated = annotated_set(annotations)
    check_settings(settings, annotated.categories)
    candidates = [
        _candidate(name, folders[name], source, annotated, settings)
        for name, source in detections.items()
    ]
    if is_multilabel(annotated.records, settings):
        require_same_labels({each.name: each.detections for each in candidates})
    require_metric_of(primary, annotated.records, candidates[0].detections, settings)
    if pictures:  # last, since faults of the small files are cheaper to find
        require_images(annotated)
    place = None if output is None else _Place(output, shown)
    judged: dict[str, _Judged] = {}
    for number, candidate in enumerate(candidates, start=1):
        logger.info(f"[{number}/{len(candidates)}] {candidate.name}: {candidate.detections.name}")
        started = time.monotonic()
        judged[candidate.name] = _judged(candidate, annotated, settings, place)
        logger.info(f"  done in {time.monotonic() - started:.0f} s")
    report = _comparison(candidates, judged, primary, annotated, margin)
    if output is not None:
        write_comparison(output, report)
    return report


def folders_of(names: Iterable[str]) -> dict[str, str]:
    """The models' names and the name of each one's folder.

    Raises:
        ConfigError: Fewer than two, two whose folders would be one, or a name that is not fit for a
            folder.
    """
    folders: dict[str, str] = {}
    for name in names:
        if not _LEGAL_NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
            raise ConfigError(
                f"the name {name!r} of a model is not fit for the name of a folder; legal are up "
                f"to {_LONGEST_NAME} letters, digits, spaces and any of _ . + ( ) = -, the first a "
                "letter, a digit or _"
            )
        folders[name] = re.sub(r"[^\w.+-]+", "_", name).rstrip(".")
    if len(folders) < 2:
        raise ConfigError(f"there is one model, {list(folders)}; a comparison takes two or more")
    _require_folders_apart(folders)
    return folders


@dataclass(frozen=True)
class _Candidate:
    """One model: its name, the name of its folder, and what it found."""

    name: str
    folder: str
    detections: DetectionFile
    origin: Mapping[str, str]


@dataclass(frozen=True)
class _Judged:
    """One model's report, and its values on the resamplings that all models share."""

    report: Report
    resampled: Resampled


@dataclass(frozen=True)
class _Place:
    """Where the reports go, and what they show of exams."""

    folder: Path
    shown: GalleryOptions


def _require_folders_apart(folders: Mapping[str, str]) -> None:
    """Also where a file system takes capitals and small letters for the same."""
    taken = dict.fromkeys((PAGE, TEXT, DATA, *PICTURES), "a file of the comparison")
    for name, folder in folders.items():
        other = taken.setdefault(folder.lower(), name)
        if other != name:
            raise ConfigError(
                f"the folder of the model {name!r} would be that of {other!r}; rename one"
            )


def _candidate(
    name: str,
    folder: str,
    source: str | Path | DetectionFile,
    annotated: AnnotatedSet,
    settings: EvaluationSettings,
) -> _Candidate:
    """Read and checked before any model is judged, so that a long run does not fail at its end."""
    detections = detections_of(source, annotated)
    check_inputs(annotated.records, detections, settings)
    return _Candidate(name, folder, detections, origin_of(annotated, detections))


def _judged(
    candidate: _Candidate,
    annotated: AnnotatedSet,
    settings: EvaluationSettings,
    place: _Place | None,
) -> _Judged:
    report, views = evaluator.evaluate_with_views(
        annotated.records,
        candidate.detections,
        settings,
        categories=annotated.categories,
        provenance={"model": candidate.name, **candidate.origin},
    )
    if place is not None:
        write_report(
            place.folder / candidate.folder,
            report,
            records=annotated.records,
            detections=candidate.detections,
            views=views,
            load_maps=maps_beside(candidate.detections),
            title=f"simfrcnn evaluation: {candidate.name}",
            **place.shown.of_report,
        )
    resampled = resample(
        annotated.records,
        candidate.detections,
        settings,
        categories=annotated.categories,
        with_further=True,
    )
    return _Judged(report, resampled)


def _comparison(
    candidates: Sequence[_Candidate],
    judged: Mapping[str, _Judged],
    primary: str,
    annotated: AnnotatedSet,
    margin: float | None,
) -> ComparisonReport:
    compared = compare_all({name: each.resampled for name, each in judged.items()}, primary)
    first = next(iter(judged.values())).report
    return ComparisonReport(
        compared=compared,
        settings=first.settings,
        figures={
            name: {key: judged[name].report.figures.get(key, figures[key]) for key in figures}
            for name, figures in compared.figures.items()
        },
        counts=first.counts,
        reports={each.name: f"{each.folder}/report.html" for each in candidates},
        provenance={
            each.name: {
                **{key: fact for key, fact in each.origin.items() if key.startswith("detections")},
                "prediction": dict(each.detections.provenance),
            }
            for each in candidates
        },
        tested_on={"annotations": annotated.path.name, "annotations_sha256": annotated.sha256},
        notes=tuple(_notes(candidates, judged)),
        margin=margin,
    )


def _notes(candidates: Sequence[_Candidate], judged: Mapping[str, _Judged]) -> Iterator[str]:
    by_hash: dict[str, str] = {}
    for candidate in candidates:
        digest = candidate.origin.get("detections_sha256", candidate.name)
        other = by_hash.setdefault(digest, candidate.name)
        if other != candidate.name:
            yield f"{other} and {candidate.name} are the same detections: they differ in nothing."
    whose: dict[str, list[str]] = {}
    for name, each in judged.items():
        for note in each.report.notes:
            whose.setdefault(note, []).append(name)
    for note, names in whose.items():
        yield note if len(names) == len(judged) else f"{', '.join(names)}: {note}"


def names_of(names: str | None, paths: Sequence[Path]) -> list[str]:
    """The models' names, one for each file.

    Raises:
        ConfigError: One file, another number of names than of files, or a name twice.
    """
    if len(paths) < 2:
        raise ConfigError(
            "--names and --primary are for several models: give --detections once for each"
        )
    if names is None:
        raise ConfigError(
            f"--detections is given {len(paths)} times: name the models by --names A,B, in the "
            "same order"
        )
    listed = [name.strip() for name in names.split(",")]
    if len(listed) != len(paths):
        raise ConfigError(
            f"--names has {counted(len(listed), '[name|names]')} ({', '.join(listed)}), but "
            f"--detections is given {counted(len(paths), '[time|times]')}; one name each is legal, "
            "separated by commas"
        )
    twice = [name for name in listed if listed.count(name) > 1]
    if twice:
        raise ConfigError(f"--names: {twice[0]!r} is there twice; each model needs its own name")
    return listed
