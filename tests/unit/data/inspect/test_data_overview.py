"""Anchors and statistics of a training set against values made by hand."""

import importlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import yaml

from simfrcnn.config import load_config
from simfrcnn.data.inspect.overview.anchors import (
    N_LEVELS,
    Anchors,
    best_iou,
    coverage,
    suggest_c4,
    suggest_fpn,
    suggest_ratios,
)
from simfrcnn.data.inspect.overview.fragment import fragment
from simfrcnn.data.inspect.overview.histograms import draw_histograms
from simfrcnn.data.inspect.overview.sheets import PictureTask as Task
from simfrcnn.data.inspect.overview.sheets import draw, evenly, sheet
from simfrcnn.data.inspect.overview.statistics import Statistics, measure_inputs
from simfrcnn.errors import DataError
from simfrcnn.records import Supervision
from simfrcnn.settings import InputSettings
from support.check_examples import BOX, HEIGHT, WIDTH, good_files, write_files
from support.examples import CONFIGS, ENGINE_PARAMETERS, engine_named, seeded_model

WHOLE = InputSettings((HEIGHT, WIDTH), crop_to_breast=False)


@pytest.fixture
def train(tmp_path):
    """The training records of the good set, on disk, and the pixels by path."""
    files = good_files(tmp_path)
    write_files(tmp_path, files)
    return files.sets["train"], files.pixels


def boxes_of(sizes, ratios, n_each=20):
    """Boxes (B, 2) about these sizes and ratios, a few per cent off."""
    rng = np.random.default_rng(0)
    size, ratio = (
        np.repeat(values, n_each * len(other)) for values, other in ((sizes, ratios),) * 2
    )
    ratio = np.tile(ratios, n_each * len(sizes))
    off = np.exp(rng.normal(0, 0.02, (2, len(size))))
    width, height = size / np.sqrt(ratio) * off[0], size * np.sqrt(ratio) * off[1]
    return np.stack([width, height], axis=1)


# Anchors


def test_anchors_are_the_clusters_of_the_boxes():
    anchors = suggest_c4(boxes_of([12, 25, 50, 100, 200], [0.5, 1.0, 2.0]))
    assert np.allclose(anchors.all_sizes, [12, 25, 50, 100, 200], rtol=0.03)
    assert np.allclose(anchors.ratios, [0.5, 1.0, 2.0], rtol=0.03)
    assert len(anchors.sizes) == 1


def test_boxes_that_are_all_alike_give_one_anchor():
    assert suggest_c4(np.full((7, 2), 31.0)) == Anchors(((31,),), (1.0,))


def test_a_ratio_is_height_over_width():
    assert suggest_ratios(np.array([[10.0, 20.0], [10.0, 20.0]])) == (2.0,)


@pytest.mark.parametrize("finest", [9, 16, 30])
def test_a_pyramid_doubles_from_the_size_that_fits(finest):
    sizes = [finest * 2**level for level in range(N_LEVELS)]
    anchors = suggest_fpn(boxes_of(sizes, [1.0]))
    assert len(anchors.sizes) == N_LEVELS
    assert np.allclose(anchors.all_sizes, sizes, rtol=0.07)
    assert all(b == 2 * a for (a,), (b,) in zip(anchors.sizes, anchors.sizes[1:], strict=False))


def test_overlap_by_hand():
    anchors = Anchors(((10,), (20,)), (1.0,))
    iou = best_iou(np.array([[10.0, 10.0], [10.0, 5.0], [40.0, 20.0]]), anchors)
    assert iou == pytest.approx([1.0, 0.5, 0.5])
    fit = coverage(np.array([[10.0, 10.0], [10.0, 5.0], [40.0, 20.0]]), anchors)
    assert (fit.mean_iou, fit.matched_share) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_overlap_with_an_oblong_anchor_by_hand():
    # Size 20 and ratio 4: 10 wide, 40 high. A box of 10 x 20 lies inside it.
    assert best_iou(np.array([[10.0, 20.0]]), Anchors(((20,),), (4.0,))) == pytest.approx([0.5])


# Statistics


def test_mean_and_deviation_are_those_of_the_pixels(train):
    records, pixels = train
    statistics = measure_inputs(records, WHOLE, ("malignant",), n_workers=0)
    everything = np.stack([pixels[record.path] for record in records]).astype(np.float64)
    assert statistics.n_images == len(records) == 16
    assert statistics.mean == pytest.approx(everything.mean())
    assert statistics.std == pytest.approx(everything.std())
    assert statistics.sides_px == pytest.approx(np.array([[BOX[2] - BOX[0], BOX[3] - BOX[1]]] * 4))


def test_boxes_are_measured_in_input_pixels(train):
    doubled = InputSettings((2 * HEIGHT, 3 * WIDTH), crop_to_breast=False, keep_aspect=False)
    sides = measure_inputs(train[0], doubled, ("malignant",), n_workers=0).sides_px
    assert sides[0] == pytest.approx([3 * (BOX[2] - BOX[0]), 2 * (BOX[3] - BOX[1])])


def test_images_that_do_not_train_are_not_measured(train):
    records, pixels = train
    records[1] = replace(records[1], supervision=Supervision.UNLABELLED)
    statistics = measure_inputs(records, WHOLE, ("malignant",), n_workers=0)
    trained = [record for record in records if record is not records[1]]
    assert statistics.n_images == 15
    assert statistics.mean == pytest.approx(np.mean([pixels[r.path] for r in trained]))


