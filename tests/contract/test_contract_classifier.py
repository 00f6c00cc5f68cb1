"""The whole-image classifier on every engine: its loss, its maps, its detections, its files."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from simfrcnn.engines import load_engine
from simfrcnn.engines.common.checkpoints import LAST, Identity, read_checkpoint, save_checkpoint
from simfrcnn.engines.contract import Detector, loss_keys
from simfrcnn.errors import CheckpointError, ConfigError, DataError
from simfrcnn.losses import multilabel_loss
from simfrcnn.structures import Frame
from support.classifier_examples import (
    HEADS,
    TINY,
    TWO_CLASSES,
    UNKNOWN,
    by_common_name,
    classifier_config,
    known,
    known_pairs,
    resnet_classifier,
    tiny_classifier,
)
from support.examples import initialised, normals, positives, seeded_model, smoke_config
from support.imagenet import random_timm_model, write_imagenet_pth

NATIVE_OFF = ("MODEL.SECOND_LOOK.ENABLED", True, "MODEL.SECOND_LOOK.SOURCE", "input")


def losses_of(engine, model, samples):
    torch.manual_seed(1)
    return engine.training_losses(model, samples)


@pytest.mark.parametrize("head", HEADS)
def test_it_has_one_loss_that_reaches_every_parameter(engine, head):
    cfg = classifier_config(engine, *HEADS[head])
    model = seeded_model(engine, cfg)
    assert isinstance(model, Detector)
    losses = losses_of(engine, model, known_pairs())
    assert tuple(losses) == loss_keys(cfg) == ("loss_image",)
    assert 0.5 < float(losses["loss_image"].detach()) < 1
    losses["loss_image"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None or not parameter.requires_grad, name
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all()), name
    assert model.firing_scores.shape == (4,)


def test_the_loss_is_that_of_the_detections_scores(engine):
    model = seeded_model(engine, classifier_config(engine, *TWO_CLASSES))
    samples = [known(s, p) for s, p in zip(positives(2), ([1.0, UNKNOWN], [0.0, 1.0]), strict=True)]
    found = engine.detect(model, samples)
    scores = torch.stack([d.scores[d.labels.argsort()] for d in found])
    present = torch.stack([s.targets.present for s in samples])
    expected = multilabel_loss(torch.logit(scores), present)
    loss = losses_of(engine, model, samples)["loss_image"].detach()
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)
    assert model.firing_scores.tolist() == pytest.approx(scores.amax(dim=1).tolist(), rel=1e-5)


def test_nothing_known_teaches_nothing(engine):
    model = seeded_model(engine, classifier_config(engine))
    losses = losses_of(engine, model, [known(s, [UNKNOWN]) for s in positives(2)])
    assert float(losses["loss_image"].detach()) == 0
    losses["loss_image"].backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and not p.grad.any() for p in trained)


def test_with_average_pooling_the_map_is_the_evidence(engine):
    """The derivative of a logit is its own class's weight over the cells, by finite difference."""
    model = seeded_model(
        engine, classifier_config(engine, *TWO_CLASSES, "MODEL.CLASSIFIER.POOL", "avg")
    )
    model.eval()
    weight = model.head.classify.weight
    with torch.no_grad():
        weight.normal_(generator=torch.Generator().manual_seed(3))
        samples = positives(1, 128)
        maps = model.class_maps(samples)
        assert torch.allclose(model._pooled(maps), maps.mean(dim=(2, 3)), atol=1e-6)
        features = model.backbone((samples[0].image[None] - model.pixel_mean) / model.pixel_std)
        h, w = features["res5"].shape[-2:]
        before = model.head(features).mean(dim=(2, 3))[0]
        for place, (y, x) in ((0, (0, 1)), (5, (h - 1, 2))):
            changed = features["res5"].clone()
            changed[0, place, y, x] += 0.5
            after = model.head({**features, "res5": changed}).mean(dim=(2, 3))[0]
            slope = (after - before) / 0.5
            expected = weight[:, place, 0, 0] / (h * w)
            assert slope.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_detection_a_class_by_falling_score_and_the_box_goes_the_way_back(engine, monkeypatch):
    model = seeded_model(engine, classifier_config(engine, *TWO_CLASSES))
    (sample,) = positives(1, 128)
    # Cut at x = 10, doubled, mirrored: stored 90 x 64, of which 64 x 64 were input.
    frame = Frame(-2.0, 148.0, 2.0, 0.0, original_height=64, original_width=90)
    maps = torch.full((1, 2, 4, 4), -2.0)
    maps[0, 0, 0, :2] = 1.0
    maps[0, 1, 3, 3] = 5.0
    monkeypatch.setattr(type(model), "class_maps", lambda self, samples: maps)
    (found,) = engine.detect(model, [dataclasses.replace(sample, frame=frame)])
    assert found.labels.tolist() == [2, 1]
    assert found.scores.tolist() == pytest.approx([0.9933071, 0.7310586])
    # Input 96..128 is stored 10..26; input 0..64 is 42..74.
    assert found.boxes.tolist() == [[10.0, 48.0, 26.0, 64.0], [42.0, 0.0, 74.0, 16.0]]


