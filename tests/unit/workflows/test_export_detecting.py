"""A model that is given away with other keys of detection: what is found, and what is not said."""

import json

import numpy as np
import pytest
import yaml

import simfrcnn
from simfrcnn import config
from simfrcnn.cli.main import main
from simfrcnn.engines.common.cards import FIGURES_HOLD, UNTESTED, input_of, limit_of_input
from simfrcnn.engines.common.checkpoints import read_checkpoint, weights_sha256, write_checkpoint
from simfrcnn.errors import ConfigError
from simfrcnn.workflows.card import card_of
from simfrcnn.workflows.export import ROUNDED, describe_model, export_model
from simfrcnn.workflows.testing import judge_model
from support.classifier_examples import classifier_config
from support.examples import ENGINE_PARAMETERS, engine_named, smoke_config, write_tiny_set
from support.model_kinds import write_model
from support.untrained import write_untrained

FIGURES = [{"data_set": "a", "figure": "case/auc", "value": 0.9}]
FEW = (
    *("MODEL.RPN.POST_NMS_TOPK_TEST", 4, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    *("TEST.DETECTIONS_PER_IMAGE", 3),
)
PIXELS = np.random.default_rng(0).integers(0, 255, (80, 60)).astype(np.uint8)


@pytest.fixture(scope="module", params=ENGINE_PARAMETERS)
def weights(request, tmp_path_factory):
    """A checkpoint of one engine with points, figures and a limit."""
    path = tmp_path_factory.mktemp(request.param) / "model.pth"
    write_untrained(path, engine=request.param, case__youden=0.5)
    content = read_checkpoint(path)
    said = {"figures": FIGURES, "validation_in_training": {"case/auc": 0.8}}
    content["card"] = {"name": "run", "limits": ["phantoms only"], **said}
    write_checkpoint(path, content)
    return path


def config_of(content):
    keys = config.stored_keys("model.pth", content["config"])
    defaults = engine_named(content["engine"]).default_cfg()
    return config.load_config(defaults, None, overlay=keys)


def test_it_detects_so_wherever_it_is_loaded_and_says_no_figure_of_other_scores(weights, tmp_path):
    given = export_model(weights, tmp_path / "flipped.pth", overrides=("TEST.FLIPS", "all"))
    flipped = simfrcnn.load(given, device="cpu").detect(PIXELS)
    overridden = simfrcnn.load(weights, device="cpu", overrides=("TEST.FLIPS", "all"))
    assert flipped.detections
    assert flipped.detections == overridden.detect(PIXELS).detections
    assert flipped.detections != simfrcnn.load(weights, device="cpu").detect(PIXELS).detections
    facts = describe_model(given)
    assert (facts.operating_points, facts.card["figures"]) == (None, [])
    assert "validation_in_training" not in facts.card
    assert facts.card["detects_with"] == {"TEST.FLIPS": {"now": "all", "trained": "none"}}
    said = "Since the training, TEST.FLIPS was changed from none to all."
    assert said in card_of(given)
    assert "OUTPUT_DIR again TEST.FLIPS none\n" in card_of(given)
    assert "OUTPUT_DIR again\n" in card_of(weights)
    assert said not in card_of(weights)
    assert facts.weights_sha256 == weights_sha256(weights)


def test_points_that_lie_beside_it_are_of_other_scores(weights, tmp_path):
    """As in a run folder, where they name the weights, which are the same."""
    own = read_checkpoint(weights)["operating_points"]
    beside = {**own, "checkpoint_sha256": weights_sha256(weights)}
    (tmp_path / "operating_points.json").write_text(json.dumps(beside))
    plain, flipped = tmp_path / "plain.pth", tmp_path / "flipped.pth"
    write_checkpoint(plain, {**read_checkpoint(weights), "operating_points": None})
    assert describe_model(plain).operating_points is not None  # those beside it
    export_model(weights, flipped, overrides=("TEST.FLIPS", "all"))
    facts = describe_model(flipped)
    assert facts.operating_points is None
    assert "None are taken from beside it, as keys of detection were changed" in str(facts.notes)
    assert simfrcnn.load(flipped, device="cpu").decision.point is None
    again = export_model(flipped, tmp_path / "again.pth")
    assert describe_model(again).operating_points is None
    back = export_model(flipped, tmp_path / "back.pth", overrides=("TEST.FLIPS", "none"))
    assert describe_model(back).operating_points is None  # those beside it may be of flips
    half = export_model(flipped, tmp_path / "half.pth", precision="half")
    assert describe_model(half).card["limits"][-1] == "The weights are rounded to half precision."
    assert "TEST.FLIPS: all, changed from none since the training" in describe_model(half).lines()
    with pytest.raises(ConfigError, match="another config or keys to change, not both"):
        export_model(flipped, tmp_path / "x.pth", config="c.yaml", overrides=("TEST.FLIPS", "all"))


def test_the_card_says_what_it_sees_and_what_the_training_saw(weights, tmp_path):
    content = read_checkpoint(weights)
    cfg = config_of(content)
    content["card"] |= {"input": input_of(cfg), "limits": [limit_of_input(cfg), "phantoms only"]}
    write_checkpoint(tmp_path / "model.pth", content)
    words = ("INPUT.MAMMO.SIZE", "[128, 96]", "INPUT.MAMMO.WINDOW", "[10.0, 200.0]")
    first = export_model(tmp_path / "model.pth", tmp_path / "a.pth", overrides=words)
    card = describe_model(first).card
    assert card["input"]["size_px"] == [128, 96]
    assert card["input"]["window"] == [10.0, 200.0]
    lines = describe_model(first).lines()
    assert "  size px: 128 x 96" in lines  # a size, and no other list of numbers
    assert "  window: 10, 200" in lines
    assert "OUTPUT_DIR again INPUT.MAMMO.SIZE '[64, 64]' INPUT.MAMMO.WINDOW" in card_of(first)
    seen = "The network sees 128 x 96 pixels: what is finer than one of them is lost."
    assert card["limits"] == [seen, "phantoms only"]
    back = ("INPUT.MAMMO.SIZE", "[64, 64]", "TEST.FLIPS", "all")
    second = describe_model(export_model(first, tmp_path / "b.pth", overrides=back))
    assert second.card["detects_with"] == {
        "INPUT.MAMMO.WINDOW": {"now": [10.0, 200.0], "trained": [0.0, 255.0]},
        "TEST.FLIPS": {"now": "all", "trained": "none"},
    }
    assert second.card["input"]["size_px"] == [64, 64]
    assert (second.operating_points, second.card["figures"]) == (None, [])


def test_limits_that_speak_of_figures_say_whose_they_are(weights, tmp_path):
    content = read_checkpoint(weights)
    spoken = "Its figures are of the patients on whom its operating points were chosen."
    content["card"] |= {"limits": [FIGURES_HOLD, "phantoms only", spoken, ROUNDED["int8"]]}
    write_checkpoint(tmp_path / "model.pth", content)
    words = ("TEST.FLIPS", "all")
    first = export_model(tmp_path / "model.pth", tmp_path / "a.pth", overrides=words)
    expected = [
        UNTESTED,
        "phantoms only",
        f"Of the model before TEST.FLIPS was changed: {spoken}",
        "The weights are rounded to 8 bits.",
    ]
    assert describe_model(first).card["limits"] == expected
    again = export_model(first, tmp_path / "b.pth", overrides=("TEST.DETECTIONS_PER_IMAGE", "1"))
    assert describe_model(again).card["limits"] == expected
    same = export_model(
        tmp_path / "model.pth", tmp_path / "c.pth", overrides=("TEST.FLIPS", "none")
    )
    assert describe_model(same).card["limits"] == content["card"]["limits"]


@pytest.mark.parametrize(
    ("source", "limit"),
    [
        ("input", "The network sees 64 x 48 pixels: what is finer than one of them is lost."),
        (
            "native",
            "The detector sees 64 x 48 pixels: it misses what only finer ones would show. What it "
            "suspects is looked at again in the stored pixels, as 32 x 32.",
        ),
    ],
)
def test_a_second_look_at_stored_pixels_is_not_limited_by_the_input(source, limit):
    cfg = smoke_config(
        *(engine_named("torchvision"), "fpn", "INPUT.MAMMO.SIZE", "[64, 48]"),
        *("MODEL.SECOND_LOOK.ENABLED", True, "MODEL.SECOND_LOOK.SIZE", 32),
        *("MODEL.SECOND_LOOK.SOURCE", source),
    )
    assert limit_of_input(cfg) == limit


def test_a_classifier_of_two_stages_is_called_one():
    words = ("MODEL.SECOND_LOOK.ENABLED", True, "MODEL.SECOND_LOOK.SOURCE", "native")
    cfg = classifier_config(engine_named("torchvision"), *words)
    assert limit_of_input(cfg).startswith("The classifier sees ")


def test_a_value_that_it_has_already_changes_nothing(weights, tmp_path):
    same = export_model(weights, tmp_path / "same.pth", overrides=("TEST.FLIPS", "none"))
    plain = export_model(weights, tmp_path / "plain.pth")
    one, two = (read_checkpoint(path) for path in (same, plain))
    assert one["operating_points"] is not None
    assert one["card"]["figures"] == FIGURES
    assert [one[key] for key in ("config", "card", "operating_points")] == [
        two[key] for key in ("config", "card", "operating_points")
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TEST.FLIP", "all", r"a key to change is 'TEST\.FLIP'; .* Did you mean TEST\.FLIPS\?"),
        ("TEST.FLIPS", "both", "TEST.FLIPS is 'both'"),
        ("MODEL.RESNETS.DEPTH", "50", "legal is one of detection: INPUT.MAMMO.SIZE, "),
        ("EVAL.POOLING", "mean", "legal is one of detection"),  # of what scores mean
        ("MODEL.SECOND_LOOK.CONTEXT", "2", "legal is one of detection"),  # there is none
    ],
)
def test_other_keys_and_values_are_refused(key, value, message, weights, tmp_path):
    with pytest.raises(ConfigError, match=message):
        export_model(weights, tmp_path / "out.pth", overrides=(key, value))
    assert not (tmp_path / "out.pth").exists()


