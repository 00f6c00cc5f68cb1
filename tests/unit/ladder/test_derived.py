"""A rung that is the detector of another rung's trainings: what it is, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from simfrcnn.artifacts import DetectionFile, ImageDetections
from simfrcnn.errors import ArtifactError, ConfigError
from simfrcnn.ladder.derived import by_first_score
from simfrcnn.ladder.plan import plan_runs, read_ladder
from simfrcnn.ladder.report import _rung_json
from simfrcnn.ladder.results import RungResult
from simfrcnn.workflows import ladder as workflow
from support.examples import CONFIGS, ENGINE_PARAMETERS, engine_named

SMOKE = CONFIGS / "smoke" / "sim_r18_fpn.yaml"
HEAD = f"CONFIG: {SMOKE}\nSEEDS: [0, 1]\nBASELINE: plain\n"
LOOK = "look: {OPTIONS: {MODEL: {SECOND_LOOK: {ENABLED: True}}, TEST: {EVAL_PERIOD: 0}}}"
RUNGS = f"RUNGS:\n  plain: {{DETECTOR_OF: look}}\n  {LOOK}\n  longer: {{}}\n"


@pytest.fixture(params=ENGINE_PARAMETERS)
def engine(request):
    return engine_named(request.param)


@pytest.fixture
def ladder_file(tmp_path):
    def write(text):
        path = tmp_path / "ladder.yaml"
        path.write_text(HEAD + text)
        return path

    return write


def test_its_runs_are_those_of_the_other_rung(ladder_file, engine, tmp_path):
    ladder = read_ladder(ladder_file(RUNGS))
    runs = {run.name: run for run in plan_runs(ladder, engine, tmp_path)}
    assert len(runs) == 6
    plain, look = runs["plain seed 1"], runs["look seed 1"]
    assert (plain.folder, plain.words, plain.cfg) == (look.folder, look.words, look.cfg)
    assert (plain.rung.name, plain.rung.below, look.rung.below) == ("plain", None, "plain")
    assert ("look", "plain", ("below", "baseline")) in ladder.pairs()


def test_the_files_say_whose_detector_it_is_and_on_which_labels(ladder_file):
    weak_look = LOOK.replace("{OPTIONS", "{WEAKEN: {PATIENTS: 3}, OPTIONS")
    ladder = read_ladder(ladder_file(RUNGS.replace(LOOK, weak_look)))
    plain, look, longer = ladder.rungs
    assert (plain.labels, longer.labels) == (look.labels, "as annotated")
    assert look.labels == "boxes of 3 patients by seed, labels: true"
    written = [_rung_json(RungResult(each, (0, 1), {}, {}, {})) for each in ladder.rungs]
    assert [each["detector_of"] for each in written] == ["look", None, None]
    assert [each["labels"] for each in written] == [look.labels, look.labels, "as annotated"]


def test_the_other_rung_is_trained_in_its_place_and_once(
    ladder_file, engine, tmp_path, monkeypatch
):
    started = []

    def run_commands(jobs, slots, **_):
        started.append([job.name for job in jobs])
        return {}

    monkeypatch.setattr(workflow, "run_commands", run_commands)
    monkeypatch.setattr(workflow, "_prepare", lambda runs, output, **_: None)
    monkeypatch.setattr("simfrcnn.ladder.results.judge_ladder", lambda *_: None)
    monkeypatch.setattr("simfrcnn.ladder.report.write_ladder", lambda output, result: output)
    path = ladder_file(RUNGS)
    for rungs in ("plain", "plain,look", "longer", None):
        workflow.run_ladder(path, tmp_path / "out", engine, rungs=rungs, seeds="1")
    both = ["look seed 1", "longer seed 1"]
    assert started == [["look seed 1"], ["look seed 1"], ["longer seed 1"], both]


def test_the_scores_are_the_detectors_own():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3.0]])
    looks = np.array([[0.25, 0.9], [0.81, np.nan]])
    found = ImageDetections(7, boxes, np.array([0.45, 0.3]), ("malignant",) * 2, looks)
    nothing = ImageDetections(8, np.zeros((0, 4)), np.zeros(0), ())
    own = by_first_score(DetectionFile({7: found, 8: nothing}, {1: "malignant"}))
    assert own.images[7].scores.tolist() == [0.25, 0.81]
    assert own.images[7].looks is None
    assert own.images[7].boxes is boxes
    assert own.images[8] == nothing
    plain = ImageDetections(7, boxes, np.array([0.45, 0.3]), ("malignant",) * 2)
    with pytest.raises(ArtifactError, match="image 7: first_score is missing"):
        by_first_score(DetectionFile({7: plain}, {1: "malignant"}))


@pytest.mark.parametrize(
    ("rungs", "message"),
    [
        (
            f"plain: {{DETECTOR_OF: lok}}\n  {LOOK}",
            "is 'lok'; legal is a rung that is trained: look",
        ),
        (f"plain: {{DETECTOR_OF: plain}}\n  {LOOK}", "is 'plain'; legal is"),
        (f"plain: {{DETECTOR_OF: look, OPTIONS: {{}}}}\n  {LOOK}", "leave out OPTIONS"),
        (f"plain: {{DETECTOR_OF: look, KIND: weak}}\n  {LOOK}", "leave out KIND"),
    ],
)
def test_what_it_cannot_be_is_refused(ladder_file, rungs, message):
    with pytest.raises(ConfigError, match=message):
        read_ladder(ladder_file(f"RUNGS:\n  {rungs}\n"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{}", "a rung without MODEL.SECOND_LOOK.ENABLED"),
        (
            "{MODEL: {SECOND_LOOK: {ENABLED: True}}, TEST: {EVAL_PERIOD: 5}}",
            "whose checkpoint is chosen by both scores",
        ),
        (
            "{MODEL: {SECOND_LOOK: {ENABLED: True}}, TEST: {EVAL_PERIOD: 0, FLIPS: all}}",
            "TEST.FLIPS all, whose boxes are joined by both scores; set TEST.FLIPS none",
        ),
        (
            "{MODEL: {SECOND_LOOK: {ENABLED: True}}, SOLVER: {AMP: {ENABLED: True}}}",
            "a rung with SOLVER.AMP.ENABLED, whose one loss scale",
        ),
        (
            "{MODEL: {SECOND_LOOK: {ENABLED: True}, SIMFRCNN: {LABELS: {CHOOSER: second_look}}}, "
            "DATASETS: {LABELS_PER_ITEM: 1}, SOLVER: {IMS_PER_BATCH: 3}}",
            "whose second look chooses what it learns",
        ),
    ],
)
def test_a_training_that_does_not_hold_it_is_refused(
    ladder_file, engine, tmp_path, options, message
):
    rungs = f"RUNGS:\n  plain: {{DETECTOR_OF: look}}\n  look: {{OPTIONS: {options}}}\n"
    with pytest.raises(ConfigError, match=message):
        plan_runs(read_ladder(ladder_file(rungs)), engine, tmp_path)


def test_a_training_in_bfloat16_on_a_cpu_may_be_named(ladder_file, engine, tmp_path):
    options = (
        "{MODEL: {SECOND_LOOK: {ENABLED: True}}, TEST: {EVAL_PERIOD: 0}, "
        "SOLVER: {AMP: {AUTO_ON_CPU: True}}}"
    )
    rungs = f"RUNGS:\n  plain: {{DETECTOR_OF: look}}\n  look: {{OPTIONS: {options}}}\n"
    runs = plan_runs(read_ladder(ladder_file(rungs)), engine, tmp_path)
    assert {run.rung.name for run in runs} == {"plain", "look"}


def test_a_training_whose_last_checkpoint_counts_may_validate(ladder_file, engine, tmp_path):
    options = "{MODEL: {SECOND_LOOK: {ENABLED: True}}, TEST: {EVAL_PERIOD: 5, BEST_BY: last}}"
    rungs = f"RUNGS:\n  plain: {{DETECTOR_OF: look}}\n  look: {{OPTIONS: {options}}}\n"
    runs = plan_runs(read_ladder(ladder_file(rungs)), engine, tmp_path)
    assert {run.rung.name for run in runs} == {"plain", "look"}
