"""Given one list of hits, our figures equal those of picai_eval, the code of a public challenge.

Its ``Metrics`` takes (is a lesion, score, overlap) of each candidate of a case, with score 0 for a
lesion that was missed. Here a detection lies on a finding of its own or on none, so that this list
is known without any matching. Needs ``pip install simfrcnn[picai]``.
"""

from __future__ import annotations

import numpy as np
import pytest

from simfrcnn.artifacts import DetectionFile
from simfrcnn.evaluation import Report, evaluate
from simfrcnn.evaluation.froc import RATES
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import detection_file, finding, found, image

picai_eval = pytest.importorskip(
    "picai_eval", reason="picai_eval is not installed: pip install simfrcnn[picai]"
)

NO_INTERVALS = EvaluationSettings(bootstrap_replicates=0)
PLACES = [(x, y, x + 20, y + 20) for x in (0, 30, 60) for y in (0, 30, 60)]


def random_hits(
    seed: int, *, n_levels: int | None, part_missed: float
) -> tuple[list[ImageRecord], DetectionFile, dict[int, list[tuple[int, float, float]]]]:
    """A test set of one image a case, and its list of hits in picai_eval's form."""
    random = np.random.default_rng(seed)
    records, images, hits = [], [], {}
    for image_id in range(1, 61):
        n_findings = int(random.integers(1, 4)) if image_id % 3 == 0 else 0
        places = [PLACES[i] for i in random.permutation(len(PLACES))]
        detections, hits[image_id] = [], []

        def score(shift: float) -> float:
            value = float(random.beta(4 + 10 * shift, 5))
            return value if n_levels is None else max(1, round(value * n_levels)) / n_levels

        for place in places[:n_findings]:
            if random.random() < part_missed:
                hits[image_id].append((1, 0.0, 0.0))
                continue
            detections.append((place, score(0.2)))
            hits[image_id].append((1, detections[-1][1], 1.0))
        for place in places[n_findings : n_findings + int(random.integers(0, 4))]:
            detections.append((place, score(0.0)))
            hits[image_id].append((0, detections[-1][1], 0.0))
        boxes = [finding(p, 10 * image_id + i) for i, p in enumerate(places[:n_findings])]
        records.append(image(image_id, f"P{image_id:03d}", *boxes))
        images.append(found(image_id, *detections))
    return records, detection_file(*images), hits


def sensitivities(report: Report) -> dict[float, float]:
    return {
        rate: report.figures[f"froc/iou_0.5/all/sensitivity_at_{rate:g}"].value for rate in RATES
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_levels", [None, 5])
def test_auroc_froc_and_average_precision_where_a_lesion_is_missed(
    seed: int, n_levels: int | None
) -> None:
    records, detections, hits = random_hits(seed, n_levels=n_levels, part_missed=0.2)
    report = evaluate(records, detections, NO_INTERVALS)
    theirs = picai_eval.Metrics(hits)
    assert theirs.num_lesions == report.counts["findings"]
    assert report.figures["case/auc"].value == pytest.approx(theirs.auroc, abs=1e-12)
    for rate, sensitivity in sensitivities(report).items():
        assert sensitivity == pytest.approx(theirs.lesion_TPR_at_FPR(rate), abs=1e-6), rate
    # All of their points but the last, which they put at infinity, lie on our curve.
    points = zip(theirs.lesion_FPR, theirs.lesion_TPR, strict=True)
    at = dict(zip(theirs.thresholds, points, strict=True))
    curve = report.froc["iou_0.5/all"]
    for score, x, y in zip(curve.scores, curve.x, curve.y, strict=True):
        assert (x, y) == pytest.approx(at[score], abs=1e-6)
    # Average precision as they define it, the area under the steps of the raw curve. COCO's, which
    # we report, differs: it takes the best precision from each recall on, at 101 recalls, and equal
    # scores one by one, so that the curves are the same only where all scores differ.
    if n_levels is None:
        curve = report.precision_recall["0.5"]
        area = float(np.diff([0.0, *curve.x]) @ np.array(curve.y))
        assert area == pytest.approx(theirs.AP, abs=1e-12)
        assert report.figures["finding/ap50"].value > area


@pytest.mark.parametrize("seed", range(3))
def test_where_every_lesion_is_found_their_froc_loses_its_last_point(seed: int) -> None:
    """Their lowest threshold is meant to be the 0 of the missed lesions, and is overwritten.

    Without a missed lesion it is a real one: the lesion of the lowest score of all is lost.
    """
    records, detections, hits = random_hits(seed, n_levels=None, part_missed=0.0)
    lowest = min(score for each in hits.values() for _, score, _ in each)
    # A lesion with the lowest score, in a case of its own.
    records.append(image(99, "P099", finding(PLACES[0], 999)))
    images = [*detections.images.values(), found(99, (PLACES[0], lowest / 2))]
    hits[99] = [(1, lowest / 2, 1.0)]
    report = evaluate(records, detection_file(*images), NO_INTERVALS)
    theirs = picai_eval.Metrics(hits)
    n_lesions = theirs.num_lesions
    assert sensitivities(report)[8.0] == 1.0
    assert theirs.lesion_TPR_at_FPR(8.0) == pytest.approx(1 - 1 / n_lesions)
    # All else agrees.
    assert report.figures["case/auc"].value == pytest.approx(theirs.auroc, abs=1e-12)
    before = list(zip(theirs.thresholds, theirs.lesion_TPR, strict=True))[:-1]
    ours = dict(zip(report.froc["iou_0.5/all"].scores, report.froc["iou_0.5/all"].y, strict=True))
    both = [(y, ours[score]) for score, y in before if score in ours]
    assert len(both) == n_lesions - 1
    assert [y for y, _ in both] == pytest.approx([y for _, y in both], abs=1e-6)
    # Their average precision has all lesions: it does not take that way.
    curve = report.precision_recall["0.5"]
    assert float(np.diff([0.0, *curve.x]) @ np.array(curve.y)) == pytest.approx(theirs.AP)
