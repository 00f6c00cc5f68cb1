"""Every check fires on a set with exactly its defect, and the good set passes them all."""

import json
from dataclasses import replace

import numpy as np
import pytest

from simfrcnn.data.inspect.checks.model import CheckSettings, Severity
from simfrcnn.data.inspect.checks.reading import annotation_files, collect, read_sets
from simfrcnn.data.inspect.checks.registry import run_checks
from simfrcnn.data.inspect.checks.table import document, table, verdict
from simfrcnn.errors import AnnotationError, DataError
from simfrcnn.images.breast import breast_box, chest_wall_side
from simfrcnn.records import (
    RAW_ATTRIBUTE,
    Laterality,
    Pathology,
    Prepared,
    Supervision,
    ViewPosition,
)
from simfrcnn.settings import InputSettings
from support.check_examples import (
    BOX,
    HEIGHT,
    SETTINGS,
    WIDTH,
    defects_in,
    good_files,
    write_files,
    write_spoilt,
)
from support.data_examples import FOR_PROCESSING, SECRET_NAME, write_dicom
from support.outlined import ellipse_in

ERROR, WARNING, NOTE = Severity
BOXED, NORMAL = 2, 1
"""Indices in every split of a film with a cancer, and of a normal one."""


def images_of(defect):
    return [example.record.image_id for example in defect.examples]


@pytest.fixture
def spoilt(tmp_path):
    """Defects by key of the good set with a change."""
    return lambda spoil=None, **options: defects_in(write_spoilt(tmp_path, spoil), **options)


def test_nothing_is_found_in_a_good_set(spoilt):
    assert spoilt() == {}


def test_nothing_is_found_in_a_good_set_without_pixels(spoilt):
    assert spoilt(read_pixels=False) == {}


def test_an_outline_in_its_box_is_no_defect(spoilt):
    def outline(files):
        finding = files.sets["train"][BOXED].findings[0]
        files.change("train", BOXED, findings=(replace(finding, outline=ellipse_in(finding.box)),))

    assert spoilt(outline, read_pixels=False) == {}


def test_two_annotation_files_of_one_split_are_no_duplicates(spoilt):
    def annotate_twice(files):
        files.sets["train_oracle"] = list(files.sets["train"])

    assert spoilt(annotate_twice) == {}


# One defect each: (what to do to the good set, key, severity, images)


def cut_off(files):
    files.change("train", NORMAL, path=files.sets["train"][NORMAL].path.with_name("absent.png"))


def stored_smaller(files):
    record = files.sets["train"][BOXED]
    files.pixels[record.path] = np.ascontiguousarray(files.pixels[record.path][:-8])


def blank(files):
    files.pixels[files.sets["train"][NORMAL].path][:] = 17


def patient_in_test_too(files):
    files.change("test", NORMAL, patient_id="p1", exam_id="e1")
    files.change("test", 0, patient_id="p1", exam_id="e1")


def exam_of_two(files):
    for index in (4, 5):
        files.change("train", index, exam_id="e1")


def copy_to_test(files):
    files.pixels[files.sets["test"][NORMAL].path] = files.pixels[files.sets["train"][NORMAL].path]


def mirrored_copy_to_test(files):
    left = files.pixels[files.sets["train"][0].path]
    files.pixels[files.sets["test"][NORMAL].path] = np.ascontiguousarray(left[:, ::-1])


def copy_within(files):
    files.pixels[files.sets["train"][5].path] = files.pixels[files.sets["train"][NORMAL].path]


def copy_with_other_label(files):
    files.pixels[files.sets["train"][0].path] = files.pixels[files.sets["train"][BOXED].path]


def malignant_but_normal(files):
    files.change("train", NORMAL, pathology=Pathology.MALIGNANT)


def second_view_called_normal(files):
    first = files.sets["train"][BOXED]
    path = first.path.with_name("second.png")
    files.sets["train"].append(
        replace(
            first,
            **{"image_id": 500, "path": path, "findings": (), "pathology": None},
            supervision=Supervision.NORMAL,
            view_position=ViewPosition.CC,
        )
    )
    files.pixels[path] = files.pixels[first.path][::-1].copy()


