"""Settings: described once, and refused by whoever makes them."""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np
import pytest

from simfrcnn import config, settings
from simfrcnn.cli.options import add_options, given_settings
from simfrcnn.described import Range, descriptions
from simfrcnn.errors import ConfigError
from simfrcnn.service.options import NodeOptions
from simfrcnn.settings import (
    CONFIGURED,
    DataSettings,
    EvaluationSettings,
    PseudoSettings,
    SimilaritySettings,
)
from simfrcnn.workflows.prepare import RunOptions

ALL = [each for kind in CONFIGURED for each in descriptions(kind)]


@pytest.fixture
def tree():
    cfg = config.portable_defaults()
    config.add_simfrcnn_config(cfg)
    return cfg


def test_every_settings_class_is_known():
    classes = {each for each in vars(settings).values() if dataclasses.is_dataclass(each)}
    assert classes == set(CONFIGURED)


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.title)
def test_every_field_is_described_and_its_default_is_legal(each, tree):
    assert len(each.help.split()) >= 2
    assert not each.help.endswith(".")
    each.check(each.default)
    if isinstance(each.default, (int, float)) and not isinstance(each.default, bool):
        assert each.legal is not None
    if each.key:
        node = tree
        for part in each.key.split("."):
            node = node[part]
        assert node == (each.unset if each.default is None else each.default)


def test_keys_and_defaults_are_those_of_before(tree):
    """No config of an earlier version may be refused, or mean something else."""
    assert tree.EVAL == {
        "SCORE_THRESHOLD": 0.5, "IOU_THRESHOLD": 0.5, "POOLING": "max", "CASE_BY": "exam",
        "UNKNOWN_IMAGES": "exclude", "COUNT_REPEATS": False, "IGNORED_CLASSES": (),
        "BOXES_OUTSIDE": "refuse", "PREVALENCE": 0.0, "OPERATING_SENSITIVITY": 0.9,
        "OPERATING_SPECIFICITY": 0.9, "SUBGROUPS": (), "BOOTSTRAP_REPLICATES": 2000,
        "BOOTSTRAP_SEED": 0, "PARTIAL_AUC_SPECIFICITY": 0.9,
    }  # fmt: skip
    assert tree.PSEUDO == {
        "SCORE_THRESHOLD": 0.8, "NMS_THRESHOLD": 0.3, "KEEP_UNLABELLED": False, "OF": "suspected",
        "FRACTION": 0.5,
    }  # fmt: skip
    assert tree.INPUT.MAMMO == {
        "SIZE": (512, 512), "CROP_TO_BREAST": True, "KEEP_ASPECT": True, "HORIZONTAL_FLIP": 0.5,
        "VERTICAL_FLIP": 0.5, "WINDOW": (0.0, 255.0),
    }  # fmt: skip
    assert tree.DATASETS == {
        "TRAIN": (), "TEST": (), "VAL": (), "FILES": (), "CLASSES": ("malignant",),
        "TARGET_CLASSES": ("malignant",), "BATCHES": "pairs", "UNBOXED_VIEWS": "exclude",
        "REPLAY": {"FRACTION": 0.0, "HARD_SHARE": 0.25, "PERIOD": 50}, "LABELS_PER_ITEM": 0,
        "LABEL_BAGS": "image",
    }  # fmt: skip
    assert tree.MODEL.SIMFRCNN == {
        "RPN_NORMALS": "top_likelihood", "TOP_LIKELIHOOD": {"WEIGHT": 1.0, "TOP_K": 256},
        "ROI_NORMAL_SAMPLING": "top", "DEFORM_STAGES": (), "RES5_TRAINED_CONVS": -1,
        "BENIGN_WEIGHT": 1.0,
        "SIMILARITY": {
            "LOSS": "cosine", "WEIGHT": 1.0, "MARGIN": 0.0, "PARTNERS": "suspected",
            "DISTANCE_MARGIN": 1.0, "NORMALISE_VECTORS": True, "SAME_KIND_PAIRS": False,
        },
        "LABELS": {
            "WEIGHT": 1.0, "START": 0.01, "DECAY": 0.9, "PERIOD": 2000, "REGION": "target",
            "PROPOSALS": 256, "CLASS_WEIGHTS": "none", "CHOOSER": "detector",
            "TEACHER": {
                "ENABLED": False, "START": 1000, "FIXED": 500, "MOMENTUM": 0.999, "WEIGHT": 0.1,
                "SCORE": 0.7, "AGREEMENT": 0.5, "UNLABELLED_PER_ITEM": 0,
                    "TESTED": "student",
            },
        },
    }  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGURED)
def test_what_a_config_holds_by_default_are_the_default_settings(kind, tree):
    assert config.settings_from(tree, kind) == kind()


@pytest.mark.parametrize("kind", [EvaluationSettings, PseudoSettings])
def test_the_options_are_the_fields(kind):
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser, kind)
    options = {action.dest: action for action in parser._actions}
    assert list(options) == [field.name for field in dataclasses.fields(kind)]
    for each in descriptions(kind):
        assert options[each.name].option_strings == [each.option]
        assert tuple(options[each.name].choices or ()) == each.choices
        meaning, _, default = each.help.partition(" (default")
        assert meaning in str(options[each.name].help)
        assert default in str(options[each.name].help)
    assert given_settings(parser.parse_args([]), kind()) == kind()
    parser.format_help()  # a stray % would fail here


