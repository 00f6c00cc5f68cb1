"""Backbones of timm, deformable stages, a partly frozen res5, slow low stages: on every engine."""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from simfrcnn.engines import LOSS_KEYS
from simfrcnn.engines.common.checkpoints import (
    LAST,
    Identity,
    read_checkpoint,
    save_checkpoint,
    weights_sha256,
)
from simfrcnn.engines.common.layout import lay_out_for_training
from simfrcnn.errors import CheckpointError, ConfigError
from simfrcnn.training import recipe
from simfrcnn.training.precision import training_precision
from support.examples import (
    BATCHES,
    RESNET_FPN,
    initialised,
    resnet_config,
    seeded_model,
    tiny_config,
)
from support.imagenet import random_timm_model, write_imagenet_pth

C4 = ("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME")
FPN = ("MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME")
DEFORM, TRAINED = "MODEL.SIMFRCNN.DEFORM_STAGES", "MODEL.SIMFRCNN.RES5_TRAINED_CONVS"
FACTOR, NORM = "SOLVER.LOW_STAGES_LR_FACTOR", "MODEL.RESNETS.NORM"
FROZEN = (NORM, "FrozenBN", "MODEL.WEIGHTS", "given")
FEW_REGIONS = ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 4, "MODEL.RPN.POST_NMS_TOPK_TEST", 5)

VARIANTS = {
    "timm_c4": ("c4", *C4, "test_resnet", NORM, "BN"),
    "timm_c4_deformable_partly_frozen": (
        *("c4", *C4, "seresnet18", "MODEL.BACKBONE.FREEZE_AT", 2),
        *(DEFORM, "[res3]", TRAINED, 2, FACTOR, 0.1),
    ),
    "timm_fpn": ("fpn", *FPN, "test_resnet", NORM, "BN"),
    "timm_fpn_of_no_resnet": ("fpn", *FPN, "test_efficientnet", NORM, "BN"),
    "timm_fpn_with_its_own_norm": ("fpn", *FPN, "test_convnext", NORM, "''"),
    "deformable_c4": ("c4", DEFORM, "[res5]"),
    "deformable_fpn": ("fpn", DEFORM, "[res3,res4,res5]"),
    "partly_frozen_c4": ("c4", TRAINED, 2, FACTOR, 0.1),
    "partly_frozen_fpn": ("fpn", TRAINED, 2, FACTOR, 0.1),
}


@pytest.fixture(params=VARIANTS)
def variant(request):
    heads, *words = VARIANTS[request.param]
    return heads, (*words, *FEW_REGIONS)


def losses_of(engine, model):
    torch.manual_seed(1)
    return engine.training_losses(model, BATCHES["pairs"])


def test_a_variant_trains_is_saved_and_detects(engine, variant, tmp_path):
    heads, words = variant
    cfg = resnet_config(engine, heads, *words)
    model = seeded_model(engine, cfg)
    optimizer = recipe.build_optimizer(cfg, model)
    losses = losses_of(engine, model)
    assert tuple(losses) == LOSS_KEYS
    assert all(0 <= float(loss.detach()) < 10 for loss in losses.values()), losses
    torch.stack(list(losses.values())).sum().backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert [n for n, p in trained.items() if p.grad is None] == []
    assert all(bool(torch.isfinite(p.grad).all()) for p in trained.values())
    in_groups = sum(len(group["params"]) for group in optimizer.param_groups)
    assert in_groups == len(trained)
    optimizer.step()

    path = tmp_path / "model.pth"
    save_checkpoint(path, model, Identity.of(engine.NAME, cfg))
    other = seeded_model(engine, cfg, seed=9)
    engine.load_weights(other, path)
    for found, again in zip(
        engine.detect(model, BATCHES["pairs"]),
        engine.detect(other, BATCHES["pairs"]),
        strict=True,
    ):
        assert torch.equal(found.boxes, again.boxes)
        assert torch.equal(found.scores, again.scores)