def boxes_perhaps_incomplete(files):
    files.change("train", BOXED, supervision=Supervision.UNLABELLED)


def not_known(files):
    files.change("train", NORMAL, supervision=Supervision.UNLABELLED, pathology=None)


def labelled(files):
    files.change("train", NORMAL, supervision=Supervision.IMAGE_LABEL, labels={"malignant": True})
    files.change("train", NORMAL, pathology=None)


def labelled_normal(files):
    files.change("train", NORMAL, supervision=Supervision.IMAGE_LABEL, labels={"malignant": False})
    files.change("train", NORMAL, pathology=None)


def second_view_normal_by_its_label(files):
    first = files.sets["train"][BOXED]
    path = first.path.with_name("second.png")
    told = {"supervision": Supervision.IMAGE_LABEL, "labels": {"malignant": False}}
    files.sets["train"].append(
        replace(first, image_id=500, path=path, findings=(), view_position=ViewPosition.CC, **told)
    )
    files.pixels[path] = files.pixels[first.path][::-1].copy()


def label_in_another_spelling(files):
    files.change("train", NORMAL, labels={"Malignant": False})


def only_labels(files):
    for index, record in enumerate(files.sets["test"]):
        if record.findings:
            told = {"supervision": Supervision.IMAGE_LABEL, "labels": {"malignant": True}}
            files.change("test", index, findings=(), pathology=None, **told)


def only_breasts(files):
    for index, record in enumerate(files.sets["test"]):
        if record.findings:
            files.change("test", index, findings=(), supervision=Supervision.IMAGE_LABEL)


def only_other_classes(files):
    for index, record in enumerate(files.sets["test"]):
        benign = tuple(replace(f, category="benign", pathology=None) for f in record.findings)
        files.change("test", index, findings=benign, pathology=None)


def no_normal(files):
    files.sets["test"] = [r for r in files.sets["test"] if r.findings]


def without_laterality(files):
    files.change("train", NORMAL, laterality=None)


def without_view(files):
    files.change("train", NORMAL, view_position=None)


def mirrored(files):
    path = files.sets["train"][NORMAL].path
    files.pixels[path] = np.ascontiguousarray(files.pixels[path][:, ::-1])


def box_on_air(files):
    finding = replace(files.sets["train"][BOXED].findings[0], box=(70.0, 100.0, 92.0, 126.0))
    files.change("train", BOXED, findings=(finding,))


def small_box(files):
    finding = replace(files.sets["train"][BOXED].findings[0], box=(30.0, 50.0, 37.0, 57.0))
    files.change("train", BOXED, findings=(finding,))


def large_box(files):
    finding = replace(files.sets["train"][BOXED].findings[0], box=(1.0, 5.0, 80.0, 120.0))
    files.change("train", BOXED, findings=(finding,))


def box_twice(files):
    first = files.sets["train"][BOXED].findings[0]
    again = replace(first, finding_id=900, box=(30.0, 50.0, 56.0, 81.0))
    files.change("train", BOXED, findings=(first, again))


def outline_of_another_place(files):
    finding = files.sets["train"][BOXED].findings[0]
    x1, y1, x2, y2 = finding.box
    moved = ellipse_in((x1, y1 - 30, x2, y2 - 30))
    files.change("train", BOXED, findings=(replace(finding, outline=moved),))


def box_at_edge(files):
    finding = replace(files.sets["train"][BOXED].findings[0], box=(0.0, 50.0, 26.0, 80.0))
    files.change("train", BOXED, findings=(finding,))


def crowd_alone(files):
    finding = replace(files.sets["train"][BOXED].findings[0], iscrowd=True)
    files.change("train", BOXED, findings=(finding,))


def crowd_among_boxes(files):
    (finding,) = files.sets["train"][BOXED].findings
    other = replace(finding, box=(30.0, 20.0, 50.0, 40.0), finding_id=900, iscrowd=True)
    files.change("train", BOXED, findings=(finding, other))


