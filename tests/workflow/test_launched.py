"""A training and a prediction as jobs: interrupted, gone on with, and equal to one process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import yaml
from fvcore.common.config import CfgNode

from simfrcnn.cli.main import main
from simfrcnn.data.pseudonyms import Pseudonyms, read_or_make_key, write_id_map
from simfrcnn.engines.common.checkpoints import weights_sha256
from simfrcnn.workflows import launched
from simfrcnn.workflows.identities import PrivacyOptions
from simfrcnn.workflows.launched import ShardOptions
from simfrcnn.workflows.predict import Summary
from simfrcnn.workflows.predict_job import JobOptions
from simfrcnn.workflows.prediction_folder import Tally
from support.commands import SMOKE
from support.examples import engine_named, smoke_config
from support.slurm import why_not
from support.studies import files_below, write_study

pytest.importorskip("submitit")
pytestmark = pytest.mark.torchvision

STEPS = (
    *("SOLVER.MAX_ITER", "12", "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.STEPS", "(10,)"),
    *("DATASETS.VAL", "()", "DATASETS.TEST", "()"),
)


@pytest.fixture
def cluster(tmp_path):
    """Asks often, and gives a job a minute to save."""
    path = tmp_path / "cluster.yaml"
    path.write_text("poll_s: 0.3\ntime_min: 30\ngrace_s: 60\n")
    return path


def train_words(output, *options):
    words = ["train-net", "--engine", "torchvision", "--config-file", SMOKE, *options]
    return [str(word) for word in (*words, "OUTPUT_DIR", output, *STEPS)]


@pytest.fixture(scope="module")
def uninterrupted(datasets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMFRCNN_DATASETS", str(datasets))
        assert main(train_words(folder)) == 0
    return weights_sha256(folder / "model_last.pth")


@pytest.fixture
def launcher(request):
    """A real Slurm where one starts, else this machine: the training is too long for both."""
    if why_not() and "slurm" not in os.environ.get("SIMFRCNN_REQUIRE_SERVICES", ""):
        return "local"
    request.getfixturevalue("slurm")
    return "slurm"


@pytest.mark.slow
def test_an_interrupted_training_ends_bit_for_bit_like_one_that_was_not(
    launcher, uninterrupted, cluster, tmp_path, capfd
):
    run = tmp_path / "run"
    words = train_words(run, "--launcher", launcher, "--cluster", cluster)
    interrupter = threading.Thread(target=_warn_when_there, args=(run, launcher))
    interrupter.start()
    code = main(words)
    interrupter.join()
    told = capfd.readouterr().out
    assert code == 0, told
    (log,) = (tmp_path / "run.jobs").glob("logs_*/*_log.out")
    text = log.read_text()
    assert "SIGUSR2: stopping when this step is done" in text
    assert "resuming from" in text
    assert json.loads((run / "manifest.json").read_text())["finished"]
    assert weights_sha256(run / "model_last.pth") == uninterrupted
    assert main(words) == 0  # the same again finds that it is done
    assert "train run: done before by job" in capfd.readouterr().out
    assert len(list((tmp_path / "run.jobs").glob("logs_*"))) == 1


def _warn_when_there(run, launcher):
    """Send the job what Slurm sends when its time is nearly over, once a checkpoint is there."""
    deadline = time.monotonic() + 240
    while not (run / "model_last.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    if launcher == "slurm":
        (one,) = json.loads((run.parent / "run.jobs" / "jobs.json").read_text()).values()
        os.system(f"scancel --signal=USR2 {one['id']}")
        return
    for child in psutil.Process().children(recursive=True):
        if "submitit.core._submit" in child.cmdline():
            child.send_signal(signal.SIGUSR2)


def run_here(jobs, *_, **__):
    """In place of ``launch``: what the jobs would run, in this process."""
    for job in jobs:
        assert main(job.words[len(launched.SIMFRCNN) :]) == 0
    return {}


@pytest.mark.slow
def test_a_prediction_in_shards_is_one_prediction(
    untrained, cluster, tmp_path, monkeypatch, capsys
):
    for number in range(5):
        write_study(tmp_path / "in", number, n_views=1)
    words = ["predict", str(tmp_path / "in"), "--weights", str(untrained), "--workers", "0"]
    words += ["--pictures", "findings", "--keep-identifiers", "--output"]
    assert main([*words, str(tmp_path / "one")]) == 0
    jobs = ["--launcher", "local", "--shards", "2", "--cluster", str(cluster)]
    assert main([*words, str(tmp_path / "out"), *jobs]) == 0
    assert "5 images of 5 exams" in capsys.readouterr().out
    assert files_below(tmp_path / "out") == files_below(tmp_path / "one")
    monkeypatch.setattr(launched, "launch", run_here)  # that jobs run is seen
    write_study(tmp_path / "in", 5, n_views=1)
    for folder, *options in (("one",), ("out", *jobs)):
        assert main([*words, str(tmp_path / folder), *options]) == 0
        assert "5 exams were done before" in capsys.readouterr().out
    assert files_below(tmp_path / "out") == files_below(tmp_path / "one")
    for shard in (tmp_path / "out.jobs").glob("shard_*"):
        shutil.rmtree(shard)
    assert main([*words, str(tmp_path / "out"), *jobs]) == 0
    told = capsys.readouterr().out
    assert "the shards were deleted: nothing is judged" in told
    assert "6 images of 6 exams" in told
    assert main([*words, str(tmp_path / "out"), *jobs, "--all-views"]) == 2
    assert "not by shards of these options" in capsys.readouterr().err


def test_a_shard_that_fails_is_named_with_its_log_and_nothing_is_merged(
    untrained, cluster, tmp_path, monkeypatch, capsys
):
    fails_at_2 = (
        "import sys\nif '2/2' in sys.argv: sys.exit('error: the disk is full')\nprint('judged')"
    )
    monkeypatch.setattr(launched, "SIMFRCNN", (sys.executable, "-c", fails_at_2))
    (tmp_path / "in").mkdir()
    words = ["predict", tmp_path / "in", "--weights", untrained, "--output", tmp_path / "out"]
    words += ["--launcher", "local", "--shards", "2", "--cluster", cluster]
    assert main([str(word) for word in words]) == 1
    error = capsys.readouterr().err
    assert "1 job failed; the same command again goes on with what is left" in error
    assert "shard_2_of_2: failed (exit code 1; see " in error
    assert "error: the disk is full" in error
    assert not (tmp_path / "out").exists()


def test_the_id_map_that_is_asked_for_holds_those_of_the_shards(untrained, tmp_path, monkeypatch):
    asked, key_file = tmp_path / "map.json", tmp_path / "key"
    (tmp_path / "in").mkdir()

    def judge(jobs, *_, **__):
        for job in jobs:
            pseudonyms = Pseudonyms(read_or_make_key(key_file)[0])
            pseudonyms.text("patient", job.name)
            write_id_map(Path(job.words[job.words.index("--id-map") + 1]), pseudonyms)
        return {}

    monkeypatch.setattr(launched, "launch", judge)
    monkeypatch.setattr(launched, "merge", lambda _, output: Summary(output, Tally()))
    launched.predict_as_jobs(
        *(tmp_path / "in", str(untrained), tmp_path / "out", JobOptions()),
        PrivacyOptions(key_file=key_file, id_map=asked),
        ShardOptions(launcher="local", shards=2),
    )
    patients = json.loads(asked.read_text())["sources"]["patient"]
    assert sorted(patients.values()) == ["shard_1_of_2", "shard_2_of_2"]


TRAINS = """
import json, pathlib, sys, yaml
config = pathlib.Path(sys.argv[sys.argv.index("--config-file") + 1])
cfg = yaml.safe_load(config.read_text())
folder = pathlib.Path(cfg["OUTPUT_DIR"])
folder.mkdir(exist_ok=True)
(folder / "model_last.pth").write_text(str(cfg["SOLVER"]["MAX_ITER"]))
(folder / "manifest.json").write_text(json.dumps({"finished": True}))
"""
"""In place of a training: it leaves what one leaves, by the config that it is given."""


def test_a_training_of_before_counts_only_if_it_is_the_same_and_there(
    datasets, cluster, tmp_path, monkeypatch, capsys
):
    shutil.copytree(datasets, tmp_path / "data")
    monkeypatch.setenv("SIMFRCNN_DATASETS", str(tmp_path / "data"))
    monkeypatch.setattr(launched, "SIMFRCNN", (sys.executable, "-c", TRAINS))
    config, run = tmp_path / "own.yaml", tmp_path / "run"
    text = f"_BASE_: {SMOKE}\nOUTPUT_DIR: {run}\nDATASETS: {{VAL: [], TEST: []}}\n"
    config.write_text(f"{text}SOLVER: {{MAX_ITER: 12, STEPS: [10]}}\n")
    words = ["train-net", "--engine", "torchvision", "--config-file", str(config)]
    words += ["--launcher", "local", "--cluster", str(cluster)]

    def train(*options):
        code = main([*words, *options])
        told = capsys.readouterr()
        return code, told.out + told.err

    assert train()[0] == 0
    assert (run / "model_last.pth").read_text() == "12"
    assert "done before by job" in train()[1]
    (run / "model_last.pth").unlink()
    assert "done before by job" not in train()[1]
    assert (run / "model_last.pth").exists()
    config.write_text(f"{text}SOLVER: {{MAX_ITER: 14, STEPS: [10]}}\n")
    code, told = train()
    assert (code, "go on with --resume" in told) == (2, True)
    assert (run / "model_last.pth").read_text() == "12"
    assert train("--resume")[0] == 0
    assert (run / "model_last.pth").read_text() == "14"
    assert len(list((tmp_path / "run.jobs").glob("config_*.yaml"))) == 2
    for path in (tmp_path / "data").rglob("train.json"):
        path.write_text(path.read_text() + "\n")
    assert "go on with --resume" in train()[1]


def test_an_upgrade_with_a_new_key_leaves_a_job_what_it_was(
    datasets, cluster, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SIMFRCNN_DATASETS", str(datasets))
    monkeypatch.setattr(launched, "SIMFRCNN", (sys.executable, "-c", TRAINS))
    run = tmp_path / "run"
    words = train_words(run, "--launcher", "local", "--cluster", cluster)
    dump = CfgNode.dump
    with monkeypatch.context() as before:
        line = "  BEST_BY: case/auc\n"
        before.setattr(CfgNode, "dump", lambda cfg, **how: dump(cfg, **how).replace(line, ""))
        assert main(words) == 0
    (copy,) = (tmp_path / "run.jobs").glob("config_*.yaml")
    assert "BEST_BY" not in copy.read_text()
    capsys.readouterr()
    assert main(words) == 0
    assert "done before by job" in capsys.readouterr().out
    assert main([*words, "TEST.BEST_BY", "last"]) == 2
    assert "go on with --resume" in capsys.readouterr().err
    assert list((tmp_path / "run.jobs").glob("config_*.yaml")) == [copy]


def test_a_copy_counts_by_what_it_meant_and_the_exact_one_first(tmp_path):
    engine = engine_named("torchvision")
    cfg = smoke_config(engine, "fpn", "MODEL.SECOND_LOOK.ENABLED", True)
    old = smoke_config(
        *(engine, "fpn", "MODEL.SECOND_LOOK.ENABLED", True),
        *("MODEL.SECOND_LOOK.FIRST_EXPONENT", 1.0),
    )
    lacking = yaml.safe_load(cfg.dump())
    del lacking["MODEL"]["SECOND_LOOK"]["FIRST_EXPONENT"]  # it meant 1 before there was the key
    earlier = tmp_path / f"config_{'0' * 16}_own.yaml"
    earlier.write_text(yaml.safe_dump(lacking))
    (tmp_path / f"config_{'1' * 16}_own.yaml").write_text("torn: [")
    (tmp_path / f"config_{'2' * 16}_own.yaml").write_text("NO_KEY: 1")
    new = launched._copy_of(engine, cfg, tmp_path, "own")
    assert not new.exists()
    assert launched._copy_of(engine, old, tmp_path, "own") == earlier
    assert launched._copy_of(engine, old, tmp_path, "n") != earlier
    exact = tmp_path / launched._copy_of(engine, old, tmp_path / "nowhere", "own").name
    exact.write_text(old.dump())
    assert exact.name > earlier.name
    assert launched._copy_of(engine, old, tmp_path, "own") == exact


def test_what_cannot_be_launched_is_refused_before_anything_is_submitted(
    refused, cluster, untrained, tmp_path
):
    run = tmp_path / "run"
    alone = train_words(run, "--cluster", cluster)
    assert "--cluster and --shards go with --launcher" in refused(*alone)
    local = ("--launcher", "local")
    assert "DATASETS.TRAN" in refused(*train_words(run, *local), "DATASETS.TRAN", "x")
    words = ["predict", tmp_path, "--weights", untrained, "--output", tmp_path / "out", *local]
    assert "leave out --shard" in refused(*words, "--shard", "1/2")
    assert "legal is at least 1" in refused(*words, "--shards", "0")
    assert "leave out --weights, --launcher" in refused("predict", "--merge", *words[1:])
    assert "leave out --launcher" in refused(*train_words(run, "--eval-only", *local))
    (tmp_path / "out").mkdir()
    for name in ("mine.txt", "run.json"):  # a prediction without --launcher that is unfinished
        (tmp_path / "out" / name).write_text("{}")
        assert "out is not a new or empty folder; give another" in refused(*words)
        (tmp_path / "out" / name).unlink()
    words[1] = tmp_path / "nowhere"
    assert "does not exist" in refused(*words)
    run.mkdir()
    for name in ("model_last.pth", "model_best.pth"):
        (run / name).write_bytes(b"precious")
        assert f"({name})" in refused(*train_words(run, *local))
        (run / name).unlink()
    assert not list(tmp_path.glob("*.jobs"))