def test_a_region_in_the_padding_alone_gives_the_whole_image(engine, monkeypatch):
    model = seeded_model(engine, classifier_config(engine))
    (sample,) = positives(1, 128)
    frame = Frame(1.0, 0.0, 1.0, 0.0, original_height=128, original_width=40)
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 1, 3] = 1.0
    monkeypatch.setattr(type(model), "class_maps", lambda self, samples: maps)
    (found,) = engine.detect(model, [dataclasses.replace(sample, frame=frame)])
    assert found.boxes.tolist() == [[0.0, 0.0, 40.0, 128.0]]
    assert len(found.scores) == 1


@pytest.mark.detectron2
@pytest.mark.torchvision
@pytest.mark.parametrize("head", HEADS)
def test_equal_weights_give_equal_maps_on_both_engines(head):
    models = {}
    for name in ("torchvision", "detectron2"):
        engine = load_engine(name)
        overrides = HEADS[head] if head == "fpn" else (*TINY, *HEADS[head])
        models[name] = seeded_model(engine, resnet_classifier(engine, *overrides)).eval()
    ours = by_common_name(models["detectron2"].state_dict())
    theirs = models["torchvision"].state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        tensor.copy_(theirs[name])
    samples = [*positives(2), *normals(1)]
    with torch.no_grad():
        first, second = (model.class_maps(samples) for model in models.values())
    assert first.std() > 1e-4
    assert torch.allclose(first, second, atol=1e-5)


def test_a_run_goes_on_where_it_was_left_and_its_file_is_no_detectors(engine, tmp_path):
    whole = engine.train(tiny_classifier(engine, tmp_path, "OUTPUT_DIR", tmp_path / "whole"))
    cut = ("OUTPUT_DIR", tmp_path / "cut", "SOLVER.MAX_ITER")
    engine.train(tiny_classifier(engine, tmp_path, *cut, 1))
    cfg = tiny_classifier(engine, tmp_path, *cut, 2)
    last = engine.train(cfg, resume=True)
    assert last.name == LAST
    weights, again = (read_checkpoint(path)["model"] for path in (whole, last))
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items())
    # No key of a detector is read: no engine departs from one.
    manifest = json.loads((last.parent / "manifest.json").read_text())
    assert manifest["deviations"] == read_checkpoint(last)["card"]["deviations"] == []
    # Read again, it says what the trained model says.
    model = engine.build_model(cfg)
    engine.load_weights(model, last)
    assert all(torch.equal(t, weights[n]) for n, t in model.state_dict().items())
    detector_cfg = smoke_config(engine, "fpn")
    detector = seeded_model(engine, detector_cfg)
    with pytest.raises(CheckpointError, match=r"holds a SimClassifier.*SimFasterRCNN"):
        engine.load_weights(detector, last)
    path = tmp_path / "detector.pth"
    save_checkpoint(path, detector, Identity.of(engine.NAME, detector_cfg))
    with pytest.raises(CheckpointError, match=r"holds a SimFasterRCNN.*SimClassifier"):
        engine.load_weights(model, path)
    other = classifier_config(engine, "MODEL.CLASSIFIER.POOL", "avg")
    with pytest.raises(CheckpointError, match=r"MODEL\.CLASSIFIER\.POOL is top in the file, avg"):
        engine.load_weights(engine.build_model(other), last)


