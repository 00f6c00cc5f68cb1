"""Are two identifiers one patient's, although they are not spelt alike?

Tables are typed by hand, go through spreadsheets and come from several systems: capitals, blanks,
widths of letters, kinds of dashes, zeros in front of a number and ``.0`` behind it differ, and the
patient does not. Two splits must not share one.
"""

from __future__ import annotations

import re
import unicodedata

DIFFERENCES = "capitals, blanks, dashes, zeros, widths of letters or invisible letters"
"""What two spellings of one identifier may differ in, for messages."""
_NUMBER = re.compile(r"0*(\d+?)(?:\.0+)?", re.ASCII)
_NOTHING = re.compile(
    r"-?nan|(?-i:NaT)|<na>|none|null|\(null\)|\\n|#?n/[ad]|#nv|#[¡¿]?(?:[^\W\d]|[0/])+[!?]",
    re.IGNORECASE,
)
"""What pandas, databases and formulas of spreadsheets in several languages leave behind."""
_NOTHING_OF_R = "NA"
_ROUNDED = re.compile(r"[-+]?\d+(?:[.,]\d*e[-+]?|e\+)\d+", re.IGNORECASE | re.ASCII)

_REMEDY = "where nothing is known: leave it empty, or say who it is"


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


def problem_of_name(identifier: str, n_images: int = 1) -> str | None:
    """Why a text can be no identifier, None if it can: several patients may have it.

    Args:
        identifier: Of a patient, exam or lesion.
        n_images: How many images have it. R writes NA where nothing is known, and one image may
            yet be of somebody called so.

    >>> problem_of_name("1E5"), problem_of_name("NA")
    (None, None)
    >>> problem_of_name("NA", n_images=2)[:53]
    'stands for 2 images, and is what R writes where nothi'
    >>> print(problem_of_name("#N/A"))
    is what programs write where nothing is known: leave it empty, or say who it is
    """
    if _ROUNDED.fullmatch(identifier):
        return (
            "is a number that a spreadsheet has rounded, so that it may be of several: format the "
            "column as text there, enter the numbers again, and save the table again"
        )
    if _NOTHING.fullmatch(identifier):
        return f"is what programs write {_REMEDY}"
    if identifier == _NOTHING_OF_R and n_images > 1:
        return f"stands for {n_images} images, and is what R writes {_REMEDY}"
    return None
