"""Which files make up an exam, and what is left out of it and why."""

import os
import shutil

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from simfrcnn.data.ahead import Processes
from simfrcnn.data.exams import Selection, Sources, index_of
from simfrcnn.dicom.mammogram import STRICT
from simfrcnn.errors import DataError
from simfrcnn.images.drawing import as_marked_png
from support.studies import write_study, write_view

DEFAULT = Selection(STRICT)


def exams_of(study, *, selection=DEFAULT, workers=0):
    with (
        Processes(workers) as processes,
        index_of(Sources.of(study), selection, processes) as index,
    ):
        return list(index.exams())


def judged(plan):
    return [group[0].place for group in plan.groups]


def left_out(plan):
    return {file.place: file.what for file in plan.left_out}


def test_files_of_one_study_are_an_exam_wherever_they_lie(tmp_path):
    first = write_study(tmp_path, 1)
    write_study(tmp_path, 2)
    (tmp_path / "elsewhere").mkdir()
    shutil.move(first[0], tmp_path / "elsewhere" / "a.dcm")
    one, two = exams_of(tmp_path)
    assert (one.exam_id, one.patient_id) == ("1.2.3.1", "P1")
    assert judged(one) == [
        "elsewhere/a.dcm",
        "study1/LCC.dcm",
        "study1/LMLO.dcm",
        "study1/RMLO.dcm",
    ]
    assert (two.exam_id, two.patient_id, len(two.groups)) == ("1.2.3.2", "P2", 4)
    assert not one.left_out
    assert not one.notes


def test_two_patients_who_share_a_study_are_two_exams_that_say_so(tmp_path):
    write_view(tmp_path / "a.dcm", StudyInstanceUID="1.2", PatientID="SYN1")
    write_view(tmp_path / "b.dcm", StudyInstanceUID="1.2", PatientID="SYN2")
    one, two = exams_of(tmp_path)
    assert [(plan.exam_id, plan.patient_id) for plan in (one, two)] == [
        ("1.2/SYN1", "SYN1"),
        ("1.2/SYN2", "SYN2"),
    ]
    assert judged(one) == ["a.dcm"]
    assert left_out(one) == {"b.dcm": "another patient"}
    assert left_out(two) == {"a.dcm": "another patient"}
    assert one.notes[0].startswith("2 different Patient IDs share this Study Instance UID")
    for n in range(1, 6):  # a shard holds whole studies
        assert one.is_in_shard((n, 5)) == two.is_in_shard((n, 5))


def test_a_file_without_a_patient_id_is_counted_as_no_patient(tmp_path):
    for patient in ("SYN1", "SYN2", None):
        write_view(tmp_path / f"{patient}.dcm", StudyInstanceUID="1.2", PatientID=patient)
    plans = exams_of(tmp_path)
    assert [judged(plan) for plan in plans] == [["None.dcm"], ["SYN1.dcm"], ["SYN2.dcm"]]
    assert all(plan.notes[0].startswith("2 different Patient IDs") for plan in plans)


def test_a_file_without_a_patient_id_goes_to_the_only_patient_with_a_note(tmp_path):
    write_view(tmp_path / "a.dcm", StudyInstanceUID="1.2", PatientID="P1")
    write_view(tmp_path / "b.dcm", StudyInstanceUID="1.2", PatientID=None)
    (plan,) = exams_of(tmp_path)
    assert judged(plan) == ["a.dcm", "b.dcm"]
    assert plan.patient_id == "P1"
    assert "without a Patient ID" in plan.notes[0]


def test_copies_of_a_sop_instance_are_one_group(tmp_path):
    paths = write_study(tmp_path, 1, n_views=2)
    shutil.copy(paths[0], tmp_path / "copy.dcm")
    (plan,) = exams_of(tmp_path)
    assert [[file.place for file in group] for group in plan.groups] == [
        ["copy.dcm", "study1/RCC.dcm"],
        ["study1/LCC.dcm"],
    ]


