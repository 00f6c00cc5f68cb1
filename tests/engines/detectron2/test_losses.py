"""The losses of a step against Detectron2's own, and what every batch must give."""

import copy

import pytest
import torch

from simfrcnn.engines.contract import LOSS_KEYS
from simfrcnn.losses import similarity_loss, top_likelihood_loss

pytestmark = pytest.mark.detectron2
HEADS = ("c4", "fpn")
OLD_TERMS_ONLY = (
    "MODEL.SIMFRCNN.RPN_NORMALS",
    "ordinary",
    "MODEL.SIMFRCNN.ROI_NORMAL_SAMPLING",
    "random",
    "MODEL.SIMFRCNN.SIMILARITY.LOSS",
    "none",
)
LIBRARY_KEYS = ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg")


def build(cfg, seed=0):
    from simfrcnn.engines.detectron2 import build_model

    torch.manual_seed(seed)
    return build_model(cfg)


def losses_of(model, samples, seed=1):
    from simfrcnn.engines.detectron2 import training_losses

    torch.manual_seed(seed)
    return training_losses(model, samples)


def library_model(cfg):
    """Detectron2's own detector, by its own names, for the same config."""
    from detectron2.modeling import build_model

    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
    cfg.MODEL.ROI_HEADS.NAME = cfg.MODEL.ROI_HEADS.NAME.removeprefix("Sim")
    return build_model(cfg)


def library_losses(model, samples, seed=1):
    from detectron2.utils.events import EventStorage

    from simfrcnn.engines.detectron2.data import to_dicts

    torch.manual_seed(seed)
    with EventStorage():
        return model(to_dicts(samples))


@pytest.mark.parametrize("kinds", ["pp", "pn"])
@pytest.mark.parametrize(("head", "depth"), [("c4", 18), ("c4", 50), ("fpn", 18), ("fpn", 50)])
def test_with_the_new_terms_off_all_losses_equal_detectron2s_own_detector(
    make_cfg, make_samples, head, depth, kinds
):
    wide = ("MODEL.RESNETS.DEPTH", "50", "MODEL.RESNETS.RES2_OUT_CHANNELS", "256")
    cfg = make_cfg(head, *OLD_TERMS_ONLY, *(wide if depth == 50 else ()))
    ours, theirs = build(cfg), library_model(cfg)
    if (head, depth) == ("c4", 18):  # where the library has three bottlenecks
        theirs.roi_heads.res5 = copy.deepcopy(ours.roi_heads.res5)
        theirs.roi_heads.box_predictor = library_predictor(cfg, ours)
    theirs.load_state_dict(ours.state_dict())
    samples = make_samples(kinds)
    expected, found = library_losses(theirs, samples), losses_of(ours, samples)
    assert set(expected) == set(LIBRARY_KEYS)
    for key in LIBRARY_KEYS:
        assert found[key].item() == pytest.approx(expected[key].item(), rel=1e-6, abs=1e-9), key
    assert found["loss_rpn_top_likelihood"].item() == 0
    assert found["loss_similarity"].item() == 0


def library_predictor(cfg, model):
    """The library's box predictor, with as many inputs as that of ``model`` has."""
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.roi_heads import FastRCNNOutputLayers

    n_features = model.roi_heads.box_predictor.cls_score.in_features
    return FastRCNNOutputLayers(cfg, ShapeSpec(channels=n_features))


@pytest.mark.parametrize("kinds", ["pn", "ppnn", "pp", "nn", "ppn"])
@pytest.mark.parametrize("head", HEADS)
def test_every_batch_gives_all_losses_and_every_parameter_a_gradient(
    make_cfg, make_samples, head, kinds
):
    model = build(make_cfg(head))
    losses = losses_of(model, make_samples(kinds))
    assert tuple(losses) == LOSS_KEYS
    assert all(torch.isfinite(loss) and loss.ndim == 0 for loss in losses.values())
    assert sum(losses.values()).item() < 10
    sum(losses.values()).backward()
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


