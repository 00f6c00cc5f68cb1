"""torchvision's parts mean what the config says, and the baseline is the library's own detector."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn import functional
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign, roi_align

from simfrcnn.engines.common.stages import freeze_layers
from simfrcnn.engines.torchvision.backbone import build_resnet, freeze_statistics
from simfrcnn.engines.torchvision.regions import AlignedPooler
from simfrcnn.engines.torchvision.rpn import FloatAnchors
from simfrcnn.errors import ConfigError
from support.examples import (
    BATCHES,
    HEADS,
    engine_named,
    normals,
    positives,
    resnet_config,
    seeded_model,
    smoke_config,
)

pytestmark = pytest.mark.torchvision

BASELINE = (
    *("MODEL.SIMFRCNN.RPN_NORMALS", "ordinary"),
    *("MODEL.SIMFRCNN.ROI_NORMAL_SAMPLING", "random"),
    *("MODEL.SIMFRCNN.SIMILARITY.LOSS", "none"),
)


def config_of(engine, heads, *overrides):
    """The smoke config; C4 has a ResNet of the engine itself."""
    return (resnet_config if heads == "c4" else smoke_config)(engine, heads, *overrides)


@pytest.fixture
def engine():
    return engine_named("torchvision")


def library_detector(model):
    """torchvision's own classes around the very modules of one of ours."""
    rpn, roi = model.rpn, model.roi_heads
    return GeneralizedRCNN(
        model.backbone,
        RegionProposalNetwork(
            rpn.anchor_generator,
            rpn.head,
            rpn.proposal_matcher.high_threshold,
            rpn.proposal_matcher.low_threshold,
            rpn.fg_bg_sampler.batch_size_per_image,
            rpn.fg_bg_sampler.positive_fraction,
            rpn._pre_nms_top_n,
            rpn._post_nms_top_n,
            rpn.nms_thresh,
        ),
        RoIHeads(
            roi.box_roi_pool,
            roi.box_head,
            roi.box_predictor,
            roi.proposal_matcher.high_threshold,
            roi.proposal_matcher.low_threshold,
            roi.fg_bg_sampler.batch_size_per_image,
            roi.fg_bg_sampler.positive_fraction,
            None,
            roi.score_thresh,
            roi.nms_thresh,
            roi.detections_per_img,
        ),
        model.transform,
    )


def library_losses(model, samples):
    targets = [{"boxes": s.targets.boxes, "labels": s.targets.labels} for s in samples]
    torch.manual_seed(3)
    losses = library_detector(model).train()([s.image for s in samples], targets)
    names = {
        "loss_objectness": "loss_rpn_cls",
        "loss_rpn_box_reg": "loss_rpn_loc",
        "loss_classifier": "loss_cls",
        "loss_box_reg": "loss_box_reg",
    }
    return {names[name]: float(loss.detach()) for name, loss in losses.items()}


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("batch", ["positives", "pairs"])
def test_without_the_new_terms_the_losses_are_the_librarys(engine, heads, batch):
    model = seeded_model(engine, config_of(engine, heads, *BASELINE))
    torch.manual_seed(3)
    ours = engine.training_losses(model, BATCHES[batch])
    for name, loss in library_losses(model, BATCHES[batch]).items():
        assert loss > 0
        assert float(ours[name].detach()) == pytest.approx(loss, abs=1e-6), name


@pytest.mark.parametrize("heads", HEADS)
def test_on_positives_the_method_changes_nothing(engine, heads):
    model = seeded_model(engine, config_of(engine, heads))
    torch.manual_seed(3)
    ours = engine.training_losses(model, BATCHES["positives"])
    for name, loss in library_losses(model, BATCHES["positives"]).items():
        assert float(ours[name].detach()) == pytest.approx(loss, abs=1e-6), name


