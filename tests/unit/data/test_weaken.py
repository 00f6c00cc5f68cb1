"""Few boxes out of many: whose stay, what is untouched, the controls, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simfrcnn.artifacts import ImageDetections, write_detections
from simfrcnn.data.coco import AnnotatedSet, read_coco, write_coco
from simfrcnn.data.selection import training_lists
from simfrcnn.data.weaken import Labels, Weakened, weaken
from simfrcnn.errors import DataError, OutputError
from simfrcnn.label_settings import LabelBags
from simfrcnn.records import FindingSource, Laterality, Pathology, Supervision
from simfrcnn.settings import DataSettings, PseudoSettings
from simfrcnn.workflows.pseudo_label import label_from_file
from simfrcnn.workflows.weaken import weaken_data_set
from support.data_examples import make_finding, make_record

ON = DataSettings(labels_per_item=1)


def write_set(folder: Path, order: int = 1) -> AnnotatedSet:
    """Six patients with two boxed views and a view that shows nothing; twenty normal images."""
    records = []
    for number in range(6):
        patient = f"m{number}"
        facts = {"patient": patient, "laterality": Laterality.LEFT}
        for view in range(2):
            image_id = 10 * number + view + 1
            findings = [make_finding(finding_id=2 * image_id)]
            if view:
                findings.append(make_finding((30, 30, 40, 50), "benign", 2 * image_id + 1))
            records.append(
                make_record(image_id, *findings, path=folder / f"{image_id}.png", **facts)
            )
        records.append(
            make_record(
                10 * number + 3,
                supervision=Supervision.IMAGE_LABEL,
                pathology=Pathology.MALIGNANT,
                path=folder / f"{10 * number + 3}.png",
                **facts,
            )
        )
    records += [
        make_record(
            100 + n, supervision=Supervision.NORMAL, patient=f"n{n}", path=folder / f"{100 + n}.png"
        )
        for n in range(20)
    ]
    path = folder / f"train{order}.json"
    write_coco(path, records[::order], {1: "malignant", 2: "benign"}, {"version": "3"})
    return read_coco(path, check_files=False)


def test_some_patients_keep_their_boxes_and_all_else_stays(tmp_path: Path) -> None:
    source = write_set(tmp_path)
    done = weaken(source, tmp_path / "new" / "few.json", n_patients=2, seed=0)
    few = read_coco(tmp_path / "new" / "few.json", check_files=False)
    assert len(done.kept_patients) == 2
    assert len(done.image_ids) == 8
    before = {record.image_id: record for record in source.records}
    for record in few.records:
        old = before[record.image_id]
        assert record.path == old.path
        if record.image_id in done.image_ids:
            assert record.patient_id not in done.kept_patients
            assert record.supervision is Supervision.IMAGE_LABEL
            assert record.findings == ()
            assert record.labels == {finding.category: True for finding in old.findings}
        else:
            assert (record.findings, record.supervision) == (old.findings, old.supervision)
    raw, new = (
        json.loads(path.read_text())["images"]
        for path in (source.path, tmp_path / "new" / "few.json")
    )
    for old_entry, entry in zip(raw, new, strict=True):
        if entry["id"] not in done.image_ids:
            assert {**entry, "file_name": old_entry["file_name"]} == old_entry
    info = few.info["weaken"]
    assert (info["patients"], info["seed"], info["source_sha256"]) == (2, 0, source.sha256)
    assert info["kept_patients"] == list(done.kept_patients)
    lists = training_lists(few.records, ON)
    assert (len(lists.positives), len(lists.labelled), len(lists.normals)) == (4, 8, 20)


def test_the_draw_is_nested_by_seed_and_does_not_depend_on_the_file(tmp_path: Path) -> None:
    source, reversed_source = write_set(tmp_path), write_set(tmp_path, order=-1)
    kept = {}
    for seed in (0, 1, 2):
        for n in (1, 3, 6):
            one, other = (
                weaken(each, tmp_path / "few.json", n_patients=n, seed=seed)
                for each in (source, reversed_source)
            )
            assert one.kept_patients == other.kept_patients
            kept[seed, n] = set(one.kept_patients)
        assert kept[seed, 1] < kept[seed, 3] < kept[seed, 6]
    assert len({tuple(sorted(kept[seed, 3])) for seed in (0, 1, 2)}) > 1


def test_controls(tmp_path: Path) -> None:
    source, path = write_set(tmp_path), tmp_path / "control.json"

    def lists_of(labels):
        done = weaken(source, path, n_patients=2, seed=0, labels=labels)
        lists = training_lists(read_coco(path, check_files=False).records, ON)
        return done, {bag.records[0].image_id for bag in lists.labelled}, lists

    done, called, lists = lists_of("false")
    assert len(called) == 8
    assert min(called) >= 100
    assert (len(lists.positives), len(lists.normals)) == (4, 12)
    done, called, lists = lists_of("shuffled")
    assert (len(called), len(lists.normals)) == (8, 20)
    assert {record.image_id for record in lists.normals} & set(done.image_ids)
    assert called != set(done.image_ids)
    done, called, lists = lists_of("breast")
    assert called == {*done.image_ids, 3, 13, 23, 33, 43, 53}


@pytest.mark.parametrize("bags", ["image", "breast"])
def test_controls_train_no_breast_by_its_pathology(tmp_path: Path, bags: LabelBags) -> None:
    plain, path = write_set(tmp_path), tmp_path / "control.json"
    records = [
        replace(record, pathology=Pathology.MALIGNANT)
        if record.findings
        else replace(record, laterality=record.laterality or Laterality.LEFT)
        for record in plain.records
    ]
    write_coco(plain.path, records, {1: "malignant", 2: "benign"}, {})
    source = read_coco(plain.path, check_files=False)

    def trained(labels: Labels) -> tuple[Weakened, set[int], AnnotatedSet]:
        done = weaken(source, path, n_patients=2, seed=0, labels=labels)
        control = read_coco(path, check_files=False)
        lists = training_lists(control.records, replace(ON, label_bags=bags))
        return done, {r.image_id for bag in lists.labelled for r in bag.records}, control

    done, true, _ = trained("true")
    assert true >= set(done.image_ids)
    done, called, control = trained("false")
    assert len(called) == 8
    assert min(called) >= 100  # normal images alone
    kept = {r.image_id for r in control.records if r.pathology is Pathology.MALIGNANT}
    assert kept == {r.image_id for r in source.records if r.patient_id in done.kept_patients}
    done, called, control = trained("shuffled")
    stated = {r.breast_id for r in control.records if r.labels.get("malignant")}
    assert {r.breast_id for r in control.records if r.image_id in called} == stated
    assert len(stated) < 12


def write_two_targets(folder: Path) -> AnnotatedSet:
    """Images of which the boxes say all, or only part, about two targets; each is one patient's."""
    crowd = make_finding(category="malignant", finding_id=4, iscrowd=True)
    pseudo = make_finding(
        category="malignant", finding_id=6, source=FindingSource.PSEUDO, score=0.9
    )
    doubtful = make_finding((30, 30, 40, 50), "doubtful", 8)
    findings = {
        1: [make_finding(finding_id=1)],
        2: [make_finding(category="benign", finding_id=2)],
        3: [make_finding(finding_id=3), make_finding((30, 30, 40, 50), "benign", 30)],
        4: [crowd, make_finding((30, 30, 40, 50), "scar", 40)],
        5: [make_finding(finding_id=5)],
        6: [pseudo],
        7: [make_finding(finding_id=7), doubtful],
        9: [make_finding(finding_id=9)],
    }
    partly = {5: Supervision.IMAGE_LABEL}
    records = [
        make_record(
            number,
            *own,
            patient=f"p{number}",
            supervision=partly.get(number, Supervision.BOXES),
            path=folder / f"{number}.png",
        )
        for number, own in findings.items()
    ]
    categories = {1: "malignant", 2: "benign", 3: "scar", 4: "doubtful"}
    records += [
        make_record(
            100 + n, supervision=Supervision.NORMAL, patient=f"n{n}", path=folder / f"{100 + n}.png"
        )
        for n in range(9)
    ]
    write_coco(folder / "two.json", records, categories, {})
    return read_coco(folder / "two.json", check_files=False)


