"""Images with a label and no box, and a tiny set that holds some."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from simfrcnn.data.coco import read_coco, write_coco
from simfrcnn.engines.common import labelled as common
from simfrcnn.records import Supervision
from simfrcnn.sampling.regions import Bags
from simfrcnn.structures import ImageTargets, Sample
from support.examples import positives

LABELS_ON = (
    *("DATASETS.LABELS_PER_ITEM", 1, "SOLVER.IMS_PER_BATCH", 3),
    *("MODEL.SIMFRCNN.LABELS.START", 1),
)


def labelled(n: int = 1, *, weight: float = 1.0, bag: int | None = None) -> list[Sample]:
    """Images with a bright square, of which the label alone is known."""
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), False
    return [
        dataclasses.replace(sample, targets=ImageTargets(*nothing, 1, weight, bag))
        for sample in positives(n + 2)[2:]
    ]


def unknown(n: int = 1) -> list[Sample]:
    """Images with a bright square, of which nothing is known."""
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), False
    return [
        dataclasses.replace(
            sample,
            targets=ImageTargets(*nothing, is_unknown=True),
            record=dataclasses.replace(
                sample.record, supervision=Supervision.UNLABELLED, pathology=None
            ),
        )
        for sample in positives(n + 4)[4:]
    ]


def learn_from_all_regions(engine: Any, monkeypatch: pytest.MonkeyPatch, weight: float) -> None:
    """From now on ``loss_label`` is that of the likeliest region of each image, with all regions in
    the graph: what choosing one without gradient and learning from it alone must equal.
    """

    def everything(
        _choice: common.Choice, _bags: Bags, _logits: Tensor, boxes: Sequence[Tensor]
    ) -> list[Tensor]:
        return [torch.arange(len(own)) for own in boxes]

    def of_the_likeliest(class_logits: Tensor, image_index: Tensor, bags: Bags) -> Tensor:
        costs = []
        for image in bags.images:
            own = class_logits[image_index == image].float().log_softmax(dim=1)[:, 1]
            costs.append(-own.max())
        return weight * torch.stack(costs).mean()

    monkeypatch.setattr(common.Choice, "of", everything)
    module = f"simfrcnn.engines.{engine.NAME}.roi_heads"
    monkeypatch.setattr(f"{module}.loss_of_bags", of_the_likeliest)


def label_two_images(path: Path) -> None:
    """Two positive images of the tiny set lose their boxes and keep a label."""
    annotated = read_coco(path)
    records = [
        dataclasses.replace(
            record, supervision=Supervision.IMAGE_LABEL, findings=(), labels={"malignant": True}
        )
        if record.image_id in (2, 3)
        else record
        for record in annotated.records
    ]
    write_coco(path, records, annotated.categories, {})
