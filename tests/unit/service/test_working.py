"""What goes wrong with a study: the target, the results on the disk, or what lies in failed/."""

import contextlib
import json

import pytest

from benchmarks.node_parts import Archive, quick_judge, write_film
from simfrcnn.service.audit import Audit
from simfrcnn.service.folder import ServiceFolder
from simfrcnn.service.intake import Intake
from simfrcnn.service.options import NodeOptions
from simfrcnn.service.queue import Queue
from simfrcnn.service.retention import remove_old
from simfrcnn.service.sending import targets_of
from simfrcnn.service.working import Work


@pytest.fixture
def work_for(tmp_path):
    """Called with targets and options: the work of a folder in which one study is stable."""
    with contextlib.ExitStack() as stack:

        def make(*to, **facts):
            facts = {"retry_wait": 0.0, "min_free_gb": 0, "attempts": 2, **facts}
            options = NodeOptions(folder=tmp_path / "node", to=to, **facts)
            folder = ServiceFolder(options.folder)
            queue = stack.enter_context(contextlib.closing(Queue(folder.path / "queue.sqlite")))
            audit = stack.enter_context(contextlib.closing(Audit(folder.path)))
            work = Work(folder, queue, quick_judge(), targets_of(options), options, audit)
            bring(work, tmp_path, 1)
            return work

        yield make


def bring(work, folder, *numbers):
    """Films of study 1 come in, and no more come."""
    for number in numbers:
        content = write_film(folder / f"{number}.dcm", 1, number).read_bytes()
        Intake(work.folder, work.queue, work.now).take(content)
    work.queue.settle(work.now(), 0.0)


def states(work):
    return {state: n for state, n in work.queue.counts().items() if n}


def result_of(work):
    (path,) = work.folder.studies.rglob("results/**/*.dcm")
    return path


def test_a_host_that_is_not_known_is_a_target_that_is_away(work_for):
    work = work_for("PACS@no-such-host.invalid:104")
    assert work.judge_one()
    assert not work.targets[0].has(result_of(work))
    assert work.send_one()
    assert states(work) == {"predicted": 1}  # not judged again
    assert work.send_one()
    (job,) = work.queue.failed()
    assert (job.code, job.attempts) == ("gaierror", 2)
    assert work.queue.retry_failed() == 1
    assert states(work) == {"predicted": 1}


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_result_that_is_lost_is_made_again_so_many_times(work_for, harm):
    with Archive() as archive:
        work = work_for(archive.target)
        for _ in range(2):
            assert work.judge_one()
            if harm == "gone":
                result_of(work).unlink()
            else:
                result_of(work).write_bytes(result_of(work).read_bytes()[:-1])
            assert work.send_one()
            assert states(work) == {"stable": 1}
        assert work.judge_one()
        result_of(work).unlink()
        assert work.send_one()
        assert [job.code for job in work.queue.failed()] == ["a result is lost"]
        work.queue.retry_failed()
        assert work.judge_one()
        assert work.send_one()
        assert states(work) == {"done": 1}
    assert len(archive.stored) == 1


def test_a_target_that_is_away_keeps_nothing_from_the_others(work_for):
    with Archive() as archive:
        work = work_for("AWAY@127.0.0.1:1", "AWAY2@127.0.0.1:1", archive.target)
        assert work.judge_one()
        assert work.send_one()
        assert len(archive.stored) == 1
        assert work.send_one()
    (job,) = work.queue.failed()
    assert job.code == "association not established"
    assert "AWAY@" in job.reason
    assert "AWAY2@" in job.reason
    assert len(archive.stored) == 1


def test_a_late_film_alone_makes_no_report_until_the_whole_study_came_again(work_for, tmp_path):
    with Archive() as archive:
        work = work_for(archive.target)
        bring(work, tmp_path, 2)
        assert work.judge_one()
        assert work.send_one()
        removed = remove_old(
            work.folder, work.queue, work.audit, keep_days=0, keep_gb=0, now=work.now() + 1
        )
        assert len(removed) == 1
        bring(work, tmp_path, 3)
        assert work.judge_one()
        (job,) = work.queue.failed()
        assert job.code == "films have left the disk"
        assert "2 earlier films" in job.reason
        assert "send the whole study again" in job.reason
        bring(work, tmp_path, 1)
        assert work.judge_one()
        assert len(work.queue.failed()) == 1  # one is still away
        bring(work, tmp_path, 2)
        assert work.judge_one()
        assert work.send_one()
        assert states(work) == {"done": 2}
    assert len(set(archive.stored)) == 2


def test_a_wait_after_very_many_tries_is_the_longest(work_for):
    work = work_for("AWAY@127.0.0.1:1", attempts=10_000, longest_wait=7.0, retry_wait=1.0)
    work.now = lambda: 1e9
    assert work.judge_one()
    with work.queue._changing() as run:
        run("UPDATE job SET attempts = 5000")
    assert work.send_one()
    lines = (work.folder.path / "audit.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["wait_s"] == 7.0


def test_failed_holds_what_failed_and_what_an_operator_puts_there_stays(work_for):
    work = work_for("AWAY@127.0.0.1:1", attempts=1)
    failed = work.folder.failed
    (failed / "notes.txt").write_text("mine")
    (failed / "mine").mkdir()
    (failed / f"{'a' * 24}-1").mkdir()  # not failed any more
    assert work.judge_one()
    assert work.send_one()
    (job,) = work.queue.failed()
    entry = failed / f"{job.study}-{job.revision}"
    entry.mkdir()  # a kill came before its reason was written
    work.show_failed()
    assert {path.name for path in failed.iterdir()} == {"notes.txt", "mine", entry.name}
    assert json.loads((entry / "reason.json").read_text())["code"] == job.code
    assert len(list((entry / "films").glob("*.dcm"))) == 1
    assert list(work.folder.unfinished.iterdir()) == []
    work.queue.retry_failed()
    work.show_failed()
    assert {path.name for path in failed.iterdir()} == {"notes.txt", "mine"}


@pytest.mark.parametrize("message", ["another reason", "no answer"])
def test_a_study_that_fails_once_more_has_the_new_time_and_reason(work_for, message):
    work = work_for("AWAY@127.0.0.1:1", attempts=1)

    def fails(*_):
        raise OSError(message)

    work.judge, work.now = fails, lambda: 2e9
    work.queue.settle(work.now(), 0.0)
    assert work.judge_one()
    work.show_failed()
    (path,) = work.folder.failed.glob("*/reason.json")
    before = path.stat().st_ino
    work.show_failed()
    assert path.stat().st_ino == before  # it is right
    content = json.loads(path.read_text())
    assert (content["time"], content["reason"]) == ("2033-05-18T03:33:20Z", f"OSError: {message}")

    def fails_again(*_):
        raise OSError("no answer")

    work.judge, work.now = fails_again, lambda: 2e9 + 60
    assert work.queue.retry_failed() == 1  # beside a node, which does not look in between
    assert work.judge_one()
    work.show_failed()
    content = json.loads(path.read_text())
    assert (content["time"], content["reason"]) == ("2033-05-18T03:34:20Z", "OSError: no answer")


def test_a_reason_that_another_process_left_is_compared(work_for):
    work = work_for("AWAY@127.0.0.1:1", attempts=1)
    assert work.judge_one()
    assert work.send_one()
    work.show_failed()
    (path,) = work.folder.failed.glob("*/reason.json")
    right = path.read_text()
    for wrong in (right.replace("association", "no association"), "{", "[]"):
        path.write_text(wrong)
        work._shown.clear()
        work.show_failed()
        assert path.read_text() == right
