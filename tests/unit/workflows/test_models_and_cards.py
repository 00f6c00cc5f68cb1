"""`simfrcnn models` and `simfrcnn card`: what they say is what files, configs and pages say."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from simfrcnn.cli.main import main
from simfrcnn.config.shipped import shipped_configs
from simfrcnn.workflows.card import _figures
from simfrcnn.workflows.export import describe_model
from simfrcnn.workflows.models import (
    figures_of,
    judged_trainings,
    licence_of,
    short,
    value_and_interval,
)
from simfrcnn.zoo import find_model, shipped_models
from support.commands import ROOT

RESULTS = ROOT / "docs" / "results"
PAGES = {"cbis-mass": "cbis_ddsm.md"}
"""Shipped model -> the page with the figures of its card."""


@pytest.mark.parametrize("one", judged_trainings(), ids=lambda one: f"{one.config}-{one.engine}")
def test_the_pages_have_the_figures_of_the_trainings(one):
    page = (RESULTS / one.page).read_text(encoding="utf-8")
    assert one.figures
    for name, figure in one.figures.items():
        assert value_and_interval(figure) in page, name
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert one.config in shipped_configs()
    assert len(one.weights_sha256) == 64


def test_the_pages_have_the_figures_of_the_shipped_cards():
    assert set(PAGES) == set(shipped_models())
    for name, page in PAGES.items():
        text = (RESULTS / page).read_text(encoding="utf-8")
        for figures in figures_of(describe_model(name)).values():
            for key, figure in figures.items():
                assert value_and_interval(figure) in text, key


def test_what_is_said_of_a_shipped_model_is_of_its_very_weights():
    of_models = [one for one in judged_trainings() if one.model is not None]
    assert of_models
    for one in of_models:
        assert one.weights_sha256 == describe_model(one.model).weights_sha256


def test_licences_are_those_of_the_page_on_data_sets():
    page = " ".join((ROOT / "docs" / "datasets.md").read_text(encoding="utf-8").split())
    for name in ("mias/train", "cbis_ddsm_mass/train"):
        assert f"**Licence**: {licence_of(name)}" in page


def test_every_shipped_config_and_model_is_listed_once(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = [line.strip().partition(" ")[0] for line in lines]
    assert all(words.count(name) == 1 for name in shipped_configs())
    for name in shipped_models():
        assert words.count(name) == 1
        sums = (find_model(name).parent / "SHA256SUMS").read_text()
        assert any(line.endswith(sums.split()[0]) for line in lines if "sha256" in line)
    assert any("AUC by image .759 (.670-.831)" in line for line in lines)


def test_the_shipped_card_is_that_of_the_scores_that_are_published():
    """Of the weights as they are stored, not of those before they were rounded."""
    with (RESULTS / "cbis_ddsm.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["truth"] != "unknown"]
    facts = describe_model("cbis-mass")
    figures = {figure["figure"]: figure["value"] for figure in facts.card["figures"]}
    scores = np.array([float(row["cbis_mass"]) for row in rows])
    is_positive = np.array([row["truth"] == "positive" for row in rows])
    assert figures["image/auc"] == pytest.approx(roc_auc_score(is_positive, scores), abs=1e-6)
    document = facts.operating_points
    assert document["checkpoint_sha256"] == facts.weights_sha256
    assert document["detected_with"]["INPUT.MAMMO.SIZE"] == [512, 320]
    assert document["detected_with"]["MODEL.SECOND_LOOK.FIRST_EXPONENT"] == 1.0
    (point,) = (p for p in document["points"] if (p["level"], p["rule"]) == ("image", "youden"))
    called = scores >= point["score_threshold"]
    assert point["sensitivity"] == pytest.approx(called[is_positive].mean())
    assert point["specificity"] == pytest.approx((~called[~is_positive]).mean())


def test_a_card_says_what_travels_in_the_file(tmp_path, capsys):
    path = tmp_path / "card.md"
    assert main(["card", "cbis-mass", "--output", str(path)]) == 0
    text, facts = path.read_text(encoding="utf-8"), describe_model("cbis-mass")
    assert text.startswith("# cbis-mass\n\n> **Not a medical device")
    for key in ("licence", "commit", "intended_use"):
        assert facts.card[key] in text
    assert all(f"- {limit}\n" in text for limit in facts.card["limits"])
    assert "| training | cbis_ddsm_mass/train | 597 | 597 | 1053 |" in text
    assert "| AUC by image | .759 | .670 to .831 | obuchowski-logit |" in text
    assert "| AP50 | .332 | .245 to .451 | bootstrap |" in text
    seen_again = "What it suspects is looked at again in the stored pixels, as 128 x 128."
    assert f"misses what only finer ones would show. {seen_again}" in text
    assert "On cbis_ddsm_mass/val, on which the checkpoint (by case AUC) and the operating" in text
    assert "- case/youden: positive from score 0.6847 on" in text
    assert facts.weights_sha256 in text
    assert "simfrcnn show cbis-mass --config" in text
    assert str(facts.path.parent) not in text
    assert main(["card", "cbis-mass", "--output", str(path)]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.torchvision
def test_a_card_names_what_a_file_does_not_say(untrained, capsys):
    assert main(["card", str(untrained)]) == 0
    text = capsys.readouterr().out
    assert "Not a medical device" in text
    assert "Training and validation data: not stated in the file." in text
    assert "None travel in the file: how good the model is, is not known from it." in text
    assert "- None are stated in the file." in text
    assert "| licence | not stated |" in text


@pytest.mark.parametrize(
    ("card", "has_points", "sentence"),
    [
        ({}, False, ""),
        ({}, True, ", on which the operating points were chosen"),
        (
            {"validation_in_training": {"case/auc": 0.7}},  # of an earlier version
            True,
            ", on which the checkpoint (by case AUC) and the operating points were chosen",
        ),
        (
            {"validation_in_training": {}, "checkpoint_chosen_by": "finding/ap50"},
            False,
            ", on which the checkpoint (by AP50) was chosen",
        ),
    ],
)
def test_a_card_says_what_was_chosen_on_the_validation_set(untrained, card, has_points, sentence):
    facts = describe_model(untrained)
    figures = [{"data_set": "val", "figure": "case/auc", "value": 0.75}]
    points = facts.operating_points if has_points else None
    card = {**facts.card, **card, "figures": figures, "validated_on": [{"name": "val"}]}
    page = "\n".join(_figures(replace(facts, card=card, operating_points=points)))
    assert f"On val{sentence}:" in page


def test_numbers_are_written_as_on_the_pages():
    assert [short(number) for number in (0.7665, 1.0, 0.98, 0.9996)] == [".766", "1", ".980", "1"]
