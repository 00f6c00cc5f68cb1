"""How do text, tables and pictures become a Markdown page, and the same an HTML page?

Sections are plain data; neither writer knows what they are about.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DISCLAIMER = (
    "simfrcnn is research software. It is not a medical device and must not be used for diagnosis."
)


@dataclass(frozen=True)
class Table:
    """Rows of text under column names; ``caption`` stands above it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Tables:
    """Small tables: side by side where there is room."""

    tables: Sequence[Table]


@dataclass(frozen=True)
class Picture:
    """A picture of the report: its file beside the page, and what it shows."""

    file_name: str
    caption: str


@dataclass(frozen=True)
class Drawn:
    """What only HTML can show, by its name among the drawings; elsewhere ``instead``."""

    name: str
    instead: str | Table


Block = str | Table | Tables | Picture | Drawn | Sequence[str]


@dataclass(frozen=True)
class Section:
    """One part of the page."""

    heading: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """What a link within the page calls it."""
        return re.sub(r"[^a-z0-9]+", "-", self.heading.lower()).strip("-")


def markdown_page(title: str, sections: Sequence[Section]) -> str:
    """Sections as one Markdown page. What looks like a tag is shown, not obeyed."""
    parts = [f"# {_markdown_text(title)}"]
    for section in sections:
        parts.append(f"## {_markdown_text(section.heading)}")
        parts.extend(_markdown_block(block) for block in section.blocks)
    return "\n\n".join(part for part in parts if part) + "\n"


def html_sections(sections: Sequence[Section], drawings: Mapping[str, str]) -> str:
    """Sections as HTML; all text is escaped.

    Args:
        sections: In the order of the page.
        drawings: HTML of pictures and of what is :class:`Drawn`, by name. Taken as it is.
    """
    return "\n".join(
        f'<section id="{section.anchor}" aria-labelledby="{section.anchor}-heading">\n'
        f'<h2 id="{section.anchor}-heading">{html.escape(section.heading)}</h2>\n'
        + _html_blocks(section.blocks, drawings)
        + "\n</section>"
        for section in sections
    )


def _html_blocks(blocks: Sequence[Block], drawings: Mapping[str, str]) -> str:
    """Pictures that follow one another stand side by side where there is room."""
    parts = []
    for are_pictures, group in itertools.groupby(blocks, lambda b: isinstance(b, Picture)):
        content = "\n".join(html_block(block, drawings) for block in group)
        parts.append(f'<div class="charts">\n{content}\n</div>' if are_pictures else content)
    return "\n".join(parts)


def html_block(block: Block, drawings: Mapping[str, str]) -> str:
    """One block of a section as HTML (see :func:`html_sections`)."""
    if isinstance(block, str):
        kind = ' class="notice"' if block == DISCLAIMER else ""
        return f"<p{kind}>{html.escape(block)}</p>"
    if isinstance(block, Picture):
        return drawings[block.file_name]
    if isinstance(block, Drawn):
        return drawings[block.name]
    if isinstance(block, Table):
        return _html_table(block)
    if isinstance(block, Tables):
        return '<div class="tables">' + "\n".join(map(_html_table, block.tables)) + "</div>"
    items = "".join(f"<li>{html.escape(item)}</li>" for item in block)
    return f"<ul>{items}</ul>"


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
    return "\n".join(f"- {_markdown_text(item)}" for item in block)


def _markdown_text(text: str) -> str:
    return text.replace("<", "&lt;")


def _markdown_cell(text: str) -> str:
    return _markdown_text(text).replace("|", "\\|").replace("\n", " ")


# 0.912 (0.853-0.957): the interval goes below the value.
_VALUE_WITH_INTERVAL = re.compile(r"([+-]?\d+\.\d+) \(([^()]+)\)")
_NUMBER = re.compile(r"-?[\d.,]+%?( to -?[\d.]+)?|-|undefined")


def _html_table(table: Table) -> str:
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.columns)
    rows = "\n".join("<tr>" + "".join(map(_html_cell, row)) + "</tr>" for row in table.rows)
    name = html.escape(table.caption or f"table of {table.columns[0]}")
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{name}"><table>{caption}'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _html_cell(text: str) -> str:
    with_interval = _VALUE_WITH_INTERVAL.fullmatch(text)
    if with_interval:
        value, interval = with_interval.groups()
        return f'<td class="number">{value} <small>{html.escape(interval)}</small></td>'
    kind = ' class="number"' if _NUMBER.fullmatch(text) else ""
    return f"<td{kind}>{html.escape(text)}</td>"
