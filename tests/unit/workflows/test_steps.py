"""When is a step of a job done, gone on with, refused or made again?"""

import json
import os

import pytest

from simfrcnn.errors import OutputError
from simfrcnn.workflows.steps import Step, StepRunner

NAMES = ("first", "second")
FACTS = {"kind": "test job", "engine": "none"}


@pytest.fixture
def done():
    """What was worked on: (step, whether it was told to go on)."""
    return []


@pytest.fixture
def make(tmp_path, done):
    """Run both steps; each writes its setting into a file."""

    def run(first=1, second=1, *, fail=None, overwrite=False):
        job = StepRunner(tmp_path, NAMES, FACTS, overwrite=overwrite)
        states = []
        for name, setting in (("first", first), ("second", second)):

            def work(may_resume, name=name, setting=setting):
                done.append((name, may_resume))
                (tmp_path / name).mkdir(exist_ok=True)
                path = tmp_path / name / "result.txt"
                path.write_text(str(setting))
                if fail == name:
                    raise KeyboardInterrupt
                return [path]

            states.append(job.run(Step(name, tmp_path / name, {"config": {"KEY": setting}}, work)))
        return states

    return run


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_steps_are_made_once(make, done, tmp_path):
    assert make() == ["made", "made"]
    assert make() == ["up to date", "up to date"]
    assert done == [("first", False), ("second", False)]
    content = manifest(tmp_path)
    assert content["finished"] is True
    assert content["kind"] == "test job"
    assert list(content["steps"]) == list(NAMES)
    assert content["steps"]["first"]["inputs"] == {"config": {"KEY": 1}}
    assert list(content["steps"]["first"]["outputs"]) == ["first/result.txt"]
    assert content["wall_seconds"] >= 0


def test_an_interrupted_step_goes_on_and_keeps_its_time(make, done, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make(fail="second")
    content = manifest(tmp_path)
    assert content["finished"] is False
    assert content["steps"]["second"]["parts"][0]["ended"] == "interrupted"
    assert make() == ["up to date", "resumed"]
    assert done == [("first", False), ("second", False), ("second", True)]
    parts = manifest(tmp_path)["steps"]["second"]["parts"]
    assert [part["ended"] for part in parts] == ["interrupted", "finished"]


def test_the_time_of_a_killed_step_counts_to_its_last_file(make, tmp_path):
    make()
    content = manifest(tmp_path)
    part = content["steps"]["second"]["parts"][0]
    part.update(wall_seconds=None, ended=None, started=1000.0)
    content["steps"]["second"]["finished"] = False
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    os.utime(tmp_path / "second" / "result.txt", (1042.0, 1042.0))
    assert make() == ["up to date", "resumed"]
    entry = manifest(tmp_path)["steps"]["second"]
    assert [part["ended"] for part in entry["parts"]] == ["killed", "finished"]
    assert entry["parts"][0]["wall_seconds"] == 42.0
    assert entry["wall_seconds"] >= 42.0


def test_changed_inputs_are_refused_by_name(make, done, tmp_path):
    make()
    with pytest.raises(OutputError, match=r"first in .*config\.KEY was 1, is 2.*--overwrite"):
        make(first=2)
    assert len(done) == 2
    assert (tmp_path / "first" / "result.txt").read_text() == "1"


def test_overwriting_makes_the_step_and_all_later_ones_again(make, done, tmp_path):
    make()
    (tmp_path / "first" / "old.txt").write_text("x")
    assert make(first=2, overwrite=True) == ["made", "made"]
    assert done[2:] == [("first", False), ("second", False)]
    assert not (tmp_path / "first" / "old.txt").exists()
    assert make(first=2, second=3, overwrite=True) == ["up to date", "made"]


def test_what_a_later_step_made_before_is_removed_and_never_gone_on_with(make, done, tmp_path):
    make()
    (tmp_path / "second" / "old.txt").write_text("x")
    with pytest.raises(KeyboardInterrupt):
        make(first=2, fail="first", overwrite=True)
    assert manifest(tmp_path)["finished"] is False
    assert make(first=2) == ["resumed", "made"]
    assert done[-1] == ("second", False)
    assert not (tmp_path / "second" / "old.txt").exists()


def test_what_the_job_did_not_make_is_refused_again_and_again(tmp_path):
    foreign = tmp_path / "first" / "model.pth"
    foreign.parent.mkdir()
    foreign.write_text("precious")
    step = Step("first", foreign.parent, {}, lambda may_resume: [foreign], foreign=foreign)
    for _ in range(2):  # the first refusal must not count as an attempt to go on with
        with pytest.raises(OutputError, match="did not start"):
            StepRunner(tmp_path, NAMES, FACTS, overwrite=True).run(step)
    assert foreign.read_text() == "precious"


def test_unfinished_steps_with_other_inputs_are_refused_too(make):
    with pytest.raises(KeyboardInterrupt):
        make(fail="first")
    with pytest.raises(OutputError, match=r"config\.KEY was 1, is 2"):
        make(first=2)


@pytest.mark.parametrize(("damage", "told"), [("remove", "is gone"), ("edit", "has changed")])
def test_results_that_are_no_longer_there_are_refused(make, tmp_path, damage, told):
    make()
    path = tmp_path / "second" / "result.txt"
    path.unlink() if damage == "remove" else path.write_text("edited")
    with pytest.raises(OutputError, match=rf"second/result\.txt {told}"):
        make()
    assert make(overwrite=True) == ["up to date", "made"]


def test_a_folder_of_something_else_is_refused(make, tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": 1, "engine": "x"}))
    with pytest.raises(OutputError, match="is not the manifest of a test job"):
        make()


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make OUTPUT_DIR"):
        StepRunner(tmp_path / "file" / "job", NAMES, FACTS, overwrite=False)
