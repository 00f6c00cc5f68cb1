"""A headless Chromium for the tests of pages, driven by Playwright."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = "SIMFRCNN_CHROMIUM"
TIMEOUT_MS = 60_000
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str:
    """The program of a Chromium; the test is skipped where there is none.

    A wrong :data:`CHROMIUM` is an error, not a skip.
    """
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("Playwright is not installed (it is in the extra dev)")
    stated = os.environ.get(CHROMIUM)
    found = shutil.which(stated) if stated else next(filter(None, map(shutil.which, _NAMES)), None)
    if stated and not found:
        pytest.fail(f"{CHROMIUM} is {stated}, which is no program")
    if not found:
        pytest.skip(f"no Chromium on the PATH; {CHROMIUM} can name one")
    return found


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser; its sandbox is off, because root (in a container) may not use it."""
    program = find_chromium()
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=options, timeout=TIMEOUT_MS
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, path: Path, *, width: int = 1300, scheme: str = "light") -> Iterator[Any]:
    """A page of its own; at the end, nothing was said on its console and nothing was fetched."""
    fetched: list[str] = []
    with visited(browser, path.as_uri(), fetched, width=width, scheme=scheme) as page:
        yield page
    assert fetched == [path.as_uri()]


@contextmanager
def visited(
    browser: Any,
    url: str,
    fetched: list[str],
    *,
    width: int = 1300,
    scheme: str = "light",
    silent: bool = True,
    **options: Any,
) -> Iterator[Any]:
    """A page of its own at an address; what it asks for is added to ``fetched``.

    Args:
        browser: From :func:`chromium`.
        url: The address.
        fetched: Gets all addresses but data.
        width: Of the window.
        scheme: ``light`` or ``dark``.
        silent: Whether nothing may have been said on its console at the end.
        options: Of the browser's context.
    """
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, **options
    )
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: _note(request.url, fetched))
    try:
        page.goto(url, wait_until="load")
        yield page
    finally:
        context.close()
    assert not silent or complaints == []


def _note(url: str, fetched: list[str]) -> None:
    if not url.startswith(("data:", "blob:")):
        fetched.append(url)
