"""What a checkpoint says of its model, and what the files beside an older one say for it."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from simfrcnn import config
from simfrcnn.engines.common.checkpoints import (
    Description,
    Identity,
    read_checkpoint,
    save_checkpoint,
    state_sha256,
    weights_sha256,
    write_checkpoint,
)
from simfrcnn.engines.common.descriptions import read_described
from simfrcnn.errors import CheckpointError
from simfrcnn.evaluation import operating
from simfrcnn.files import sha256_of
from support.evaluation_examples import chosen_points as points


def resolved():
    cfg = config.portable_defaults()
    config.add_simfrcnn_config(cfg)
    cfg.DATASETS.CLASSES = ("malignant", "benign")
    return cfg


def save_as_schema_1(path, model):
    """As every version before wrote it."""
    torch.save(
        {
            "schema": 1,
            "engine": "torchvision",
            "architecture": {"MODEL.RESNETS.DEPTH": "18"},
            "model": model.state_dict(),
            "training": None,
        },
        path,
    )


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_a_file_says_its_config_classes_and_card(tmp_path, model):
    cfg = resolved()
    path = tmp_path / "m.pth"
    card = {"name": "m", "limits": ["phantoms only"]}
    save_checkpoint(path, model, Identity.of("torchvision", cfg), None, Description.of(cfg, card))
    content = read_checkpoint(path)
    assert content["schema"] == 2
    assert content["config"] == cfg.dump()
    assert content["classes"] == ["malignant", "benign"]
    assert content["target_classes"] == ["malignant"]
    assert content["card"] == card
    assert content["operating_points"] is None
    described, notes = read_described(path)
    assert described["config"] == cfg.dump()
    assert len(notes) == 1
    assert "no operating points" in notes[0]


def test_a_file_of_a_later_version_is_refused_by_name(tmp_path, model):
    path = tmp_path / "later.pth"
    save_checkpoint(path, model, Identity("torchvision", {}))
    torch.save({**torch.load(path, weights_only=True), "schema": 3}, path)
    with pytest.raises(CheckpointError, match=r"later\.pth was written by a later .*schema 3"):
        read_checkpoint(path)


def test_an_older_file_is_completed_by_its_run_folder(tmp_path, model):
    path, cfg = tmp_path / "model_best.pth", resolved()
    save_as_schema_1(path, model)
    content, notes = read_described(path)
    assert content["config"] is None
    assert len(notes) == 3

    (tmp_path / "config.yaml").write_text(cfg.dump())
    operating.write_operating_points(tmp_path / "operating_points.json", points(sha256_of(path)))
    content, notes = read_described(path)
    assert content["config"] == cfg.dump()
    assert content["classes"] == ["malignant", "benign"]
    assert content["operating_points"]["points"][0]["score_threshold"] == 0.375
    assert content["card"] is None
    assert [note.split(" ", 1)[1].split(" ")[0] for note in notes] == ["does", "holds", "was"]
    chosen = operating.points_from(content["operating_points"], source=path)
    assert chosen == points(sha256_of(path))


def test_points_of_another_checkpoint_are_not_taken(tmp_path, model):
    path = tmp_path / "model_last.pth"
    save_as_schema_1(path, model)
    operating.write_operating_points(tmp_path / "operating_points.json", points("b" * 64))
    content, notes = read_described(path)
    assert content["operating_points"] is None
    assert any("chosen for another checkpoint" in note for note in notes)


@pytest.mark.parametrize(("flips", "is_taken"), [("none", True), ("all", False)])
def test_points_of_other_detections_of_the_same_weights_are_not_taken(
    tmp_path, model, flips, is_taken
):
    path = tmp_path / "model_last.pth"
    save_as_schema_1(path, model)
    (tmp_path / "config.yaml").write_text(resolved().dump())
    of_scores = {"TEST.FLIPS": flips, "TEST.LATER_KEY": 1}  # a key that this config lacks
    chosen = dataclasses.replace(points(sha256_of(path)), detected_with=of_scores)
    operating.write_operating_points(tmp_path / "operating_points.json", chosen)
    content, notes = read_described(path)
    assert (content["operating_points"] is not None) is is_taken
    why = f"those of {tmp_path / 'operating_points.json'} were chosen with other values of"
    assert any(f"{why} TEST.FLIPS." in note for note in notes) is not is_taken


def test_a_config_that_is_no_runs_is_named(tmp_path, model):
    path = tmp_path / "m.pth"
    save_as_schema_1(path, model)
    (tmp_path / "config.yaml").write_text("DATASETS: {CLASSES: [a]}\n")
    with pytest.raises(CheckpointError, match=r"config\.yaml lacks 'DATASETS\.TARGET_CLASSES'"):
        read_described(path)


def test_the_identity_of_weights_is_that_of_their_values(model):
    state = model.state_dict()
    reordered = dict(reversed(list(state.items())))
    assert state_sha256(reordered) == state_sha256(state)
    changed = {name: tensor.clone() for name, tensor in state.items()}
    changed["0.bias"][0] = torch.nextafter(changed["0.bias"][0], torch.tensor(9.0))
    digests = {
        state_sha256(state),
        state_sha256(changed),
        state_sha256({**state, "0.bias": state["0.bias"].double()}),
        state_sha256({**state, "0.bias": state["0.bias"][None]}),
        state_sha256({name.replace("0.", "2."): tensor for name, tensor in state.items()}),
    }
    assert len(digests) == 5


def test_the_identity_outlives_a_rewrite_of_the_file(tmp_path, model):
    path = tmp_path / "m.pth"
    save_checkpoint(path, model, Identity("torchvision", {}), {"step": 3})
    before, file_before = weights_sha256(path), sha256_of(path)
    document = operating.document_of(points(before))
    write_checkpoint(path, {**read_checkpoint(path), "operating_points": document})
    assert sha256_of(path) != file_before
    assert weights_sha256(path) == before == state_sha256(model.state_dict())
    content, notes = read_described(path)
    assert content["operating_points"] == json.loads(json.dumps(document))
    assert content["training"] == {"step": 3}
    assert not any("operating points" in note for note in notes)


def test_an_older_file_keeps_the_identity_that_its_detections_name(tmp_path, model):
    path = tmp_path / "m.pth"
    save_as_schema_1(path, model)
    assert weights_sha256(path) == sha256_of(path)


def test_half_precision_is_read_as_float32(tmp_path, model):
    path = tmp_path / "m.pth"
    save_checkpoint(path, model, Identity("torchvision", {}))
    content = read_checkpoint(path)
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in content["model"].items()
    }
    write_checkpoint(path, {**content, "model": halves})
    state = read_checkpoint(path)["model"]
    assert state["0.weight"].dtype == torch.float32
    assert state["1.num_batches_tracked"].dtype == torch.int64
    assert torch.equal(state["0.weight"], model[0].weight.half().float())
