"""The seams of Detectron2, its defaults, and configs that this engine refuses."""

import pytest

from simfrcnn.config import portable_defaults
from simfrcnn.errors import ConfigError, EngineError
from simfrcnn.trees import leaves_of

pytestmark = pytest.mark.detectron2


def test_portable_defaults_are_detectron2s_key_by_key():
    from detectron2.config import get_cfg

    theirs = dict(leaves_of(get_cfg()))
    for key, value in leaves_of(portable_defaults()):
        assert key in theirs, key
        assert value == theirs[key], key
        assert type(value) is type(theirs[key]), key


def test_the_seams_are_those_of_the_installed_detectron2():
    from simfrcnn.engines.detectron2.compatibility import SEAMS, check_seams

    check_seams()
    assert len(SEAMS) > 20


def test_a_missing_or_changed_seam_is_named(monkeypatch):
    from detectron2.modeling.proposal_generator.rpn import RPN

    from simfrcnn.engines.detectron2.compatibility import check_seams

    with monkeypatch.context() as patched:
        patched.setattr(RPN, "losses", lambda self, anchors: {})
        with pytest.raises(EngineError, match=r"RPN\.losses takes \('self', 'anchors'\).*v0\.6"):
            check_seams()
    with monkeypatch.context() as patched:
        patched.delattr(RPN, "label_and_sample_anchors")
        with pytest.raises(EngineError, match=r"RPN\.label_and_sample_anchors is missing"):
            check_seams()


def test_the_parts_are_registered():
    from detectron2.modeling import (
        META_ARCH_REGISTRY,
        PROPOSAL_GENERATOR_REGISTRY,
        ROI_HEADS_REGISTRY,
    )

    import simfrcnn.engines.detectron2 as engine

    assert META_ARCH_REGISTRY.get("SimFasterRCNN") is engine.SimFasterRCNN
    assert PROPOSAL_GENERATOR_REGISTRY.get("TopLikelihoodRPN") is engine.TopLikelihoodRPN
    assert ROI_HEADS_REGISTRY.get("SimRes5ROIHeads") is engine.SimRes5ROIHeads
    assert ROI_HEADS_REGISTRY.get("SimStandardROIHeads") is engine.SimStandardROIHeads


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("DATALOADER.FILTER_EMPTY_ANNOTATIONS", True, "it would drop the normal images"),
        ("DATALOADER.ASPECT_RATIO_GROUPING", True, "it would break the pairs"),
        ("MODEL.KEYPOINT_ON", True, "mammograms come with boxes"),
        ("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", True, "background score"),
        ("MODEL.RESNETS.DEPTH", 20, "it has no 20"),
        ("MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "legal is SimFasterRCNN"),
        ("MODEL.META_ARCHITECTURE", "NoSuchRCNN", "which Detectron2 does not know"),
        ("MODEL.BACKBONE.NAME", "build_no_backbone", "which Detectron2 does not know"),
        ("MODEL.PROPOSAL_GENERATOR.NAME", "RPN", "legal with SimFasterRCNN: TopLikelihoodRPN"),
        ("MODEL.ROI_HEADS.NAME", "Res5ROIHeads", "SimRes5ROIHeads, SimStandardROIHeads"),
        ("MODEL.DEVICE", "nowhere", "legal are cpu, cuda"),
        ("MODEL.RESNETS.RES2_OUT_CHANNELS", 256, "RES2_OUT_CHANNELS = 64"),
        ("SOLVER.NESTEROV", True, "not read by simfrcnn's recipe"),
        ("INPUT.MIN_SIZE_TRAIN", (640,), "not read by simfrcnn's recipe"),
        ("TEST.AUG.ENABLED", True, "not read by simfrcnn's recipe"),
        ("SOLVER.REFERENCE_WORLD_SIZE", 8, "not read by simfrcnn's recipe"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_key(make_cfg, key, value, message):
    from simfrcnn.engines.detectron2 import build_model

    cfg = make_cfg("c4").clone()
    cfg.defrost()
    *groups, name = key.split(".")
    node = cfg
    for group in groups:
        node = node[group]
    node[name] = value
    with pytest.raises(ConfigError, match=message) as refused:
        build_model(cfg)
    assert name in str(refused.value)


def test_a_plain_script_meets_the_refusals_of_the_recipe(make_cfg):
    from simfrcnn.engines.detectron2 import build_train_loader

    cfg = make_cfg("c4").clone()
    cfg.defrost()
    cfg.SEED = -1
    with pytest.raises(ConfigError, match="SEED is -1"):
        build_train_loader(cfg)


def test_a_plain_script_meets_the_same_refusal_of_the_loader_keys(make_cfg):
    from detectron2.modeling import build_model

    for key in ("FILTER_EMPTY_ANNOTATIONS", "ASPECT_RATIO_GROUPING"):
        cfg = make_cfg("c4").clone()
        cfg.defrost()
        cfg.DATALOADER[key] = True
        with pytest.raises(ConfigError, match=rf"DATALOADER\.{key} is True"):
            build_model(cfg)
