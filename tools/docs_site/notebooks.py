"""A notebook as a page: text, code, and what the code printed and drew when it was executed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def notebook_page(path: Path) -> str:
    """The Markdown of a notebook, with a link to the file.

    Args:
        path: An executed notebook (nbformat 4).
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [part for cell in cells for part in _cell(cell)]
    title, *rest = parts
    return "\n\n".join([title, f"[The notebook]({path.name}), to run it yourself.", *rest]) + "\n"


def _cell(cell: Mapping[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"````python\n{source}\n````"
    for output in cell.get("outputs", []):
        yield from _output(output)


def _output(output: Mapping[str, Any]) -> Iterator[str]:
    data = output.get("data", {})
    picture = next((kind for kind in ("image/png", "image/jpeg") if kind in data), None)
    if picture:
        base64 = "".join(data[picture]).replace("\n", "")
        yield f'<img alt="" src="data:{picture};base64,{base64}">'
    elif text := "".join(output.get("text", data.get("text/plain", ""))):
        yield f"````text\n{text.rstrip()}\n````"
