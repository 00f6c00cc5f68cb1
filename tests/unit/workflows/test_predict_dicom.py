"""DICOM results in the folder of a prediction: resumed, sharded, refused, and nothing hidden."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pydicom
import pytest

from simfrcnn.cli.main import main
from simfrcnn.data.pseudonyms import Pseudonyms
from simfrcnn.dicom_out.checking import check_report
from simfrcnn.errors import ConfigError
from simfrcnn.images.png import encode_png
from simfrcnn.workflows.predict import PredictionOptions, predict
from simfrcnn.workflows.prediction_dicom import write_dicom
from simfrcnn.workflows.prediction_folder import PredictionFolder
from simfrcnn.workflows.prediction_shards import merge
from support.results import exam_of, phantom_films
from support.studies import files_below, results, write_study

pytest.importorskip("highdicom")
pytestmark = pytest.mark.torchvision
ALL = PredictionOptions(
    workers=0, dicom=("sr", "gsps", "cad-sr", "sc"), pictures="none", score_threshold=0.1
)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Three exams: whole, with a film that is cut off, and a PNG file."""
    folder = tmp_path_factory.mktemp("studies")
    for number in range(2):
        paths = write_study(folder, number, n_views=2, SeriesInstanceUID=f"1.2.4.{number}")
    paths[0].write_bytes(paths[0].read_bytes()[:-2000])
    (folder / "view.png").write_bytes(encode_png(np.full((90, 70), 80, np.uint8), {}))
    return folder


