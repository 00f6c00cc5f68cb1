"""Which category of the file is which class here?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from simfrcnn.errors import ConfigError
from simfrcnn.registry import illegal
from simfrcnn.wording import counted

IGNORE = "ignore"
"""The class of categories that are no findings, such as the pectoral muscle: their boxes go."""
_OBVIOUS = ("malignant", "benign")


def parse_classes(entries: Sequence[str]) -> dict[str, str]:
    """Entries "CLASS=CATEGORY,..." as category -> class; capitals make no other category.

    Raises:
        ConfigError: An entry is malformed, or a category is given to two classes.
    """
    classes: dict[str, str] = {}
    spelt: dict[str, str] = {}
    for entry in entries:
        name, _, categories = entry.partition("=")
        words = [word.strip() for word in categories.split(",") if word.strip()]
        if not name.strip() or not words:
            raise ConfigError(
                f"--classes {entry!r}: give CLASS=CATEGORY,CATEGORY, such as malignant=Mass,IDC"
            )
        for word in words:
            first = spelt.setdefault(word.casefold(), word)
            if classes.setdefault(first, name.strip()) != name.strip():
                raise ConfigError(
                    f"--classes {entry!r}: {word!r} is {classes[first]} already; give it to one"
                )
    return classes


def mapped(
    counts: Counter[str], entries: Sequence[str]
) -> tuple[dict[str, str], list[str], tuple[str, ...]]:
    """The class of each category that has boxes, those without one, and notes.

    Without entries, a category is the class of the same letters, whatever their capitals.

    Args:
        counts: Category -> boxes.
        entries: As :func:`parse_classes` takes them.

    Raises:
        ConfigError: See there, or an entry names a category that no annotation has.
    """
    asked = parse_classes(entries)
    stated = {word.casefold(): name for word, name in asked.items()}
    known = {category.casefold() for category in counts}
    for word in asked:
        if word.casefold() not in known:
            raise illegal("--classes: the category", word, " | ".join(counts), counts)
    classes: dict[str, str] = {}
    notes: list[str] = []
    for category, count in sorted(counts.items()):
        spelt = "".join(category.casefold().split())
        name = stated.get(category.casefold()) or (spelt if spelt in _OBVIOUS else None)
        if name is None:
            continue
        classes[category] = name
        if name != category:
            what = "left aside" if name == IGNORE else f"taken as {name}"
            notes.append(f"{counted(count, '[box|boxes]')} of {category!r} {what}")
    missing = [category for category in counts if category not in classes]
    return classes, missing, tuple(notes)
