"""Patches: where they lie, what they say, and that their scale is that of the detector's input."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from simfrcnn import outlines
from simfrcnn.artifacts import write_detections
from simfrcnn.cli.main import main
from simfrcnn.data import patches
from simfrcnn.data.coco import read_coco, write_coco
from simfrcnn.data.patches import Patch, PatchSettings, PatchSources
from simfrcnn.data.splits import assert_no_patient_leak
from simfrcnn.errors import ConfigError, DataError, OutputError
from simfrcnn.images.reading import read_image
from simfrcnn.outlines import rle_of
from simfrcnn.records import Finding, ImageRecord, Pathology, Supervision
from simfrcnn.workflows.patches import prepare_patches
from support.evaluation_examples import found
from support.outlined import ellipse_in

SETTINGS = PatchSettings(side=32, per_finding=10)
HERE = PatchSources(workers=0)
SIZE = (120, 100)
BOXES = [(20.0, 30.0, 44.5, 52.0), (2.0, 2.0, 14.0, 30.0), (90.0, 100.0, 99.5, 119.0)]


def covered(box: Any, patch: Patch) -> float:
    x1, y1, x2, y2 = patch.square
    width = min(x2, box[2]) - max(x1, box[0])
    height = min(y2, box[3]) - max(y1, box[1])
    return max(width, 0) * max(height, 0) / ((box[2] - box[0]) * (box[3] - box[1]))


# Rectangles


@pytest.mark.parametrize("seed", range(4))
def test_a_patch_of_a_finding_holds_nine_tenths_of_it_and_lies_in_the_image(seed: int) -> None:
    settings = dataclasses.replace(SETTINGS, seed=seed)
    made = patches.finding_patches(BOXES, SIZE, settings, "7")
    assert len(made) == 30
    for number, patch in enumerate(made):
        assert covered(BOXES[number // 10], patch) >= 0.9
        assert 0 <= patch.x <= SIZE[1] - 32
        assert 0 <= patch.y <= SIZE[0] - 32
    assert len({(p.x, p.y) for p in made[:10]}) > 3
    assert {p.turns for p in made} == {0, 1}


def test_places_depend_on_seed_and_image_alone() -> None:
    once = patches.finding_patches(BOXES, SIZE, SETTINGS, "7")
    assert patches.finding_patches(BOXES, SIZE, SETTINGS, "7") == once
    assert patches.finding_patches(BOXES, SIZE, SETTINGS, "8") != once
    other = dataclasses.replace(SETTINGS, seed=1)
    assert patches.finding_patches(BOXES, SIZE, other, "7") != once
    mask = np.ones(SIZE, dtype=bool)
    ground = patches.background_patches(9, BOXES, mask, SETTINGS, "7")
    assert patches.background_patches(9, BOXES, mask, SETTINGS, "7") == ground


def test_a_box_larger_than_the_side_is_shown_in_its_centre_once_a_turn() -> None:
    made = patches.finding_patches([(10.0, 20.0, 70.0, 50.0)], SIZE, SETTINGS, "7")
    assert made == [Patch(24, 19, 32, "finding", turn, True) for turn in (0, 1)]


def test_background_meets_no_box_and_is_mostly_breast() -> None:
    mask = np.zeros(SIZE, dtype=bool)
    mask[:, :50] = True
    made = patches.background_patches(20, BOXES, mask, SETTINGS, "7")
    assert len(made) == 20
    for patch in made:
        assert all(covered(box, patch) == 0 for box in BOXES)
        part = mask[patch.y : patch.y + 32, patch.x : patch.x + 32]
        assert part.mean() >= 0.5
    assert patches.background_patches(3, BOXES, np.zeros(SIZE, bool), SETTINGS, "7") == []
    assert patches.background_patches(3, [], np.ones((31, 99), bool), SETTINGS, "7") == []
    assert patches.background_patches(3, [(0, 0, 100, 120)], mask, SETTINGS, "7") == []


def test_the_worst_wrong_detections_of_all_images_each_place_once() -> None:
    wrong = {
        "a": [(0.5, (0.0, 0.0, 10.0, 10.0)), (0.9, (1.0, 0.0, 11.0, 10.0))],
        "b": [(0.7, (50.0, 50.0, 60.0, 60.0)), (0.1, (0.0, 0.0, 9.0, 9.0))],
    }
    assert patches.worst_places(wrong, 2) == {
        "a": [(1.0, 0.0, 11.0, 10.0)],
        "b": [(50.0, 50.0, 60.0, 60.0)],
    }
    assert sum(map(len, patches.worst_places(wrong, 9).values())) == 3
    hard = patches.hard_patches([(50.0, 50.0, 60.0, 61.0)], [], SIZE, SETTINGS, "b")
    assert [(p.x, p.y, p.kind) for p in hard] == [(39, 40, "hard")]
    assert patches.hard_patches([(22.0, 31.0, 40.0, 50.0)], BOXES, SIZE, SETTINGS, "b") == []


def test_shares_are_even_and_the_rest_is_by_lot() -> None:
    keys = [str(number) for number in range(7)]
    given = patches.shares(24, keys, 0)
    assert sorted(given.values()) == [3, 3, 3, 3, 4, 4, 4]
    assert patches.shares(24, keys[::-1], 0) == given
    assert patches.shares(24, keys, 1) != given
    assert patches.shares(3, [], 0) == {}


def test_turns_and_flips_are_the_eight_positions_of_a_square_each_once() -> None:
    pixels = np.arange(9, dtype=np.uint8).reshape(3, 3)
    seen = set()
    for turns in (0, 1):
        patch = Patch(0, 0, 3, "finding", turns).cut(pixels)
        for upside in (patch, patch[::-1]):
            seen |= {upside.tobytes(), upside[:, ::-1].tobytes()}
    assert len(seen) == 8


@pytest.mark.parametrize("turns", [0, 1])
def test_a_box_turns_with_its_pixels(turns: int) -> None:
    pixels = np.zeros((40, 50), dtype=np.uint8)
    pixels[12:20, 25:30] = 1  # reaches beyond the patch
    patch = Patch(8, 10, 20, "finding", turns)
    box = patch.moved((25.0, 12.0, 30.0, 20.0))
    ys, xs = np.nonzero(patch.cut(pixels))
    assert box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert patch.moved((27.5, 12.0, 30.0, 20.0)) is None  # half a pixel is left


def test_a_side_that_does_not_suit_is_refused() -> None:
    boxes = [(0.0, 0.0, 10.0 * n, 5.0) for n in range(1, 11)]
    with pytest.raises(ConfigError, match=r"is 70, and 3 of 10 .* at most 20% .* of 100 holds"):
        patches.require_fitting_side(boxes, [SIZE], 70)
    patches.require_fitting_side(boxes, [SIZE], 80)
    with pytest.raises(ConfigError, match="side is 101, but an input of the detector is 100"):
        patches.require_fitting_side(boxes, [SIZE, (200, 200)], 101)
    with pytest.raises(DataError, match="no image has a box that gives a patch"):
        patches.require_fitting_side([], [SIZE], 32)
    with pytest.raises(ConfigError, match="--side is 0; legal is at least 8"):
        PatchSettings(side=0)


# Files


def disc_set(folder: Path) -> Path:
    """Grey breasts of 400 x 300 px: two with a bright disc of 80 px, two normal, one unknown."""
    folder.mkdir(exist_ok=True)
    records = []
    for number in range(1, 6):
        pixels = np.zeros((400, 300), dtype=np.uint8)
        cv2.ellipse(pixels, (0, 200), (250, 190), 0, 0, 360, 90, -1)
        findings = ()
        if number <= 2:
            cv2.circle(pixels, (100, 160 + 40 * number), 40, 255, -1)
            top = 120.0 + 40 * number
            box = (60.0, top, 141.0, top + 81)
            disc = ellipse_in(box)
            findings = (Finding(box, "malignant", number, Pathology.MALIGNANT, outline=disc),)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
        kinds = [Supervision.BOXES, Supervision.NORMAL, Supervision.UNLABELLED]
        records.append(
            ImageRecord(
                image_id=10 * number,
                file_name=f"{number}.png",
                path=folder / f"{number}.png",
                height=400,
                width=300,
                patient_id=f"p{number}",
                exam_id=f"e{number}",
                supervision=kinds[(number - 1) // 2],
                pixel_spacing_mm=(0.2, 0.4),
                pathology=Pathology.MALIGNANT if findings else None,
                findings=findings,
                split="train",
            )
        )
    path = folder / "train.json"
    write_coco(path, records, {1: "malignant"}, {})
    return path


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The set, a detector's config whose input is half as large, and the patches."""
    folder = tmp_path_factory.mktemp("discs")
    source = disc_set(folder / "set")
    config = folder / "detector.yaml"
    config.write_text("INPUT:\n  MAMMO: {SIZE: [200, 150], CROP_TO_BREAST: False}\n")
    words = ["--dataset", f"d/train={source}", "--config-file", str(config), "--workers", "0"]
    out = folder / "patches"
    assert main(["prepare-patches", *words, "--side", "48", "--output", str(out)]) == 0
    return source, config, out


