"""Send damaged uploads to `simfrcnn serve` and see that each is taken or refused.

No exception, no status 500, no hang; a refusal says what is legal and what to do. Requests go to
the whole application without a socket, and no network judges. The cases follow from --seed and
their number, so one that fails is made again by --first NUMBER --n 1.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import logging
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.mutations import Seed, make_case
from fuzz.seeds import own_seeds
from simfrcnn.data.exams import Selection, Sources
from simfrcnn.dicom.mammogram import STRICT
from simfrcnn.errors import ConfigError
from simfrcnn.service.web_app import make_app
from simfrcnn.service.web_guard import Access, App
from simfrcnn.service.web_studies import Studies
from simfrcnn.service.web_uploads import Bounds

_BATCH = 50
_BOUNDS = Bounds(4 * 10**6, 12, per_minute=10**6)
_INFLATED = 5 * 10**6
_SECONDS = 20.0
_BOUNDARY = b"----simfrcnn"
_N_SHOWN = 20
_KINDS = ("file", "file", "zip", "body", "body", "headers", "path", "bomb")
_MAY_BE_500 = (501, 503, 507)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the tool."""
    parser.add_argument("--n", type=int, default=20000, help="how many uploads (default 20000)")
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER", help="begin there")
    parser.add_argument("--seed", type=int, default=0, help="of the corpus")


def run(arguments: argparse.Namespace) -> int:
    """Print the figures; 1 if any upload was neither taken nor refused."""
    if arguments.n < 1 or arguments.first < 0:
        raise ConfigError("--n must be at least 1 and --first at least 0")
    for name in ("simfrcnn", "python_multipart"):  # a line for every request
        logging.getLogger(name).setLevel(logging.CRITICAL)
    begun = time.monotonic()
    numbers = range(arguments.first, arguments.first + arguments.n)
    answers = list(answers_of(numbers, arguments.seed))
    counts = Counter(one.status for one in answers)
    print(f"{len(answers):,} uploads in {time.monotonic() - begun:.0f} s, by status:")
    print("  " + ", ".join(f"{status}: {n:,}" for status, n in sorted(counts.items())))
    print(f"slowest {max(one.seconds for one in answers):.2f} s")
    bad = [one for one in answers if one.problem]
    for one in bad[:_N_SHOWN]:
        print(f"  {one.number}: {one.how}: {one.problem}")
    print(f"neither taken nor refused: {len(bad)}")
    return 1 if bad else 0


