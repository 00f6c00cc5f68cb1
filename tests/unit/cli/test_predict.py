"""What `predict` calls suspicious, and what its pictures show."""

import numpy as np
import torch

from simfrcnn.cli.predict import draw_detections, of_classes
from simfrcnn.structures import Detections

FOUND = Detections(
    image_id=1,
    boxes=torch.tensor([[10.0, 20.0, 30.0, 50.0], [60.0, 60.0, 80.0, 90.0]]),
    scores=torch.tensor([0.9, 0.4]),
    labels=torch.tensor([2, 1]),
)


def test_a_benign_mass_is_not_suspicious_however_sure_the_model_is():
    suspicious = of_classes(FOUND, ("malignant",), ("malignant", "benign"))
    assert suspicious.scores.tolist() == FOUND.scores[1:].tolist()
    assert suspicious.boxes.tolist() == [[60.0, 60.0, 80.0, 90.0]]
    assert suspicious.image_id == 1


def test_no_detection_of_the_class_leaves_none():
    assert len(of_classes(FOUND, ("suspected",), ("malignant", "benign")).scores) == 0


def test_a_frame_is_drawn_from_the_score_on_and_the_image_stays_grey_elsewhere():
    pixels = np.full((120, 100), 77, dtype=np.uint8)
    picture = draw_detections(pixels, FOUND, score_threshold=0.5)
    is_coloured = (picture != 77).any(axis=2)
    assert is_coloured[20:51, 10].all()
    assert is_coloured[50, 10:31].all()
    assert not is_coloured[22:49, 12:29].any()
    assert not is_coloured[52:].any()
    assert (pixels == 77).all()
    assert (draw_detections(pixels, FOUND, 0.95) == 77).all()