def test_patches_have_the_scale_of_the_detectors_input_and_their_boxes(
    discs: tuple[Path, Path, Path],
) -> None:
    records = read_coco(discs[2] / "train.json").records
    of_findings = [record for record in records if record.findings]
    assert len(of_findings) == 20
    for record in of_findings:
        bright = read_image(record.path) > 170
        ys, xs = np.nonzero(bright)
        is_whole = ys.min() > 0 and ys.max() < 47 and xs.min() > 0 and xs.max() < 47
        if is_whole:  # 81 px of the film are 40.5 px of the input
            assert abs(xs.max() - xs.min() + 1 - 40.5) <= 1
            assert abs(ys.max() - ys.min() + 1 - 40.5) <= 1
        x1, y1, x2, y2 = record.findings[0].box
        edges = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert np.abs(np.array([x1, y1, x2, y2]) - edges).max() <= 1
        assert sorted(record.pixel_spacing_mm or ()) == [0.4, 0.8]
    assert {r.pixel_spacing_mm for r in records} == {(0.4, 0.8), (0.8, 0.4)}


def test_outlines_go_with_their_patch_or_are_left_out(discs: tuple[Path, Path, Path]) -> None:
    findings = 0
    for record in read_coco(discs[2] / "train.json").records:
        for finding in record.findings:
            bright = read_image(record.path) > 170
            inside = rle_of(finding.outline, record.height, record.width).to_array()
            assert (bright & inside).sum() >= 0.93 * (bright | inside).sum()
            findings += 1
    assert findings == 20
    corner = Patch(x=0, y=0, side=32, kind="finding", turns=0)
    assert corner.moved_outline((((40.0, 1.0), (60.0, 1.0), (60.0, 20.0)),)) == ()
    turned = Patch(x=10, y=20, side=32, kind="finding", turns=1)
    (ring,) = turned.moved_outline((((12.0, 21.0), (16.0, 21.0), (16.0, 29.0)),))
    assert ring == ((1.0, 30.0), (1.0, 26.0), (9.0, 26.0))
    assert outlines.box_of((ring,)) == turned.moved((12.0, 21.0, 16.0, 29.0))