def without_boxes(sample):
    """A positive of which the label alone is known."""
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return dataclasses.replace(sample, targets=dataclasses.replace(sample.targets, **nothing))


@pytest.mark.parametrize("has_boxes", [True, False])
def test_positives_do_not_outweigh_normals_at_the_second_look(engine, has_boxes):
    """Of a second look that tells nothing apart both sides pull alike: no gradient of its bias."""
    model = seeded_model(engine, classifier_config(engine, *NATIVE_OFF))
    last = model.second_look.judge.classifier
    torch.nn.init.zeros_(last.weight)
    pairs = known_pairs()
    samples = pairs if has_boxes else [*map(without_boxes, pairs[:2]), *pairs[2:]]
    losses_of(engine, model, samples)["loss_second_look"].backward()
    assert last.bias.grad.tolist() == pytest.approx([0, 0], abs=1e-6)


def test_the_second_look_looks_at_the_highest_region(engine):
    cfg = classifier_config(engine, *NATIVE_OFF)
    model = seeded_model(engine, cfg)
    samples = known_pairs()
    samples[1] = without_boxes(samples[1])
    given = []
    original = model.second_look.training_loss

    def spied(pictures, targets, regions):
        given.extend(zip(targets, regions, strict=True))
        return original(pictures, targets, regions)

    model.second_look.training_loss = spied
    losses = losses_of(engine, model, samples)
    assert tuple(losses) == loss_keys(cfg) == ("loss_image", "loss_second_look")
    assert [t.image_label for t, _ in given] == [None, 1, None, None]
    assert given[1][0].label_weight == 0.25  # half of what it is among the positives
    assert all(len(regions.boxes) == 1 for _, regions in given)
    losses["loss_second_look"].backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    assert reached
    assert all(name.startswith("second_look.") for name in reached)
    first = seeded_model(engine, classifier_config(engine))
    (once,) = engine.detect(first, samples[:1])
    (found,) = engine.detect(model, samples[:1])
    assert found.first_scores.tolist() == pytest.approx(once.scores.tolist())
    combined = found.first_scores**0.5 * found.second_scores
    assert found.scores.tolist() == pytest.approx(combined.tolist())


