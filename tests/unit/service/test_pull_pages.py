"""The search of a pull, page by page, with servers that cap a page or do not page at all."""

import pytest

from simfrcnn.service.pull import _PAGE, _studies
from simfrcnn.service.sending import SendingError

SOURCE, DATES = "https://source/dw", "20260101-"


class Server:
    """Answers ``search_for_studies`` as a client does."""

    def __init__(self, n_studies, cap, *, pages=True):
        self.uids = [f"1.2.{number}" for number in range(n_studies)]
        self.cap, self.pages, self.n_asked = cap, pages, 0

    def search_for_studies(self, search_filters, limit, offset):
        self.n_asked += 1
        first = offset if self.pages else 0
        uids = self.uids[first : first + min(limit, self.cap)]
        return [{"0020000D": {"vr": "UI", "Value": [uid]}} for uid in uids]


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
