"""What the DICOM objects of an exam hold, and that the same exam gives the same bytes."""

import dataclasses
import io
import re
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from simfrcnn.dicom_out import codes
from simfrcnn.dicom_out.checking import check_report
from simfrcnn.dicom_out.content import concept_of, value_of, walk
from simfrcnn.dicom_out.saving import KINDS, kinds_of
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.exam import LeftOut
from support.results import PROVENANCE, exam_of, phantom_films

pytest.importorskip("highdicom")
ALL = "sr,gsps,cad-sr,sc"
DOCUMENT = Path(__file__).parents[3] / "docs" / "dicom_conformance.md"
EXAMS = {
    "findings": {},
    "without": {"n_regions": 0},
    "failed film": {"n_failed": 1},
    "all failed": {"n_failed": 4},
}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return phantom_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def saved(films, tmp_path_factory):
    """Exam -> file name -> object."""
    folder = tmp_path_factory.mktemp("results")
    found = {}
    for name, facts in EXAMS.items():
        paths = exam_of(films, **facts).save_dicom(folder / name, ALL)
        found[name] = {path.name: pydicom.dcmread(path) for path in paths}
    return found


def items_of(report, code):
    return [
        (position, item)
        for position, item in walk(report)
        if concept_of(item) == (code.value, code.scheme)
    ]


def test_every_kind_is_written_for_every_exam(saved):
    numbered = {"findings": 4, "without": 4, "failed film": 3, "all failed": 0}
    for name, objects in saved.items():
        wanted = {"sr.dcm", "cad-sr.dcm"}
        for number in range(1, numbered[name] + 1):
            wanted |= {f"gsps-{number}.dcm", f"sc-{number}.dcm"}
        assert set(objects) == wanted
        for file in ("sr.dcm", "cad-sr.dcm"):
            assert check_report(objects[file]) == []


def test_a_result_belongs_to_the_study_and_patient_of_its_films(saved, films):
    source = pydicom.dcmread(films[0])
    for objects in saved.values():
        series = {}
        for name, found in objects.items():
            for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate"):
                assert found[keyword].value == source[keyword].value, (name, keyword)
            assert (found.ContentDate, found.ContentTime) == ("20200101", "120000")
            assert "RESEARCH USE ONLY" in found.SeriesDescription
            assert found.SeriesInstanceUID != source.SeriesInstanceUID
            series.setdefault(found.SeriesInstanceUID, set()).add(found.Modality)
        assert len(series) == len({re.sub(r"(-[0-9]+)?\.dcm$", "", file) for file in objects})
        assert all(len(modalities) == 1 for modalities in series.values())
    uids = [found.SOPInstanceUID for objects in saved.values() for found in objects.values()]
    # A picture of a film without a region is the same in all exams: so is its UID.
    assert len({u for u in uids if uids.count(u) == 1}) > 8
    for objects in saved.values():
        assert len({found.SOPInstanceUID for found in objects.values()}) == len(objects)


def test_the_same_exam_gives_the_same_bytes_and_another_one_another_instance(films, tmp_path):
    first = exam_of(films).save_dicom(tmp_path / "a", ALL)
    second = exam_of(films).save_dicom(tmp_path / "b", ALL)
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    (third,) = exam_of(films, n_regions=1).save_dicom(tmp_path / "c", "sr")
    before, after = pydicom.dcmread(first[0]), pydicom.dcmread(third)
    assert before.SeriesInstanceUID == after.SeriesInstanceUID
    assert before.SOPInstanceUID != after.SOPInstanceUID


def test_the_boxes_are_in_stored_pixels(saved, films):
    objects = saved["findings"]
    box = [4.5, 6.0, 12.25, 6.0, 12.25, 15.0, 4.5, 15.0, 4.5, 6.0]
    first = items_of(objects["sr.dcm"], codes.IMAGE_REGION)[0][1]
    assert first.GraphicType == "POLYLINE"
    assert list(first.GraphicData) == box
    source = first.ContentSequence[0].ReferencedSOPSequence[0]
    assert source.ReferencedSOPInstanceUID == pydicom.dcmread(films[0]).SOPInstanceUID
    outline = items_of(objects["cad-sr.dcm"], codes.OUTLINE)[0][1]
    assert list(outline.GraphicData) == box
    centre = items_of(objects["cad-sr.dcm"], codes.CENTRE)[0][1]
    assert list(centre.GraphicData) == [8.375, 10.5]
    (annotation,) = objects["gsps-1.dcm"].GraphicAnnotationSequence
    frame = annotation.GraphicObjectSequence[0]
    assert (list(frame.GraphicData), frame.GraphicAnnotationUnits) == (box, "PIXEL")
    texts = [item.UnformattedTextValue for item in annotation.TextObjectSequence]
    assert texts[1:] == ["0.90", "0.78"]
    assert "GraphicObjectSequence" not in objects["gsps-2.dcm"].GraphicAnnotationSequence[0]
    assert "0 regions" in (
        objects["gsps-2.dcm"]
        .GraphicAnnotationSequence[0]
        .TextObjectSequence[0]
        .UnformattedTextValue
    )


