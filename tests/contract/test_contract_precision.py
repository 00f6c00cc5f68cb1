"""bfloat16 on a CPU: losses, what stays float32, a run that changes machines, and detection.

bfloat16 is the same arithmetic on a CPU without units for it, only slower: the units are pretended.
"""

import json

import pytest
import torch
from torch.nn import functional

from simfrcnn.engines.common.checkpoints import LAST, read_checkpoint, save_checkpoint
from simfrcnn.engines.common.inference import detecting, load_detector, precision_of
from simfrcnn.training import precision, recipe
from simfrcnn.training.precision import training_precision
from support.examples import normals, positives, seeded_model, smoke_config, tiny_config
from support.labelled_examples import LABELS_ON, labelled, learn_from_all_regions

LABELS = "MODEL.SIMFRCNN.LABELS."

SECOND_LOOK = ("MODEL.SECOND_LOOK.ENABLED", "True", "MODEL.SECOND_LOOK.SOURCE", "input")
MASKS = (
    *("MODEL.MASK_ON", "True", "MODEL.ROI_MASK_HEAD.NAME", "SimMaskHead"),
    *("MODEL.ROI_MASK_HEAD.NUM_CONV", "2", "MODEL.ROI_MASK_HEAD.CONV_DIM", "16"),
)

needs_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="without AVX-512 torch computes bfloat16 one number at a time",
)


@pytest.fixture
def units(monkeypatch):
    """Say which units the CPU has."""

    def pretend(*names):
        monkeypatch.setattr(precision, "bf16_units", lambda: names)

    return pretend


def forward(engine, cfg, batch):
    """Losses of a fresh model in the precision that training would use, and the model."""
    model = seeded_model(engine, cfg)
    recipe.seed_step(0, 0)
    with training_precision(cfg).autocast("cpu"):
        return engine.training_losses(model, batch), model


def losses_of(engine, cfg, batch):
    """The losses, and the gradients of their sum."""
    losses, model = forward(engine, cfg, batch)
    torch.stack(list(losses.values())).sum().backward()
    detached = {name: loss.detach() for name, loss in losses.items()}
    return detached, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


# The regions of a few are another few after rounding, so that their losses say little.
MANY_REGIONS = (
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", "100", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "50"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "32", "MODEL.FPN.OUT_CHANNELS", "128"),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", "256"),
)


@needs_bfloat16
def test_losses_in_bfloat16_are_those_of_float32_within_2_percent(engine, units):
    batch = positives(1) + normals(1)
    exact, _ = losses_of(engine, smoke_config(engine, "fpn", *MANY_REGIONS), batch)
    units("amx_bf16")
    asked = smoke_config(engine, "fpn", *MANY_REGIONS, "SOLVER.AMP.ENABLED", "True")
    rounded, gradients = losses_of(engine, asked, batch)
    assert {loss.dtype for loss in rounded.values()} == {torch.float32}
    total, expected = (float(sum(losses.values())) for losses in (rounded, exact))
    assert total == pytest.approx(expected, rel=0.02)
    assert total != expected  # it was not float32
    for name, loss in rounded.items():
        assert float(loss) == pytest.approx(float(exact[name]), rel=0.02, abs=0.002), name
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}


@pytest.fixture
def cache_of_older_builds(monkeypatch):
    """Weights that were cast without gradient are taken again with gradient, until the cache is
    cleared: so did torch before it looked at the mode, and CUDA builds may.
    """
    casts = {}

    def cast_of(weight):
        if not (torch.is_autocast_enabled("cpu") and weight.requires_grad):
            return weight
        if id(weight) not in casts:
            casts[id(weight)] = weight.to(torch.bfloat16)
        return casts[id(weight)]

    def cached(plain):
        return lambda inputs, weight, *rest: plain(inputs, cast_of(weight), *rest)

    for name in ("linear", "conv2d"):
        monkeypatch.setattr(functional, name, cached(getattr(functional, name)))
    clear = torch.clear_autocast_cache
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: (casts.clear(), clear()))
    return casts


