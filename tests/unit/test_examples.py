"""The examples in docstrings run, and say what they say; those of public names: test_doctests."""

import doctest
import importlib
import logging

import pytest

MODULES = ["described", "settings", "workflows.export"]


@pytest.mark.torchvision
@pytest.mark.parametrize("name", MODULES)
def test_the_examples_hold(name, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # A command that ran before in this process left a handler that prints.
    monkeypatch.setattr(logging.getLogger("simfrcnn"), "handlers", [])
    result = doctest.testmod(importlib.import_module(f"simfrcnn.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
