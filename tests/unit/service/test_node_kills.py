"""`kill -9` at each step of a study: nothing is lost, and an archive holds each result once."""

import random
import sys
import time

import pytest

from benchmarks.node_parts import (
    MOMENTS,
    Archive,
    port_of,
    quick_judge,
    running_node,
    send,
    states_of,
    wait_until,
    write_film,
)
from simfrcnn.service.options import NodeOptions
from support.forking import start_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks and kills processes")


def started(folder, archive, *words):
    """A node as a program, once it listens."""
    (folder / "node").mkdir(exist_ok=True)
    (folder / "node" / "port").unlink(missing_ok=True)
    command = ["-m", "benchmarks.node_parts", "--folder", folder / "node", "--to", archive.target]
    process = start_program([*command, "--stable-after", "0.3", *words], cwd=folder, logs=folder)
    assert wait_until(lambda: port_of(folder / "node") is not None), (folder / "stderr").read_text()
    return process


def finish(folder, archive, films, n_studies):
    """What a sender and an operator do after a kill: send again what was not answered, start."""
    options = NodeOptions(
        folder=folder / "node",
        to=(archive.target,),
        stable_after=2.0 if films else 0.2,
        min_free_gb=0,
        canary_minutes=0,
        retry_wait=0.1,
    )
    with running_node(options, quick_judge()) as port:
        if films:
            assert send(films, port) == [0] * len(films)
        assert wait_until(lambda: _is_over(folder / "node", n_studies)), states_of(folder / "node")


def _is_over(folder, n_studies):
    counts = states_of(folder)
    return counts["done"] >= n_studies and sum(counts.values()) == counts["done"]


@pytest.mark.parametrize(
    ("moment", "answers_queries"), [*((moment, True) for moment in MOMENTS), ("sending", False)]
)
def test_a_node_that_is_killed_at_a_step_goes_on(tmp_path, moment, answers_queries):
    films = [write_film(tmp_path / f"{n}.dcm", 1, n) for n in (1, 2)]
    with Archive(answers_queries=answers_queries) as archive:
        process = started(tmp_path, archive, "--kill-after", moment)
        statuses = send(films, port_of(tmp_path / "node"), timeout_s=2)
        process.join(30)
        assert process.exitcode == -9
        unanswered = [film for film, status in zip(films, statuses, strict=True) if status != 0]
        assert bool(unanswered) == (moment in ("kept", "received"))
        finish(tmp_path, archive, unanswered, 1)
        stored = archive.stored
    assert len(set(stored)) == 1
    # An archive that does not say what it has gets the same instance again, and no other does.
    assert len(stored) == (1 if answers_queries else 2)
    assert len(list((tmp_path / "node").rglob("films/*.dcm"))) == 2


@pytest.mark.slow
def test_a_node_that_is_killed_at_random_moments_loses_nothing(tmp_path):
    rng = random.Random(13)
    films = [write_film(tmp_path / f"{s}-{n}.dcm", s, n) for s in range(6) for n in (1, 2)]
    left = list(films)
    with Archive() as archive:
        for _ in range(3):
            process = started(tmp_path, archive, "--seconds", "0.2")
            batch, left = left[:4], left[4:]
            statuses = send(batch, port_of(tmp_path / "node"), timeout_s=2)
            left = [f for f, status in zip(batch, statuses, strict=True) if status != 0] + left
            time.sleep(rng.uniform(0.0, 1.0))
            process.kill()
            process.join()
        finish(tmp_path, archive, left, 6)
        stored = archive.stored
    studies = {study for study, _ in stored}
    assert len(studies) == 6
    assert len(stored) == len(set(stored))
