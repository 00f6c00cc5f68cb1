"""Whatever a film states of its patient and study, its results state too."""

import dataclasses

import pydicom
import pytest

from simfrcnn.dicom_out import codes
from simfrcnn.dicom_out.content import concept_of, walk
from simfrcnn.exam import Call
from support.results import exam_of, phantom_films

pytest.importorskip("highdicom")
ALL = "sr,gsps,cad-sr,sc"


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        ("ISO_IR 192", "Müller^Zoë=山田"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_of_any_character_set_are_kept(tmp_path, characters, name):
    films = phantom_films(tmp_path / "films", SpecificCharacterSet=characters, PatientName=name)
    for path in exam_of(films).save_dicom(tmp_path / "out", ALL):
        found = pydicom.dcmread(path)
        assert found.SpecificCharacterSet == characters
        assert found.PatientName == name


@pytest.mark.parametrize(
    "tags",
    [
        {"PatientSex": "FEMALE"},
        {"PatientBirthDate": "1950"},
        {"StudyDate": "2020.01.31", "StudyTime": "10:15:30"},
    ],
)
def test_what_a_film_states_of_patient_and_study_costs_no_result(tmp_path, tags):
    films = phantom_films(tmp_path / "films", **tags)
    for path in exam_of(films).save_dicom(tmp_path / "out", ALL):
        found = pydicom.dcmread(path)
        assert {keyword: found[keyword].value for keyword in tags} == tags


@pytest.mark.parametrize(
    ("stated", "written"), [(["P", "F"], ["P", "F"]), (["a", "f"], ["A", "F"]), ("CC", None)]
)
def test_an_orientation_that_is_none_is_not_copied(tmp_path, stated, written):
    films = phantom_films(tmp_path / "films", PatientOrientation=stated)
    capture = pydicom.dcmread(exam_of(films).save_dicom(tmp_path / "out", "sc")[0])
    assert (capture.PatientOrientation or None) == written


def test_spaces_round_a_patient_id_do_not_make_another_patient(tmp_path):
    films = phantom_films(tmp_path / "films")
    dataset = pydicom.dcmread(films[1])
    dataset.PatientID = f" {dataset.PatientID} "
    dataset.save_as(films[1])
    assert len(exam_of(films).save_dicom(tmp_path / "out", "sr,cad-sr")) == 2


@pytest.mark.parametrize(
    ("score", "threshold", "written"),
    [
        (0.61, 0.5, "positive: 0.610 at the score threshold 0.500"),
        (0.5, 0.5, "positive: 0.500 at the score threshold 0.500"),
        (0.49996, 0.5, "negative: 0.49996 at the score threshold 0.50000"),
        (1e-20, 2e-20, "negative: 1e-20 at the score threshold 2e-20"),
        (0.1 + 0.2, 0.3, "positive: 0.30000000000000004 at the score threshold 0.3"),
    ],
)
def test_a_call_never_seems_to_contradict_its_threshold(tmp_path, score, threshold, written):
    call = Call(score >= threshold, score, threshold, "case", "youden", "a test")
    exam = dataclasses.replace(exam_of(phantom_films(tmp_path / "films")), call=call)
    assert f"Call {written} (case/youden)." in comment_of(exam, tmp_path / "out")


def test_without_a_call_the_comment_says_that_none_was_made_and_why(tmp_path):
    exam = dataclasses.replace(exam_of(phantom_films(tmp_path / "films")), call=None)
    said = "No call was made: the model has no operating point that holds for these scores."
    assert said in comment_of(exam, tmp_path / "out")
    none = dataclasses.replace(exam, images=(), score=None)
    assert "No call was made: no film" in " ".join(none.dicom_findings().remarks)


def comment_of(exam, folder):
    report = pydicom.dcmread(exam.save_dicom(folder, "sr")[0])
    of_comment = (codes.COMMENT.value, codes.COMMENT.scheme)
    (comment,) = (item for _, item in walk(report) if concept_of(item) == of_comment)
    return comment.TextValue
