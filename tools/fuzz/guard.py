"""What does the front door do with a file, seen from outside of the process that opens it?

Each file is opened in a child process of its own with limits of time and memory, so that a crash, a
hang or a flood is a result, not the end of the run. POSIX only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from simfrcnn.dicom.mammogram import DicomOptions, read_mammogram
from simfrcnn.errors import DicomError

ANYTHING = DicomOptions(allow_for_processing=True, any_modality=True)
"""Lets damaged files come as far as the decoders."""

GOOD = ("read", "refused")
"""What may happen; the others are ``wrong``, ``escaped``, ``crash``, ``hang`` and ``memory``."""


@dataclass(frozen=True)
class Limits:
    """Of one file: wall-clock seconds, and bytes beyond what the process has when it starts."""

    seconds: float = 5.0
    memory_bytes: int = 2**30


@dataclass(frozen=True)
class Outcome:
    """What happened to one file; ``peak_bytes`` is the process's, interpreter and all."""

    kind: str
    detail: str
    seconds: float
    peak_bytes: int


@dataclass
class Tally:
    """The figures of many outcomes."""

    kinds: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    largest_bytes: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        self.kinds[outcome.kind] += 1
        self.slowest_s = max(self.slowest_s, outcome.seconds)
        self.largest_bytes = max(self.largest_bytes, outcome.peak_bytes)

    @property
    def n_bad(self) -> int:
        """How many were neither read nor refused."""
        return sum(count for kind, count in self.kinds.items() if kind not in GOOD)


def tally_of(outcomes: Iterable[Outcome]) -> Tally:
    """Count all."""
    tally = Tally()
    for outcome in outcomes:
        tally.add(outcome)
    return tally


def open_guarded(path: Path, limits: Limits) -> Outcome:
    """Open a file in a child process and say what became of it."""
    reading, writing = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_the_child(path, limits, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read().decode(errors="replace")
    _, status, usage = os.wait4(child, 0)
    seconds = time.monotonic() - start
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    kind, _, detail = said.partition(" ")
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        kind, detail = ("hang" if name == "SIGALRM" else "crash"), f"{name} {said}"
    elif os.WEXITSTATUS(status) != 0 or not kind:
        kind, detail = "crash", f"exit status {os.WEXITSTATUS(status)} {said}"
    elif peak_bytes > limits.memory_bytes:
        kind = "memory"
    return Outcome(kind, detail, seconds, peak_bytes)


def _be_the_child(path: Path, limits: Limits, writing: int) -> None:
    """Open the file under the limits, say what happened, and leave without cleaning up."""
    import resource  # not on every system; the command refuses those without fork() before

    with contextlib.suppress(BaseException):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limits.seconds)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = _address_space() + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        os.write(writing, _verdict(path).encode(errors="replace")[:4000])
        os._exit(0)
    os._exit(1)


def _verdict(path: Path) -> str:
    """Kind and detail of what the front door did."""
    try:
        mammogram = read_mammogram(path, ANYTHING)
        greys, pixels = mammogram.display.as_uint8(), mammogram.pixels
    except DicomError as error:
        if _is_out_of_memory(error):
            return f"memory {error}"
        starts_well = str(error).startswith(f"{path}: ")
        return f"{'refused' if starts_well else 'wrong message:'} {error}"
    except BaseException as error:
        return f"escaped {type(error).__name__}: {error}"
    is_whole = greys.shape == pixels.shape and bool(np.isfinite(pixels).all())
    if not is_whole or pixels.min() < 0 or pixels.max() > 255:
        return f"wrong pixels: {greys.shape}, {pixels.shape}, {pixels.min()} to {pixels.max()}"
    return f"read {greys.shape}"


def _is_out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _address_space() -> int:
    """Bytes of address space that this process has now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 2**33
    return pages * os.sysconf("SC_PAGE_SIZE")