def test_keys_of_the_model_that_is_there_are_legal(tmp_path):
    words = ("MODEL.SECOND_LOOK.ENABLED", "True", "MODEL.SECOND_LOOK.SOURCE", "input")
    looks = write_untrained(tmp_path / "looks.pth", *words)
    key = "MODEL.SECOND_LOOK.CONTEXT"
    given = export_model(looks, tmp_path / "out.pth", overrides=(key, "2"))
    assert yaml.safe_load(describe_model(given).config)["MODEL"]["SECOND_LOOK"]["CONTEXT"] == 2
    classifier = write_model(tmp_path / "classifier.pth", "classifier", "torchvision")
    with pytest.raises(ConfigError) as refused:
        export_model(classifier, tmp_path / "no.pth", overrides=("TEST.FLIP", "all"))
    assert "INPUT.MAMMO.SIZE" in str(refused.value)
    assert "MODEL.RPN" not in str(refused.value)
    assert "TEST.DET" not in str(refused.value)
    assert "FLIPS" not in str(refused.value).partition("legal is")[2]


def test_on_the_command_line(tmp_path, capsys):
    path = write_untrained(tmp_path / "model.pth", case__youden=0.5)
    words = ["--set", "TEST.FLIPS", "horizontal", "--set", "TEST.DETECTIONS_PER_IMAGE", "2"]
    assert main(["export", str(path), "--output", str(tmp_path / "a.pth"), *words]) == 0
    said = " ".join("".join(capsys.readouterr()).split())
    assert "figures are left out (changed: TEST.DETECTIONS_PER_IMAGE, TEST.FLIPS)" in said
    assert main(["show", str(tmp_path / "a.pth"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["operating_points"] is None
    assert shown["card"]["detects_with"] == {
        "TEST.DETECTIONS_PER_IMAGE": {"now": 2, "trained": 3},
        "TEST.FLIPS": {"now": "horizontal", "trained": "none"},
    }


def test_points_for_its_scores_go_into_it_where_it_is_judged(weights, tmp_path):
    engine = engine_named(read_checkpoint(weights)["engine"])
    folder, annotations = tmp_path / "flipped", write_tiny_set(tmp_path / "data")
    given = folder / "model_best.pth"
    export_model(weights, given, overrides=("TEST.FLIPS", "all"))
    cfg = smoke_config(
        *(engine, "fpn", *FEW, "TEST.FLIPS", "all", "INPUT.MAMMO.SIZE", "[64, 64]"),
        *("DATASETS.FILES", f"[tiny={annotations}]", "DATASETS.TRAIN", "[]"),
        *("DATASETS.VAL", "[tiny]", "DATASETS.TEST", "[]", "OUTPUT_DIR", folder),
    )
    original = folder / "model_last.pth"  # of the same weights, and without flips
    original.write_bytes(weights.read_bytes())
    judge_model(engine, cfg, given)
    points = read_checkpoint(given)["operating_points"]
    assert points["checkpoint_sha256"] == weights_sha256(weights)
    assert original.read_bytes() == weights.read_bytes()