def other_word(files):
    box = replace(files.sets["train"][BOXED].findings[0], category="cancers", finding_id=901)
    files.change("train", NORMAL, findings=(replace(box, pathology=None),))


def other_spelling(files):
    box = replace(files.sets["train"][BOXED].findings[0], category="Malignant ", finding_id=901)
    files.change("train", NORMAL, findings=(replace(box, pathology=None),))


def malignant_finding_of_another_class(files):
    box = replace(files.sets["train"][BOXED].findings[0], category="benign", finding_id=901)
    files.change("train", NORMAL, findings=(box,), supervision=Supervision.BOXES)


def inverted(files):
    path = files.sets["train"][NORMAL].path
    files.pixels[path] = 255 - files.pixels[path]


def saturated(files):
    path = files.sets["train"][NORMAL].path
    files.pixels[path][40:80, 60:] = 255


def nearly_black(files):
    for path in files.pixels:
        files.pixels[path] //= 8


def brighter(files):
    path = files.sets["train"][NORMAL].path
    files.pixels[path] = np.where(files.pixels[path] > 40, 240, files.pixels[path]).astype(np.uint8)
    files.pixels[path][::9] //= 2  # not blank, not a negative


def lying(files):
    path = files.sets["train"][NORMAL].path
    files.pixels[path] = np.ascontiguousarray(np.rot90(files.pixels[path]))
    files.change("train", NORMAL, height=WIDTH, width=HEIGHT, laterality=None)


