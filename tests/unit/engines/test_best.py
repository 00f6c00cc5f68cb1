"""The best checkpoint: highest, earlier on ties, never undefined, surviving a resume."""

import pytest
from torch import nn

from simfrcnn.engines.common.best import BestSoFar
from simfrcnn.engines.common.checkpoints import Description, Identity, save_checkpoint
from simfrcnn.errors import ConfigError


@pytest.fixture
def path_of_card(tmp_path):
    """A best checkpoint after step 10."""
    path = tmp_path / "model_best.pth"
    card = {"steps": 10, "validation_in_training": {"case/auc": 0.9, "image/auc": 0.7}}
    description = Description("", ("malignant",), ("malignant",), card)
    save_checkpoint(path, nn.Linear(1, 1), Identity("torchvision", {}), None, description)
    return path


def test_highest_wins_and_ties_go_to_the_earlier():
    best = BestSoFar()
    values = [0.5, 0.7, 0.7, 0.6, 0.8]
    taken = [best.offer({"case/auc": value}, step) for step, value in enumerate(values)]
    assert taken == [True, True, False, False, True]
    assert (best.value, best.step) == (0.8, 4)


def test_an_undefined_figure_is_never_the_best():
    best = BestSoFar()
    assert not best.offer({"case/auc": float("nan")}, 0)
    assert not best.offer({"image/auc": 0.7}, 1)
    assert best.line({"image/auc": 0.7}, 1) == (
        "step 1: case AUC on VAL nan: not defined there; as long as that is so, the last "
        "checkpoint counts"
    )
    assert best.value is None


def test_it_survives_a_resume(path_of_card):
    best = BestSoFar()
    best.offer({"case/auc": 0.9}, 10)
    again = BestSoFar()
    again.go_on_from(best.state_dict(), path_of_card)
    assert not again.offer({"case/auc": 0.9}, 20)
    assert again.offer({"case/auc": 0.91}, 30)


def gone_on(figure, state, path):
    best = BestSoFar(figure=figure)
    best.go_on_from(state, path)
    return best


def test_it_is_forgotten_unless_its_checkpoint_says_the_same(path_of_card, tmp_path, caplog):
    for value, step, is_known in ((0.9, 10, True), (0.9, 20, False), (0.8, 10, False)):
        best = gone_on("case/auc", {"value": value, "step": step}, path_of_card)
        assert best == (BestSoFar(value, step) if is_known else BestSoFar())
    assert not caplog.records
    best = gone_on("case/auc", {"value": 0.9, "step": 10}, tmp_path / "other.pth")
    assert best == BestSoFar()
    assert "other.pth of step 10 is not there" in caplog.text


def test_another_figure_takes_no_best_over(path_of_card, tmp_path, caplog):
    state = {"value": 0.7, "step": 10, "figure": "image/auc"}
    assert gone_on("image/auc", state, path_of_card) == BestSoFar(0.7, 10, "image/auc")
    with pytest.raises(ConfigError, match=r"is last, and was image/auc when .*best\.pth"):
        gone_on("last", state, path_of_card)
    with pytest.raises(ConfigError, match=r"and was case/auc when"):  # of an earlier version
        gone_on("image/auc", {"value": 0.9, "step": 10}, path_of_card)
    moved = tmp_path / "moved.pth"
    assert gone_on("last", state, moved) == BestSoFar(figure="last")
    assert "BEST_BY was image/auc: from here on the last checkpoint counts" in caplog.text
    assert gone_on("case/auc", state, moved) == BestSoFar()
    assert "BEST_BY was image/auc: by case/auc the best checkpoint is chosen among" in caplog.text


def test_where_the_last_counts_no_figure_is_the_best():
    best = BestSoFar(figure="last")
    figures = {"case/auc": 0.75, "image/auc": 0.5}
    assert best.line(figures, 10) == "step 10: case AUC on VAL 0.7500"
    assert not best.offer(figures, 10)
    other = BestSoFar(figure="image/auc")
    assert other.offer(figures, 10)
    assert other.line(figures, 10) == "step 10: image AUC on VAL 0.5000; best: 0.5000 after step 10"
