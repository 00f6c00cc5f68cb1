"""A model's config where no engine is asked: what it says, and what is no such config."""

import pytest

from simfrcnn import config
from simfrcnn.config.without_engine import load_without_engine
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.data.patches import PatchSettings
from simfrcnn.errors import ConfigError
from simfrcnn.workflows.fitting_sets import require_fittable
from simfrcnn.workflows.patches import prepare_patches
from simfrcnn.workflows.weaken import weaken_data_set
from support.config_steps import SHIPPED, load
from support.examples import ENGINE_PARAMETERS, engine_named


@pytest.mark.parametrize("engine", ENGINE_PARAMETERS)
@pytest.mark.parametrize("name", SHIPPED)
def test_it_says_what_an_engine_reads(name, engine):
    ours, whole = load_without_engine(name), load(engine_named(engine), name)
    for read in (config.data_settings, config.input_settings, config.evaluation_settings):
        assert read(ours) == read(whole)
    for key in ("TRAIN", "VAL", "TEST"):
        assert tuple(ours.DATASETS[key]) == tuple(whole.DATASETS[key])


def test_without_a_file_it_has_the_defaults():
    assert config.data_settings(load_without_engine(None)).target_classes == ("malignant",)


LADDER = "ladder/study is a ladder, and no config of a model; give the config of one of its mod"
JOB = "weak_r101 is a job of two trainings, and no config of a model; give the config of one of"


@pytest.mark.parametrize(("named", "message"), [("ladder/study", LADDER), ("weak_r101", JOB)])
def test_a_ladder_and_a_job_are_refused_wherever_a_models_config_is_asked(named, message, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=message):
        load_without_engine(named)
    with pytest.raises(ConfigError, match=message):
        prepare_patches("phantom_tiny/train", named, out, PatchSettings())
    with pytest.raises(ConfigError, match=message):
        require_fittable(AnnotatedSet(tmp_path / "val.json", {}, (), "", {}), "clinic/val", named)
    with pytest.raises(ConfigError, match=message):
        weaken_data_set("phantom_tiny/train", out, n_patients=1, seed=0, config_file=named)
    assert not out.exists()
    with pytest.raises(ConfigError) as refused:
        load_without_engine(named)
    models = str(refused.value).partition("models: ")[2].split(", ")
    assert len(models) >= 1
    for model in models:  # the advice works
        assert load_without_engine(model).DATASETS.TRAIN


def test_keys_of_detectron2_are_left_out_and_misspelt_ones_of_ours_refused(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text(
        "MODEL: {RPN: {HEAD_NAME: MyHead}}\nDATASETS: {VAL: clinic/val, PROPOSAL_FILES_TEST: []}\n"
    )
    assert load_without_engine(file).DATASETS.VAL == ("clinic/val",)  # one name is a list of one
    for text, near in (
        (
            "DATASETS: {TESTS: [clinic/test]}",
            r"DATASETS\.TESTS in .*my\.yaml\. Did .*DATASETS\.TEST",
        ),
        ("INPUT: {MAMMO: {CROP: True}}", r"INPUT\.MAMMO\.CROP in .*Did you mean INPUT\.MAMMO"),
        ("EVAL: {POOLINGS: max}", r"EVAL\.POOLINGS in .*Did you mean EVAL\.POOLING"),
        ("DATASET: {TEST: [clinic/test]}", r"key DATASET in .*Did you mean DATASETS\.TEST"),
        ("Datasets: {TEST: [clinic/test]}", "unknown config key Datasets in"),
        ("INPUT: {MAMO: {SIZE: [64, 64]}}", r"key INPUT\.MAMO in .*Did you mean INPUT\.MAMMO\.SIZ"),
        ("DATASETS: [clinic/test]", "DATASETS in .* is a group of keys"),
        ("EVAL: 3", "EVAL in .* is a group of keys"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=near):
            load_without_engine(file)
    file.write_text("DATASETS: {VAL: 3}")
    with pytest.raises(ConfigError, match=r"DATASETS\.VAL in .* is 3 \(int\); legal is a tuple"):
        load_without_engine(file)
