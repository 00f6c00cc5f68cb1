"""A classifier's checkpoint as the start of a detector: bit for bit, or refused by name."""

from __future__ import annotations

import pytest
import torch

from simfrcnn.engines.common.checkpoints import Identity, save_checkpoint
from simfrcnn.errors import CheckpointError
from support.classifier_examples import classifier_config, resnet_classifier
from support.examples import initialised, resnet_config, seeded_model, smoke_config

TIMM_C4 = (
    *("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "resnet18"),
    *("MODEL.RESNETS.NORM", "GN"),
)
FROZEN = ("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.WEIGHTS", "given")
# Backbone -> the classifier's config and the detector's.
BACKBONES = {
    "resnet c4": (resnet_classifier, lambda engine: resnet_config(engine, "c4")),
    "resnet fpn": (resnet_classifier, lambda engine: resnet_config(engine, "fpn")),
    "timm c4": (
        lambda engine: resnet_classifier(engine, *TIMM_C4),
        lambda engine: resnet_config(engine, "c4", *TIMM_C4),
    ),
    "timm fpn": (classifier_config, lambda engine: smoke_config(engine, "fpn")),
}


def saved_classifier(engine, cfg, path):
    torch.manual_seed(7)
    model = engine.build_model(cfg)
    with torch.no_grad():  # norm layers too: they begin as ones and zeros everywhere
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    save_checkpoint(path, model, Identity.of(engine.NAME, cfg))
    return model


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_detector_takes_the_backbone_bit_for_bit_and_nothing_else(engine, backbone, tmp_path):
    of_classifier, of_detector = BACKBONES[backbone]
    path = tmp_path / "patches.pth"
    classifier = saved_classifier(engine, of_classifier(engine), path)
    fresh = seeded_model(engine, of_detector(engine)).state_dict()
    started = initialised(engine, of_detector(engine), path).state_dict()
    changed = [name for name in fresh if not torch.equal(fresh[name], started[name])]
    given = list(classifier.backbone.state_dict().values())
    for name in changed:
        assert any(t.shape == started[name].shape and torch.equal(t, started[name]) for t in given)
    # Every tensor of the classifier's backbone is in the detector, that of res5 too.
    assert len(changed) == len(list(classifier.backbone.parameters()))
    assert not any(part in name for name in changed for part in ("rpn", "proposal", "predictor"))
    if backbone.endswith("c4"):
        assert any(name.startswith("roi_heads.") for name in changed)


def test_another_norm_or_depth_is_refused_by_its_key(engine, tmp_path):
    path = tmp_path / "patches.pth"
    cfg = resnet_classifier(engine, "MODEL.RESNETS.NORM", "BN")
    save_checkpoint(path, seeded_model(engine, cfg), Identity.of(engine.NAME, cfg))
    with pytest.raises(CheckpointError, match=r"patches\.pth is a SimClassifier with MODEL\.RES"):
        initialised(engine, resnet_config(engine, "fpn"), path)
    frozen = resnet_config(engine, "fpn", *FROZEN)
    initialised(engine, frozen, path)  # the same statistics, no longer updated
    deeper = resnet_config(engine, "fpn", *FROZEN, "MODEL.RESNETS.DEPTH", "34")
    with pytest.raises(CheckpointError, match=r"MODEL\.RESNETS\.DEPTH '18'"):
        initialised(engine, deeper, path)


def test_a_detector_does_not_start_a_classifier(engine, tmp_path):
    cfg = resnet_config(engine, "fpn")
    path = tmp_path / "detector.pth"
    save_checkpoint(path, seeded_model(engine, cfg), Identity.of(engine.NAME, cfg))
    with pytest.raises(CheckpointError, match="SimClassifier"):
        initialised(engine, resnet_classifier(engine), path)


def test_a_classifier_starts_from_one_that_pools_in_another_way_and_from_no_other(engine, tmp_path):
    path = tmp_path / "patches.pth"
    of_patches = resnet_classifier(engine, "MODEL.CLASSIFIER.POOL", "avg")
    given = saved_classifier(engine, of_patches, path).state_dict()
    model = initialised(engine, resnet_classifier(engine), path)
    assert model.settings.pool == "top"
    assert all(torch.equal(given[name], value) for name, value in model.state_dict().items())
    with pytest.raises(CheckpointError, match=r"MODEL\.CLASSIFIER\.POOL is avg in the file, top"):
        engine.load_weights(model, path)  # to judge images, it must be the same
    with pytest.raises(CheckpointError, match=r"MODEL\.CLASSIFIER\.HEAD is plain in the file, psp"):
        initialised(engine, resnet_classifier(engine, "MODEL.CLASSIFIER.HEAD", "psp"), path)
