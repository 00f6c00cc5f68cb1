"""What does a patch classifier on mini-MIAS learn: masses, or the films it has seen?

`python tools/benchmarks/mias_patches.py --root DOWNLOAD --output scores.jsonl` trains the small
network of a widely read tutorial (72,706 parameters) to tell malignant from benign crops, each of
which is copied twelve times by rotating and mirroring. The one thing that differs is the split: by
copy, as the tutorial has it, or by patient. A third arm permutes the labels of the findings and
splits by copy: there is nothing to learn, and what it reaches is memory. The result is
`docs/results/mias_patches.md`.

The file gets a line for each training, with the score of every test copy. The same command goes on
with what is missing. `--arms` and `--seeds` share the work among processes; they may share a file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

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

Arm = Literal["copy", "permuted", "patient"]
SIDE, N_FOLDS, N_COPIES = 48, 4, 12


@dataclass(frozen=True)
class Crops:
    """(L, 48, 48) crops round the circles of findings, 1 for malignant, and their patients."""

    pixels: NDArray[np.float32]
    labels: NDArray[np.intp]
    patients: tuple[str, ...]


@dataclass(frozen=True)
class Training:
    """One training: of each test copy its finding, the finding's label, and its score."""

    kinds: str
    epochs: int
    arm: Arm
    seed: int
    fold: int
    share_whose_finding_trained: float
    findings: tuple[int, ...]
    labels: tuple[int, ...]
    scores: tuple[float, ...]
    cpu_s: float

    @property
    def key(self) -> tuple[str, int, str, int, int]:
        return self.kinds, self.epochs, self.arm, self.seed, self.fold


def network() -> nn.Sequential:
    """Three convolutions, and a dense layer of 64 that acts on each cell before it is flattened."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)),
        *(nn.Conv2d(64, 64, 1), nn.ReLU(), nn.Dropout(0.25)),
        *(nn.Flatten(), nn.Linear(6400, 2)),
    )


def crops_of(root: Path, kinds: set[str]) -> Crops:
    """The findings of some kinds that have a circle."""
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
    return Crops(np.stack(crops), np.array(labels), tuple(patients))


def copies_of(crop: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Twelve copies: four quarter turns, each as it is, mirrored and upside down; eight differ."""
    for turns in range(4):
        turned = np.rot90(crop, turns)
        yield from (turned, turned[:, ::-1], turned[::-1])


