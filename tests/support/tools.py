"""Running a tool as its user does, without the cost of another process."""

from __future__ import annotations

import runpy
import sys

import pytest

from support.commands import ROOT


def run_tool(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> int:
    """The exit code of ``python tools/NAME.py ARGUMENTS``."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "tools" / f"{name}.py"), run_name="__main__")
    assert isinstance(left.value.code, int)
    return left.value.code
