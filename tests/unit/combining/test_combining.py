"""Union and rescoring: worked by hand, by planted weights, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import simfrcnn
from simfrcnn.artifacts import read_detections, write_detections
from simfrcnn.cli.main import main
from simfrcnn.combining.facts import encoding_of
from simfrcnn.combining.rescoring import Combination, fit, rescore, without_detection
from simfrcnn.combining.union import union
from simfrcnn.data.coco import write_coco
from simfrcnn.errors import ArtifactError, ConfigError, DataError, OutputError
from simfrcnn.files import sha256_of
from simfrcnn.outlines import rle_of_box
from simfrcnn.records import Supervision
from support.combining_examples import AGE, FAR, PLANTED, A, planted_set, write_set
from support.evaluation_examples import CATEGORIES, detection_file, finding, found, image

NEAR_A = (0, 0, 10, 8)
AGE_FACT = {"name": "age", "words": None, "mean": 60, "deviation": 10}


def as_rows(one) -> list[tuple]:
    return sorted(
        (*box, score, name)
        for box, score, name in zip(
            one.boxes.tolist(), one.scores.tolist(), one.categories, strict=True
        )
        for box in [tuple(box)]
    )


# Union


def test_a_kept_box_has_the_mean_of_the_models_best_scores() -> None:
    first = found(1, (A, 0.9), (NEAR_A, 0.8), (FAR, 0.2))
    second = found(1, (NEAR_A, 0.5), (A, 0.3, "benign"))
    joint = union([first, second], 0.5)
    assert as_rows(joint) == [
        (0, 0, 10, 10, pytest.approx(0.15), "benign"),
        (0, 0, 10, 10, pytest.approx(0.7), "malignant"),
        (50, 50, 60, 60, pytest.approx(0.1), "malignant"),
    ]


def test_above_the_overlap_boxes_stay_apart() -> None:
    joint = union([found(1, (A, 0.9)), found(1, (NEAR_A, 0.5))], 0.81)
    assert joint.scores.tolist() == [0.45, 0.25]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_models_and_boxes_is_irrelevant(seed: int) -> None:
    """Also with equal scores, and to the last bit: the means of three differ by order if added."""
    draw = random.Random(seed)

    def drawn():
        corners = [(draw.randrange(30), draw.randrange(30)) for _ in range(12)]
        return [
            ((x, y, x + 15, y + 15), round(draw.random(), 1), draw.choice(("malignant", "benign")))
            for x, y in corners
        ]

    lists = [drawn() for _ in range(3)]
    reference = as_rows(union([found(1, *each) for each in lists]))
    for _ in range(4):
        draw.shuffle(lists)
        for each in lists:
            draw.shuffle(each)
        assert as_rows(union([found(1, *each) for each in lists])) == reference


def test_no_boxes_and_a_box_without_area() -> None:
    assert len(union([found(1), found(1)]).scores) == 0
    joint = union([found(1, ((5, 5, 5, 5), 0.6)), found(1)])
    assert joint.scores.tolist() == [0.3]
    with pytest.raises(ConfigError, match="two or more models; given: 1"):
        union([found(1)])


# Rescoring


def test_fit_recovers_planted_weights() -> None:
    records, first, second = planted_set(3000)
    fitted = fit(records, [first, second], attributes=["age", "density"])
    weights = dict(zip(fitted.columns, fitted.fact_weights, strict=True))
    assert fitted.own == pytest.approx(PLANTED.own, abs=0.12)
    assert fitted.others[0] == pytest.approx(PLANTED.others[0], abs=0.12)
    assert weights["age"] == pytest.approx(AGE, abs=0.12)
    assert weights["density=C"] - weights["density=A"] == pytest.approx(1.2, abs=0.25)
    assert weights["age missing"] == weights["density missing"] == 0
    assert fitted.intercept + weights["density=B"] == pytest.approx(PLANTED.intercept, abs=0.2)
    assert fitted.counts["images"] == 3000


def test_facts_that_say_nothing_get_no_weight() -> None:
    records, first, second = planted_set(2000, facts=False)
    fitted = fit(records, [first, second], attributes=["age", "density"])
    assert np.abs(fitted.fact_weights).max() < 0.2


def test_fit_is_that_of_scikit_learn_on_the_same_columns_in_any_order() -> None:
    records, first, second = planted_set(300)
    fitted = fit(records, [first, second])
    again = fit(records[::-1], [first, second])
    assert (fitted.intercept, fitted.own, fitted.others) == (
        again.intercept,
        again.own,
        again.others,
    )
    scores = [[max(f.images[r.image_id].scores[:1]) for r in records] for f in (first, second)]
    columns = np.log(np.array(scores) / (1 - np.array(scores))).T
    twin = LogisticRegression(C=fitted.inverse_penalty, tol=1e-10, max_iter=10_000)
    twin.fit(columns, [bool(r.findings) for r in records])
    assert [fitted.own, *fitted.others] == pytest.approx(twin.coef_[0].tolist(), abs=1e-5)


def test_rescored_boxes_follow_the_formula() -> None:
    record = dataclasses.replace(image(1, "p"), attributes={"age": "70"})
    other = dataclasses.replace(image(2, "q"), attributes={"age": "50"})
    age = encoding_of("age", [record, other])
    assert (age.mean, age.deviation) == (60, 10)
    combination = dataclasses.replace(PLANTED, facts=(age,), fact_weights=(0.5, -0.2))
    first = detection_file(found(1, (A, 0.8), (FAR, 0.2), (A, 0.4, "benign")), found(2))
    second = detection_file(found(1), found(2, (A, 0.9)))
    changed, empty = rescore(combination, [record, other], [first, second])
    base = -0.8 + 1.1 * np.log(0.001 / 0.999) + 0.5
    expected = [1 / (1 + np.exp(-(base + 0.7 * np.log(s / (1 - s))))) for s in (0.8, 0.2)]
    assert changed.scores.tolist() == pytest.approx([*expected, 0.4], abs=1e-12)
    assert changed.boxes.tolist() == first.images[1].boxes.tolist()
    assert len(empty.scores) == 0


def test_missing_and_unknown_words_share_the_column_of_missing() -> None:
    stated = [
        dataclasses.replace(image(n, "p"), attributes=facts)
        for n, facts in enumerate(({"vendor": "A"}, {"vendor": "B"}, {}), start=1)
    ]
    vendor = encoding_of("vendor", stated)
    new = dataclasses.replace(image(9, "p"), attributes={"vendor": "C"})
    assert vendor.columns == ("vendor=A", "vendor=B", "vendor missing")
    assert vendor.encode([*stated, new]).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert vendor.unknown_words([*stated, new]) == ["C"]


def test_facts_that_cannot_be_used_are_refused() -> None:
    bare = [image(1, "p"), image(2, "q")]
    aged = [dataclasses.replace(r, attributes={"age": "60"}) for r in bare]
    with pytest.raises(DataError, match="no image states the attribute 'age'; there are: none"):
        encoding_of("age", bare)
    with pytest.raises(DataError, match="no image states the attribute 'sex'; there are: age"):
        encoding_of("sex", aged)
    with pytest.raises(DataError, match="every image states age '60'"):
        encoding_of("age", aged)
    different = [dataclasses.replace(aged[0], attributes={"age": "50"}), aged[1]]
    word = dataclasses.replace(image(7, "p"), attributes={"age": "old"})
    with pytest.raises(DataError, match=r"image 7.*age is 'old'; where the combination was fitted"):
        encoding_of("age", different).encode([word])
    words = [dataclasses.replace(image(n, "p"), attributes={"id": f"x{n}"}) for n in range(1, 40)]
    with pytest.raises(DataError, match="39 different words") as refused:
        encoding_of("id", words)
    assert "number" not in str(refused.value)


def test_unknown_truth_and_images_without_detections_take_no_part() -> None:
    records, first, second = planted_set(200)
    plain = fit(records, [first, second])
    unknown = image(901, "u", supervision=Supervision.UNLABELLED)
    silent = image(902, "s", finding(A))
    extra = [found(901, (A, 0.9)), found(902)]
    more = [
        dataclasses.replace(each, images={**each.images, **{e.image_id: e for e in extra}})
        for each in (first, second)
    ]
    fitted = fit([*records, unknown, silent], more)
    assert (fitted.own, fitted.others) == (plain.own, plain.others)
    assert fitted.counts["images_of_unknown_truth"] == 1
    assert fitted.counts["images_without_detection"] == 1
    more[1] = dataclasses.replace(
        more[1], images={**more[1].images, 901: found(901), 902: found(902, (A, 0.9, "benign"))}
    )
    n_without = without_detection([*records, unknown, silent], more, ("malignant",))
    assert n_without == [1, 2]
    with pytest.raises(DataError, match="0 patients with a positive image"):
        fit([r for r in records if not r.findings], [first, second])


# Files


def empty_two(path: Path) -> None:
    """Take all detections out of two images of a file."""
    read = read_detections(path)
    emptied = [
        found(number) if place in (3, 4) else one
        for place, (number, one) in enumerate(read.images.items())
    ]
    write_detections(path, emptied, categories=CATEGORIES, provenance=read.provenance)


def test_fit_on_validation_and_apply_to_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    val, on_val = write_set(tmp_path, "val", 400, 0, "val")
    test, on_test = write_set(tmp_path, "test", 300, 1, "test")
    words = ["combine", *map(str, on_val), "--dataset", f"x/val={val}", "--how", "rescore"]
    assert main([*words, "--attributes", "age", "density", "--output", str(tmp_path / "v")]) == 0
    said = capsys.readouterr().out
    assert "400 images of 41 patients" in said
    assert "is the set the combination was fitted on" in said
    fitted = tmp_path / "v" / "combination.json"
    words = ["combine", *map(str, on_test), "--dataset", f"x/test={test}", "--how", "rescore"]
    words += ["--combination", str(fitted), "--output", str(tmp_path / "t")]
    empty_two(on_test[1])
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "is the set the combination" not in printed.out
    assert "31 patients of test.json are in val.json as well" in printed.out + printed.err
    kept = json.loads(fitted.read_text())
    combined = read_detections(tmp_path / "t" / "detections.json")
    assert combined.provenance["combined"]["combination"] == kept
    assert combined.provenance["combined"]["images_without_detection"] == [0, 2]
    assert "test_b.json holds nothing of a target class for 2 of the 300 images of test.json" in (
        printed.out
    )
    assert [one["file"] for one in combined.provenance["combined"]["inputs"]] == [
        "test_a.json",
        "test_b.json",
    ]
    records = simfrcnn.read_coco(test, check_files=False).records
    by_hand = rescore(Combination.from_json(kept), records, list(map(read_detections, on_test)))
    assert [one.scores.tolist() for one in combined.images.values()] == [
        one.scores.tolist() for one in by_hand
    ]
    quick = simfrcnn.EvaluationSettings(bootstrap_replicates=0)
    auc = {
        name: simfrcnn.evaluate(test, path, settings=quick, pictures=False)
        .figures["image/auc"]
        .value
        for name, path in (("a", on_test[0]), ("both", tmp_path / "t" / "detections.json"))
    }
    assert auc["both"] > auc["a"] + 0.1


def test_union_of_files_keeps_classes_and_the_hash_of_the_annotations(tmp_path: Path) -> None:
    test, on_test = write_set(tmp_path, "test", 6, 1, "test")
    path = simfrcnn.combine(test, on_test, tmp_path / "u")
    joint, lists = read_detections(path), list(map(read_detections, on_test))
    assert joint.provenance["annotations_sha256"] == sha256_of(test)
    assert dict(joint.categories) == {1: "malignant", 2: "benign"}
    for number, one in joint.images.items():
        assert as_rows(one) == as_rows(union([each.images[number] for each in lists]))


def test_detections_of_another_annotation_file_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both sets number their images from 1."""
    val, on_val = write_set(tmp_path, "val", 6, 0, "val")
    _, on_test = write_set(tmp_path, "test", 6, 1, "test")
    words = ["combine", str(on_val[0]), str(on_test[1]), "--dataset", f"x/val={val}"]
    assert main([*words, "--output", str(tmp_path / "u")]) == 0
    said = capsys.readouterr()
    assert f"test_b.json was not made on {val} (the hashes differ)" in said.out + said.err
    assert "val_a.json was not" not in said.out + said.err
    assert "annotations_sha256" not in read_detections(tmp_path / "u/detections.json").provenance
    assert "the same detections" not in said.out + said.err


