"""Which files below a folder are taken, and what is said of all that is not."""

from __future__ import annotations

import io
import json
import logging
import os
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from simfrcnn.data.coco import read_coco, write_coco
from simfrcnn.errors import DataError
from simfrcnn.files import as_json, write_json
from simfrcnn.images.finding import find_images, is_dicom, search_images
from simfrcnn.images.names import Finder
from simfrcnn.images.png import OVERLAY_KEYWORD, PREPARED_KEYWORD
from simfrcnn.images.reading import record_and_greys
from support.data_examples import write_dicom

GREY = np.random.default_rng(0).integers(0, 256, (24, 30), dtype=np.uint8)
PNG = cv2.imencode(".png", GREY)[1].tobytes()
NOT_UTF_8 = os.fsdecode(b"caf\xe9.png")
NFC, NFD = "\u00e9tude/brust_gro\u00df_\u00fc.png", "e\u0301tude/brust_gro\u00df_u\u0308.png"
MIXED = "\u00e9tude/brust_gro\u00df_u\u0308.png"


def with_text(keyword: str, text: str) -> bytes:
    about, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    about.add_text(keyword, text)
    Image.fromarray(GREY).save(stream, "PNG", pnginfo=about)
    return stream.getvalue()


def write_png(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PNG)
    return path


