"""How does text become part of an HTML page? By the templates of ``page_files``.

Whatever a template is given is escaped, but for what a template itself has made (``Markup``) and
our own files. A name in an annotation file therefore stays a name.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_FILES = Path(__file__).parent / "page_files"


def render(template: str, **values: Any) -> Markup:
    """A template of ``page_files`` with these values, as HTML that other templates do not escape.

    Args:
        template: Name of its file.
        values: By the names that the template gives them; all that it uses must be there.
    """
    from markupsafe import Markup

    return Markup(_environment().get_template(template).render(values))


def as_html(drawing: str) -> Markup:
    """A drawing that our own code has made of numbers alone, as HTML."""
    from markupsafe import Markup

    return Markup(drawing)


def page_file(name: str) -> Markup:
    """A file of ``page_files`` as it is, with the line ends that a reader of the page sees."""
    from markupsafe import Markup

    return Markup((_FILES / name).read_text("utf-8").replace("\r\n", "\n"))


def safe_json(content: Any) -> Markup:
    """JSON for a block of a page: nothing in it can end the block or begin a comment or tag."""
    from markupsafe import Markup

    text = json.dumps(content, allow_nan=False, separators=(",", ":"))  # ASCII only
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FILES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    return environment


def _fixed(value: float, n_digits: int) -> str:
    """So many digits after the point."""
    return f"{value:.{n_digits}f}"


def _short(value: float) -> str:
    return f"{value:g}"


_FILTERS: Mapping[str, Callable[..., Any]] = {
    "fixed": _fixed,
    "short": _short,
    "json": safe_json,
    "is_number": math.isfinite,
}