@pytest.mark.parametrize("heads", HEADS)
def test_box_head_losses_are_the_librarys_function_on_the_sampled_regions(
    engine, heads, monkeypatch
):
    model = seeded_model(engine, config_of(engine, heads))
    seen = {}
    original = model.roi_heads._losses

    def spy(vectors, class_logits, box_deltas, labels, box_targets):
        seen.update(zip(("logits", "deltas"), (class_logits, box_deltas), strict=True))
        seen.update(labels=labels, targets=box_targets)
        return original(vectors, class_logits, box_deltas, labels, box_targets)

    monkeypatch.setattr(model.roi_heads, "_losses", spy)
    losses = engine.training_losses(model, BATCHES["pairs"])
    of_class, of_box = fastrcnn_loss(
        seen["logits"], seen["deltas"], seen["labels"], seen["targets"]
    )
    assert torch.equal(losses["loss_cls"], of_class)
    assert torch.equal(losses["loss_box_reg"], of_box)
    assert [int((labels > 0).sum()) for labels in seen["labels"][2:]] == [0, 0]
    assert all(int((labels > 0).sum()) >= 1 for labels in seen["labels"][:2])


@pytest.mark.parametrize("heads", HEADS)
def test_top_likelihood_ranks_all_anchors_of_all_levels(engine, heads, monkeypatch):
    cfg = config_of(engine, heads, "MODEL.SIMFRCNN.TOP_LIKELIHOOD.TOP_K", "7")
    model = seeded_model(engine, cfg)
    seen = []
    head = model.rpn.head
    monkeypatch.setattr(head, "forward", lambda x, f=head.forward: seen.append(f(x)) or seen[-1])
    losses = engine.training_losses(model, positives(1) + normals(2))
    expected = []
    for image in (1, 2):
        logits = torch.cat([level[image].flatten() for level in seen[0][0]])
        top = sorted(logits.tolist(), reverse=True)[:7]
        expected.append(functional.softplus(torch.tensor(top)).mean())
    assert float(losses["loss_rpn_top_likelihood"].detach()) == pytest.approx(
        float(sum(expected)) / 2, rel=1e-6
    )


@pytest.mark.parametrize(("sampling", "is_top"), [("top", True), ("random", False)])
def test_regions_of_a_normal_image_are_its_first_proposals(engine, sampling, is_top, monkeypatch):
    key = "MODEL.SIMFRCNN.ROI_NORMAL_SAMPLING"
    model = seeded_model(engine, config_of(engine, "fpn", key, sampling))
    seen = {}
    pool = model.roi_heads.box_roi_pool
    roi_forward, pool_forward = model.roi_heads.forward, pool.forward

    def roi(features, proposals, *rest):
        seen["proposals"] = proposals
        return roi_forward(features, proposals, *rest)

    def pooled(features, boxes, shapes):
        seen["regions"] = boxes
        return pool_forward(features, boxes, shapes)

    monkeypatch.setattr(model.roi_heads, "forward", roi)
    monkeypatch.setattr(pool, "forward", pooled)
    torch.manual_seed(0)
    engine.training_losses(model, positives(1) + normals(1))
    proposals, regions = seen["proposals"][1], seen["regions"][1]
    assert len(proposals) > len(regions) == 8
    assert torch.equal(regions, proposals[:8]) is is_top


def test_of_a_boxed_partner_its_own_boxes_come_before_its_proposals(engine, monkeypatch):
    """As in Detectron2, which gives an image's own boxes an objectness above all others."""
    from simfrcnn.engines.torchvision import roi_heads

    model = seeded_model(engine, config_of(engine, "fpn"))
    seen = {}

    def spy(**arguments):
        seen.update(arguments)
        return arguments["features"].sum()

    subsample = model.roi_heads.subsample

    def sampled(labels):
        seen["counts"], seen["sampled"] = [len(of_image) for of_image in labels], subsample(labels)
        return seen["sampled"]

    monkeypatch.setattr(roi_heads, "similarity_loss", spy)
    monkeypatch.setattr(model.roi_heads, "subsample", sampled)
    torch.manual_seed(0)
    engine.training_losses(model, positives(2))
    ranks = seen["objectness"].split([len(chosen) for chosen in seen["sampled"]])
    for rank, chosen, count in zip(ranks, seen["sampled"], seen["counts"], strict=True):
        is_own = chosen == count - 1  # the library puts the one box at the end
        assert int(is_own.sum()) == 1
        order = torch.argsort(rank, descending=True)
        assert bool(is_own[order[0]])
        assert chosen[order[1:]].tolist() == sorted(chosen[~is_own].tolist())


