"""A node with real associations and a judge that needs no model."""

import contextlib
import errno
import json
import os
import random
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest

from benchmarks.node_parts import (
    Archive,
    quick_judge,
    running_node,
    send,
    states_of,
    wait_until,
    write_film,
)
from simfrcnn.cli.main import main
from simfrcnn.errors import DataError, DicomError, OutputError
from simfrcnn.service.folder import ServiceFolder
from simfrcnn.service.intake import IdentityError, Intake
from simfrcnn.service.judging import Judged
from simfrcnn.service.node import run_node
from simfrcnn.service.options import NodeOptions
from simfrcnn.service.queue import Queue
from support.canaries import leaks, write_canary
from support.studies import files_below

CT, TOMOSYNTHESIS = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.13.1.3"
FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.2.1"


@pytest.fixture
def archive():
    with Archive() as archive:
        yield archive


def options_of(folder, archive, **facts):
    """A study must not be judged between two of its films, on a busy machine either."""
    facts = {"stable_after": 1.0, "min_free_gb": 0, "canary_minutes": 0, "retry_wait": 0.1, **facts}
    return NodeOptions(folder=folder / "node", to=(archive.target,), **facts)


def is_done(folder, n):
    return lambda: states_of(folder / "node")["done"] == n


def events(folder, event):
    lines = (folder / "node" / "audit.jsonl").read_text().splitlines()
    return [one for one in map(json.loads, lines) if one["event"] == event]


def films_of(folder):
    return {path.name: path.read_bytes() for path in (folder / "node/studies").rglob("films/*.dcm")}


def test_films_come_in_and_one_result_of_each_study_goes_out(tmp_path, archive):
    films = [write_film(tmp_path / f"{s}-{n}.dcm", s, n) for s in (1, 2) for n in (1, 2)]
    with running_node(options_of(tmp_path, archive), quick_judge()) as port:
        assert send(films, port) == [0] * 4
        assert wait_until(is_done(tmp_path, 2))
        assert send(films[:2], port, caller="AGAIN") == [0, 0]
        late = write_film(tmp_path / "late.dcm", 1, 3)
        assert send([late], port) == [0]
        assert wait_until(is_done(tmp_path, 3))
    studies = [study.rpartition(".")[2] for study, _ in archive.stored]
    assert sorted(studies) == ["1", "1", "2"]
    assert len(set(archive.stored)) == 3
    first, again, third = events(tmp_path, "received")
    assert (first["ae"], first["address"], first["images"]) == ("SENDER", "127.0.0.1", {"new": 4})
    assert (again["ae"], again["images"], again["statuses"]) == ("AGAIN", {"copy": 2}, {"0000": 2})
    assert third["studies"][0] in first["studies"]
    assert [one["revision"] for one in events(tmp_path, "done")] == [1, 1, 2]
    stored = [pydicom.dcmread(path) for path in (tmp_path / "node").rglob("films/*.dcm")]
    sent = {dataset.SOPInstanceUID: dataset for dataset in map(pydicom.dcmread, [*films, late])}
    assert len(stored) == 5
    assert all(dataset == sent[dataset.SOPInstanceUID] for dataset in stored)


@pytest.mark.parametrize("kind", [CT, TOMOSYNTHESIS, FOR_PROCESSING])
def test_other_sop_classes_are_refused_at_negotiation(tmp_path, archive, kind):
    other = write_film(tmp_path / "other.dcm", 1, 1, SOPClassUID=kind)
    film = write_film(tmp_path / "film.dcm", 2, 1)
    with running_node(options_of(tmp_path, archive), quick_judge()) as port:
        assert send([other], port) == [None]
        assert send([other, film], port) == [None, 0]
    assert len(films_of(tmp_path)) == 1
    assert len(events(tmp_path, "SOP classes refused")) == 2


def test_callers_are_admitted_by_title_and_echo_is_answered(tmp_path, archive):
    from pynetdicom import AE

    film = write_film(tmp_path / "film.dcm", 1, 1)
    with running_node(options_of(tmp_path, archive, allow_ae=("MOD1",)), quick_judge()) as port:
        assert send([film], port) == [None]
        assert send([film], port, caller="MOD1", called="OTHER") == [None]
        assert send([film], port, caller="MOD1") == [0]
        entity = AE(ae_title="MOD1")
        entity.add_requested_context("1.2.840.10008.1.1")
        association = entity.associate("127.0.0.1", port, ae_title="SIMFRCNN")
        assert association.send_c_echo().Status == 0
        association.release()
    rejected = events(tmp_path, "association rejected")
    assert [one["ae"] for one in rejected] == ["SENDER", "MOD1"]
    assert [one["echoes"] for one in events(tmp_path, "echo")] == [1]


