"""Which part of a division does a word mean, whichever tool wrote it?"""

from __future__ import annotations

import re

WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Our name of a part -> the words for it, in any capitals."""
LEGAL = ", ".join(word for words in WORDS.values() for word in words)
_FURTHER = re.compile(r"(train|val|test)_\w+", re.ASCII)


def part_of(word: str) -> str | None:
    """Our name of the part, None where the word means none; ``test_site2`` is a part of its own."""
    folded = word.strip().casefold()
    if _FURTHER.fullmatch(folded):
        return folded
    return next((name for name, words in WORDS.items() if folded in words), None)