def test_a_target_without_a_box_is_denied_where_its_absence_is_known(tmp_path: Path) -> None:
    source, path = write_two_targets(tmp_path), tmp_path / "few.json"
    both = {"target_classes": ("malignant", "benign"), "ignored_classes": ("doubtful",)}
    expected = {
        1: {"malignant": True, "benign": False},
        2: {"benign": True, "malignant": False},
        3: {"malignant": True, "benign": True},
        4: {"malignant": True, "scar": True, "benign": False},  # a crowd is a finding
        5: {"malignant": True},  # its boxes may not be all
        6: {"malignant": True},  # a model's boxes are not all
        7: {"malignant": True, "doubtful": True},  # what the ignored box holds is not known
        9: {"malignant": True, "benign": False},
    }
    seen = set()
    for seed in range(4):
        done = weaken(source, path, n_patients=1, seed=seed, **both)
        records = {r.image_id: r for r in read_coco(path, check_files=False).records}
        labels = {number: dict(records[number].labels) for number in done.image_ids}
        assert labels == {number: expected[number] for number in done.image_ids}
        seen.update(labels)
    assert seen == set(expected)
    # Nothing is false where there is one target: the label says all.
    done = weaken(source, path, n_patients=1, seed=0)
    labelled = [r for r in read_coco(path, check_files=False).records if r.labels]
    assert len(labelled) == len(done.image_ids)
    assert all(all(record.labels.values()) for record in labelled)