def tiny_image(files):
    path = files.sets["train"][NORMAL].path
    files.pixels[path] = np.ascontiguousarray(files.pixels[path][::2, ::2])
    files.change("train", NORMAL, height=HEIGHT // 2, width=WIDTH // 2, pixel_spacing_mm=(3.0, 3.0))


def without_spacing(files):
    files.change("train", NORMAL, pixel_spacing_mm=None)


def spacing_in_cm(files):
    files.change("train", NORMAL, pixel_spacing_mm=(0.15, 0.15))


def oblong_pixels(files):
    files.change("train", NORMAL, pixel_spacing_mm=(1.5, 1.2))


@pytest.mark.parametrize(
    ("spoil", "key", "severity", "images"),
    [
        (cut_off, "unreadable", ERROR, [3]),
        (stored_smaller, "other_size", ERROR, [4]),
        (blank, "blank", ERROR, [3]),
        (patient_in_test_too, "patient_in_two_splits", ERROR, [18, 2]),
        (exam_of_two, "exam_of_two_patients", ERROR, [2, 6]),
        (copy_to_test, "same_pixels_across_splits", ERROR, [19, 3]),
        (mirrored_copy_to_test, "same_pixels_across_splits", ERROR, [19, 2]),
        (copy_within, "same_pixels", WARNING, [3, 7]),
        (copy_with_other_label, "same_pixels_other_label", ERROR, [2, 4]),
        (malignant_but_normal, "malignant_without_box", ERROR, [3]),
        (second_view_called_normal, "normal_in_malignant_breast", WARNING, [500]),
        (boxes_perhaps_incomplete, "target_boxes_perhaps_incomplete", WARNING, [4]),
        (not_known, "not_known_to_be_normal", NOTE, [3]),
        (labelled, "label_without_box", NOTE, [3]),
        (label_in_another_spelling, "label_spelling", ERROR, [3]),
        (without_laterality, "laterality_missing", WARNING, [3]),
        (without_view, "view_missing", NOTE, [3]),
        (mirrored, "laterality_contradicts_pixels", WARNING, [3]),
        (box_on_air, "box_outside_breast", WARNING, [4]),
        (small_box, "box_too_small", WARNING, [4]),
        (large_box, "box_too_large", WARNING, [4]),
        (box_twice, "box_twice", WARNING, [4]),
        (outline_of_another_place, "outline_off_box", WARNING, [4]),
        (box_at_edge, "box_at_edge", NOTE, [4]),
        (crowd_alone, "crowd_alone", WARNING, [4]),
        (crowd_among_boxes, "crowd_among_boxes", WARNING, [4]),
        (other_word, "class_like_a_target", WARNING, [3]),
        (other_spelling, "class_spelling", ERROR, [3]),
        (malignant_finding_of_another_class, "malignant_without_box", ERROR, [3]),
        (inverted, "inverted", WARNING, [3]),
        (saturated, "saturated", WARNING, [3]),
        (brighter, "grey_outlier", WARNING, [3]),
        (without_spacing, "spacing_missing", NOTE, [3]),
        (spacing_in_cm, "spacing_suspicious", WARNING, [3]),
        (oblong_pixels, "spacing_not_square", NOTE, [3]),
        (tiny_image, "smaller_than_input", NOTE, [3]),
    ],
)
def test_one_defect_is_found_and_nothing_else(spoilt, spoil, key, severity, images):
    defects = spoilt(spoil)
    assert list(defects) == [key]
    assert defects[key].severity is severity
    assert images_of(defects[key]) == images
    assert defects[key].n_images == len(images)
    assert defects[key].remedy


def test_patients_who_may_be_one_by_another_spelling(spoilt):
    def spelt(split):
        def spoil(files):
            files.change("train", NORMAL, patient_id="Anna 7")
            files.change(split, NORMAL + 1, patient_id="anna07")
            files.change("test", NORMAL, patient_id="anna7")

        return spoil

    defect = spoilt(spelt("train"), read_pixels=False)["patient_spelt_in_two_ways"]
    assert [example.record.patient_id for example in defect.examples] == ["Anna 7", "anna7"]
    assert (defect.severity, defect.n_images) == (WARNING, 2)

    def in_one_split(files):
        files.change("train", NORMAL, patient_id="Anna 7")
        files.change("train", NORMAL + 1, patient_id="anna7")

    assert "patient_spelt_in_two_ways" not in spoilt(in_one_split, read_pixels=False)


def test_exams_of_one_name_are_no_breast_of_two_patients(spoilt):
    """An exam 1 of a patient with a cancer, and an exam 1 of another without one."""

    def same_exam(files):
        for record in (*files.sets["train"], *files.sets["test"]):
            name = "train" if record in files.sets["train"] else "test"
            files.change(name, files.sets[name].index(record), exam_id="1")

    assert list(spoilt(same_exam, read_pixels=False)) == ["exam_of_two_patients"]


@pytest.mark.parametrize(
    ("spoil", "key", "severity"),
    [
        (only_other_classes, "no_positives", ERROR),
        (no_normal, "no_normals", WARNING),
    ],
)
def test_a_set_that_lacks_one_kind_of_image_is_named(spoilt, spoil, key, severity):
    defects = spoilt(spoil)
    assert list(defects) == [key]
    assert defects[key].severity is severity
    assert [example.set_name.split("/")[1] for example in defects[key].examples] == ["test"]
    assert defects[key].n_images == 0


def test_an_image_that_is_normal_by_its_label_is_as_good_as_any(spoilt):
    assert spoilt(labelled_normal) == {}


def test_a_view_that_its_label_calls_normal_may_be_of_a_breast_with_a_cancer(spoilt):
    """Somebody looked at this very view: its breast's pathology is no contradiction."""
    assert spoilt(second_view_normal_by_its_label) == {}


@pytest.mark.parametrize(
    ("spoil", "key", "note", "remedy"),
    [
        (only_labels, "no_boxes", "label_without_box", "whole-image classifier"),
        (only_breasts, "labels_of_breasts_alone", "not_known_to_be_normal", "LABEL_BAGS breast"),
    ],
)
def test_a_set_with_labels_and_no_boxes_may_be_used(spoilt, spoil, key, note, remedy):
    defects = spoilt(spoil)
    assert set(defects) == {key, note}
    assert defects[key].severity is WARNING
    assert defects[note].severity is NOTE
    assert remedy in defects[key].remedy


def test_a_normal_image_with_the_label_of_another_target_is_found(tmp_path):
    """The reader of files knows ``malignant`` alone as a target."""
    settings = replace(SETTINGS, target_classes=("malignant", "benign"))
    files = good_files(tmp_path)
    files.change("train", NORMAL, labels={"benign": True})
    write_files(tmp_path, files)
    defects = defects_in(tmp_path / "train.json", settings=settings, read_pixels=False)
    defect = defects["label_contradiction"]
    assert (defect.severity, images_of(defect)) == (ERROR, [3])
    assert "is 'normal', but 'labels' says true of 'benign'" in defect.examples[0].detail


@pytest.mark.parametrize("read_pixels", [True, False])
def test_a_set_without_images_is_an_error(spoilt, read_pixels):
    defects = spoilt(lambda files: files.sets["test"].clear(), read_pixels=read_pixels)
    assert list(defects) == ["no_images"]
    assert defects["no_images"].severity is ERROR
    assert [example.set_name.rpartition("/")[2] for example in defects["no_images"].examples] == [
        "test"
    ]


def test_a_nearly_black_set_is_found(spoilt):
    defects = spoilt(nearly_black)
    assert list(defects) == ["narrow_range"]
    assert defects["narrow_range"].n_images == 24


def test_an_implant_that_fills_the_picture_is_no_negative(spoilt):
    def cut_round_an_implant(files):
        pixels = files.pixels[files.sets["train"][NORMAL].path]  # a right breast
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        depth = ((WIDTH - columns) / WIDTH) ** 2 + ((rows - 64) / 62) ** 2
        pixels[depth < 1] = 140
        pixels[depth < 0.85] = 250

    assert "inverted" not in spoilt(cut_round_an_implant)


def test_a_lying_image_is_found(spoilt):
    defects = spoilt(lying)
    assert images_of(defects["wide"]) == [3]
    assert set(defects) == {"wide", "laterality_missing"}


def test_raw_images_among_others_are_found(tmp_path):
    files = good_files(tmp_path)
    record = files.sets["train"][NORMAL]
    stored = (files.pixels.pop(record.path).astype(np.uint16) * 16).astype(np.uint16)
    path = record.path.with_suffix(".dcm")
    files.change("train", NORMAL, path=path)
    write_files(tmp_path, files)
    raw = {"PresentationIntentType": "FOR PROCESSING", "SOPClassUID": FOR_PROCESSING}
    write_dicom(path, stored, **raw, ImageLaterality="R")
    defects = defects_in(tmp_path)
    assert list(defects) == ["for_processing"]
    assert defects["for_processing"].severity is ERROR
    assert "among 23 others" in defects["for_processing"].what
    assert images_of(defects["for_processing"]) == [3]


def test_pictures_of_raw_images_among_others_are_found(spoilt):
    def prepare_raw(files):
        files.change("train", NORMAL, attributes={RAW_ATTRIBUTE: "yes"})

    defects = spoilt(prepare_raw, read_pixels=False)
    assert list(defects) == ["for_processing_mixed"]
    assert defects["for_processing_mixed"].severity is WARNING
    assert images_of(defects["for_processing_mixed"]) == [3]


def test_pictures_of_raw_images_alone_are_no_mixture(spoilt):
    def prepare_raw(files):
        for name, records in files.sets.items():
            for index in range(len(records)):
                files.change(name, index, attributes={RAW_ATTRIBUTE: "yes"})

    assert spoilt(prepare_raw, read_pixels=False) == {}


# The rule of the sides is the set's own


def test_a_breast_is_judged_as_it_hangs_for_the_network(tmp_path):
    files = good_files(tmp_path)
    for index, record in enumerate(files.sets["train"]):
        if record.laterality is Laterality.RIGHT and index % 4 == 1:
            stored = files.pixels.pop(record.path)[:, ::-1].astype(np.uint16) * 16
            path = record.path.with_suffix(".dcm")
            path.parent.mkdir(exist_ok=True)
            window = {"WindowCenter": 2048, "WindowWidth": 4096}
            how = {"ImageLaterality": "R", "PatientOrientation": ["A", "FL"]}
            write_dicom(path, stored, **window, **how)
            files.change("train", index, path=path)
    write_files(tmp_path, files)
    assert len(list(tmp_path.rglob("*.dcm"))) == 4
    assert defects_in(tmp_path) == {}


def turned(files, side):
    """Turn all breasts to one side, as some prepared sets are."""
    for record in (record for records in files.sets.values() for record in records):
        if record.laterality is not side:
            turned = np.ascontiguousarray(files.pixels[record.path][:, ::-1])
            files.pixels[record.path] = turned


def all_mirrored(files):
    for path, pixels in files.pixels.items():
        files.pixels[path] = np.ascontiguousarray(pixels[:, ::-1])


@pytest.mark.parametrize(
    "convention",
    [
        all_mirrored,
        lambda files: turned(files, Laterality.LEFT),
        lambda files: turned(files, Laterality.RIGHT),
    ],
)
def test_another_rule_of_sides_is_accepted_and_held(tmp_path, convention):
    assert defects_in(write_spoilt(tmp_path / "good", convention)) == {}

    def one_wrong(files):
        convention(files)
        mirrored(files)

    defects = defects_in(write_spoilt(tmp_path / "bad", one_wrong))
    assert list(defects) == ["laterality_contradicts_pixels"]
    assert images_of(defects["laterality_contradicts_pixels"]) == [3]


def test_lateralities_at_random_are_found(spoilt):
    def shuffle(files):
        for split, records in files.sets.items():
            for index, record in enumerate(records):
                if index % 4 in (2, 3):
                    other = Laterality("L" if record.laterality is Laterality.RIGHT else "R")
                    files.change(split, index, laterality=other)

    assert list(spoilt(shuffle)) == ["laterality_without_rule"]


@pytest.mark.parametrize("side", list(Laterality))
def test_the_side_of_the_chest_wall(side):
    rows, columns = np.mgrid[:60, :40]
    mask = (columns / 30) ** 2 + ((rows - 30) / 28) ** 2 < 1
    assert chest_wall_side(mask if side is Laterality.LEFT else mask[:, ::-1]) is side


@pytest.mark.parametrize("mask", [np.zeros((9, 9), bool), np.ones((9, 9), bool)])
def test_no_side_is_clear_without_a_shape(mask):
    assert chest_wall_side(mask) is None


# What is too small depends on the size of training, with the crop that training makes


def test_a_box_is_measured_at_the_size_of_training(tmp_path):
    folder = write_spoilt(tmp_path)
    keep_aspect = CheckSettings(SETTINGS.input, smallest_anchor_px=1000)
    defects = defects_in(folder, settings=keep_aspect)
    detail = defects["box_too_small"].examples[0].detail
    record = good_files(tmp_path).sets["train"][BOXED]
    x1, y1, x2, y2 = breast_box(good_files(tmp_path).pixels[record.path])
    factor = HEIGHT / max(x2 - x1, y2 - y1)
    width, height = (BOX[2] - BOX[0]) * factor, (BOX[3] - BOX[1]) * factor
    shown_width, shown_height = detail.removesuffix(" there").split(": ")[1].split(" x ")
    assert float(shown_width) == pytest.approx(width, abs=0.3)
    assert float(shown_height) == pytest.approx(height, abs=0.3)


def test_a_picture_prepared_as_input_is_measured_as_it_is(tmp_path):
    made_as = Prepared(640, 480, 0.2, 0.0, 0.2, 0.0, as_input=InputSettings((HEIGHT, WIDTH)))

    def prepare(files):
        for index in range(len(files.sets["train"])):
            files.change("train", index, prepared=made_as)
        box_at_edge(files)

    sets = read_sets([write_spoilt(tmp_path, prepare) / "train.json"])
    collection = collect(sets, SETTINGS.input, n_workers=0)
    boxed = collection.entries[4 + BOXED]
    assert (boxed.measures.boxes[BOX].width_px, boxed.measures.boxes[BOX].height_px) == (26, 30)
    assert run_checks(collection, SETTINGS) == []


# Annotation files


def edit_json(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_boxes_outside_their_image_are_all_listed(tmp_path):
    def move(content):
        for annotation in content["annotations"][:2]:
            annotation["bbox"][0] = 90

    edit_json(write_spoilt(tmp_path) / "train.json", move)
    defects = defects_in(tmp_path)
    assert list(defects) == ["box_outside_image"]
    assert len(defects["box_outside_image"].examples) == 2
    assert "which is 96 wide and 128 high" in defects["box_outside_image"].examples[1].detail


def test_entries_that_the_reader_refuses_are_all_listed(tmp_path):
    def spoil(content):
        del content["images"][1]["supervision"]
        content["images"][3]["laterality"] = "left"

    edit_json(write_spoilt(tmp_path) / "train.json", spoil)
    defects = defects_in(tmp_path)
    assert list(defects) == ["keys_missing", "refused_entry"]
    (missing,), (other,) = (defects[key].examples for key in defects)
    assert missing.detail == "image 3: 'supervision' is missing"
    assert other.detail.startswith("image 5: 'laterality' is 'left'")


def test_a_plain_coco_file_is_one_fault_with_its_remedy_beside_it(tmp_path):
    def spoil(content):
        for entry in content["images"]:
            del entry["patient_id"], entry["supervision"]

    edit_json(write_spoilt(tmp_path) / "train.json", spoil)
    defects = defects_in(tmp_path / "train.json")
    assert list(defects) == ["keys_missing"]
    (missing,) = defects["keys_missing"].examples
    assert missing.detail == (
        "images 2, 3, 4, 5, 6, 7, 8, 9, and 8 more: 'patient_id', 'supervision' are missing"
    )
    assert defects["keys_missing"].remedy == (
        "of 'supervision', it says what the labels mean, one of boxes, normal, image_label, "
        "unlabelled; simfrcnn prepare-data coco completes plain COCO files"
    )


def test_a_file_that_holds_another_split_is_an_error(spoilt):
    def name_test(files):
        for index in range(4):
            files.change("train", index, split="test")

    defects = spoilt(name_test)
    assert list(defects) == ["split_contradicts_file"]
    assert defects["split_contradicts_file"].examples[0].detail == "holds images of split 'test'"


def test_a_file_that_is_no_coco_file_is_refused(tmp_path):
    path = tmp_path / "train.json"
    path.write_text("{")
    with pytest.raises(AnnotationError, match="not a JSON file"):
        defects_in(path)


def test_what_a_target_may_be(tmp_path, monkeypatch):
    folder = write_spoilt(tmp_path / "clinic")
    (folder / "other.json").write_text('{"preset": "tiny"}')
    monkeypatch.setenv("SIMFRCNN_DATASETS", str(tmp_path))
    both = [folder / "test.json", folder / "train.json"]
    assert annotation_files(str(folder), {}) == both
    assert annotation_files("clinic", {}) == both
    assert annotation_files("clinic/train", {}) == [folder / "train.json"]
    assert annotation_files(str(folder / "train.json"), {}) == [folder / "train.json"]
    assert annotation_files("mine", {"mine": str(folder / "test.json")}) == [folder / "test.json"]
    with pytest.raises(DataError, match="holds no COCO file"):
        annotation_files(str(folder / "images"), {})
    with pytest.raises(DataError, match=r"absent\.json does not exist"):
        annotation_files(str(folder / "absent.json"), {})
    with pytest.raises(DataError, match="SIMFRCNN_DATASETS"):
        annotation_files("absent/train", {})


# What is shown


@pytest.fixture
def spoilt_thrice(tmp_path):
    """Three defects, one of a damaged DICOM file with a patient's name."""
    files = good_files(tmp_path)
    copy_to_test(files)
    without_view(files)
    path = files.change("train", 0, path=files.sets["train"][0].path.with_name("dicom.dcm")).path
    write_files(tmp_path, files)
    write_dicom(path, np.zeros((8, 8), np.uint16), PhotometricInterpretation="RGB")
    collection = collect(
        read_sets(annotation_files(str(tmp_path), {})), SETTINGS.input, n_workers=0
    )
    return collection, run_checks(collection, SETTINGS)


def test_the_table_shows_the_worst_first_within_its_width(spoilt_thrice):
    collection, defects = spoilt_thrice
    shown = table(defects, 110)
    severities = [line.split()[0] for line in shown.splitlines()[2:] if line[0] != " "]
    assert severities == ["error", "error", "note"]
    assert max(map(len, shown.splitlines())) <= 110
    assert "dicom.dcm" in shown
    assert verdict(defects, collection) == "2 errors, 0 warnings, 1 note in 24 images"


def test_the_document_names_images_by_set_and_id_alone(spoilt_thrice):
    collection, defects = spoilt_thrice
    content = document(defects, collection, SETTINGS)
    assert content["n_by_severity"] == {"error": 2, "warning": 0, "note": 1}
    unreadable = next(d for d in content["defects"] if d["key"] == "unreadable")
    assert [case["image_id"] for case in unreadable["examples"]] == [2]
    assert "Photometric" in unreadable["examples"][0]["detail"]
    assert [s["n_images"] for s in content["sets"]] == [8, 16]
    text = json.dumps(content)
    assert "dicom.dcm" not in text
    assert str(collection.sets[0].annotated.path.parent) not in text


def test_no_patients_name_is_shown(spoilt_thrice):
    collection, defects = spoilt_thrice
    text = table(defects, 120) + json.dumps(document(defects, collection, SETTINGS))
    assert SECRET_NAME not in text
    assert "Doe" not in text


def spoilt_document(folder, change):
    """The good set, with its training file changed as JSON."""
    write_files(folder, good_files(folder))
    document = json.loads((folder / "train.json").read_text())
    change(document)
    (folder / "train.json").write_text(json.dumps(document))
    return defects_in(folder / "train.json", read_pixels=False)


def test_target_boxes_that_are_all_crowd_regions_are_an_error(tmp_path):
    def change(document):
        for box in document["annotations"]:
            box["iscrowd"] = 1

    defects = spoilt_document(tmp_path, change)
    assert list(defects) == ["crowd_alone"]
    assert defects["crowd_alone"].severity is ERROR
    assert defects["crowd_alone"].n_images == 4


def test_boxes_in_fractions_of_the_image_are_an_error_once_a_file(tmp_path):
    def change(document):
        for box in document["annotations"]:
            x, y, width, height = box["bbox"]
            box["bbox"] = [x / WIDTH, y / HEIGHT, width / WIDTH, height / HEIGHT]

    defects = spoilt_document(tmp_path, change)
    assert list(defects) == ["boxes_in_fractions"]
    (example,) = defects["boxes_in_fractions"].examples
    assert "all 4 boxes are smaller than one pixel" in example.detail
    assert example.detail.endswith("they seem to be fractions of the image, as YOLO has them")
    defects = defects_in(tmp_path / "train.json")  # their places say nothing of the breast
    assert list(defects) == ["boxes_in_fractions"]


def test_one_box_below_a_pixel_among_others_is_reported(tmp_path):
    def change(document):
        document["annotations"][0]["bbox"] = [0.4, 0.5, 0.1, 0.1]

    defects = spoilt_document(tmp_path, change)
    assert defects["box_below_pixel"].severity is WARNING
    assert defects["box_below_pixel"].n_images == 1


def test_a_stated_normal_with_a_target_box_is_an_error(tmp_path):
    settings = replace(SETTINGS, target_classes=("benign",))
    files = good_files(tmp_path)
    box = replace(files.sets["train"][BOXED].findings[0], category="benign", pathology=None)
    files.change("train", NORMAL, findings=(replace(box, finding_id=901),))
    write_files(tmp_path, files)
    defects = defects_in(tmp_path / "train.json", settings=settings, read_pixels=False)
    assert images_of(defects["normal_with_target_box"]) == [3]
    assert defects["normal_with_target_box"].severity is ERROR
