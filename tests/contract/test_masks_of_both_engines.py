"""Both mask heads on the same weights and outlines; and beside what else may be switched on."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from simfrcnn.engines.contract import MASK_KEY, loss_keys
from simfrcnn.structures import ImageTargets
from support.examples import normals, positives, seeded_model
from support.outlined import mask_config, outlined_positives


@pytest.mark.detectron2
@pytest.mark.torchvision
def test_the_losses_agree_on_the_same_weights():
    """They differ in where outlines are rasterised, and in nothing else."""
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    from simfrcnn.engines import load_engine
    from simfrcnn.engines.detectron2.mask_head import outline_fields
    from simfrcnn.engines.torchvision.masks import loss_of_masks, mask_targets

    theirs, ours = load_engine("detectron2"), load_engine("torchvision")
    first = seeded_model(theirs, mask_config(theirs, "fpn")).roi_heads.mask_head
    second = seeded_model(ours, mask_config(ours, "fpn")).roi_heads
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.normal_(generator=generator, std=0.15)
        convolution, head = second.mask_head[0][0], second.mask_predictor
        convolution.weight.copy_(first.mask_fcn1.weight)
        convolution.bias.copy_(first.mask_fcn1.bias)
        head.conv5_mask.weight.copy_(first.deconv.weight)
        head.conv5_mask.bias.copy_(first.deconv.bias)
        for part in ("weight", "bias"):  # torchvision has a row for the background, too
            getattr(head.mask_fcn_logits, part)[1:].copy_(getattr(first.predictor, part))
    targets = outlined_positives(2)[1].targets
    regions = targets.boxes.repeat(6, 1) + torch.randn(6, 4, generator=generator) * 3
    features = torch.randn(6, 64, 14, 14, generator=generator)
    logits = first.layers(features)
    assert torch.allclose(head(second.mask_head(features))[:, 1:], logits, atol=1e-5)
    instances = Instances(
        (64, 64),
        proposal_boxes=Boxes(regions),
        gt_classes=torch.zeros(6, dtype=torch.int64),
        **{name: field[[0] * 6] for name, field in outline_fields(targets).items()},
    )
    with EventStorage():
        of_detectron2 = first(features, [instances])[MASK_KEY]
    known = {"labels": targets.labels, **mask_targets(targets, (64, 64), torch.device("cpu"))}
    matched = torch.zeros(6, dtype=torch.int64)
    of_torchvision = loss_of_masks(head(second.mask_head(features)), [regions], [matched], [known])
    assert of_torchvision.item() == pytest.approx(of_detectron2.item(), abs=0.02)
    assert of_detectron2.item() > 0.3


LABELS = (
    *("DATASETS.LABELS_PER_ITEM", "1", "SOLVER.IMS_PER_BATCH", "6"),
    *("MODEL.SIMFRCNN.RPN_NORMALS", "ordinary", "MODEL.SIMFRCNN.SIMILARITY.LOSS", "none"),
)
TEACHER = ("MODEL.SIMFRCNN.LABELS.TEACHER.ENABLED", "True")
START = ("MODEL.SIMFRCNN.LABELS.TEACHER.START", "0")


def labelled():
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), False
    targets = ImageTargets(*nothing, image_label=1, label_weight=0.5)
    sample = positives(3)[2]
    record = dataclasses.replace(sample.record, labels={"malignant": True}, findings=())
    return dataclasses.replace(sample, targets=targets, record=record)


def test_labelled_and_taught_images_train_no_mask(engine):
    cfg = mask_config(engine, "fpn", *LABELS, *TEACHER, *START)
    model = seeded_model(engine, cfg)
    model.teacher.copy_of(model, 0)
    model.teacher.settings = dataclasses.replace(model.teacher.settings, score=1e-6, agreement=1e-6)
    batch = [positives(1)[0], normals(1)[0], labelled()]
    losses = engine.training_losses(model, batch)
    assert tuple(losses) == loss_keys(cfg)
    assert losses[MASK_KEY].item() == 0
    assert losses["loss_label"].item() > 0
    assert torch.isfinite(losses["loss_teacher"])
    with_outline = engine.training_losses(model, [outlined_positives(1)[0], *batch[1:]])
    assert with_outline[MASK_KEY].item() > 0.5


def test_a_second_look_keeps_the_mask_of_each_box(engine):
    cfg = mask_config(
        engine,
        "fpn",
        *("MODEL.SECOND_LOOK.ENABLED", "True", "MODEL.SECOND_LOOK.SOURCE", "input"),
        *("MODEL.SECOND_LOOK.SIZE", "32", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
    )
    model = seeded_model(engine, cfg)
    model.mask_min_score = 0.0
    sample = positives(1)[0]
    (found,) = engine.detect(model, [sample])
    assert found.second_scores is not None
    assert len(found.masks) == len(found.scores) > 3
    model.second_look, look = None, model.second_look
    (plain,) = engine.detect(model, [sample])
    model.second_look = look
    by_box = {tuple(box): mask for box, mask in zip(plain.boxes.tolist(), plain.masks, strict=True)}
    for box, mask in zip(found.boxes.tolist(), found.masks, strict=True):
        assert by_box[tuple(box)] == mask