def test_a_file_that_is_given_twice_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    val, on_val = write_set(tmp_path, "val", 6, 0, "val")
    words = ["combine", str(on_val[0]), str(on_val[0]), "--dataset", f"x/val={val}"]
    assert main([*words, "--output", str(tmp_path / "u")]) == 0
    said = capsys.readouterr()
    assert "two of these files are the same detections, which count twice" in said.out + said.err


def test_masks_stay_with_their_boxes(tmp_path: Path) -> None:
    def masked(one):
        masks = tuple(rle_of_box(tuple(box), 100, 100) for box in one.boxes.tolist())
        return dataclasses.replace(one, masks=masks)

    first = masked(found(1, (FAR, 0.2), (A, 0.9), (NEAR_A, 0.8)))
    second = masked(found(1, (A, 0.3, "benign"), (NEAR_A, 0.5)))
    joint = union([first, second])
    assert len(joint.scores) == 3
    assert joint.masks == masked(joint).masks
    assert union([first, dataclasses.replace(second, masks=None)]).masks is None
    annotations = tmp_path / "a.json"
    write_coco(annotations, [image(1, "p", finding(A))], CATEGORIES, {})
    paths = [tmp_path / "1.json", tmp_path / "2.json"]
    for path, one, least in zip(paths, (first, second), (0.1, 0.25), strict=True):
        write_detections(path, [one], categories=CATEGORIES, provenance={"masks_from_score": least})
    combined = read_detections(simfrcnn.combine(annotations, paths, tmp_path / "u"))
    assert combined.provenance["masks_from_score"] == 0.25
    assert combined.images[1].masks == joint.masks


