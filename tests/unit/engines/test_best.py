"""The best checkpoint: highest, earlier on ties, never undefined, surviving a resume."""

from torch import nn

from simfrcnn.engines.common.best import BestSoFar
from simfrcnn.engines.common.checkpoints import Description, Identity, save_checkpoint


def test_highest_wins_and_ties_go_to_the_earlier():
    best = BestSoFar()
    taken = [best.offer(value, step) for step, value in enumerate([0.5, 0.7, 0.7, 0.6, 0.8])]
    assert taken == [True, True, False, False, True]
    assert (best.value, best.step) == (0.8, 4)


def test_an_undefined_figure_is_never_the_best():
    best = BestSoFar()
    assert not best.offer(float("nan"), 0)
    assert best.value is None


def test_it_survives_a_resume():
    best = BestSoFar()
    best.offer(0.9, 10)
    again = BestSoFar()
    again.load_state_dict(best.state_dict())
    assert not again.offer(0.9, 20)
    assert again.offer(0.91, 30)


def test_it_is_forgotten_unless_its_checkpoint_says_the_same(tmp_path, caplog):
    path = tmp_path / "model_best.pth"
    card = {"steps": 10, "validation_in_training": {"case/auc": 0.9, "image/auc": 0.7}}
    description = Description("", ("malignant",), ("malignant",), card)
    save_checkpoint(path, nn.Linear(1, 1), Identity("torchvision", {}), None, description)
    for value, step, is_known in ((0.9, 10, True), (0.9, 20, False), (0.8, 10, False)):
        best = BestSoFar(value, step)
        best.forget_unless_in(path)
        assert best == (BestSoFar(value, step) if is_known else BestSoFar())
    assert not caplog.records
    best = BestSoFar(0.9, 10)
    best.forget_unless_in(tmp_path / "other.pth")
    assert best == BestSoFar()
    assert "other.pth of step 10 is not there" in caplog.text
