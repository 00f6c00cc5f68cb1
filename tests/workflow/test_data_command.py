"""`simfrcnn data check` and `data show` on the tiny phantoms and, where they are, on real films."""

import json

import cv2
import pytest
import yaml

from simfrcnn.cli.main import main
from simfrcnn.data.coco import write_coco
from simfrcnn.data.prepared import CacheSettings, cache_images
from simfrcnn.settings import InputSettings
from simfrcnn.workflows.inspect import OUTPUTS
from support.check_examples import good_files, write_files, write_spoilt
from support.data_examples import SECRET_NAME, SHARED_DATA, needs_shared, write_dicom


@pytest.fixture
def run(capsys):
    """A command as (exit code, standard output)."""

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def mias(tmp_path):
    """The films of MIAS that are there, prepared."""
    out = tmp_path / "mias"
    root = str(SHARED_DATA / "mias")
    assert main(["prepare-data", "mias", "--root", root, "--out", str(out)]) == 0
    return out


def check(run, tmp_path, *words):
    """Exit code, output, and the defects by key."""
    report = tmp_path / "check.json"
    code, out = run("data", "check", *words, "--json", report, "--workers", 0)
    defects = json.loads(report.read_text())["defects"]
    return code, out, {defect["key"]: defect for defect in defects}


def images_of(defect):
    return {case["image_id"] for case in defect["examples"]}


def test_the_phantoms_have_no_defect(run, tmp_path):
    code, out, defects = check(run, tmp_path, "phantom_tiny", "--size", 240, "--smallest-anchor", 8)
    assert code == 0
    assert set(defects) == {"not_known_to_be_normal"}
    # 6 malignant patients have 24 views, of which 10 show a box.
    assert defects["not_known_to_be_normal"]["n_images"] == 14
    assert "0 errors, 0 warnings, 1 note in 56 images" in out


def test_names_and_files_of_a_config_can_be_checked(run, tmp_path, datasets):
    given = f"--dataset=mine={datasets}/phantom_tiny/val.json"
    targets = ("mine", "phantom_tiny/train")
    code, out, _ = check(run, tmp_path, given, *targets, "--no-pixels", "--size", 128)
    assert code == 0
    assert "in 40 images; no pixel was read" in out


def test_workers_find_the_same(run, tmp_path):
    words = ("data", "check", "phantom_tiny/val", "--size", 128, "--json")
    for number in (0, 2):
        assert run(*words, tmp_path / f"{number}.json", "--workers", number)[0] == 0
    assert (tmp_path / "0.json").read_text() == (tmp_path / "2.json").read_text()


def test_a_leak_makes_the_exit_code_1(run, tmp_path):
    def leak(files):
        files.change("test", 0, patient_id="p1", exam_id="e1")

    folder = write_spoilt(tmp_path / "clinic", leak)
    code, out, defects = check(run, tmp_path, folder, "--size", 128)
    assert code == 1
    detail = defects["patient_in_two_splits"]["examples"][0]["detail"]
    assert detail == "patient p1 is in test, train"
    assert "1 error, 0 warnings, 0 notes in 24 images" in out


def test_no_name_of_a_patient_or_of_a_folder_of_images_is_written(run, tmp_path):
    files = good_files(tmp_path / "clinic")
    path = tmp_path / "Doe_Jane_1950" / "a.dcm"
    files.change("train", 0, path=path)
    write_files(tmp_path / "clinic", files)
    path.parent.mkdir()
    pixels = files.pixels[files.sets["train"][1].path]
    write_dicom(path, pixels, BitsStored=99, AccessionNumber="A7Q")
    code, out, defects = check(run, tmp_path, tmp_path / "clinic", "--size", 128)
    assert code == 1
    assert defects["unreadable"]["n_images"] == 1
    for canary in (SECRET_NAME, "Doe", "Jane", "A7Q"):
        assert canary not in out + json.dumps(defects)