def test_boxes_end_at_the_film_and_scores_stand_beside_them_on_it(films, tmp_path):
    """Above the box; below it where there is no room; inside where there is none there either."""
    exam = exam_of(films, n_regions=3)
    columns, rows = exam.images[0].width, exam.images[0].height
    line = rows * 0.025
    boxes = ((10.0, 40.0, 30.0, 60.0), (40.0, 1.0, 60.0, 20.0), (-5.0, -2.0, columns + 9, rows + 9))
    cut = (0.0, 0.0, columns, rows)
    found = [
        dataclasses.replace(one, box=box)
        for one, box in zip(exam.images[0].detections, boxes, strict=True)
    ]
    first = dataclasses.replace(exam.images[0], detections=tuple(found))
    exam = dataclasses.replace(exam, images=(first, *exam.images[1:]))
    state = pydicom.dcmread(exam.save_dicom(tmp_path, "gsps")[0])
    (annotation,) = state.GraphicAnnotationSequence
    frames = [list(frame.GraphicData) for frame in annotation.GraphicObjectSequence]
    assert frames == [
        [x1, y1, x2, y1, x2, y2, x1, y2, x1, y1] for x1, y1, x2, y2 in (*boxes[:2], cut)
    ]
    places = [
        [*text.BoundingBoxTopLeftHandCorner, *text.BoundingBoxBottomRightHandCorner]
        for text in annotation.TextObjectSequence
    ]
    expected = [
        [0, 0, columns, line],
        [10, 40 - line, 30, 40],
        [40, 20, 60, 20 + line],
        [0, rows - line, columns, rows],
    ]
    for place, wanted in zip(places, expected, strict=True):
        assert place == pytest.approx(wanted, rel=1e-6)


def test_regions_have_a_score_an_algorithm_and_a_tracking_uid_of_their_own(saved):
    report = saved["findings"]["sr.dcm"]
    groups = items_of(report, codes.MEASUREMENT_GROUP)
    assert len(groups) == 2
    (_, score), _ = items_of(report, codes.PROBABILITY)
    assert score.MeasuredValueSequence[0].NumericValue == 90
    tracked = {item.UID for _, item in items_of(report, codes.TRACKING_UID)}
    assert len(tracked) == 2
    frames = saved["findings"]["gsps-1.dcm"].GraphicAnnotationSequence[0].GraphicObjectSequence
    assert {frame.TrackingUID for frame in frames} == tracked
    (finding, _) = items_of(report, codes.FINDING)
    assert value_of(finding[1]) == ("129788004", "SCT")
    finding = items_of(saved["findings"]["cad-sr.dcm"], codes.SINGLE_IMAGE_FINDING)[0][1]
    assert value_of(finding) == ("129793001", "SCT")


@pytest.mark.parametrize(
    ("exam", "summary", "status", "completion"),
    [
        ("findings", "111242", "111222", "COMPLETE"),
        ("without", "111241", "111222", "COMPLETE"),
        ("failed film", "111244", "111223", "PARTIAL"),
        ("all failed", "111245", "111224", "PARTIAL"),
    ],
)
def test_failed_films_and_empty_exams_say_so(saved, exam, summary, status, completion):
    for name in ("sr.dcm", "cad-sr.dcm"):
        report = saved[exam][name]
        (said,) = items_of(report, codes.CAD_SUMMARY)
        assert value_of(said[1])[0] == summary
        assert (report.CompletionFlag, report.VerificationFlag) == (completion, "UNVERIFIED")
        library = items_of(report, codes.IMAGE_LIBRARY)[0][1]
        assert sum(item.ValueType == "IMAGE" for _, item in walk(library)) == 4
    detections = items_of(saved[exam]["cad-sr.dcm"], codes.DETECTIONS)[0][1]
    assert value_of(detections)[0] == status
    (comment,) = items_of(saved[exam]["sr.dcm"], codes.COMMENT)
    assert "Research use only" in comment[1].TextValue


