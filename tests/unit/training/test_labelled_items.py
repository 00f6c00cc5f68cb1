"""Items with labelled images: the old draws stay, weights rise by step, bags stay whole."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from simfrcnn.data.selection import training_lists
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.label_settings import LabelSettings
from simfrcnn.records import FindingSource, Laterality, Pathology, Supervision
from simfrcnn.sampling.pairs import ItemStream, PairStream, ShuffledStream, TwinStream
from simfrcnn.settings import AugmentationSettings, DataSettings, InputSettings
from simfrcnn.training.items import TrainingItems, by_place
from simfrcnn.training.labelled import LabelWeights, _require_effect
from simfrcnn.training.loading import KnownLabel, load_sample
from simfrcnn.training.schedules import rising
from support.data_examples import make_finding, make_record

BOTH = ("malignant", "benign")
ON = DataSettings(labels_per_item=1)


@pytest.mark.parametrize(
    ("step", "alpha"),
    [(0, 0.010), (10_000, 0.415), (20_000, 0.655), (30_000, 0.796), (40_000, 0.880),
     (60_000, 0.958)],
)  # fmt: skip
def test_the_weight_rises_as_in_the_source(step, alpha):
    assert rising(step, start=0.01, decay=0.9, period=2000) == pytest.approx(alpha, abs=5e-4)
    assert rising(step + 1999 - step % 2000, start=0.01, decay=0.9, period=2000) == rising(
        step, start=0.01, decay=0.9, period=2000
    )
    assert rising(step, start=1, decay=0.9, period=2000) == 1


def test_the_first_two_places_are_drawn_as_without_labels():
    for two in (PairStream(5, 7, 3), TwinStream(5, 3)):
        stream = ItemStream(two, n_bags=4, per_item=2, seed=3)
        off = ItemStream(two, n_bags=0, per_item=0, seed=3)
        labelled = ShuffledStream(4, 3, "labelled")
        for number in range(20):
            assert stream[number][:2] == off[number][:2] == two[number]
            assert stream[number][2] == (labelled[2 * number], labelled[2 * number + 1])
            assert off[number][2] == ()
        drawn = [place for number in range(2) for place in stream[number][2]]
        assert sorted(drawn) == [0, 1, 2, 3]


def test_a_batch_is_ordered_by_place_also_where_bags_differ():
    assert by_place([["a", "b", "c"], ["d", "e"], ["f", "g", "h", "i"]]) == [
        *("a", "d", "f", "b", "e", "g"),
        *("c", "h", "i"),
    ]


def image(image_id, supervision=Supervision.IMAGE_LABEL, *findings, **facts):
    return make_record(
        image_id, *findings, supervision=supervision, path=Path(f"/nowhere/{image_id}.png"),
        **{"patient": f"p{image_id}", **facts},
    )  # fmt: skip


BOXED = image(1, Supervision.BOXES, make_finding())
NORMAL = image(2, Supervision.NORMAL)


def test_which_images_train_by_their_label():
    records = [
        BOXED, NORMAL,
        image(3, labels={"malignant": True}),
        image(4, labels={"calcification": True}),
        image(5, labels={"malignant": False}),
        image(6, Supervision.UNLABELLED, labels={"malignant": True}),
        image(7, pathology=Pathology.MALIGNANT),
        image(8),
    ]  # fmt: skip
    lists = training_lists(records, ON)
    assert [[r.image_id for r in bag.records] for bag in lists.labelled] == [[3]]
    assert [bag.label for bag in lists.labelled] == [1]
    assert [r.image_id for r in lists.normals] == [2, 5]
    assert lists.tally.labelled == 1
    assert lists.tally.n_images == len(records)
    alone = next(reason for reason in lists.excluded if reason.startswith("image_label: a find"))
    assert "LABELS_PER_ITEM" in alone
    assert lists.excluded[alone] == 1
    off = training_lists(records, DataSettings(unboxed_views="normal"))
    assert (off.labelled, off.excluded[alone]) == ((), 2)
    assert 3 not in [r.image_id for r in off.normals]


def test_the_class_of_an_image_is_a_target_before_another():
    both = DataSettings(classes=("benign", "malignant"), labels_per_item=1)
    records = [
        BOXED, NORMAL,
        image(3, labels={"benign": True, "malignant": True}),
        image(4, labels={"benign": True}),
    ]  # fmt: skip
    assert [bag.label for bag in training_lists(records, both).labelled] == [2, 1]


def test_an_image_that_shows_a_trained_class_and_no_target_trains_by_that_label():
    """As a normal image it would teach that its benign mass is background."""
    both = DataSettings(classes=BOTH, labels_per_item=1)
    records = [
        BOXED, NORMAL,
        image(3, labels={"benign": True, "malignant": False}),
        image(4, labels={"malignant": False}),
    ]  # fmt: skip
    lists = training_lists(records, both)
    assert [([r.image_id for r in b.records], b.label) for b in lists.labelled] == [([3], 2)]
    assert [r.image_id for r in lists.normals] == [2, 4]
    # Where no label trains, or the class does not, it is a normal image.
    for off in (DataSettings(classes=BOTH), DataSettings()):
        assert [r.image_id for r in training_lists(records, off).normals] == [2, 3, 4]


def test_an_image_that_has_a_box_is_left_out_for_a_reason_that_is_true():
    both = DataSettings(classes=BOTH, labels_per_item=1)
    benign = dataclasses.replace(make_finding(finding_id=3), category="benign")
    boxed = image(4, Supervision.IMAGE_LABEL, benign, labels={"malignant": True})
    lists = training_lists([BOXED, NORMAL, image(3, labels={"malignant": True}), boxed], both)
    (reason,) = lists.excluded
    assert "neither it nor its bag has a box" in reason


def test_which_images_are_taken_as_unknown():
    records = [
        BOXED, NORMAL,
        image(3, labels={"malignant": True}),
        image(4, Supervision.UNLABELLED),
        image(5, Supervision.UNLABELLED, pathology=Pathology.MALIGNANT),
        image(6, pathology=Pathology.MALIGNANT),  # of the breast: no label of the image
        image(7, Supervision.UNLABELLED, pathology=Pathology.BENIGN),
        image(8, Supervision.UNLABELLED, make_finding(finding_id=8)),  # perhaps not all its boxes
        image(9, Supervision.UNLABELLED, labels={"malignant": False}),  # known to be normal
        image(10, pathology=Pathology.NORMAL),
    ]  # fmt: skip
    lists = training_lists(records, ON, unlabelled_per_item=1)
    assert [r.image_id for r in lists.unknown] == [4, 5, 6]
    assert [r.image_id for r in lists.normals] == [2, 9]
    tally = lists.tally
    assert (tally.unknown, tally.n_images, sum(tally.left_out.values())) == (3, 10, 3)
    assert "3 where a teacher boxes them, 3 left out" in tally.lines()[0]
    assert tally.to_dict()["unknown"] == 3
    off = training_lists(records, ON)
    assert off.unknown == ()
    assert sum(off.tally.left_out.values()) == 6
    assert "unknown" not in off.tally.to_dict()
    as_thesis = dataclasses.replace(ON, unboxed_views="normal")
    found = training_lists(records, as_thesis, unlabelled_per_item=1)
    assert [r.image_id for r in found.unknown] == [4]  # the others count as normal there


def test_items_with_unknown_images_are_drawn_as_without_up_to_those(monkeypatch):
    monkeypatch.setattr(
        "simfrcnn.training.items.load_sample",
        lambda record, *, rng, is_unknown, **_: (record.image_id, rng.random(), is_unknown),
    )
    records = [
        *(image(n, Supervision.BOXES, make_finding(finding_id=n)) for n in (1, 2, 3)),
        *(image(n, Supervision.NORMAL) for n in (4, 5, 6)),
        *(image(n, labels={"malignant": True}) for n in (7, 8)),
        *(image(n, Supervision.UNLABELLED) for n in (11, 12, 13, 14)),
    ]

    def items(n_unlabelled):
        lists = training_lists(records, ON, unlabelled_per_item=n_unlabelled)
        return TrainingItems(
            lists,
            seed=5,
            data=ON,
            input_settings=InputSettings(),
            augmentation=AugmentationSettings(),
            weights=LabelWeights(LabelSettings(), {1: 1.0}, items_per_step=1),
            unlabelled_per_item=n_unlabelled,
        )

    off, on = items(0), items(2)
    for number in range(12):
        assert on[number][:3] == off[number]
        assert [is_unknown for *_, is_unknown in on[number]] == [False, False, False, True, True]
    drawn = [image_id for number in range(2) for image_id, *_ in on[number][3:]]
    assert sorted(drawn) == [11, 12, 13, 14]


def test_without_a_labelled_image_the_counts_and_reasons_are_named():
    with pytest.raises(DataError, match=r"1 positive and 1 normal images .*1 image_label: not"):
        training_lists([BOXED, NORMAL, image(3)], ON)


def test_the_views_of_a_breast_are_one_bag_unless_one_is_boxed():
    breasts = dataclasses.replace(ON, label_bags="breast")
    left, right = {"laterality": Laterality.LEFT}, {"laterality": Laterality.RIGHT}
    malignant = {"pathology": Pathology.MALIGNANT}
    records = [
        BOXED, NORMAL,
        image(3, patient="a", **left, **malignant),
        image(4, patient="a", **left, **malignant),
        image(5, patient="a", **right),
        image(6, Supervision.BOXES, make_finding(finding_id=2), patient="b", **left, **malignant),
        image(7, patient="b", **left, **malignant),
        image(8, patient="c", **left, labels={"malignant": True}),
        image(9, patient="c", **left),
        image(10, patient="c", **left, labels={"malignant": False}),
    ]  # fmt: skip
    lists = training_lists(records, breasts)
    assert [[r.image_id for r in bag.records] for bag in lists.labelled] == [[3, 4], [8, 9]]
    assert [r.image_id for r in lists.normals] == [2, 10]


def test_the_pathology_of_a_breast_is_no_label_of_an_image_of_an_unknown_one():
    """Each view would be called malignant by itself: some of them show nothing."""
    breasts = dataclasses.replace(ON, label_bags="breast")
    views = [
        image(number, patient="a", laterality=None, pathology=Pathology.MALIGNANT)
        for number in (3, 4)
    ]
    with pytest.raises(DataError, match="such a pathology and a laterality"):
        training_lists([BOXED, NORMAL, *views], breasts)
    stated = dataclasses.replace(views[1], labels={"malignant": True})
    (bag,) = training_lists([BOXED, NORMAL, views[0], stated], breasts).labelled
    assert bag.records == (stated,)


def test_a_view_whose_labels_deny_the_class_of_its_breast_is_not_in_the_bag():
    targets = DataSettings(
        classes=BOTH, target_classes=BOTH, labels_per_item=1, label_bags="breast"
    )
    breast = {"patient": "a", "laterality": Laterality.LEFT}
    records = [
        BOXED, NORMAL,
        image(3, labels={"malignant": True}, **breast),
        image(4, labels={"malignant": False}, **breast),  # of the other target nothing is said
        image(5, **breast),
    ]  # fmt: skip
    (bag,) = training_lists(records, targets).labelled
    assert [r.image_id for r in bag.records] == [3, 5]


def test_a_pseudo_box_on_one_view_leaves_the_bag_of_its_breast_whole():
    """One of the views shows a cancer: that stays true, wherever a model's box lies."""
    breasts = dataclasses.replace(ON, label_bags="breast")
    breast = {"patient": "a", "laterality": Laterality.LEFT, "pathology": Pathology.MALIGNANT}
    guess = dataclasses.replace(make_finding(finding_id=3), source=FindingSource.PSEUDO, score=0.9)
    records = [
        BOXED, NORMAL,
        image(3, Supervision.BOXES, guess, **breast),
        image(4, **breast),
    ]  # fmt: skip
    lists = training_lists(records, breasts)
    assert [[r.image_id for r in bag.records] for bag in lists.labelled] == [[3, 4]]
    assert [r.image_id for r in lists.positives] == [1, 3]
    assert (lists.tally.positives, lists.tally.labelled) == (2, 1)
    # Known by the box alone, which stands for the label that the view had.
    unstated = [dataclasses.replace(r, pathology=None) for r in records]
    assert len(training_lists(unstated, breasts).labelled[0].records) == 2
    # A box that somebody has drawn takes the others out: they may not show it.
    drawn = dataclasses.replace(records[2], findings=(make_finding(finding_id=3),))
    with pytest.raises(DataError, match="no image trains by its label"):
        training_lists([*records[:2], drawn, records[3]], breasts)
    # Without another view the guess is all there is, as with bags of single images.
    with pytest.raises(DataError, match="no image trains by its label"):
        training_lists(records[:3], breasts)
    # A harmless region that was proposed on a view stated normal says nothing of the others.
    harmless = dataclasses.replace(guess, category="suspected", finding_id=5)
    beside = [*records[:2], image(5, Supervision.NORMAL, harmless, **breast), records[3]]
    both = dataclasses.replace(breasts, classes=("malignant", "suspected"))
    lists = training_lists(beside, both)
    assert [[r.image_id for r in bag.records] for bag in lists.labelled] == [[4]]


