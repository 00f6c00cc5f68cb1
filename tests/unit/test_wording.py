"""Numbers, and what they count."""

import pytest

from simfrcnn.data.sources.source import listed
from simfrcnn.wording import agreeing, counted, first_few


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 boxes have lost their image"),
        (1, "1 box has lost its image"),
        (2, "2 boxes have lost their image"),
        (21, "21 boxes have lost their image"),
    ],
)
def test_one_is_followed_by_another_word_than_several(number: int, words: str) -> None:
    assert counted(number, "[box has|boxes have] lost [its|their] image") == words


def test_brackets_that_are_no_choice_stay() -> None:
    assert agreeing(1, "a score in [0, 1] [is|are] legal") == "a score in [0, 1] is legal"


def test_a_note_agrees_with_the_number_of_its_names() -> None:
    assert listed("[film|films] without a row", ["a"]) == ("1 film without a row: a",)
    assert listed("[film|films] without a row", ["a", "b"]) == ("2 films without a row: a, b",)
    assert listed("[film|films] without a row", []) == ()


def test_a_list_that_is_cut_short_counts_what_it_leaves_out() -> None:
    letters = list("abcdefghi")
    assert first_few(letters, 9) == "a, b, c, d, e, f, g, h, i"
    assert first_few(letters, 8) == "a, b, c, d, e, f, g, h, and 1 more"
    assert first_few(letters, 2, "\n  ") == "a\n  b\n  and 7 more"
    assert first_few([], 2) == ""
    (note,) = listed("[film|films] without a row", letters)
    assert note == "9 films without a row: a, b, c, d, e, f, g, h, and 1 more"
