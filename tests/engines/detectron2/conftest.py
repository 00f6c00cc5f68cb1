"""A tiny data set of PNG files, and configs small enough for seconds on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from simfrcnn.config import load_config
from simfrcnn.data.coco import write_coco
from simfrcnn.records import Finding, ImageRecord, Pathology, Supervision
from simfrcnn.structures import Frame, ImageTargets, Sample
from support.examples import TINY_BACKBONE

REPOSITORY = Path(__file__).parents[3]
SIZE = 96


@pytest.fixture(autouse=True)
def one_thread():
    """A tiny model is many times slower on several threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """``NAME=PATH`` of a training and a validation set: bright discs, malignant ones boxed."""
    folder = tmp_path_factory.mktemp("discs")
    return tuple(
        f"discs/{split}={write_discs(folder, split, n_positive, n_normal, seed)}"
        for seed, (split, n_positive, n_normal) in enumerate([("train", 5, 4), ("val", 3, 3)])
    )


@pytest.fixture
def make_cfg(data_files: tuple[str, ...], tmp_path: Path) -> Callable[..., Any]:
    """``make_cfg("c4" | "fpn", KEY, VALUE, ...)``: the smoke config on the discs.

    The FPN has a tiny backbone, the C4 detector a ResNet-18.
    """

    def make(head: str = "fpn", *overrides: str) -> Any:
        from simfrcnn.engines.detectron2 import default_cfg

        words = {
            "DATASETS.FILES": str(list(data_files)),
            "DATASETS.TRAIN": "[discs/train]",
            "DATASETS.VAL": "[discs/val]",
            "DATASETS.TEST": "[]",
            "INPUT.MAMMO.SIZE": f"[{SIZE}, {SIZE}]",
            "INPUT.MAMMO.CROP_TO_BREAST": "False",
            "SOLVER.IMS_PER_BATCH": "2",
            "OUTPUT_DIR": str(tmp_path / "run"),
            **dict(zip(overrides[::2], overrides[1::2], strict=True)),
        }
        config_file = REPOSITORY / f"configs/smoke/sim_r18_{head}.yaml"
        flat = [word for item in words.items() for word in item]
        flat = [*(TINY_BACKBONE if head == "fpn" else ()), *flat]
        return load_config(default_cfg(), config_file, flat)

    return make


@pytest.fixture
def make_samples() -> Callable[[str], list[Sample]]:
    """``make_samples("pn")``: one positive and one normal image, fixed by their place and kind."""
    return lambda kinds: [sample(number, kind == "p") for number, kind in enumerate(kinds)]


def sample(number: int, is_positive: bool, size: int = 128) -> Sample:
    """Noise with one box, or with none, stored at twice the input's size."""
    noise = torch.rand(1, size, size, generator=torch.Generator().manual_seed(number)) * 255
    boxes = torch.tensor([[20.0, 30.0, 60.0, 75.0]]) if is_positive else torch.zeros(0, 4)
    record = ImageRecord(
        image_id=number,
        file_name=f"{number}.png",
        path=Path(f"/nowhere/{number}.png"),
        height=2 * size,
        width=2 * size,
        patient_id=f"p{number}",
        exam_id=f"e{number}",
        supervision=Supervision.BOXES if is_positive else Supervision.NORMAL,
    )
    return Sample(
        image=noise.expand(3, -1, -1).contiguous(),
        frame=Frame(0.5, 0.0, 0.5, 0.0, 2 * size, 2 * size),
        record=record,
        targets=ImageTargets(
            boxes, torch.ones(len(boxes), dtype=torch.int64), is_normal=not is_positive
        ),
    )


def write_discs(folder: Path, split: str, n_positive: int, n_normal: int, seed: int) -> Path:
    """Write images and their annotation file; returns the latter."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(n_positive + n_normal):
        is_positive = number < n_positive
        x, y, radius = (int(v) for v in rng.integers([30, 30, 12], [90, 90, 22]))
        pixels = rng.integers(30, 90, (120, 120)).astype(np.uint8)
        cv2.circle(pixels, (x, y), radius, 220 if is_positive else 140, -1)
        path = folder / f"{split}_{number}.png"
        assert cv2.imwrite(str(path), pixels)
        box = (x - radius, y - radius, x + radius, y + radius)
        finding = Finding(
            tuple(float(min(max(side, 0), 120)) for side in box), "malignant", number + 1
        )
        records.append(
            ImageRecord(
                image_id=number + 1,
                file_name=path.name,
                path=path,
                height=120,
                width=120,
                patient_id=f"{split}{number}",
                exam_id=f"{split}{number}",
                supervision=Supervision.BOXES if is_positive else Supervision.NORMAL,
                pathology=Pathology.MALIGNANT if is_positive else Pathology.NORMAL,
                split=split,
                findings=(finding,) if is_positive else (),
            )
        )
    annotations = folder / f"{split}.json"
    write_coco(annotations, records, {1: "malignant", 2: "benign"}, {"version": "1"})
    return annotations
