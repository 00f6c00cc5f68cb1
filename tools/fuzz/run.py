"""Damage DICOM files in many ways and see that each is read or refused.

No crash, no hang, no flood of memory, no error but DicomError. Each file is opened in a child
process with limits. The cases follow from --seed and their number, so one that fails is made again
by --first NUMBER --n 1; what fails is also kept in --keep.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fuzz.guard import GOOD, Limits, Outcome, open_guarded, tally_of
from fuzz.mutations import Seed, make_case
from fuzz.seeds import own_seeds, seeds_of
from simfrcnn.errors import ConfigError
from simfrcnn.files import write_bytes
from simfrcnn.parallel import in_parallel

_BATCH = 50
_N_SHOWN = 20
_N_SLOWEST = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the tool."""
    parser.add_argument("--n", type=int, default=20000, help="how many files (default 20000)")
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER", help="begin there")
    parser.add_argument("--seed", type=int, default=0, help="of the corpus")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument(
        "--files", type=Path, metavar="DIR", help="damage the *.dcm files of this folder as well"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="limit per file")
    parser.add_argument("--mib", type=int, default=1024, help="limit of memory per file")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the files that fail here")


def run(arguments: argparse.Namespace) -> int:
    """Print the figures; 1 if any file was neither read nor refused."""
    if arguments.n < 1 or arguments.first < 0:
        raise ConfigError("--n must be at least 1 and --first at least 0")
    if not hasattr(os, "fork"):
        raise ConfigError("the limits need fork(), which this system does not have: use Linux")
    numbers = range(arguments.first, arguments.first + arguments.n)
    batches = [numbers[begin : begin + _BATCH] for begin in range(0, len(numbers), _BATCH)]
    job = Corpus(arguments.files, arguments.seed, Limits(arguments.seconds, arguments.mib * 2**20))
    judged = [
        one
        for batch in in_parallel(
            partial(judge, job, keep=arguments.keep),
            batches,
            title="damaged files",
            unit=f"{_BATCH} files",
            n_workers=arguments.workers,
        )
        for one in batch
    ]
    _print(judged)
    return 1 if any(one.outcome.kind not in GOOD for one in judged) else 0


@dataclass(frozen=True)
class Corpus:
    """Which files are made, and under what limits they are opened."""

    files: Path | None
    seed: int
    limits: Limits

    def seeds(self) -> list[Seed]:
        """The whole files."""
        own = [Seed.of(name, content) for name, content in own_seeds().items()]
        if self.files is None:
            return own
        # Many files of others are refused at once; ours come as far as the pixels.
        others = [Seed.of(name, content) for name, content in seeds_of(self.files).items()]
        return own * (1 + len(others) // len(own)) + others


@dataclass(frozen=True)
class Judged:
    """One case and what became of it."""

    number: int
    how: str
    outcome: Outcome


def judge(corpus: Corpus, numbers: range, keep: Path | None = None) -> list[Judged]:
    """Make the cases of some numbers and open each under the limits."""
    return list(_judge(corpus, numbers, keep))


def _judge(corpus: Corpus, numbers: range, keep: Path | None) -> Iterator[Judged]:
    seeds = corpus.seeds()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "case.dcm")
        for number in numbers:
            case = make_case(seeds, corpus.seed, number)
            path.write_bytes(case.content)
            outcome = open_guarded(path, corpus.limits)
            if outcome.kind not in GOOD and keep is not None:
                write_bytes(keep / f"{corpus.seed}-{number}-{outcome.kind}.dcm", case.content)
            yield Judged(number, case.how, outcome)


def _print(judged: list[Judged]) -> None:
    tally = tally_of(one.outcome for one in judged)
    print(f"{len(judged):,} files: " + ", ".join(f"{n:,} {k}" for k, n in tally.kinds.items()))
    print(f"slowest {tally.slowest_s:.2f} s, largest {tally.largest_bytes / 2**20:.0f} MiB")
    for one in sorted(judged, key=lambda one: -one.outcome.seconds)[:_N_SLOWEST]:
        print(f"  {one.outcome.seconds:.2f} s: {one.number}: {one.how}: {one.outcome.kind}")
    bad = [one for one in judged if one.outcome.kind not in GOOD]
    for one in bad[:_N_SHOWN]:
        print(f"  {one.number}: {one.how}: {one.outcome.kind}: {one.outcome.detail[:300]}")
    if len(bad) > _N_SHOWN:
        print(f"  and {len(bad) - _N_SHOWN} more")
