"""A queue that is damaged, or on a full disk: an error that says what to do, no traceback."""

import contextlib
import errno
import shutil
import sqlite3
import threading

import pytest

from benchmarks.node_parts import Archive, quick_judge, states_of, write_film
from simfrcnn.cli.main import main
from simfrcnn.errors import OutputError
from simfrcnn.service.folder import ServiceFolder
from simfrcnn.service.intake import Intake
from simfrcnn.service.node import retry_failed, work_of
from simfrcnn.service.options import NodeOptions
from simfrcnn.service.queue import Queue, opened


@pytest.fixture
def node(tmp_path):
    """The folder of a node with one study, which was received."""
    folder = ServiceFolder(tmp_path / "node")
    content = write_film(tmp_path / "1.dcm", 1, 1).read_bytes()
    with contextlib.closing(Queue(folder.path / "queue.sqlite")) as queue:
        Intake(folder, queue).take(content)
    return folder.path


@contextlib.contextmanager
def work_in(folder, *to):
    options = NodeOptions(folder=folder, to=to, min_free_gb=0)
    with work_of(options, quick_judge(), threading.Event()) as work:
        yield work


def damage(node, kind):
    """Write over the whole file, or over all pages but the first; SQLite tells them apart."""
    path = node / "queue.sqlite"
    content = path.read_bytes()
    n_whole = 0 if kind == "no database" else 4096
    path.write_bytes(content[:n_whole] + b"x" * (len(content) - n_whole))


@pytest.mark.parametrize("kind", ["no database", "damaged pages"])
def test_a_damaged_queue_says_so_and_how_to_go_on(node, kind, capsys):
    damage(node, kind)
    with pytest.raises(OutputError, match=r"queue\.sqlite is damaged .* move it out"):
        retry_failed(node)
    assert main(["node", "--retry-failed", str(node)]) == 2
    assert capsys.readouterr().err.startswith("error: the queue ")
    with pytest.raises(OutputError, match=r"queue\.sqlite is damaged"), work_in(node):
        pytest.fail("it began")


def test_what_a_damaged_queue_advises_loses_no_study(node):
    damage(node, "no database")
    for path in node.glob("queue.sqlite*"):
        path.unlink()
    with Archive() as archive, work_in(node, archive.target) as work:
        work.queue.settle(work.now(), 0.0)
        assert work.judge_one()
        assert work.send_one()
    assert states_of(node)["done"] == 1
    assert len(archive.stored) == 1


@pytest.mark.parametrize("step", ["__init__", "recover", "failed"])
def test_a_full_disk_at_the_start_says_so(node, step, monkeypatch):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Queue, step, full)
    message = r"queue\.sqlite cannot be read or written .*disk is full.*free some space"
    with pytest.raises(OutputError, match=message), work_in(node):
        pytest.fail("it began")


def test_retry_failed_on_a_full_disk_says_so(node, monkeypatch):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Queue, "retry_failed", full)
    with pytest.raises(OutputError, match=r"queue\.sqlite cannot be read or written"):
        retry_failed(node)


def test_an_audit_that_cannot_be_opened_says_so(node):
    (node / "audit.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"audit\.jsonl cannot be written"), work_in(node):
        pytest.fail("it began")


def test_a_disk_without_room_for_the_reasons_of_failures_ends_nothing(node, monkeypatch, caplog):
    with opened(node / "queue.sqlite") as queue:
        queue.settle(1e12, 0.0)
        queue.fail(queue.take_for_judging(1e12), "stable", "DataError", "why", 9.0)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("simfrcnn.service.working.write_json", full)
    with work_in(node) as work:
        assert work.queue.counts()["failed"] == 1
    assert "failed/ cannot be written" in caplog.text
    monkeypatch.undo()
    shutil.rmtree(node / "failed")
    with work_in(node):
        assert len(list(node.glob("failed/*/reason.json"))) == 1


def test_a_fault_of_the_program_is_no_fault_of_the_disk(node):
    with pytest.raises(sqlite3.Error), opened(node / "queue.sqlite") as queue:
        queue.has_film(["no text"], "1")
