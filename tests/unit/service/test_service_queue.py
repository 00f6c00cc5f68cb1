"""The queue: every study in one state, in order, each revision with the films it had."""

import contextlib

import pytest

from simfrcnn.service.queue import Queue


@pytest.fixture
def queue(tmp_path):
    with contextlib.closing(Queue(tmp_path / "queue.sqlite")) as queue:
        yield queue


def states(queue):
    return {state: n for state, n in queue.counts().items() if n}


def bring_to_done(queue, study, now=100.0):
    queue.settle(now, 0)
    job = queue.take_for_judging(now)
    assert job.study == study
    queue.judged(job, {"sr.dcm": f"digest of {study} {job.revision}"})
    job = queue.take_for_sending(now)
    queue.done(job, now)
    return job


def test_a_study_is_stable_when_no_image_came_for_a_while(queue):
    assert queue.add_film("a", "1", 10.0)
    assert not queue.add_film("a", "1", 12.0)
    assert queue.settle(15.0, 5.0) == 1  # the copy began no new wait
    queue.add_film("a", "2", 16.0)
    assert states(queue) == {"received": 1}
    assert queue.take_for_judging(17.0) is None
    assert queue.settle(20.9, 5.0) == 0
    assert queue.settle(21.0, 5.0) == 1
    assert queue.take_for_judging(21.0).attempts == 1
    assert states(queue) == {"predicting": 1}


def test_a_clock_that_was_put_back_holds_no_study_for_ever(queue):
    queue.add_film("a", "1", 1e9)
    assert queue.settle(100.0, 5.0) == 0
    assert queue.settle(105.0, 5.0) == 1


def test_late_films_make_a_revision_that_waits_for_the_earlier_one(queue):
    queue.add_film("a", "1", 0.0)
    queue.settle(9.0, 5.0)
    first = queue.take_for_judging(9.0)
    queue.add_film("a", "2", 10.0)
    queue.settle(20.0, 5.0)
    assert states(queue) == {"predicting": 1, "stable": 1}
    assert queue.take_for_judging(20.0) is None
    queue.judged(first, {"sr.dcm": "digest"})
    assert queue.take_for_judging(20.0) is None
    queue.done(queue.take_for_sending(20.0), 20.0)
    assert queue.take_for_judging(20.0).revision == 2


def test_a_later_time_is_waited_for_and_attempts_are_counted(queue):
    queue.add_film("a", "1", 0.0)
    queue.settle(1.0, 0.0)
    job = queue.take_for_judging(1.0)
    queue.try_again(job, "stable", 50.0)
    assert queue.take_for_judging(49.0) is None
    job = queue.take_for_judging(50.0)
    assert job.attempts == 2
    queue.put_back(job, "stable")
    assert queue.take_for_judging(51.0).attempts == 2
    queue.recover(51.0)  # a kill counts
    assert queue.take_for_judging(51.0).attempts == 3


def test_what_a_dead_process_had_in_hand_is_taken_up(queue):
    for study in "ab":
        queue.add_film(study, "1", 0.0)
    queue.settle(1.0, 0.0)
    queue.judged(queue.take_for_judging(1.0), {"sr.dcm": "digest"})
    queue.take_for_sending(1.0)
    queue.take_for_judging(1.0)
    assert states(queue) == {"predicting": 1, "sending": 1}
    queue.add_film("c", "1", 2.0)
    assert queue.recover(60.0) == 2
    assert states(queue) == {"received": 1, "stable": 1, "predicted": 1}
    assert queue.settle(64.0, 5.0) == 0  # its sender may have been cut off: it waits again
    assert queue.settle(65.0, 5.0) == 1


def test_failed_studies_go_back_to_where_they_failed(queue):
    for study in "ab":
        queue.add_film(study, "1", 0.0)
    queue.settle(1.0, 0.0)
    queue.judged(queue.take_for_judging(1.0), {"sr.dcm": "digest"})
    queue.fail(queue.take_for_sending(1.0), "predicted", "no answer", "PACS: no answer", 9.0)
    queue.fail(queue.take_for_judging(1.0), "stable", "DataError", "why", 9.0)
    assert [job.reason for job in queue.failed()] == ["PACS: no answer", "why"]
    assert queue.retry_failed() == 2
    assert states(queue) == {"stable": 1, "predicted": 1}
    assert queue.take_for_judging(1.0).attempts == 1


