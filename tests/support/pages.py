"""The blocks of the documents, and how they are run as they stand there.

A block is run unless a comment before it, which neither a code host nor the site shows, says why it
cannot be run here: ``<!-- not run: needs Slurm -->``. Of the languages

- ``sh`` are commands: those of simfrcnn run in this process, anything else in bash;
- ``python`` is a script; the names of a page's blocks are common to them;
- ``diff`` is applied to a copy of the package;
- ``text`` and ``bibtex`` are no commands;
- a block whose first line is a comment with a file's name, such as ``# clinic.yaml``, is that file.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.cli.main import main
from support.commands import ROOT

_FENCE = re.compile(r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?^```(?P<language>\w*)\n", re.M)
_FILE = re.compile(r"# (?P<name>[\w./-]+\.(?:yaml|csv|py))\n")
_PACKAGE = "simfrcnn/"


@dataclass(frozen=True)
class Block:
    """A fenced block: ``reason`` says why it is not run, ``line`` is that of its first line."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None = None

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that it is; None where it is something else."""
        named = _FILE.match(self.text)
        return named["name"] if named else None


def blocks_of(page: str, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page, all or those of one language, in order.

    Args:
        page: Below the top of the repository, such as ``docs/serve.md``.
        language: As it stands behind the fence.
    """
    return [block for block in _all_blocks(page) if language is None or block.language == language]


def block_of(page: str, language: str) -> str:
    """The text of the only block of that language."""
    (block,) = blocks_of(page, language)
    return block.text


def is_run(block: Block) -> bool:
    """Whether a block does anything here."""
    return block.reason is None and block.language not in ("text", "bibtex")


def run_page(page: str, folder: Path) -> None:
    """Run every block of a page, one after the other, in a folder that is the current one.

    Raises:
        AssertionError: A block fails; says which, and what it printed.
    """
    package = _Package(folder.with_name(f"{folder.name}_package"))
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if not is_run(block):
            continue
        if block.file is not None:
            is_of_package = block.file.startswith(_PACKAGE)
            path = (package.made() if is_of_package else folder) / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "diff":
            package.change(block)
        elif block.language == "python":
            _run_python(block, names, folder, package)
        elif block.language == "sh":
            _run_commands(block, folder, package)
        else:
            raise AssertionError(f"{block.place}: '{block.language}' is not run; say why")


def commands_of(text: str) -> list[str]:
    """The commands of a block, with lines that are continued joined and comments left out."""
    joined = text.replace("\\\n", " ").splitlines()
    return [line for line in joined if line.strip() and not line.lstrip().startswith("#")]


class _Package:
    """A copy of the package that a page changes, made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def is_changed(self) -> bool:
        return self.folder.exists()

    def made(self) -> Path:
        """The folder that holds the package."""
        if not self.is_changed:
            ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
            shutil.copytree(ROOT / "simfrcnn", self.folder / "simfrcnn", ignore=ignored)
        return self.folder

    def change(self, block: Block) -> None:
        """Apply a difference whose hunks say by their lines alone where they belong."""
        for name, hunks in _hunks_of(block.text):
            path = self.made() / name
            text = path.read_text(encoding="utf-8")
            for before, after in hunks:
                assert text.count(before) == 1, f"{block.place}: not once in {name}:\n{before}"
                text = text.replace(before, after)
            path.write_text(text, encoding="utf-8")

    def environment(self) -> dict[str, str]:
        """That of a process that uses the copy, if there is one."""
        if not self.is_changed:
            return dict(os.environ)
        paths = [str(self.folder), os.environ.get("PYTHONPATH", "")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _run_commands(block: Block, folder: Path, package: _Package) -> None:
    for command in commands_of(block.text):
        words = shlex.split(command, comments=True)
        if words[0] == "simfrcnn" and not package.is_changed and not {"|", ">"} & set(words):
            assert main(words[1:]) == 0, f"{block.place}: {command}"
            continue
        if words[0] == "simfrcnn":
            command = command.replace("simfrcnn", f"{shlex.quote(sys.executable)} -m simfrcnn", 1)
        _run(["bash", "-euc", command], block, folder, package)


def _run_python(block: Block, names: dict[str, object], folder: Path, package: _Package) -> None:
    if package.is_changed:
        _run([sys.executable, "-c", block.text], block, folder, package)
    else:
        exec(compile(block.text, block.place, "exec"), names)


def _run(words: list[str], block: Block, folder: Path, package: _Package) -> None:
    done = subprocess.run(
        words, cwd=folder, env=package.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{block.place}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


def _hunks_of(text: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Of each file of a difference: its name, and the lines of each hunk before and after."""
    for part in re.split(r"^--- a/.*\n\+\+\+ b/", text, flags=re.M)[1:]:
        name, _, rest = part.partition("\n")
        hunks = [
            hunk.splitlines(keepends=True) for hunk in re.split(r"^@@\n", rest, flags=re.M)[1:]
        ]
        yield (
            name,
            [
                (
                    "".join(line[1:] for line in hunk if line[0] in " -"),
                    "".join(line[1:] for line in hunk if line[0] in " +"),
                )
                for hunk in hunks
            ],
        )


def _all_blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    at = 0
    while opened := _FENCE.search(text, at):
        end = text.index("\n```", opened.end() - 1)
        yield Block(
            page=page,
            line=text.count("\n", 0, opened.end()) + 1,
            language=opened["language"],
            text=text[opened.end() : end + 1],
            reason=opened["reason"],
        )
        at = end + len("\n```")