def test_a_film_whose_header_is_lost_is_counted(films, tmp_path):
    lost = tmp_path / "lost.dcm"
    lost.write_bytes(b"nothing")
    result = exam_of(films, left_out=(LeftOut("lost.dcm", "unreadable", "damaged", lost),))
    sr, cad = map(pydicom.dcmread, result.save_dicom(tmp_path, "sr,cad-sr"))
    (comment,) = items_of(sr, codes.COMMENT)
    assert "1 film could not be judged, 1 of which cannot be referred to." in comment[1].TextValue
    assert value_of(items_of(cad, codes.CAD_SUMMARY)[0][1])[0] == "111244"
    assert check_report(cad) == []


def changed(path, target, **tags):
    """A copy of a film with other elements."""
    dataset = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(target)
    return target


def library_of(report):
    """Of each film in the image library, the codes of its facts by their names."""
    library = items_of(report, codes.IMAGE_LIBRARY)[0][1]
    films = [item for _, item in walk(library) if item.ValueType == "IMAGE"]
    return [
        {concept_of(fact)[0]: value_of(fact)[0] for fact in film.ContentSequence} for film in films
    ]


def test_every_film_has_side_and_view_in_the_library_failed_ones_by_their_header(saved):
    for exam in ("findings", "failed film", "all failed"):
        for name, sides in (
            ("sr.dcm", ["7771000", "24028007"]),
            ("cad-sr.dcm", ["80248007", "73056007"]),
        ):
            facts = library_of(saved[exam][name])
            assert [fact["111027"] for fact in facts] == [side for side in sides for _ in range(2)]
            assert [fact["111031"] for fact in facts] == ["399162004", "399368009"] * 2


@pytest.mark.parametrize(
    "tags",
    [
        {"SOPInstanceUID": None},
        {"SOPInstanceUID": "1.2.3.99", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.33"},
    ],
    ids=["the UID of another film", "a report"],
)
def test_a_failed_file_that_is_no_film_of_its_own_is_counted(films, tmp_path, tags):
    tags = {k: v or pydicom.dcmread(films[0]).SOPInstanceUID for k, v in tags.items()}
    path = changed(films[1], tmp_path / "x.dcm", **tags)
    result = exam_of(films, left_out=(LeftOut("x.dcm", "unreadable", "damaged", path),))
    sr = pydicom.dcmread(result.save_dicom(tmp_path, "sr")[0])
    assert sr.CompletionFlag == "PARTIAL"
    assert len(library_of(sr)) == 4
    (comment,) = items_of(sr, codes.COMMENT)
    assert "1 film could not be judged, 1 of which cannot be referred to." in comment[1].TextValue


def test_how_names_were_removed_is_told(tmp_path):
    method = codes.Code("113100", "DCM", "Basic Application Confidentiality Profile").item()
    tags = {"PatientIdentityRemoved": "YES", "DeidentificationMethodCodeSequence": [method]}
    films = phantom_films(tmp_path / "films", **tags)
    for path in exam_of(films).save_dicom(tmp_path / "out", ALL):
        (copied,) = pydicom.dcmread(path).DeidentificationMethodCodeSequence
        assert copied.CodeValue == "113100"


def test_a_capture_of_a_compressed_film_says_so(tmp_path):
    tags = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "12.5",
        "LossyImageCompressionMethod": "ISO_10918_1",
    }
    films = phantom_films(tmp_path / "films", **tags)
    capture = pydicom.dcmread(exam_of(films).save_dicom(tmp_path / "out", "sc")[0])
    assert {keyword: str(capture[keyword].value) for keyword in tags} == tags


@pytest.mark.parametrize(
    ("stated", "written"), [("CR", "CR"), ("DX", "DX"), ("mg", "MG"), (None, "MG")]
)
def test_the_library_tells_the_modality_of_the_film(tmp_path, stated, written):
    films = phantom_films(tmp_path / "films", Modality=stated)
    report = pydicom.dcmread(exam_of(films).save_dicom(tmp_path / "out", "sr")[0])
    assert {film["121139"] for film in library_of(report)} == {written}


