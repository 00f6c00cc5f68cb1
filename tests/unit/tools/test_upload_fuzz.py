"""The fuzzer of uploads: its cases follow from their number, and a few hundred are sent."""

from collections import Counter

import pytest

from fuzz import uploads
from fuzz.mutations import Seed
from fuzz.seeds import own_seeds


# A form that ends too early leaves its last file to be closed with the object, by Starlette.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_uploads_are_taken_or_refused():
    answers = list(uploads.answers_of(range(150), seed=1))
    assert [one for one in answers if one.problem] == []
    counts = Counter(one.status for one in answers)
    assert counts[202] > 30
    assert counts[400] > 15
    assert counts[422] > 2


def test_requests_follow_from_their_number():
    seeds = [Seed.of(name, content) for name, content in own_seeds().items()]
    made = [uploads.make_request(seeds, 0, number) for number in range(60)]
    assert made == [uploads.make_request(seeds, 0, number) for number in range(60)]
    assert len({request.body for request in made}) > 55
    assert {request.how.partition(":")[0] for request in made} == set(uploads._KINDS)


@pytest.mark.parametrize(
    ("status", "body", "is_fine"),
    [
        (500, b"{}", False),
        (0, b"", False),
        (404, b'{"detail": "Not Found"}', False),
        (404, b'{"error": "a", "legal": "b", "remedy": "c"}', True),
        (503, b'{"error": "a", "legal": "b", "remedy": "c"}', True),
        (202, b"{}", True),
    ],
)
def test_what_counts_as_wrong(status, body, is_fine):
    assert (uploads._problem_of(status, body) is None) is is_fine
