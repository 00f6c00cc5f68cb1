"""A pull on a full disk: it sends what it has, lets old studies go, and goes on or says why not."""

import shutil
import threading
from types import SimpleNamespace

import pydicom
import pytest

from benchmarks.node_parts import Archive, quick_judge, states_of, write_film
from simfrcnn.errors import OutputError
from simfrcnn.service.folder import FullError, ServiceFolder, size_of
from simfrcnn.service.options import PullOptions
from simfrcnn.service.pull import run_pull


class Source:
    """The client of an archive with films; ``films`` is (study, number) of each."""

    def __init__(self, folder, *films):
        self.folder, self.films = folder, list(films)
        folder.mkdir()

    def _header(self, film):
        return pydicom.dcmread(write_film(self.folder / "film.dcm", *film))

    def _found(self, films, *keywords):
        headers = map(self._header, films)
        return [{f"{header[word].tag:08X}": {"Value": [header[word].value]} for word in keywords}
                for header in headers]  # fmt: skip

    def search_for_studies(self, search_filters, limit, offset):
        return [] if offset else self._found(self.films, "StudyInstanceUID")

    def search_for_instances(self, study_uid, search_filters, fields, limit, offset):
        films = [film for film in self.films if self._header(film).StudyInstanceUID == study_uid]
        words = ("SOPInstanceUID", "SeriesInstanceUID", "SOPClassUID")
        return [] if offset else self._found(films, *words)

    def retrieve_instance(self, study_uid, series_uid, uid, media_types):
        headers = map(self._header, self.films)
        return next(header for header in headers if header.SOPInstanceUID == uid)


@pytest.fixture
def source(tmp_path, monkeypatch):
    source = Source(tmp_path / "source", (1, 1))
    monkeypatch.setattr("simfrcnn.service.pull.dicomweb_client", lambda *_: source)
    return source


@pytest.fixture
def archive():
    with Archive() as archive:
        yield archive


def pulled(tmp_path, archive, judge=None, stop=None, **facts):
    facts = {"min_free_gb": 0, **facts}
    options = PullOptions(
        folder=tmp_path / "work", source="http://127.0.0.1/dw", since="2000-01-01",
        to=(archive.target,), **facts,
    )  # fmt: skip
    return run_pull(options, judge=judge or quick_judge(), stop=stop)


def full(monkeypatch, *, times):
    """The disk refuses a film so many times."""
    keep, left = ServiceFolder.keep_film, [None] * times

    def refusing(*arguments):
        if left:
            left.pop()
            raise FullError("the disk is full")
        return keep(*arguments)

    monkeypatch.setattr(ServiceFolder, "keep_film", refusing)


def test_a_pull_that_begins_on_a_full_disk_frees_itself(source, archive, tmp_path, monkeypatch):
    pulled(tmp_path, archive)
    free = 1.5 * size_of(tmp_path / "work" / "studies")  # of one more study, but not of two
    usage = lambda _: SimpleNamespace(free=free - size_of(tmp_path / "work" / "studies"))  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", usage)
    source.films.append((2, 1))
    assert pulled(tmp_path, archive, keep_gb=0).n_done == 2
    assert len(archive.stored) == 2


def test_what_waits_is_sent_and_then_an_error_says_what_to_do(
    source, archive, tmp_path, monkeypatch
):
    stop, judge = threading.Event(), quick_judge()

    def once(films, output):
        stop.set()
        return judge(films, output)

    pulled(tmp_path, archive, once, stop)
    assert states_of(tmp_path / "work")["predicted"] == 1
    source.films.append((2, 1))
    full(monkeypatch, times=2)
    with pytest.raises(OutputError, match="--min-free-gb") as caught:
        pulled(tmp_path, archive)
    assert str(caught.value).startswith(f"{tmp_path / 'work'} takes no more films: the disk is")
    assert "GB are free" in str(caught.value)
    assert states_of(tmp_path / "work")["done"] == 1
    assert len(archive.stored) == 1
    assert pulled(tmp_path, archive).n_done == 2


def test_a_disk_that_is_full_for_a_moment_costs_nothing(source, archive, tmp_path, monkeypatch):
    source.films += [(2, 1), (2, 2)]
    full(monkeypatch, times=1)
    result = pulled(tmp_path, archive)
    assert (result.n_found, result.n_done, result.n_not_read) == (2, 2, 0)


def test_earlier_films_that_make_room_for_a_late_one_come_again(
    source, archive, tmp_path, monkeypatch
):
    pulled(tmp_path, archive)
    source.films.append((1, 2))
    full(monkeypatch, times=1)
    result = pulled(tmp_path, archive, keep_gb=0)
    assert (result.n_done, result.n_failed) == (2, 0)
    assert len(set(archive.stored)) == 2


def test_a_refusal_of_this_side_is_no_fault_of_the_source(source, archive, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(ServiceFolder, "keep_film", refused)
    with pytest.raises(OutputError, match=r"work cannot be read or written: Read-only"):
        pulled(tmp_path, archive)
