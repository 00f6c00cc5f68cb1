"""The ladder file: what it says, and what is refused."""

from __future__ import annotations

import json

import pytest

from simfrcnn.config import load_config
from simfrcnn.data import catalog
from simfrcnn.errors import ConfigError
from simfrcnn.ladder import weakened
from simfrcnn.ladder.plan import choose, make_sets, plan_runs, read_ladder
from support.examples import CONFIGS, ENGINE_PARAMETERS, engine_named, write_tiny_set

SMOKE = CONFIGS / "smoke" / "sim_r18_fpn.yaml"
HEAD = f"CONFIG: {SMOKE}\nSEEDS: [0, 3]\nBASELINE: faster\n"
RUNGS = """\
RUNGS:
  positives: {OPTIONS: {DATASETS: {BATCHES: positives}}}
  faster:
    OPTIONS:
      MODEL: {SIMFRCNN: {RPN_NORMALS: ordinary, SIMILARITY: {LOSS: none, WEIGHT: 1.0e-3}}}
  sim: {}
  sim_hardest: {BELOW: sim, OPTIONS: {MODEL: {SIMFRCNN: {SIMILARITY: {PARTNERS: hardest}}}}}
  control: {PERMUTE_LABELS: True}
COMPARISONS: [[sim, faster], [sim, positives]]
"""


@pytest.fixture(params=ENGINE_PARAMETERS)
def engine(request):
    return engine_named(request.param)


@pytest.fixture
def ladder_file(tmp_path):
    def write(text):
        path = tmp_path / "ladder.yaml"
        path.write_text(text)
        return path

    return write


def test_rungs_stand_in_order_above_the_one_before_or_named(ladder_file):
    ladder = read_ladder(ladder_file(HEAD + RUNGS))
    assert ladder.seeds == (0, 3)
    assert [(rung.name, rung.below) for rung in ladder.rungs] == [
        ("positives", None),
        ("faster", "positives"),
        ("sim", "faster"),
        ("sim_hardest", "sim"),
        ("control", None),
    ]


def test_a_rung_may_take_over_the_keys_of_another_by_an_anchor(ladder_file):
    text = "RUNGS:\n  faster: &plain {OPTIONS: {SOLVER: {MAX_ITER: 3}}}\n  sim: {<<: *plain}\n"
    first, second = read_ladder(ladder_file(HEAD + text)).rungs
    assert first.options == second.options == {"SOLVER": {"MAX_ITER": 3}}


def test_planned_pairs_go_first_and_each_pair_is_compared_once(ladder_file):
    ladder = read_ladder(ladder_file(HEAD + RUNGS))
    assert ladder.pairs() == [
        ("sim", "faster", ("planned", "below", "baseline")),
        ("sim", "positives", ("planned",)),
        ("faster", "positives", ("below",)),
        ("sim_hardest", "sim", ("below",)),
        ("sim_hardest", "faster", ("baseline",)),
    ]


@pytest.mark.parametrize(("text", "margin"), [("", None), ("0.02", 0.02)])
def test_a_margin_of_equivalence_may_be_stated(ladder_file, text, margin):
    ladder = read_ladder(ladder_file(HEAD + RUNGS + f"EQUIVALENCE_MARGIN: {text}\n"))
    assert ladder.equivalence_margin == margin


@pytest.mark.parametrize("value", ["0", "-0.02", "1", "2%", "True", "[0.02]", ".nan"])
def test_a_margin_that_is_none_is_refused(ladder_file, value):
    with pytest.raises(ConfigError, match=r"EQUIVALENCE_MARGIN is .*between 0 and 1 is legal"):
        read_ladder(ladder_file(HEAD + RUNGS + f"EQUIVALENCE_MARGIN: {value}\n"))


def test_runs_have_resolved_configs_and_commands_that_say_the_same(engine, ladder_file, tmp_path):
    ladder = read_ladder(ladder_file(HEAD + RUNGS))
    runs = plan_runs(ladder, engine, tmp_path / "out", datasets=["phantom_tiny/train=a.json"])
    assert [run.name for run in runs][:6] == [
        *("positives seed 0", "faster seed 0", "sim seed 0", "sim_hardest seed 0"),
        *("control seed 0", "positives seed 3"),
    ]
    run = runs[6]
    assert run.folder == tmp_path / "out" / "faster" / "seed_3"
    assert run.log == tmp_path / "out" / "faster" / "seed_3.log"
    assert run.cfg.SEED == 3
    assert run.cfg.MODEL.SIMFRCNN.RPN_NORMALS == "ordinary"
    assert run.cfg.MODEL.SIMFRCNN.SIMILARITY.WEIGHT == 0.001
    assert run.cfg.DATASETS.FILES == ("phantom_tiny/train=a.json",)
    assert run.words[:6] == (
        *("train-net", "--config-file", str(SMOKE), "--engine", engine.NAME, "--resume"),
    )
    said = load_config(engine.default_cfg(), run.words[2], run.words[6:])
    assert said.dump() == run.cfg.dump()


