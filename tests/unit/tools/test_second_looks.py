"""The benchmark of second looks: what each kind changes, and the table that compares them."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks import second_looks
from benchmarks.second_looks import FIRST, KINDS, Evenly, NotNormalised, Unbalanced
from simfrcnn.second_look import Regions
from simfrcnn.second_look.choice import choose_regions
from simfrcnn.second_look.module import balanced_cross_entropy
from simfrcnn.second_look.network import small_judge
from simfrcnn.second_look_settings import SecondLookSettings
from simfrcnn.settings import SimilaritySettings
from simfrcnn.structures import ImageTargets

NORMAL = ImageTargets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), is_normal=True)
PLACES = torch.tensor([[0.0, 0, 10, 10], [40, 0, 50, 10], [80, 0, 90, 10]])


def look(form, **settings):
    torch.manual_seed(0)
    return form(
        dataclasses.replace(SecondLookSettings(enabled=True), **settings),
        small_judge(1),
        target_labels=[1],
        similarity=SimilaritySettings(kind="none"),
    )


def test_evenly_draws_each_suspected_place_as_often():
    twice = torch.cat([PLACES, PLACES[:1] + 0.5])  # the fourth is the first place again
    regions = Regions(
        twice, torch.zeros(4, dtype=torch.int64), torch.tensor([0.9, 0.09, 0.01, 0.8])
    )
    evened = look(Evenly)._evened(regions, NORMAL)
    boxes, _, _ = choose_regions(evened, NORMAL, target_labels=[1], n_regions=3000)
    counts = [(boxes[:, 0] == x).float().mean().item() for x in PLACES[:, 0].tolist()]
    assert counts == pytest.approx([1 / 3] * 3, abs=0.03)
    boxed = dataclasses.replace(NORMAL, boxes=PLACES[:1], labels=torch.tensor([1]), is_normal=False)
    assert look(Evenly)._evened(regions, boxed) is regions


def test_unbalanced_has_one_square_in_eight_of_positive_images_and_the_plain_mean():
    one = look(Unbalanced, batch_size=32, memory=64)
    squares, sides = torch.rand(80, 64, 64) * 255, torch.arange(80) < 40
    labels, weights = sides.long(), torch.ones(80)
    one.memory.add(squares, labels, sides, weights)
    batch, batch_labels, batch_sides, batch_weights = one._filled_up(
        squares[36:44], labels[36:44], sides[36:44], weights[36:44]
    )
    assert (len(batch), int(batch_sides.sum())) == (32, 4)
    assert torch.equal(batch_labels == 1, batch_sides)
    logits = torch.randn(32, 2)
    plain = functional.cross_entropy(logits, batch_labels)
    ours = balanced_cross_entropy(logits, batch_labels, batch_sides, batch_weights)
    assert float(ours) == pytest.approx(float(plain), abs=1e-6)


def test_grey_levels_are_lost_to_a_normalised_square_alone():
    dark, bright = torch.full((1, 64, 64), 40.0), torch.full((1, 64, 64), 200.0)
    for form, is_blind in ((second_looks.SecondLook, True), (NotNormalised, False)):
        first, second = (look(form)._judged(square)[0] for square in (dark, bright))
        assert torch.equal(first, second) is is_blind


class Model:
    """Figures on 40 patients, as ``resample`` gives them."""

    def __init__(self, auc):
        rng = np.random.default_rng(0)
        self.values = {second_looks.METRICS[0]: auc + np.r_[0, rng.normal(0, 0.01, 500)]}


def test_a_table_compares_each_kind_with_the_first(monkeypatch):
    from simfrcnn.evaluation.comparison import Comparison, Difference
    from simfrcnn.evaluation.results import Figure

    (metric,) = list(Model(0).values)

    def figure(models):
        mean = float(np.mean([m.values[metric][0] for m in models]))
        return {metric: Figure(mean, mean - 0.01, mean + 0.01, "bootstrap")}

    def compared(first, second):
        by_seed = tuple(
            float(a.values[metric][0] - b.values[metric][0])
            for a, b in zip(first, second, strict=True)
        )
        mean = float(np.mean(by_seed))
        change = Figure(mean, mean - 0.01, mean + 0.01, "bootstrap")
        n_patients = {"positive": 20, "normal": 20}
        return Comparison({metric: Difference(change, by_seed, n_patients)}, {})

    monkeypatch.setattr(second_looks, "mean_over_seeds", figure)
    monkeypatch.setattr(second_looks, "compare", compared)
    models = {
        FIRST: {0: Model(0.98), 1: Model(0.98), 2: Model(0.98)},
        "random": {0: Model(0.70), 1: Model(0.71), 2: Model(0.69)},
        "input": {0: Model(0.98), 2: Model(0.981)},
    }
    rows = second_looks.table(models)
    assert rows[2] == f"| `{FIRST}` | 0.980 (0.970 to 0.990) | 0.980, 0.980, 0.980 |  |  |"
    # Student's: 4.303 * .01 / sqrt(3) = .0248
    assert "| -0.280 (-0.305 to -0.255) | result: the interval excludes 0 |" in rows[3]
    assert "0.980, 0.981" in rows[4]


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ("second_look,raandom", "raandom; legal are second_look, random, evenly"),
        ("random", "--kinds lacks second_look"),
    ],
)
def test_kinds_must_be_known_and_have_the_first(kinds, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        second_looks.main(["--output", str(tmp_path / "out"), "--kinds", kinds])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_each_kind_changes_one_thing():
    assert next(iter(KINDS)) == FIRST
    changed = [(kind.options, kind.form) for kind in KINDS.values()]
    assert len(set(changed)) == len(KINDS)
    assert all(len(kind.options) in (0, 2) for kind in KINDS.values())
