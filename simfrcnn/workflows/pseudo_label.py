"""How do detections become boxes of a new annotation file, between two trainings?

Those that are wrong, on normal images (weakFaster R-CNN), or the best of images with a label and no
box (self-training). What ``pseudo-label``, the weak job and Python call. The detections come from a
model or from a saved file; beside the new annotation file lie a summary with the histogram of
scores and, from a model, its detections.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from simfrcnn import artifacts
from simfrcnn.artifacts import DetectionFile
from simfrcnn.config import data_settings, pseudo_settings
from simfrcnn.data import catalog
from simfrcnn.data.coco import AnnotatedSet, write_extended
from simfrcnn.engines.common.checkpoints import weights_sha256
from simfrcnn.engines.common.descriptions import read_described
from simfrcnn.engines.common.device import check_device
from simfrcnn.engines.common.flips import flips_of, in_flips
from simfrcnn.engines.common.inference import detect_records, load_detector, precision_of
from simfrcnn.engines.common.score_keys import keys_of_detection, warn_of_other_scores
from simfrcnn.engines.common.validation import save_detections
from simfrcnn.engines.contract import Engine, deviations_of
from simfrcnn.errors import ArtifactError, ConfigError, OutputError
from simfrcnn.evaluation.found_alike import DETECTED_WITH
from simfrcnn.files import require_writable_file, sha256_of, write_json
from simfrcnn.pseudo import labels as labels_of
from simfrcnn.pseudo import passes, provenance
from simfrcnn.pseudo.select import SUSPECTED
from simfrcnn.records import ImageRecord
from simfrcnn.settings import PseudoOf, PseudoSettings
from simfrcnn.wording import counted
from simfrcnn.workflows.inputs import detections_of
from simfrcnn.zoo import find_model

logger = logging.getLogger("simfrcnn")

PLAIN_TARGETS = ("malignant",)
_UNUSED: Mapping[PseudoOf, tuple[str, ...]] = {
    "suspected": ("fraction",),
    "labels": ("score_threshold", "nms_threshold", "include_unknown"),
}
"""What :class:`PseudoSettings` has for the other kind of pseudo-box."""


def used(settings: PseudoSettings, given: Iterable[str]) -> PseudoSettings:
    """The settings, if all that were given by name change something.

    Raises:
        ConfigError: Names the first that does not.
    """
    for name in given:
        if name in _UNUSED[settings.of]:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} has no meaning with --of {settings.of}: leave it out")
    return settings


def label_from_file(
    dataset: str,
    detections: Path,
    output: Path,
    *,
    target_classes: Sequence[str] = PLAIN_TARGETS,
    settings: PseudoSettings | None = None,
    overwrite: bool = False,
    force: bool = False,
) -> passes.PseudoLabels:
    """Label a data set from saved detections.

    Args:
        dataset: A name, or ``NAME=FILE``.
        detections: A COCO results list; our own say on which file they were made.
        output: The new COCO file.
        target_classes: Whose detections count; of labels, which of the file's classes are targets.
        settings: Which detections become boxes; None takes the default ones.
        overwrite: Replace an earlier output.
        force: Label although there are boxes on normal images, or the detections were made on
            another annotation file of the same images.

    Raises:
        SimFrcnnError: As :func:`require_free`, :func:`require` and :func:`label` say.
    """
    settings = settings or PseudoSettings()
    annotated = catalog.load(*catalog.named(dataset), check_files=False)
    require_free(output, annotated, overwrite=overwrite)
    classes = targets = tuple(target_classes)
    if settings.of == "labels":  # the best detection is that of any class that was looked for
        found = detections_of(detections, annotated).categories.values()
        classes = (*targets, *(name for name in found if name not in targets))
    require(annotated, classes, targets, settings, force=force)
    return label(
        annotated,
        detections,
        output,
        classes=classes,
        target_classes=targets,
        settings=settings,
        force=force,
    )


def label_from_model(
    dataset: str,
    engine: Engine,
    cfg: Any,
    weights: Path,
    output: Path,
    *,
    settings: PseudoSettings | None = None,
    overwrite: bool = False,
    force: bool = False,
) -> passes.PseudoLabels:
    """Run a model over the images of a data set that may be labelled, and label what it finds.

    Args:
        dataset: A name, or ``NAME=FILE``.
        engine: Of the model.
        cfg: The resolved config of stage 1; its target classes count.
        weights: A checkpoint of stage 1.
        output: The new COCO file.
        settings: Which detections become boxes; None takes those of the config.
        overwrite: Replace an earlier output.
        force: As in :func:`label_from_file`.

    Raises:
        SimFrcnnError: As :func:`require_free`, :func:`require`, :func:`detect` and :func:`label`
            say; and ``ConfigError`` where labels of whole breasts are to become boxes.
    """
    settings, data = settings or pseudo_settings(cfg), data_settings(cfg)
    if settings.of == "labels":
        labels_of.require_labels_of_images("the config of stage 1", data)
    annotated = catalog.load(*catalog.named(dataset))
    require_free(output, annotated, overwrite=overwrite)
    weights = find_model(weights)
    chosen = require(annotated, data.classes, data.target_classes, settings, force=force)
    detections = detect(engine, cfg, weights, annotated, chosen, detections_beside(output))
    return label(
        annotated,
        detections,
        output,
        classes=data.classes,
        target_classes=data.target_classes,
        settings=settings,
        force=force,
    )


def require_free(output: Path, annotated: AnnotatedSet, *, overwrite: bool) -> None:
    """Refuse an output that is there already, before anything is computed.

    Raises:
        OutputError: It is the labelled file itself, or there and ``overwrite`` is not set.
    """
    if output.suffix != ".json":
        raise OutputError(f"--output is {output}; a COCO file's name ends in .json")
    if output.resolve() == annotated.path.resolve():
        raise OutputError(f"{output} is the file to be labelled itself; give another --output")
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists; --overwrite replaces it, or give another --output")
    require_writable_file(output)


def require(
    annotated: AnnotatedSet,
    classes: tuple[str, ...],
    target_classes: tuple[str, ...],
    settings: PseudoSettings,
    *,
    force: bool,
) -> tuple[ImageRecord, ...]:
    """The images that may be labelled, or the reason why this set should not be (``DataError``)."""
    if settings.of == "labels":
        return labels_of.require_labelled(
            str(annotated.path), annotated.records, classes, target_classes, force=force
        )
    return passes.require_candidates(
        str(annotated.path),
        annotated.records,
        target_classes,
        include_unknown=settings.include_unknown,
        force=force,
    )


def detections_beside(output: Path) -> Path:
    """Where the detections of a model are saved: ``train_pseudo.detections.json``."""
    return output.with_name(f"{output.stem}.detections.json")


def summary_beside(output: Path) -> Path:
    """Where the summary is written: ``train_pseudo.summary.json``."""
    return output.with_name(f"{output.stem}.summary.json")


def detect(
    engine: Engine,
    cfg: Any,
    weights: Path,
    annotated: AnnotatedSet,
    chosen: Sequence[ImageRecord],
    path: Path,
) -> Path:
    """Run a checkpoint over the images to label and save what it finds; return the file.

    Everything down to ``SCORE_THRESH_TEST`` is saved: the thresholds of pseudo-boxes come later. If
    the file holds just these detections already (an earlier run was ended after it, or had other
    thresholds), they are taken.

    Raises:
        CheckpointError: The weights do not fit the config, for instance in their classes.
    """
    facts = {
        "engine": engine.NAME,
        "deviations": [asdict(one) for one in deviations_of(engine.DEVIATIONS, cfg)],
        "checkpoint": weights.name,
        "checkpoint_sha256": weights_sha256(weights),
        **precision_of(cfg),
        **flips_of(cfg),
        "config": _detection_keys(cfg),
        DETECTED_WITH: keys_of_detection(cfg),
    }
    expected = {**facts, "annotations_sha256": annotated.sha256}
    if _are_saved(path, expected, chosen):
        logger.info(f"taking the detections in {path}")
        return path
    check_device(cfg)
    model = load_detector(engine, cfg, weights)
    content, _ = read_described(weights)
    warn_of_other_scores(cfg, content["config"], engine.default_cfg(), weights)
    logger.info(f"detecting with {weights} on {counted(len(chosen), '[image|images]')}")
    found = detect_records(cfg, model, in_flips(cfg, engine.detect), chosen, title="pseudo-label")
    save_detections(path, found, cfg, annotated, facts)
    return path


def label(
    annotated: AnnotatedSet,
    detections_file: Path,
    output: Path,
    *,
    classes: tuple[str, ...],
    target_classes: tuple[str, ...],
    settings: PseudoSettings,
    force: bool = False,
) -> passes.PseudoLabels:
    """Write the new annotation file and its summary from saved detections; log the summary.

    Raises:
        ArtifactError: The detections are of other images or classes, or of another annotation file
            and ``force`` is not set.
    """
    detections = detections_of(detections_file, annotated)
    _require_made_on(annotated, detections, force=force)
    if settings.of == "labels":
        labels = labels_of.boxes_of_labels(
            annotated.records, detections, classes, target_classes, settings
        )
    else:
        labels = passes.pseudo_labels(annotated.records, detections, target_classes, settings)
    origin = provenance.provenance_of(
        labels,
        settings,
        detections,
        target_classes=target_classes,
        detections_sha256=sha256_of(detections_file),
        annotations=annotated.path.name,
        annotations_sha256=annotated.sha256,
    )
    if earlier := annotated.info.get(provenance.INFO_KEY):  # forced: its boxes are kept
        origin["earlier"] = earlier
    write_json(summary_beside(output), provenance.summary_of(labels, origin))
    write_extended(
        output,
        annotated,
        labels.added,
        kept_image_ids=labels.kept_image_ids,
        new_category=SUSPECTED if settings.of == "suspected" else None,
        info={provenance.INFO_KEY: origin},
        changes=labels.changes,
    )
    for line in provenance.summary_lines(labels, settings.score_threshold):
        logger.info(line)
    logger.info(f"pseudo-labelled: {output}")
    return labels


def _require_made_on(annotated: AnnotatedSet, detections: DetectionFile, *, force: bool) -> None:
    """Refuse detections of another data set; and, without ``force``, of another annotation file."""
    if detections.provenance.get("annotations_sha256", annotated.sha256) == annotated.sha256:
        return
    n_images = len(annotated.records)
    n_there = sum(record.image_id in detections.images for record in annotated.records)
    if n_there == 0:
        raise ArtifactError(
            f"{detections.name} was made on another data set: none of the {n_images} image ids of "
            f"{annotated.path} is in it; give detections of this set"
        )
    if not force:
        raise ArtifactError(
            f"{detections.name} was made on another annotation file than {annotated.path} (the "
            f"hash differs; {n_there} of its {n_images} image ids are there): detect again, or "
            "--force if the images are the same"
        )


def _detection_keys(cfg: Any) -> dict[str, Any]:
    """The resolved config, without places on this disk and what is applied to detections later."""
    tree: dict[str, Any] = yaml.safe_load(cfg.dump())
    del tree["DATASETS"]["FILES"]
    return {key: value for key, value in tree.items() if key not in ("OUTPUT_DIR", "PSEUDO")}


def _are_saved(path: Path, expected: dict[str, Any], chosen: Sequence[ImageRecord]) -> bool:
    """Whether a detections file holds what these weights find on these images."""
    if not path.exists():
        return False
    try:
        saved = artifacts.read_detections(path)
    except ArtifactError:  # torn between its two files: made again
        return False
    image_ids = {record.image_id for record in chosen}
    # Files of earlier versions do not state these keys; their config has them all.
    stated = {DETECTED_WITH: expected[DETECTED_WITH], **saved.provenance}
    return stated == expected and set(saved.images) == image_ids