def test_the_negative_control_reads_permuted_copies_of_all_its_sets(engine, ladder_file, tmp_path):
    data = write_tiny_set(tmp_path / "data")
    files = [f"phantom_tiny/{name}={data}" for name in ("train", "val", "test")]
    ladder = read_ladder(ladder_file(HEAD + RUNGS))
    runs = plan_runs(ladder, engine, tmp_path / "out", datasets=files)
    make_sets(runs)
    run = next(run for run in runs if run.rung.permute_labels)
    named = catalog.parse_files(run.cfg.DATASETS.FILES)
    for name in ("phantom_tiny/train", "phantom_tiny/val", "phantom_tiny/test"):
        path = tmp_path / "out" / "control" / "permuted_labels" / f"{name}.json"
        assert named[name] == str(path)
        annotated = catalog.load(name, named)
        assert sum(bool(record.findings) for record in annotated.records) == 3
        assert [r.image_id for r in annotated.records if r.findings] != [1, 2, 3]
    assert json.loads(run.words[-1]) == list(run.cfg.DATASETS.FILES)
    others = {run.cfg.DATASETS.FILES for run in runs if not run.rung.permute_labels}
    assert others == {tuple(files)}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (HEAD.replace("faster", "fster") + RUNGS, ["BASELINE 'fster'", "Did you mean faster?"]),
        (HEAD + RUNGS.replace("BELOW: sim", "BELOW: simm"), ["sim_hardest", "Did you mean sim?"]),
        (HEAD + RUNGS.replace("BELOW: sim", "BELOW: control"), ["sim_hardest: BELOW 'control'"]),
        (HEAD + RUNGS.replace("[sim, positives]", "[sim, tl]"), ["COMPARISONS 'tl'"]),
        (HEAD + RUNGS.replace("[sim, positives]", "[sim, sim]"), ["compared with itself"]),
        (HEAD + RUNGS.replace("[sim, positives]", "[sim]"), ["a list of pairs"]),
        (HEAD + RUNGS.replace("PERMUTE_LABELS", "PERMUTE_LABEL"), ["Did you mean PERMUTE_LABELS?"]),
        (HEAD + RUNGS.replace("PERMUTE_LABELS: True", "PERMUTE_LABELS: 2"), ["True or False"]),
        (HEAD + RUNGS.replace("{PERMUTE", "{BELOW: sim, PERMUTE"), ["control", "no BELOW"]),
        (HEAD + RUNGS.replace("BELOW: sim", "KIND: strong"), ["KIND 'strong'", "train, weak"]),
        (HEAD + RUNGS.replace("BELOW: sim", "KIND: weak"), ["sim_hardest", "CONFIG of its own"]),
        (HEAD + RUNGS.replace("  sim: {}", "  faster: {}"), ["'RUNGS.faster' is there twice"]),
        (HEAD + RUNGS.replace("{DATASETS: {", "{DATASETS.BATCHES: 1, DATASETS: {"), ["BATCHES'"]),
        (HEAD + RUNGS.replace("  sim: {}", "  a/b: {}"), ["a/b", "names a folder"]),
        (HEAD + "RUNGS: {}", ["RUNGS is empty"]),
        (HEAD.replace("SEEDS", "SEED") + RUNGS, ["key 'SEED'", "Did you mean SEEDS?"]),
        (HEAD.replace("[0, 3]", "[0, 0]") + RUNGS, ["twice"]),
        (HEAD.replace("[0, 3]", "[-1]") + RUNGS, ["SEEDS is [-1]"]),
        (HEAD.replace("[0, 3]", "3") + RUNGS, ["SEEDS is 3"]),
        (HEAD.replace("sim_r18", "absent") + RUNGS, ["CONFIG", "does not exist"]),
        (RUNGS, ["CONFIG is missing"]),
        ("- 1", ["must hold a mapping of keys, not list"]),
        ("RUNGS: [", ["not plain YAML"]),
        (HEAD + RUNGS.replace("{DATASETS: {BATCHES: positives}}", "{SEED: 3}"), ["ladder sets"]),
        (HEAD + RUNGS.replace("{DATASETS: {BATCHES", "{STAGE1: {SEED"), ["STAGE1.SEED", "ladder"]),
        (HEAD + RUNGS.replace("  sim: {}", "  ? [sim]\n  : {}"), ["unhashable key"]),
    ],
)  # fmt: skip
def test_what_is_refused_names_file_rung_and_remedy(ladder_file, text, parts):
    path = ladder_file(text)
    with pytest.raises(ConfigError) as error:
        read_ladder(path)
    message = str(error.value)
    assert all(part in message for part in (str(path), *parts)), message


