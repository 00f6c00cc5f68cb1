"""The pages of a ladder name files whatever their names are made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simfrcnn.ladder import report
from simfrcnn.ladder.plan import Ladder
from simfrcnn.ladder.results import LadderResult
from simfrcnn.settings import EvaluationSettings


def test_a_file_name_that_is_not_utf_8_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("draw_ladder_rocs", "draw_ladder_frocs", "draw_ladder_differences"):
        monkeypatch.setattr(report, name, lambda *_: b"picture")
    name = "M\udce4rz"
    ladder = Ladder(Path(f"{name}.yaml"), Path("c.yaml"), (0,), "sim", (), ())
    result = LadderResult(
        ladder, "torchvision", EvaluationSettings(), name, "0" * 64, (), (), (), {}, ()
    )
    page = report.write_ladder(tmp_path, result)
    assert "Ladder M\\udce4rz" in page.read_text("utf-8")
    document = json.loads((tmp_path / "ladder.json").read_text("utf-8"))
    assert document["ladder"]["file"] == f"{name}.yaml"
    assert document["test_set"]["name"] == name
