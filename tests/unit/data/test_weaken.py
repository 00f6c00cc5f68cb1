"""Few boxes out of many: whose stay, what is untouched, the controls, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simfrcnn.data.coco import AnnotatedSet, read_coco, write_coco
from simfrcnn.data.selection import training_lists
from simfrcnn.data.weaken import weaken
from simfrcnn.errors import DataError, OutputError
from simfrcnn.records import Laterality, Pathology, Supervision
from simfrcnn.settings import DataSettings
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
    weaken_data_set(f"t={source.path}", path, n_patients=2, seed=0)
    with pytest.raises(OutputError, match="exists; --overwrite replaces it"):
        weaken_data_set(f"t={source.path}", path, n_patients=2, seed=0)
