"""The searches of a pull, page by page, with servers that cap a page or do not page at all."""

import pytest
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation as FOR_PRESENTATION

from simfrcnn.service.pull import _PAGE, _films, _studies
from simfrcnn.service.sending import SendingError

SOURCE, DATES = "https://source/dw", "20260101-"


class Server:
    """Answers ``search_for_studies`` as a client does; of instances, too, which have the UIDs."""

    def __init__(self, n_studies, cap, *, pages=True):
        self.uids = [f"1.2.{number}" for number in range(n_studies)]
        self.cap, self.pages, self.n_asked = cap, pages, 0

    def search_for_studies(self, search_filters, limit, offset):
        return [{"0020000D": {"vr": "UI", "Value": [uid]}} for uid in self._page(limit, offset)]

    def search_for_instances(self, study_uid, search_filters, fields, limit, offset):
        facts = {"0020000E": "1.2", "00080016": FOR_PRESENTATION}
        return [
            {
                tag: {"vr": "UI", "Value": [value]}
                for tag, value in {"00080018": uid, **facts}.items()
            }
            for uid in self._page(limit, offset)
        ]

    def _page(self, limit, offset):
        self.n_asked += 1
        first = offset if self.pages else 0
        return self.uids[first : first + min(limit, self.cap)]


@pytest.mark.parametrize(("n_studies", "cap"), [(0, 1000), (7, 3), (_PAGE, 1000), (450, 1000)])
def test_all_studies_are_found_however_short_a_page_is(n_studies, cap):
    server = Server(n_studies, cap)
    assert list(_studies(server, SOURCE, DATES)) == server.uids


def test_a_server_that_ignores_the_offset_is_an_error_after_what_it_gave():
    server = Server(450, 100, pages=False)
    studies = _studies(server, SOURCE, DATES)
    assert [next(studies) for _ in range(100)] == server.uids[:100]
    with pytest.raises(SendingError, match="pull fewer days") as caught:
        next(studies)
    assert caught.value.code == "the source does not page"
    assert server.n_asked == 3


def test_a_study_that_is_added_meanwhile_ends_nothing():
    server = Server(3, 3)
    studies = _studies(server, SOURCE, DATES)
    found = [next(studies)]
    server.uids.insert(0, "1.2.9")  # the pages shift by one: the last study comes once more
    assert [*found, *studies] == ["1.2.0", "1.2.1", "1.2.2"]


@pytest.mark.parametrize(("n_films", "cap"), [(0, 1000), (7, 3), (_PAGE, 1000), (450, 1000)])
def test_all_films_are_found_however_short_a_page_is(n_films, cap):
    server = Server(n_films, cap)
    assert [uid for uid, _ in _films(server, SOURCE, "1.2.3")] == server.uids


def test_a_server_that_always_answers_the_same_film_is_an_error():
    server = Server(1, 1000, pages=False)
    with pytest.raises(SendingError, match="`simfrcnn node`") as caught:
        dict(_films(server, SOURCE, "1.2.3"))
    assert caught.value.code == "the source does not page"
    assert server.n_asked == 3
