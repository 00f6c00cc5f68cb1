"""What mkdocs calls while it builds the site (``hooks`` in mkdocs.yml).

A page stays where it is and links as on a code host, to files outside ``docs/`` too: these become
pages of the site below ``repository/``, so that no link leads to nothing, also without the net.
"""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from docs_site.markdown import for_python_markdown, links_of, with_links
from docs_site.notebooks import notebook_page
from docs_site.reference import api_page, error_page

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = "repository/"
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "sh", ".cff": "yaml"}
_MADE = {"reference/api.md": api_page, "reference/errors.md": error_page}


def on_files(files: Files, *, config: Any) -> Files:
    """Add what is made from the source, the notebooks, and what pages link to outside ``docs/``."""
    for path, make in _MADE.items():
        files.append(File.generated(config, path, content=make()))
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        files.append(
            File.generated(config, f"notebooks/{notebook.stem}.md", content=notebook_page(notebook))
        )
    waiting = [
        place for file in files if file.is_documentation_page() if (place := _place_of(file))
    ]
    seen = set(waiting)
    while waiting:
        place = waiting.pop()
        for path in links_of((ROOT / place).read_text(encoding="utf-8")):
            target = _target(place, path)
            if target in seen or target.startswith("docs/") or not (ROOT / target).is_file():
                continue
            seen.add(target)
            files.append(_outside(target, config))
            if target.endswith(".md"):
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page for Python-Markdown, with links to where files lie on the site."""
    place = _place_of(page.file)
    if place is None:
        return markdown

    def moved(path: str) -> str:
        target = _target(place, path)
        if target.startswith("docs/"):
            address = target.removeprefix("docs/")
            if address.endswith(".ipynb"):
                address = str(Path(address).with_suffix(".md"))
        elif (ROOT / target).is_file():
            address = _address(target)
        else:
            return path  # mkdocs names it
        return posixpath.relpath(address, posixpath.dirname(page.file.src_uri) or ".")

    return for_python_markdown(with_links(markdown, moved))


def _place_of(file: File) -> str | None:
    """Where a page lies in the repository; None for what was made."""
    if file.src_uri.startswith(OUTSIDE):
        place = file.src_uri.removeprefix(OUTSIDE)
        return place if (ROOT / place).is_file() and place.endswith(".md") else None
    place = f"docs/{file.src_uri}"
    return place if (ROOT / place).is_file() else None


def _target(place: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(place), path))


def _address(target: str) -> str:
    """The page of a file outside ``docs/``; what is not text is given as it is."""
    is_page = target.endswith(".md") or not _is_text(target)
    return f"{OUTSIDE}{target}" if is_page else f"{OUTSIDE}{target}.md"


def _is_text(target: str) -> bool:
    try:
        (ROOT / target).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _outside(target: str, config: Any) -> File:
    path = ROOT / target
    if target.endswith(".md") or not _is_text(target):
        return File.generated(config, _address(target), abs_src_path=str(path))
    language = _LANGUAGES.get(path.suffix, "text")
    text = path.read_text(encoding="utf-8").rstrip()
    content = f"# `{target}`\n\n`````{language}\n{text}\n`````\n"
    return File.generated(config, _address(target), content=content)