@pytest.fixture(scope="module")
def whole(detector, studies, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    predict(detector, studies, out, ALL)
    return out, files_below(out)


def test_every_exam_of_dicom_files_gets_its_files_and_a_png_says_why_not(whole):
    out, files = whole
    exams = results(out)
    wanted = {"1.2.3.0": 2, "1.2.3.1": 1}
    for exam, n_films in wanted.items():
        names = [name.rpartition("/")[2] for name in exams[exam]["dicom"]["files"]]
        assert len(names) == 2 + 2 * n_films
        assert "why_none" not in exams[exam]["dicom"]
        for name in exams[exam]["dicom"]["files"]:
            found = pydicom.dcmread(out / name)
            assert found.StudyInstanceUID == exam
            if found.Modality == "SR":
                assert check_report(found) == []
                assert found.CompletionFlag == ("COMPLETE" if n_films == 2 else "PARTIAL")
    assert sum(name.endswith(".dcm") for name in files) == 10
    assert exams["view.png"]["dicom"]["files"] == []
    why = exams["view.png"]["dicom"]["why_none"]
    assert why.endswith(
        "view.png is a PNG picture. Results refer to DICOM images, so they are written for exams "
        "of DICOM files alone"
    )
    with open(out / "failures.csv", newline="") as stream:
        rows = {(row["exam"], row["what"]) for row in csv.DictReader(stream)}
    assert rows == {("view.png", "no DICOM result"), ("1.2.3.1", "unreadable")}


def test_going_on_and_shards_give_the_same_bytes(detector, studies, whole, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole[0], out)
    lines = (out / "manifest.jsonl").read_text().splitlines(keepends=True)
    (out / "manifest.jsonl").write_text(lines[0])  # of a run that was killed after one exam
    undone = json.loads(lines[1])["exam"]
    shutil.rmtree(out / "dicom" / undone[-2:], ignore_errors=True)
    predict(detector, studies, out, ALL)
    assert files_below(out) == whole[1]
    parts = [tmp_path / f"part{n}" for n in (1, 2)]
    for n, part in enumerate(parts, start=1):
        predict(detector, studies, part, dataclasses.replace(ALL, shard=(n, 2)))
    merge(parts, tmp_path / "merged")
    assert files_below(tmp_path / "merged") == whole[1]


def test_a_film_that_is_gone_takes_its_files_along(detector, studies, tmp_path):
    copy, out = tmp_path / "studies", tmp_path / "out"
    shutil.copytree(studies / "study0", copy)
    predict(detector, copy, out, ALL)
    before = {path.name for path in out.rglob("*.dcm")}
    (copy / "LCC.dcm").unlink()
    predict(detector, copy, out, ALL)
    after = {path.name for path in out.rglob("*.dcm")}
    assert before - after == {"gsps-2.dcm", "sc-2.dcm"}


def test_what_a_killed_run_left_in_the_folder_of_an_exam_is_deleted(detector, studies, tmp_path):
    copy, out = tmp_path / "studies", tmp_path / "out"
    shutil.copytree(studies / "study0", copy)
    predict(detector, copy, out, ALL)
    (folder,) = {path.parent for path in out.rglob("*.dcm")}
    (folder / "gsps-4.dcm").write_bytes(b"an orphan")
    (copy / "LCC.dcm").unlink()
    predict(detector, copy, out, ALL)
    (content,) = results(out).values()
    left = {path.relative_to(out).as_posix() for path in folder.iterdir()}
    assert left == set(content["dicom"]["files"])


def test_an_exam_whose_result_is_gone_is_not_done(detector, studies, tmp_path):
    out = tmp_path / "out"
    predict(detector, studies / "study0", out, ALL)
    before = files_below(out)
    (place,) = out.glob("exams/*/*.json")
    place.unlink()  # as a run does that judges the exam again, and is killed
    predict(detector, studies / "study0", out, ALL)
    assert files_below(out) == before


def test_where_none_can_be_written_none_is_left(tmp_path):
    films = phantom_films(tmp_path / "films", StudyInstanceUID=None)
    folder = tmp_path / "dicom" / "x"
    folder.mkdir(parents=True)
    (folder / "sr.dcm").write_bytes(b"an orphan")
    written = write_dicom(tmp_path, "dicom/x", exam_of(films), ("sr",), 0.5)
    assert written["files"] == []
    assert not any(folder.iterdir())


def line_of(result, out):
    """The line of the manifest, of an exam whose DICOM files are asked for."""
    return PredictionFolder(out, {}).write_exam(result, "abcd", "f", "none", 0.5, ("sr",))


def test_writing_that_failed_is_tried_again_but_films_that_cannot_be_used_are_not(
    tmp_path, monkeypatch
):
    films = phantom_films(tmp_path / "films")
    result = exam_of(films)
    assert not line_of(result, tmp_path / "out")["has_failed"]
    unusable = phantom_films(tmp_path / "unusable", StudyInstanceUID=None)
    assert not line_of(exam_of(unusable), tmp_path / "out")["has_failed"]
    for film in (films[0], films[3]):  # judged, and failed
        result = exam_of(films, n_failed=1)
        film.rename(tmp_path / "away")
        assert line_of(result, tmp_path / "out")["has_failed"]
        (tmp_path / "away").rename(film)
    monkeypatch.setattr("simfrcnn.workflows.prediction_dicom.files_of", lambda *_: 1 / 0)
    assert line_of(result, tmp_path / "out")["has_failed"]


def test_a_reason_names_a_film_by_its_place(tmp_path):
    films = phantom_films(tmp_path / "Jane Doe", StudyInstanceUID=None)
    written = write_dicom(tmp_path, "dicom/x", exam_of(films), ("sr",), 0.5)
    missing = "Study Instance UID (0020,000D) is missing, so that no result can refer to the film"
    assert written["why_none"] == f"LCC.dcm: {missing}"


def test_pseudonyms_and_dicom_results_exclude_each_other(detector, studies, tmp_path, capsys):
    with pytest.raises(ConfigError, match="pseudonyms exclude each other"):
        predict(detector, studies, tmp_path / "out", ALL, pseudonyms=Pseudonyms(b"k" * 32))
    words = ["predict", str(studies), "--weights", "absent.pth", "--output", str(tmp_path / "o")]
    assert main([*words, "--dicom", "sr"]) == 2
    assert "Add --keep-identifiers" in capsys.readouterr().err
    assert main([*words, "--keep-identifiers", "--dicom", "srr"]) == 2
    assert "Did you mean sr?" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_the_command_writes_what_is_asked_for(untrained, studies, tmp_path):
    out = tmp_path / "out"
    words = ["predict", str(studies / "study0"), "--weights", str(untrained), "--output", str(out)]
    words += ["--keep-identifiers", "--dicom", "sr,cad-sr", "--workers", "0", "--device", "cpu"]
    assert main(words) == 0
    assert {path.name for path in out.rglob("*.dcm")} == {"sr.dcm", "cad-sr.dcm"}
    assert json.loads((out / "run.json").read_text())["dicom"] == ["sr", "cad-sr"]