@pytest.mark.parametrize(
    ("heads", "words", "suffix"),
    [
        ("c4", (*C4, "seresnet18"), ".pth"),
        ("fpn", (*FPN, "seresnet18"), ".safetensors"),
        ("fpn", (*FPN, "regnetx_002"), ".pth"),
    ],
)
def test_weights_of_timm_fill_every_tensor(engine, heads, words, suffix, tmp_path):
    state, path = random_timm_model(words[-1]), tmp_path / f"weights{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    frozen_at = ("MODEL.BACKBONE.FREEZE_AT", 2) if words[-1] == "seresnet18" else ()
    cfg = resnet_config(engine, heads, *words, *FROZEN, *frozen_at)
    tensors = list(initialised(engine, cfg, path).state_dict().values())
    for name, tensor in state.items():
        if not name.startswith(("fc.", "head.")) and not name.endswith("num_batches_tracked"):
            assert any(t.shape == tensor.shape and torch.equal(t, tensor) for t in tensors), name


@pytest.mark.parametrize("missing", ["layer1.0.se.fc1.weight", "layer4.1.bn2.running_var"])
def test_a_file_of_timm_that_leaves_a_tensor_unfilled_is_refused(engine, missing, tmp_path):
    state, path = random_timm_model("seresnet18"), tmp_path / "part.pth"
    torch.save({name: tensor for name, tensor in state.items() if name != missing}, path)
    cfg = resnet_config(engine, "c4", *C4, "seresnet18", *FROZEN)
    with pytest.raises(CheckpointError, match=rf"part\.pth.*{re.escape(missing)}.*MODEL\.TIMM"):
        initialised(engine, cfg, path)
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"batch normalisation.*FrozenBN or BN"):
        initialised(engine, resnet_config(engine, "c4", *C4, "seresnet18"), path)


def test_a_detector_of_timm_starts_another(engine, tmp_path):
    cfg = resnet_config(engine, "c4", *C4, "test_resnet", NORM, "BN")
    first, path = seeded_model(engine, cfg, seed=4), tmp_path / "detector.pth"
    save_checkpoint(path, first, Identity.of(engine.NAME, cfg))
    second = initialised(engine, cfg, path).state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.state_dict().items())
    other = resnet_config(engine, "c4", *C4, "seresnet18", NORM, "BN")
    with pytest.raises(CheckpointError, match=r"MODEL\.TIMM\.NAME is test_resnet in the file"):
        initialised(engine, other, path)


def test_deformable_stages_start_as_the_plain_network_from_its_weights(engine, tmp_path):
    path = write_imagenet_pth(tmp_path / "resnet18.pth", depth=18)
    plain = initialised(engine, resnet_config(engine, "fpn", *FROZEN), path)
    cfg = resnet_config(engine, "fpn", *FROZEN, DEFORM, "[res3,res4,res5]")
    deformable = initialised(engine, cfg, path)
    new = deformable.state_dict().keys() - plain.state_dict().keys()
    assert len(new) == 2 * 6  # two offsets' tensors in each of two blocks of three stages
    assert all(".conv2.offset." in name for name in new)
    expected = losses_of(engine, plain)
    for name, loss in losses_of(engine, deformable).items():
        assert float(loss.detach()) == pytest.approx(float(expected[name].detach()), abs=1e-4), name


@pytest.mark.parametrize("heads", ["c4", "fpn"])
def test_a_partly_frozen_res5_keeps_all_but_its_last_two_convolutions(engine, heads):
    cfg = resnet_config(
        engine, heads, TRAINED, 2, "MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256
    )
    res5 = seeded_model(engine, cfg).stages["res5"]
    trained = [name for name, p in res5.named_parameters() if p.requires_grad]
    convolutions = [name for name in trained if re.fullmatch(r"\d+\.conv\d\.weight", name)]
    assert convolutions == ["2.conv2.weight", "2.conv3.weight"]
    assert len(trained) == 2 + 2 * 2  # and scale and shift of their norm layers
    with pytest.raises(ConfigError, match=r"RES5_TRAINED_CONVS is 11, but res5 has 10"):
        seeded_model(engine, resnet_config(engine, heads, *words_of(cfg), TRAINED, 11))


def words_of(cfg):
    keys = ("DEPTH", "RES2_OUT_CHANNELS")
    return [word for key in keys for word in (f"MODEL.RESNETS.{key}", cfg.MODEL.RESNETS[key])]