def test_a_set_without_a_box_of_the_classes_is_refused(train):
    with pytest.raises(DataError, match="a box of benign"):
        measure_inputs(train[0], WHOLE, ("benign",), n_workers=0)


# The fragment


STATISTICS = Statistics(
    n_images=4, greys=np.bincount([10, 30], minlength=256), sides_px=boxes_of([14, 30], [0.8, 1.2])
)


@pytest.mark.parametrize("heads", ["c4", "fpn"])
@pytest.mark.parametrize("name", ENGINE_PARAMETERS)
def test_a_config_takes_the_fragment_as_base_and_builds_its_anchors(name, heads, tmp_path):
    engine = engine_named(name)
    anchors = {"c4": suggest_c4, "fpn": suggest_fpn}[heads](STATISTICS.sides_px)
    settings = InputSettings((96, 64), crop_to_breast=True, keep_aspect=False)
    (tmp_path / "data.yaml").write_text(fragment(STATISTICS, anchors, settings, "mine", "abc"))
    (tmp_path / "windowed.yaml").write_text("INPUT: {MAMMO: {WINDOW: [40, 200]}}")
    bases = [str(CONFIGS / "smoke" / f"sim_r18_{heads}.yaml"), "windowed.yaml", "data.yaml"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"_BASE_": bases}))
    cfg = load_config(engine.default_cfg(), tmp_path / "mine.yaml", ["SEED", "0"])
    assert tuple(cfg.INPUT.MAMMO.SIZE) == (96, 64)
    assert cfg.INPUT.MAMMO.CROP_TO_BREAST is True
    assert cfg.INPUT.MAMMO.KEEP_ASPECT is False
    assert tuple(cfg.INPUT.MAMMO.WINDOW) == (0, 255)  # in which the mean was measured
    assert cfg.MODEL.PIXEL_MEAN == [20.0] * 3
    assert cfg.MODEL.PIXEL_STD == [10.0] * 3
    shapes = cell_shapes(name, seeded_model(engine, cfg))
    expected = [
        sorted((s / r**0.5, s * r**0.5) for s in level for r in anchors.ratios)
        for level in anchors.sizes
    ]
    assert len(shapes) == len(expected)
    for built, wanted in zip(shapes, expected, strict=True):
        assert np.array(built) == pytest.approx(np.array(wanted), rel=1e-5)


def cell_shapes(name, model):
    """(width, height) of the anchors of every level, as the engine's model has built them."""
    if name == "detectron2":
        cells = list(model.proposal_generator.anchor_generator.cell_anchors)
    else:
        generator = next(
            module
            for module in model.modules()
            if isinstance(
                module, importlib.import_module("simfrcnn.engines.torchvision.rpn").FloatAnchors
            )
        )
        generator.set_cell_anchors(torch.float32, torch.device("cpu"))
        cells = generator.cell_anchors
    return [sorted((cell[:, 2:] - cell[:, :2]).tolist()) for cell in cells]


def test_the_fragment_says_what_it_was_made_from():
    text = fragment(STATISTICS, suggest_c4(STATISTICS.sides_px), WHOLE, "mine/train", "abc")
    assert "mine/train" in text
    assert "4 training images with 80 boxes" in text
    assert "SHA-256 abc" in text
    assert max(map(len, text.splitlines())) <= 110


# Pictures


def decoded(png):
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def test_a_tile_shows_the_input_with_a_box_round_the_finding(train):
    records, pixels = train
    boxed = next(record for record in records if record.findings)
    drawn = draw(Task(boxed, InputSettings((256, 192), crop_to_breast=False), ("malignant",)))
    x1, y1, x2, y2 = (2 * int(edge) for edge in BOX)
    red = (drawn.tile == (60, 60, 255)).all(axis=2)
    rows, columns = np.nonzero(red)
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (x1 - 1, y1 - 1, x2, y2)
    assert not red[y1:y2, x1:x2].any()
    inside = drawn.tile[y1:y2, x1:x2, 0].astype(float)
    assert inside.mean() == pytest.approx(pixels[boxed.path][50:80, 30:56].mean(), abs=1)
    assert len(drawn.close_ups) == 1


def test_a_sheet_holds_all_tiles_and_a_legend():
    tiles = [np.full((30, 20, 3), 10 * number, np.uint8) for number in range(1, 11)]
    page = decoded(sheet(tiles, ("malignant", "benign")))
    legend = page.shape[0] - 2 * 34
    assert page.shape == (legend + 68, 8 * 24, 3)
    assert page[legend + 10, 5].tolist() == [10] * 3
    assert page[legend + 34 + 10, 24 + 5].tolist() == [100] * 3
    assert (page[:legend] == (60, 60, 255)).all(axis=2).any()


def test_images_are_chosen_from_the_whole_file():
    assert evenly(list(range(10)), 5) == [0, 2, 4, 6, 8]
    assert evenly([1, 2], 5) == [1, 2]


def test_the_histograms_are_a_picture_of_their_own():
    anchors = suggest_c4(STATISTICS.sides_px), suggest_fpn(STATISTICS.sides_px)
    first, second = (draw_histograms(STATISTICS, *anchors) for _ in range(2))
    assert first == second
    assert decoded(first).std() > 10