def splits_of(
    arm: Arm, labels: NDArray[np.intp], groups: NDArray[np.str_], seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Training and test copies of four folds."""
    how = {"n_splits": N_FOLDS, "shuffle": True, "random_state": seed}
    if arm == "patient":
        return list(StratifiedGroupKFold(**how).split(labels, labels, groups))
    return list(StratifiedKFold(**how).split(labels, labels))


def trained_scores(
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
    model = network().to(memory_format=torch.channels_last)  # on a CPU less than .7 of the time
    images = images.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
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
        chances = model(images[torch.as_tensor(test)]).double().softmax(dim=1)[:, 1]
    return np.asarray(chances.numpy())


def train(crops: Crops, kinds: str, arm: Arm, seed: int, fold: int, n_epochs: int) -> Training:
    """One fold, counted from 1, of an arm."""
    started = time.process_time()
    labels = crops.labels
    if arm == "permuted":
        labels = np.random.default_rng(seed).permutation(labels)
    of_copy = np.repeat(np.arange(len(crops.pixels)), N_COPIES)
    copies = np.stack([copy for crop in crops.pixels for copy in copies_of(crop)])
    images, truth = torch.as_tensor(copies)[:, None], torch.as_tensor(labels[of_copy])
    splits = splits_of(arm, labels[of_copy], np.array(crops.patients)[of_copy], seed)
    learnt, tested = splits[fold - 1]
    torch_seed = 10 * seed + fold
    scores = trained_scores(images, truth, learnt, tested, n_epochs=n_epochs, seed=torch_seed)
    return Training(
        *(kinds, n_epochs, arm, seed, fold),
        share_whose_finding_trained=float(np.isin(of_copy[tested], of_copy[learnt]).mean()),
        findings=tuple(of_copy[tested].tolist()),
        labels=tuple(labels[of_copy[tested]].tolist()),
        scores=tuple(scores.tolist()),
        cpu_s=round(time.process_time() - started, 1),
    )


def read_trainings(path: Path) -> list[Training]:
    """What a file has, each training once; a line that was cut by a kill is none."""
    if not path.exists():
        return []
    trainings: dict[tuple[object, ...], Training] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            training = Training(**json.loads(line))
            trainings.setdefault(training.key, training)
    return list(trainings.values())


def append(path: Path, training: Training) -> None:
    """Add a line, after the one that a kill cut as well."""
    with path.open("a+b") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        is_cut = file.read(1) not in (b"", b"\n")
        file.write(b"\n" * is_cut + json.dumps(asdict(training)).encode() + b"\n")


def figures(trainings: Sequence[Training]) -> dict[str, float | int]:
    """Of the trainings of one arm and seed, whose test copies are put together."""
    findings = np.concatenate([one.findings for one in trainings])
    labels = np.concatenate([one.labels for one in trainings])
    scores = np.concatenate([one.scores for one in trainings])
    known, first = np.unique(findings, return_index=True)
    means = [scores[findings == finding].mean() for finding in known]
    return {
        "trainings": len(trainings),
        "test copies": len(scores),
        "of a finding that trained": float(
            np.average(
                [one.share_whose_finding_trained for one in trainings],
                weights=[len(one.scores) for one in trainings],
            )
        ),
        "accuracy": float(((scores >= 0.5) == labels).mean()),
        "AUC by copy": float(roc_auc_score(labels, scores)),
        "AUC by finding": float(roc_auc_score(labels[first], means)),
        "findings": len(known),
    }


def table(trainings: Sequence[Training]) -> list[str]:
    """Lines of Markdown: a row for each arm and seed."""
    rows: list[str] = []
    for arm in get_args(Arm):
        for seed in sorted({one.seed for one in trainings if one.arm == arm}):
            own = figures([one for one in trainings if (one.arm, one.seed) == (arm, seed)])
            if not rows:
                rows = [f"| arm | seed | {' | '.join(own)} |", "|---" * (len(own) + 2) + "|"]
            cells = (f"{v:.3f}" if isinstance(v, float) else str(v) for v in own.values())
            rows.append(f"| {arm} | {seed} | {' | '.join(cells)} |")
    return rows


def main(words: Sequence[str] | None = None) -> None:
    """Run what is missing, and print the table of the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="Info.txt and the films")
    parser.add_argument("--output", type=Path, required=True, help="a line for each training")
    parser.add_argument("--kinds", default="CALC", help="abnormalities, with commas")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--arms", default="copy,permuted,patient")
    parser.add_argument("--folds", type=int, default=1, help="of four, where copies are split")
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    wanted = [
        (args.kinds, args.epochs, arm, int(seed), fold)
        for seed in args.seeds.split(",")
        for arm in args.arms.split(",")
        for fold in range(1, (N_FOLDS if arm == "patient" else args.folds) + 1)
    ]
    if unknown := {arm for _, _, arm, _, _ in wanted} - set(get_args(Arm)):
        parser.error(f"--arms: {', '.join(sorted(unknown))}; legal are {', '.join(get_args(Arm))}")
    done = {one.key for one in read_trainings(args.output)}
    missing = [key for key in wanted if key not in done]
    print(f"{len(wanted) - len(missing)} of {len(wanted)} trainings are done", file=sys.stderr)
    crops = crops_of(args.root, set(args.kinds.split(",")))
    for number, (kinds, epochs, arm, seed, fold) in enumerate(missing, start=1):
        if any(one.key == (kinds, epochs, arm, seed, fold) for one in read_trainings(args.output)):
            continue  # another process did it meanwhile
        one = train(crops, kinds, arm, seed, fold, epochs)
        append(args.output, one)
        said = f"[{number}/{len(missing)}] {arm} seed {seed} fold {fold}: {one.cpu_s} s of CPU time"
        print(said, file=sys.stderr, flush=True)
    of_these = [one for one in read_trainings(args.output) if one.key[:2] == wanted[0][:2]]
    print("\n".join(table(of_these)))


if __name__ == "__main__":
    main()
