"""Pages as a code host reads them -> as Python-Markdown reads them, so that both show the same.

A code host (CommonMark) lets a list or a table follow a line of text at once and indents what
belongs to an item by the width of its marker; Python-Markdown wants an empty line and four spaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_ITEM = re.compile(r"(\s*)([-*+]|\d{1,9}[.)])(\s+)\S")
_ROW = re.compile(r"\s*\|")
_LINK = re.compile(r"(\]\()([^()\s#]*)((?:#[^()\s]*)?\))")
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
_STEP = 4


def for_python_markdown(text: str) -> str:
    """The same page with empty lines before lists and tables, and nesting by four spaces.

    Example:
        >>> print(for_python_markdown("Two:\\n- one\\n  more\\n  - inner"))
        Two:
        <BLANKLINE>
        - one
            more
            - inner
    """
    return "\n".join(_lines(text.splitlines())) + ("\n" if text.endswith("\n") else "")


def _lines(lines: list[str]) -> Iterator[str]:
    columns: list[int] = []  # of the text of the open items, outermost first
    before = ""  # the kind of the line before: text, item, row, fence; empty after an empty line
    for line, part in _marked(lines):
        if part in ("inside", "closes"):
            yield _moved(line, columns)
            before = "fence"
            continue
        if not line.strip():
            yield line
            before = ""
            continue
        kind = _kind_of(line, part, before)
        indent = len(line) - len(line.lstrip())
        if kind != "goes on" and (kind, before) != ("text", "text"):
            while columns and indent < columns[-1]:
                columns.pop()
        if kind == "item" and indent - (columns[-1] if columns else 0) >= _STEP:
            kind = "text"  # four spaces are code, not an item
        if (kind == "item" and before in ("text", "row", "fence")) or (
            kind == "row" and before not in ("row", "")
        ):
            yield ""
        yield _moved(line, columns)
        if kind == "item":
            item = _ITEM.match(line)
            assert item is not None
            columns.append(item.end(3))
        before = "item" if kind == "goes on" else kind


def _kind_of(line: str, part: str, before: str) -> str:
    if part == "opens":
        return "fence"
    if _ITEM.match(line):
        return "item"
    if _ROW.match(line):
        return "row"
    return "goes on" if before == "item" else "text"


def _moved(line: str, columns: list[int]) -> str:
    """The line with four spaces for each open item in place of the width of its marker."""
    if not columns or not line.strip():
        return line
    indent = len(line) - len(line.lstrip())
    return " " * (_STEP * len(columns) + max(0, indent - columns[-1])) + line.lstrip()


def with_links(text: str, change: Callable[[str], str]) -> str:
    """The page with the path of every link changed; code and outer addresses stay as they are.

    Args:
        text: Markdown.
        change: A path as it stands in the page, without ``#...`` -> another.
    """
    return "\n".join(
        _with_links(line, change) if part == "outside" else line
        for line, part in _marked(text.split("\n"))
    )


def links_of(text: str) -> list[str]:
    """The paths to which a page links, without ``#...``, in order."""
    found: list[str] = []

    def note(path: str) -> str:
        found.append(path)
        return path

    with_links(text, note)
    return found


def _marked(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Each line, and whether it is outside of a fenced block, opens or closes one, or is inside."""
    fence = ""
    for line in lines:
        mark = _FENCE.match(line)
        if fence:
            closes = mark is not None and mark[1].startswith(fence) and line.strip() == mark[1]
            yield line, "closes" if closes else "inside"
            fence = "" if closes else fence
        else:
            yield line, "opens" if mark else "outside"
            fence = mark[1] if mark else ""


def _with_links(line: str, change: Callable[[str], str]) -> str:
    spans = [match.span() for match in _CODE.finditer(line)]

    def changed(match: re.Match[str]) -> str:
        path = match[2]
        is_code = any(start < match.start() < end for start, end in spans)
        if not path or is_code or re.match(r"[a-z]+:", path):
            return match[0]
        return f"{match[1]}{change(path)}{match[3]}"

    return _LINK.sub(changed, line)
