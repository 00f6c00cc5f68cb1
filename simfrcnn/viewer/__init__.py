"""One exam on a page: the viewer that the report and `simfrcnn serve` share.

``viewer.js`` hangs the views, draws pixels under a window and boxes over them; ``viewer.css`` is
its style. Neither fetches anything: whoever shows an exam gives it the pixels.
"""

from __future__ import annotations

from pathlib import Path

_FILES = Path(__file__).parent


def viewer_file(name: str) -> str:
    """``viewer.js`` or ``viewer.css``, with the line ends that a reader of the page sees."""
    return (_FILES / name).read_text("utf-8").replace("\r\n", "\n")
