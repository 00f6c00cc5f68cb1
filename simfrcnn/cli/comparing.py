"""Judge several models' detections of one test set, and compare the models on the same cases.

What ``evaluate`` does when it is given several ``--detections``: a report for each model in a
folder of its own, and the comparison beside these folders.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.artifacts import DetectionFile, read_detections
from simfrcnn.data.coco import AnnotatedSet, read_coco
from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.evaluation import evaluate, write_report
from simfrcnn.evaluation.comparison import Resampled, resample
from simfrcnn.evaluation.inputs import check_inputs, check_settings
from simfrcnn.evaluation.metrics import METRICS, PRIMARY
from simfrcnn.evaluation.ranking import compare_all, require_metric
from simfrcnn.evaluation.reporting.comparison_report import (
    DATA,
    PAGE,
    PICTURES,
    TEXT,
    ComparisonReport,
    summary_lines,
    write_comparison,
)
from simfrcnn.evaluation.results import Report
from simfrcnn.files import sha256_of
from simfrcnn.images.hanging import hung_pictures
from simfrcnn.settings import EvaluationSettings

_LONGEST_NAME = 60
_LEGAL_NAME = re.compile(r"\w[\w .+()=-]*")


@dataclass(frozen=True)
class _Candidate:
    """One model: its name, the name of its folder, and what it found."""

    name: str
    folder: str
    path: Path
    sha256: str
    detections: DetectionFile


@dataclass(frozen=True)
class _Judged:
    """One model's report, and its values on the resamplings that all models share."""

    report: Report
    resampled: Resampled


def run(args: argparse.Namespace, settings: EvaluationSettings) -> int:
    """Write a report for each model and the comparison; print the ranking.

    Raises:
        ConfigError: Names that do not fit the files or are not fit for folders; an unknown metric;
            a setting outside its range.
        SimFrcnnError: A file that cannot be read, or detections of other images.
    """
    primary = args.primary or PRIMARY
    require_metric(primary)
    folders = folders_of(args.names, args.detections)
    if args.output.exists() and not args.output.is_dir():
        raise OutputError(f"{args.output} is a file; --output takes a folder for the reports")
    annotated = read_coco(args.annotations, check_files=not args.no_images)
    check_settings(settings, annotated.categories)
    candidates = [
        _candidate(name, folder, path, annotated, settings)
        for (name, folder), path in zip(folders.items(), args.detections, strict=True)
    ]
    judged: dict[str, _Judged] = {}
    for number, candidate in enumerate(candidates, start=1):
        print(f"[{number}/{len(candidates)}] {candidate.name}: {candidate.path}", flush=True)
        started = time.monotonic()
        judged[candidate.name] = _judged(candidate, annotated, settings, args)
        print(f"  done in {time.monotonic() - started:.0f} s", flush=True)
    report = _comparison(candidates, judged, primary, args, annotated)
    page = write_comparison(args.output, report)
    print("\n".join(summary_lines(report)))
    for note in report.notes:
        print(f"note: {note}")
    print(f"comparison: {page}")
    return 0


def folders_of(names: str | None, paths: Sequence[Path]) -> dict[str, str]:
    """The models' names, as given, and the name of each one's folder.

    Raises:
        ConfigError: One file, another number of names than of files, the same name (or folder)
            twice, or a name that is not fit for a folder.
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
            f"--names has {len(listed)} names ({', '.join(listed)}), but --detections is given "
            f"{len(paths)} times; one name each is legal, separated by commas"
        )
    folders: dict[str, str] = {}
    for name in listed:
        if not _LEGAL_NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
            raise ConfigError(
                f"--names: {name!r} is not fit for the name of a folder; legal are up to "
                f"{_LONGEST_NAME} letters, digits, spaces and any of _ . + ( ) = -, the first a "
                "letter, a digit or _"
            )
        if name in folders:
            raise ConfigError(f"--names: {name!r} is there twice; each model needs its own name")
        folders[name] = re.sub(r"[^\w.+-]+", "_", name).rstrip(".")
    _require_folders_apart(folders)
    return folders


def _require_folders_apart(folders: Mapping[str, str]) -> None:
    """Also where a file system takes capitals and small letters for the same."""
    taken = dict.fromkeys((PAGE, TEXT, DATA, *PICTURES), "a file of the comparison")
    for name, folder in folders.items():
        other = taken.setdefault(folder.lower(), name)
        if other != name:
            raise ConfigError(f"--names: the folder of {name!r} would be that of {other!r}; rename")


def _candidate(
    name: str, folder: str, path: Path, annotated: AnnotatedSet, settings: EvaluationSettings
) -> _Candidate:
    """Read and checked before any model is judged, so that a long run does not fail at its end."""
    detections = read_detections(
        path,
        image_ids=[record.image_id for record in annotated.records],
        categories=annotated.categories,
    )
    check_inputs(annotated.records, detections, settings)
    return _Candidate(name, folder, path, sha256_of(path), detections)


def _judged(
    candidate: _Candidate,
    annotated: AnnotatedSet,
    settings: EvaluationSettings,
    args: argparse.Namespace,
) -> _Judged:
    report = evaluate(
        annotated.records,
        candidate.detections,
        settings,
        categories=annotated.categories,
        provenance={
            "model": candidate.name,
            "annotations": args.annotations.name,
            "annotations_sha256": annotated.sha256,
            "detections": candidate.path.name,
            "detections_sha256": candidate.sha256,
        },
    )
    write_report(
        args.output / candidate.folder,
        report,
        records=annotated.records,
        detections=candidate.detections,
        load_pictures=None if args.no_images else hung_pictures,
        n_gallery=args.gallery,
        title=f"simfrcnn evaluation: {candidate.name}",
    )
    resampled = resample(
        annotated.records, candidate.detections, settings, categories=annotated.categories
    )
    return _Judged(report, resampled)


def _comparison(
    candidates: Sequence[_Candidate],
    judged: Mapping[str, _Judged],
    primary: str,
    args: argparse.Namespace,
    annotated: AnnotatedSet,
) -> ComparisonReport:
    compared = compare_all({name: each.resampled for name, each in judged.items()}, primary)
    first = next(iter(judged.values())).report
    return ComparisonReport(
        compared=compared,
        settings=first.settings,
        figures={
            name: {key: judged[name].report.figures.get(key, figures[key]) for key in METRICS}
            for name, figures in compared.figures.items()
        },
        counts=first.counts,
        reports={each.name: f"{each.folder}/report.html" for each in candidates},
        provenance={
            each.name: {
                "detections": each.path.name,
                "detections_sha256": each.sha256,
                "prediction": dict(each.detections.provenance),
            }
            for each in candidates
        },
        tested_on={"annotations": args.annotations.name, "annotations_sha256": annotated.sha256},
        notes=tuple(_notes(candidates, judged)),
    )


def _notes(candidates: Sequence[_Candidate], judged: Mapping[str, _Judged]) -> Iterator[str]:
    by_hash: dict[str, str] = {}
    for candidate in candidates:
        other = by_hash.setdefault(candidate.sha256, candidate.name)
        if other != candidate.name:
            yield f"{other} and {candidate.name} are the same detections: they differ in nothing."
    whose: dict[str, list[str]] = {}
    for name, each in judged.items():
        for note in each.report.notes:
            whose.setdefault(note, []).append(name)
    for note, names in whose.items():
        yield note if len(names) == len(judged) else f"{', '.join(names)}: {note}"