def test_a_rescored_list_says_from_which_of_its_own_scores_on_boxes_have_masks(
    tmp_path: Path,
) -> None:
    """A fact of the patient lifts a box that had no mask above one that has."""
    records, first, _ = planted_set(200, seed=3)
    records = [
        dataclasses.replace(record, split="val", path=tmp_path / record.file_name)
        for record in records
    ]
    annotations, listed = tmp_path / "val.json", tmp_path / "first.json"
    write_coco(annotations, records, CATEGORIES, {})
    images = [
        dataclasses.replace(
            one,
            masks=tuple(
                rle_of_box(tuple(box), 100, 100) if score >= 0.5 else None
                for box, score in zip(one.boxes.tolist(), one.scores, strict=True)
            ),
        )
        for one in first.images.values()
    ]
    write_detections(listed, images, categories=CATEGORIES, provenance={"masks_from_score": 0.5})
    path = simfrcnn.combine(
        annotations, [listed], tmp_path / "r", how="rescore", attributes=("age", "density")
    )
    combined = read_detections(path)
    for before in images:
        assert combined.images[before.image_id].masks == before.masks
    without = [
        score
        for one in combined.images.values()
        for score, mask in zip(one.scores, one.masks or (), strict=True)
        if mask is None
    ]
    least = combined.provenance["masks_from_score"]
    assert 0.5 < max(without) < least
    assert least == pytest.approx(max(without))


