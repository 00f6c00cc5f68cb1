"""What a classifier and a mask head found, as DICOM objects, combined, and judged twice."""

from __future__ import annotations

import json

import numpy as np
import pydicom
import pytest

import simfrcnn
from benchmarks.dicom_validators import dciodvfy, dsrdump
from simfrcnn.artifacts import read_detections, write_detections
from simfrcnn.cli.main import main
from simfrcnn.dicom_out import codes
from simfrcnn.dicom_out.checking import check_report
from simfrcnn.dicom_out.content import concept_of, walk
from simfrcnn.images.drawing import draw_boxes
from simfrcnn.outlines import Rle
from simfrcnn.workflows.predict import PredictionOptions, predict
from support.model_kinds import KINDS, write_model
from support.outlined import ellipse_in
from support.results import phantom_films

pytest.importorskip("highdicom")
pytestmark = [pytest.mark.torchvision, pytest.mark.usefixtures("quick_charts")]
THRESHOLD = 0.1
ASKED = PredictionOptions(
    workers=0,
    dicom=("sr", "gsps", "cad-sr", "sc"),
    pictures="none",
    score_threshold=THRESHOLD,
    shows_progress=False,
)


@pytest.fixture(scope="module")
def detectors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    weights = {kind: write_model(folder / f"{kind}.pth", kind, "torchvision") for kind in KINDS}
    return {kind: simfrcnn.load(path, device="cpu") for kind, path in weights.items()}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """The folder of an exam of four films."""
    folder = tmp_path_factory.mktemp("films")
    phantom_films(folder)
    return folder


@pytest.fixture(scope="module")
def predicted(detectors, films, tmp_path_factory):
    """Kind -> the folder of a prediction; of the classifier with its maps."""
    folders = {}
    for kind, detector in detectors.items():
        folders[kind] = tmp_path_factory.mktemp("predicted") / kind
        options = PredictionOptions(**{**vars(ASKED), "heat_maps": detector.has_class_maps})
        predict(detector, films, folders[kind], options)
    return folders


def exam_in(folder):
    (path,) = folder.glob("exams/*/*.json")
    return json.loads(path.read_text())


def objects_in(folder):
    return {path.name: pydicom.dcmread(path) for path in folder.rglob("*.dcm")}


def items_of(report, code):
    return [item for _, item in walk(report) if concept_of(item) == (code.value, code.scheme)]


# As DICOM


@pytest.mark.parametrize("kind", KINDS)
def test_each_region_is_in_every_object_under_a_uid_of_its_own(predicted, kind):
    exam, objects = exam_in(predicted[kind]), objects_in(predicted[kind])
    assert len(objects) == 2 + 2 * len(exam["images"])
    found = [
        [one for one in image["detections"] if one["score"] >= THRESHOLD]
        for image in exam["images"]
    ]
    assert all(found)
    for name in ("sr.dcm", "cad-sr.dcm"):
        assert check_report(objects[name]) == []
    regions = items_of(objects["sr.dcm"], codes.IMAGE_REGION)
    drawn = [
        frame
        for number in range(1, len(found) + 1)
        for frame in objects[f"gsps-{number}.dcm"]
        .GraphicAnnotationSequence[0]
        .GraphicObjectSequence
    ]
    tracked = [item.UID for item in items_of(objects["sr.dcm"], codes.TRACKING_UID)]
    assert len(set(tracked)) == len(tracked) == sum(map(len, found))
    assert [frame.TrackingUID for frame in drawn] == tracked
    assert len(items_of(objects["cad-sr.dcm"], codes.OUTLINE)) == len(tracked)
    expected = [one["box_xyxy_px"] for of_image in found for one in of_image]
    for (x1, y1, x2, y2), region, frame in zip(expected, regions, drawn, strict=True):
        corners = [x1, y1, x2, y1, x2, y2, x1, y2, x1, y1]
        assert list(region.GraphicData) == pytest.approx(corners, abs=1e-3)
        assert list(frame.GraphicData) == pytest.approx(corners, abs=1e-3)


def test_scores_of_two_classes_at_one_place_share_a_text_that_can_be_read(
    predicted, detectors, films
):
    (exam,) = detectors["classifier"].predict(films)
    one, two = exam.images[0].suspicious
    assert one.box != two.box
    assert one.box[:2] == two.box[:2]
    said = f"{one.score:.2f}, {two.score:.2f}"
    (annotation,) = objects_in(predicted["classifier"])["gsps-1.dcm"].GraphicAnnotationSequence
    (text,) = annotation.TextObjectSequence[1:]
    assert text.UnformattedTextValue == said
    assert text.BoundingBoxBottomRightHandCorner[0] == max(one.box[2], two.box[2])
    assert len(annotation.GraphicObjectSequence) == 2
    # In a picture the second score stands beside the first.
    grey, box = np.zeros((90, 200), np.uint8), (5.0, 20.0, 190.0, 80.0)
    once, both = draw_boxes(grey, [box], [0.5]), draw_boxes(grey, [box] * 2, [0.5, 0.25])
    assert np.array_equal(once[:18, :32], both[:18, :32])
    assert not once[:18, 50:].any()
    assert both[:18, 50:].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.service("dicom3tools")