def test_stages_hold_the_parameters_that_their_names_say(engine, heads):
    model = seeded_model(engine, resnet_config(engine, heads))
    assert list(model.stages) == ["stem", "res2", "res3", "res4", "res5"]
    counts = [sum(p.numel() for p in s.parameters()) for s in model.stages.values()]
    # ResNet-18 by hand: 7x7x3x64 and norm; two basic blocks of 64, 128, 256, 512 channels.
    assert counts == [9536, 147968, 525568, 2099712, 8393728]


def test_stages_that_a_backbone_has_not_are_refused(engine):
    for words in ((DEFORM, "[res3]"), (TRAINED, 2), (FACTOR, 0.1)):
        cfg = resnet_config(engine, "fpn", *FPN, "test_convnext", NORM, "''", *words)
        with pytest.raises(ConfigError, match=rf"{re.escape(words[0])} needs res.*not being a Res"):
            engine.build_model(cfg)
    cfg = resnet_config(engine, "fpn", *FPN, "skresnet18", NORM, "BN", DEFORM, "[res3]")
    with pytest.raises(ConfigError, match=r"DEFORM_STAGES names res3.*plain 3x3"):
        engine.build_model(cfg)


def test_two_learning_rates_train_and_resume_exactly(engine, tmp_path):
    words = (*RESNET_FPN, FACTOR, 0.1, TRAINED, 2, "SOLVER.STEPS", "[2]", "SOLVER.WARMUP_ITERS", 1)
    words += ("INPUT.MAMMO.SIZE", "[64, 64]")
    one, two = tmp_path / "one", tmp_path / "two"
    whole = engine.train(tiny_config(engine, "fpn", one, *words, "SOLVER.MAX_ITER", 3))
    engine.train(tiny_config(engine, "fpn", two, *words, "SOLVER.MAX_ITER", 1))
    cfg = tiny_config(engine, "fpn", two, *words, "SOLVER.MAX_ITER", 3)
    resumed = read_checkpoint(engine.train(cfg, resume=True))
    expected = read_checkpoint(whole)
    for name, tensor in expected["model"].items():
        assert torch.equal(tensor, resumed["model"][name]), name
    rates = [group["lr"] for group in resumed["training"]["optimizer"]["param_groups"]]
    assert rates == pytest.approx([0.1 * 0.0003, 0.01 * 0.0003])
    lines = [json.loads(line) for line in (two / "run" / "metrics.json").read_text().splitlines()]
    last = [line["lr"] for line in lines if "lr" in line][-1]
    assert last == pytest.approx(0.1 * 0.0003)
    back = tiny_config(engine, "fpn", two, *words, FACTOR, 1, "SOLVER.MAX_ITER", 4)
    with pytest.raises(CheckpointError, match=r"SOLVER\.LOW_STAGES_LR_FACTOR.*changed"):
        engine.train(back, resume=True)
    assert (two / "run" / LAST).exists()


@pytest.mark.parametrize("heads", ["c4", "fpn"])
def test_with_factor_1_the_optimiser_is_one_group_in_the_model_s_order(engine, heads):
    cfg = resnet_config(engine, heads)
    model = seeded_model(engine, cfg)
    (group,) = recipe.build_optimizer(cfg, model).param_groups
    assert all(a is b for a, b in zip(group["params"], model.parameters(), strict=True))


def test_a_training_lays_its_model_out_and_loses_the_same(engine, tmp_path):
    """EfficientNet has depthwise convolutions: channels last, also in float32."""
    cfg = resnet_config(engine, "fpn", *FPN, "test_efficientnet", NORM, "BN", *FEW_REGIONS)
    plain = seeded_model(engine, cfg)
    laid = lay_out_for_training(cfg, seeded_model(engine, cfg), training_precision(cfg))
    kernels = [p for p in laid.parameters() if p.dim() == 4 and p.shape[1] > 1 < p.shape[2]]
    assert kernels
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    paths = [tmp_path / "plain.pth", tmp_path / "laid.pth"]
    for path, model in zip(paths, (plain, laid), strict=True):
        save_checkpoint(path, model, Identity.of(engine.NAME, cfg))
    assert len({weights_sha256(path) for path in paths}) == 1
    one, two = losses_of(engine, plain), losses_of(engine, laid)
    for name, loss in one.items():
        assert float(two[name].detach()) == pytest.approx(float(loss.detach()), abs=1e-4), name