@pytest.mark.parametrize(
    ("of_all", "of_one"),
    [
        ({"PatientID": ""}, {"PatientName": "Another^Name"}),
        ({"PatientID": ""}, {"PatientBirthDate": "19010101"}),
        ({}, {"IssuerOfPatientID": "another hospital"}),
    ],
)
def test_patients_are_told_apart_by_all_that_identifies_them(tmp_path, of_all, of_one):
    films = phantom_films(tmp_path / "films", **of_all)
    exam_of(films).save_dicom(tmp_path / "one", "cad-sr")
    changed(films[1], films[1], **of_one)
    with pytest.raises(DataError, match="more than one study or patient"):
        exam_of(films).save_dicom(tmp_path / "out", "cad-sr")


@pytest.mark.parametrize(
    ("date", "time", "written"),
    [
        ("20200131", "10", ("20200131", "100000")),
        ("20200131", "1015", ("20200131", "101500")),
        ("20200131", "101559.5", ("20200131", "101559.5")),
        ("20200131", "2515", ("20200131", "000000")),
        ("20200230", "10", ("19000101", "000000")),
    ],
)
def test_times_are_made_whole_and_no_impossible_date_is_taken(tmp_path, date, time, written):
    facts = {"StudyDate": date, "StudyTime": time, "ContentDate": None}
    films = phantom_films(tmp_path / "films", **facts)
    found = pydicom.dcmread(exam_of(films).save_dicom(tmp_path / "out", "cad-sr")[0])
    assert (found.ContentDate, found.ContentTime) == written


def test_an_unusable_window_costs_that_film_its_window_alone(tmp_path):
    films = phantom_films(tmp_path / "films")
    changed(films[1], films[1], WindowWidth=None)
    damaged = pydicom.dcmread(films[2])
    damaged[0x00281050] = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag(0x00281050), "DS", 4, b"abc ", 0, False, True
    )
    damaged.save_as(films[2])
    states = [pydicom.dcmread(p) for p in exam_of(films).save_dicom(tmp_path / "out", "gsps")]
    assert ["SoftcopyVOILUTSequence" in one for one in states] == [True, False, False, True]


def test_another_unusable_element_is_named_with_its_film(tmp_path):
    films = phantom_films(tmp_path / "films")
    dataset = pydicom.dcmread(films[1])
    dataset[0x00281053] = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag(0x00281053), "DS", 4, b"abc ", 0, False, True
    )
    dataset.save_as(films[1])
    with pytest.raises(DataError, match=r"LMLO\.dcm: Rescale Slope \(0028,1053\) is not a number"):
        exam_of(films).save_dicom(tmp_path / "out", "gsps")


def test_what_the_first_film_does_not_state_is_in_no_result(tmp_path):
    films = phantom_films(tmp_path / "films", StudyDescription=None)
    changed(films[1], films[1], StudyDescription="Screening")
    for path in exam_of(films).save_dicom(tmp_path / "out", ALL):
        assert "StudyDescription" not in pydicom.dcmread(path)


@pytest.mark.parametrize(
    ("classes", "looked_for"),
    [
        (["malignant"], ["129793001"]),
        (["calcification"], ["129769006"]),
        (["mass", "malignant", "calcification"], ["129793001", "129769006"]),
    ],
)
def test_the_cad_report_says_what_the_model_looks_for_found_or_not(
    films, tmp_path, classes, looked_for
):
    """A model of calcifications that finds none does not claim to have looked for masses."""
    made_of = {**PROVENANCE, "classes": classes, "target_classes": classes}
    exam = exam_of(films, n_regions=0, n_failed=1, provenance=made_of)
    cad = pydicom.dcmread(exam.save_dicom(tmp_path, "cad-sr")[0])
    for outcome, n_films in ((codes.SUCCESSFUL_DETECTIONS, 3), (codes.FAILED_DETECTIONS, 1)):
        ((_, done),) = items_of(cad, outcome)
        assert [value_of(item)[0] for item in done.ContentSequence] == looked_for
        for item in done.ContentSequence:
            meant = [
                one for one in item.ContentSequence if "ReferencedContentItemIdentifier" in one
            ]
            assert len(meant) == n_films
    assert check_report(cad) == []


def test_a_secondary_capture_is_the_picture(saved, films):
    exam = exam_of(films)
    capture = saved["findings"]["sc-1.dcm"]
    assert capture.BurnedInAnnotation == "YES"
    assert np.array_equal(capture.pixel_array, exam.images[0].draw()[..., ::-1])