BAD = {
    "a key of the detector": (("MODEL.RPN.NMS_THRESH", "0.5"), r"MODEL\.RPN\.NMS_THRESH is 0\.5"),
    "a loss of the detector": (
        ("MODEL.SIMFRCNN.SIMILARITY.LOSS", "none"),
        r"MODEL\.SIMFRCNN\.SIMILARITY\.LOSS is 'none'.*leave it at 'cosine'",
    ),
    "a mask head": (
        ("MODEL.MASK_ON", "True", "MODEL.ROI_MASK_HEAD.NAME", "SimMaskHead"),
        r"MODEL\.MASK_ON is True but .* which has no regions; leave it at False",
    ),
    "a mask head that no detector has": (("MODEL.MASK_ON", "True"), r"^MODEL\.MASK_ON is True"),
    "a key of a mask head": (
        ("MODEL.ROI_MASK_HEAD.NUM_CONV", "2"),
        r"MODEL\.ROI_MASK_HEAD\.NUM_CONV is 2 but .* leave it at 0",
    ),
    "labels as bags": (
        ("DATASETS.LABELS_PER_ITEM", "1", "SOLVER.IMS_PER_BATCH", "6"),
        r"DATASETS\.LABELS_PER_ITEM is 1",
    ),
    "positives alone": (("DATASETS.BATCHES", "positives"), "it would learn to say yes"),
    "views taken as normal": (("DATASETS.UNBOXED_VIEWS", "normal"), "legal is exclude"),
    "a pyramid below": (
        ("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone"),
        r"a pyramid is MODEL\.CLASSIFIER\.HEAD fpn",
    ),
    "levels of another head": (("MODEL.CLASSIFIER.HEAD", "fpn"), r"\['res3', 'res4', 'res5'\]"),
    "features that the head does not have": (
        ("MODEL.CLASSIFIER.HEAD_CHANNELS", "64"),
        r"HEAD_CHANNELS is 64 but MODEL\.CLASSIFIER\.HEAD is plain.* at 256, or set HEAD to fpn or",
    ),
    "a share that a mean does not take": (
        ("MODEL.CLASSIFIER.POOL", "avg", "MODEL.CLASSIFIER.TOP_SHARE", "0.1"),
        r"TOP_SHARE is 0\.1 but MODEL\.CLASSIFIER\.POOL is avg.* at 0\.05, or set POOL to top",
    ),
    "an unknown pooling": (("MODEL.CLASSIFIER.POOL", "mean"), r"avg \| max \| lse \| top"),
    "a second look at many classes": ((*NATIVE_OFF, *TWO_CLASSES), "exclude each other"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_config_that_cannot_be_meant_is_refused(engine, case):
    overrides, said = BAD[case]
    with pytest.raises(ConfigError, match=said):
        classifier_config(engine, *overrides)


def test_a_detector_has_no_keys_of_a_classifier(engine):
    with pytest.raises(ConfigError, match=r"MODEL\.CLASSIFIER\.POOL is 'max'.*SimFasterRCNN"):
        smoke_config(engine, "fpn", "MODEL.CLASSIFIER.POOL", "max")


def test_a_side_of_no_pixels_is_refused_and_one_below_the_stride_is_one_cell(engine):
    with pytest.raises(ConfigError, match=r"INPUT\.MAMMO\.SIZE"):
        classifier_config(engine, "INPUT.MAMMO.SIZE", "[0, 0]")
    model = seeded_model(engine, resnet_classifier(engine)).eval()
    (sample,) = positives(1)
    small = dataclasses.replace(sample, image=sample.image[:, :20, :24].contiguous())
    with torch.no_grad():
        assert model.class_maps([small]).shape[-2:] == (1, 1)


def test_a_sample_of_a_detector_is_refused(engine):
    model = seeded_model(engine, classifier_config(engine))
    with pytest.raises(ValueError, match="was loaded without what is known of its classes"):
        engine.training_losses(model, positives(1))


@pytest.mark.detectron2
def test_an_input_of_another_loader_is_refused():
    model = seeded_model(*(lambda e: (e, classifier_config(e)))(load_engine("detectron2")))
    with pytest.raises(DataError, match="comes without 'sample'"):
        model([{"image": torch.zeros(3, 64, 64), "file_name": "a.png"}])


@pytest.mark.parametrize("kind", ["torchvision", "timm"])
def test_imagenet_weights_fill_the_whole_backbone_or_are_refused(engine, kind, tmp_path):
    if kind == "timm":
        path, name = tmp_path / "net.pth", "test_efficientnet"
        wanted = random_timm_model(name)
        torch.save(wanted, path)
        backbone = ("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", name)
    else:
        path = write_imagenet_pth(tmp_path / "resnet18.pth", depth=18)
        wanted, backbone = torch.load(path, weights_only=True), ()
    frozen = ("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.WEIGHTS", path)
    cfg = resnet_classifier(engine, *backbone, *frozen)
    model = initialised(engine, cfg, cfg.MODEL.WEIGHTS)
    own = {n: t for n, t in model.state_dict().items() if n.startswith("backbone.")}
    assert own
    for name, tensor in own.items():
        if not name.endswith("num_batches_tracked"):
            assert any(t.shape == tensor.shape and torch.equal(t, tensor) for t in wanted.values())
    if kind == "torchvision":
        with pytest.raises(CheckpointError, match=r"set MODEL\.RESNETS\.NORM to FrozenBN or BN"):
            initialised(engine, resnet_classifier(engine, "MODEL.WEIGHTS", path), path)
