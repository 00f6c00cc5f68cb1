"""What does a patch classifier on mini-MIAS learn: masses, or the films it has seen?

`python tools/benchmarks/mias_patches.py --root DOWNLOAD` trains the small network of a widely read
tutorial (72,706 parameters) to tell malignant from benign crops, each of which is copied twelve
times by rotating and mirroring. The one thing that differs is the split: by copy, as the tutorial
has it, or by patient. A third arm permutes the labels of the findings and splits by copy: there is
nothing to learn, and what it reaches is memory. The result is `docs/results/mias_patches.md`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from torch import nn

from simfrcnn.data.sources.mias import read_mias
from simfrcnn.images.reading import read_image
from simfrcnn.records import Pathology

Arm = Literal["copy", "patient", "permuted"]
SIDE, N_FOLDS = 48, 4


def network() -> nn.Sequential:
    """Three convolutions, and a dense layer of 64 that acts on each cell before it is flattened."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)),
        *(nn.Conv2d(64, 64, 1), nn.ReLU(), nn.Dropout(0.25)),
        *(nn.Flatten(), nn.Linear(6400, 2)),
    )


def crops_of(
    root: Path, kinds: set[str]
) -> tuple[NDArray[np.float32], NDArray[np.intp], list[str]]:
    """(L, 48, 48) crops round the circles of findings, 1 for malignant, and the patients."""
    crops, labels, patients = [], [], []
    for record in read_mias(root).records:
        if not kinds & set(record.attributes["abnormality"].split(",")):
            continue
        pixels = read_image(record.path)
        for finding in record.findings:
            x1, y1, x2, y2 = map(int, finding.box)
            crop = cv2.resize(pixels[y1:y2, x1:x2], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            crops.append(crop.astype(np.float32) / 255)
            labels.append(int(finding.pathology is Pathology.MALIGNANT))
            patients.append(record.patient_id)
    return np.stack(crops), np.array(labels), patients


def copies_of(crop: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Twelve copies: four quarter turns, each as it is, mirrored and upside down; eight differ."""
    for turns in range(4):
        turned = np.rot90(crop, turns)
        yield from (turned, turned[:, ::-1], turned[::-1])


def splits_of(
    arm: Arm, labels: NDArray[np.intp], groups: NDArray[np.str_], seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Training and test copies of four folds."""
    kind = StratifiedGroupKFold if arm == "patient" else StratifiedKFold
    folds = kind(n_splits=N_FOLDS, shuffle=True, random_state=seed)
    return list(folds.split(np.zeros(len(labels)), labels, groups))


def trained_chances(
    images: torch.Tensor,
    labels: torch.Tensor,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    *,
    n_epochs: int,
    seed: int,
) -> NDArray[np.float64]:
    """Chance of malignant of the test copies, after the last epoch: nothing is chosen on them."""
    torch.manual_seed(seed)
    model = network()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(n_epochs):
        model.train()
        for batch in torch.randperm(len(train)).split(32):  # type: ignore[no-untyped-call]
            index = torch.as_tensor(train)[batch]
            loss = nn.functional.cross_entropy(model(images[index]), labels[index])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    model.eval()
    with torch.no_grad():
        chances = model(images[torch.as_tensor(test)]).softmax(dim=1)[:, 1]
    return np.asarray(chances.double().numpy())


def run_arm(
    arm: Arm,
    data: tuple[NDArray[np.float32], NDArray[np.intp], list[str]],
    seed: int,
    *,
    n_epochs: int,
    n_folds: int,
) -> Iterator[dict[str, float | int | str]]:
    """The figures of the first fold, of the first two folds together, and so on."""
    crops, labels, patients = data
    if arm == "permuted":
        labels = np.random.default_rng(seed).permutation(labels)
    of_copy = np.repeat(np.arange(len(crops)), 12)
    copies = np.stack([copy for crop in crops for copy in copies_of(crop)])
    images, truth = torch.as_tensor(copies)[:, None], torch.as_tensor(labels[of_copy])
    tested, chances, known = [], [], []
    splits = splits_of(arm, labels[of_copy], np.array(patients)[of_copy], seed)
    for fold, (train, test) in enumerate(splits[:n_folds], start=1):
        torch_seed = 10 * seed + fold
        found = trained_chances(images, truth, train, test, n_epochs=n_epochs, seed=torch_seed)
        chances.append(found)
        tested.append(test)
        known.append(np.isin(of_copy[test], of_copy[train]).mean())
        index, scores = np.concatenate(tested), np.concatenate(chances)
        answers = labels[of_copy[index]]
        findings = np.unique(of_copy[index])
        means = [scores[of_copy[index] == finding].mean() for finding in findings]
        yield {
            "arm": arm,
            "seed": seed,
            "folds": fold,
            "findings": len(crops),
            "malignant": int(labels.sum()),
            "tested_copies": len(index),
            "share_whose_finding_trained": float(np.mean(known)),
            "accuracy": float(((scores >= 0.5) == answers).mean()),
            "auc": float(roc_auc_score(answers, scores)),
            "tested_findings": len(findings),
            "auc_by_finding": float(roc_auc_score(labels[findings], means)),
        }


def main() -> None:
    """Print one line of JSON after each training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="Info.txt and the films")
    parser.add_argument("--kinds", default="CALC", help="abnormalities, with commas")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", default="copy,permuted,patient")
    parser.add_argument("--folds", type=int, default=1, help="of four, where copies are split")
    args = parser.parse_args()
    torch.set_num_threads(1)
    assert sum(p.numel() for p in network().parameters()) == 72_706
    data = crops_of(args.root, set(args.kinds.split(",")))
    for seed in range(args.seeds):
        for arm in args.arms.split(","):
            started = time.process_time()
            folds = N_FOLDS if arm == "patient" else args.folds
            for row in run_arm(arm, data, seed, n_epochs=args.epochs, n_folds=folds):
                cost = round(time.process_time() - started, 1)
                print(json.dumps({"kinds": args.kinds, **row, "cpu_s": cost}), flush=True)


if __name__ == "__main__":
    main()
