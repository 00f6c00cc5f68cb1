"""The ladder on tiny phantoms: runs side by side, killed and resumed, judged by what is there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml

from simfrcnn.cli.main import main
from support.commands import SMOKE, on_one_engine

TWO_RUNGS = {
    "CONFIG": SMOKE,
    "SEEDS": [0, 1],
    "BASELINE": "faster",
    "RUNGS": {
        "faster": {
            "OPTIONS": {
                "MODEL": {
                    "SIMFRCNN": {
                        "RPN_NORMALS": "ordinary",
                        "ROI_NORMAL_SAMPLING": "random",
                        "SIMILARITY": {"LOSS": "none"},
                    }
                }
            }
        },
        "sim": {},
    },
    "COMPARISONS": [["sim", "faster"]],
}


@pytest.fixture
def ladder_file(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(TWO_RUNGS, sort_keys=False))
    return path


@pytest.fixture
def partial(trained, ladder_file, tmp_path):
    """(words of the command, its folder): seed 0 of the rung sim is done, the rest is missing."""
    engine, folder = trained
    output = tmp_path / "out"
    shutil.copytree(folder, output / "sim" / "seed_0")
    words = ["ladder", "--config", str(ladder_file), "--output", str(output), "--engine", engine]
    return words, output


def read(output):
    return json.loads((output / "ladder.json").read_text())


@on_one_engine()
def test_a_table_of_what_there_is_names_what_is_missing(partial, capsys):
    words, output = partial
    assert main([*words, "--report-only"]) == 0
    told = capsys.readouterr().out
    assert "sim           1/2 seeds  AUC by case 0." in told
    assert "faster        0/2 seeds  AUC by case missing" in told
    assert "sim - faster  0/2 seeds  AUC by case missing" in told
    content = read(output)
    assert content["rungs"]["sim"]["seeds_missing"] == [1]
    assert content["rungs"]["faster"]["figures"] == {}
    states = {(run["rung"], run["seed"]): run["state"] for run in content["runs"]}
    assert states["sim", 0] == "done"
    assert set(states.values()) == {"done", "not started"}
    assert content["pairs"][0]["differences"] is None
    page = (output / "ladder.md").read_text()
    assert "| sim | 1/2 |" in page
    assert "| **faster** | 0/2 | missing" in page
    assert "3 of 4 runs are missing, not started: faster (seed 0, 1); sim (seed 1)." in page
    scores = (output / "case_scores.csv").read_text().splitlines()
    assert scores[0] == "rung,seed,patient,case,truth,score"
    auc = content["rungs"]["sim"]["figures"]["case/auc"]
    known = [line for line in scores if ",positive," in line or ",normal," in line]
    assert len(known) == auc["n"]["positive"] + auc["n"]["normal"]
    assert all(line.startswith("sim,0,") for line in scores[1:])
    assert auc["over_trainings"]["reason"] == "one training: no interval over trainings"
    for name in ("roc.png", "roc.svg", "froc.png", "froc.svg", "differences.png"):
        assert (output / name).stat().st_size > 500
    assert not (output / "faster").exists()


def test_figures_and_facts_are_those_of_the_run(partial):
    words, output = partial
    assert main([*words, "--report-only"]) == 0
    content = read(output)
    run = output / "sim" / "seed_0"
    report = json.loads((run / "inference" / "phantom_tiny" / "test" / "report.json").read_text())
    ours = content["rungs"]["sim"]["figures"]
    for key in set(ours) & set(report["figures"]):
        theirs = report["figures"][key]
        assert ours[key]["value"] == theirs["value"], key
        if theirs["method"] == "bootstrap":
            assert (ours[key]["low"], ours[key]["high"]) == (theirs["low"], theirs["high"]), key
    assert len(set(ours) & set(report["figures"])) == 6
    manifest = json.loads((run / "manifest.json").read_text())
    facts = content["runs"][1]["facts"]
    assert facts["engine"] == manifest["engine"]
    assert facts["commit"] == manifest["commit"]
    assert facts["packages"] == manifest["packages"]
    assert facts["wall_seconds"] == manifest["wall_seconds_this_process"]
    assert facts["peak_memory_mb"] == manifest["peak_memory_mb"]
    assert facts["data_sha256"] == [entry["sha256"] for entry in manifest["data"]]
    assert len(facts["config_sha256"]) == 64


def test_a_run_with_other_settings_is_refused_by_key(partial, ladder_file, refused):
    words, output = partial
    changed = {**TWO_RUNGS, "RUNGS": dict(TWO_RUNGS["RUNGS"])}
    changed["RUNGS"]["sim"] = {"OPTIONS": {"SOLVER": {"BASE_LR": 0.5, "MAX_ITER": 7}}}
    ladder_file.write_text(yaml.safe_dump(changed, sort_keys=False))
    for more in ([], ["--report-only"]):
        error = refused(*words, *more)
        assert str(output / "sim" / "seed_0") in error
        assert "SOLVER.BASE_LR was 0.0003, is 0.5; SOLVER.MAX_ITER was 6, is 7" in error
        assert "another --output" in error
    assert sorted(path.name for path in output.iterdir()) == ["sim"]


def test_a_run_whose_first_steps_ran_under_other_settings_is_refused(partial, refused):
    words, output = partial
    run = output / "sim" / "seed_0"
    earlier = yaml.safe_load((run / "config.yaml").read_text())
    earlier["SOLVER"]["BASE_LR"] = 0.5
    (run / "config_to_step0000003.yaml").write_text(yaml.safe_dump(earlier))
    assert "SOLVER.BASE_LR was 0.5" in refused(*words, "--report-only")


@on_one_engine()
def test_a_run_on_other_data_is_refused(partial, refused, datasets, tmp_path):
    words, _ = partial
    for name in ("val", "test"):
        other = tmp_path / f"other_{name}.json"
        content = json.loads((datasets / "phantom_tiny" / f"{name}.json").read_text())
        content["info"]["description"] = "another"
        other.write_text(json.dumps(content))
        error = refused(*words, "--report-only", "--dataset", f"phantom_tiny/{name}={other}")
        assert f"phantom_tiny/{name}" in error
        assert "annotation file" in error


@on_one_engine()
def test_detections_of_another_checkpoint_are_refused(partial, refused):
    words, output = partial
    folder = output / "sim" / "seed_0" / "inference" / "phantom_tiny" / "test"
    sidecar = folder / "detections.meta.json"
    content = json.loads(sidecar.read_text())
    content["provenance"]["checkpoint_sha256"] = "0" * 64
    sidecar.write_text(json.dumps(content))
    assert "of a checkpoint that is not the run's own" in refused(*words, "--report-only")


def test_where_a_run_lies_and_what_an_older_version_lacked_makes_no_difference(partial):
    words, output = partial
    path = output / "sim" / "seed_0" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["OUTPUT_DIR"] = "elsewhere"
    config["DATALOADER"]["NUM_WORKERS"] = 3
    del config["MODEL"]["SIMFRCNN"]["SIMILARITY"]["MARGIN"]
    path.write_text(yaml.safe_dump(config))
    assert main([*words, "--report-only"]) == 0
    assert read(output)["rungs"]["sim"]["seeds_done"] == [0]


@pytest.mark.detectron2
@pytest.mark.torchvision
def test_a_run_of_another_engine_is_refused(partial, refused):
    words, _ = partial
    other = {"detectron2": "torchvision", "torchvision": "detectron2"}[words[-1]]
    assert f"the engine was {words[-1]}, is {other}" in refused(*words[:-1], other, "--report-only")


@on_one_engine()
def test_a_damaged_manifest_is_told(partial, refused):
    words, output = partial
    (output / "sim" / "seed_0" / "manifest.json").write_text("{")
    assert "manifest.json cannot be read" in refused(*words, "--report-only")


@on_one_engine()
def test_choices_that_are_not_there(partial, refused):
    words, _ = partial
    assert "Did you mean faster?" in refused(*words, "--rungs", "fastr")
    assert "--seeds '2' is unknown; there are 0, 1" in refused(*words, "--seeds", "0,2")
    assert "--workers is 0" in refused(*words, "--workers", "0")


def test_an_output_that_is_a_file(ladder_file, tmp_path, refused):
    path = tmp_path / "file"
    path.write_text("")
    words = ["ladder", "--config", ladder_file, "--output", path, "--engine", "torchvision"]
    assert "is a file" in refused(*words)


@pytest.mark.slow
@on_one_engine()
def test_a_killed_run_is_resumed_and_a_finished_one_left_alone(partial, ladder_file, capsys):
    words, output = partial
    ladder_file.write_text(yaml.safe_dump({**TWO_RUNGS, "SEEDS": [0]}, sort_keys=False))
    finished = {path: path.stat().st_mtime_ns for path in output.glob("sim/seed_0/*.pth")}
    assert len(finished) == 2  # the last and the best
    checkpoint = output / "faster" / "seed_0" / "model_last.pth"
    killer = threading.Thread(target=_kill_when_there, args=(checkpoint,))
    killer.start()
    code = main(words)
    killer.join()
    told = capsys.readouterr().out
    assert code == 1, told
    assert "faster seed 0: failed (ended by signal 9" in told
    assert read(output)["rungs"]["faster"]["seeds_done"] == []
    assert read(output)["rungs"]["sim"]["seeds_done"] == [0]
    assert "1 of 2 runs are missing, unfinished: faster (seed 0)." in told

    assert main(words) == 0
    told = capsys.readouterr().out
    assert told.count("done before, skipped") == 1
    assert "[1/1] faster seed 0: done" in told
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    content = read(output)
    assert content["rungs"]["faster"]["seeds_missing"] == []
    pair = content["pairs"][0]
    assert (pair["first"], pair["second"], pair["seeds"]) == ("sim", "faster", [0])
    difference = pair["differences"]["case/auc"]
    assert difference["by_seed"] == [pytest.approx(difference["value"])]
    assert len(pair["delong"]) == 1
    # The second part says what the first ran under: it went on from a checkpoint.
    assert len(list(checkpoint.parent.glob("config_to_step*.yaml"))) == 1
    runs = {run["rung"]: run["facts"] for run in content["runs"]}
    assert runs["faster"]["was_interrupted"]
    assert not runs["sim"]["was_interrupted"]


@on_one_engine()
def test_runs_that_are_missing_become_jobs_and_a_failed_one_is_named_with_its_log(
    partial, ladder_file, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("submitit")
    words, output = partial
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("poll_s: 0.2\nat_a_time: 3\n")
    code = "import sys; print(sys.argv); sys.exit('error: no such machine')"
    monkeypatch.setattr("simfrcnn.workflows.ladder.SIMFRCNN", (sys.executable, "-c", code))
    assert main([*words, "--launcher", "local", "--cluster", str(cluster)]) == 1
    told = capsys.readouterr()
    assert "sim seed 0: done before, skipped" in told.out
    for run in ("faster seed 0", "faster seed 1", "sim seed 1"):
        assert f"{run}: job " in told.out
        assert f"error: {run}: failed (exit code 1; see {output}.jobs/logs_1/" in told.err
    assert told.err.count("error: no such machine") == 3
    (log, *_) = output.with_name(f"{output.name}.jobs").glob("logs_1/*.out")
    assert "'--resume'" in log.read_text()
    assert read(output)["rungs"]["sim"]["seeds_done"] == [0]


def _kill_when_there(checkpoint):
    """Kill the run that writes a checkpoint, and what it has started, once the file is there."""
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(_child_of(os.getpid(), str(checkpoint.parent)), signal.SIGKILL)


def _child_of(parent, folder):
    """The process below ``parent`` that trains into ``folder``; it leads a session of its own."""
    table = subprocess.run(
        ["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in table.stdout.splitlines()[1:]]
    (pid,) = [int(row[0]) for row in rows if int(row[1]) == parent and folder in row[2]]
    return pid
