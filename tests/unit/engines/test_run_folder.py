"""The run folder: what is refused, what is kept of earlier parts, and which commit ran."""

import json
import logging
import subprocess

import pytest
import yaml

from simfrcnn import config
from simfrcnn.engines.common.best import BestSoFar
from simfrcnn.engines.common.run_folder import (
    commit_of,
    forget_best,
    open_run_folder,
    write_config,
)
from simfrcnn.errors import OutputError


def make_config(folder, **solver):
    cfg = config.portable_defaults()
    config.add_simfrcnn_config(cfg)
    cfg.OUTPUT_DIR = str(folder)
    cfg.SOLVER.update(solver)
    return cfg


@pytest.mark.parametrize("name", ["model_last.pth", "model_best.pth"])
def test_a_run_is_not_overwritten(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(OutputError, match="--resume"):
        open_run_folder(make_config(tmp_path), resume=False)
    assert open_run_folder(make_config(tmp_path), resume=True) == tmp_path


def test_only_a_run_that_knows_of_no_best_removes_it(tmp_path, caplog):
    best = tmp_path / "model_best.pth"
    best.touch()
    forget_best(tmp_path, BestSoFar(0.5, 2), steps_done=3)
    assert best.exists()
    forget_best(tmp_path, BestSoFar(), steps_done=0)
    assert not best.exists()
    assert f"{best} of the run before is removed" in caplog.text
    best.touch()
    forget_best(tmp_path, BestSoFar(), steps_done=3)
    assert not best.exists()
    assert "goes on with after step 3: it is removed" in caplog.text


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    path = tmp_path / "taken"
    path.touch()
    with pytest.raises(OutputError, match="taken"):
        open_run_folder(make_config(path), resume=False)


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    torn, other = tmp_path / ".model_last.pth.abc.part", tmp_path / "notes.part"
    torn.write_bytes(b"half")
    other.touch()
    open_run_folder(make_config(tmp_path), resume=True)
    assert not torn.exists()
    assert other.exists()


def test_a_resumed_run_keeps_what_its_first_steps_ran_under(tmp_path, caplog):
    write_config(tmp_path, make_config(tmp_path, BASE_LR=0.1), steps_done=0)
    (tmp_path / "manifest.json").write_text('{"seed": 3}')
    with caplog.at_level(logging.WARNING, "simfrcnn"):
        write_config(tmp_path, make_config(tmp_path, BASE_LR=0.2), steps_done=40)
    assert "from step 40 on" in caplog.text
    assert "SOLVER.BASE_LR was 0.1, is 0.2" in caplog.text
    assert "SOLVER.MOMENTUM" not in caplog.text
    earlier = yaml.safe_load((tmp_path / "config_to_step0000040.yaml").read_text())
    assert earlier["SOLVER"]["BASE_LR"] == 0.1
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["SOLVER"]["BASE_LR"] == 0.2
    assert json.loads((tmp_path / "manifest_to_step0000040.json").read_text()) == {"seed": 3}


def git(folder, *words):
    who = ("-c", "user.name=Jane Doe", "-c", "user.email=jane@example.org")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "checkout" / "package"
    folder.mkdir(parents=True)
    (folder / "code.py").write_text("one = 1\n")
    git(folder.parent, "init", "--quiet")
    git(folder.parent, "add", ".")
    git(folder.parent, "commit", "--quiet", "--message", "first")
    return folder


def test_the_commit_says_whether_the_package_was_changed(package):
    commit = commit_of(package)
    assert len(commit) == 40
    (package.parent / "results.json").touch()
    assert commit_of(package) == commit
    (package / "more.py").touch()
    assert commit_of(package) == f"{commit}+changes"


def test_an_installed_package_has_no_commit_of_the_repository_round_it(package):
    installed = package / "site-packages" / "simfrcnn"
    installed.mkdir(parents=True)
    assert commit_of(installed) is None


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_of(tmp_path) is None