def test_dciodvfy_finds_no_error(predicted, kind):
    for path in predicted[kind].rglob("*.dcm"):
        assert dciodvfy(path) == [], path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.service("dcmtk")
def test_dsrdump_finds_no_error(predicted, kind):
    for name in ("sr.dcm", "cad-sr.dcm"):
        (path,) = predicted[kind].rglob(name)
        assert dsrdump(path) == []


def test_a_capture_shows_the_edges_of_the_masks(predicted, detectors, films):
    (exam,) = detectors["masks"].predict(films)
    assert any(one.outline for one in exam.images[0].suspicious)
    capture = objects_in(predicted["masks"])["sc-1.dcm"].pixel_array
    assert np.array_equal(capture, exam.images[0].draw(THRESHOLD)[..., ::-1])


# Combined and judged


@pytest.fixture(scope="module")
def truth(predicted, tmp_path_factory):
    """The films with an outlined finding where the mask head sees something, in two of four."""
    content = json.loads((predicted["masks"] / "images.json").read_text())
    found = read_detections(predicted["masks"] / "detections.json").images
    annotations = []
    for number, image in enumerate(content["images"]):
        is_normal = number >= 2
        image["supervision"] = "normal" if is_normal else "boxes"
        image["patient_id"] = image["exam_id"] = f"P{number}"  # intervals are over patients
        if is_normal:
            continue
        x1, y1, x2, y2 = found[image["id"]].boxes[0].tolist()
        (ring,) = ellipse_in((x1, y1, x2, y2))
        annotations.append(
            {
                "id": number + 1,
                "image_id": image["id"],
                "category_id": content["categories"][0]["id"],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                "segmentation": [[side for point in ring for side in point]],
            }
        )
    path = tmp_path_factory.mktemp("truth") / "truth.json"
    path.write_text(json.dumps({**content, "annotations": annotations}))
    return path


QUICK = simfrcnn.EvaluationSettings(bootstrap_replicates=50, score_threshold=THRESHOLD)


def masks_of(path):
    return {number: one.masks for number, one in read_detections(path).images.items()}


def judged(truth, detections, output):
    simfrcnn.evaluate(truth, detections, output=output, settings=QUICK, pictures=False)
    return json.loads((output / "report.json").read_text())


def test_masks_are_judged_the_same_again_and_in_any_order(predicted, truth, tmp_path):
    given = predicted["masks"] / "detections.json"
    found = read_detections(given)
    backwards = [
        type(one)(
            one.image_id,
            one.boxes[::-1].copy(),
            one.scores[::-1].copy(),
            one.categories[::-1],
            masks=one.masks[::-1],
        )
        for one in reversed(found.images.values())
    ]
    turned = tmp_path / "turned.json"
    write_detections(turned, backwards, categories=found.categories, provenance=found.provenance)
    reports = [judged(truth, path, tmp_path / str(n)) for n, path in enumerate([given] * 2)]
    assert reports[0] == reports[1]
    names = ("report.json", "report.md", "outlines.svg")
    first, second = ([(tmp_path / n / name).read_bytes() for name in names] for n in "01")
    assert first == second
    other = judged(truth, turned, tmp_path / "2")
    assert other["figures"] == reports[0]["figures"]
    figures = {k: f for k, f in other["figures"].items() if k.startswith("mask/")}
    iou = figures["mask/iou_mean"]
    assert 0 < iou["low"] < iou["value"] < iou["high"] < 1


def test_the_union_of_two_mask_heads_keeps_masks_and_one_with_a_classifier_has_none(
    predicted, truth, tmp_path
):
    given = predicted["masks"] / "detections.json"
    # A further model: the same boxes, less sure.
    found, less_sure = read_detections(given), tmp_path / "other.json"
    images = [
        type(one)(one.image_id, one.boxes, one.scores / 2, one.categories, masks=one.masks)
        for one in found.images.values()
    ]
    write_detections(less_sure, images, categories=found.categories, provenance=found.provenance)
    words = ["combine", str(given), str(less_sure), "--dataset", f"x/test={truth}"]
    assert main([*words, "--output", str(tmp_path / "both")]) == 0
    both = tmp_path / "both" / "detections.json"
    assert all(isinstance(mask, Rle) for masks in masks_of(both).values() for mask in masks)
    report = judged(truth, both, tmp_path / "report")
    assert report["figures"]["mask/iou_mean"]["value"] > 0
    maps = predicted["classifier"] / "detections.json"
    path = simfrcnn.combine(truth, [given, maps], tmp_path / "mixed")
    assert set(masks_of(path).values()) == {None}
    assert "masks_from_score" not in read_detections(path).provenance
    report = judged(truth, path, tmp_path / "mixed report")
    assert report["figures"]["mask/box_iou_mean"]["value"] > 0
    assert "mask/iou_mean" not in report["figures"]
    # Two lists of a classifier: its scores as they were, and no map travels with the list.
    path = simfrcnn.combine(truth, [maps, maps], tmp_path / "classifiers")
    joint = read_detections(path)
    for number, one in read_detections(maps).images.items():
        assert sorted(joint.images[number].scores) == pytest.approx(sorted(one.scores))
    assert joint.class_maps == {}
