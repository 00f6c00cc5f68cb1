"""What should somebody who is given a checkpoint know about it? Its model card, a plain dict.

It says where the weights come from, what they were trained on (names, hashes and counts, no paths
and no identifiers), how they did, what they are for and what not. ``simfrcnn show`` prints it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from simfrcnn import config
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.engines.common.run_folder import engine_version, own_commit
from simfrcnn.engines.contract import Deviation
from simfrcnn.image_labels import image_roles
from simfrcnn.input_settings import ALL_GREYS
from simfrcnn.labels import tally_of, training_roles
from simfrcnn.version import __version__

CARD_SCHEMA = 1
FIGURES = (
    *("case/auc", "breast/auc", "image/auc", "finding/ap50", "froc/centre/all/sensitivity_at_1"),
    *("case/youden/sensitivity", "case/youden/specificity"),
)
"""Those that a card quotes, as far as they are defined."""
INTENDED_USE = "Research on the detection of breast cancer in mammograms."
FIGURES_HOLD = (
    "Figures hold for data like those named here: other populations, devices and kinds of picture "
    "are untested."
)
UNTESTED = "Populations, devices and kinds of picture other than those named here are untested."
"""What remains of it where there are no figures."""
DETECTS_WITH = "detects_with"
"""Entry of a card: keys of detection that were changed after the training, key -> now, trained."""
NOT_A_MEDICAL_DEVICE = "Not a medical device: what it finds must not guide the care of a patient."


def model_card(
    cfg: Any,
    *,
    engine: str,
    deviations: Sequence[Deviation],
    training: Sequence[AnnotatedSet],
    validation: Sequence[AnnotatedSet],
    world_size: int = 1,
) -> dict[str, Any]:
    """The card of a training that begins now; ``steps`` and ``figures`` are filled in later.

    Args:
        cfg: Resolved.
        engine: Its name.
        deviations: Where the engine departs from the config.
        training: The sets of ``DATASETS.TRAIN``, in their order.
        validation: Those of ``DATASETS.VAL``.
        world_size: Number of processes.
    """
    return {
        "schema": CARD_SCHEMA,
        "name": Path(cfg.OUTPUT_DIR).name,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "simfrcnn": __version__,
        "commit": own_commit(),
        "engine": engine,
        "engine_version": engine_version(engine),
        "deviations": [asdict(deviation) for deviation in deviations],
        "classes": list(cfg.DATASETS.CLASSES),
        "target_classes": list(cfg.DATASETS.TARGET_CLASSES),
        "input": input_of(cfg),
        "seed": cfg.SEED,
        "steps": 0,
        "images_per_step": cfg.SOLVER.IMS_PER_BATCH,
        "processes": world_size,
        "started_from": Path(cfg.MODEL.WEIGHTS).name or "random weights",
        "trained_on": list(_sets(cfg, cfg.DATASETS.TRAIN, training)),
        "validated_on": list(_sets(cfg, cfg.DATASETS.VAL, validation)),
        "figures": [],
        "intended_use": INTENDED_USE,
        "warning": NOT_A_MEDICAL_DEVICE,
        "limits": [
            FIGURES_HOLD,
            limit_of_input(cfg),
            "For Presentation mammograms; a score is no probability of cancer unless it has been "
            "calibrated.",
        ],
        "licence": "",
    }


def input_of(cfg: Any) -> dict[str, Any]:
    """What a card says of the input of a network."""
    settings = config.input_settings(cfg)
    return {
        "size_px": list(settings.size_px),
        "crop_to_breast": settings.crop_to_breast,
        "keep_aspect": settings.keep_aspect,
        **({} if settings.greys == ALL_GREYS else {"window": list(settings.greys)}),
        "pixel_mean": list(cfg.MODEL.PIXEL_MEAN),
        "pixel_std": list(cfg.MODEL.PIXEL_STD),
    }


def limit_of_input(cfg: Any) -> str:
    """The limit of use that follows from the size of the input."""
    height, width = config.input_settings(cfg).size_px
    if not config.needs_native_pixels(cfg):
        return (
            f"The network sees {height} x {width} pixels: what is finer than one of them is lost."
        )
    size = cfg.MODEL.SECOND_LOOK.SIZE
    first = "classifier" if config.is_classifier(cfg) else "detector"
    return (
        f"The {first} sees {height} x {width} pixels: it misses what only finer ones would show. "
        f"What it suspects is looked at again in the stored pixels, as {size} x {size}."
    )


def quoted(figures: Mapping[str, float]) -> dict[str, float]:
    """Of the figures of a validation those that a card quotes."""
    return {name: float(figures[name]) for name in FIGURES if name in figures}


def lines_of(card: Mapping[str, Any]) -> list[str]:
    """A card for a terminal: a title, the warning, then a line or a list for each entry."""
    lines = [f"# {card.get('name') or 'unnamed model'}", ""]
    if card.get("warning"):
        lines += [str(card["warning"]), ""]
    for key, value in card.items():
        if key in ("name", "warning", "schema"):
            continue
        if key == DETECTS_WITH:
            lines += [
                f"{name}: {one['now']}, changed from {one['trained']} since the training"
                for name, one in value.items()
            ]
            continue
        lines += _entry(key.replace("_", " "), value, "")
    return lines


def _entry(key: str, value: Any, indent: str) -> Iterable[str]:
    if isinstance(value, Mapping):
        yield f"{indent}{key}:"
        for inner, one in value.items():
            yield from _entry(str(inner).replace("_", " "), one, indent + "  ")
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping | str) for v in value):
        if all(isinstance(one, str) and len(one) < 25 for one in value):
            yield f"{indent}{key}: {', '.join(value)}"
            return
        yield f"{indent}{key}:"
        for one in value:
            yield f"{indent}  - {_in_one_line(one)}"
    elif isinstance(value, list | tuple) and key.endswith(" px"):
        yield f"{indent}{key}: {' x '.join(map(_in_one_line, value))}"
    else:
        yield f"{indent}{key}: {_in_one_line(value)}"


def _in_one_line(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{str(key).replace('_', ' ')} {_in_one_line(one)}" for key, one in value.items()
        )
    if isinstance(value, list | tuple):
        return ", ".join(map(_in_one_line, value)) or "none"
    if value is None or value == "":
        return "not stated"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sets(cfg: Any, names: Iterable[str], sets: Sequence[AnnotatedSet]) -> Iterable[dict[str, Any]]:
    """Name, hash and counts of each set."""
    datasets = cfg.DATASETS
    targets = tuple(datasets.TARGET_CLASSES)
    for name, annotated in zip(names, sets, strict=True):
        records = annotated.records
        roles = (
            image_roles(records, targets)
            if config.is_classifier(cfg)
            else training_roles(records, targets, datasets.UNBOXED_VIEWS)
        )
        tally = tally_of(records, roles, target_classes=targets, named_classes=datasets.CLASSES)
        supervision = Counter(record.supervision.value for record in records)
        yield {
            "name": name,
            "sha256": annotated.sha256,
            "patients": tally.n_patients,
            "exams": len({record.exam_id for record in records}),
            "images": tally.n_images,
            "supervision": dict(sorted(supervision.items())),
            "boxes": {category: each.boxes for category, each in tally.classes.items()},
        }
