"""The benchmark of second looks: what each kind changes, and the table that compares them."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks import second_looks
from benchmarks.second_look_kinds import (
    FIRST,
    KINDS,
    Evenly,
    FeatureJudge,
    FromSample,
    Graded,
    NotNormalised,
    OnFeatures,
    Unbalanced,
    turned_grids,
)
from simfrcnn.cli.main import run_program
from simfrcnn.records import Pathology
from simfrcnn.second_look import Found, Regions, SecondLook, picture_of
from simfrcnn.second_look.choice import choose_regions
from simfrcnn.second_look.crops import turned
from simfrcnn.second_look.module import balanced_cross_entropy
from simfrcnn.second_look.network import small_judge
from simfrcnn.second_look_settings import SecondLookSettings
from simfrcnn.settings import SimilaritySettings
from simfrcnn.structures import ImageTargets
from support.examples import normals, positives
from support.native_examples import with_native

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
    for form, is_blind in ((SecondLook, True), (NotNormalised, False)):
        first, second = (look(form)._judged(square)[0] for square in (dark, bright))
        assert torch.equal(first, second) is is_blind


def test_graded_counts_a_normal_image_twice_if_it_shows_something_benign():
    samples = with_native([positives(1, 256)[0], *normals(2, 256)])
    shown = (Pathology.MALIGNANT, Pathology.NORMAL, Pathology.BENIGN)
    samples = [
        dataclasses.replace(one, record=dataclasses.replace(one.record, pathology=pathology))
        for one, pathology in zip(samples, shown, strict=True)
    ]
    pictures = []
    for one in samples:
        made = picture_of(one, "input")
        pictures.append(FromSample(made.pixels, made.frame, made.spacing_mm, one))
    targets = [one.targets for one in samples]
    assert [one.is_normal for one in targets] == [False, True, True]
    places = Regions(PLACES, torch.zeros(3, dtype=torch.int64), torch.tensor([0.9, 0.5, 0.1]))

    def loss(form, *of_images):
        one = look(form)
        torch.manual_seed(1)
        return one.training_loss(pictures, of_images, [places] * 3).item()

    graded = dataclasses.replace(targets[2], normal_weight=2.0)
    assert loss(Graded, *targets) == loss(SecondLook, *targets[:2], graded)
    assert loss(Graded, *targets) != loss(SecondLook, *targets)


def on_features(n_channels=8):
    one = look(OnFeatures, memory=0)
    one.judge = FeatureJudge(n_channels, 1)
    return one


def test_features_are_those_of_the_square_and_judged_the_same_in_every_flip():
    one, (sample,) = on_features(), with_native(positives(1, 256))
    made = picture_of(sample, "input")
    picture = FromSample(made.pixels, made.frame, made.spacing_mm, sample)
    centres = torch.arange(64.0) * 4 + 2  # of the cells, in input pixels
    ramps = torch.zeros(1, 8, 64, 64)
    ramps[0, 0], ramps[0, 1] = centres[None, :], centres[:, None]
    one.features = ramps
    boxes = torch.tensor([[100.0, 60, 180, 100]])
    (grid,) = one._grids([picture], [boxes])
    assert grid[0].mean().item() == pytest.approx(140, abs=1e-3)
    assert grid[1].mean().item() == pytest.approx(80, abs=1e-3)
    side = 1.5 * 80
    assert (grid[0].max() - grid[0].min()).item() == pytest.approx(side * 13 / 14, abs=1e-2)
    found = [Found(boxes, torch.tensor([0.5]), torch.tensor([1]))]
    noise = torch.rand(1, 8, 64, 64)
    centred = torch.tensor([[88.0, 88, 168, 168]])  # in the middle: its mirror image is itself
    found = [Found(centred, torch.tensor([0.5]), torch.tensor([1]))]
    scores = []
    for flip in ([], [2], [3], [2, 3]):
        one.features = noise.flip(flip)
        scores.append(one.rescored([picture], found)[0].scores.item())
    assert scores == pytest.approx([scores[0]] * 4, abs=1e-6)


def test_all_channels_of_a_grid_turn_together():
    grids = torch.rand(8, 3, 4, 4)
    turns = torch.arange(8)
    for number, grid in enumerate(turned_grids(grids, turns)):
        for own, before in zip(grid, grids[number], strict=True):
            assert torch.equal(own, turned(before[None], turns[number : number + 1])[0])


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
        "no_memory": {0: Model(0.97)},
        "features": {0: Model(0.87)},
    }
    rows = second_looks.table(models)
    assert rows[2] == f"| `{FIRST}` | 0.980 (0.970 to 0.990) | 0.980, 0.980, 0.980 |  |  |  |"
    # Student's: 4.303 * .01 / sqrt(3) = .0248
    ours = f"`{FIRST}` | -0.280 (-0.305 to -0.255) | result: the interval excludes 0 |"
    assert rows[3].endswith(ours)
    assert "0.980, 0.981" in rows[4]
    assert "| `no_memory` | -0.100 (" in rows[6]  # its control


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kinds", "second_look,randon"], "--kinds is 'randon'; legal is .* Did you mean random"),
        (["--kinds", "random"], "--kinds lacks second_look"),
        (["--report-only"], "holds no detections yet"),
    ],
)
def test_what_cannot_be_run_is_refused(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "--output", str(tmp_path / "out"), *words])
    with pytest.raises(SystemExit) as ended:
        run_program(second_looks)
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_each_kind_differs_from_its_control():
    assert next(iter(KINDS)) == FIRST
    ways = [(kind.options, kind.form) for kind in KINDS.values()]
    assert len(set(ways)) == len(KINDS)
    for name, kind in KINDS.items():
        if name != FIRST:
            control = KINDS[kind.below]
            n_differences = (kind.options != control.options) + (kind.form != control.form)
            assert n_differences == 1, name
