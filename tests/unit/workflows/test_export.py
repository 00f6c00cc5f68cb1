"""What a model that is given away holds, and what is printed of it."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from simfrcnn import config
from simfrcnn.cli.main import main
from simfrcnn.engines.common.checkpoints import (
    Description,
    Identity,
    read_checkpoint,
    save_checkpoint,
    state_sha256,
    weights_sha256,
    write_checkpoint,
)
from simfrcnn.engines.common.descriptions import facts_of_model, read_described, without_places
from simfrcnn.engines.common.score_keys import keys_of_detection
from simfrcnn.errors import CheckpointError, OutputError
from simfrcnn.evaluation import operating
from simfrcnn.files import sha256_of
from simfrcnn.workflows.export import ROUNDED, describe_model, export_model
from simfrcnn.workflows.testing import keep_in_checkpoints
from support.evaluation_examples import chosen_points as points

SECRET = "/home/somebody/patients"


def resolved():
    cfg = config.portable_defaults()
    config.add_simfrcnn_config(cfg)
    cfg.DATASETS.FILES = (f"a/train={SECRET}/train.json",)
    cfg.OUTPUT_DIR = f"{SECRET}/run"
    cfg.MODEL.WEIGHTS = f"{SECRET}/resnet18.pth"
    cfg.MODEL.SECOND_LOOK.BACKBONE_WEIGHTS = f"{SECRET}/lite0.pth"
    return cfg


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(300, 40), nn.BatchNorm1d(40))


@pytest.fixture
def run(tmp_path, model):
    """A run folder with a best and a last checkpoint of other weights."""
    folder = tmp_path / "run"
    cfg = resolved()
    description = Description.of(cfg, {"name": "run", "limits": ["phantoms only"], "licence": ""})
    training = {"step": 7, "optimizer": {"state": {0: torch.zeros(40, 300)}}}
    identity = Identity.of("torchvision", cfg)
    save_checkpoint(folder / "model_best.pth", model, identity, training, description)
    with torch.no_grad():
        model[0].bias += 1
    save_checkpoint(folder / "model_last.pth", model, identity, training, description)
    with torch.no_grad():
        model[0].bias -= 1
    return folder


def test_points_go_into_the_judged_checkpoint_alone_and_change_nothing_else(run):
    best, last = run / "model_best.pth", run / "model_last.pth"
    before, untouched = read_checkpoint(best), last.read_bytes()
    digest = weights_sha256(best)
    keep_in_checkpoints(run, digest, points(digest), {})
    assert last.read_bytes() == untouched
    after = read_checkpoint(best)
    assert operating.points_from(after["operating_points"], source=best) == points(digest)
    assert weights_sha256(best) == digest
    assert state_sha256(after["model"]) == state_sha256(before["model"])
    assert {k: v for k, v in after.items() if k in ("config", "classes", "architecture")} == {
        k: v for k, v in before.items() if k in ("config", "classes", "architecture")
    }
    written = best.stat().st_mtime_ns
    keep_in_checkpoints(run, digest, points(digest), {})  # nothing new: the file stays
    keep_in_checkpoints(run, digest, None, {})  # judged again, without a validation set
    assert best.stat().st_mtime_ns == written
    assert read_checkpoint(best)["operating_points"] is not None


def test_what_resuming_needs_stays_in_the_last_checkpoint_and_leaves_the_best(run):
    """Detectron2's best once had it, and with it the squares of a second look."""
    best, last = run / "model_best.pth", run / "model_last.pth"
    last.write_bytes(best.read_bytes())
    before = read_checkpoint(last)["training"]
    digest = weights_sha256(last)
    keep_in_checkpoints(run, digest, points(digest), {})
    after = read_checkpoint(last)
    assert operating.points_from(after["operating_points"], source=last) == points(digest)
    assert after["training"]["step"] == before["step"] == 7
    states = [each["optimizer"]["state"][0] for each in (before, after["training"])]
    assert torch.equal(*states)
    assert read_checkpoint(best)["training"] is None
    assert weights_sha256(best) == digest


def test_a_file_of_an_earlier_version_is_never_rewritten(run, model):
    best = run / "model_best.pth"
    content = {"schema": 1, "engine": "torchvision", "architecture": {}, "training": None}
    torch.save({**content, "model": model.state_dict()}, best)
    before = best.read_bytes()
    keep_in_checkpoints(run, weights_sha256(best), points(weights_sha256(best)), {})
    assert best.read_bytes() == before


