"""Which category of the file is which class here?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

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


def class_of(category: str, classes: Mapping[str, str]) -> str | None:
    """The class of a category, whatever its capitals; None if it is not known.

    Args:
        category: As a file spells it.
        classes: What was mapped.
    """
    known = {word.casefold(): name for word, name in classes.items()}
    spelt = "".join(category.casefold().split())
    return known.get(category.casefold()) or (spelt if spelt in _OBVIOUS else None)


def visible(labels: Mapping[str, bool], classes: Mapping[str, str]) -> dict[str, bool]:
    """Whether a finding of each class is visible, by what is said of categories.

    A class of several categories is absent only if each of them is.

    Args:
        labels: Category -> whether it is visible; all must be known.
        classes: What was mapped.
    """
    said: dict[str, dict[str, bool]] = {}
    for category, is_visible in labels.items():
        name = class_of(category, classes)
        if name is not None and name != IGNORE:
            said.setdefault(name, {})[category.casefold()] = is_visible
    of_class: dict[str, set[str]] = {}
    for category, name in classes.items():
        of_class.setdefault(name, set()).add(category.casefold())
    return {
        name: any(of_categories.values())
        for name, of_categories in said.items()
        if any(of_categories.values()) or of_class.get(name, set()) <= of_categories.keys()
    }


def mapped(
    counts: Counter[str], entries: Sequence[str], named: Collection[str] = ()
) -> tuple[dict[str, str], list[str], tuple[str, ...]]:
    """The class of each category that has boxes, those without one, and notes.

    Without entries, a category is the class of the same letters, whatever their capitals.

    Args:
        counts: Category -> boxes.
        entries: As :func:`parse_classes` takes them.
        named: Further categories, which have no box.

    Raises:
        ConfigError: See there, or an entry names a category that the file does not have.
    """
    asked = parse_classes(entries)
    boxed = {category.casefold() for category in counts}
    stated = {word.casefold(): name for word, name in asked.items()}
    everywhere = list(dict.fromkeys([*counts, *sorted(named)]))
    known = {category.casefold() for category in everywhere}
    for word in asked:
        if word.casefold() not in known:
            raise illegal("--classes: the category", word, " | ".join(everywhere), everywhere)
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
    unboxed = {word: name for word, name in asked.items() if word.casefold() not in boxed}
    classes |= unboxed
    return classes, missing, tuple(notes)