def test_anchors_are_detectron2s_by_its_formula():
    anchors = FloatAnchors(sizes=[[10, 20]], aspect_ratios=[[0.5, 2.0]], strides=[16])
    cells = anchors.cell_anchors[0]
    sides = cells[:, 2:] - cells[:, :2]
    torch.testing.assert_close(sides.prod(dim=1), torch.tensor([100.0, 100.0, 400.0, 400.0]))
    torch.testing.assert_close(sides[:, 1] / sides[:, 0], torch.tensor([0.5, 2.0, 0.5, 2.0]))
    torch.testing.assert_close(cells[:, :2], -cells[:, 2:])
    guessed = [[torch.tensor(15), torch.tensor(15)]]
    placed = anchors.grid_anchors([[2, 3]], guessed)[0].reshape(2, 3, 4, 4)
    centres = (placed[..., :2] + placed[..., 2:]) / 2
    torch.testing.assert_close(centres[1, 2, 0], torch.tensor([32.0, 16.0]))
    torch.testing.assert_close(centres[0, 0, 3], torch.zeros(2))


@pytest.mark.detectron2
def test_anchors_are_detectron2s():
    generator = pytest.importorskip("detectron2.modeling.anchor_generator")
    sizes, ratios = [[12, 24], [48, 96]], [[0.5, 1.0, 2.0]]
    theirs = generator.DefaultAnchorGenerator(
        sizes=sizes, aspect_ratios=ratios, strides=[8, 16], offset=0.0
    )
    ours = FloatAnchors(sizes=sizes, aspect_ratios=ratios * 2, strides=[8, 16])
    maps = [torch.zeros(1, 1, 4, 5), torch.zeros(1, 1, 2, 3)]
    strides = [[torch.tensor(8), torch.tensor(8)], [torch.tensor(16), torch.tensor(16)]]
    grids = ours.grid_anchors([[4, 5], [2, 3]], strides)
    for one, two in zip(theirs(maps), grids, strict=True):
        torch.testing.assert_close(one.tensor, two)