@pytest.mark.parametrize("head", HEADS)
def test_every_single_loss_reaches_the_backbone(make_cfg, make_samples, head):
    model = build(make_cfg(head))
    first = {
        "c4": "backbone.stem.conv1.weight",
        "fpn": "backbone.bottom_up.body.net.model.stem.0.weight",
    }
    weight = model.state_dict(keep_vars=True)[first[head]]
    for key in LOSS_KEYS:
        loss = losses_of(model, make_samples("pn"))[key]
        (gradient,) = torch.autograd.grad(loss, weight)
        assert gradient.abs().sum() > 0, key


@pytest.mark.parametrize("head", HEADS)
def test_normal_images_leave_the_ordinary_rpn_losses_as_they_are(make_cfg, make_samples, head):
    model = build(make_cfg(head))
    alone = losses_of(model, make_samples("pp"))
    paired = losses_of(model, make_samples("ppnn"))
    for key in ("loss_rpn_cls", "loss_rpn_loc"):
        assert paired[key].item() == pytest.approx(alone[key].item(), rel=1e-5), key
    assert paired["loss_rpn_top_likelihood"] > 0


@pytest.mark.parametrize("head", HEADS)
def test_top_likelihood_is_that_of_all_logits_of_the_normal_images(
    make_cfg, make_samples, head, monkeypatch
):
    from detectron2.modeling.proposal_generator.rpn import RPN

    weight = "0.5"
    model = build(make_cfg(head, "MODEL.SIMFRCNN.TOP_LIKELIHOOD.WEIGHT", weight))
    seen = {}
    original = RPN.predict_proposals

    def spy(self, anchors, logits, deltas, sizes):
        seen["logits"] = torch.cat(logits, dim=1).detach()
        return original(self, anchors, logits, deltas, sizes)

    monkeypatch.setattr(RPN, "predict_proposals", spy)
    losses = losses_of(model, make_samples("ppnn"))
    top = seen["logits"][2:].sort(dim=1, descending=True).values[:, :256]
    expected = 0.5 * torch.log1p(top.exp()).mean()
    assert losses["loss_rpn_top_likelihood"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert top_likelihood_loss(seen["logits"][2:], 256).item() * 0.5 == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_none_leaves_normals_out_of_the_rpn(make_cfg, make_samples):
    losses = losses_of(
        build(make_cfg("c4", "MODEL.SIMFRCNN.RPN_NORMALS", "none")), make_samples("pn")
    )
    assert losses["loss_rpn_top_likelihood"].item() == 0
    assert losses["loss_rpn_cls"].item() > 0.5


@pytest.mark.parametrize("head", HEADS)
def test_roi_losses_are_the_librarys_on_the_sampled_regions(
    make_cfg, make_samples, head, monkeypatch
):
    from detectron2.utils.events import EventStorage

    from simfrcnn.engines.detectron2.roi_heads import SimFastRCNNOutputLayers

    cfg = make_cfg(head, "MODEL.SIMFRCNN.SIMILARITY.WEIGHT", "0.3")
    model = build(cfg)
    seen = {}
    original = SimFastRCNNOutputLayers.losses

    def spy(self, predictions, proposals):
        seen.update(predictions=predictions, proposals=proposals)
        return original(self, predictions, proposals)

    monkeypatch.setattr(SimFastRCNNOutputLayers, "losses", spy)
    losses = losses_of(model, make_samples("ppnn"))
    scores, deltas, vectors = seen["predictions"]
    with EventStorage():
        expected = library_predictor(cfg, model).losses((scores, deltas), seen["proposals"])
    for key in ("loss_cls", "loss_box_reg"):
        assert losses[key].item() == pytest.approx(expected[key].item(), rel=1e-6), key

    # The regions of normal images: their most likely proposals, in order, all background.
    for instances in seen["proposals"][2:]:
        assert len(instances) == cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE
        assert (instances.gt_classes == 1).all()
        assert (instances.objectness_logits.diff() <= 0).all()
    # The similarity loss by hand: i-th foreground region with the i-th most likely normal one.
    costs, start = [], [0]
    for instances in seen["proposals"]:
        start.append(start[-1] + len(instances))
    for positive, normal in ((0, 2), (1, 3)):
        foreground = vectors[start[positive] : start[positive + 1]][
            seen["proposals"][positive].gt_classes == 0
        ]
        suspects = vectors[start[normal] : start[normal + 1]][: len(foreground)]
        foreground = foreground[: len(suspects)]
        cosine = (foreground * suspects).sum(1) / (foreground.norm(dim=1) * suspects.norm(dim=1))
        costs.append(cosine.clamp(min=0).mean())
    expected_cost = 0.3 * sum(costs).item() / 2
    assert losses["loss_similarity"].item() == pytest.approx(expected_cost, rel=1e-5)


def test_hardest_partners_go_by_the_malignant_score(make_cfg, make_samples, monkeypatch):
    from simfrcnn.engines.detectron2 import roi_heads

    seen = {}

    def spy(**arguments):
        seen.update(arguments)
        return similarity_loss(**arguments)

    monkeypatch.setattr(roi_heads, "similarity_loss", spy)
    model = build(make_cfg("fpn", "MODEL.SIMFRCNN.SIMILARITY.PARTNERS", "hardest"))
    losses_of(model, make_samples("pn"))
    assert seen["is_partner"] == (False, True)
    assert seen["target_labels"] == (1,)
    assert set(seen["labels"].tolist()) == {0, 1}
    assert seen["image_index"].unique().tolist() == [0, 1]


def test_class_ids_are_converted():
    from simfrcnn.engines.detectron2.roi_heads import background_first, core_labels

    # Detectron2, three classes: foreground 0, 1, 2, background 3, ignore -1.
    labels = torch.tensor([0, 1, 2, 3, -1])
    assert core_labels(labels, 3).tolist() == [1, 2, 3, 0, -1]
    logits = torch.tensor([[10.0, 11.0, 12.0, 13.0]])
    assert background_first(logits).tolist() == [[13.0, 10.0, 11.0, 12.0]]


def test_a_normal_image_without_proposals_keeps_the_pairs_in_step(make_cfg, make_samples):
    """No region of the first normal image: its partner takes no part, the second pair does."""
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    from simfrcnn.engines.detectron2.data import to_dicts

    model = build(make_cfg("c4"))
    entries = to_dicts(make_samples("ppnn"))
    images = model.preprocess_image(entries)
    features = model.backbone(images.tensor)
    targets = [entry["instances"] for entry in entries]
    boxes = torch.tensor([[10.0, 10.0, 50.0, 60.0], [22.0, 31.0, 61.0, 74.0]])
    proposals = [
        Instances((128, 128), proposal_boxes=Boxes(chosen), objectness_logits=torch.arange(n) * 1.0)
        for n in (2, 2, 0, 2)
        for chosen in [boxes[:n].clone()]
    ]
    with EventStorage():
        _, losses = model.roi_heads(
            images, features, proposals, targets, is_normal=[False, False, True, True]
        )
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_similarity"].item() > 0


def test_no_regions_at_all_still_reach_every_parameter(make_cfg, make_samples):
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    from simfrcnn.engines.detectron2.data import to_dicts

    model = build(make_cfg("c4"))
    entries = to_dicts(make_samples("nn"))
    images = model.preprocess_image(entries)
    features = model.backbone(images.tensor)
    nothing = [
        Instances(
            (128, 128),
            proposal_boxes=Boxes(torch.zeros(0, 4)),
            objectness_logits=torch.zeros(0),
        )
        for _ in entries
    ]
    with EventStorage():
        _, losses = model.roi_heads(
            images, features, nothing, [e["instances"] for e in entries], is_normal=[True, True]
        )
    sum(losses.values()).backward()
    assert [n for n, p in model.roi_heads.named_parameters() if p.grad is None] == []
    assert all(loss.item() == 0 for loss in losses.values())
