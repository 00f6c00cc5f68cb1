"""Every example in a docstring holds; those of public names are in test_doctests."""

import doctest
import importlib
import logging
from pathlib import Path

import pytest

import simfrcnn

ROOT = Path(simfrcnn.__file__).parent
PUBLIC = {getattr(getattr(simfrcnn, name), "__module__", None) for name in simfrcnn.__all__}


def with_examples():
    """The modules that hold an example and no public name."""
    for path in sorted(ROOT.rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            parts = path.relative_to(ROOT.parent).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            if name not in PUBLIC:
                yield name


@pytest.mark.torchvision
@pytest.mark.parametrize("name", [*with_examples()])
def test_the_examples_hold(name, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # A command that ran before in this process left a handler that prints.
    monkeypatch.setattr(logging.getLogger("simfrcnn"), "handlers", [])
    own = {"weights": tmp_path / "model_last.pth"}
    (tmp_path / "model_last.pth").touch()
    result = doctest.testmod(importlib.import_module(name), extraglobs=own)
    assert result.attempted > 0
    assert result.failed == 0