def test_an_export_holds_the_model_and_no_place_of_this_disk(run, tmp_path, model):
    last, given = run / "model_last.pth", tmp_path / "given.pth"
    (run / "model_best.pth").rename(last)
    digest = weights_sha256(last)
    keep_in_checkpoints(run, digest, points(digest), {})
    assert export_model(last, given, licence="CC BY 4.0", limits=["film only"]) == given
    assert read_checkpoint(last)["training"]["step"] == 7
    content = read_checkpoint(given, Identity.of("torchvision", resolved()))
    assert content["training"] is None
    assert weights_sha256(given) == digest
    assert operating.points_from(content["operating_points"], source=given) == points(digest)
    assert content["card"]["licence"] == "CC BY 4.0"
    assert content["card"]["name"] == "run"
    assert content["card"]["limits"] == ["phantoms only", "film only"]
    assert SECRET.encode() not in given.read_bytes()
    assert "resnet18.pth" in content["config"]
    assert given.stat().st_size < 0.7 * last.stat().st_size
    with pytest.raises(OutputError, match=r"given\.pth is there already"):
        export_model(last, given)
    with pytest.raises(OutputError, match=r"given\.bin: a model is written as \.pth or \.safe"):
        export_model(last, tmp_path / "given.bin")


def test_safetensors_say_the_same_as_a_pth_and_are_always_the_same_bytes(run, tmp_path):
    best = run / "model_best.pth"
    digest = weights_sha256(best)
    keep_in_checkpoints(run, digest, points(digest), {})
    pth = export_model(best, tmp_path / "given.pth")
    first, second = (export_model(best, tmp_path / f"{n}.safetensors") for n in "ab")
    assert first.read_bytes() == second.read_bytes()
    identity = Identity.of("torchvision", resolved())
    theirs, ours = read_checkpoint(pth, identity), read_checkpoint(first, identity)
    assert state_sha256(ours.pop("model")) == state_sha256(theirs.pop("model"))
    assert ours == theirs
    assert describe_model(first).operating_points == describe_model(pth).operating_points
    assert SECRET.encode() not in first.read_bytes()
    with safe_open(str(first), framework="pt") as stream:  # as any other reader finds it
        assert "0.weight" in stream.keys()  # noqa: SIM118 (no dict)
    again = export_model(first, tmp_path / "again.pth")
    assert weights_sha256(again) == digest


def test_damaged_safetensors_are_an_error_that_names_the_file(run, tmp_path):
    whole = export_model(run / "model_best.pth", tmp_path / "whole.safetensors").read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors is damaged or not a safetensors"):
        describe_model(cut)
    cut.write_bytes(b"{}")
    with pytest.raises(CheckpointError, match=r"cut\.safetensors is damaged or not a safetensors"):
        describe_model(cut)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(3)}, foreign)
    with pytest.raises(CheckpointError, match=r"foreign\.safetensors is not a checkpoint of simf"):
        describe_model(foreign)
    no_json = tmp_path / "no_json.safetensors"
    save_file({"a": torch.zeros(3)}, no_json, {"simfrcnn": "{"})
    with pytest.raises(CheckpointError, match=r"no_json\.safetensors is damaged.*no JSON"):
        describe_model(no_json)


def test_safetensors_hold_no_training(run, tmp_path):
    content = read_checkpoint(run / "model_best.pth")
    with pytest.raises(CheckpointError, match="cannot hold the state of a training"):
        write_checkpoint(tmp_path / "a.safetensors", content)
    assert not list(tmp_path.glob("*.safetensors*"))


def test_half_precision_has_points_of_its_own_and_says_so(run, tmp_path, model):
    best, half = run / "model_best.pth", tmp_path / "half.pth"
    digest = weights_sha256(best)
    keep_in_checkpoints(run, digest, points(digest), {})
    export_model(best, half, precision="half")
    content = read_checkpoint(half)
    assert torch.equal(content["model"]["0.weight"], model[0].weight.half().float())
    assert torch.equal(content["model"]["1.running_var"], model[1].running_var)
    own = weights_sha256(half)
    assert own != digest
    assert content["operating_points"]["checkpoint_sha256"] == own
    assert content["card"]["limits"] == ["phantoms only", ROUNDED["half"]]
    assert content["card"]["exported_from"] == digest
    stored = torch.load(half, weights_only=True)["model"]
    assert stored["0.weight"].dtype == torch.float16
    assert stored["1.num_batches_tracked"].dtype == torch.int64


def test_int8_is_a_quarter_of_the_size_and_half_a_step_away_at_most(run, tmp_path, model):
    best, small = run / "model_best.pth", tmp_path / "small.safetensors"
    with torch.no_grad():
        model[0].weight[3] = 0
        model[0].weight[4] *= 1e6  # a channel of its own range
    save_checkpoint(
        best,
        model,
        Identity.of("torchvision", resolved()),
        description=Description.of(resolved(), {"name": "run", "limits": []}),
    )
    digest = weights_sha256(best)
    keep_in_checkpoints(run, digest, points(digest), {})
    export_model(best, small, precision="int8")
    content = read_checkpoint(small)
    assert content["model"].keys() == model.state_dict().keys()
    weight = model[0].weight.detach()
    off = (content["model"]["0.weight"] - weight).abs()
    half_a_step = weight.abs().amax(1, keepdim=True) / 127 / 2
    assert bool((off <= half_a_step * 1.001).all())
    assert float(off.max()) > 0
    assert not content["model"]["0.weight"][3].any()
    assert torch.equal(content["model"]["1.running_var"], model[1].running_var)
    assert content["card"]["limits"] == [ROUNDED["int8"]]
    assert content["operating_points"]["checkpoint_sha256"] == weights_sha256(small) != digest
    with safe_open(str(small), framework="pt") as stream:
        assert stream.get_tensor("0.weight").dtype == torch.int8
        tensors = {n: stream.get_tensor(n) for n in stream.keys() if n != "0.weight.int8_scale"}  # noqa: SIM118
        texts = stream.metadata()
    again = export_model(small, tmp_path / "again.safetensors", precision="int8")
    assert weights_sha256(again) == weights_sha256(small)
    save_file(tensors, small, texts)
    with pytest.raises(
        CheckpointError, match=r"small\.safetensors is damaged: it lacks '0\.weight\.int8"
    ):
        read_checkpoint(small)