def test_a_folder_that_may_not_be_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The superuser may open everything, so the refusal is made here."""
    image = write_png(tmp_path / "open" / "a.png")
    write_png(tmp_path / "closed" / "b.png")
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = search_images(tmp_path)
    assert found.paths == (image,)
    assert [left_out.path for left_out in found.unreadable] == [tmp_path / "closed"]
    assert found.unreadable[0].message.endswith("closed: cannot be opened (Permission denied)")
    with pytest.raises(DataError, match=r"(?s)1 folder or file .*may be missing.*closed"):
        find_images(tmp_path)


def test_a_file_without_a_suffix_that_may_not_be_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png(tmp_path / "a.png")
    closed = write_dicom(tmp_path / "IM0001", GREY)
    real_open = open

    def refuse(path: Any, *rest: Any, **more: Any) -> Any:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *rest, **more)

    monkeypatch.setattr("builtins.open", refuse)
    assert [left_out.path for left_out in search_images(tmp_path).unreadable] == [closed]
    assert not is_dicom(closed)


def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    """Deeper than the system opens by a path; made by going down step by step."""
    write_png(tmp_path / "a.png")
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(22):
            os.mkdir("x" * 200)
            os.chdir("x" * 200)
        Path("deep.png").write_bytes(PNG)
    finally:
        os.chdir(before)
    found = search_images(tmp_path)
    assert found.paths == (tmp_path / "a.png",)
    (left_out,) = found.unreadable
    assert "File name too long" in left_out.message
    with pytest.raises(DataError, match="may be missing"):
        find_images(tmp_path)


def test_links_that_lead_nowhere_or_to_themselves_are_named(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png")
    (tmp_path / "gone.dcm").symlink_to(tmp_path / "archive" / "b.dcm")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "above").symlink_to(tmp_path)  # holds nothing that is not found anyhow
    found = search_images(tmp_path)
    assert found.paths == (tmp_path / "a.png",)
    assert [left_out.path.name for left_out in found.unreadable] == ["gone.dcm", "self"]
    assert "No such file" in found.unreadable[0].message


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    image = write_png(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe")
    assert search_images(tmp_path).paths == (image,)


def test_pictures_that_predict_drew_are_never_exams(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = write_png(tmp_path / "a.png")
    own = tmp_path / "out" / "image_00001.png"
    own.parent.mkdir()
    own.write_bytes(with_text(OVERLAY_KEYWORD, "exam 1"))
    prepared = tmp_path / "prepared.png"
    prepared.write_bytes(with_text(PREPARED_KEYWORD, "{}"))  # input like any other
    found = search_images(tmp_path)
    assert found.paths == (image, prepared)
    assert [left_out.path for left_out in found.own_output] == [own]
    with caplog.at_level(logging.WARNING, logger="simfrcnn"):
        assert find_images(tmp_path) == [image, prepared]
    assert "1 picture left out, drawn by simfrcnn predict" in caplog.text
    image.unlink()
    prepared.unlink()
    with pytest.raises(DataError, match="holds no image"):
        find_images(tmp_path)


def test_pictures_of_the_first_versions_are_known_by_the_results_beside_them(
    tmp_path: Path,
) -> None:
    image = write_png(tmp_path / "image_00001.png")  # no result beside it
    own = write_png(tmp_path / "out" / "image_00001.png")
    other = write_png(tmp_path / "out" / "scan.png")
    write_json(tmp_path / "out" / "exam_00001.json", {"provenance": {"simfrcnn": "0.1"}})
    theirs = write_png(tmp_path / "theirs" / "image_00001.png")
    write_json(tmp_path / "theirs" / "exam_00001.json", [1])
    found = search_images(tmp_path)
    assert found.paths == (image, other, theirs)
    assert [left_out.path for left_out in found.own_output] == [own]


@pytest.mark.parametrize(("on_disk", "asked"), [(NFC, NFD), (NFD, NFC), (NFC, NFC), (MIXED, NFC)])
def test_names_in_another_unicode_form_find_their_file(
    tmp_path: Path, on_disk: str, asked: str
) -> None:
    path = write_png(tmp_path / on_disk)
    finder = Finder(tmp_path)
    assert finder.resolve(asked) == finder.resolve(asked.replace("/", "\\")) == path
    assert list(finder.at(PurePosixPath(asked))) == list(finder.named(Path(asked).name)) == [path]
    assert Finder(tmp_path / "a").resolve(f"../{asked}") == path
    assert Finder(tmp_path / "a").resolve(str(tmp_path / asked)) == path


def test_a_name_on_the_disk_that_is_no_utf_8_is_found_by_its_letters(tmp_path: Path) -> None:
    path = write_png(tmp_path / NOT_UTF_8)
    assert Finder(tmp_path).resolve("cafe\u0301.png") == path
    assert Finder(tmp_path).resolve(NOT_UTF_8) == path


def test_of_two_files_that_look_alike_each_is_found_by_its_own_name(tmp_path: Path) -> None:
    for name in (NFC, NFD):
        write_png(tmp_path / name)
    names = Finder(tmp_path)
    assert names.resolve(NFC) == tmp_path / NFC
    assert names.resolve(NFD) == tmp_path / NFD
    assert len(names.at(PurePosixPath(MIXED))) == 2, "which of the two is not known"
    missing = names.resolve("\u00e9tude/\u00fc.png")
    assert missing.name == "\u00fc.png"
    assert Finder(tmp_path / "no").resolve("../x.png") == tmp_path / "x.png"


def test_names_that_are_no_utf_8_are_read_written_and_found_again(tmp_path: Path) -> None:
    path = write_png(tmp_path / NOT_UTF_8)
    (found,) = find_images(tmp_path)
    assert found == path
    record, greys = record_and_greys(found, 1)
    np.testing.assert_array_equal(greys.as_uint8(), GREY)
    assert record.patient_id.startswith("caf\udce9-")
    write_coco(tmp_path / "a.json", [record], {}, {})
    content = (tmp_path / "a.json").read_bytes().decode("utf-8")  # valid, or this raises
    assert "caf\\udce9.png" in content
    (read,) = read_coco(tmp_path / "a.json").records
    assert read.path.read_bytes() == PNG
    assert read.patient_id == record.patient_id
    (tmp_path / NOT_UTF_8).write_bytes(PNG[:-20])
    with pytest.raises(DataError) as raised:
        record_and_greys(path, 1)
    assert NOT_UTF_8 in str(raised.value)


def test_json_escapes_only_what_has_no_utf_8(tmp_path: Path) -> None:
    content = {"\u00e9": NOT_UTF_8, "back": "a\\udce9"}
    assert as_json(content, indent=None) == ('{"\u00e9": "caf\\udce9.png", "back": "a\\\\udce9"}\n')
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_bytes()) == content
