"""How is a model judged on a data set?

Detections first, on disk; the report is then a pure function of them, of the annotations and of the
settings. Works on either engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from simfrcnn import artifacts, config
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.data.images import load_pixels
from simfrcnn.engines.common.inference import detect_records
from simfrcnn.engines.contract import Engine
from simfrcnn.evaluation.evaluator import evaluate
from simfrcnn.evaluation.report import summary_lines, write_report
from simfrcnn.evaluation.results import Report
from simfrcnn.files import sha256_of
from simfrcnn.structures import Detections
from simfrcnn.training.recipe import load_sets


def test_model(engine: Engine, cfg: Any, weights: Path) -> dict[str, Report]:
    """Run a checkpoint over ``DATASETS.TEST``; write detections and reports, print the summaries.

    Everything goes to ``OUTPUT_DIR/inference/<data set>/``.

    Raises:
        CheckpointError: The weights are missing or do not fit the config.
    """
    sets = load_sets(cfg, cfg.DATASETS.TEST)
    if not sets:
        print("DATASETS.TEST is empty: nothing is tested")
        return {}
    model = engine.build_model(cfg)
    engine.load_weights(model, weights)
    print(f"testing {weights}", flush=True)
    reports = {}
    for name, annotated in zip(cfg.DATASETS.TEST, sets, strict=True):
        found = detect_records(cfg, model, engine.detect, annotated.records, title=f"test {name}")
        folder = Path(cfg.OUTPUT_DIR) / "inference" / name
        save_detections(
            folder / "detections.json",
            found,
            cfg,
            annotated,
            {
                "engine": engine.NAME,
                "deviations": [asdict(deviation) for deviation in engine.DEVIATIONS],
                "checkpoint": weights.name,
                "checkpoint_sha256": sha256_of(weights),
            },
        )
        reports[name] = report_from_file(folder, cfg, annotated, title=name)
    return reports


def report_from_file(folder: Path, cfg: Any, annotated: AnnotatedSet, *, title: str) -> Report:
    """Judge the saved detections of a folder, write the report beside them, print its summary."""
    detections = artifacts.read_detections(folder / "detections.json")
    report = evaluate(
        annotated.records,
        detections,
        config.evaluation_settings(cfg),
        categories=annotated.categories,
        provenance={"annotations": title, "annotations_sha256": annotated.sha256},
    )
    page = write_report(
        folder,
        report,
        records=annotated.records,
        detections=detections,
        load_pixels=load_pixels,
        title=title,
    )
    print("\n".join(summary_lines(report)))
    print(f"report: {page}", flush=True)
    return report


def quick_report(found: Sequence[Detections], cfg: Any, annotated: AnnotatedSet) -> Report:
    """Judge detections in memory, without intervals: for validation during training."""
    categories = category_ids(cfg.DATASETS.CLASSES, annotated)
    images = {image.image_id: image_detections(image, cfg.DATASETS.CLASSES) for image in found}
    return evaluate(
        annotated.records,
        artifacts.DetectionFile(images, categories),
        replace(config.evaluation_settings(cfg), bootstrap_replicates=0),
        categories=annotated.categories,
    )


def mean_over_sets(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The figures of a validation: of several sets the mean, where all of them have the figure."""
    common = [name for name in figures[0] if all(name in one for one in figures)]
    return {name: fmean(one[name] for one in figures) for name in common}


def save_detections(
    path: Path,
    found: Sequence[Detections],
    cfg: Any,
    annotated: AnnotatedSet,
    provenance: dict[str, Any],
) -> None:
    """Write detections as a COCO results list with its sidecar."""
    artifacts.write_detections(
        path,
        [image_detections(image, cfg.DATASETS.CLASSES) for image in found],
        categories=category_ids(cfg.DATASETS.CLASSES, annotated),
        provenance={**provenance, "annotations_sha256": annotated.sha256},
    )


def image_detections(found: Detections, classes: Sequence[str]) -> artifacts.ImageDetections:
    """Class names in place of labels, arrays in place of tensors."""
    return artifacts.ImageDetections(
        image_id=found.image_id,
        boxes=found.boxes.double().numpy(),
        scores=found.scores.double().numpy(),
        categories=tuple(classes[label - 1] for label in found.labels.tolist()),
    )


def category_ids(classes: Sequence[str], annotated: AnnotatedSet) -> dict[int, str]:
    """COCO id -> name of the model's classes: the annotation file's ids, new ones after them."""
    ids = {name: number for number, name in annotated.categories.items()}
    unused = max(annotated.categories, default=0) + 1
    named = {}
    for name in classes:
        named[ids.get(name, unused)] = name
        unused += name not in ids
    return named
