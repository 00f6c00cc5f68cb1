"""The loss of masks: of which regions it is the mean, of which class, and against which grid."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from simfrcnn.engines.contract import MASK_KEY
from simfrcnn.outlines import rle_of
from support.examples import positives, record, sample_of, seeded_model
from support.outlined import ellipse_in, mask_config, mask_parameters, outlined, outlined_positives

# The true boxes are the only foreground: no proposal overlaps one by so much.
TRUE_BOXES = ("MODEL.ROI_HEADS.IOU_THRESHOLDS", "[0.999]")
TWO_CLASSES = ("DATASETS.CLASSES", "[malignant,benign]", "MODEL.ROI_HEADS.NUM_CLASSES", "2")
FIRST, SECOND = 1, 2
"""Labels of the classes; 0 is background."""
SIZE = 64


def loss_of(engine, model, samples):
    torch.manual_seed(7)
    return engine.training_losses(model, samples)[MASK_KEY].item()


def with_constant_logits(model, *logits):
    """Masks that are the same everywhere: a logit a class; where background has one, it is -9."""
    with torch.no_grad():
        for parameter in mask_parameters(model).values():
            parameter.zero_()
        bias = [p for name, p in mask_parameters(model).items() if name.endswith("bias")][-1]
        bias.copy_(torch.tensor([-9.0] * (len(bias) - len(logits)) + list(logits)))
    return model


def cost_of_constant(logit, sample, place=0):
    """Cross entropy of a constant logit in a true box: by how many of its pixels are inside."""
    x1, y1, x2, y2 = sample.targets.boxes[place].tolist()
    share = rle_of(sample.targets.outlines[place], SIZE, SIZE).area / ((x2 - x1) * (y2 - y1))
    logit = torch.tensor(logit)
    return float(functional.softplus(-logit) * share + functional.softplus(logit) * (1 - share))


def of_class(sample, *labels):
    targets = dataclasses.replace(sample.targets, labels=torch.tensor(labels))
    return dataclasses.replace(sample, targets=targets)


def half_outlined():
    """An image with two findings; only the second is outlined."""
    boxes = [(4.0, 6.0, 26.0, 30.0), (34.0, 20.0, 60.0, 58.0)]
    sample = sample_of(record(9, boxes=boxes, size_px=SIZE))
    outlines = ((), ellipse_in(boxes[1]))
    return dataclasses.replace(
        sample, targets=dataclasses.replace(sample.targets, outlines=outlines)
    )


def test_an_image_without_outlines_changes_nothing_beside_one_with(engine, heads):
    """Selected away, not counted: the mean is over the regions that have an outline."""
    model = with_constant_logits(seeded_model(engine, mask_config(engine, heads, *TRUE_BOXES)), 1.3)
    with_outline, without = outlined_positives(2)[0], positives(2)[1]
    alone = loss_of(engine, model, [with_outline])
    assert alone == pytest.approx(cost_of_constant(1.3, with_outline), abs=0.05)
    # As an empty mask the other would cost 1.54, and the mean be 1.03 in place of .52.
    assert loss_of(engine, model, [with_outline, without]) == pytest.approx(alone, abs=1e-6)
    assert loss_of(engine, model, [without, with_outline]) == pytest.approx(alone, abs=1e-6)
    assert loss_of(engine, model, [without]) == 0


def test_a_finding_without_an_outline_changes_nothing_beside_one_with(engine, heads):
    model = with_constant_logits(seeded_model(engine, mask_config(engine, heads, *TRUE_BOXES)), 1.3)
    sample = half_outlined()
    expected = cost_of_constant(1.3, sample, place=1)
    assert loss_of(engine, model, [sample]) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("logit", [1.3, -0.7])
def test_the_loss_is_the_cross_entropy_of_the_outline_in_the_region(engine, logit):
    """An independent reckoning: constant logits, and outlines by pixel counts."""
    cfg = mask_config(engine, "fpn", *TRUE_BOXES)
    model = with_constant_logits(seeded_model(engine, cfg), logit)
    (sample,) = outlined_positives(1)
    expected = cost_of_constant(logit, sample)
    assert loss_of(engine, model, [sample]) == pytest.approx(expected, abs=0.05)


def test_of_two_classes_the_logits_of_the_true_one_count(engine, heads):
    cfg = mask_config(engine, heads, *TRUE_BOXES, *TWO_CLASSES)
    logits = {FIRST: 1.3, SECOND: -0.7}
    model = with_constant_logits(seeded_model(engine, cfg), *logits.values())
    first, second = (
        of_class(sample, label) for sample, label in zip(outlined_positives(2), logits, strict=True)
    )
    costs = [cost_of_constant(1.3, first), cost_of_constant(-0.7, second)]
    assert costs == pytest.approx([0.52, 0.95], abs=0.03)  # no one's cost is the other's
    assert loss_of(engine, model, [first]) == pytest.approx(costs[0], abs=0.05)
    assert loss_of(engine, model, [second]) == pytest.approx(costs[1], abs=0.05)
    thrice = [first, second, of_class(outlined_positives(3)[2], SECOND)]
    mean = (costs[0] + 2 * costs[1]) / 3
    assert loss_of(engine, model, thrice) == pytest.approx(mean, abs=0.05)


def captured_logits(engine, model):
    """A list that receives the logits of every pass through the mask head."""
    seen = []
    if engine.NAME == "torchvision":
        predictor = model.roi_heads.mask_predictor
        predictor.register_forward_hook(lambda _module, _given, logits: seen.append(logits))
    else:
        head = model.roi_heads.mask_head
        layers = head.layers
        head.layers = lambda x: seen.append(layers(x)) or seen[-1]
    return seen


def of_library(engine, logits, samples):
    """The library's own loss of masks, on true boxes that have an outline."""
    kept = [
        (s.targets, [place for place, outline in enumerate(s.targets.outlines) if outline])
        for s in samples
    ]
    if engine.NAME == "torchvision":
        from torchvision.models.detection.roi_heads import maskrcnn_loss

        masks = [
            torch.stack(
                [
                    torch.from_numpy(rle_of(t.outlines[p], SIZE, SIZE).to_array()).float()
                    for p in places
                ]
            )
            for t, places in kept
        ]
        boxes, labels = [t.boxes[p] for t, p in kept], [t.labels[p] for t, p in kept]
        matched = [torch.arange(len(places)) for _, places in kept]
        return maskrcnn_loss(logits, boxes, masks, labels, matched).item()
    from detectron2.modeling.roi_heads.mask_head import mask_rcnn_loss
    from detectron2.structures import Boxes, Instances, PolygonMasks
    from detectron2.utils.events import EventStorage

    instances = [
        Instances(
            (SIZE, SIZE),
            proposal_boxes=Boxes(t.boxes[places]),
            gt_classes=t.labels[places] - 1,
            gt_masks=PolygonMasks(
                [
                    [[side for point in ring for side in point] for ring in t.outlines[place]]
                    for place in places
                ]
            ),
        )
        for t, places in kept
    ]
    with EventStorage():
        return mask_rcnn_loss(logits, instances).item()


def test_the_loss_is_the_library_s_own_on_the_regions_with_an_outline(engine, heads):
    cfg = mask_config(engine, heads, *TRUE_BOXES, *TWO_CLASSES)
    model = seeded_model(engine, cfg)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in mask_parameters(model).values():
            parameter.normal_(generator=generator, std=0.3)
    known = [
        of_class(outlined_positives(1)[0], SECOND),
        of_class(half_outlined(), SECOND, FIRST),
        of_class(outlined(positives(3)[2]), FIRST),
    ]
    seen = captured_logits(engine, model)
    loss = loss_of(engine, model, [known[0], positives(2)[1], *known[1:]])
    (logits,) = seen
    assert len(logits) == 3
    assert logits.std() > 0.1  # not constant: grids, classes and regions must fit each other
    assert loss == pytest.approx(of_library(engine, logits, known), abs=1e-6)
