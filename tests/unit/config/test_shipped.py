"""Configs by name, wherever one is, and a config of one's own that begins with one of them."""

from __future__ import annotations

import os

import pytest
import yaml

from simfrcnn import config
from simfrcnn.cli.main import main
from simfrcnn.config.shipped import (
    FOLDER,
    find_config,
    first_sentence,
    name_of_config,
    shipped_configs,
)
from simfrcnn.config.stages import STAGES, read_stages
from simfrcnn.config.starting import starting_config, verb_of
from simfrcnn.errors import ConfigError
from simfrcnn.ladder.plan import read_ladder
from support.commands import ROOT


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Names are found from any folder."""
    monkeypatch.chdir(tmp_path)


def tree():
    cfg = config.portable_defaults()
    config.add_simfrcnn_config(cfg)
    return cfg


@pytest.mark.parametrize(
    "named",
    [
        *("demo/sim", "demo/sim.yaml", "configs/demo/sim.yaml", "simfrcnn:demo/sim"),
        ROOT / "configs" / "demo" / "sim.yaml",
    ],
)
def test_a_config_is_found_by_path_and_by_name(named):
    assert os.path.samefile(find_config(named), ROOT / "configs" / "demo" / "sim.yaml")
    assert config.load_config(tree(), named).OUTPUT_DIR == "output/demo/sim"
    assert name_of_config(named) == "demo/sim"


def test_a_config_of_ones_own_is_named_by_its_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("_BASE_: simfrcnn:demo/sim\n")
    assert name_of_config(tmp_path / "mine.yaml") == "mine.yaml"
    with pytest.raises(ConfigError, match="no config of simfrcnn has that name"):
        name_of_config("yours")


def test_a_path_that_exists_goes_before_a_name(tmp_path):
    (tmp_path / "sim_r101").write_text("_BASE_: simfrcnn:demo/sim\nOUTPUT_DIR: mine\n")
    assert config.load_config(tree(), "sim_r101").OUTPUT_DIR == "mine"
    assert config.load_config(tree(), "simfrcnn:sim_r101").OUTPUT_DIR == "output/sim_r101"
    (tmp_path / "tl_r101").mkdir()  # a run folder hides no config
    assert config.load_config(tree(), "tl_r101").OUTPUT_DIR == "output/tl_r101"


@pytest.mark.parametrize(
    ("named", "hint"),
    [
        ("sim_r10", "Did you mean sim_r101\\?"),
        ("labels_r18", "Did you mean smoke/labels_r18\\?"),  # not labels_r101, a long training
        ("classifier_r18.yaml", "Did you mean smoke/classifier_r18\\?"),
        ("mask_r18", "Did you mean smoke/mask_r18\\?"),
        ("cbis/few_boxes", "Did you mean ladder/few_boxes\\?"),
        ("demo/sin", "Did you mean demo/sim\\?"),
        ("simfrcnn:weak_r1", "Did you mean weak_r101\\?"),
        ("/nowhere/sim_r101.yaml", "/nowhere/sim_r101.yaml does not exist.*sim_r101\\?"),
        ("../configs/sim_r101", "does not exist"),
        ("quite another", "`simfrcnn configs` lists them"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(named, hint):
    with pytest.raises(ConfigError, match=hint):
        find_config(named)


def test_a_folder_is_no_config(tmp_path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(ConfigError, match="config file runs is a folder"):
        config.load_config(tree(), "runs")


def test_a_file_that_names_a_config_without_its_scheme_is_met_with_what_to_write(tmp_path):
    for named in ("smoke/sim_r18_c4", "smoke/sim_r18_c4.yaml"):
        (tmp_path / "mine.yaml").write_text(f"_BASE_: {named}\n")
        with pytest.raises(ConfigError, match=r"mine\.yaml names .* simfrcnn:smoke/sim_r18_c4$"):
            config.read_keys(tmp_path / "mine.yaml")


def test_every_config_is_listed_and_says_what_it_is():
    files = {
        path.relative_to(ROOT / "configs").with_suffix("").as_posix()
        for path in (ROOT / "configs").rglob("*.yaml")
        if not any(part.startswith("_") for part in path.relative_to(ROOT / "configs").parts)
    }
    assert set(shipped_configs()) == files
    assert all(len(text.split()) > 3 and text.endswith(".") for text in shipped_configs().values())


def test_the_first_sentence_is_whole(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("# By a loss (eq. 5.5) and .5\n# of it. Then more.\nSEED: 0\n# Not this.\n")
    assert first_sentence(path) == "By a loss (eq. 5.5) and .5 of it."


def test_the_verb_lists_them(capsys):
    assert main(["configs"]) == 0
    said = capsys.readouterr().out
    trainings, rest = said.split("simfrcnn weak --config-file")
    weak, ladders = rest.split("simfrcnn ladder --config")
    assert "  sim_r101 " in trainings
    assert "  weak_r101 " in weak
    assert "  ladder/study " in ladders
    assert str(FOLDER) in ladders


def uncommented(text: str) -> str:
    lines = text.splitlines()
    begin = lines.index("")
    return "\n".join([*lines[:begin], *(line.removeprefix("# ") for line in lines[begin:])])


@pytest.mark.parametrize("name", ["sim_r101", "demo/sim", "mias/sim_r18", "smoke/oracle"])
def test_a_new_config_is_the_old_one_with_every_comment_or_without(name, tmp_path):
    text = starting_config(name, tmp_path / "my config.yaml")
    expected = config.load_config(tree(), name, ["OUTPUT_DIR", "output/my config"])
    for number, content in enumerate((text, uncommented(text))):
        path = tmp_path / f"{number}.yaml"
        path.write_text(content)
        assert config.load_config(tree(), path) == expected
    assert len(yaml.safe_load(uncommented(text))) > 20


def test_a_new_job_is_the_old_one(tmp_path):
    text = starting_config("smoke/weak", tmp_path / "my.yaml")
    (tmp_path / "my.yaml").write_text(uncommented(text))
    mine, theirs = read_stages(tmp_path / "my.yaml"), read_stages(find_config("smoke/weak"))
    assert str(mine.folder) == "output/my"
    for stage in STAGES:
        cfg, other = (job.config_of(stage, tree()) for job in (mine, theirs))
        ignored = ("OUTPUT_DIR",)
        assert {k: v for k, v in cfg.items() if k not in ignored} == {
            k: v for k, v in other.items() if k not in ignored
        }
    assert "PSEUDO.SCORE_THRESHOLD: 0." in text
    assert "DATASETS.TRAIN" not in text  # it is another one in each stage


@pytest.mark.parametrize("name", ["ladder/smoke", "ladder/study"])
def test_a_new_ladder_is_the_old_one(name, tmp_path):
    (tmp_path / "my.yaml").write_text(starting_config(name, tmp_path / "my.yaml"))
    mine, theirs = read_ladder(tmp_path / "my.yaml"), read_ladder(name)
    assert [rung.name for rung in mine.rungs] == [rung.name for rung in theirs.rungs]
    for one, other in zip(mine.rungs, theirs.rungs, strict=True):
        assert os.path.samefile(one.config, other.config)
        assert one.options == other.options
    assert mine.comparisons == theirs.comparisons


@pytest.mark.parametrize("name", list(shipped_configs()))
def test_every_config_has_its_verb(name):
    expected = "ladder" if name.startswith("ladder/") else "train-net"
    if name in ("weak_r101", "mias/weak_r18", "smoke/weak", "smoke/self"):
        expected = "weak"
    assert verb_of(find_config(name)) == expected


def test_the_verb_writes_a_new_config_once(tmp_path, capsys):
    words = ["new-config", "sim_r101", "--output", "sub/my.yaml"]
    assert main(words) == 0
    text = (tmp_path / "sub" / "my.yaml").read_text()
    assert text in capsys.readouterr().out
    assert "simfrcnn train-net --config-file my.yaml" in text
    (tmp_path / "sub" / "my.yaml").write_text("SEED: 3")
    assert main(words) == 2
    assert "my.yaml exists; --overwrite" in capsys.readouterr().err
    assert (tmp_path / "sub" / "my.yaml").read_text() == "SEED: 3"
    assert main([*words, "--overwrite"]) == 0
    assert (tmp_path / "sub" / "my.yaml").read_text() == text
    assert main(["new-config", "sim_r1", "--output", "x.yaml"]) == 2
    assert "Did you mean sim_r101?" in capsys.readouterr().err
    assert main(["new-config", "sim_r101", "--output", "x.txt"]) == 2
    assert not (tmp_path / "x.txt").exists()