def test_a_model_of_an_earlier_version_is_completed_or_refused(tmp_path, model):
    old = tmp_path / "model_best.pth"
    content = {"schema": 1, "engine": "torchvision", "architecture": {}, "training": None}
    torch.save({**content, "model": model.state_dict()}, old)
    with pytest.raises(CheckpointError, match=r"model_best\.pth does not hold.*--config-file"):
        export_model(old, tmp_path / "new.pth")
    (tmp_path / "config.yaml").write_text(resolved().dump())
    operating.write_operating_points(tmp_path / "operating_points.json", points(sha256_of(old)))
    export_model(old, tmp_path / "new.pth")
    exported = read_checkpoint(tmp_path / "new.pth")
    assert exported["schema"] == 2
    assert exported["classes"] == ["malignant"]
    # Its points now name the weights, no longer the old file.
    assert exported["operating_points"]["checkpoint_sha256"] == weights_sha256(tmp_path / "new.pth")
    assert exported["card"]["name"] == "model_best"


def test_show_prints_the_card_the_points_and_what_is_missing(run, capsys):
    best = run / "model_best.pth"
    assert main(["show", str(best)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# run\n")
    assert "phantoms only" in printed
    assert "a training can go on from it after step 7; it holds that training's state" in printed
    assert "squares of training images: hand on what `simfrcnn export` writes" in printed
    assert "holds no operating points" in printed
    keep_in_checkpoints(run, weights_sha256(best), points(weights_sha256(best)), {})
    capsys.readouterr()
    assert main(["show", str(best)]) == 0
    printed = capsys.readouterr().out
    assert "case/youden: positive from score 0.3750 on (sensitivity 0.800" in printed
    assert "case/specificity: none; none was good enough" in printed
    assert main(["show", str(best), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n_parameters"] == 300 * 40 + 40 + 4 * 40 + 1
    assert told["weights_sha256"] == describe_model(best).weights_sha256
    assert main(["show", str(best), "--config"]) == 0
    assert capsys.readouterr().out == resolved().dump()


def test_what_is_no_checkpoint_is_refused_by_name(tmp_path, capsys):
    (tmp_path / "x.pth").write_bytes(b"")
    assert main(["show", str(tmp_path / "x.pth")]) == 2
    assert "x.pth" in capsys.readouterr().err


def test_the_facts_of_a_training_are_those_of_the_file() -> None:
    cfg = resolved()
    cfg.DATASETS.TRAIN = ("other/train",)
    card = {
        **{"trained_on": [{"name": "a/train"}, {"name": "b/train"}], "seed": 7},
        "config": "demo/sim",
    }
    content = {"card": card, "config": resolved().dump()}
    facts = facts_of_model(cfg, Path("runs/model_best.pth"), content)
    sha256 = hashlib.sha256(without_places(resolved().dump()).encode()).hexdigest()
    assert facts == {
        **{"checkpoint": "model_best.pth", "model": "GeneralizedRCNN, build_resnet_backbone"},
        **{"config": "demo/sim", "config_sha256": sha256},
        **{"trained_on": ["a/train", "b/train"], "seed": 7},
        "detected_with": keys_of_detection(cfg),
    }
    for none in (None, {}, {"trained_on": []}):  # a file of an earlier version
        bare = facts_of_model(cfg, Path("x.pth"), {"card": none, "config": None})
        assert set(bare) == {"checkpoint", "model", "detected_with"}


def test_the_hash_of_a_config_is_the_same_after_export(run, tmp_path, capsys):
    """And anybody can compute it, from what ``show --config`` prints of the exported file."""
    exported = tmp_path / "model.pth"
    export_model(run / "model_best.pth", exported)
    first, second = (
        facts_of_model(resolved(), path, read_described(path)[0])
        for path in (run / "model_best.pth", exported)
    )
    assert first["config_sha256"] == second["config_sha256"]
    capsys.readouterr()
    assert main(["show", str(exported), "--config"]) == 0
    printed = capsys.readouterr().out
    assert hashlib.sha256(printed.encode()).hexdigest() == second["config_sha256"]
    content = read_checkpoint(run / "model_best.pth")
    other = resolved()
    other.SOLVER.BASE_LR = 0.5
    changed = facts_of_model(other, exported, {**content, "config": other.dump()})
    assert changed["config_sha256"] != first["config_sha256"]