def test_an_instance_that_comes_with_other_bytes_does_not_replace_the_first(tmp_path, archive):
    first = write_film(tmp_path / "a.dcm", 1, 1)
    other = write_film(tmp_path / "b.dcm", 1, 1, PatientName="Another^One")
    with running_node(options_of(tmp_path, archive, stable_after=60), quick_judge()) as port:
        assert send([first], port) == [0]
        before = films_of(tmp_path)
        assert send([other], port) == [0]
        assert films_of(tmp_path) == before
    assert events(tmp_path, "received")[1]["images"] == {"contradicting copy": 1}


def test_an_image_without_its_uids_is_refused(tmp_path, archive):
    film = write_film(tmp_path / "a.dcm", 1, 1, StudyInstanceUID="")
    with running_node(options_of(tmp_path, archive), quick_judge()) as port:
        assert send([film], port) == [0xA900]
    assert films_of(tmp_path) == {}


def test_bytes_that_are_no_image_are_refused_and_leave_nothing(tmp_path):
    film = write_film(tmp_path / "a.dcm", 1, 1).read_bytes()
    folder = ServiceFolder(tmp_path / "node")
    with contextlib.closing(Queue(folder.path / "queue.sqlite")) as queue:
        intake = Intake(folder, queue)
        with pytest.raises(IdentityError, match="not that of the request"):
            intake.take(film, "1.2.3")
        rng = random.Random(0)
        n_refused = 0
        for _ in range(200):
            damaged = bytearray(film)
            for _ in range(20):
                damaged[rng.randrange(128, 700)] = rng.randrange(256)
            try:
                intake.take(bytes(damaged))
            except DicomError:
                n_refused += 1
        assert 0 < n_refused < 200
        assert len(films_of(tmp_path)) <= 200 - n_refused
        assert list(folder.unfinished.iterdir()) == []


def test_a_deflated_image_is_not_taken_and_nothing_inflates_without_a_bound(tmp_path, monkeypatch):
    import io
    import zlib

    from pydicom.uid import DeflatedExplicitVRLittleEndian

    from simfrcnn.service.receiving import _syntaxes

    assert DeflatedExplicitVRLittleEndian not in _syntaxes()
    dataset = pydicom.dcmread(write_film(tmp_path / "a.dcm", 1, 1))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.PixelData = bytes(2**20)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    assert len(stream.getvalue()) < 2**16
    folder = ServiceFolder(tmp_path / "node")
    with contextlib.closing(Queue(folder.path / "queue.sqlite")) as queue:
        intake = Intake(folder, queue)
        monkeypatch.setattr("simfrcnn.dicom.header.MAX_FILE_BYTES", 2**19)
        monkeypatch.setattr(zlib, "decompress", lambda *_, **__: pytest.fail("inflated at once"))
        with pytest.raises(DicomError, match="deflated data set is larger"):
            intake.take(stream.getvalue())
        with pytest.raises(DicomError, match="the image is larger than 524,288 bytes"):
            intake.take(bytes(2**19 + 1))
    assert films_of(tmp_path) == {}


def test_an_image_that_is_too_large_is_aborted_while_it_comes(tmp_path, archive, monkeypatch):
    film = write_film(tmp_path / "1.dcm", 1, 1)
    large = write_film(tmp_path / "2.dcm", 1, 2, size=256)
    monkeypatch.setattr("simfrcnn.service.receiving.MAX_FILE_BYTES", 2**15)
    with running_node(options_of(tmp_path, archive, stable_after=60), quick_judge()) as port:
        assert send([film], port) == [0]
        assert send([large], port) == [None]
        assert send([film], port) == [0]
    assert len(films_of(tmp_path)) == 1
    assert events(tmp_path, "image too large")[0]["ae"] == "SENDER"