def label_alone(engine, heads, *words):
    """``loss_label`` of two images, and every gradient."""
    cfg = smoke_config(engine, heads, *MANY_REGIONS, *LABELS_ON, f"{LABELS}PROPOSALS", "8", *words)
    losses, model = forward(engine, cfg, labelled(2, weight=0.7))
    losses["loss_label"].backward()
    return losses["loss_label"].detach(), {
        name: p.grad for name, p in model.named_parameters() if p.grad is not None
    }


@needs_bfloat16
def test_a_label_reaches_the_same_weights_in_bfloat16(engine, heads, units, monkeypatch):
    """One region is chosen in one pass and learnt from in another, both in bfloat16."""
    exact, of_float32 = label_alone(engine, heads)
    units("amx_bf16")
    asked = ("SOLVER.AMP.ENABLED", "True")
    loss, gradients = label_alone(engine, heads, *asked)
    assert float(loss) == pytest.approx(float(exact), rel=0.01)
    assert float(loss) != float(exact)  # it was not float32
    reached = [name for name, own in of_float32.items() if bool(own.any())]
    assert len(reached) > 5
    assert all(gradients[name].dtype == torch.float32 for name in reached)
    assert [name for name in reached if not bool(gradients[name].any())] == []
    together, expected = (
        torch.cat([own[name].flatten() for name in reached]) for own in (gradients, of_float32)
    )
    assert float((together - expected).norm() / expected.norm()) < 0.1
    # Where all regions keep their graph the rounding is the same.
    learn_from_all_regions(engine, monkeypatch, 0.7)
    of_all, gradients_of_all = label_alone(engine, heads, *asked)
    torch.testing.assert_close(loss, of_all, rtol=0, atol=1e-6)
    for name in reached:
        torch.testing.assert_close(gradients[name], gradients_of_all[name], rtol=0, atol=1e-6)


@needs_bfloat16
def test_what_was_cast_to_choose_a_region_is_not_learnt_with(
    engine, heads, units, cache_of_older_builds
):
    _, of_float32 = label_alone(engine, heads)
    assert not cache_of_older_builds
    units("amx_bf16")
    _, gradients = label_alone(engine, heads, "SOLVER.AMP.ENABLED", "True")
    reached = {name for name, own in of_float32.items() if bool(own.any())}
    assert reached == {name for name, own in gradients.items() if bool(own.any())}


@needs_bfloat16
def test_a_run_goes_on_on_a_machine_with_other_units(engine, units, tmp_path, caplog):
    plain = tiny_config(engine, "fpn", tmp_path / "plain", "SOLVER.MAX_ITER", "1")
    expected = read_checkpoint(engine.train(plain))["model"]

    def part(n_steps, *words):
        cfg = tiny_config(engine, "fpn", tmp_path, "SOLVER.MAX_ITER", str(n_steps), *words)
        engine.train(cfg, resume=n_steps > 1)
        content = read_checkpoint(tmp_path / "run" / LAST)
        assert content["training"]["step"] == n_steps
        assert {t.dtype for t in content["model"].values() if t.is_floating_point()} == {
            torch.float32
        }
        manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
        return content["model"], manifest["precision"]

    # Asked for without the units: a warning, and the very steps of float32.
    assert "bfloat16" not in caplog.text
    units()
    with caplog.at_level("WARNING"):
        first, said = part(1, "SOLVER.AMP.ENABLED", "True")
    assert said == {"asked": "mixed", "used": "float32", "why": said["why"]}
    assert "neither avx512_bf16 nor amx_bf16" in said["why"]
    assert said["why"] in caplog.text
    assert all(torch.equal(tensor, expected[name]) for name, tensor in first.items())
    units("avx512_bf16")
    second, said = part(2, "SOLVER.AMP.AUTO_ON_CPU", "True")
    assert said == {"asked": "auto", "used": "bfloat16", "why": "this CPU has avx512_bf16"}
    assert any(not torch.equal(tensor, second[name]) for name, tensor in first.items())
    earlier = json.loads((tmp_path / "run" / "manifest_to_step0000001.json").read_text())
    assert earlier["precision"]["asked"] == "mixed"


