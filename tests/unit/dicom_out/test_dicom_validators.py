"""Three validators of other projects find no fault, and every planted fault is found."""

import copy
import re

import pydicom
import pytest

from benchmarks.dicom_validators import dciodvfy, dsrdump, pixelmed
from simfrcnn.dicom_out import codes
from simfrcnn.dicom_out.checking import check_report
from simfrcnn.dicom_out.content import concept_of, walk
from support.results import exam_of, phantom_films

pytest.importorskip("highdicom")
EXAMS = {"findings": {}, "without": {"n_regions": 0}, "failed": {"n_failed": 1}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Exam -> its files."""
    folder = tmp_path_factory.mktemp("validated")
    films = phantom_films(folder / "films")
    exams = {name: exam_of(films, **facts) for name, facts in EXAMS.items()}
    exams["all failed"] = exam_of(films, n_failed=4)
    return {n: exam.save_dicom(folder / n, "sr,gsps,cad-sr,sc") for n, exam in exams.items()}


@pytest.mark.service("dicom3tools")
def test_dciodvfy_finds_no_error(saved):
    for paths in saved.values():
        for path in paths:
            assert dciodvfy(path) == [], path


@pytest.mark.service("dcmtk")
def test_dsrdump_finds_no_error(saved):
    for paths in saved.values():
        for path in paths:
            if path.name in ("sr.dcm", "cad-sr.dcm"):
                assert dsrdump(path) == [], path


@pytest.mark.slow
@pytest.mark.service("pixelmed")
@pytest.mark.parametrize("name", ["sr.dcm", "cad-sr.dcm"])
def test_pixelmed_finds_no_fault_in_the_templates(saved, name):
    (path,) = (path for path in saved["findings"] if path.name == name)
    assert pixelmed(path) == []


def without(report, code):
    """Take every item of a concept out of a report."""
    for _, item in walk(report):
        if "ContentSequence" in item:
            item.ContentSequence = [
                child for child in item.ContentSequence if concept_of(child)[0] != code.value
            ]


def first(report, code):
    return next(item for _, item in walk(report) if concept_of(item)[0] == code.value)


def composite_as_single(report):
    first(report, codes.SINGLE_IMAGE_FINDING).ConceptCodeSequence = [codes.MASS.item()]


def wrong_unit(report):
    measured = first(report, codes.PROBABILITY).MeasuredValueSequence[0]
    measured.MeasurementUnitsCodeSequence[0].CodeValue = "mm"


def dangling(report):
    first(report, codes.CENTRE).ContentSequence[0].ReferencedContentItemIdentifier = [1, 2, 99]


FAULTS = {
    "intent": (lambda r: without(r, codes.RENDERING_INTENT), "lacks Rendering Intent"),
    "library": (lambda r: without(r, codes.IMAGE_LIBRARY), "root lacks Image Library"),
    "centre": (lambda r: without(r, codes.CENTRE), "lacks Center"),
    "detections": (lambda r: without(r, codes.DETECTIONS), "lacks Summary of Detections"),
    "algorithm": (lambda r: without(r, codes.ALGORITHM_NAME), "lacks Algorithm Name"),
    "composite": (composite_as_single, "composite feature is called a single image finding"),
    "unit": (wrong_unit, "is in mm and must be in %"),
    "dangling": (dangling, r"refers to \[1, 2, 99\], which is no image"),
}


def cad_report(saved):
    (path,) = (path for path in saved["findings"] if path.name == "cad-sr.dcm")
    return pydicom.dcmread(path)


@pytest.mark.parametrize("fault", FAULTS)
def test_our_own_check_finds_each_planted_fault(saved, fault):
    report = cad_report(saved)
    assert check_report(report) == []
    plant, says = FAULTS[fault]
    plant(report)
    problems = "\n".join(check_report(report))
    assert re.search(says, problems), problems


@pytest.mark.service("dcmtk")
def test_dsrdump_finds_the_dangling_reference(saved, tmp_path):
    report = copy.deepcopy(cad_report(saved))
    dangling(report)
    report.save_as(tmp_path / "dangling.dcm")
    assert dsrdump(tmp_path / "dangling.dcm")


@pytest.mark.parametrize("code", [codes.TRACKING_UID, codes.IMAGE_REGION, codes.PROBABILITY])
def test_our_own_check_knows_the_measurement_groups(saved, code):
    (path,) = (path for path in saved["findings"] if path.name == "sr.dcm")
    report = pydicom.dcmread(path)
    without(report, code)
    assert any(f"lacks {code.meaning}" in problem for problem in check_report(report))
    other = pydicom.dcmread(path)
    del other.CurrentRequestedProcedureEvidenceSequence
    assert any("not among the evidence" in problem for problem in check_report(other))