def test_a_false_label_says_as_much_as_a_true_one(tmp_path: Path) -> None:
    source, path = write_two_targets(tmp_path), tmp_path / "few.json"
    both = ("malignant", "benign")
    weaken(source, path, n_patients=1, seed=0, target_classes=both, labels="false")
    called = [r for r in read_coco(path, check_files=False).records if r.labels]
    assert len(called) == 7
    assert all(dict(r.labels) == {"malignant": True, "benign": False} for r in called)


def test_two_targets_are_self_trained_after_weakening(tmp_path: Path) -> None:
    """``weaken`` with a config of two targets, then ``pseudo-label --of labels`` on its file."""
    source, config = write_two_targets(tmp_path), tmp_path / "my.yaml"
    for record in source.records:
        record.path.touch()
    config.write_text(
        "DATASETS: {CLASSES: [malignant, benign], TARGET_CLASSES: [malignant, benign]}\n"
        "EVAL: {IGNORED_CLASSES: [doubtful]}"
    )
    few, found = tmp_path / "few.json", tmp_path / "found.json"
    weaken_data_set(f"t={source.path}", few, n_patients=1, seed=0, config_file=str(config))
    bags = {
        record.image_id: next(name for name in ("malignant", "benign") if record.labels.get(name))
        for record in read_coco(few).records
        if record.labels
    }
    box = np.array([[10.0, 10.0, 20.0, 30.0]])
    perfect = [ImageDetections(n, box, np.array([0.9]), (name,)) for n, name in bags.items()]
    write_detections(found, perfect, categories={1: "malignant", 2: "benign"})
    done = label_from_file(
        f"t={few}",
        found,
        tmp_path / "few_pseudo.json",
        target_classes=("malignant", "benign"),
        settings=PseudoSettings(of="labels", fraction=1),
    )
    assert set(done.added) == {1, 2, 4, 9} & set(bags)
    assert len(done.added) >= 3
    assert {f.category for (f,) in done.added.values()} == {"malignant", "benign"}
    assert done.n_open == len(bags) - len(done.added) > 0


def test_what_cannot_be_weakened_is_refused(tmp_path: Path) -> None:
    source = write_set(tmp_path)
    for n in (0, 7):
        with pytest.raises(DataError, match=rf"boxes of {n} patients .*6 have a box.*legal is 1 t"):
            weaken(source, tmp_path / "few.json", n_patients=n, seed=0)
    with pytest.raises(OutputError, match="is the file to be weakened itself"):
        weaken(source, source.path, n_patients=2, seed=0)


def test_a_set_that_models_are_judged_on_keeps_its_boxes(tmp_path: Path) -> None:
    source, config = write_set(tmp_path), tmp_path / "my.yaml"
    for record in source.records:
        record.path.touch()
    config.write_text(
        f"DATASETS: {{VAL: [clinic/val], TEST: [], FILES: ['clinic/val={source.path}']}}"
    )
    given = {"n_patients": 2, "seed": 0, "config_file": str(config)}
    for name in ("clinic/val", "other"):
        with pytest.raises(DataError, match=r"is clinic/val, which .*DATASETS\.VAL: a set that"):
            weaken_data_set(f"{name}={source.path}", tmp_path / "few.json", **given)
    with pytest.raises(DataError, match="is clinic/val, which"):
        weaken_data_set("t=" + str(source.path), source.path, overwrite=True, **given)
    path = tmp_path / "few.json"
    copy = source.path.with_name("copy.json")  # by the name alone, with spaces round it as well
    copy.write_bytes(source.path.read_bytes())
    for name in ("clinic/val", " clinic/val "):
        with pytest.raises(DataError, match="is clinic/val, which"):
            weaken_data_set(f"{name}={copy}", path, **given)
    weaken_data_set(f"t={source.path}", path, n_patients=2, seed=0)
    with pytest.raises(OutputError, match="exists; --overwrite replaces it"):
        weaken_data_set(f"t={source.path}", path, n_patients=2, seed=0)
