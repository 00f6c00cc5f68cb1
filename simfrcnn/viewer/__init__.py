"""One exam on a page: the viewer that the report and `simfrcnn serve` share.

``viewer.js`` hangs the views, draws pixels under a window and boxes over them; ``layers.js`` lays
over them what can be switched: heat maps, the squares of a second look, outlines. ``viewer.css`` is
their style. None fetches anything: whoever shows an exam gives it the pixels.
"""

from __future__ import annotations

from pathlib import Path

_FILES = Path(__file__).parent


VIEWER_FILES = ("viewer.js", "layers.js", "viewer.css")
"""Scripts in the order in which a page needs them."""


def viewer_file(name: str) -> str:
    """One of :data:`VIEWER_FILES`, with the line ends that a reader of the page sees."""
    return (_FILES / name).read_text("utf-8").replace("\r\n", "\n")