def test_what_is_known_of_a_patch_follows_from_its_image(discs: tuple[Path, Path, Path]) -> None:
    source, _, out = discs
    records = read_coco(out / "train.json").records
    kinds = [record.attributes["patch"] for record in records]
    assert (kinds.count("finding"), kinds.count("background")) == (20, 20)
    for record in records:
        number = int(record.path.name.split("_")[0]) // 10
        assert (record.patient_id, record.exam_id, record.split) == (
            f"p{number}",
            f"e{number}",
            "train",
        )
        is_finding = record.attributes["patch"] == "finding"
        assert record.label_of("malignant", ("malignant",)) is is_finding
        assert record.label_of("benign", ("malignant",)) is None
        assert record.is_known_normal(("malignant",)) is not is_finding
    assert {record.patient_id for record in records} == {"p1", "p2", "p3", "p4"}  # p5: unknown
    with pytest.raises(DataError):
        assert_no_patient_leak({"a": records, "b": read_coco(source).records})
    info = read_coco(out / "train.json").info["patches"]
    assert info["counts"] == {"finding": 20, "background": 20, "beyond": 0}
    assert info["source_sha256"] == read_coco(source).sha256


def test_what_is_smaller_than_a_pixel_passes_for_nothing_in_no_patch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 1.5 px, .75 in the detector's input: one on a disc, one alone."""
    source = disc_set(tmp_path / "set")
    box = (101.0, 200.0, 102.5, 201.5)
    specks = [Finding(box, "malignant", number, Pathology.MALIGNANT) for number in (77, 78)]
    given = read_coco(source).records
    records = [
        dataclasses.replace(record, findings=(*record.findings, speck), **facts)
        for record, speck, facts in (
            (given[0], specks[0], {}),
            (given[2], specks[1], {"supervision": Supervision.BOXES}),
        )
    ]
    write_coco(source, [*records, given[1]], {1: "malignant"}, {})
    config = tmp_path / "detector.yaml"
    config.write_text("INPUT:\n  MAMMO: {SIZE: [200, 150], CROP_TO_BREAST: False}\n")
    words = ["--dataset", f"d/train={source}", "--config-file", str(config), "--workers", "0"]
    with caplog.at_level("INFO", "simfrcnn"):
        out = tmp_path / "patches"
        assert main(["prepare-patches", *words, "--side", "48", "--output", str(out)]) == 0
    assert "2 boxes are hardly a pixel in the detector's input" in caplog.text
    made = read_coco(out / "train.json").records
    of_findings = [record for record in made if record.attributes["patch"] == "finding"]
    assert of_findings
    assert all(record.shows_target(("malignant",)) for record in of_findings)
    assert {record.patient_id for record in of_findings} == {"p2"}


