"""Are two identifiers one patient's, although they are not spelt alike?

Tables are typed by hand, go through spreadsheets and come from several systems: capitals, blanks,
widths of letters, kinds of dashes, zeros in front of a number and ``.0`` behind it differ, and the
patient does not. Two splits must not share one.
"""

from __future__ import annotations

import re
import unicodedata

DIFFERENCES = "capitals, blanks, dashes or zeros"
"""What two spellings of one identifier may differ in, for messages."""
_NUMBER = re.compile(r"0*(\d+?)(?:\.0+)?", re.ASCII)
_ROUNDED = re.compile(r"\d[.,]\d+e\+\d+", re.IGNORECASE | re.ASCII)


def folded(identifier: str) -> str:
    r"""What all spellings of one identifier have in common.

    >>> folded("M-0012 a") == folded("m\u20110012A"), folded("0012") == folded("12.0")
    (True, True)
    >>> folded("P12") == folded("P012")
    False
    """
    letters = (
        "-" if unicodedata.category(letter) == "Pd" else letter
        for letter in unicodedata.normalize("NFKC", identifier).casefold()
        if not letter.isspace() and unicodedata.category(letter) not in ("Cf", "Cc")
    )
    text = unicodedata.normalize("NFC", "".join(letters))
    number = _NUMBER.fullmatch(text)
    return number[1] if number else text


def is_rounded(identifier: str) -> bool:
    """Whether a spreadsheet has rounded a long number: those of several patients may be equal then.

    >>> is_rounded("1.23457E+15"), is_rounded("1E5")
    (True, False)
    """
    return _ROUNDED.fullmatch(identifier) is not None