@dataclass(frozen=True)
class Request:
    """One request; ``how`` says what was done to it."""

    how: str
    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What came back; ``problem`` is None where it was taken, or refused in the right form."""

    number: int
    how: str
    status: int
    seconds: float
    problem: str | None


def answers_of(numbers: Sequence[int], seed: int) -> Iterator[Answer]:
    """Send the requests of some numbers, in batches to a fresh folder each."""
    seeds = [Seed.of(name, content) for name, content in own_seeds().items()]
    for begin in range(0, len(numbers), _BATCH):
        with tempfile.TemporaryDirectory() as folder, _studies(Path(folder)) as studies:
            app = make_app(
                studies, Access(None), _BOUNDS, options=STRICT, model={}, score_threshold=0.5
            )
            for number in numbers[begin : begin + _BATCH]:
                yield _sent(app, number, make_request(seeds, seed, number))


def make_request(seeds: Sequence[Seed], seed: int, number: int) -> Request:
    """The request of a number: a legal upload with one kind of damage, or two.

    Args:
        seeds: DICOM files.
        seed: Of the corpus.
        number: The same arguments give the same bytes.
    """
    rng = np.random.default_rng([seed, number, 1])
    kind = str(rng.choice(_KINDS))
    case = make_case(seeds, seed, number)
    whole = seeds[int(rng.integers(len(seeds)))].content
    content = case.content if kind != "headers" else whole
    if kind == "bomb":
        content = _bomb(rng)
    elif kind == "zip" or rng.integers(4) == 0:
        content = _zipped([content, whole], rng)
        content = _damaged(content, rng) if kind == "zip" else content
    body = _form([content, *([whole] if rng.integers(3) == 0 else [])])
    headers = [
        (b"host", b"127.0.0.1"),
        (b"content-type", b"multipart/form-data; boundary=" + _BOUNDARY),
        (b"origin", b"http://127.0.0.1"),
    ]
    method, path = "POST", "/studies"
    if kind == "body":
        body = _damaged(body, rng)
    elif kind == "headers":
        place = int(rng.integers(len(headers)))
        headers[place] = (headers[place][0], _damaged(headers[place][1], rng))
    elif kind == "path":
        method = str(rng.choice(["GET", "POST", "PUT", "HEAD", "{}"]))
        path = str(rng.choice(["/studies/", "/results/", "/page/", "/results/x/films/", "/"]))
        path += _damaged(b"../exam-0123456789abcdef.sr.dcm?reduce=4%00", rng).decode("latin-1")
    if rng.integers(2):
        headers.append((b"content-length", str(len(body)).encode()))
    return Request(f"{kind}: {case.how}", method, path, tuple(headers), body)


def _studies(folder: Path) -> Studies:
    def judge(_: Sources) -> None:
        """Judges nothing: what is tried here comes before."""

    return Studies(folder, judge, selection=Selection(STRICT), n_waiting_at_most=10**6)


def _sent(app: App, number: int, request: Request) -> Answer:
    begun = time.monotonic()
    try:
        status, body = asyncio.run(asyncio.wait_for(_answer_of(app, request), _SECONDS))
        problem = _problem_of(status, body)
    except Exception as error:
        status, problem = 0, f"{type(error).__name__}: {error}"[:300]
    return Answer(number, request.how, status, time.monotonic() - begun, problem)


async def _answer_of(app: App, request: Request) -> tuple[int, bytes]:
    path, _, query = request.path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": list(request.headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
    }
    parts = [request.body[i : i + 2**16] for i in range(0, len(request.body), 2**16)] or [b""]
    messages = iter(
        {"type": "http.request", "body": part, "more_body": n < len(parts)}
        for n, part in enumerate(parts, start=1)
    )
    status, body = 0, b""

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        nonlocal status, body
        status = message.get("status", status)
        body += message.get("body", b"")

    await app(scope, receive, send)
    return status, body


def _problem_of(status: int, body: bytes) -> str | None:
    if status < 100 or (status >= 500 and status not in _MAY_BE_500):
        return f"status {status}"
    if status < 400 or not body:
        return None
    content = json.loads(body)
    is_whole = list(content) == ["error", "legal", "remedy"] and all(content.values())
    return None if is_whole else "the refusal does not say what is legal and what to do"


def _form(contents: Sequence[bytes]) -> bytes:
    parts = [
        b"--%s\r\nContent-Disposition: form-data; name=files; filename=%d\r\n\r\n%s\r\n"
        % (_BOUNDARY, number, content)
        for number, content in enumerate(contents)
    ]
    return b"".join([*parts, b"--%s--\r\n" % _BOUNDARY])


def _zipped(contents: Sequence[bytes], rng: np.random.Generator) -> bytes:
    stream = io.BytesIO()
    kind = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for number, content in enumerate(contents):
            member = zipfile.ZipInfo(f"../{number}")  # of a fixed date
            archive.writestr(member, content, kind)
    return stream.getvalue()


def _bomb(rng: np.random.Generator) -> bytes:
    """A small zip file of a large file, in a compression that is read or one that is not."""
    stream = io.BytesIO()
    kind = int(rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
    start = bytes(128) + b"DICM" if rng.integers(2) else bytes(132)
    with zipfile.ZipFile(stream, "w", kind) as archive:
        archive.writestr(zipfile.ZipInfo("0"), start + bytes(_INFLATED), kind)
    return stream.getvalue()


def _damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Bits flipped, a part overwritten, cut, doubled or moved; most of it near an end."""
    damaged = bytearray(content)
    near = min(len(damaged), 400)
    begin = int(rng.integers(3))
    low = (0, max(0, len(damaged) - near), 0)[begin]
    high = (near, len(damaged), len(damaged))[begin]
    place = int(rng.integers(low, max(high, low + 1)))
    length = int(rng.integers(1, 64))
    changes: tuple[Callable[[], Any], ...] = (
        lambda: damaged.__setitem__(slice(place, place + length), rng.bytes(length)),
        lambda: damaged.__setitem__(slice(place, place + 4), b"\xff" * 4),
        lambda: damaged.__delitem__(slice(place, None)),
        lambda: damaged.__delitem__(slice(place, place + length)),
        lambda: damaged.__setitem__(slice(place, place), damaged[: length * 16]),
        lambda: damaged.__setitem__(slice(place, place + 1), bytes([int(rng.integers(256))])),
    )
    changes[int(rng.integers(len(changes)))]()
    return bytes(damaged)
