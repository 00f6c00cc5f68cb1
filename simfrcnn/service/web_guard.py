"""Who may ask, from which page, and how often: an ASGI layer before all routes.

Nothing of a request but its method and the pattern of its route is logged.
"""

from __future__ import annotations

import hmac
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from simfrcnn.service.web_refusals import Refusal, too_large
from simfrcnn.service.web_settings import is_loopback

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PUBLIC = ("/", "/health")
"""What needs no token: it holds nothing of a study. The files of the page lie below ``/page/``."""
IS_PAGE = "is_page"
"""In the state of a request, as the guard alone decides: it gets the page, and nothing else."""
_ONCE = (
    *(b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"authorization"),
    *(b"content-length", b"content-type"),
)
"""Headers that decide what may pass: of two, each reader could take another one."""
_HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; "
    b"img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cache-control": b"no-store",
}

logger = logging.getLogger("simfrcnn")


@dataclass(frozen=True)
class Access:
    """``token`` that requests must bear, if any.

    Without one the server goes by the names of loopback alone; with one by any, such as that of a
    proxy.
    """

    token: bytes | None


class Rate:
    """At most so many a minute, evenly: a bucket that fills again."""

    def __init__(self, per_minute: int) -> None:
        self._per_second = per_minute / 60
        self._most = float(max(1, per_minute))
        self._left = self._most
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Take one.

        Raises:
            Refusal: None is left, with the time until there is one.
        """
        with self._lock:
            now = time.monotonic()
            self._left = min(self._most, self._left + (now - self._at) * self._per_second)
            self._at = now
            if self._left < 1:
                wait = int((1 - self._left) / self._per_second) + 1
                raise Refusal(
                    429,
                    "too many uploads in a short time",
                    f"{self._most:.0f} a minute",
                    "wait, or start the server with a larger --uploads-per-minute",
                    retry_after_s=wait,
                )
            self._left -= 1


class Guard:
    """The layer: refuses what may not pass, adds headers, and logs one line a request."""

    def __init__(self, app: App, access: Access, max_bytes: int) -> None:
        self._app = app
        self._access = access
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 0

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in _HEADERS.items() if name not in own),
                ]
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, self._counted(receive), with_headers)
        except Refusal as refusal:
            await _answer(refusal, with_headers)
        except Exception as error:  # a message may cite what a file holds: only its kind is logged
            logger.error("a request failed: unexpected %s", type(error).__name__)
            if not status:
                await _answer(FAULT, with_headers)
        route = getattr(scope.get("route"), "path", "(no route)")
        method = scope["method"] if scope["method"] in _METHODS else "(other)"
        seconds = time.monotonic() - begun
        logger.info("%s %s %s %.3f s", method, route, status, seconds)

    def _check(self, scope: Scope) -> None:
        headers = _headers_of(scope)
        is_page = _is_visit_of_result(scope, headers)
        scope.setdefault("state", {})[IS_PAGE] = is_page
        host = headers.get(b"host", b"").decode("latin-1")
        self._check_host(host)
        origin = headers.get(b"origin")
        is_foreign = origin is not None and not _is_at(origin.decode("latin-1"), host)
        if is_foreign or headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
            is_visit = scope["method"] == "GET" and headers.get(b"sec-fetch-mode") == b"navigate"
            if not is_visit:
                raise Refusal(
                    403, "the request comes from a page of another site", "this server's own page",
                    "open this server's page",
                )  # fmt: skip
        if self._access.token is not None and not (is_page or _is_public(scope)):
            given = headers.get(b"authorization", b"")
            wanted = b"Bearer " + self._access.token
            if not hmac.compare_digest(given, wanted):
                raise Refusal(
                    401,
                    "the token is missing or wrong",
                    "a header `Authorization: Bearer TOKEN`",
                    "take the token that the server was started with",
                )
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > self._max_bytes:
            raise too_large(self._max_bytes // 10**6)

    def _check_host(self, host: str) -> None:
        """Refuse other names: a page elsewhere could have its name lead here (DNS rebinding)."""
        if self._access.token is not None:
            return
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if not is_loopback(name):
            raise Refusal(
                421, "the server does not go by this name", "its address, or localhost",
                "call it by its address, or start it with a token",
            )  # fmt: skip

    def _counted(self, receive: Receive) -> Receive:
        n_bytes = 0

        async def counting() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self._max_bytes:
                raise too_large(self._max_bytes // 10**6)
            return message

        return counting


FAULT = Refusal(
    500,
    "the server failed: a fault of simfrcnn, not of the request",
    "requests as docs/serve.md describes them",
    "report it, with the line of the server's log",
)
_PORTS = {"http": 80, "https": 443}
_METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")


def _is_at(origin: str, host: str) -> bool:
    """Whether a page of this origin is the server's own; a port left out is that of its scheme."""
    try:
        page, own = urlsplit(origin), urlsplit(f"//{host}")
        usual = _PORTS.get(page.scheme)
        is_same = (page.port or usual) == (own.port or usual)
    except ValueError:
        return False
    return page.hostname is not None and page.hostname == own.hostname and is_same


def _headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Headers by name; of several of one name that may be several, their list (RFC 9110 5.3).

    Raises:
        Refusal: One that decides what may pass is there more than once.
    """
    headers: dict[bytes, bytes] = {}
    for name, value in ((name.lower(), value) for name, value in scope["headers"]):
        if name in headers and name in _ONCE:
            raise Refusal(
                400, f"the header {name.decode('ascii')} is there more than once",
                "each header of this kind once", "leave out all but one",
            )  # fmt: skip
        headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


def _is_public(scope: Scope) -> bool:
    return scope["path"] in PUBLIC or scope["path"].startswith("/page/")


def _is_visit_of_result(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """The page at the address of a result is the same for all: its script asks for the result."""
    name = scope["path"].removeprefix("/results/")
    is_result = scope["path"].startswith("/results/") and "/" not in name and "." not in name
    return is_result and scope["method"] == "GET" and b"text/html" in headers.get(b"accept", b"")


async def _answer(refusal: Refusal, send: Send) -> None:
    headers = [(b"content-type", b"application/json")]
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    body = json.dumps(refusal.to_dict()).encode()
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
