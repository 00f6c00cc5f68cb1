"""Two models' detections of a set whose truth follows from their scores by known weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from simfrcnn.artifacts import DetectionFile, write_detections
from simfrcnn.combining.rescoring import Combination
from simfrcnn.data.coco import write_coco
from simfrcnn.files import sha256_of
from simfrcnn.records import ImageRecord
from support.evaluation_examples import detection_file, finding, found, image

A, FAR = (0, 0, 10, 10), (50, 50, 60, 60)
MALIGNANT = ("malignant",)
PLANTED = Combination(-0.8, 0.7, (1.1,), (), (), MALIGNANT, 1.0, {})
AGE, DENSITY = 0.9, {"A": -0.6, "B": 0.0, "C": 0.6}


def planted_set(
    n_images: int, seed: int = 0, facts: bool = True
) -> tuple[list[ImageRecord], DetectionFile, DetectionFile]:
    """Images whose truth is drawn by known weights of both models' logits, age and density."""
    draw = np.random.default_rng(seed)
    records, first, second = [], [], []
    for number in range(1, n_images + 1):
        logits = draw.normal(0, 1.5, size=2)
        age, density = draw.normal(60, 10), str(draw.choice(["A", "B", "C"]))
        chance = PLANTED.intercept + PLANTED.own * logits[0] + PLANTED.others[0] * logits[1]
        if facts:
            chance += AGE * (age - 60) / 10 + DENSITY[density]
        is_positive = draw.random() < 1 / (1 + np.exp(-chance))
        record = image(number, f"p{number // 10}", *([finding(A, number)] if is_positive else []))
        records.append(
            dataclasses.replace(record, attributes={"age": f"{age:.3f}", "density": density})
        )
        scores = 1 / (1 + np.exp(-logits))
        first.append(found(number, (A, scores[0]), (FAR, scores[0] / 3), (A, 0.4, "benign")))
        second.append(found(number, (FAR, scores[1])))
    return records, detection_file(*first), detection_file(*second)


def write_set(
    folder: Path, name: str, n: int, seed: int, split: str, checkpoint: str = "a" * 64
) -> tuple[Path, list[Path]]:
    records, first, second = planted_set(n, seed)
    records = [dataclasses.replace(r, split=split, path=folder / r.file_name) for r in records]
    annotations = folder / f"{name}.json"
    write_coco(annotations, records, {1: "malignant", 2: "benign"}, {})
    paths = []
    for letter, each in (("a", first), ("b", second)):
        paths.append(folder / f"{name}_{letter}.json")
        write_detections(
            paths[-1],
            each.images.values(),
            categories=each.categories,
            provenance={
                "annotations_sha256": sha256_of(annotations),
                **({"checkpoint_sha256": checkpoint} if letter == "a" else {}),
            },
        )
    return annotations, paths
