"""Mask heads on both engines: what they learn from, what they leave alone, and what they find."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from simfrcnn.engines.contract import LOSS_KEYS, MASK_KEY, loss_keys
from simfrcnn.errors import ConfigError
from support.examples import normals, positives, seeded_model, smoke_config
from support.outlined import (
    mask_config,
    mask_parameters,
    outlined,
    outlined_positives,
    without_masks,
)


def losses_of(engine, model, samples):
    torch.manual_seed(7)
    return engine.training_losses(model, samples)


def test_the_keys_follow_from_the_config(engine):
    assert loss_keys(smoke_config(engine, "fpn")) == LOSS_KEYS
    assert loss_keys(mask_config(engine, "fpn")) == (*LOSS_KEYS, MASK_KEY)


def test_the_other_losses_are_those_without_a_mask_head(engine, heads):
    plain = seeded_model(engine, smoke_config(engine, heads))
    masked = seeded_model(engine, mask_config(engine, heads), seed=1)
    masked.load_state_dict({**masked.state_dict(), **plain.state_dict()})
    batch = [*outlined_positives(2), *normals(2)]
    of_plain, of_masked = (losses_of(engine, model, batch) for model in (plain, masked))
    assert list(of_masked) == [*of_plain, MASK_KEY]
    for key, value in of_plain.items():
        assert of_masked[key].item() == pytest.approx(value.item(), abs=1e-6), key
    assert of_masked[MASK_KEY].item() == pytest.approx(0.6931, abs=0.03)  # logits near 0


def test_findings_without_an_outline_leave_loss_and_gradient_exactly_0(engine, heads):
    model = seeded_model(engine, mask_config(engine, heads))
    losses = losses_of(engine, model, [*positives(2), *normals(2)])
    assert losses[MASK_KEY].item() == 0
    losses[MASK_KEY].backward()
    gradients = {name: p.grad for name, p in mask_parameters(model).items()}
    assert gradients
    for name, gradient in gradients.items():
        assert gradient is not None, name  # connected: every process waits for every gradient
        assert gradient.abs().sum() == 0, name


def test_the_loss_falls_and_the_masks_come_to_fit(engine):
    """A head alone learns an ellipse from few steps; the detector below stays as it is."""
    model = seeded_model(engine, mask_config(engine, "fpn"))
    sample = outlined_positives(1)[0]
    of_head = list(mask_parameters(model).values())
    optimizer = torch.optim.Adam(of_head, lr=0.01)
    first = last = None
    for _ in range(12):
        loss = losses_of(engine, model, [sample])[MASK_KEY]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = first or loss.item(), loss.item()
    assert last < 0.75 * first


def test_detections_carry_masks_in_original_pixels_from_the_threshold_on(engine, heads):
    cfg = mask_config(engine, heads, *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"))
    model = seeded_model(engine, cfg)
    sample = positives(1)[0]
    model.mask_min_score = 0.0
    (found,) = engine.detect(model, [sample])
    assert len(found.scores)
    assert len(found.masks) == len(found.boxes)
    for mask, box in zip(found.masks, found.boxes.tolist(), strict=True):
        assert (mask.height, mask.width) == (sample.record.height, sample.record.width)
        if mask.area:
            x1, y1, x2, y2 = mask.box
            assert x1 >= box[0] - 1
            assert y1 >= box[1] - 1
            assert x2 <= box[2] + 1
            assert y2 <= box[3] + 1
    model.mask_min_score = float(found.scores.median())
    (fewer,) = engine.detect(model, [sample])
    known = [mask is not None for mask in fewer.masks]
    assert known == (fewer.scores >= model.mask_min_score).tolist()


def test_masks_follow_flips_and_stretch(engine):
    """The same input, said to be a mirrored and stretched view of a stored image."""
    model = seeded_model(engine, mask_config(engine, "fpn"))
    model.mask_min_score = 0.0
    with torch.no_grad():
        for parameter in mask_parameters(model).values():
            parameter.normal_(generator=torch.Generator().manual_seed(3), std=0.3)
    sample = positives(1, 128)[0]
    (plain,) = engine.detect(model, [sample])
    turned = dataclasses.replace(
        sample.frame, scale_x=-0.5, offset_x=128.0, original_width=256, original_height=128
    )
    (mirrored,) = engine.detect(model, [dataclasses.replace(sample, frame=turned)])
    stretched = [torch.from_numpy(m.to_array()).repeat_interleave(2, dim=1) for m in plain.masks]
    seen = [torch.from_numpy(mask.to_array()) for mask in mirrored.masks]
    turned_too = pooled_iou([mask.flip(1) for mask in stretched], seen)
    assert turned_too > 0.7  # grids of noise: their edges fall between pixels
    assert pooled_iou(stretched, seen) < turned_too / 2


def pooled_iou(ours, theirs):
    """Shared pixels of all pairs of masks over those in either."""
    pairs = list(zip(ours, theirs, strict=True))
    shared = sum(int((one & other).sum()) for one, other in pairs)
    return shared / sum(int((one | other).sum()) for one, other in pairs)


def test_a_model_without_a_mask_head_finds_no_masks(engine):
    model = seeded_model(engine, smoke_config(engine, "fpn"))
    assert engine.detect(model, positives(1))[0].masks is None


def test_a_class_agnostic_head_says_one_thing_of_all_classes(engine):
    cfg = mask_config(engine, "fpn", *("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "True"))
    model = seeded_model(engine, cfg)
    assert losses_of(engine, model, outlined_positives(1))[MASK_KEY].item() > 0.5


def test_a_head_that_does_not_know_missing_outlines_is_refused(engine):
    with pytest.raises(ConfigError, match=r"ROI_MASK_HEAD\.NAME.*SimMaskHead"):
        smoke_config(engine, "fpn", *("MODEL.MASK_ON", "True"))


def test_pooler_keys_that_a_c4_head_does_not_read_are_refused(engine):
    with pytest.raises(ConfigError, match=r"ROI_MASK_HEAD\.POOLER_RESOLUTION is 7"):
        mask_config(engine, "c4", *("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", "7"))


def test_outlines_stay_with_their_boxes():
    sample = outlined_positives(1)[0]
    with pytest.raises(ValueError, match="2 outlines for 1 boxes"):
        dataclasses.replace(sample.targets, outlines=sample.targets.outlines * 2)
    assert outlined(sample).targets.outlines == sample.targets.outlines


def test_weights_fit_by_name_alone(engine):
    model = seeded_model(engine, mask_config(engine, "fpn"))
    plain = seeded_model(engine, smoke_config(engine, "fpn"))
    assert without_masks(model).keys() == plain.state_dict().keys()
