"""The measurement of preparing a DICOM file against decoding it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from benchmarks import decoding as decode_cost
from benchmarks import steps
from simfrcnn.cli.main import run_program
from simfrcnn.images.reading import read_image


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_cost, "SHAPE", (120, 90))


def exit_code_of(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    """What `python tools/benchmark.py WORDS` ends with."""
    monkeypatch.setattr("sys.argv", ["benchmark.py", *words])
    with pytest.raises(SystemExit) as ended:
        run_program(steps)
    return ended.value.code


def test_the_table_is_made_of_medians_and_paired_ratios(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openjpeg")
    measured = [0.002, 0.004, 0.010], [0.004, 0.008, 0.010], [0.006, 0.008, 0.030]
    monkeypatch.setattr(decode_cost, "_measure", lambda _path, _n: measured)
    page = tmp_path / "page.md"
    assert exit_code_of(monkeypatch, "--decoding", "20", "--output", str(page)) == 0
    printed = capsys.readouterr().out
    assert "| 4.0 ms | 8.0 ms | 8.0 ms | 2.00 | 3.00 | 4 |" in printed
    assert "| 4.0 ms | 8.0 ms | 8.0 ms | 2.00 | 3.00 | 1.2 |" in printed
    assert page.read_text() in printed


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless])
def test_what_is_measured_is_done(tmp_path: Path, syntax: str) -> None:
    pytest.importorskip("openjpeg")
    path = decode_cost._write(tmp_path / "view.dcm", syntax)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    assert np.asarray(decode_cost._bare(path)).shape == (120, 90)
    assert read_image(path).std() > 20
    times = decode_cost._measure(path, 2)
    assert [len(each) for each in times] == [2, 2, 2]


def test_few_repeats_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(monkeypatch, "--decoding", "3") == 2
    assert "at least 20" in capsys.readouterr().err
