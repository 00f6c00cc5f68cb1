"""The best checkpoint: highest, earlier on ties, never undefined, surviving a resume."""

from simfrcnn.engines.common.best import BestSoFar


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