def test_options_reach_the_settings_and_leave_the_rest():
    parser = argparse.ArgumentParser()
    add_options(parser, EvaluationSettings)
    words = (
        "--target-classes malignant benign --score-threshold .3 --iou-threshold .25 --pooling mean "
        "--case-by patient --unknown-images normal --count-repeats --ignored-classes cyst "
        "--boxes-outside clip --prevalence .01 --operating-sensitivity .8 "
        "--operating-specificity .95 --subgroup density --subgroup age:50,70 --replicates 7 "
        "--seed 4 --partial-auc-specificity .8"
    )
    expected = EvaluationSettings(
        ("malignant", "benign"), 0.3, 0.25, "mean", "patient", "normal", True, ("cyst",), "clip",
        0.01, 0.8, 0.95, ("density", "age:50,70"), 7, 4, 0.8,
    )  # fmt: skip
    assert given_settings(parser.parse_args(words.split()), EvaluationSettings()) == expected
    few = given_settings(parser.parse_args(["--seed", "9"]), expected)
    assert few == dataclasses.replace(expected, bootstrap_seed=9)
    with pytest.raises(ConfigError, match=r"EVAL\.PREVALENCE is 2\.0; legal is a number in"):
        given_settings(parser.parse_args(["--prevalence", "2"]), expected)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (EvaluationSettings, {"pooling": "noisy-or"}, "EVAL.POOLING.*Did you mean noisy_or"),
        (EvaluationSettings, {"score_threshold": float("nan")}, "a score in"),
        (EvaluationSettings, {"score_threshold": "0.5"}, "is '0.5'; legal is a score in"),
        (EvaluationSettings, {"bootstrap_replicates": -1}, "at least 0"),
        (EvaluationSettings, {"bootstrap_replicates": 10.5}, "a whole number"),
        (EvaluationSettings, {"target_classes": "malignant"}, r"a tuple, such as \('malignant',\)"),
        (EvaluationSettings, {"target_classes": ()}, "at least one class name"),
        (EvaluationSettings, {"ignored_classes": ("malignant",)}, "both a target and ignored"),
        (EvaluationSettings, {"count_repeats_as_false_positives": "no"}, "True or False"),
        (PseudoSettings, {"score_threshold": 0}, r"a score in \(0, 1\]"),
        (SimilaritySettings, {"kind": "contrast"}, "Did you mean contrastive"),
        (SimilaritySettings, {"margin": 1}, r"a cosine in \[-1, 1\)"),
        (DataSettings, {"classes": ("a", "a")}, "each once"),
        (DataSettings, {"target_classes": ("benign",)}, "one or more of DATASETS.CLASSES"),
        (NodeOptions, {"port": 11112.0}, r"--port is 11112\.0; legal is a whole number"),
        (RunOptions, {"workers": 1.5}, r"--workers is 1\.5; legal is a whole number"),
        (RunOptions, {"workers": True}, r"--workers is True; legal is a whole number"),
    ],
)
def test_illegal_settings_are_refused_from_python_too(kind, values, message):
    with pytest.raises(ConfigError, match=message):
        kind(**values)


def test_legal_values_of_other_types_are_taken():
    assert EvaluationSettings(target_classes=["a"]).target_classes == ("a",)
    assert EvaluationSettings(score_threshold=np.float32(0.25)).score_threshold == 0.25
    assert EvaluationSettings(prevalence=None).prevalence is None
    assert EvaluationSettings(bootstrap_replicates=np.int64(3)).bootstrap_replicates == 3


@pytest.mark.parametrize(
    ("text", "legal", "illegal"),
    [
        ("(0, 1]", [1, 0.5], [0, 1.01, -1, float("nan"), float("inf"), True, "1", None]),
        ("[0, 1)", [0, 0.99], [1, -0.01]),
        ("[1, inf)", [1, 10**9], [0, float("inf"), float("nan")]),
        ("a cosine in [-1, 1)", [-1, 0], [1, -1.5]),
    ],
)
def test_ranges(text, legal, illegal):
    assert [value for value in legal if value not in Range(text)] == []
    assert [value for value in illegal if value in Range(text)] == []


def test_which_keys_leave_a_step_as_it_is():
    training = config.keys_without_effect("training")
    assert {"EVAL.SCORE_THRESHOLD", "EVAL.PREVALENCE", "PSEUDO.NMS_THRESHOLD"} <= set(training)
    assert not {"EVAL.POOLING", "DATASETS.CLASSES", "INPUT.MAMMO.SIZE"} & set(training)
    pseudo = config.keys_without_effect("pseudo")
    assert {"EVAL.POOLING", "EVAL.CASE_BY"} <= set(pseudo)
    assert "PSEUDO.SCORE_THRESHOLD" not in pseudo
    assert "EVAL.POOLING" not in config.keys_without_effect("test")
