"""From a record to a sample: values, targets, normality, and the same result every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from simfrcnn.errors import DataError
from simfrcnn.records import Finding, ImageRecord, Supervision
from simfrcnn.settings import AugmentationSettings, InputSettings
from simfrcnn.structures import Sample
from simfrcnn.training.loading import RecordDataset, load_sample
from support.data_examples import make_finding, make_record, write_dicom

STRETCH = InputSettings((50, 40), crop_to_breast=False, keep_aspect=False)
CROP = InputSettings((64, 64), crop_to_breast=True, keep_aspect=True)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    pixels = np.zeros((100, 80), dtype=np.uint8)
    pixels[20:80, 0:40] = 150
    pixels[40:60, 10:20] = 250
    cv2.imwrite(str(tmp_path / "film.png"), pixels)
    return tmp_path / "film.png"


def training_sample(
    film: Path, *findings: Finding, settings: InputSettings = STRETCH, **facts: Any
) -> Sample:
    return load_sample(
        make_record(1, *findings, path=film, **facts),
        input_settings=settings,
        classes=("malignant", "suspected"),
        training=True,
    )


def test_image_boxes_and_labels(film: Path) -> None:
    sample = training_sample(
        film, make_finding((10, 40, 20, 60)), make_finding((0, 0, 80, 100), "suspected", 2)
    )
    assert sample.image.shape == (3, 50, 40)
    assert sample.image.dtype == torch.float32
    assert sample.image.is_contiguous()
    assert (sample.image[0] == sample.image[1]).all()
    assert (sample.image[0] == sample.image[2]).all()
    assert (sample.image[:, 20:30, 5:10] == 250).all()
    assert sample.targets is not None
    assert sample.targets.boxes.tolist() == [[5, 20, 10, 30], [0, 0, 40, 50]]
    assert sample.targets.boxes.dtype == torch.float32
    assert sample.targets.labels.tolist() == [1, 2]
    assert not sample.targets.is_normal


def test_without_a_box_of_the_trained_classes_the_image_is_normal(film: Path) -> None:
    for sample in (
        training_sample(film, supervision=Supervision.NORMAL),
        training_sample(film, make_finding(category="benign")),
    ):
        assert sample.targets is not None
        assert sample.targets.is_normal
        assert sample.targets.boxes.shape == (0, 4)
        assert sample.targets.labels.shape == (0,)


def test_a_normal_image_with_a_pseudo_box_is_an_ordinary_boxed_one(film: Path) -> None:
    sample = training_sample(
        film, make_finding(category="suspected"), supervision=Supervision.NORMAL
    )
    assert sample.targets is not None
    assert not sample.targets.is_normal
    assert sample.targets.labels.tolist() == [2]


def test_a_crowd_box_is_not_trained_but_no_normal_either(film: Path) -> None:
    sample = training_sample(film, make_finding(iscrowd=True))
    assert sample.targets is not None
    assert len(sample.targets.boxes) == 0
    assert not sample.targets.is_normal


def test_a_crowd_box_of_another_class_is_no_normal_for_a_classifier_either(film: Path) -> None:
    """Or replay would look for an image that it does not draw from."""
    record = make_record(
        1, make_finding(category="benign", iscrowd=True), path=film, supervision=Supervision.BOXES
    )
    sample = load_sample(
        record,
        input_settings=STRETCH,
        classes=("malignant", "benign"),
        target_classes=("malignant",),
        training=True,
    )
    assert record.is_known_normal(("malignant",))
    assert sample.targets is not None
    assert not sample.targets.is_normal


def test_findings_steer_the_crop_in_training_only(film: Path) -> None:
    outside = make_finding((70, 5, 78, 12))
    trained = training_sample(film, outside, settings=CROP)
    assert trained.targets is not None
    back = trained.frame.to_original(trained.targets.boxes)
    torch.testing.assert_close(back, torch.tensor([[70.0, 5, 78, 12]]), atol=1e-3, rtol=0)
    with_box = RecordDataset([make_record(1, outside, path=film)], CROP)[0]
    without = RecordDataset([make_record(1, path=film)], CROP)[0]
    assert torch.equal(with_box.image, without.image)
    assert with_box.frame == without.frame
    assert with_box.targets is None


def test_flips_follow_the_generator_and_the_boxes_follow_the_flips(film: Path) -> None:
    record = make_record(1, make_finding((10, 40, 20, 60)), path=film)

    def load(seed: int) -> Sample:
        return load_sample(
            record,
            input_settings=CROP,
            classes=("malignant",),
            training=True,
            rng=np.random.default_rng(seed),
            augmentation=AugmentationSettings(),
        )

    seen = set()
    for seed in range(12):
        sample, again = load(seed), load(seed)
        assert torch.equal(sample.image, again.image)
        assert sample.targets is not None
        x1, y1, x2, y2 = (round(v) for v in sample.targets.boxes[0].tolist())
        assert sample.image[0, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].min() > 240
        seen.add((sample.frame.scale_x > 0, sample.frame.scale_y > 0))
    assert len(seen) == 4


def test_augmentation_needs_a_generator(film: Path) -> None:
    with pytest.raises(ValueError, match="needs an rng"):
        load_sample(
            make_record(1, path=film),
            input_settings=CROP,
            classes=("malignant",),
            training=True,
            augmentation=AugmentationSettings(),
        )


def test_the_dataset_goes_through_a_data_loader(tmp_path: Path) -> None:
    records: list[ImageRecord] = []
    for number in range(3):
        stored = np.full((100, 80), 100, dtype=np.uint16)
        stored[20:60, :30] = 1000 + number
        path = write_dicom(tmp_path / f"{number}.dcm", stored)
        records.append(make_record(number, path=path))
    loader = torch.utils.data.DataLoader(RecordDataset(records, CROP), 2, collate_fn=list)
    samples = [sample for batch in loader for sample in batch]
    assert [sample.record.image_id for sample in samples] == [0, 1, 2]
    assert all(sample.image.max() == 255 for sample in samples)


def test_errors_reach_the_caller(film: Path) -> None:
    wrong_size = make_record(1, path=film, height=99)
    with pytest.raises(DataError, match=r"film\.png.*100 x 80"):
        RecordDataset([wrong_size], CROP)[0]
