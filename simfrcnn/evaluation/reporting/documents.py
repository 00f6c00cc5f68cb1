"""How do text, tables and pictures become a Markdown page, and the same an HTML page?

Sections are plain data; neither writer knows what they are about. The HTML is in
``page_files/sections.html``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from simfrcnn.evaluation.reporting.templates import render

if TYPE_CHECKING:
    from markupsafe import Markup

DISCLAIMER = (
    "simfrcnn is research software. It is not a medical device and must not be used for diagnosis."
)

# 0.912 (0.853-0.957): the interval goes below the value.
_VALUE_WITH_INTERVAL = re.compile(r"([+-]?\d+\.\d+) \(([^()]+)\)")
_STRONG = re.compile(r"\*\*([^*]+)\*\*")
_NUMBER = re.compile(r"-?[\d.,]+%?( to -?[\d.]+)?|-|undefined")


@dataclass(frozen=True)
class Table:
    """Rows of text under column names; ``caption`` stands above it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    kind: ClassVar[str] = "table"

    @property
    def name(self) -> str:
        """What a screen reader calls it."""
        return self.caption or f"table of {self.columns[0]}"


@dataclass(frozen=True)
class Tables:
    """Small tables: side by side where there is room."""

    tables: Sequence[Table]
    kind: ClassVar[str] = "tables"


@dataclass(frozen=True)
class Picture:
    """A picture of the report: its file beside the page, and what it shows."""

    file_name: str
    caption: str
    kind: ClassVar[str] = "picture"

    @property
    def name(self) -> str:
        """Its name among the drawings."""
        return self.file_name


@dataclass(frozen=True)
class Drawn:
    """What only HTML can show, by its name among the drawings; elsewhere ``instead``."""

    name: str
    instead: str | Table
    kind: ClassVar[str] = "drawn"


@dataclass(frozen=True)
class Links:
    """Pages beside this one, by what they are called."""

    pages: Mapping[str, str]
    kind: ClassVar[str] = "links"


Block = str | Table | Tables | Picture | Drawn | Links | Sequence[str]


@dataclass(frozen=True)
class Section:
    """One part of the page."""

    heading: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """What a link within the page calls it."""
        return re.sub(r"[^a-z0-9]+", "-", self.heading.lower()).strip("-")

    @property
    def groups(self) -> Iterator[Group]:
        """Its blocks; pictures that follow one another are a group."""
        by_kind = itertools.groupby(self.blocks, lambda block: isinstance(block, Picture))
        for are_pictures, blocks in by_kind:
            yield Group(are_pictures, tuple(blocks))


@dataclass(frozen=True)
class Group:
    """Blocks that stand together."""

    are_pictures: bool
    blocks: tuple[Block, ...]


def markdown_page(title: str, sections: Sequence[Section]) -> str:
    """Sections as one Markdown page. What looks like a tag is shown, not obeyed."""
    parts = [f"# {_markdown_text(title)}"]
    for section in sections:
        parts.append(f"## {_markdown_text(section.heading)}")
        parts.extend(_markdown_block(block) for block in section.blocks)
    return "\n\n".join(part for part in parts if part) + "\n"


def html_sections(sections: Sequence[Section], drawings: Mapping[str, Markup]) -> Markup:
    """Sections as HTML; all text is escaped.

    Args:
        sections: In the order of the page.
        drawings: HTML of pictures and of what is :class:`Drawn`, by name.
    """
    return render(
        "sections.html",
        sections=sections,
        drawings=drawings,
        cell_of=cell_of,
        disclaimer=DISCLAIMER,
    )


@dataclass(frozen=True)
class Cell:
    """A cell of a table in HTML: an interval goes below its value."""

    text: str
    interval: str = ""
    is_number: bool = False
    is_strong: bool = False


def cell_of(text: str) -> Cell:
    """How the text of a cell is shown."""
    with_interval = _VALUE_WITH_INTERVAL.fullmatch(text)
    if with_interval:
        value, interval = with_interval.groups()
        return Cell(value, interval, is_number=True)
    strong = _STRONG.fullmatch(text)
    if strong:
        return Cell(strong[1], is_strong=True)
    return Cell(text, is_number=bool(_NUMBER.fullmatch(text)))


def _markdown_block(block: Block) -> str:
    if isinstance(block, str):
        return _markdown_text(block)
    if isinstance(block, Picture):
        return f"![{_markdown_text(block.caption)}]({block.file_name})"
    if isinstance(block, Drawn):
        return _markdown_block(block.instead)
    if isinstance(block, Table):
        lines = [block.columns, ["---"] * len(block.columns), *block.rows]
        table = "\n".join("| " + " | ".join(map(_markdown_cell, line)) + " |" for line in lines)
        return f"{_markdown_text(block.caption)}\n\n{table}" if block.caption else table
    if isinstance(block, Tables):
        return "\n\n".join(map(_markdown_block, block.tables))
    if isinstance(block, Links):
        return "\n".join(
            f"- [{_markdown_text(name)}]({page})" for name, page in block.pages.items()
        )
    return "\n".join(f"- {_markdown_text(item)}" for item in block)


def _markdown_text(text: str) -> str:
    return text.replace("<", "&lt;")


def _markdown_cell(text: str) -> str:
    return _markdown_text(text).replace("|", "\\|").replace("\n", " ")
