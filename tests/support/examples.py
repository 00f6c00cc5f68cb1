"""Synthetic samples, records and a tiny data set on disk: noise with bright squares as masses."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from simfrcnn.config import load_config
from simfrcnn.data.coco import write_coco
from simfrcnn.engines import load_engine
from simfrcnn.records import (
    Box,
    Finding,
    ImageRecord,
    Laterality,
    Pathology,
    Supervision,
    ViewPosition,
)
from simfrcnn.structures import Frame, ImageTargets, Sample
from support.commands import ROOT, TEST_CONFIGS

CONFIGS = ROOT / "configs"
HEADS = ("c4", "fpn")
ENGINE_PARAMETERS = [
    pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("detectron2", "torchvision")
]
UNSCALED = {"scale_x": 1.0, "offset_x": 0.0, "scale_y": 1.0, "offset_y": 0.0}


def resnet_config(engine: Any, heads: str, *overrides: Any) -> Any:
    """The smoke config of a head (a ResNet-18), on one process, with KEY VALUE overrides."""
    words = [str(word) for word in overrides]
    return load_config(
        engine.default_cfg(), CONFIGS / "smoke" / f"sim_r18_{heads}.yaml", ["SEED", "0", *words]
    )


# A twentieth of a ResNet-18's weights: for whatever does not depend on the backbone.
TINY_BACKBONE = tuple(
    word
    for node, keys in yaml.safe_load((TEST_CONFIGS / "tiny.yaml").read_text())["MODEL"].items()
    for key, value in keys.items()
    for word in (f"MODEL.{node}.{key}", value)
)

# For C4, whose stages are a ResNet's. Frozen statistics, so that an image does not depend on the
# others of its batch; the config asks for a file of weights then, but only a training reads it.
TINY_C4_BACKBONE = (
    *("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "test_resnet"),
    *("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.WEIGHTS", "given"),
)

# Back to the smoke config's own: for what needs a ResNet's stages, or another norm without weights.
RESNET_C4 = (
    *("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.TIMM.NAME", ""),
    *("MODEL.RESNETS.NORM", "GN"),
)
RESNET_FPN = (
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.TIMM.NAME", ""),
    *("MODEL.RESNETS.NORM", "GN"),
)


def smoke_config(engine: Any, heads: str, *overrides: Any) -> Any:
    """The smoke config of a head with KEY VALUE overrides and a tiny backbone."""
    backbone = TINY_BACKBONE if heads == "fpn" else TINY_C4_BACKBONE
    return resnet_config(engine, heads, *backbone, *overrides)


def seeded_model(engine: Any, cfg: Any, seed: int = 0) -> torch.nn.Module:
    """A model whose random weights depend on the seed alone."""
    torch.manual_seed(seed)
    model: torch.nn.Module = engine.build_model(cfg)
    return model


def initialised(engine: Any, cfg: Any, weights: Path | str) -> torch.nn.Module:
    """A new model with the weights of a file, as training starts."""
    model = seeded_model(engine, cfg)
    module = importlib.import_module(f"simfrcnn.engines.{engine.NAME}.weights")
    module.load_initial_weights(model, str(weights))
    return model


def record(
    image_id: int, *, boxes: Sequence[Box] = (), size_px: int = 128, path: Path | None = None
) -> ImageRecord:
    """A record of its own patient: malignant boxes, or a normal image."""
    name = f"image{image_id}.png"
    return ImageRecord(
        image_id=image_id,
        file_name=name,
        path=path / name if path else Path("/nowhere") / name,
        height=size_px,
        width=size_px,
        patient_id=f"patient{image_id}",
        exam_id=f"exam{image_id}",
        supervision=Supervision.BOXES if boxes else Supervision.NORMAL,
        laterality=Laterality.LEFT,
        view_position=ViewPosition.CC,
        pathology=Pathology.MALIGNANT if boxes else Pathology.NORMAL,
        findings=tuple(
            Finding(box, "malignant", finding_id=100 * image_id + number, lesion_id=f"l{image_id}")
            for number, box in enumerate(boxes)
        ),
    )


def pixels_of(rec: ImageRecord) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Grey noise that depends on the image id, with a bright square in every box."""
    rng = np.random.default_rng(rec.image_id)
    pixels = rng.normal(100, 12, (rec.height, rec.width))
    for finding in rec.findings:
        x1, y1, x2, y2 = (int(edge) for edge in finding.box)
        pixels[y1:y2, x1:x2] += 90
    return pixels.clip(1, 255).astype(np.uint8)


