"""Detection in flips: joined by hand, the same however an image hangs, and said in the results."""

import numpy as np
import pytest
import torch

import simfrcnn
from simfrcnn.artifacts import read_detections
from simfrcnn.config import FLIPS
from simfrcnn.data.coco import read_coco
from simfrcnn.engines.common import flips
from simfrcnn.engines.common.flips import flipped, in_flips, joined
from simfrcnn.structures import Detections
from simfrcnn.workflows.pseudo_label import detect as detect_for_boxes
from simfrcnn.workflows.testing import judge_model
from support.examples import positives, seeded_model, smoke_config, write_tiny_set
from support.native_examples import with_native
from support.untrained import write_untrained

SECOND_LOOK = ("MODEL.SECOND_LOOK.ENABLED", True, "MODEL.SECOND_LOOK.SOURCE", "input")
NATIVE = ("MODEL.SECOND_LOOK.ENABLED", True, "MODEL.SECOND_LOOK.SOURCE", "native")
FEW = (
    *("MODEL.RPN.POST_NMS_TOPK_TEST", 4, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    *("TEST.DETECTIONS_PER_IMAGE", 3),
)


def found(boxes, scores, labels=None, **more):
    kinds = [1] * len(scores) if labels is None else labels
    return Detections(
        7,
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(kinds, dtype=torch.int64),
        **{name: torch.tensor(values) for name, values in more.items()},
    )


class TestJoined:
    def test_boxes_that_lie_on_each_other_are_one_at_their_mean_place(self):
        one = found([(0, 0, 10, 10), (50, 50, 60, 60)], [0.9, 0.4])
        other = found([(2, 0, 12, 10)], [0.3])
        both = joined([one, other], min_score=0.0, n_most=10)
        assert both.image_id == 7
        assert both.boxes.tolist() == [[0.5, 0, 10.5, 10], [50, 50, 60, 60]]
        assert both.scores.tolist() == pytest.approx([0.6, 0.2])
        assert both.labels.tolist() == [1, 1]
        assert both.first_scores is None
        assert (both.boxes.dtype, both.scores.dtype) == (torch.float32, torch.float32)

    def test_of_a_flip_the_best_score_counts_once_and_all_boxes_for_the_place(self):
        one = found([(0, 0, 10, 10), (0, 0, 10, 8)], [0.8, 0.2])
        both = joined([one, found([], [])], min_score=0.0, n_most=10)
        assert both.scores.tolist() == pytest.approx([0.4])
        assert both.boxes[0].tolist() == pytest.approx([0, 0, 10, 9.6])

    def test_boxes_of_two_classes_stay_two(self):
        one = found([(0, 0, 10, 10), (0, 0, 10, 10)], [0.8, 0.6], [1, 2])
        both = joined([one, one], min_score=0.0, n_most=10)
        assert both.labels.tolist() == [1, 2]
        assert both.scores.tolist() == pytest.approx([0.8, 0.6])

    def test_the_best_are_kept_and_none_below_the_threshold(self):
        one = found([(0, 0, 9, 9), (20, 0, 29, 9), (40, 0, 49, 9)], [0.5, 0.9, 0.3])
        both = joined([one, found([], [])], min_score=0.2, n_most=10)
        assert both.scores.tolist() == pytest.approx([0.45, 0.25])
        assert joined([one, one], min_score=0.2, n_most=1).scores.tolist() == pytest.approx([0.9])

    def test_boxes_without_area_or_score_are_no_trouble(self):
        one = found([(5, 5, 5, 9), (0, 0, 10, 10), (0, 0, 10, 10)], [0.5, 0.0, 0.0])
        both = joined([one, one], min_score=0.0, n_most=10)
        assert both.boxes.tolist() == [[5, 5, 5, 9], [5, 5, 5, 9], [0, 0, 10, 10]]
        assert both.scores.tolist() == pytest.approx([0.25, 0.25, 0.0])
        nothing = joined([found([], []), found([], [])], min_score=0.0, n_most=10)
        assert nothing.boxes.shape == (0, 4)
        assert nothing.scores.shape == nothing.labels.shape == (0,)

    def test_both_scores_of_a_second_look_are_joined(self):
        nan = float("nan")
        one = looked_at([(0, 0, 10, 10)], [0.9], [0.5], [0.75], [[0.0, 0, 20, 20]])
        other = looked_at(
            *([(0, 0, 10, 10), (40, 0, 50, 10)], [0.1, 0.06], [0.1, 0.06]),
            *([nan, nan], [[nan] * 4] * 2),
        )
        for pair in ((one, other), (other, one)):
            both = joined(pair, min_score=0.0, n_most=10)
            assert both.scores.tolist() == pytest.approx([0.5, 0.03])
            assert both.first_scores.tolist() == pytest.approx([0.3, 0.03])
            assert both.second_scores.tolist() == pytest.approx([0.75, nan], nan_ok=True)
            assert both.squares[0].tolist() == [0, 0, 20, 20]
            assert both.squares[1].isnan().all()

    def test_the_square_is_one_that_was_looked_at(self):
        nan = float("nan")
        one = looked_at([(0, 0, 10, 10)], [0.9], [0.9], [nan], [[nan] * 4])
        other = looked_at([(0, 0, 10, 10)], [0.2], [0.5], [0.4], [[1.0, 1, 9, 9]])
        both = joined([one, other], min_score=0.0, n_most=10)
        assert both.second_scores.tolist() == pytest.approx([0.4])
        assert both.squares.tolist() == [[1, 1, 9, 9]]

    def test_the_threshold_is_of_the_detectors_own_score(self):
        """As without flips: what a second look clears stays, with its low score."""
        cleared = looked_at([(0, 0, 10, 10)], [0.03], [0.3], [0.1], [[0.0, 0, 9, 9]])
        assert len(joined([cleared, cleared], min_score=0.25, n_most=10).scores) == 1
        assert len(joined([cleared, cleared], min_score=0.35, n_most=10).scores) == 0


def looked_at(boxes, scores, first, second, squares):
    return found(boxes, scores, first_scores=first, second_scores=second, squares=squares)


@pytest.mark.parametrize("words", [(), SECOND_LOOK, NATIVE], ids=["plain", "input", "native"])
def test_what_is_found_in_all_flips_is_the_same_however_an_image_lies(engine, words):
    cfg = smoke_config(engine, "fpn", *words, *FEW, "TEST.FLIPS", "all")
    model = seeded_model(engine, cfg)
    detect = in_flips(cfg, engine.detect)
    (sample,) = with_native(positives(1))
    (expected,) = detect(model, [sample])
    assert 0 < len(expected.scores) <= 3
    (alone,) = engine.detect(model, [sample])
    (turned,) = engine.detect(model, [flipped(sample, True, False)])
    assert not torch.allclose(alone.boxes, turned.boxes, atol=0.1)
    for flip in FLIPS["all"][1:]:
        (other,) = detect(model, [flipped(sample, *flip)])
        assert torch.allclose(other.boxes, expected.boxes, atol=1e-3)
        assert torch.allclose(other.scores, expected.scores, atol=1e-6)
        assert other.labels.tolist() == expected.labels.tolist()


def test_the_stored_pixels_of_a_box_are_the_same_in_every_flip():
    (sample,) = with_native(positives(1))
    box = torch.tensor([[8.0, 16.0, 24.0, 40.0]])  # as stored, in pixels of the image
    for flip in FLIPS["all"]:
        turned = flipped(sample, *flip)
        stored = turned.native.frame.to_original_unclipped(turned.frame.to_input(box))
        assert torch.allclose(stored, 2 * sample.frame.to_input(box))
        assert torch.equal(turned.native.pixels, sample.native.pixels)


def test_horizontally_is_the_image_and_its_mirror_image(engine):
    cfg = smoke_config(engine, "fpn", *FEW, "TEST.FLIPS", "horizontal")
    model, samples = seeded_model(engine, cfg), positives(2)
    mirrored = [flipped(sample, True, False) for sample in samples]
    assert torch.equal(mirrored[0].image, samples[0].image.flip(-1))
    box = torch.tensor([[8.0, 16.0, 24.0, 40.0]])
    width = samples[0].image.shape[-1]
    (left, top, right, bottom) = samples[0].frame.to_input(box)[0].tolist()
    there = mirrored[0].frame.to_input(box)[0].tolist()
    assert there == pytest.approx([width - right, top, width - left, bottom])
    both = in_flips(cfg, engine.detect)(model, samples)
    pairs = zip(engine.detect(model, samples), engine.detect(model, mirrored), strict=True)
    for one, pair in zip(both, pairs, strict=True):
        by_hand = joined(pair, min_score=0.0, n_most=3)
        assert torch.equal(one.boxes, by_hand.boxes)
        assert torch.equal(one.scores, by_hand.scores)


def test_without_flips_it_is_the_engines_own(engine):
    assert in_flips(smoke_config(engine, "fpn"), engine.detect) is engine.detect


def test_tests_pseudo_labels_and_python_detect_in_flips_and_say_so(
    engine, tmp_path, caplog, monkeypatch
):
    weights = write_untrained(tmp_path / "model.pth", engine=engine.NAME)
    path = write_tiny_set(tmp_path / "data")
    cfg = smoke_config(
        *(engine, "fpn", *FEW, "TEST.FLIPS", "all", "INPUT.MAMMO.SIZE", "[64, 64]"),
        *("DATASETS.FILES", f"[tiny={path}]", "DATASETS.VAL", "[]", "DATASETS.TEST", "[tiny]"),
        *("DATASETS.TRAIN", "[tiny]", "OUTPUT_DIR", tmp_path / "run"),
        *("EVAL.BOOTSTRAP_REPLICATES", 50),
    )
    looked = []

    def counting(sample, *flip):
        looked.append(flip)
        return flipped(sample, *flip)

    monkeypatch.setattr(flips, "flipped", counting)
    annotated = read_coco(path)
    caplog.set_level("INFO")
    judge_model(engine, cfg, weights)
    assert len(looked) == 4 * len(annotated.records)
    assert "TEST.FLIPS is all here, and none in the config that" in caplog.text
    judged = read_detections(tmp_path / "run/inference/tiny/detections.json")
    assert judged.provenance["flips"] == "all"
    assert judged.provenance["detected_with"]["TEST.FLIPS"] == "all"
    assert judged.provenance["detected_with"]["INPUT.MAMMO.SIZE"] == [64, 64]
    assert "are not written into checkpoints, whose own config finds otherwise (" in caplog.text
    looked.clear()
    plain = cfg.clone()
    plain.defrost()
    plain.TEST.FLIPS = "none"
    saved = tmp_path / "found.json"
    detect_for_boxes(engine, plain, weights, annotated, annotated.records, saved)
    assert not looked
    for _ in range(2):  # not taken from those without flips, and then taken again
        detect_for_boxes(engine, cfg, weights, annotated, annotated.records, saved)
        assert len(looked) == 4 * len(annotated.records)
    assert read_detections(saved).provenance["flips"] == "all"
    looked.clear()
    caplog.clear()
    words = ("TEST.FLIPS", "horizontal")
    detector = simfrcnn.load(weights, overrides=words, device="cpu")
    assert "TEST.FLIPS is horizontal here, and none in the config that" in caplog.text
    assert detector.detect(np.eye(64, dtype=np.uint8) * 255).detections
    assert looked == [(False, False), (True, False)]
    assert detector.provenance()["flips"] == "horizontal"
    assert "flips" not in simfrcnn.load(weights, device="cpu").provenance()