def test_a_key_that_no_engine_knows_is_told_with_its_rung(engine, ladder_file, tmp_path):
    ladder = read_ladder(ladder_file(HEAD + RUNGS.replace("PARTNERS", "PARTNER")))
    with pytest.raises(ConfigError, match=r"rung sim_hardest: .*SIMILARITY\.PARTNERS\?"):
        plan_runs(ladder, engine, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{DATASETS: {TEST: [other/test]}}", "positives and faster are judged by different rules"),
        ("{EVAL: {POOLING: mean}}", "judged by different rules"),
        ("{DATASETS: {TEST: []}}", "a ladder compares on one test set"),
    ],
)
def test_rungs_are_judged_by_one_set_of_rules(engine, ladder_file, tmp_path, options, message):
    text = RUNGS.replace("{DATASETS: {BATCHES: positives}}", options)
    ladder = read_ladder(ladder_file(HEAD + text))
    with pytest.raises(ConfigError, match=message):
        plan_runs(ladder, engine, tmp_path)


def test_a_choice_keeps_the_order_of_the_file():
    assert choose("c, a", ["a", "b", "c"], "--rungs") == ["a", "c"]
    assert choose(None, ["a", "b"], "--rungs") == ["a", "b"]
    with pytest.raises(ConfigError, match=r"--rungs 'sin' is unknown.*Did you mean sim\?"):
        choose("sin", ["sim", "faster"], "--rungs")


def test_a_rung_with_few_boxes_trains_on_other_patients_for_each_seed(
    engine, ladder_file, tmp_path
):
    data = write_tiny_set(tmp_path / "data")
    files = [f"phantom_tiny/{name}={data}" for name in ("train", "val", "test")]
    rungs = "RUNGS:\n  faster:\n    WEAKEN: {PATIENTS: 1}\n"
    text = (HEAD + rungs).replace("[0, 3]", "[0, 1, 2, 3]")
    runs = plan_runs(read_ladder(ladder_file(text)), engine, tmp_path / "out", datasets=files)
    make_sets(runs)
    kept = {}
    for run in runs:
        named = catalog.parse_files(run.cfg.DATASETS.FILES)
        assert str(data) == named["phantom_tiny/val"] == named["phantom_tiny/test"]
        annotated = catalog.load("phantom_tiny/train", named)
        assert f"weakened/seed_{run.seed}" in str(annotated.path)
        (boxed,) = [record.patient_id for record in annotated.records if record.findings]
        kept[run.seed] = boxed
        assert json.loads(run.words[-1]) == list(run.cfg.DATASETS.FILES)
    assert len(set(kept.values())) > 1


def test_a_weakened_set_is_made_by_the_targets_and_ignored_classes_of_the_config(
    ladder_file, engine, tmp_path, monkeypatch
):
    data = write_tiny_set(tmp_path / "data")
    files = [f"phantom_tiny/{name}={data}" for name in ("train", "val", "test")]
    rungs = (
        "RUNGS:\n  faster:\n    WEAKEN: {PATIENTS: 1}\n"
        "    OPTIONS: {EVAL: {IGNORED_CLASSES: [doubtful]}}\n"
    )
    runs = plan_runs(read_ladder(ladder_file(HEAD + rungs)), engine, tmp_path, datasets=files)
    given = []
    monkeypatch.setattr(weakened, "weaken", lambda *_, **how: given.append(how))
    make_sets(runs)
    assert {how["seed"] for how in given} == {0, 3}
    assert {how["target_classes"] for how in given} == {("malignant",)}
    assert {how["ignored_classes"] for how in given} == {("doubtful",)}


@pytest.mark.parametrize(
    "value", ["10", "{PATIENTS: 0}", "{PATIENTS: 2, LABELS: some}", "{PATIENT: 2}"]
)
def test_a_weakening_that_is_not_understood_is_refused(ladder_file, value):
    rungs = f"RUNGS:\n  faster:\n    WEAKEN: {value}\n"
    with pytest.raises(ConfigError, match=r"rung faster: WEAKEN is .*PATIENTS: N, LABELS: true \|"):
        read_ladder(ladder_file(HEAD + rungs))