def test_a_full_disk_is_answered_with_out_of_resources(tmp_path, archive, monkeypatch):
    films = [write_film(tmp_path / f"{n}.dcm", 1, n) for n in (1, 2, 3)]
    write, full = os.fsync, threading.Event()

    def fsync(handle):
        if full.is_set() and "unfinished" in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(handle)

    monkeypatch.setattr("os.fsync", fsync)
    options = options_of(tmp_path, archive, min_free_gb=1.0, stable_after=0.5)
    usage = SimpleNamespace(free=1.5e9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with running_node(options, quick_judge()) as port:
        assert send(films[:1], port) == [0]
        full.set()
        assert send(films[1:2], port) == [0xA700]
        full.clear()
        usage.free = 1e9  # the film would not fit above the bound
        assert send(films[1:2], port) == [0xA700]
        folder = tmp_path / "node"
        assert len(films_of(tmp_path)) == 1
        assert list((folder / "unfinished").glob("*.part")) == []
        usage.free = 1.5e9
        assert send(films[1:], port) == [0, 0]
        assert wait_until(is_done(tmp_path, 1))
    assert len(archive.stored) == 1


def test_a_queue_that_cannot_be_written_keeps_no_film(tmp_path, archive, monkeypatch):
    import sqlite3

    film = write_film(tmp_path / "1.dcm", 1, 1)

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    with running_node(options_of(tmp_path, archive), quick_judge()) as port:
        with monkeypatch.context() as patch:
            patch.setattr("simfrcnn.service.queue.Queue.add_film", full)
            assert send([film], port) == [0xA700]
        assert films_of(tmp_path) == {}
        assert send([film], port) == [0]


def test_an_archive_that_refuses_is_tried_again_and_then_the_study_fails(tmp_path, archive, capsys):
    film = write_film(tmp_path / "1.dcm", 1, 1)
    archive.status = 0xA700
    folder = tmp_path / "node"
    with running_node(options_of(tmp_path, archive, attempts=3), quick_judge()) as port:
        assert send([film], port) == [0]
        assert wait_until(lambda: list(folder.glob("failed/*/reason.json")))
        (place,) = (folder / "failed").iterdir()
        reason = json.loads((place / "reason.json").read_text())
        assert (reason["code"], reason["attempts"]) == ("C-STORE status A700", 3)
        assert len(list((place / "films").glob("*.dcm"))) == 1
        assert [one["wait_s"] for one in events(tmp_path, "tried again later")] == [0.1, 0.2]
        archive.status = 0
        assert main(["node", "--retry-failed", str(folder)]) == 0
        assert "put back into the queue: 1" in capsys.readouterr().out
        assert wait_until(is_done(tmp_path, 1))
        assert wait_until(lambda: list((folder / "failed").iterdir()) == [])
    assert len(archive.stored) == 1
    assert events(tmp_path, "sent")[0]["tries"] == 4


def test_an_archive_that_is_away_is_waited_for(tmp_path):
    film = write_film(tmp_path / "1.dcm", 1, 1)
    with Archive() as archive:
        options = options_of(tmp_path, archive, attempts=2)
    with running_node(options, quick_judge()) as port:
        assert send([film], port) == [0]
        assert wait_until(lambda: states_of(tmp_path / "node")["failed"] == 1)
    assert {one["status"] for one in events(tmp_path, "not sent")} == {
        "association not established"
    }


def test_a_model_that_fails_once_is_tried_again_and_no_result_is_a_failure(tmp_path, archive):
    films = [write_film(tmp_path / f"{s}.dcm", s, 1) for s in (1, 2)]
    judge, n_calls = quick_judge(), []

    def failing(folder: Path, output: Path) -> Judged:
        (study,) = {pydicom.dcmread(path).StudyInstanceUID for path in folder.iterdir()}
        n_calls.append(study)
        if study.endswith("2"):
            output.mkdir()
            return Judged((), 0, "no DICOM result: no film of the exam was judged")
        if n_calls.count(study) == 1:
            raise DataError("Doe^Jane was not readable")
        return judge(folder, output)

    with running_node(options_of(tmp_path, archive), failing) as port:
        assert send(films, port) == [0, 0]
        assert wait_until(lambda: states_of(tmp_path / "node")["failed"] == 1)
        assert wait_until(is_done(tmp_path, 1))
    assert len(n_calls) == 3
    (reason,) = (tmp_path / "node" / "failed").glob("*/reason.json")
    assert "no film of the exam was judged" in reason.read_text()
    assert "Jane" not in (tmp_path / "node" / "audit.jsonl").read_text()


def test_two_senders_at_once_are_all_answered(tmp_path, archive):
    n = 12
    batches = [
        [write_film(tmp_path / f"{s}.dcm", s, 1) for s in range(k, 2 * n, 2)] for k in (0, 1)
    ]
    answers = [[], []]
    with running_node(options_of(tmp_path, archive), quick_judge()) as port:
        senders = [
            threading.Thread(target=lambda k=k: answers[k].extend(send(batches[k], port)))
            for k in (0, 1)
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert answers == [[0] * n, [0] * n]
        assert wait_until(is_done(tmp_path, 2 * n))
    assert len(archive.stored) == len(set(archive.stored)) == 2 * n


def test_done_studies_leave_the_disk_and_a_film_that_comes_again_is_judged(tmp_path, archive):
    films = [write_film(tmp_path / f"{s}.dcm", s, 1) for s in (1, 2)]
    with running_node(options_of(tmp_path, archive), quick_judge()) as port:
        assert send(films, port) == [0, 0]
        assert wait_until(is_done(tmp_path, 2))
    with running_node(options_of(tmp_path, archive, keep_gb=0), quick_judge()) as port:
        assert wait_until(lambda: not list((tmp_path / "node" / "studies").glob("*")))
        assert wait_until(lambda: len(events(tmp_path, "removed here")) == 2)
        assert send(films[:1], port) == [0]
        assert wait_until(is_done(tmp_path, 3))
    assert len(archive.stored) == 2  # the same instance: it is not sent again


def test_health_follows_the_phantom(tmp_path, archive, capsys):
    folder = tmp_path / "node"
    is_broken = threading.Event()
    judge = quick_judge()

    def breakable(films: Path, output: Path) -> Judged:
        if is_broken.is_set():
            raise RuntimeError("the model is broken")
        return judge(films, output)

    with running_node(options_of(tmp_path, archive, canary_minutes=10), breakable):
        assert wait_until((folder / "health.json").exists)
        assert main(["node", "--health", str(folder)]) == 0
    assert capsys.readouterr().out.endswith("well\n")
    assert main(["node", "--health", str(folder)]) == 1
    assert capsys.readouterr().out == "no node runs in the folder\n"
    content = json.loads((folder / "health.json").read_text())
    assert content["phantom"]["ok"]
    assert archive.stored == []
    old = {**content, "unix": content["unix"] - 1e6}
    old["queue"] = {**content["queue"], "failed": 2}
    old["oldest_unsent_unix"] = content["unix"] - 7200
    old["phantom"] = {**content["phantom"], "unix": content["unix"] - 1e6}
    (folder / "health.json").write_text(json.dumps(old))
    assert main(["node", "--health", str(folder)]) == 1
    printed = capsys.readouterr().out
    assert "no sign of life since" in printed
    assert "2 studies have failed: see failed/" in printed
    assert "a study waits for its results to be sent for 120 minutes" in printed
    assert "no phantom study went through the model since" in printed
    (folder / "health.json").unlink()
    is_broken.set()
    with running_node(options_of(tmp_path, archive, canary_minutes=10), breakable):
        assert wait_until((folder / "health.json").exists)
    assert main(["node", "--health", str(folder)]) == 1
    assert "did not go through the model: RuntimeError" in capsys.readouterr().out
    (folder / "health.json").write_text("{")
    assert main(["node", "--health", str(folder)]) == 2


def test_no_log_holds_an_identifier(tmp_path, archive, capfd, caplog):
    import numpy as np

    paths = [tmp_path / "in" / f"{n}.dcm" for n in (2, 3)]
    (tmp_path / "in").mkdir()
    for number, path in enumerate(paths, start=2):
        write_canary(path, np.full((40, 30), 7, np.uint16), number)
    with running_node(options_of(tmp_path, archive, attempts=1), quick_judge()) as port:
        assert send(paths, port) == [0, 0]
        assert wait_until(is_done(tmp_path, 1))
        archive.status = 0xA700
        late = write_canary(tmp_path / "in" / "4.dcm", np.full((40, 30), 9, np.uint16), 4)
        assert send([late], port) == [0]
        assert wait_until(lambda: list((tmp_path / "node" / "failed").iterdir()))
    logs = tmp_path / "logs"
    logs.mkdir()
    names = ["audit.jsonl", "health.json", "queue.sqlite", *os.listdir(tmp_path / "node")]
    for name in {*names} - {"studies", "failed", "unfinished"}:
        shutil.copy(tmp_path / "node" / name, logs)
    captured = capfd.readouterr()
    (logs / "printed").write_text(captured.out + captured.err + caplog.text)
    shutil.copytree(tmp_path / "node" / "failed", logs / "failed", ignore=lambda *_: ["films"])
    assert events(tmp_path, "failed")
    assert leaks(logs) == []
    places = [path.relative_to(tmp_path) for path in (tmp_path / "node").rglob("*")]
    assert not [place for place in places if "canary" in str(place) or "1857" in str(place)]


@pytest.mark.parametrize("step", ["judged", "done"])
def test_a_queue_that_cannot_be_written_ends_the_node_and_it_goes_on(tmp_path, archive, step):
    import sqlite3

    film = write_film(tmp_path / "1.dcm", 1, 1)
    options = options_of(tmp_path, archive)
    with running_node(options, quick_judge()) as port:
        assert send([film], port) == [0]

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"simfrcnn.service.queue.Queue.{step}", full)
        with pytest.raises(OutputError, match=r"cannot be read or written .*disk is full"):
            run_node(options, judge=quick_judge(), stop=threading.Event())
    with running_node(options, quick_judge()):
        assert wait_until(is_done(tmp_path, 1))
    assert len(archive.stored) == 1


def test_a_second_node_in_the_folder_is_refused(tmp_path, archive):
    options = options_of(tmp_path, archive)
    with running_node(options, quick_judge()), pytest.raises(OutputError, match="at work there"):
        run_node(options, judge=quick_judge(), stop=threading.Event())


def test_a_stop_ends_the_study_in_hand_and_the_rest_waits(tmp_path, archive):
    films = [write_film(tmp_path / f"{s}.dcm", s, 1) for s in (1, 2)]
    begun, go_on = threading.Event(), threading.Event()
    judge = quick_judge()

    def waiting(folder: Path, output: Path) -> Judged:
        begun.set()
        go_on.wait(30)
        return judge(folder, output)

    with running_node(options_of(tmp_path, archive), waiting) as port:
        assert send(films, port) == [0, 0]
        assert begun.wait(30)
        stop = threading.Timer(0.3, go_on.set)
        stop.start()
    counts = states_of(tmp_path / "node")
    assert counts["received"] + counts["stable"] == 1  # on a busy machine it is not stable yet
    assert counts["predicted"] + counts["done"] == 1
    with running_node(options_of(tmp_path, archive), judge):
        assert wait_until(is_done(tmp_path, 2))
    assert len(archive.stored) == 2


def test_a_sender_that_is_cut_off_by_a_stop_knows_what_was_kept(tmp_path, archive):
    from pynetdicom import AE

    dataset = pydicom.dcmread(write_film(tmp_path / "film.dcm", 1, 1))
    entity = AE(ae_title="SENDER")
    entity.dimse_timeout = 2
    entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    statuses = []

    def send_all(association):
        with contextlib.suppress(RuntimeError):  # the association is gone
            for number in range(2000):
                dataset.SOPInstanceUID = f"1.2.3.{number}"
                statuses.append(association.send_c_store(dataset).get("Status"))

    with running_node(options_of(tmp_path, archive, stable_after=60), quick_judge()) as port:
        association = entity.associate("127.0.0.1", port, ae_title="SIMFRCNN")
        sender = threading.Thread(target=send_all, args=(association,))
        sender.start()
        assert wait_until(lambda: len(statuses) >= 5)
    sender.join(30)
    n_kept = statuses.count(0)
    assert 5 <= n_kept < 2000
    assert len(films_of(tmp_path)) in (n_kept, n_kept + 1)  # the last answer may be lost
    with contextlib.closing(Queue(tmp_path / "node" / "queue.sqlite")) as queue:
        (study,) = queue.studies_with_films()
        names = [path.removesuffix(".dcm") for path in films_of(tmp_path)]
        assert all(queue.has_film(study, name) for name in names)


def test_an_interrupt_puts_the_study_in_hand_back(tmp_path, archive):
    film = write_film(tmp_path / "1.dcm", 1, 1)
    with running_node(options_of(tmp_path, archive, stable_after=60), quick_judge()) as port:
        assert send([film], port) == [0]

    def interrupted(*_):
        raise KeyboardInterrupt

    options = options_of(tmp_path, archive, stable_after=0)
    with pytest.raises(KeyboardInterrupt):
        run_node(options, judge=interrupted, stop=threading.Event())
    before = files_below(tmp_path / "node" / "studies")
    assert states_of(tmp_path / "node")["stable"] == 1
    assert len(before) == 1
    with running_node(options, quick_judge()):
        assert wait_until(is_done(tmp_path, 1))
