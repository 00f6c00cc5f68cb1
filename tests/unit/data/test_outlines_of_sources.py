"""Outlines on their way: from a source's files into records, COCO files and prepared pictures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from simfrcnn.data.coco import read_coco, write_coco
from simfrcnn.data.prepared import CacheSettings, cache_images
from simfrcnn.data.sources.cbis_ddsm.files import find_mask
from simfrcnn.data.sources.cbis_ddsm.reader import read_cbis_ddsm
from simfrcnn.data.sources.ddsm.reader import read_ddsm
from simfrcnn.data.sources.source import SourceData
from simfrcnn.errors import AnnotationError, ConfigError, OutputError
from simfrcnn.outlines import box_of, fits, problem_of, rle_of
from simfrcnn.phantom.annotations import annotation_file
from simfrcnn.phantom.exams import VIEWS_OF_EXAM, draw_exams, stored_box, stored_outline
from simfrcnn.phantom.generate import write_outlined
from simfrcnn.phantom.presets import PRESETS
from simfrcnn.records import ImageRecord, Pathology
from simfrcnn.settings import InputSettings
from simfrcnn.workflows.outlining import OutlineOptions, outlined
from support import cbis_examples
from support.ddsm_examples import abnormality, overlay, write_case
from support.examples import record
from support.outlined import ellipse_in

pytestmark = pytest.mark.data
RING = ((10.0, 10.0), (40.0, 12.0), (30.0, 50.0))


def outlined_record(outline: Any = (RING,), image_id: int = 1) -> ImageRecord:
    made = record(image_id, boxes=[box_of(outline)])
    findings = tuple(dataclasses.replace(f, outline=outline) for f in made.findings)
    return dataclasses.replace(made, findings=findings)


def findings_of(data: SourceData) -> list[tuple[ImageRecord, Any]]:
    return [(r, finding) for r in data.records for finding in r.findings]


# Readers


def test_cbis_masks_are_outlined_to_the_pixel(tmp_path: Path) -> None:
    data = read_cbis_ddsm(cbis_examples.write_download(tmp_path, "nested"), n_workers=0)
    by_name = {row_name(row): row for row in cbis_examples.ROWS}
    found = findings_of(data)
    assert len(found) > 3
    for image, finding in found:
        mask = cbis_examples.mask_pixels(by_name[finding.lesion_id])
        assert rle_of(finding.outline, image.height, image.width).area == (mask > 0).sum()
        assert box_of(finding.outline) == finding.box


def row_name(row: cbis_examples.Row) -> str:
    return f"{row.patient}_{row.side}_{row.view}_{row.kind}_{row.number}"


def test_holes_of_a_mask_are_filled_and_counted(tmp_path: Path) -> None:
    mask = np.zeros((60, 40), np.uint8)
    mask[10:30, 5:25] = 255
    mask[15:18, 9:12] = 0
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), mask)
    found = find_mask([path], 60, 40)
    assert (found.n_holes, rle_of(found.outline, 60, 40).area) == (1, 400)


def test_a_mask_of_another_size_gives_a_scaled_outline(tmp_path: Path) -> None:
    mask = np.zeros((60, 40), np.uint8)
    mask[10:30, 5:25] = 255
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), mask)
    found = find_mask([path], 120, 80)
    assert (found.scaled, found.box) == (True, (10.0, 20.0, 50.0, 60.0))
    assert box_of(found.outline) == found.box
    other_shape = find_mask([path], 60, 60)
    assert other_shape.outline == ()
    assert other_shape.problem == "no file of two values in the film's shape"


def test_chain_codes_hold_their_own_pixels(tmp_path: Path) -> None:
    chain = "20 20 2 2 2 2 4 4 4 6 6 6 6 0 0 0 #"  # 5 x 4 pixels
    marked = {"LEFT_CC": overlay(abnormality(outline=chain))}
    write_case(tmp_path, "cancer_01", "A_1141_1", marked)
    ((image, finding),) = findings_of(read_ddsm(tmp_path, n_workers=0))
    assert finding.box == (20, 20, 25, 24)
    assert rle_of(finding.outline, image.height, image.width).area == 20
    assert box_of(finding.outline) == finding.box


# COCO


def test_outlines_survive_the_annotation_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_coco(path, [outlined_record(), record(2)], {1: "malignant"}, {})
    (entry,) = json.loads(path.read_text())["annotations"]
    assert entry["segmentation"] == [[10.0, 10.0, 40.0, 12.0, 30.0, 50.0]]
    assert entry["area"] == rle_of((RING,), 128, 128).area
    read = read_coco(path, check_files=False)
    assert read.records[0].findings[0].outline == (RING,)


def test_files_without_outlines_stay_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_coco(path, [record(1, boxes=[(1.0, 2.0, 5.0, 9.0)])], {1: "malignant"}, {})
    (entry,) = json.loads(path.read_text())["annotations"]
    assert list(entry) == [
        *("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
        *("pathology", "lesion_id", "source", "score"),
    ]
    assert entry["area"] == 28


def test_run_lengths_are_read_and_written_as_polygons(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_coco(path, [outlined_record()], {1: "malignant"}, {})
    document = json.loads(path.read_text())
    mask = rle_of((RING,), 128, 128)
    document["annotations"][0]["segmentation"] = mask.to_json()
    path.write_text(json.dumps(document))
    (finding,) = read_coco(path, check_files=False).records[0].findings
    assert rle_of(finding.outline, 128, 128) == mask


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[1, 1, 5, 5]], "annotation 100: 'segmentation' has a polygon of 4 numbers"),
        ([[10, 10, 40, 40, 40, 10, 10, 40]], "annotation 100 of image 1: .* crosses itself"),
        ([[10, 10, 400, 12, 30, 50]], "leaves its image, which is 128 wide and 128 high"),
        ({"size": [9, 9], "counts": [81]}, "is a mask of 9 x 9 pixels .* its image has 128 x 128"),
        (
            {"size": [128, 128], "counts": [128 * 128]},
            "annotation 100: .* is a mask without a pixel",
        ),
        ("mask.png", "must be polygons"),
    ],
)
def test_bad_outlines_are_refused_with_a_remedy(
    tmp_path: Path, segmentation: Any, words: str
) -> None:
    path = tmp_path / "a.json"
    write_coco(path, [outlined_record()], {1: "malignant"}, {})
    document = json.loads(path.read_text())
    document["annotations"][0]["segmentation"] = segmentation
    path.write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match=words) as raised:
        read_coco(path, check_files=False)
    assert "leave the key out" in str(raised.value)
    refused: list[AnnotationError] = []
    read_coco(path, check_files=False, refused=refused)
    assert len(refused) == 1


# Preparing


_INFO = {"description": "films with outlines", "reference": "made for this test"}


def test_outlines_are_simplified_or_dropped(tmp_path: Path) -> None:
    steps = tuple((10.0 + 0.5 * (n // 2), 10.0 + 0.5 * ((n + 1) // 2)) for n in range(40))
    staircase = ((*steps, (10.0, 40.0)),)
    data = SourceData((outlined_record(staircase), record(2)), {1: "malignant"}, _INFO, ())
    kept = outlined(data, OutlineOptions())
    (finding,) = kept.records[0].findings
    assert len(finding.outline[0]) < 6
    assert fits(finding.outline, finding.box)
    said = "of 1 of 1 findings, simplified by at most 0.5 px"
    assert kept.info == {**_INFO, "outlines": said}
    exact = outlined(data, OutlineOptions(simplify_px=0.0))
    assert len(exact.records[0].findings[0].outline[0]) == 41
    assert exact.info == {**_INFO, "outlines": "of 1 of 1 findings, as drawn"}
    dropped = outlined(data, OutlineOptions(outlines="drop"))
    assert dropped.records[0].findings[0].outline == ()
    assert dropped.info == _INFO
    nothing = SourceData((record(1), record(2)), {}, _INFO, ())
    assert outlined(nothing, OutlineOptions()) is nothing


def test_an_outline_that_is_not_its_box_s_is_left_out_and_named() -> None:
    made = outlined_record()
    moved = dataclasses.replace(made.findings[0], box=(10.0, 10.0, 40.0, 53.0))
    data = SourceData((dataclasses.replace(made, findings=(moved,)),), {}, _INFO, ())
    kept = outlined(data, OutlineOptions())
    assert kept.records[0].findings[0].outline == ()
    assert kept.notes == ("1 outline whose box is not the finding's, left out, of: image1.png",)


def test_no_more_than_half_a_pixel_is_saved() -> None:
    with pytest.raises(ConfigError, match=r"--simplify-px is 0\.7"):
        OutlineOptions(simplify_px=0.7)


def test_outlines_move_with_a_prepared_picture(tmp_path: Path) -> None:
    """Against the mask drawn into the source and prepared likewise."""
    outline = ellipse_in((20.0, 30.0, 60.0, 90.0))
    made = outlined_record(outline)
    pixels = np.full((128, 128), 30, np.uint8)
    pixels[:, 100:] = 0
    pixels[rle_of(outline, 128, 128).to_array()] = 240
    source = tmp_path / "source.png"
    cv2.imwrite(str(source), pixels)
    made = dataclasses.replace(made, path=source, file_name=source.name)
    settings = CacheSettings(8, InputSettings((64, 64)))
    target = tmp_path / "out" / "image.png"
    cached = cache_images([made], {1: target}, settings, fingerprint=lambda text: text, n_workers=0)
    (stored,) = cached.records
    assert stored.prepared is not None
    picture = cv2.imread(str(target), cv2.IMREAD_GRAYSCALE)
    inside = rle_of(stored.findings[0].outline, stored.height, stored.width).to_array()
    bright = picture > 135
    assert (inside & bright).sum() / (inside | bright).sum() > 0.93
    assert fits(stored.findings[0].outline, stored.findings[0].box)


# Phantoms


def test_phantom_margins_lie_in_their_boxes() -> None:
    preset = PRESETS["tiny"]
    n_benign = n_malignant = 0
    for exam in draw_exams(preset, 0):
        for laterality, view in VIEWS_OF_EXAM:
            for mass in exam.masses(laterality, view):
                outline = stored_outline(mass, laterality, view, preset)
                box = stored_box(mass, laterality, view, preset)
                assert len(outline[0]) == 360
                assert problem_of(outline, preset.rows, preset.columns) is None
                if mass.pathology is Pathology.BENIGN:  # no spicules: the box is the core's
                    n_benign += 1
                    assert fits(outline, box)
                else:
                    n_malignant += 1
                    x1, y1, x2, y2 = box_of(outline)
                    assert x1 >= box[0] - 1
                    assert y1 >= box[1] - 1
                    assert x2 <= box[2] + 1
                    assert y2 <= box[3] + 1
    assert n_benign
    assert n_malignant


def test_phantom_files_with_outlines_are_those_without_and_them() -> None:
    preset = PRESETS["tiny"]
    exams = draw_exams(preset, 0)
    plain = annotation_file(exams, preset, 0, split="train")
    with_outlines = annotation_file(exams, preset, 0, split="train", outlined=True)
    assert with_outlines["images"] == plain["images"]
    assert len(plain["annotations"]) > 2
    for one, other in zip(plain["annotations"], with_outlines["annotations"], strict=True):
        assert "segmentation" not in one
        own = {"segmentation", "area"}
        assert {k: v for k, v in other.items() if k not in own} == {
            k: v for k, v in one.items() if k not in own
        }
        assert 0 < other["area"] < one["area"]


def test_outlines_need_a_complete_phantom_set(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no complete phantom data set"):
        write_outlined(tmp_path)
