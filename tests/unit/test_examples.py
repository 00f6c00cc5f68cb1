"""The examples in docstrings run, and say what they say."""

import doctest
import importlib

import pytest

MODULES = ["described", "settings", "workflows.compare", "workflows.evaluate"]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_hold(name, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = doctest.testmod(importlib.import_module(f"simfrcnn.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