def test_the_polarity_of_a_film_is_that_of_its_marks(tmp_path):
    for number in range(4):
        films = phantom_films(tmp_path / str(number), number)
        source = pydicom.dcmread(films[0])
        state = pydicom.dcmread(exam_of(films).save_dicom(tmp_path / "out", "gsps")[0])
        assert state.PresentationLUTShape == source.PresentationLUTShape
        assert state.SoftcopyVOILUTSequence[0].WindowCenter == source.WindowCenter


def test_a_study_without_dates_gets_the_fixed_one(tmp_path):
    nothing = dict.fromkeys(("StudyDate", "StudyTime", "ContentDate", "PatientOrientation"))
    films = phantom_films(tmp_path / "films", **nothing)
    for path in exam_of(films).save_dicom(tmp_path / "out", ALL):
        found = pydicom.dcmread(path)
        assert (found.ContentDate, found.ContentTime) == ("19000101", "000000")
        assert found.StudyDate == ""


def test_nothing_is_written_for_what_is_no_dicom(tmp_path, films):
    picture = tmp_path / "view.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    exam = exam_of(films)
    view = dataclasses.replace(exam.images[3], file="view.png", path=picture)
    exam = dataclasses.replace(exam, images=(*exam.images[:3], view))
    with pytest.raises(DataError, match="written for exams of DICOM files alone"):
        exam.save_dicom(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("keyword", ["SeriesInstanceUID", "StudyInstanceUID"])
def test_a_film_that_cannot_be_referred_to_is_refused(tmp_path, keyword):
    films = phantom_films(tmp_path / "films", **{keyword: None})
    with pytest.raises(DataError, match="is missing, so that no result can refer"):
        exam_of(films).save_dicom(tmp_path / "out")


@pytest.mark.parametrize(
    "box", [(-9.0, 5.0, -1.0, 20.0), (5.0, 5.0, 5.0, 20.0), (5.0, 1e5, 20.0, 2e5)]
)
def test_a_region_that_is_not_on_its_film_is_refused_by_number(films, tmp_path, box):
    """It has no outline, and viewers take an empty one amiss; the film's header is not at fault."""
    exam = exam_of(films)
    first, second, *others = exam.images[0].detections
    images = (
        dataclasses.replace(
            exam.images[0], detections=(first, dataclasses.replace(second, box=box), *others)
        ),
        *exam.images[1:],
    )
    with pytest.raises(DataError, match=rf"region 2 \(x1, y1, x2, y2 = {box[0]:g}.* has no area"):
        dataclasses.replace(exam, images=images).save_dicom(tmp_path / "out", ALL)
    assert not (tmp_path / "out").exists()


def test_patients_who_share_a_study_are_refused(films, tmp_path):
    other = LeftOut("x.dcm", "another patient", "it has another Patient ID")
    with pytest.raises(DataError, match="patients share the Study"):
        exam_of(films, left_out=(other,)).save_dicom(tmp_path)


def test_an_unknown_kind_is_refused_with_the_nearest():
    assert kinds_of("cad-sr, sr,sr") == ("sr", "cad-sr")
    assert set(kinds_of(ALL)) == set(KINDS)
    with pytest.raises(ConfigError, match=r"sr \| gsps \| cad-sr \| sc\. Did you mean gsps"):
        kinds_of("gspss")


def test_without_highdicom_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ConfigError, match=r"pip install 'simfrcnn\[dicom-out\]'"):
        kinds_of("sr")
    assert kinds_of("cad-sr,sc") == ("cad-sr", "sc")


def test_the_conformance_page_lists_every_code_and_no_other(saved):
    used = set()
    for objects in saved.values():
        for found in objects.values():
            for element in found.iterall():
                if element.keyword == "CodeValue":
                    used.add(str(element.value))
    page = DOCUMENT.read_text(encoding="utf-8")
    table = page.partition("## Codes")[2].partition("\n## ")[0]
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| `")]
    listed = {row[1].strip().strip("`"): row[3].strip() for row in rows}
    known = {
        code.value: code.meaning
        for entry in vars(codes).values()
        for code in (entry.values() if isinstance(entry, dict) else [entry])
        if isinstance(code, codes.Code)
    }
    assert used <= set(listed)
    never_written = {codes.COMPOSITE_FEATURE.value}
    assert listed == {v: m for v, m in known.items() if v not in never_written}


def test_a_file_is_read_back_equal(saved):
    for found in saved["findings"].values():
        stream = io.BytesIO()
        found.save_as(stream, enforce_file_format=True)
        assert pydicom.dcmread(io.BytesIO(stream.getvalue())) == found