def sample_of(rec: ImageRecord) -> Sample:
    """A training sample of a record in its original size."""
    boxes = torch.tensor([finding.box for finding in rec.findings]).reshape(-1, 4)
    frame = Frame(**UNSCALED, original_height=rec.height, original_width=rec.width)
    return Sample(
        image=torch.from_numpy(pixels_of(rec)).float().expand(3, -1, -1).contiguous(),
        frame=frame,
        record=rec,
        targets=ImageTargets(boxes, torch.ones(len(boxes), dtype=torch.int64), not len(boxes)),
    )


def positives(n: int = 1, size_px: int = 64) -> list[Sample]:
    """Images 1..n with one box each, at different places."""
    boxes = [(6.0 + 9 * i, 12.0 + 5 * i, 38.0 + 9 * i, 46.0 + 5 * i) for i in range(n)]
    return [sample_of(record(i + 1, boxes=[b], size_px=size_px)) for i, b in enumerate(boxes)]


def normals(n: int = 1, size_px: int = 64) -> list[Sample]:
    """Images 51..50+n without boxes."""
    return [sample_of(record(51 + i, size_px=size_px)) for i in range(n)]


BATCHES = {
    "pairs": positives(2) + normals(2),
    "positives": positives(2),
    "normals": normals(2),
}


def write_tiny_set(folder: Path, *, n_positives: int = 3, n_normals: int = 3) -> Path:
    """Write PNG files of positives and normals and their COCO file; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [
        record(i + 1, boxes=[(20.0 + 8 * i, 30.0, 50.0 + 8 * i, 62.0)], path=folder)
        for i in range(n_positives)
    ]
    records += [record(51 + i, path=folder) for i in range(n_normals)]
    for rec in records:
        assert cv2.imwrite(str(rec.path), pixels_of(rec))
    path = folder / "tiny.json"
    write_coco(path, records, {1: "malignant"}, {"description": "bright squares", "version": "1"})
    return path


def tiny_config(engine: Any, heads: str, folder: Path, *overrides: Any) -> Any:
    """The smoke config on :func:`write_tiny_set`: one pair a step, no validation, ``folder/run``.

    The images of the test set are damaged: training must not look at them.
    """
    path, untouchable = folder / "data" / "tiny.json", folder / "test" / "tiny.json"
    if not path.exists():
        write_tiny_set(path.parent)
    if not untouchable.exists():
        write_tiny_set(untouchable.parent)
        for image in untouchable.parent.glob("*.png"):
            image.write_bytes(b"not an image")
    random_start = ("MODEL.WEIGHTS", "", "MODEL.RESNETS.NORM", "BN") if heads == "c4" else ()
    return smoke_config(
        engine,
        heads,
        *random_start,
        *("DATASETS.FILES", f"[tiny={path},untouchable={untouchable}]"),
        *("DATASETS.TRAIN", "[tiny]", "DATASETS.VAL", "[]", "DATASETS.TEST", "[untouchable]"),
        *("INPUT.MAMMO.CROP_TO_BREAST", "False"),
        *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2", "OUTPUT_DIR", folder / "run"),
        *overrides,
    )


def engine_named(name: str) -> Any:
    """An engine, as :class:`simfrcnn.engines.Engine`."""
    return load_engine(name)