def test_other_pictures_of_a_study_are_left_out_by_name(tmp_path):
    write_study(tmp_path, 1, n_views=1)
    facts = {"StudyInstanceUID": "1.2.3.1", "PatientID": "P1"}
    write_view(tmp_path / "scout.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **facts)
    write_view(tmp_path / "ct.dcm", Modality="CT", **facts)
    raw = {"PresentationIntentType": "FOR PROCESSING", **facts}
    write_view(tmp_path / "raw.dcm", **raw)
    (plan,) = exams_of(tmp_path)
    assert judged(plan) == ["study1/RCC.dcm"]
    assert left_out(plan) == {
        "ct.dcm": "not a mammogram",
        "raw.dcm": "not a mammogram",
        "scout.dcm": "not a screening view",
    }
    assert "Modality (0008,0060) is 'CT'" in next(
        f.why for f in plan.left_out if f.place == "ct.dcm"
    )
    (plan,) = exams_of(tmp_path, selection=Selection(STRICT, all_views=True))
    assert judged(plan) == ["scout.dcm", "study1/RCC.dcm"]


def test_a_file_without_a_header_belongs_to_the_only_study_of_its_folder(tmp_path):
    write_study(tmp_path, 1)
    (tmp_path / "study1" / "cut.dcm").write_bytes(b"damaged")
    (plan,) = exams_of(tmp_path)
    assert left_out(plan) == {"study1/cut.dcm": "unreadable"}
    assert "the only one in its folder" in plan.left_out[0].why
    write_view(tmp_path / "study1" / "other.dcm", StudyInstanceUID="1.9", PatientID="P9")
    plans = exams_of(tmp_path)  # of which study it is, nobody knows
    assert [plan.exam_id for plan in plans] == ["study1/cut.dcm", "1.2.3.1", "1.9"]
    assert left_out(plans[0]) == {"study1/cut.dcm": "unreadable"}


def test_pictures_are_exams_of_their_own_and_those_drawn_by_predict_none(tmp_path):
    pixels = np.full((20, 30), 90, np.uint8)
    for place in ("p1/x.png", "p2/x.png"):
        (tmp_path / place).parent.mkdir()
        cv2.imwrite(str(tmp_path / place), pixels)
    (tmp_path / "drawn.png").write_bytes(as_marked_png(cv2.merge([pixels] * 3)))
    with Processes(0) as processes:
        with index_of(Sources.of(tmp_path), DEFAULT, processes) as index:
            plans = list(index.exams())
        assert index.n_own_pictures == 1
    assert [(p.exam_id, p.patient_id) for p in plans] == [("p1/x.png",) * 2, ("p2/x.png",) * 2]


def test_a_folder_that_cannot_be_opened_is_in_the_list(tmp_path):
    write_study(tmp_path / "in", 1)
    deep = tmp_path / "in"
    here = os.open(deep, os.O_RDONLY)
    try:  # a path longer than the system takes, made step by step
        for _ in range(20):
            name = "x" * 250
            os.mkdir(name, dir_fd=here)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        plans = exams_of(deep)
    finally:
        os.close(here)
        shutil.rmtree(deep)
    assert len(plans) == 2
    (lost,) = plans[0].left_out
    assert lost.what == "unreadable"
    assert lost.why == "cannot be opened (File name too long)"


def test_names_that_are_not_utf8_are_read(tmp_path):
    name = os.fsdecode(b"caf\xe9.dcm")
    write_view(tmp_path / name, StudyInstanceUID=None)
    (plan,) = exams_of(tmp_path)
    assert plan.exam_id == name
    assert plan.path_of(plan.groups[0][0]).exists()


def test_a_single_file_and_a_list_of_files(tmp_path):
    paths = write_study(tmp_path, 1)
    assert judged(exams_of(paths[0])[0]) == ["RCC.dcm"]
    (plan,) = exams_of([paths[1], str(paths[2])])
    assert judged(plan) == ["LCC.dcm", "RMLO.dcm"]
    with pytest.raises(DataError, match=r"absent\.dcm does not exist"):
        exams_of([paths[0], tmp_path / "absent.dcm"])
    with pytest.raises(DataError, match="no file was given"):
        exams_of([])


def test_a_folder_without_an_image_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        exams_of(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no image"):
        exams_of(tmp_path)


def test_the_fingerprint_of_an_exam_changes_with_its_files(tmp_path):
    paths = write_study(tmp_path, 1)
    (before,) = exams_of(tmp_path)
    assert exams_of(tmp_path)[0].fingerprint == before.fingerprint
    paths[0].unlink()
    assert exams_of(tmp_path)[0].fingerprint != before.fingerprint


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_a_header_that_changes_at_the_same_size_is_seen(tmp_path, syntax):
    (path,) = write_study(tmp_path, 1, n_views=1)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    for laterality in "RL":
        dataset.ImageLaterality = laterality
        dataset.save_as(tmp_path / f"{laterality}.dcm")
    right, left = ((tmp_path / f"{side}.dcm").read_bytes() for side in "RL")
    assert len(right) == len(left)
    path.write_bytes(right)
    for side in "RL":
        (tmp_path / f"{side}.dcm").unlink()
    (before,) = exams_of(tmp_path)
    path.write_bytes(left)
    (after,) = exams_of(tmp_path)
    assert after.fingerprint != before.fingerprint
    assert after.fingerprint_by_size == before.fingerprint_by_size


def test_pixels_alone_and_a_copy_do_not_change_the_fingerprint(tmp_path):
    (path,) = write_study(tmp_path, 1, n_views=1)
    (before,) = exams_of(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # what is not seen, as the docstring says
    path.write_bytes(content)
    os.utime(path, (0, 0))
    assert exams_of(tmp_path)[0].fingerprint == before.fingerprint


def test_another_picture_of_the_same_size_is_seen(tmp_path):
    for grey in (90, 91):
        cv2.imwrite(str(tmp_path / f"{grey}.pgm"), np.full((400, 300), grey, np.uint8))
    shutil.move(tmp_path / "91.pgm", tmp_path / "other")
    (before,) = exams_of(tmp_path)
    shutil.move(tmp_path / "other", tmp_path / "90.pgm")
    (after,) = exams_of(tmp_path)
    assert after.fingerprint != before.fingerprint
    assert after.fingerprint_by_size == before.fingerprint_by_size


def test_processes_read_the_same_headers(tmp_path, monkeypatch):
    monkeypatch.setattr("simfrcnn.data.exams._FEW", 2)
    monkeypatch.setattr("simfrcnn.data.exams._CHUNK", 3)
    for number in range(3):
        write_study(tmp_path, number)
    assert exams_of(tmp_path, workers=2) == exams_of(tmp_path)


class KilledBy:
    """Processes of which a file of this name kills whichever reads it."""

    def __init__(self, name):
        self.name, self.sizes = name, []

    def results(self, function, items, *, on_kill):
        for item in items:
            self.sizes.append(len(item))
            kills = any(path.name == self.name for path in item)
            yield on_kill(item) if kills else function(item)


def test_a_killed_process_costs_the_file_that_kills_it_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("simfrcnn.data.exams._FEW", 0)
    monkeypatch.setattr("simfrcnn.data.exams._CHUNK", 3)
    write_study(tmp_path, 1, n_views=2)
    write_study(tmp_path, 2, n_views=4)
    (tmp_path / "study2" / "LMLO.dcm").rename(tmp_path / "study2" / "bad.dcm")
    processes = KilledBy("bad.dcm")
    with index_of(Sources.of(tmp_path), DEFAULT, processes) as index:
        one, two = index.exams()
    assert processes.sizes == [3, 3, 1, 1, 1]
    assert len(judged(one)) == 2
    assert len(judged(two)) == 3
    assert left_out(two) == {"study2/bad.dcm": "failed"}
    assert "the process that read its header was killed" in two.left_out[0].why


def test_a_mammogram_that_nothing_decodes_is_unreadable_and_not_something_else(tmp_path):
    paths = write_study(tmp_path, 1, n_views=2)
    content = paths[0].read_bytes()
    known, unknown = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"
    assert content.count(known) == 1
    paths[0].write_bytes(content.replace(known, unknown))
    (plan,) = exams_of(tmp_path)
    assert judged(plan) == ["study1/LCC.dcm"]
    assert left_out(plan) == {"study1/RCC.dcm": "unreadable"}
    (file,) = plan.left_out
    assert "Transfer Syntax UID (0002,0010)" in file.why
