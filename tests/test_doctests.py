"""Every public function and class has an example, and every example runs as it stands."""

from __future__ import annotations

import doctest
import importlib
import inspect
import logging
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

import simfrcnn
from support.studies import write_study

PUBLIC = {
    name: value
    for name in simfrcnn.__all__
    if inspect.isroutine(value := getattr(simfrcnn, name)) or inspect.isclass(value)
}


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the four views of one exam."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, 1)
    return folder


def stand_ins(test: doctest.DocTest, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What an example takes for granted: a trained model, and a folder to read."""
    words = {word for example in test.examples for word in re.findall(r"\w+", example.source)}
    fixtures = {"weights": "untrained", "study": "study"}
    return {
        word: request.getfixturevalue(fixture)
        for word, fixture in fixtures.items()
        if word in words
    }


def examples_of(name: str) -> list[doctest.DocTest]:
    """The examples in the docstring of a public name, and in those of a class's public methods."""
    value: Any = PUBLIC[name]
    module = importlib.import_module(value.__module__)
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(value, name, module=module, globs={"simfrcnn": simfrcnn, **vars(module)})
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_the_examples_of_a_public_name_run(
    name: str, tmp_path, monkeypatch, capsys, request
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))  # what examples leave
    monkeypatch.chdir(tmp_path)
    # A command that ran before in this process left a handler that prints.
    monkeypatch.setattr(logging.getLogger("simfrcnn"), "handlers", [])
    tests = examples_of(name)
    assert tests, f"simfrcnn.{name} has no example in its docstring"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        test.globs.update(stand_ins(test, request))
        report: list[str] = []
        runner.run(test, out=report.append)
        assert runner.failures == 0, "".join(report)