def test_the_same_seed_makes_the_same_files(discs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    source, config, out = discs
    settings = PatchSettings(side=48)
    prepare_patches(f"d/train={source}", str(config), tmp_path / "again", settings, HERE)
    assert [(p.name, p.read_bytes()) for p in sorted((tmp_path / "again").rglob("*.*"))] == [
        (p.name, p.read_bytes()) for p in sorted(out.rglob("*.*"))
    ]


def test_hard_normals_are_half_of_the_background_at_most(
    discs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    source, config, _ = discs
    wrong = [((60, 150, 100, 190), 0.9), ((20, 250, 60, 290), 0.8), ((62, 150, 100, 190), 0.85)]
    write_detections(
        tmp_path / "d.json",
        [found(10, ((0, 0, 9, 9), 0.99)), found(20), found(30, *wrong), found(40), found(50)],
        categories={1: "malignant"},
    )
    settings = PatchSettings(side=48, per_finding=3)
    sources = PatchSources(detections=tmp_path / "d.json", workers=0)
    counts = prepare_patches(f"d/train={source}", str(config), tmp_path / "h", settings, sources)
    assert counts == {"finding": 6, "background": 4, "hard": 2, "beyond": 0}
    hard = [
        record
        for record in read_coco(tmp_path / "h" / "train.json").records
        if record.attributes["patch"] == "hard"
    ]
    assert {record.patient_id for record in hard} == {"p3"}
    assert all(record.supervision is Supervision.NORMAL for record in hard)


def test_hard_places_that_meet_a_box_are_replaced_before_they_are_counted(
    discs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """A benign box on a normal film: a detection on it is no background."""
    _, config, _ = discs
    source = disc_set(tmp_path / "set")
    given = list(read_coco(source).records)
    benign = Finding((60.0, 150.0, 100.0, 190.0), "benign", 77, Pathology.BENIGN)
    given[2] = dataclasses.replace(given[2], findings=(benign,))
    write_coco(source, given, {1: "malignant", 2: "benign"}, {})
    on_benign = [((60 + n, 150, 100 + n, 190), 0.9 - 0.1 * n) for n in (0, 3)]
    free = [((20, 250, 60, 290), 0.5), ((150, 200, 190, 240), 0.4), ((10, 100, 30, 120), 0.3)]
    write_detections(
        tmp_path / "d.json",
        [found(10), found(20), found(30, *on_benign), found(40, *free), found(50)],
        categories={1: "malignant"},
    )
    settings = PatchSettings(side=48, per_finding=2)
    sources = PatchSources(detections=tmp_path / "d.json", workers=0)
    counts = prepare_patches(f"d/train={source}", str(config), tmp_path / "h", settings, sources)
    assert counts == {"finding": 6, "background": 3, "hard": 3, "beyond": 0}
    records = read_coco(tmp_path / "h" / "train.json").records
    assert {r.patient_id for r in records if r.attributes["patch"] == "hard"} == {"p4"}


def test_normal_images_smaller_than_the_side_are_named_and_the_others_give_more(
    discs: tuple[Path, Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, config, _ = discs
    source = disc_set(tmp_path / "set")
    given = list(read_coco(source).records)
    cv2.imwrite(str(given[2].path), np.full((400, 60), 90, dtype=np.uint8))
    given[2] = dataclasses.replace(given[2], width=60)  # 200 x 30 in the detector's input
    write_coco(source, given, {1: "malignant"}, {})
    write_detections(
        tmp_path / "d.json",
        [found(10), found(20), found(30, ((0, 0, 30, 30), 0.9)), found(40), found(50)],
        categories={1: "malignant"},
    )
    sources = PatchSources(detections=tmp_path / "d.json", workers=0)
    settings = PatchSettings(side=48, per_finding=4)
    with caplog.at_level("INFO", "simfrcnn"):
        counts = prepare_patches(
            f"d/train={source}", str(config), tmp_path / "out", settings, sources
        )
    assert counts["finding"] == counts["background"] == 8
    assert counts["hard"] == 0
    assert "1 image without a box is smaller than --side 48" in caplog.text
    assert "gives no patch: 3.png; the others give more. A --side of 30 takes all in" in (
        caplog.text
    )


def test_bad_input_leaves_nothing(discs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    source, config, _ = discs
    data, place = f"d/train={source}", tmp_path / "out"
    with pytest.raises(ConfigError, match=r"is 16, and 2 of 2 boxes .* A side of 41 holds 95%"):
        prepare_patches(data, str(config), place, PatchSettings(side=16), HERE)
    with pytest.raises(ConfigError, match="side is 151, but an input of the detector is 150"):
        prepare_patches(data, str(config), place, PatchSettings(side=151), HERE)
    fewer = tmp_path / "fewer.json"
    write_detections(fewer, [found(10)], categories={1: "malignant"})
    sources = PatchSources(detections=fewer, workers=0)
    with pytest.raises(DataError, match="holds no result of image 20"):
        prepare_patches(data, str(config), place, PatchSettings(side=48), sources)
    content = json.loads(source.read_text())
    normal = source.with_name("normal.json")
    normal.write_text(json.dumps({**content, "annotations": [], "images": content["images"][2:]}))
    with pytest.raises(DataError, match="no image has a box"):
        prepare_patches(f"d/n={normal}", str(config), place, PatchSettings(side=48), HERE)
    assert not place.exists()
    place.mkdir()
    (place / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match="not a new or empty folder"):  # before images are read
        prepare_patches("d/none=none.json", str(config), place, PatchSettings(side=48), HERE)