def test_detection_is_in_float32_whatever_training_uses(engine, units):
    units("amx_bf16")
    samples = positives(1) + normals(1)
    plain, asked = (
        smoke_config(engine, "fpn"),
        smoke_config(engine, "fpn", "SOLVER.AMP.ENABLED", "True"),
    )
    found = [engine.detect(seeded_model(engine, cfg), samples) for cfg in (plain, asked)]
    for one, two in zip(*found, strict=True):
        assert torch.equal(one.boxes, two.boxes)
        assert torch.equal(one.scores, two.scores)


def test_validation_is_in_float32_whatever_detection_uses(engine, units, tmp_path):
    units("amx_bf16")
    words = ("TEST.AMP.ENABLED", "True", "DATASETS.VAL", "[tiny]", "SOLVER.MAX_ITER", "1")
    seen = set()

    def look(module, _inputs):
        if not module.training:
            seen.add(torch.is_autocast_enabled("cpu"))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        engine.train(tiny_config(engine, "fpn", tmp_path, *words))
    finally:
        hook.remove()
    assert seen == {False}


def bytes_of(engine, cfg, tmp_path):
    """A checkpoint of seeded weights."""
    model = seeded_model(engine, cfg)
    save_checkpoint(tmp_path / "model.pth", model, model.identity)
    return tmp_path / "model.pth"


@pytest.mark.parametrize("words", [(), SECOND_LOOK, MASKS], ids=["plain", "second look", "masks"])
@needs_bfloat16
def test_detection_in_bfloat16_finds_what_float32_finds(engine, units, tmp_path, caplog, words):
    units("amx_bf16")
    samples = positives(1) + normals(1)
    exact, rounded = (
        smoke_config(engine, "fpn", *words, "TEST.AMP.ENABLED", asked)
        for asked in ("False", "True")
    )
    weights = bytes_of(engine, exact, tmp_path)
    found = []
    for cfg in (exact, rounded):
        caplog.clear()
        with caplog.at_level("INFO"):
            model = load_detector(engine, cfg, weights)
        with detecting(cfg):
            found.append(engine.detect(model, samples))
    assert "detection computes in bfloat16: this CPU has amx_bf16" in caplog.text
    assert precision_of(exact) == {}
    assert precision_of(rounded) == {"precision": "bfloat16"}
    for one, two in zip(*found, strict=True):
        assert two.boxes.dtype == two.scores.dtype == torch.float32
        assert len(two.scores) > 0
        assert float(two.scores.max()) == pytest.approx(float(one.scores.max()), rel=0.05)
        assert not torch.equal(one.scores, two.scores)


def test_detection_in_bfloat16_needs_the_units(engine, units, tmp_path, caplog):
    units()
    cfg = smoke_config(engine, "fpn", "TEST.AMP.ENABLED", "True")
    weights = bytes_of(engine, cfg, tmp_path)
    model = load_detector(engine, cfg, weights)
    assert "detection computes in float32: this CPU has neither avx512_bf16" in caplog.text
    assert precision_of(cfg) == {}
    plain = smoke_config(engine, "fpn")
    samples = positives(1)
    (one,), (two,) = (
        detect_in(each, engine, load_detector(engine, each, weights), samples)
        for each in (cfg, plain)
    )
    assert torch.equal(one.scores, two.scores)
    assert model.training is False


def detect_in(cfg, engine, model, samples):
    with detecting(cfg):
        return engine.detect(model, samples)


def test_the_layout_of_a_detector_changes_its_last_digits_at_most(engine, tmp_path):
    samples = positives(1) + normals(1)
    cfg = smoke_config(engine, "fpn", *SECOND_LOOK)
    weights = bytes_of(engine, cfg, tmp_path)
    laid = load_detector(engine, cfg, weights)
    convolutions = [p for p in laid.parameters() if p.dim() == 4 and p.shape[1] > 1 < p.shape[2]]
    assert convolutions
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in convolutions)
    for one, two in zip(
        engine.detect(seeded_model(engine, cfg), samples), engine.detect(laid, samples), strict=True
    ):
        assert torch.allclose(one.scores, two.scores, atol=1e-5)
        assert torch.allclose(one.boxes, two.boxes, atol=1e-2)
