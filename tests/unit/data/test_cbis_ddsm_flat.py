"""CBIS-DDSM under readable names: as many files after as before, and none overwritten."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pytest

from simfrcnn.cli import prepare_data
from simfrcnn.data.coco import read_coco
from simfrcnn.data.sources.cbis_ddsm.flat import reorganise
from simfrcnn.data.sources.cbis_ddsm.reader import read_cbis_ddsm
from simfrcnn.data.splits import assert_no_patient_leak
from simfrcnn.errors import ConfigError, DataError, OutputError
from support.cbis_examples import (
    LAYOUTS,
    ROWS,
    film_pixels,
    mask_pixels,
    place_of,
    write_download,
    write_image,
    write_tables,
)

NAMES = [
    "Calc/Test/Calc-Test_P_00003_RIGHT_MLO_CROP_1",
    "Calc/Test/Calc-Test_P_00003_RIGHT_MLO_FULL",
    "Calc/Test/Calc-Test_P_00003_RIGHT_MLO_MASK_1",
    "Calc/Train/Calc-Train_P_00002_RIGHT_CC_CROP_1",
    "Calc/Train/Calc-Train_P_00002_RIGHT_CC_FULL",
    "Calc/Train/Calc-Train_P_00002_RIGHT_CC_MASK_1",
    "Mass/Test/Mass-Test_P_00002_RIGHT_CC_CROP_1",
    "Mass/Test/Mass-Test_P_00002_RIGHT_CC_FULL",
    "Mass/Test/Mass-Test_P_00002_RIGHT_CC_MASK_1",
    "Mass/Train/Mass-Train_P_00001_LEFT_CC_CROP_1",
    "Mass/Train/Mass-Train_P_00001_LEFT_CC_CROP_2",
    "Mass/Train/Mass-Train_P_00001_LEFT_CC_FULL",
    "Mass/Train/Mass-Train_P_00001_LEFT_CC_MASK_1",
    "Mass/Train/Mass-Train_P_00001_LEFT_CC_MASK_2",
    "Mass/Train/Mass-Train_P_00001_LEFT_MLO_CROP_1",
    "Mass/Train/Mass-Train_P_00001_LEFT_MLO_FULL",
    "Mass/Train/Mass-Train_P_00001_LEFT_MLO_MASK_1",
]
N_TABLES = 4


def below(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".csv")
    return sorted(str(path.relative_to(folder)) for path in files)


def prepare(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    prepare_data.add_arguments(parser)
    given = ["cbis_ddsm", "--workers", "0", *map(str, arguments)]
    return prepare_data.run(parser.parse_args(given))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_that_can_be_read(tmp_path: Path, layout: str) -> None:
    root, out = write_download(tmp_path / "in", layout), tmp_path / "out"
    before = below(root)
    flat = reorganise(root, out, n_workers=0)
    suffix = ".jpg" if layout == "mirror" else ".dcm"
    assert below(out) == [name + suffix for name in NAMES]
    assert (flat.n_before, flat.n_after, flat.notes) == (17, 17, ())
    assert flat.n_copied == 17 + N_TABLES
    assert below(root) == before
    for row in ROWS:
        kind, split = row.kind.title(), row.split.title()
        stem = f"{kind}-{split}_{row.patient}_{row.side}_{row.view}"
        for what in ("CROP", "MASK"):
            copy = out / kind / split / f"{stem}_{what}_{row.number}{suffix}"
            assert copy.read_bytes() == place_of(root, row, what, layout).read_bytes()


def test_the_new_folder_is_a_download_itself(tmp_path: Path) -> None:
    root, out = write_download(tmp_path / "in"), tmp_path / "out"
    reorganise(root, out, sum_masks=True, n_workers=0)
    old, new = (read_cbis_ddsm(folder, n_workers=0) for folder in (root, out))
    assert [r.findings for r in new.records] == [r.findings for r in old.records]
    assert new.records[0].path == out / "Mass/Train/Mass-Train_P_00001_LEFT_CC_FULL.dcm"


def test_summed_masks(tmp_path: Path) -> None:
    root, out = write_download(tmp_path / "in"), tmp_path / "out"
    write_image(
        place_of(root, ROWS[1], "MASK", "first"), mask_pixels(ROWS[1], scale=2), ROWS[1].uid("MASK")
    )
    flat = reorganise(root, out, sum_masks=True, n_workers=0)
    assert flat.n_summed == 5
    path = out / "Mass/Train/Mass-Train_P_00001_LEFT_CC_MASK.png"
    summed = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(summed, mask_pixels(ROWS[0]) | mask_pixels(ROWS[1]))
    reorganise(root, out, sum_masks=True, n_workers=0)  # again: the same is there
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"MASK\.png is there already and differs from the sum"):
        reorganise(root, out, sum_masks=True, n_workers=0)
    assert path.read_bytes() == b"mine"


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    root, out = write_download(tmp_path / "in"), tmp_path / "out"
    reorganise(root, out, n_workers=0)
    (out / f"{NAMES[0]}.dcm").unlink()
    flat = reorganise(root, out, n_workers=0)
    assert (flat.n_copied, flat.n_after) == (1, 17)


@pytest.mark.parametrize("content", [b"short", None])
def test_no_other_file_is_overwritten(tmp_path: Path, content: bytes | None) -> None:
    root, out = write_download(tmp_path / "in"), tmp_path / "out"
    source = place_of(root, ROWS[0], "FULL", "first")
    target = out / "Mass/Train/Mass-Train_P_00001_LEFT_CC_FULL.dcm"
    target.parent.mkdir(parents=True)
    content = content or bytes(len(source.read_bytes()))
    target.write_bytes(content)
    with pytest.raises(OutputError, match=r"LEFT_CC_FULL\.dcm is there already and differs"):
        reorganise(root, out, n_workers=0)
    assert target.read_bytes() == content


def test_what_cannot_be_told_is_kept(tmp_path: Path) -> None:
    root, out = write_download(tmp_path / "in"), tmp_path / "out"
    write_image(root / "1.2.3.4.5.6" / "1-1.dcm", film_pixels(ROWS[0]), "1.2.3.4.5.6")
    place_of(root, ROWS[5], "FULL", "first").unlink()
    flat = reorganise(root, out, n_workers=0)
    assert (flat.n_before, flat.n_after) == (17, 17)
    others = [name for name in below(out) if name.startswith("Other/")]
    assert len(others) == 3  # the crop and mask of the film that is gone, and the stranger
    assert "Other/1.2.3.4.5.6/1-1.dcm" in others
    assert flat.notes[0].startswith("3 images that are no known film, crop or mask, in Other: ")


def test_two_files_of_one_name(tmp_path: Path) -> None:
    """Two abnormalities that share a mask's series, and films that share one."""
    root = write_download(tmp_path / "in")
    table = root / "mass_case_description_train_set.csv"
    table.write_text(table.read_text().replace(ROWS[2].uid("FULL"), ROWS[0].uid("FULL")))
    with pytest.raises(DataError, match=r"would be both|would both become"):
        reorganise(root, tmp_path / "out", n_workers=0)
    assert not (tmp_path / "out").exists()


