"""ImageNet weights, Caffe2's too, and whole detectors as the start of a training."""

import pickle

import pytest
import torch

from simfrcnn.engines.common.checkpoints import Identity, save_checkpoint
from simfrcnn.engines.common.weights import torchvision_name
from simfrcnn.errors import CheckpointError
from support.examples import RESNET_FPN

pytestmark = pytest.mark.detectron2
FROZEN_50 = ("MODEL.RESNETS.DEPTH", "50", "MODEL.RESNETS.RES2_OUT_CHANNELS", "256")
FROZEN_50 += ("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.WEIGHTS", "given-below.pth")
PREFIXES = ("backbone.bottom_up.", "backbone.", "roi_heads.")


def build(cfg, seed=0):
    from simfrcnn.engines.detectron2 import build_model

    torch.manual_seed(seed)
    return build_model(cfg)


def body_of(model):
    """The ResNet's tensors by torchvision's names, found here without the code under test."""
    body = {}
    for name, tensor in model.state_dict().items():
        short = name
        for prefix in PREFIXES:
            short = short.removeprefix(prefix)
        if (new := torchvision_name(short)) and not new.endswith("num_batches_tracked"):
            body[new] = tensor
    return body


def random_like(body):
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.rand(tensor.shape, generator=generator) * 0.1 for name, tensor in body.items()
    }


def load(model, path):
    from simfrcnn.engines.detectron2.weights import load_initial_weights

    load_initial_weights(model, str(path))


@pytest.mark.parametrize("head", ["c4", "fpn"])
def test_torchvisions_weights_fill_the_backbone_and_nothing_else(make_cfg, tmp_path, head):
    backbone = RESNET_FPN if head == "fpn" else ()
    model = build(make_cfg(head, *backbone, *FROZEN_50))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = random_like(body_of(model))
    # 53 convolutions and 53 norm layers of four tensors: the whole of a ResNet-50 without its fc.
    assert len(weights) == 53 * 5
    torch.save({**weights, "fc.weight": torch.zeros(2, 2)}, tmp_path / "resnet50.pth")
    load(model, tmp_path / "resnet50.pth")
    body = body_of(model)
    assert all(torch.equal(body[name], weights[name]) for name in weights)
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert len(changed) == len(weights)


def test_torchvisions_own_network_is_the_same_function(make_cfg, tmp_path):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(3)
    network = torchvision.models.resnet50().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(network.state_dict(), tmp_path / "resnet50.pth")
    model = build(make_cfg("c4", *FROZEN_50)).eval()
    load(model, tmp_path / "resnet50.pth")
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = network.maxpool(network.relu(network.bn1(network.conv1(image))))
        expected = network.layer3(network.layer2(network.layer1(x)))
        features = model.backbone(image)["res4"]
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            model.roi_heads.res5(features), network.layer4(expected), rtol=1e-4, atol=1e-4
        )


def test_caffe2s_names_and_norms_are_understood(make_cfg, tmp_path):
    model = build(make_cfg("c4", *FROZEN_50))
    weights = random_like(body_of(model))
    blobs = {caffe2_name(name): value.numpy() for name, value in weights.items()}
    blobs = {name: value for name, value in blobs.items() if name is not None}
    blobs["fc1000_w"] = torch.zeros(2, 2).numpy()
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"blobs": blobs}))
    load(model, tmp_path / "R-50.pkl")
    body = body_of(model)
    for name, value in weights.items():
        if name.endswith("running_mean"):
            assert body[name].abs().max() == 0, name
        elif name.endswith("running_var"):
            assert torch.allclose(body[name] + 1e-5, torch.ones_like(body[name])), name
        else:
            assert torch.equal(body[name], value), name


def caffe2_name(name):
    """``layer1.0.conv2.weight`` -> ``res2_0_branch2b_w``, as MSRA's files have it."""
    if "running" in name:
        return None
    kind = "w" if name.endswith("weight") else "b"
    if name == "conv1.weight":
        return "conv1_w"
    if name.startswith("bn1."):
        return f"res_conv1_bn_{'s' if kind == 'w' else 'b'}"
    stage, block, layer, *rest = name.split(".")
    prefix = f"res{int(stage[-1]) + 1}_{block}_branch"
    if layer == "downsample":
        return f"{prefix}1_w" if rest[0] == "0" else f"{prefix}1_bn_{'s' if kind == 'w' else 'b'}"
    branch = f"2{'abc'[int(layer[-1]) - 1]}"
    if layer.startswith("bn"):
        return f"{prefix}{branch}_bn_{'s' if kind == 'w' else 'b'}"
    return f"{prefix}{branch}_w"


def test_a_file_that_leaves_a_tensor_unfilled_is_refused(make_cfg, tmp_path):
    model = build(make_cfg("c4", *FROZEN_50))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = random_like(body_of(model))
    del weights["layer4.2.conv3.weight"]
    torch.save(weights, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match=r"part\.pth .*missing: layer4\.2\.conv3\.weight"):
        load(model, tmp_path / "part.pth")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_pickle_that_would_run_code_is_not_opened(make_cfg, tmp_path):
    class Crafted:
        def __reduce__(self):
            return (print, ("run",))

    path = tmp_path / "crafted.pkl"
    path.write_bytes(pickle.dumps({"blobs": {"conv1_w": Crafted()}}))
    with pytest.raises(CheckpointError, match=r"crafted\.pkl was not opened: .*print"):
        load(build(make_cfg("c4", *FROZEN_50)), path)
    path.write_bytes(pickle.dumps({"blobs": {"conv1_w": "text"}}))
    with pytest.raises(CheckpointError, match="conv1_w is a str, not an array"):
        load(build(make_cfg("c4", *FROZEN_50)), path)


def test_a_whole_detector_starts_a_training_only_of_its_own_kind(make_cfg, tmp_path):
    cfg = make_cfg("fpn")
    first, path = build(cfg, seed=1), tmp_path / "detector.pth"
    save_checkpoint(path, first, Identity.of("detectron2", cfg))
    second = build(cfg, seed=2)
    load(second, path)
    state = second.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in first.state_dict().items())
    with pytest.raises(CheckpointError, match=r"MODEL\.RESNETS\.DEPTH is 18 in the file, 34"):
        load(build(make_cfg("fpn", "MODEL.RESNETS.DEPTH", "34")), path)
    save_checkpoint(path, first, Identity.of("torchvision", cfg))
    with pytest.raises(CheckpointError, match="--engine torchvision"):
        load(second, path)


@pytest.mark.parametrize(("depth", "n_blocks"), [(18, 2), (34, 3), (50, 3)])
def test_the_c4_head_is_the_stage_of_the_configured_depth(make_cfg, depth, n_blocks):
    wide = ("MODEL.RESNETS.RES2_OUT_CHANNELS", "256") if depth == 50 else ()
    model = build(make_cfg("c4", "MODEL.RESNETS.DEPTH", str(depth), *wide))
    res5 = model.roi_heads.res5
    assert len(res5) == n_blocks
    assert hasattr(res5[0], "conv3") == (depth == 50)
    assert model.roi_heads.box_predictor.cls_score.in_features == (2048 if depth == 50 else 512)
    assert isinstance(res5[0].conv1.norm, torch.nn.GroupNorm)
    assert (
        sum(
            module.stride[0] == 2
            for module in res5[0].modules()
            if hasattr(module, "weight") and isinstance(module, torch.nn.Conv2d)
        )
        == 2
    )  # one convolution and the shortcut
