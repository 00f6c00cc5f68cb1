"""The console command: quick help, one table of verbs, the same command in three ways."""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from simfrcnn.cli import main as command
from simfrcnn.cli.main import VERBS, main
from support.commands import ROOT

CLI = ROOT / "simfrcnn" / "cli"


def cpu_seconds_of(*words: str) -> float:
    """The CPU time of a Python process: the least of three, as other processes may disturb it."""
    times = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        after = os.times()
        times.append(
            after.children_user
            - before.children_user
            + after.children_system
            - before.children_system
        )
    return min(times)


@pytest.mark.parametrize("verb", VERBS)
def test_the_table_of_verbs_says_what_their_modules_say(verb: str) -> None:
    tree = ast.parse((CLI / f"{verb.replace('-', '_')}.py").read_text(encoding="utf-8"))
    assert VERBS[verb] == (ast.get_docstring(tree) or "").splitlines()[0]


def test_the_table_holds_every_verb() -> None:
    verbs = set()
    for path in CLI.glob("*.py"):
        functions = {
            node.name
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef)
        }
        if {"add_arguments", "run"} <= functions:
            verbs.add(path.stem.replace("_", "-"))
    assert verbs == set(VERBS)


def options_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Of a verb and of the verbs below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from options_of(below)
        else:
            yield action


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_explains_every_option_with_its_default_and_how_several_are_given(
    verb: str,
) -> None:
    parser = argparse.ArgumentParser(prog=verb)
    command._add_verb(parser, command._module(verb))
    for action in options_of(parser):
        assert action.help, f"{verb} {action.dest}"
        if isinstance(action, argparse._AppendAction):
            assert action.help.count("several times") == 1, f"{verb} {action.dest}"
        if action.default not in (None, False, argparse.SUPPRESS, [], ()):
            assert "default" in action.help, f"{verb} {action.dest}"


def test_the_help_says_how_a_list_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["node", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "AE titles that may call; others are rejected; several are joined by commas" in said
    assert "without it, pull sends to its source; may be given several times" in said
    assert "it listens on; must be given; legal: a number in [1, 65535] --address" in said
    assert "for the owner alone; must be given (default: none) --weights" in said


def test_the_help_is_quick() -> None:
    bare = cpu_seconds_of("-c", "pass")
    assert cpu_seconds_of("-c", "import simfrcnn") - bare < 0.2
    assert cpu_seconds_of("-m", "simfrcnn", "--help") < max(0.3, bare + 0.25)


def test_the_help_imports_no_verb() -> None:
    code = (
        "import sys\nfrom simfrcnn.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'cv2', 'yaml', 'matplotlib', 'tqdm', 'pydicom'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize("way", [["-m", "simfrcnn"], ["-m", "simfrcnn.cli.main"]])
def test_the_command_runs_as_a_module(way: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *way, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("simfrcnn ")


def test_an_unknown_verb_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["evalute"])
    assert left.value.code == 2
    assert "invalid choice: 'evalute'" in capsys.readouterr().err


def test_windows_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_PLATFORM", "win32")
    assert main(["--help"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: simfrcnn runs on Linux and macOS")


def test_an_interrupt_while_libraries_load_is_said_in_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(verb: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_module", interrupted)
    assert main(["show", "model.pth"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    with pytest.raises(SystemExit) as ended:
        command.run_tool("show")
    assert ended.value.code == 130
