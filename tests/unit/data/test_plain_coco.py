"""Plain COCO files as tools write them: what is asked, what is taken, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask

from simfrcnn.data.coco import read_coco
from simfrcnn.data.inspect.checks.model import CheckSettings, Severity
from simfrcnn.data.inspect.checks.reading import collect, read_sets
from simfrcnn.data.inspect.checks.registry import run_checks
from simfrcnn.data.selection import training_lists
from simfrcnn.data.sources.coco.source import CocoOptions, read_plain_coco
from simfrcnn.data.sources.source import Reading, SourceData
from simfrcnn.errors import AnnotationError, ConfigError, DataError
from simfrcnn.records import ImageRecord, Laterality, Pathology, Supervision, ViewPosition
from simfrcnn.settings import DataSettings, InputSettings
from simfrcnn.workflows.prepare import prepare
from support.data_examples import SHARED_DATA, needs_shared, write_dicom

pytestmark = pytest.mark.data

HEIGHT, WIDTH = 60, 40
SAID: dict[str, Any] = {"patient": ("image",), "unboxed": "normal"}


def picture(path: Path, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 200, (height, width))
    cv2.imwrite(str(path), pixels.astype(np.uint8))


def image(own: Any, name: str, **keys: Any) -> dict[str, Any]:
    return {"id": own, "file_name": name, "height": HEIGHT, "width": WIDTH, **keys}


def drawn(image_id: Any, category_id: Any, *bbox: float, **keys: Any) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": list(bbox), **keys}


def export(
    path: Path,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    names: tuple[str, ...] = ("malignant", "benign"),
) -> Path:
    """A COCO file with the categories numbered from 1; the pictures must be made by the test."""
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": n, "name": name} for n, name in enumerate(names, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


def simple(root: Path, *annotations: dict[str, Any], **classes: Any) -> Path:
    """Three pictures in one file."""
    for n in (1, 2, 3):
        picture(root / f"im{n}.png")
    export(root / "x.json", [image(n, f"im{n}.png") for n in (1, 2, 3)], [*annotations], **classes)
    return root


def read(root: Path, how: Reading = Reading(n_workers=0), **options: Any) -> SourceData:
    return read_plain_coco(root, CocoOptions(**options), how)


def by_name(data: SourceData) -> dict[str, ImageRecord]:
    return {record.file_name: record for record in data.records}


def test_all_that_is_missing_is_asked_at_once(tmp_path: Path) -> None:
    simple(tmp_path, drawn(1, 1, 0.1, 0.2, 0.3, 0.4), names=("Mass", "benign"))
    with pytest.raises(ConfigError) as caught:
        read(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("x.json: 4 things are not said by the files; add:")
    assert [line.split()[0] for line in lines[1:]] == [
        "--patient", "--unboxed", "--classes", "--boxes",
    ]  # fmt: skip
    assert "keys id, file_name, height, width, and names such as im1.png" in lines[1]
    assert "what the 2 of 3 images without boxes are" in lines[2]
    assert "--classes malignant=Mass (or benign=, ignore=)" in lines[3]
    assert "(boxes: 1 'Mass')" in lines[3]


def test_what_tools_write_in_their_own_ways(tmp_path: Path) -> None:
    """Ids as text, fraction or 0, backslashes, no ids of annotations, no sizes, other capitals."""
    for name in ("images/im1.png", "images/im2.png", "deep/im3.png"):
        picture(tmp_path / name)
    entries = [
        {"id": "7", "file_name": "images\\im1.png"},
        {"id": 0, "file_name": "./images/im2.png"},
        {"id": 3.0, "file_name": "C:/Users/x/im3.png"},
    ]
    boxes = [drawn(7, 1.0, 5, 6, 10, 20), drawn("0", "2", 1, 2, 3, 4), drawn(3, 1, 0, 0, 9, 9)]
    export(tmp_path / "result.json", entries, boxes, names=(" MALIGNANT", "Benign"))
    data = read(tmp_path, patient=("image",))
    assert {name: r.findings[0].box for name, r in by_name(data).items()} == {
        "im1.png": (5, 6, 15, 26),
        "im2.png": (1, 2, 4, 6),
        "im3.png": (0, 0, 9, 9),
    }
    first = data.records[0]
    assert (first.height, first.width, first.path) == (60, 40, tmp_path / "images" / "im1.png")
    assert (first.supervision, first.pathology) == (Supervision.BOXES, Pathology.MALIGNANT)
    assert [f.category for r in data.records for f in r.findings] == [
        "malignant", "benign", "malignant",
    ]  # fmt: skip
    assert [f.finding_id for r in data.records for f in r.findings] == [1, 2, 3]
    assert "2 boxes of 'MALIGNANT' taken as malignant" in data.notes


@pytest.mark.parametrize("unboxed", ["normal", "unlabelled", "image_label"])
def test_an_image_without_boxes_is_what_the_user_says(tmp_path: Path, unboxed: str) -> None:
    data = read(simple(tmp_path, drawn(1, 1, 1, 1, 9, 9)), patient=("image",), unboxed=unboxed)
    kinds = [record.supervision.value for record in data.records]
    assert kinds == ["boxes", unboxed, unboxed]
    assert data.records[1].pathology is (Pathology.NORMAL if unboxed == "normal" else None)
    assert str(data.info["unboxed_rule"]).startswith("images without boxes are")


def test_boxes_from_outlines_masks_and_out_of_the_image(tmp_path: Path) -> None:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[10:15, 20:28] = 1
    packed = mask.encode(np.asfortranarray(pixels))
    packed["counts"] = packed["counts"].decode()
    column_wise = np.flatnonzero(np.diff(np.r_[0, pixels.T.ravel(), 0]))
    counts = np.diff(np.r_[0, column_wise, pixels.size]).tolist()
    root = simple(
        tmp_path,
        {"image_id": 1, "category_id": 1, "segmentation": [[3, 4, 9, 4, 9, 11.5]]},
        drawn(1, 1, 0, 0, 0, 0, segmentation=packed, iscrowd=1),
        drawn(1, 1, segmentation={"size": [HEIGHT, WIDTH], "counts": counts}, iscrowd=1),
        drawn(2, 1, -5, 50, 15, 20),
    )
    data = read(root, **SAID)
    assert [finding.box for finding in data.records[0].findings] == [
        (3, 4, 9, 11.5),
        (20, 10, 28, 15),
        (20, 10, 28, 15),
    ]
    assert data.records[1].findings[0].box == (0, 50, 10, 60)
    assert not any(f.iscrowd for r in data.records for f in r.findings)
    assert "1 box clipped to its image, of: im2.png" in data.notes
    assert any(note.startswith("2 annotations have iscrowd 1: taken as") for note in data.notes)
    left = read(root, **SAID, crowd="leave").records[0]
    assert [finding.iscrowd for finding in left.findings] == [False, True, True]


@pytest.mark.parametrize(
    ("bbox", "why"),
    [((5, 5, 0, 9), "has no area"), ((50, 70, 5, 5), "lies outside"), ((), "has neither a bbox")],
)
def test_a_finding_without_a_box_does_not_train_as_background(
    tmp_path: Path, bbox: tuple[float, ...], why: str
) -> None:
    data = read(simple(tmp_path, drawn(1, 1, 1, 1, 9, 9), drawn(1, 1, *bbox)), **SAID)
    assert data.records[0].supervision is Supervision.IMAGE_LABEL
    begins = "1 finding has no usable box, so its image is image_label: "
    assert any(note.startswith(begins) and why in note for note in data.notes)


@pytest.mark.parametrize(
    ("units", "box"), [("fractions", (10, 30, 20, 45)), ("centres", (5, 22.5, 15, 37.5))]
)
def test_fractions_are_scaled_as_the_user_says(
    tmp_path: Path, units: str, box: tuple[float, ...]
) -> None:
    root = simple(tmp_path, drawn(1, 1, 0.25, 0.5, 0.25, 0.25))
    assert read(root, **SAID, boxes=units).records[0].findings[0].box == box


def test_splits_as_roboflow_lays_them_out(tmp_path: Path) -> None:
    """Folders train, valid and test, ids from 0 in each, an unused super-category."""
    for number, part in enumerate(("train", "valid", "test")):
        picture(tmp_path / part / "a.png")
        picture(tmp_path / part / f"{part}.png")
        cv2.imwrite(str(tmp_path / part / "a.png"), np.full((HEIGHT, WIDTH), number, np.uint8))
        export(
            tmp_path / part / "_annotations.coco.json",
            [image(0, f"{part}.png"), image(1, "a.png")],
            [drawn(0, 2, 1, 1, 9, 9, id=0)],
            names=("lesions", "malignant"),
        )
    done = prepare(
        "coco", tmp_path, tmp_path.parent / "out", workers=0, size=64, **SAID, keep_identifiers=True
    )
    assert {name: counts.n_images for name, counts in done.counts.items()} == {
        "train": 2, "val": 2, "test": 2,
    }  # fmt: skip
    assert all(c.n_positive == c.n_normal == 1 for c in done.counts.values())
    assert "divided: as published" in done.notes
    record = read_coco(done.files["val"]).records[0]
    assert (record.split, record.patient_id) == ("val", "valid/valid.png")


def test_several_files_that_are_no_division_are_asked_about(tmp_path: Path) -> None:
    simple(tmp_path)
    export(tmp_path / "y.json", [image(1, "im1.png")], [])
    with pytest.raises(ConfigError, match=r"2 COCO files, .*--annotations x\.json y\.json"):
        read(tmp_path, **SAID)
    with pytest.raises(DataError, match=r"listed twice: .*y\.json: image 1 .*x\.json: image 1"):
        read(tmp_path, **SAID, annotations=(Path("x.json"), Path("y.json")))
    assert len(read(tmp_path, **SAID, annotations=(Path("x.json"),)).records) == 3


def test_patient_exam_side_and_view_from_the_name(tmp_path: Path) -> None:
    names = ("P1_2019_L_CC.png", "P1_2020_right_mlo.png", "P2_2019_R_XCCL.png")
    for name in names:
        picture(tmp_path / "images" / name)
    export(tmp_path / "x.json", [image(n, name) for n, name in enumerate(names)], [])
    pattern = r"(?P<patient>\w+?)_(?P<exam>\d+)_(?P<laterality>[a-zA-Z]+)_(?P<view>\w+)\."
    records = read(tmp_path, patient=("from-name", pattern), unboxed="unlabelled").records
    assert [(r.patient_id, r.exam_id, r.laterality, r.view_position) for r in records] == [
        ("P1", "P1/2019", Laterality.LEFT, ViewPosition.CC),
        ("P1", "P1/2020", Laterality.RIGHT, ViewPosition.MLO),
        ("P2", "P2/2019", Laterality.RIGHT, ViewPosition.OTHER),
    ]
    only = read(tmp_path, patient=("from-name", r"^(P\d)_"), unboxed="unlabelled").records
    assert [record.patient_id for record in only] == ["P1", "P1", "P2"]
    views = r"_(?P<laterality>[LR])_"
    with pytest.raises(ConfigError, match=r"--views: the pattern .*not in 1 of 3 .*right_mlo"):
        read(tmp_path, patient=("image",), unboxed="normal", views=views)


def test_patient_from_a_key(tmp_path: Path) -> None:
    for n in (1, 2):
        picture(tmp_path / f"{n}.png")
    images = [image(1, "1.png", case="A"), image(2, "2.png", attributes={"case": 7, "age": 60})]
    export(tmp_path / "x.json", images, [])
    records = read(tmp_path, patient=("key", "case"), unboxed="unlabelled").records
    assert [record.patient_id for record in records] == ["A", "7"]
    assert records[1].attributes == {"case": "7", "age": "60"}
    with pytest.raises(ConfigError, match=r"--patient: 2 of 2 images have no key 'who'"):
        read(tmp_path, patient=("key", "who"), unboxed="unlabelled")


def test_our_own_keys_are_taken_as_they_stand(tmp_path: Path) -> None:
    for n in (1, 2):
        picture(tmp_path / f"{n}.png")
    facts = {"patient_id": "p", "exam_id": "e", "laterality": "L", "view_position": "MLO"}
    images = [
        image(1, "1.png", **facts, supervision="image_label", pathology="malignant", split="Valid"),
        image(2, "2.png", **facts, supervision="normal", pixel_spacing_mm=[0.1, 0.2], split="val"),
    ]
    export(tmp_path / "x.json", images, [])
    one, two = read(tmp_path).records
    assert (one.patient_id, one.exam_id, one.split) == ("p", "e", "val")
    assert (one.supervision, one.pathology) == (Supervision.IMAGE_LABEL, Pathology.MALIGNANT)
    assert (two.laterality, two.view_position) == (Laterality.LEFT, ViewPosition.MLO)
    assert (two.supervision, two.pixel_spacing_mm) == (Supervision.NORMAL, (0.1, 0.2))


def test_labels_of_images_are_taken_as_classes(tmp_path: Path) -> None:
    stated = [
        {"Malignant": True, "Cyst": False},
        {"malignant": False, "Scar": False},
        {"Cyst": False, "Scar": False, "Nipple": True},
        {"malignant": True, "Scar": True},
        None,
    ]
    images = []
    for number, labels in enumerate(stated, start=1):
        picture(tmp_path / f"im{number}.png")
        images.append(image(number, f"im{number}.png", **({"labels": labels} if labels else {})))
    export(tmp_path / "x.json", images, [drawn(4, 1, 1, 2, 3, 4)], ("Cyst",))
    said = {"patient": ("image",), "unboxed": "normal"}
    with pytest.raises(ConfigError, match=r"malignant=Nipple,Scar.*what 'Nipple', 'Scar' of the"):
        read(tmp_path, **said, classes=("benign=Cyst",))
    data = read(tmp_path, **said, classes=("benign=Cyst,Scar", "ignore=Nipple"))
    assert [dict(record.labels) for record in data.records] == [
        {"malignant": True},  # of benign categories a scar may be visible
        {"malignant": False},
        {"benign": False},
        {"malignant": True, "benign": True},
        {},
    ]
    assert [record.supervision.value for record in data.records] == [
        *("image_label", "image_label", "image_label", "image_label", "normal"),
    ]
    assert any(note.startswith("4 images state in 'labels'") for note in data.notes)
    lists = training_lists(
        [*data.records, *read(simple(tmp_path / "b", drawn(1, 1, 1, 2, 3, 4)), **said).records],
        DataSettings(labels_per_item=1),
    )
    assert lists.tally.labelled == 2
    assert "im2.png" in [record.file_name for record in lists.normals]


def test_supervision_may_stand_among_the_attributes(tmp_path: Path) -> None:
    """Nothing was said of such an image but there; it must not pass for a normal one."""
    simple(tmp_path)
    said = ["boxes", "unlabelled", "image_label"]
    images = [image(n, f"im{n}.png", attributes={"supervision": w}) for n, w in enumerate(said, 1)]
    export(tmp_path / "x.json", images, [drawn(1, 1, 1, 2, 3, 4)])
    records = read(tmp_path, patient=("image",)).records
    assert [record.supervision.value for record in records] == said
    assert not any(record.is_known_normal(("malignant",)) for record in records)


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        ({"Nipple": True}, ("malignant=Mass", "ignore=Nipple")),
        ({"Mass": False}, ("malignant=Mass,IDC", "ignore=Nipple")),
    ],
)
def test_labels_that_say_nothing_of_a_class_leave_the_image_open(
    tmp_path: Path, labels: dict[str, bool], options: tuple[str, ...]
) -> None:
    """A category that is no finding, or one of several of a class: what the image is, is asked."""
    simple(tmp_path)
    images = [image(1, "im1.png"), image(2, "im2.png", labels=labels)]
    boxes = [drawn(1, 1, 1, 2, 3, 4), drawn(1, 2, 1, 2, 3, 4), drawn(1, 3, 1, 2, 3, 4)]
    names = ("Mass", "IDC", "Nipple")
    options = options if "IDC" in options[0] else (*options, "benign=IDC")
    export(tmp_path / "x.json", images, boxes, names=names)
    with pytest.raises(ConfigError, match=r"--unboxed .*: what the 1 of 2 images without boxes"):
        read(tmp_path, patient=("image",), classes=options)
    records = read(tmp_path, patient=("image",), classes=options, unboxed="unlabelled").records
    assert records[1].supervision is Supervision.UNLABELLED


def test_classes_are_mapped_and_others_asked_for(tmp_path: Path) -> None:
    root = simple(
        tmp_path,
        drawn(1, 1, 1, 1, 9, 9),
        drawn(1, 2, 2, 2, 9, 9),
        drawn(2, 3, 1, 1, 5, 5),
        drawn(3, 4, 1, 1, 5, 5),
        names=("IDC", "Cyst", "Nipple", "odd"),
    )
    stated = ("malignant=idc", "benign=Cyst", "ignore=nipple")
    with pytest.raises(ConfigError, match=r"--classes malignant=odd .*what 'odd' are"):
        read(root, **SAID, classes=stated)
    data = read(root, **SAID, classes=(*stated, "asymmetry=odd"))
    assert [[f.category for f in r.findings] for r in data.records] == [
        ["malignant", "benign"], [], ["asymmetry"],
    ]  # fmt: skip
    assert data.records[1].supervision is Supervision.NORMAL, "nothing but a nipple is drawn"
    assert data.categories == {1: "malignant", 2: "benign", 3: "asymmetry"}
    for wrong, message in (
        ("malignant", "give CLASS=CATEGORY"),
        ("malignant=Mass", r"the category is 'Mass'; legal is IDC \| Cyst \| Nipple \| odd"),
        ("malignant=cYst,Cyst,odd benign=CYST", "'CYST' is malignant already; give it to one"),
    ):
        with pytest.raises(ConfigError, match=f"--classes.*{message}"):
            read(root, **SAID, classes=tuple(wrong.split()))


def test_unboxed_views_beside_a_cancer_are_not_taken_as_normal(tmp_path: Path) -> None:
    names = ("p_L_CC.png", "p_L_MLO.png", "p_R_CC.png", "q_L_CC.png")
    for name in names:
        picture(tmp_path / name)
    images = [image(n, name) for n, name in enumerate(names)]
    export(tmp_path / "x.json", images, [drawn(0, 1, 1, 1, 9, 9)])
    pattern = r"(?P<patient>\w)_(?P<laterality>[LR])_(?P<view>\w+)\."
    data = read(tmp_path, patient=("from-name", pattern), unboxed="normal")
    kinds = [record.supervision.value for record in data.records]
    assert kinds == ["boxes", "image_label", "normal", "normal"]
    assert any("1 image without boxes is not taken as normal" in note for note in data.notes)


@pytest.mark.parametrize(
    ("images", "annotations", "problem"),
    [
        ([image(1, "im1.png"), image("1", "im2.png")], [], r"'1' \(2 times\).*VIA numbers"),
        ([image(None, "im1.png")], [], "None is no id"),
        ([{"id": 1}], [], "image 1 has no file_name"),
        (
            [image(1, "im1.png")],
            [drawn(2, 1, 1, 1, 2, 2)],
            "number 1: image_id 2 is not",
        ),
        ([image(1, "im1.png")], [drawn(1, 9, 1, 1, 2, 2)], "category_id 9 is not among"),
        ([image(1, "im1.png", height=61)], [], "states 61 x 40 pixels .* its file has 60 x 40"),
        ([image(1, "im1.png", split="odd")], [], "'split' is 'odd'"),
        ([image(1, "im1.png", prepared={"x": 1})], [], "prepare-data wrote this file"),
        ([image(1, "gone.png"), image(2, "im1.png")], [], "1 of 2 images are not there.*gone.png"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]], problem: str
) -> None:
    simple(tmp_path)
    export(tmp_path / "x.json", images, annotations)
    with pytest.raises((AnnotationError, DataError), match=rf"x\.json.*{problem}|{problem}"):
        read(tmp_path, **SAID)


def test_one_name_of_two_files_is_not_guessed(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        picture(tmp_path / folder / "im.png")
    export(tmp_path / "x.json", [image(1, "/data/upload/im.png")], [])
    with pytest.raises(DataError, match=r"upload/im\.png \(2 files\); give the folder"):
        read(tmp_path, **SAID)
    assert read(tmp_path, **SAID, images=tmp_path / "b").records[0].path == tmp_path / "b/im.png"


def test_own_pictures_are_no_source(tmp_path: Path) -> None:
    prepare("coco", simple(tmp_path / "a"), tmp_path / "out", workers=0, size=64,
            fractions={"all": 1.0}, **SAID)  # fmt: skip
    with pytest.raises(DataError, match="prepare-data wrote this file: train on it"):
        read(tmp_path / "out", **SAID)
    names = [path.name for path in (tmp_path / "out" / "images").iterdir()]
    sizes = [image(n, name, height=None, width=None) for n, name in enumerate(names)]
    export(tmp_path / "out" / "images" / "x.json", sizes, [])
    with pytest.raises(DataError, match="prepare-data made this picture, and 2 others"):
        read(tmp_path / "out" / "images", **SAID)


def test_dicom_files_fill_in_and_what_is_no_view_is_left_out(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH)).astype(np.uint16)
    write_dicom(tmp_path / "1.dcm", pixels, SOPInstanceUID="1.2.3")
    write_dicom(tmp_path / "2.dcm", pixels, SOPInstanceUID="1.2.3")
    write_dicom(tmp_path / "3.dcm", pixels, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    images = [image(n, f"{n}.dcm") for n in (1, 2, 3)]
    export(tmp_path / "x.json", images, [])
    data = read(tmp_path, **SAID)
    (record,) = data.records
    assert (record.laterality, record.view_position) == (Laterality.LEFT, ViewPosition.MLO)
    assert record.exam_id == "1.dcm/1.2.3.4"
    assert "1 further copy of one SOP instance, left out: 2.dcm" in data.notes
    assert any(n.startswith("1 picture left out (--all-views keeps it): ") for n in data.notes)
    assert len(read(tmp_path, **SAID, all_views=True).records) == 2
    write_dicom(tmp_path / "2.dcm", pixels[::-1], SOPInstanceUID="1.2.3")
    problem = r"1\.dcm\) have one SOP Instance UID \(0008,0018\), but are no copies: other pixels"
    with pytest.raises(AnnotationError, match=r"\(2\.dcm\) and .*" + problem):
        read(tmp_path, **SAID)


@needs_shared("failing_inputs")
@pytest.mark.parametrize(
    "name", ["01_cvat_export", "02_label_studio_export", "05_minimal_coco"], ids=str
)
def test_exports_of_tools_train_after_one_command(name: str, tmp_path: Path) -> None:
    done = prepare(
        "coco",
        SHARED_DATA / "failing_inputs" / name,
        tmp_path,
        workers=0,
        size=128,
        fractions=("train=0.5", "val=0.5"),
        **SAID,
    )
    settings = CheckSettings(InputSettings((128, 128)))
    collection = collect(read_sets(list(done.files.values())), settings.input, n_workers=0)
    defects = run_checks(collection, settings)
    assert not [defect for defect in defects if defect.severity is Severity.ERROR]
    lists = training_lists(read_coco(done.files["train"]).records, DataSettings())
    assert (len(lists.positives), len(lists.normals)) == (1, 2)
    assert lists.positives[0].findings[0].category == "malignant"


def test_outlines_are_taken_mended_or_named(tmp_path: Path) -> None:
    for name in "abcd":
        picture(tmp_path / f"{name}.png")
    square = [5, 5, 20, 5, 20, 20, 5, 20]
    inside = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    inside[5:20, 5:20] = 1
    packed = mask.encode(inside)
    rle = {"size": packed["size"], "counts": packed["counts"].decode()}
    bow = [5, 5, 20, 20, 20, 5, 5, 20]
    annotations = [
        drawn(1, 1, 5, 5, 15, 15, segmentation=[square]),
        drawn(2, 1, 5, 5, 15, 15, segmentation=rle),
        drawn(3, 1, 5, 5, 15, 15, segmentation=[bow]),
        drawn(4, 1, 5, 5, 30, 15, segmentation=[square]),
    ]
    images = [image(n, f"{name}.png") for n, name in enumerate("abcd", start=1)]
    export(tmp_path / "train.json", images, annotations)
    data = read_plain_coco(tmp_path, CocoOptions(**SAID), Reading(n_workers=0))
    outlines = [record.findings[0].outline for record in data.records]
    assert outlines[0] == outlines[1] == (((5, 5), (20, 5), (20, 20), (5, 20)),)
    assert outlines[2] != ()
    assert outlines[3] == ()
    (note,) = [note for note in data.notes if "outline" in note]
    assert note.startswith("1 outline not taken, its finding keeps the box: d.png (annotation ")
    assert "does not fit its box" in note
