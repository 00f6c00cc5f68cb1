"""The pages that are made from the source: the API, and the index of error messages."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import simfrcnn
from simfrcnn import errors

PACKAGE = Path(simfrcnn.__file__).parent
_GIVEN = {
    "simfrcnn.exam": ("ImageResult", "Detection", "Call", "LeftOut"),
    "simfrcnn.evaluation.results": ("Report", "Figure"),
    "simfrcnn.workflows.training": ("TrainedRun",),
    "simfrcnn.workflows.prepare": ("Prepared",),
    "simfrcnn.data.coco": ("AnnotatedSet",),
    "simfrcnn.artifacts": ("DetectionFile",),
    "simfrcnn.dicom.mammogram": ("Mammogram",),
    "simfrcnn.records": ("ImageRecord", "Finding", "Box"),
}
"""What the public functions give."""


@dataclass(frozen=True)
class Message:
    """What an error says: ``text`` with ``…`` in place of what is filled in, and its module."""

    text: str
    kind: str
    module: str


def error_kinds() -> dict[str, type[errors.SimFrcnnError]]:
    """All errors that a user can act on, by name, the base first."""
    return {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.SimFrcnnError)
    }


def messages(package: Path = PACKAGE) -> list[Message]:
    """Every message that stands where its error is made, once, by its words.

    What is put together elsewhere (``raise DataError(text)``) cannot be read off the source and is
    left out.
    """
    found = {
        message
        for path in sorted(package.rglob("*.py"))
        for message in _of_file(path, _module_of(path, package))
    }
    return sorted(found, key=lambda message: (message.text.strip("… :").lower(), message.module))


def error_page() -> str:
    """The index of error messages, as Markdown."""
    by_kind: dict[str, list[Message]] = {}
    for message in messages():
        by_kind.setdefault(message.kind, []).append(message)
    parts = [
        "# Error messages\n",
        "Made from the source when this site was built. `…` stands for what is filled in: a "
        "file, a key, a number. Every message says what is legal and what to do; the search of "
        "this site finds it by any of its words. On the command line an error is one line after "
        "`error:`, and the exit code is 2.\n",
        "Not listed are messages that the program puts together from parts, such as those of "
        "values of config keys (`… is …; legal is …`).\n",
    ]
    for name, kind in error_kinds().items():
        if name in by_kind:
            summary = inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]
            parts += [f"## {name}\n", f"{summary}\n", "| message | from |", "| --- | --- |"]
            parts += [f"| {_cell(m.text)} | `{m.module}` |" for m in by_kind[name]]
            parts.append("")
    return "\n".join(parts)


def api_page() -> str:
    """The Python API, as Markdown for mkdocstrings: all public names, from their docstrings."""
    parts = [
        "# Python API\n",
        "Made from the docstrings. Every example runs in a test. Importing `simfrcnn` loads "
        "neither PyTorch nor a detection library.\n",
    ]
    for name in simfrcnn.__all__:
        value = getattr(simfrcnn, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            parts += _documented(f"{value.__module__}.{name}", f"simfrcnn.{name}")
    for module, names in _GIVEN.items():
        for name in names:
            parts += _documented(f"{module}.{name}", f"{module}.{name}")
    parts += ["## Errors\n", "::: simfrcnn.errors", "    options:", "      heading_level: 3", ""]
    return "\n".join(parts)


def _documented(path: str, title: str) -> list[str]:
    return [
        f"## `{title}`\n",
        f"::: {path}",
        "    options:",
        "      show_root_heading: false",
        "      show_root_toc_entry: false",
        "      heading_level: 3",
        "",
    ]


def _module_of(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def _of_file(path: Path, module: str) -> Iterator[Message]:
    kinds = error_kinds()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            text = _text_of(node.args[0]) if node.func.id in kinds else None
            if text and text.strip("… :,;."):
                yield Message(text, node.func.id, module)


def _text_of(node: ast.expr) -> str | None:
    """The words of a literal; None where there are none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = [_text_of(node.left), _text_of(node.right)]
        return "".join(side or "…" for side in sides) if any(sides) else None
    return None


def _cell(text: str) -> str:
    """As a cell of a table: nothing in it is Markdown or HTML."""
    escapes: Mapping[str, str] = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
    special = {character: f"\\{character}" for character in "\\`*_[]"}
    line = " ".join(text.split())
    return "".join({**escapes, **special}.get(character, character) for character in line)