def test_bad_input_is_refused(refused, tmp_path):
    assert "SIMFRCNN_DATASETS" in refused("data", "check", "absent/train")
    assert "holds no COCO file" in refused("data", "check", tmp_path)
    assert "--size 12" in refused("data", "check", "phantom_tiny", "--size", 12)
    assert "--size 1 2 3" in refused("data", "check", "phantom_tiny", "--size", 1, 2, 3)
    assert "--smallest-anchor" in refused("data", "check", "phantom_tiny", "--smallest-anchor", 0)
    assert "--target-classes" in refused("data", "check", "phantom_tiny", "--target-classes", ",")
    out = ("--output", tmp_path / "out")
    assert "a box of mass" in refused("data", "show", "phantom_tiny", *out, "--target-classes=mass")
    assert "--images is 0" in refused("data", "show", "phantom_tiny", *out, "--images", 0)
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_written_is_refused(refused, tmp_path):
    (tmp_path / "file").write_text("")
    report = tmp_path / "file" / "check.json"
    words = ("data", "check", "phantom_tiny/val", "--no-pixels", "--json", report)
    assert "cannot write" in refused(*words)


def test_show_needs_the_training_set_of_a_folder(refused, tmp_path):
    folder = write_spoilt(tmp_path / "clinic")
    (folder / "train.json").rename(folder / "val.json")
    error = refused("data", "show", folder, "--output", tmp_path / "out")
    assert "test.json, val.json: give the file of the training set" in error


def test_show_writes_sheets_and_fragments_once(run, refused, tmp_path):
    out = tmp_path / "out"
    words = ("data", "show", "phantom_tiny", "--output", out, "--size", 128, "--workers", 0)
    code, text = run(*words)
    assert code == 0
    of_several = {"several.png", "outlines.png"}  # the tiny phantoms have neither
    assert {path.name for path in out.iterdir()} == set(OUTPUTS) - of_several
    assert "6 boxes" in text
    assert "findings an image: 1 in 6 images" in text
    for path in out.glob("*.png"):
        assert cv2.imread(str(path)).std() > 10
    for path in out.glob("*.yaml"):
        tree = yaml.safe_load(path.read_text())
        assert tree["INPUT"]["MAMMO"]["SIZE"] == [128, 128]
        assert 10 < tree["MODEL"]["PIXEL_MEAN"][0] < 100
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert "data_c4.yaml" in refused(*words)
    assert run(*words, "--overwrite")[0] == 0
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_folder_whose_name_is_not_utf_8_is_shown(run, tmp_path):
    # Named afterwards: OpenCV, which writes the pictures, crashes on such a name.
    folder = write_spoilt(tmp_path / "plain").rename(tmp_path / "M\udce4rz")
    words = ("data", "show", folder, "--output", tmp_path / "out", "--size", 128, "--workers", 0)
    code, text = run(*words)
    assert code == 0
    assert "rz/train at 128 x 128" in text
    assert "M\\udce4rz/train" in (tmp_path / "out" / "data_c4.yaml").read_text("utf-8")


def test_the_size_of_prepared_pictures_is_taken_although_the_first_is_whole(run, tmp_path):
    files = good_files(tmp_path)
    write_files(tmp_path, files)
    size = InputSettings((128, 96))
    prepared = []
    for number, record in enumerate(files.sets["train"]):
        settings = CacheSettings(as_input=size if number else None)
        place = {record.image_id: tmp_path / "out" / f"{number}.png"}
        cached = cache_images([record], place, settings, fingerprint=str, n_workers=0)
        prepared += cached.records
    write_coco(tmp_path / "out" / "train.json", prepared, {1: "malignant"}, {})
    words = ("--workers", 0, "--output", tmp_path / "sheets")
    code, text = run("data", "show", tmp_path / "out", *words)
    assert code == 0
    assert "out/train at 128 x 96: 16 training images" in text


# Real films


@pytest.mark.data
@needs_shared("mias")
def test_true_defects_of_mias_are_found_and_no_others(run, tmp_path, mias):
    code, out, defects = check(run, tmp_path, mias)
    assert code == 0, out
    expected = {"box_outside_breast", "box_too_small", "not_known_to_be_normal"}
    assert expected <= set(defects) <= expected | {"box_at_edge"}
    outside = images_of(defects["box_outside_breast"])
    assert 212 in outside
    assert outside <= {212, 214}  # the two that lie on background
    # Films with an abnormality whose place Info.txt does not give.
    assert images_of(defects["not_known_to_be_normal"]) <= {59, 216, 233, 245}
    assert {212, 218} <= images_of(defects["box_too_small"])  # radii of 3 and 8 pixels
