"""Where mkdocs finds the hooks: it loads a file, and these are a package."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from docs_site.hooks import on_files, on_page_markdown  # noqa: E402

__all__ = ["on_files", "on_page_markdown"]
