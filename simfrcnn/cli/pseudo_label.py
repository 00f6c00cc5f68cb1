"""Label what a detector wrongly finds on normal images (weakFaster R-CNN, between the stages).

On images that are known to be normal every detection of a target is false. Those with a high score
become boxes of a second class, `suspected`, in a new COCO file; the radiologists' boxes stay as
they are. The detections come from a model (--config-file, --weights) or from a saved file
(--detections). Beside the output lie a summary with the histogram of scores and, from a model, its
detections.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from simfrcnn import artifacts
from simfrcnn.cli import common
from simfrcnn.config import data_settings, load_config, pseudo_settings
from simfrcnn.data import catalog
from simfrcnn.data.coco import AnnotatedSet, write_extended
from simfrcnn.engines.contract import Engine
from simfrcnn.errors import ArtifactError, ConfigError, OutputError
from simfrcnn.files import sha256_of, write_json
from simfrcnn.pseudo import passes, provenance
from simfrcnn.pseudo.select import SUSPECTED
from simfrcnn.records import ImageRecord
from simfrcnn.settings import PseudoSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    common.add_engine_argument(parser)
    parser.add_argument("--config-file", metavar="FILE", type=Path, help="the config of stage 1")
    parser.add_argument("--weights", metavar="FILE", type=Path, help="a checkpoint of stage 1")
    parser.add_argument(
        "--detections",
        metavar="FILE",
        type=Path,
        help="saved detections, in place of --config-file and --weights",
    )
    parser.add_argument(
        "--dataset",
        required=True,
        metavar="NAME[=PATH]",
        help="the data set to label: a name, or a name and its COCO file",
    )
    parser.add_argument("--output", required=True, metavar="FILE", type=Path, help="new COCO file")
    parser.add_argument(
        "--score-threshold",
        type=float,
        metavar="S",
        help="smallest score of a pseudo-box (default: PSEUDO.SCORE_THRESHOLD, which is .8)",
    )
    parser.add_argument(
        "--nms-threshold",
        type=float,
        metavar="IOU",
        help="detections that overlap by more are one (default: PSEUDO.NMS_THRESHOLD, which is .3)",
    )
    parser.add_argument(
        "--target-classes",
        nargs="+",
        metavar="NAME",
        help="with --detections: the classes whose detections count (default: malignant)",
    )
    parser.add_argument(
        "--keep-unlabelled",
        action="store_true",
        help="keep the images that have neither a target box nor a pseudo-box in the new file",
    )
    parser.add_argument(
        "--include-unknown",
        action="store_true",
        help="also label views without boxes of patients who have cancer, as the source did; "
        "stage 2 takes them with DATASETS.UNBOXED_VIEWS normal",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier output")
    parser.add_argument(
        "--force",
        action="store_true",
        help="label although there are pseudo-boxes, or boxes on normal images, already, or the "
        "detections were made on another version of the annotation file",
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config keys to change, such as MODEL.DEVICE cpu",
    )


def run(arguments: argparse.Namespace) -> int:
    """Detect on the normal images if need be, choose, and write the new file."""
    _check_arguments(arguments)
    annotated = _annotated(arguments.dataset, check_files=arguments.detections is None)
    require_free(arguments.output, annotated, overwrite=arguments.overwrite)
    if arguments.detections:
        targets = tuple(arguments.target_classes or PLAIN_TARGETS)
        settings = _settings(arguments, PseudoSettings())
        detections = arguments.detections
        require(annotated, targets, settings, force=arguments.force)
    else:
        engine = common.start_engine(arguments.engine)
        cfg = load_config(engine.default_cfg(), arguments.config_file, arguments.opts)
        targets = data_settings(cfg).target_classes
        settings = _settings(arguments, pseudo_settings(cfg))
        chosen = require(annotated, targets, settings, force=arguments.force)
        detections = detect(
            engine, cfg, arguments.weights, annotated, chosen, detections_beside(arguments.output)
        )
    label(
        annotated,
        detections,
        arguments.output,
        target_classes=targets,
        settings=settings,
        force=arguments.force,
    )
    return 0


PLAIN_TARGETS = ("malignant",)


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


def require(
    annotated: AnnotatedSet,
    target_classes: tuple[str, ...],
    settings: PseudoSettings,
    *,
    force: bool,
) -> tuple[ImageRecord, ...]:
    """The images that may be labelled, or the reason why this set should not be (``DataError``)."""
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
    # Late: neither is needed where the detections are there.
    from simfrcnn.engines.common.device import check_device
    from simfrcnn.engines.common.inference import detect_records
    from simfrcnn.engines.common.validation import save_detections

    facts = {
        "engine": engine.NAME,
        "deviations": [asdict(deviation) for deviation in engine.DEVIATIONS],
        "checkpoint": weights.name,
        "checkpoint_sha256": _sha256_of_weights(weights),
        "config": _detection_keys(cfg),
    }
    expected = {**facts, "annotations_sha256": annotated.sha256}
    if _are_saved(path, expected, chosen):
        print(f"taking the detections in {path}", flush=True)
        return path
    check_device(cfg)
    model = engine.build_model(cfg)
    engine.load_weights(model, weights)
    print(f"detecting with {weights} on {len(chosen)} images", flush=True)
    found = detect_records(cfg, model, engine.detect, chosen, title="pseudo-label")
    save_detections(path, found, cfg, annotated, facts)
    return path


def label(
    annotated: AnnotatedSet,
    detections_file: Path,
    output: Path,
    *,
    target_classes: tuple[str, ...],
    settings: PseudoSettings,
    force: bool = False,
) -> passes.PseudoLabels:
    """Write the new annotation file and its summary from saved detections; print the summary.

    Raises:
        ArtifactError: The detections are of other images or classes, or of another version of the
            annotation file and ``force`` is not set.
    """
    detections = artifacts.read_detections(
        detections_file,
        records=annotated.records,
        categories=annotated.categories,
    )
    made_on = detections.provenance.get("annotations_sha256", annotated.sha256)
    if made_on != annotated.sha256 and not force:
        raise ArtifactError(
            f"{detections_file} was made on another version of {annotated.path} (the hash "
            "differs); detect again, or --force if the images are the same"
        )
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
        new_category=SUSPECTED,
        info={provenance.INFO_KEY: origin},
    )
    print("\n".join(provenance.summary_lines(labels, settings.score_threshold)))
    print(f"pseudo-labelled: {output}", flush=True)
    return labels


def _check_arguments(arguments: argparse.Namespace) -> None:
    from_model = arguments.config_file or arguments.weights or arguments.opts
    if arguments.detections and from_model:
        raise ConfigError(
            "--detections is in place of a model: leave --config-file, --weights and KEY VALUE out"
        )
    if not arguments.detections and not (arguments.config_file and arguments.weights):
        raise ConfigError("give --config-file and --weights of stage 1, or --detections")
    if arguments.target_classes and not arguments.detections:
        raise ConfigError(
            "--target-classes goes with --detections; of a model, DATASETS.TARGET_CLASSES counts"
        )


def _annotated(dataset: str, *, check_files: bool) -> AnnotatedSet:
    name, equals, _ = dataset.partition("=")
    files = catalog.parse_files([dataset] if equals else [])
    return catalog.load(name.strip(), files, check_files=check_files)


def _settings(arguments: argparse.Namespace, given: PseudoSettings) -> PseudoSettings:
    """The options where they are given, else the config's."""
    score, nms = arguments.score_threshold, arguments.nms_threshold
    if score is not None and not 0 < score <= 1:
        raise ConfigError(f"--score-threshold is {score}; legal is a score in (0, 1]")
    if nms is not None and not 0 <= nms <= 1:
        raise ConfigError(f"--nms-threshold is {nms}; legal is an IoU in [0, 1]")
    return replace(
        given,
        score_threshold=given.score_threshold if score is None else score,
        nms_threshold=given.nms_threshold if nms is None else nms,
        keep_unlabelled=given.keep_unlabelled or arguments.keep_unlabelled,
        include_unknown=arguments.include_unknown,
    )


def _detection_keys(cfg: Any) -> dict[str, Any]:
    """The resolved config, without places on this disk and what is applied to detections later."""
    tree: dict[str, Any] = yaml.safe_load(cfg.dump())
    del tree["DATASETS"]["FILES"]
    return {key: value for key, value in tree.items() if key not in ("OUTPUT_DIR", "PSEUDO")}


def _sha256_of_weights(weights: Path) -> str:
    from simfrcnn.engines.common.checkpoints import weights_sha256

    return weights_sha256(weights)


def _are_saved(path: Path, expected: dict[str, Any], chosen: Sequence[ImageRecord]) -> bool:
    """Whether a detections file holds what these weights find on these images."""
    if not path.exists():
        return False
    try:
        saved = artifacts.read_detections(path)
    except ArtifactError:  # torn between its two files: made again
        return False
    image_ids = {record.image_id for record in chosen}
    return dict(saved.provenance) == expected and set(saved.images) == image_ids
