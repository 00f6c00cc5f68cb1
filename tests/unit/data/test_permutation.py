"""Labels permuted by patient: a permutation, of whole patients, that leaves the pixels alone."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from simfrcnn.data.coco import read_coco, write_coco
from simfrcnn.data.permutation import permute_labels, write_permuted
from simfrcnn.errors import DataError
from simfrcnn.records import Laterality, Pathology, Supervision, ViewPosition
from support.evaluation_examples import finding, image

CATEGORIES = {1: "malignant"}
LABELS = ("supervision", "pathology", "findings")


def exams(n_patients=30, n_malignant=12):
    """Two views each; of malignant patients the CC has a box that names the patient."""
    records = []
    for patient in range(n_patients):
        is_malignant = patient < n_malignant
        for view in (ViewPosition.MLO, ViewPosition.CC):
            number = len(records) + 1
            box = (patient, patient, patient + 5, patient + 9)
            is_boxed = is_malignant and view is ViewPosition.CC
            record = image(
                number,
                f"p{patient:02}",
                *([finding(box, number)] if is_boxed else []),
                view=view,
                supervision=None if is_boxed or not is_malignant else Supervision.IMAGE_LABEL,
                pathology=Pathology.MALIGNANT if is_malignant else Pathology.NORMAL,
            )
            records.append(record)
    return records


def label_of(records):
    """What is said of a patient, view by view, without the numbers of findings."""
    said = {}
    for r in sorted(records, key=lambda r: (r.patient_id, r.view_position.value)):
        boxes = tuple(f.box for f in r.findings)
        said.setdefault(r.patient_id, []).append((r.view_position, r.supervision, boxes))
    return {patient: tuple(views) for patient, views in said.items()}


def test_patients_exchange_all_their_labels_and_nothing_else():
    records = exams()
    permuted = permute_labels(records, seed=0)
    for before, after in zip(records, permuted, strict=True):
        kept = {f.name for f in dataclasses.fields(before)} - set(LABELS)
        assert all(getattr(before, name) == getattr(after, name) for name in kept)
    before, after = label_of(records), label_of(permuted)
    assert Counter(before.values()) == Counter(after.values())
    assert sum(before[patient] != after[patient] for patient in before) > 10
    numbers = [f.finding_id for r in permuted for f in r.findings]
    assert sorted(numbers) == list(range(1, 13))


def test_the_permutation_is_a_function_of_the_seed_and_not_of_the_order():
    records = exams()
    first = label_of(permute_labels(records, seed=1))
    assert first == label_of(permute_labels(records[::-1], seed=1))
    assert first != label_of(permute_labels(records, seed=2))


def test_labels_are_independent_of_the_real_ones():
    """Over many seeds a malignant patient stays so as often as there are malignant ones."""
    records = exams()
    malignant = {r.patient_id for r in records if r.pathology is Pathology.MALIGNANT}
    stayed = 0
    for seed in range(200):
        permuted = permute_labels(records, seed)
        now = {r.patient_id for r in permuted if r.pathology is Pathology.MALIGNANT}
        assert len(now) == 12
        stayed += len(now & malignant)
    assert stayed / (200 * 12) == pytest.approx(12 / 30, abs=0.03)


def test_a_box_goes_to_a_view_of_the_same_size_only():
    records = exams(20, 10)
    even = {f"p{number:02}" for number in range(0, 20, 2)}
    larger = [dataclasses.replace(r, height=200) if r.patient_id in even else r for r in records]
    for seed in range(10):
        for record in permute_labels(larger, seed):
            for each in record.findings:
                assert (each.box[0] % 2 == 0) == (record.height == 200)


def test_patients_without_a_like_are_refused(tmp_path):
    records = [
        image(1, "p1", finding((1, 1, 5, 5), 1)),
        image(2, "p2", laterality=Laterality.RIGHT),
    ]
    path = tmp_path / "set.json"
    write_coco(path, records, CATEGORIES, {})
    with pytest.raises(DataError, match=r"set\.json: the labels cannot be permuted"):
        write_permuted(read_coco(path, check_files=False), tmp_path / "permuted.json", seed=0)
    assert not (tmp_path / "permuted.json").exists()


@pytest.mark.parametrize(("n_alone", "is_refused"), [(1, False), (2, True)])
def test_few_patients_may_keep_their_labels(n_alone, is_refused):
    alone = {f"p{number:02}": 200 + number for number in range(n_alone)}
    records = [
        dataclasses.replace(r, height=alone.get(r.patient_id, r.height)) for r in exams(30, 12)
    ]
    if is_refused:
        with pytest.raises(DataError, match=r"30 patients form 3 groups .* at most 2 groups"):
            permute_labels(records, seed=0)
    else:
        assert len(permute_labels(records, seed=0)) == len(records)


def test_small_groups_keep_what_tells_malignant_patients_and_are_refused():
    """Pairs of patients with the same sizes: nobody is alone, and half would keep their labels."""
    records = [
        dataclasses.replace(r, height=200 + int(r.patient_id[1:]) // 2) for r in exams(40, 20)
    ]
    with pytest.raises(DataError, match=r"40 patients form 20 groups .* at most 3 groups"):
        permute_labels(records, seed=0)


def test_the_written_file_can_be_read_and_is_the_same_again(tmp_path):
    path = tmp_path / "set.json"
    write_coco(path, exams(), CATEGORIES, {})
    annotated = read_coco(path, check_files=False)
    outputs = [tmp_path / "a" / "set.json", tmp_path / "b" / "set.json"]
    for output in outputs:
        write_permuted(annotated, output, seed=3)
    permuted = read_coco(outputs[0], check_files=False)
    assert label_of(permuted.records) == label_of(permute_labels(annotated.records, 3))
    assert [r.path for r in permuted.records] == [r.path for r in annotated.records]
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