def test_an_image_in_a_bag_carries_no_box(tmp_path):
    guess = dataclasses.replace(make_finding(), source=FindingSource.PSEUDO, score=0.9)
    path = tmp_path / "a.png"
    record = dataclasses.replace(image(1, Supervision.BOXES, guess), path=path)
    assert cv2.imwrite(str(path), np.full((record.height, record.width), 9, np.uint8))
    whole = InputSettings(size_px=(64, 64), crop_to_breast=False)
    options = {"input_settings": whole, "classes": ("malignant",), "training": True}
    boxed = load_sample(record, **options).targets
    of_bag = load_sample(record, **options, known=KnownLabel(1, 0.5, 7)).targets
    assert (len(boxed.boxes), boxed.image_label, boxed.is_normal) == (1, None, False)
    assert (len(of_bag.boxes), of_bag.image_label, of_bag.bag) == (0, 1, 7)


def test_weights_are_a_function_of_the_item_and_rare_classes_weigh_more():
    settings = LabelSettings(weight=0.5, start=0.5, decay=0.5, period=10)
    weights = LabelWeights(settings, {1: 2.0, 2: 1.0}, items_per_step=4)
    assert [weights.weight(number, 1) for number in (0, 39, 40, 80)] == [0.5, 0.5, 0.75, 0.875]
    assert weights.weight(80, 2) == 0.4375


def test_choices_without_effect_are_refused():
    data = DataSettings(classes=BOTH)
    with pytest.raises(ConfigError, match="balanced, but all labelled images are malignant"):
        _require_effect(LabelSettings(class_weights="balanced"), {1: 5}, data)
    with pytest.raises(ConfigError, match="REGION is own, but all labelled images are of target"):
        _require_effect(LabelSettings(region="own"), {1: 5}, data)
    _require_effect(LabelSettings(region="own", class_weights="balanced"), {1: 5, 2: 3}, data)