def test_the_pooler_is_the_librarys_but_for_the_half_pixel_shift():
    features = {name: torch.randn(2, 3, 128 // s, 128 // s) for name, s in (("p2", 4), ("p3", 8))}
    boxes = [
        torch.tensor([[3.0, 5.0, 60.0, 40.0], [0.0, 0.0, 128.0, 128.0]]),
        torch.tensor([[10.0, 10.0, 20.0, 22.0]]),
    ]
    settings = {"resolution": 7, "sampling_ratio": 0}
    ours = AlignedPooler(strides={"p2": 4, "p3": 8}, aligned=False, **settings)
    theirs = MultiScaleRoIAlign(["p2", "p3"], 7, 0)
    shapes = [(128, 128)] * 2
    torch.testing.assert_close(ours(features, boxes, shapes), theirs(features, boxes, shapes))
    aligned = AlignedPooler(strides={"p2": 4, "p3": 8}, aligned=True, **settings)
    of_second = roi_align(
        features["p2"], [boxes[0][:0], boxes[1]], 7, spatial_scale=0.25, aligned=True
    )
    torch.testing.assert_close(aligned(features, boxes, shapes)[2:], of_second)
    assert not torch.allclose(aligned(features, boxes, shapes), ours(features, boxes, shapes))


@pytest.mark.detectron2
def test_the_pooler_is_detectron2s():
    poolers = pytest.importorskip("detectron2.modeling.poolers")
    from detectron2.structures import Boxes

    strides = {"p2": 4, "p3": 8, "p4": 16}
    features = {name: torch.randn(1, 3, 512 // s, 512 // s) for name, s in strides.items()}
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(40, 2, generator=generator) * 250
    boxes = torch.cat([corners, corners + 4 + torch.rand(40, 2, generator=generator) * 250], dim=1)
    theirs = poolers.ROIPooler(7, [1 / s for s in strides.values()], 0, "ROIAlignV2")
    ours = AlignedPooler(strides=strides, resolution=7, sampling_ratio=0, aligned=True)
    torch.testing.assert_close(
        ours(features, [boxes], [(512, 512)]), theirs(list(features.values()), [Boxes(boxes)])
    )


@pytest.mark.parametrize(
    ("freeze_at", "frozen"),
    [(0, set()), (1, {"conv1", "bn1"}), (3, {"conv1", "bn1", "layer1", "layer2"})],
)
def test_freezing_means_what_detectron2_means(engine, freeze_at, frozen):
    resnet = build_resnet(config_of(engine, "fpn", "MODEL.RESNETS.NORM", "BN"))
    before = {name: tensor.clone() for name, tensor in resnet.state_dict().items()}
    freeze_layers(resnet, freeze_at, freeze_statistics)
    is_free = {
        name
        for name, part in resnet.named_children()
        if any(p.requires_grad for p in part.parameters())
    }
    assert is_free == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"} - frozen
    for name, part in resnet.named_children():
        norms = [
            m for m in part.modules() if isinstance(m, (torch.nn.BatchNorm2d, FrozenBatchNorm2d))
        ]
        kind = FrozenBatchNorm2d if name in frozen else torch.nn.BatchNorm2d
        assert all(type(norm) is kind for norm in norms), name
    for name, tensor in resnet.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_res5_of_a_c4_head_is_never_frozen(engine):
    cfg = config_of(engine, "c4", "MODEL.BACKBONE.FREEZE_AT", "5")
    model = seeded_model(engine, cfg)
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert all(p.requires_grad for p in model.roi_heads.parameters())


@pytest.mark.parametrize("in_1x1", [True, False])
def test_the_stride_is_in_the_convolution_that_the_key_names(engine, in_1x1):
    cfg = config_of(
        engine,
        "c4",
        *("MODEL.RESNETS.DEPTH", "50", "MODEL.RESNETS.RES2_OUT_CHANNELS", "256"),
        *("MODEL.RESNETS.STRIDE_IN_1X1", in_1x1),
    )
    resnet = build_resnet(cfg)
    first = resnet.layer3[0]
    assert (first.conv1.stride, first.conv2.stride) == (
        ((2, 2), (1, 1)) if in_1x1 else ((1, 1), (2, 2))
    )
    assert resnet.layer3[1].conv1.stride == resnet.layer3[1].conv2.stride == (1, 1)


@pytest.mark.parametrize("depth", [18, 50])
def test_c4_vectors_are_the_mean_of_the_last_stage(engine, depth):
    cfg = config_of(
        engine,
        "c4",
        *("MODEL.RESNETS.DEPTH", depth),
        *("MODEL.RESNETS.RES2_OUT_CHANNELS", 64 if depth == 18 else 256),
    )
    model = seeded_model(engine, cfg)
    features = model.backbone(torch.randn(1, 3, 64, 96))["res4"]
    assert features.shape[2:] == (4, 6)
    regions = torch.randn(2, features.shape[1], 14, 14)
    vectors = model.roi_heads.box_head(regions)
    assert vectors.shape == (2, 512 if depth == 18 else 2048)
    assert len(model.roi_heads.box_head.layer4) == (2 if depth == 18 else 3)


def test_levels_and_padding_of_the_pyramid(engine):
    model = seeded_model(engine, config_of(engine, "fpn"))
    images, _ = model.transform([torch.full((3, 70, 90), 125.97)])
    assert images.tensors.shape == (1, 3, 96, 96)
    assert images.image_sizes == [(70, 90)]
    assert float(images.tensors.abs().max()) < 1e-5
    features = model.backbone(images.tensors)
    assert {name: tuple(f.shape[2:]) for name, f in features.items()} == {
        "p2": (24, 24),
        "p3": (12, 12),
        "p4": (6, 6),
        "p5": (3, 3),
        "pool": (2, 2),
    }


@pytest.mark.parametrize(("side", "cells"), [(112, 7), (130, 9)])
def test_c4_pads_nothing(engine, side, cells, monkeypatch):
    model = seeded_model(engine, config_of(engine, "c4"))
    seen = []
    forward = model.backbone.forward
    monkeypatch.setattr(model.backbone, "forward", lambda x: seen.append(forward(x)) or seen[-1])
    engine.training_losses(model, positives(1, size_px=side))
    assert seen[0]["res4"].shape[-2:] == (cells, cells)


@pytest.mark.parametrize("heads", HEADS)
def test_no_regions_at_all_still_reach_every_parameter(engine, heads, monkeypatch):
    model = seeded_model(engine, config_of(engine, heads))
    nothing = [torch.zeros(0, 4), torch.zeros(0, 4)], [torch.zeros(0), torch.zeros(0)]
    monkeypatch.setattr(model.rpn, "filter_proposals", lambda *_: nothing)
    losses = engine.training_losses(model, normals(2))
    torch.stack(list(losses.values())).sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    for key in ("loss_cls", "loss_box_reg", "loss_similarity"):
        assert float(losses[key].detach()) == 0, key


@pytest.mark.parametrize("norm", ["", "BN", "GN"])
def test_norms_of_the_pyramid(engine, norm):
    model = seeded_model(engine, config_of(engine, "fpn", "MODEL.FPN.NORM", norm or '""'))
    kinds = {type(layer) for layer in model.backbone.fpn.modules()}
    assert (torch.nn.BatchNorm2d in kinds) == (norm == "BN")
    assert (torch.nn.GroupNorm in kinds) == (norm == "GN")


@pytest.mark.parametrize(
    ("heads", "key", "value"),
    [
        ("fpn", "MODEL.RPN.SMOOTH_L1_BETA", "0.0"),
        ("c4", "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", "0.5"),
        ("c4", "MODEL.RESNETS.DEPTH", "20"),
        ("c4", "MODEL.RESNETS.NORM", "SyncBN"),
        ("c4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "256"),
        ("c4", "MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone"),
        ("fpn", "MODEL.RESNETS.OUT_FEATURES", "[res3, res4, res5]"),
        ("fpn", "MODEL.FPN.NORM", "SyncBN"),
        ("fpn", "MODEL.RPN.IN_FEATURES", "[p2, p3]"),
        ("c4", "MODEL.ROI_HEADS.IN_FEATURES", "[res5]"),
        ("fpn", "MODEL.ROI_BOX_HEAD.NAME", "AnotherHead"),
        ("fpn", "MODEL.ROI_BOX_HEAD.NUM_FC", "0"),
        ("fpn", "MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIPool"),
        ("fpn", "MODEL.ANCHOR_GENERATOR.SIZES", "[[8], [16]]"),
        ("fpn", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[1], [1], [1], [1], [1, 2]]"),
        ("c4", "MODEL.RPN.IOU_THRESHOLDS", "[0.5]"),
        ("c4", "MODEL.ROI_HEADS.IOU_THRESHOLDS", "[0.3, 0.5]"),
        ("c4", "MODEL.BACKBONE.FREEZE_AT", "7"),
    ],
)
def test_what_the_engine_cannot_honour_is_refused_by_name(engine, heads, key, value):
    cfg = config_of(engine, heads, key, value)
    with pytest.raises(ConfigError, match=re.escape(f"{key} is ") + ".*takes"):
        engine.build_model(cfg)


def test_a_key_of_detectron2_that_is_not_portable_is_an_error(engine):
    with pytest.raises(ConfigError, match=r"MODEL\.KEYPOINT_ON"):
        config_of(engine, "c4", "MODEL.KEYPOINT_ON", "True")


def test_a_sample_without_targets_is_not_trained(engine):
    (sample,) = positives(1)
    model = seeded_model(engine, config_of(engine, "fpn"))
    with pytest.raises(ValueError, match=r"image1\.png"):
        engine.training_losses(model, [type(sample)(sample.image, sample.frame, sample.record)])
