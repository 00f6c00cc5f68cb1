"""What can be refused early is: an output that cannot be written, and a small file's faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import simfrcnn
from simfrcnn.cli.main import main
from simfrcnn.errors import AnnotationError, ArtifactError, OutputError
from simfrcnn.workflows.inspect import AskedInput, show_data
from support.examples import write_tiny_set

GONE = Path("gone.json")


def shown(output: Path) -> None:
    show_data(str(GONE), {}, output, AskedInput(), ("malignant",))


@pytest.mark.parametrize(
    "made",
    [
        lambda place: simfrcnn.evaluate(GONE, GONE, output=place),
        lambda place: simfrcnn.evaluate(GONE, GONE, choose_operating_points=place),
        lambda place: simfrcnn.compare(GONE, {"a": GONE, "b": GONE}, output=place),
        lambda place: simfrcnn.prepare("folder", "gone", place),
        shown,
    ],
    ids=["evaluate", "operating points", "compare", "prepare", "show"],
)
def test_an_output_below_a_file(tmp_path: Path, made: Callable[[Path], Any]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write .*: a part of that path is a file"):
        made(tmp_path / "file" / "x")


def test_the_list_of_a_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(GONE), "--json", str(tmp_path)]) == 2
    assert f"cannot write {tmp_path}: that path is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["evaluate", "compare"])
def test_faults_of_small_files_come_before_those_of_pictures(tmp_path: Path, verb: str) -> None:
    annotations = write_tiny_set(tmp_path / "set")
    for picture in annotations.parent.glob("*.png"):
        picture.unlink()
    none = tmp_path / "none.json"
    none.write_text("[]")

    def judged(detections: Path) -> None:
        if verb == "evaluate":
            simfrcnn.evaluate(annotations, detections)
        else:
            simfrcnn.compare(annotations, {"a": detections, "b": none})

    with pytest.raises(ArtifactError, match=r"gone\.json"):
        judged(GONE)
    with pytest.raises(AnnotationError, match=r"6 of 6 image files are missing .*--no-images"):
        judged(none)