def test_a_film_wakes_a_study_that_failed(queue):
    queue.add_film("a", "1", 0.0)
    queue.settle(1.0, 0.0)
    queue.fail(queue.take_for_judging(1.0), "stable", "DataError", "why", 9.0)
    queue.add_film("a", "2", 2.0)
    assert states(queue) == {"received": 1}
    assert queue.failed() == []


def fail_first_revision(queue):
    """Revision 1 of a study was judged and failed in sending; a film of revision 2 is there."""
    queue.add_film("a", "1", 0.0)
    queue.settle(1.0, 0.0)
    queue.judged(queue.take_for_judging(1.0), {"sr.dcm": "digest 1"})
    queue.add_film("a", "2", 2.0)
    queue.fail(queue.take_for_sending(3.0), "predicted", "no answer", "why", 9.0)


def test_a_failed_revision_is_superseded_by_a_later_one_that_is_done(queue):
    fail_first_revision(queue)
    bring_to_done(queue, "a")
    assert states(queue) == {"done": 2}
    assert queue.retry_failed() == 0


@pytest.fixture
def overtaken(queue):
    """Revision 2 of a study, which is being sent; revision 1 was judged, and has failed."""
    fail_first_revision(queue)
    queue.settle(4.0, 0.0)
    queue.judged(queue.take_for_judging(4.0), {"sr.dcm": "digest 2"})
    return queue.take_for_sending(4.0)


def test_an_older_report_is_not_sent_after_a_newer_one(queue, overtaken):
    assert overtaken.revision == 2
    assert queue.retry_failed() == 0
    queue.done(overtaken, 5.0)
    assert queue.take_for_sending(6.0) is None
    assert states(queue) == {"done": 2}


def test_not_even_where_the_newer_one_reached_one_target_and_failed_at_another(queue, overtaken):
    queue.begin_sending("digest 2", "A", 5.0)
    queue.fail(overtaken, "predicted", "no answer", "why", 9.0)
    assert queue.retry_failed() == 1
    later = queue.take_for_sending(6.0)
    assert later.revision == 2
    queue.done(later, 6.0)
    assert states(queue) == {"done": 2}


def test_revisions_of_which_none_was_sent_go_back_in_their_order(queue, overtaken):
    queue.fail(overtaken, "predicted", "no answer", "why", 9.0)
    assert queue.retry_failed() == 2
    first = queue.take_for_sending(6.0)
    assert first.revision == 1
    assert queue.take_for_sending(6.0) is None
    queue.done(first, 6.0)
    assert queue.take_for_sending(7.0).revision == 2


def test_what_is_done_supersedes_an_earlier_one_in_any_state(queue, overtaken):
    with queue._changing() as run:  # as a queue that an older version left
        run("UPDATE job SET state = 'predicted' WHERE revision = 1")
    queue.done(overtaken, 5.0)
    assert queue.take_for_sending(6.0) is None
    assert states(queue) == {"done": 2}


def test_an_instance_is_sent_once_to_each_target(queue):
    assert queue.begin_sending("digest", "A", 1.0) == 1
    assert not queue.was_sent("digest", "A")
    assert queue.begin_sending("digest", "A", 2.0) == 2
    queue.confirm_sent("digest", "A", 3.0)
    assert queue.was_sent("digest", "A")
    assert not queue.was_sent("digest", "B")


def test_finished_studies_are_listed_by_age_until_their_films_go(queue):
    for at, study in enumerate("ab"):
        queue.add_film(study, "1", 0.0)
        bring_to_done(queue, study, 10.0 + at)
    queue.add_film("c", "1", 0.0)
    assert queue.finished_studies() == [("a", 10.0), ("b", 11.0)]
    queue.add_film("b", "2", 20.0)
    assert queue.finished_studies() == [("a", 10.0)]
    queue.forget_films("a")
    assert queue.finished_studies() == []
    assert queue.add_film("a", "1", 30.0)  # it came again: a new revision
    assert states(queue) == {"received": 3, "done": 2}


def test_two_processes_share_a_queue(queue, tmp_path):
    with contextlib.closing(Queue(tmp_path / "queue.sqlite")) as other:
        queue.add_film("a", "1", 0.0)
        assert states(other) == {"received": 1}
        other.settle(1.0, 0.0)
        assert queue.take_for_judging(1.0) is not None
        assert other.take_for_judging(1.0) is None
