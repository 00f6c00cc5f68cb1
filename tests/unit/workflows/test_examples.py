"""The examples in the docstrings of the workflows run and say what they say."""

import doctest
import importlib

import pytest


@pytest.mark.torchvision
@pytest.mark.parametrize("module", ["training", "export"])
def test_the_examples_hold(module, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    result = doctest.testmod(importlib.import_module(f"simfrcnn.workflows.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
