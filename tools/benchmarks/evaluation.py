"""How long does the evaluation of a large screening set take, and how much memory?

A random set is judged in memory: four views an exam, ten detections an image, a finding in two
views of every fifth exam and a half. COCO AP is compared with pycocotools alone at the same IoUs,
taken in turn.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from simfrcnn.artifacts import DetectionFile, ImageDetections
from simfrcnn.evaluation.average_precision import (
    COCO_IOUS,
    MAX_DETECTIONS,
    ap_statistic,
    coco_matches,
    coco_objects,
)
from simfrcnn.evaluation.bootstrap import Statistic, figures_and_bands
from simfrcnn.evaluation.case import units_of
from simfrcnn.evaluation.evaluator import evaluate
from simfrcnn.evaluation.froc import events_of, froc_statistic
from simfrcnn.evaluation.matching import HIT_CRITERIA, HitCriterion
from simfrcnn.evaluation.roc import roc_statistic
from simfrcnn.evaluation.truth import View, patient_strata, views_of
from simfrcnn.records import Finding, ImageRecord, Laterality, Supervision, ViewPosition
from simfrcnn.settings import EvaluationSettings

VIEWS = tuple((side, view) for side in Laterality for view in (ViewPosition.CC, ViewPosition.MLO))
N_DETECTIONS = 10
FINDINGS_PER_IMAGE = 0.2
_SIDE_PX = 2560.0
_N_COCO_RUNS = 3


def table(n_images: int, n_replicates: int) -> list[str]:
    """Lines of Markdown: what each part of the evaluation of ``n_images`` costs."""
    records, detections = random_set(n_images)
    plain = EvaluationSettings(bootstrap_replicates=0)
    views, patient_ids = views_of(records, detections.images, plain)
    n_patients = len(patient_ids)
    strata = patient_strata(views, n_patients, plain)

    def resampled(make: Callable[[], Statistic]) -> float:
        """Seconds, with making the statistic."""
        return _seconds(
            lambda: figures_and_bands([make()], strata, n_replicates=n_replicates, seed=0)
        )

    def froc_of(criterion: HitCriterion) -> Statistic:
        return froc_statistic(events_of(views, criterion, n_patients, plain), with_bands=True)

    whole = _seconds(lambda: evaluate(records, detections, plain))
    ours, bare = _coco(views, n_patients)
    auc = resampled(lambda: roc_statistic(units_of(views, "case", plain), with_band=True))
    froc = [resampled(partial(froc_of, criterion)) for criterion in HIT_CRITERIA]
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    n_findings = sum(len(record.findings) for record in records)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    rows = [
        ("all figures but AP, without intervals", f"{whole - ours:.1f} s"),
        ("AP and COCO AP, without intervals", f"{ours:.1f} s"),
        (
            "pycocotools alone (index, load results, evaluate, accumulate; same IoUs, one size)",
            f"{bare:.1f} s",
        ),
        ("AP and COCO AP over pycocotools alone", f"{ours / bare:.2f} times"),
        (f"AUC by case, {n_replicates:,} resamplings", f"{auc:.1f} s"),
        *(
            (f"FROC, hit by {c.name}, {n_replicates:,} resamplings", f"{seconds:.1f} s")
            for c, seconds in zip(HIT_CRITERIA, froc, strict=True)
        ),
        ("AUC and FROC by all three criteria, resampled", f"{auc + sum(froc):.1f} s"),
        ("peak memory of the process, with the data", f"{peak_gib:.2f} GiB"),
    ]
    return [
        "",
        "## Evaluation",
        "",
        f"{n_images:,} images of {n_patients:,} patients, {N_DETECTIONS * n_images:,} detections, "
        f"{n_findings:,} findings, random and in memory; one process, {os.cpu_count()} cores, load "
        f"{load:.1f} at the end. FROC is per finding and per lesion, with false positives over "
        "all, normal and positive images.",
        "",
        "| what | cost |",
        "|---|---|",
        *(f"| {what} | {cost} |" for what, cost in rows),
    ]


def random_set(n_images: int, seed: int = 0) -> tuple[list[ImageRecord], DetectionFile]:
    """A screening set whose detections find most findings; scores of findings are higher."""
    random = np.random.default_rng(seed)
    n_exams = -(-n_images // len(VIEWS))
    n_positive = round(FINDINGS_PER_IMAGE * n_images / 2)
    positive = set(random.permutation(n_exams)[:n_positive].tolist())
    records, images = [], {}
    for number in range(n_images):
        exam, view = divmod(number, len(VIEWS))
        findings: tuple[Finding, ...] = ()
        boxes = _random_boxes(random, N_DETECTIONS)
        scores = random.beta(0.5, 3, N_DETECTIONS)
        if exam in positive and view < 2:
            x1, y1, x2, y2 = (float(side) for side in _random_boxes(random, 1)[0])
            findings = (Finding((x1, y1, x2, y2), "malignant", number + 1, lesion_id="1"),)
            if random.random() < 0.85:
                boxes[0] = np.clip(
                    np.array((x1, y1, x2, y2)) + random.normal(0, 10, 4), 0, _SIDE_PX
                )
                scores[0] = random.beta(3, 2)
        records.append(_record(number, exam, view, findings))
        images[number + 1] = ImageDetections(
            number + 1, boxes, scores, ("malignant",) * N_DETECTIONS
        )
    return records, DetectionFile(images, {1: "malignant"})


def _record(number: int, exam: int, view: int, findings: tuple[Finding, ...]) -> ImageRecord:
    side, position = VIEWS[view]
    return ImageRecord(
        image_id=number + 1,
        file_name=f"{number}.png",
        path=Path(f"{number}.png"),
        height=int(_SIDE_PX),
        width=int(_SIDE_PX),
        patient_id=f"patient-{exam}",
        exam_id=f"exam-{exam}",
        supervision=Supervision.BOXES if findings else Supervision.NORMAL,
        laterality=side,
        view_position=position,
        findings=findings,
    )


def _random_boxes(random: np.random.Generator, n: int) -> Any:
    corner = random.uniform(0, _SIDE_PX - 300, (n, 2))
    return np.concatenate([corner, corner + random.uniform(60, 300, (n, 2))], axis=1)


def _coco(views: Sequence[View], n_patients: int) -> tuple[float, float]:
    """Seconds of our AP and of pycocotools alone: medians, in turn."""
    every_patient_once = np.ones((1, n_patients))

    def ours() -> None:
        ap_statistic(coco_matches(views, COCO_IOUS), n_patients, len(views), 0.5).compute(
            every_patient_once
        )

    truth, found = (coco.dataset for coco in coco_objects(views))

    def bare() -> None:
        run_bare(truth, found["annotations"])

    times = [(_seconds(ours), _seconds(bare)) for _ in range(_N_COCO_RUNS)]
    first, second = zip(*times, strict=True)
    return statistics.median(first), statistics.median(second)


def run_bare(truth: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """What a user of pycocotools runs once the files are read, at the same settings."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