def test_places_that_are_refused(tmp_path: Path) -> None:
    root = write_download(tmp_path / "in")
    for out in (root, root / "flat", tmp_path):
        with pytest.raises(OutputError, match="give an --out beside it"):
            reorganise(root, out, n_workers=0)
    with pytest.raises(DataError, match="holds no image"):
        reorganise(write_tables(tmp_path / "tables"), tmp_path / "out", n_workers=0)


# The command


def test_flat_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = write_download(tmp_path / "in"), tmp_path / "out"
    arguments = ("--root", root, "--out", out, "--layout", "flat", "--sum-masks")
    assert prepare(*arguments) == 0
    printed = capsys.readouterr().out
    assert f"17 images before, 17 after -> {out}" in printed
    assert "21 files copied now, 5 masks summed" in printed
    with pytest.raises(ConfigError, match="--kinds, --overwrite: is for annotation files"):
        prepare(*arguments, "--overwrite", "--kinds", "mass")
    with pytest.raises(ConfigError, match="--sum-masks: masks are summed with --layout flat only"):
        prepare("--root", root, "--out", tmp_path / "coco", "--sum-masks")


def test_the_published_division(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = write_download(tmp_path / "in"), tmp_path / "out"
    half = ("--fractions", "train=0.5", "val=0.5")
    assert prepare("--root", root, "--out", out, *half) == 0
    sets = {name: read_coco(out / f"{name}.json") for name in ("train", "val", "test")}
    patients = {name: {r.patient_id for r in data.records} for name, data in sets.items()}
    assert patients["test"] == {"P_00003"}
    assert patients["train"] | patients["val"] == {"P_00001", "P_00002"}
    assert_no_patient_leak({name: data.records for name, data in sets.items()})
    assert sets["test"].info["division"] == (
        "as published, its train part at random by patient, train=0.5 val=0.5"
    )
    assert sets["val"].records[0].split == "val"
    assert "note: CBIS-DDSM has no normal films" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--fractions test: that split is published"):
        prepare("--root", root, "--out", tmp_path / "b", "--fractions", "train=0.5", "test=0.5")


def test_a_random_division(tmp_path: Path) -> None:
    root, out = write_download(tmp_path / "in"), tmp_path / "out"
    whole = ("--split", "random", "--fractions", "train=1", "--copy")
    assert prepare("--root", root, "--out", out, *whole) == 0
    data = read_coco(out / "train.json")
    assert len(data.records) == 4
    assert data.info["division"] == "at random by patient, train=1"
    assert all(record.path.is_relative_to(out / "images") for record in data.records)