def test_a_test_set_is_not_fitted_on(tmp_path: Path) -> None:
    test, on_test = write_set(tmp_path, "test", 40, 1, "test")
    with pytest.raises(DataError, match="not on a test set; 40 of its images say split 'test'"):
        simfrcnn.combine(test, on_test, tmp_path / "t", how="rescore")
    upper, on_upper = write_set(tmp_path, "upper", 40, 1, "Test")
    with pytest.raises(DataError, match="40 of its images say split 'Test'"):
        simfrcnn.combine(upper, on_upper, tmp_path / "t", how="rescore")
    few, on_few = write_set(tmp_path, "few", 9, 1, "val")
    with pytest.raises(DataError, match=r"few\.json: the validation set has 1 patient with"):
        simfrcnn.combine(few, on_few, tmp_path / "t", how="rescore")
    other, on_other = write_set(tmp_path, "other", 40, 1, "val")
    config = tmp_path / "c.yaml"
    config.write_text(f"DATASETS:\n  TEST: [x/held]\n  FILES: ['x/held={other}']\n")
    with pytest.raises(DataError, match=r"has it in DATASETS.TEST as x/held"):
        simfrcnn.combine(other, on_other, tmp_path / "t", how="rescore", config_file=str(config))
    config.write_text(f"DATASETS:\n  TRAIN: [x/seen]\n  FILES: ['x/seen={other}']\n")
    with pytest.raises(DataError, match=r"not on a training set; .*in DATASETS.TRAIN as x/seen"):
        simfrcnn.combine(other, on_other, tmp_path / "t", how="rescore", config_file=str(config))
    assert not (tmp_path / "t").exists()


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    val, on_val = write_set(tmp_path, "val", 60, 0, "val")
    fewer = tmp_path / "fewer.json"
    images = list(read_detections(on_val[1]).images.values())
    write_detections(fewer, images[1:], categories=CATEGORIES)
    with pytest.raises(ArtifactError, match=r"not of the same images: 1 are in one alone.*image 1"):
        simfrcnn.combine(val, [on_val[0], fewer], tmp_path / "x")
    with pytest.raises(ConfigError, match="given: 1 detections; 2 or more"):
        simfrcnn.combine(val, on_val[:1], tmp_path / "x")
    with pytest.raises(ConfigError, match="--attributes go with --how rescore"):
        simfrcnn.combine(val, on_val, tmp_path / "x", attributes=("age",))
    with pytest.raises(ConfigError, match="combine has no option 'tresh'"):
        simfrcnn.combine(val, on_val, tmp_path / "x", tresh=1)
    with pytest.raises(DataError, match="no image states the attribute 'sex'"):
        simfrcnn.combine(val, on_val, tmp_path / "x", how="rescore", attributes=("sex",))
    own = tmp_path / "detections.json"
    write_detections(own, read_detections(on_val[1]).images.values(), categories=CATEGORIES)
    with pytest.raises(OutputError, match="would be overwritten"):
        simfrcnn.combine(val, [own, on_val[0]], tmp_path)
    simfrcnn.combine(val, on_val, tmp_path / "v", how="rescore")
    fitted = tmp_path / "v" / "combination.json"
    how = {"how": "rescore", "combination": fitted}
    _, later = write_set(tmp_path, "later", 60, 0, "test", checkpoint="b" * 64)
    with pytest.raises(ArtifactError, match=r"later_a\.json is of another checkpoint"):
        simfrcnn.combine(val, later, tmp_path / "x", **how)
    with pytest.raises(ArtifactError, match="fitted with 2 lists of detections, and 1 are given"):
        simfrcnn.combine(val, on_val[:1], tmp_path / "x", **how)
    with pytest.raises(ConfigError, match="leave --attributes and --target-classes out"):
        simfrcnn.combine(val, on_val, tmp_path / "x", **how, attributes=("age",))
    for spoilt, message in (
        ({"kind": "other"}, "holds no combination"),
        ({"schema_version": 9}, "schema version 9"),
        ({"own": None}, "damaged"),
        ({"own": float("nan")}, r"damaged.*not a finite number"),
        ({"facts": [{**AGE_FACT, "deviation": 0}]}, "damaged.*age: mean 60.0 and deviation 0.0"),
        ({"facts": [{**AGE_FACT, "mean": float("inf")}]}, "damaged.*age: mean inf"),
    ):
        broken = tmp_path / "broken.json"
        broken.write_text(json.dumps({**json.loads(fitted.read_text()), **spoilt}))
        with pytest.raises(ArtifactError, match=message):
            simfrcnn.combine(val, on_val, tmp_path / "x", how="rescore", combination=broken)
    assert not (tmp_path / "x").exists()
