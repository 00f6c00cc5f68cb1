"""The measurement of several processes against one."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import preparation as preparation_speed
from simfrcnn.records import ImageRecord
from support.tools import run_tool


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation_speed, "SHAPE", (80, 60))


@pytest.mark.usefixtures("small")
def test_the_start_of_processes_does_not_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def seconds(_record: ImageRecord, _folder: Path, n_images: int, n_workers: int) -> float:
        return 100 * (n_workers - 1) + n_images / (4 * n_workers)

    monkeypatch.setattr(preparation_speed, "_seconds", seconds)
    assert run_tool(monkeypatch, "benchmark", "--preparation", "3") == 0
    printed = capsys.readouterr().out
    assert "| 1 | 4.00 | 1 |" in printed
    assert "| 3 | 12.00 | 3.00 |" in printed


@pytest.mark.usefixtures("small")
def test_images_are_really_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def count(*words: object, **options: object) -> object:
        made.append(preparation_speed_cache(*words, **options))
        return made[-1]

    preparation_speed_cache = preparation_speed.cache_images
    monkeypatch.setattr(preparation_speed, "cache_images", count)
    record = preparation_speed.noise_record(tmp_path)
    assert preparation_speed._seconds(record, tmp_path, 3, 0) > 0
    assert [(cached.n_made, cached.unreadable) for cached in made] == [(3, ())]
    assert [path.name for path in tmp_path.iterdir()] == ["view.dcm"]


def test_one_process_or_no_config_is_no_measurement(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_tool(monkeypatch, "benchmark", "--preparation", "1") == 2
    assert "at least 2" in capsys.readouterr().err
    assert run_tool(monkeypatch, "benchmark") == 2
    assert "--config-file" in capsys.readouterr().err
