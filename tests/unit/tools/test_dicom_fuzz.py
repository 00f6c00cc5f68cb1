"""Damaged files: a short run of the corpus, and that its guards see what they must see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fuzz import guard
from fuzz.guard import ANYTHING
from fuzz.mutations import Seed, make_case
from fuzz.seeds import own_seeds
from simfrcnn.dicom.mammogram import read_mammogram
from support.data_examples import REPOSITORY, SHARED_DATA

pytestmark = pytest.mark.data

N_FILES = 250


def test_a_short_run_of_the_corpus(tmp_path: Path) -> None:
    """`python tools/fuzz_dicom.py`, as a process of its own: it forks."""
    folder = SHARED_DATA / "dicom_edge_cases"
    more = ["--files", str(folder)] if folder.is_dir() else []
    command = [sys.executable, "tools/fuzz_dicom.py", "--n", str(N_FILES), "--seed", "1", *more]
    done = subprocess.run(
        [*command, "--keep", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"{N_FILES} files: " in done.stdout
    assert " refused" in done.stdout
    assert " read" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_own_seeds_are_read_and_are_the_same_picture(tmp_path: Path) -> None:
    seeds = own_seeds()
    assert own_seeds() == seeds
    means = {}
    for name, content in seeds.items():
        (tmp_path / "seed.dcm").write_bytes(content)
        mammogram = read_mammogram(tmp_path / "seed.dcm", ANYTHING)
        assert mammogram.laterality is not None
        assert mammogram.laterality.value == "L"
        means[name] = float(mammogram.pixels.mean())
    same = {name: mean for name, mean in means.items() if name not in {"tables", "jpeg"}}
    assert len(same) >= 7
    assert max(same.values()) == min(same.values())


def test_cases_follow_from_their_number_and_reach_every_part() -> None:
    seeds = [Seed.of(name, content) for name, content in own_seeds().items()]
    cases = [make_case(seeds, 0, number) for number in range(200)]
    assert cases == [make_case(seeds, 0, number) for number in range(200)]
    assert len({case.content for case in cases}) > 195
    assert cases != [make_case(seeds, 1, number) for number in range(200)]
    whole = {seed.content for seed in seeds}
    assert sum(case.content in whole for case in cases) < 20
    plain = next(seed for seed in seeds if seed.name == "plain")
    rows = next(element for element in plain.elements if element.tag == 0x00280010)
    assert plain.content[rows.start : rows.value] == b"\x28\0\x10\0US\2\0"
    assert plain.content[rows.value : rows.end] == (96).to_bytes(2, "little")


GUARDED = {
    "crash": "os.kill(os.getpid(), 11)",
    "hang": "time.sleep(60)",
    "memory": "bytearray(2**29)",
    "escaped": "1 / 0",
    "wrong": "raise_another()",
}


@pytest.mark.parametrize("kind", GUARDED)
def test_the_guard_sees(tmp_path: Path, kind: str) -> None:
    """A reader that misbehaves, in a process of its own, because it forks."""
    code = (
        "import os, sys, time\n"
        "sys.path.insert(0, 'tools')\n"
        "from pathlib import Path\n"
        "from simfrcnn.errors import DicomError\n"
        "import sys; sys.path.insert(0, 'tools')\n"
        "from fuzz import guard\n"
        "def raise_another(): raise DicomError('does not name the file')\n"
        f"def misbehave(path, options): {GUARDED[kind]}\n"
        "guard.read_mammogram = misbehave\n"
        "limits = guard.Limits(seconds=1, memory_bytes=2**28)\n"
        "outcome = guard.open_guarded(Path('any.dcm'), limits)\n"
        "print(outcome.kind, guard.tally_of([outcome]).n_bad)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    found = done.stdout.split()
    assert found == ["escaped" if kind == "memory" else kind, "1"]


def test_the_limits_are_those_that_are_promised() -> None:
    assert guard.Limits() == guard.Limits(seconds=5.0, memory_bytes=2**30)
