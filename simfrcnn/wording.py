"""How is a number said, so that 1 is followed by one thing and 2 by several?"""

from __future__ import annotations

import re
from collections.abc import Sequence

_CHOICE = re.compile(r"\[([^\[\]|]*)\|([^\[\]|]*)\]")


def agreeing(number: int, text: str) -> str:
    """A text with the words that fit a number, of each pair ``[one|several]``.

    >>> agreeing(1, "[is|are] missing"), agreeing(0, "[is|are] missing")
    ('is missing', 'are missing')
    """
    return _CHOICE.sub(lambda pair: pair[1 if number == 1 else 2], text)


def counted(number: int, text: str) -> str:
    """A number, and a text that agrees with it.

    >>> counted(1, "[image|images] without a row"), counted(2, "[box|boxes]")
    ('1 image without a row', '2 boxes')
    """
    return f"{number} {agreeing(number, text)}"


def first_few(items: Sequence[str], n: int, separator: str = ", ") -> str:
    """The first n of several things, and how many more there are.

    >>> first_few(["a", "b", "c"], 3), first_few(["a", "b", "c"], 1, "; ")
    ('a, b, c', 'a; and 2 more')
    """
    n_more = len(items) - n
    return separator.join([*items[:n], f"and {n_more} more"] if n_more > 0 else items)
