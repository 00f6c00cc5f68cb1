"""Whose is an image, and which view is it, by rules that the user gives?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from simfrcnn.data.sources.coco.documents import Picture
from simfrcnn.data.sources.folder.columns import LEGAL, in_our_spelling
from simfrcnn.data.sources.folder.words import USUAL
from simfrcnn.errors import AnnotationError, ConfigError
from simfrcnn.images.names import normal_place, readable

GROUPS = ("patient", "exam", "laterality", "view")
HOW = "image | key NAME | from-name REGEX"


@dataclass(frozen=True)
class PatientRule:
    """`image` (one patient an image), `key` with its name, or `from-name` with a pattern."""

    kind: str
    word: str = ""


def parse_patient(words: Sequence[str]) -> PatientRule:
    """The words of ``--patient``.

    Raises:
        ConfigError: They are no rule.
    """
    if tuple(words) == ("image",):
        return PatientRule("image")
    if len(words) == 2 and words[0] in ("key", "from-name"):
        return PatientRule(words[0], words[1])
    raise ConfigError(f"--patient {' '.join(words)}: give {HOW}")


def pattern_of(text: str, option: str, *, needs_patient: bool) -> re.Pattern[str]:
    """A regular expression with the groups that are wanted.

    Raises:
        ConfigError: It is none, or has no group that says something.
    """
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"{option} {text!r}: is no regular expression ({error})") from error
    unknown = sorted(pattern.groupindex.keys() - set(GROUPS))
    if unknown:
        raise ConfigError(
            f"{option} {text!r}: the group {unknown[0]!r} means nothing; there are "
            f"{', '.join(GROUPS)}"
        )
    has_patient = "patient" in pattern.groupindex or pattern.groups == 1
    if needs_patient and not has_patient:
        raise ConfigError(
            f"{option} {text!r}: give the patient in a group, for instance "
            r"'(?P<patient>[^_/]+)_(?P<laterality>[LR])_(?P<view>CC|MLO)' or '([^_/]+)_'"
        )
    if not needs_patient and not pattern.groupindex:
        raise ConfigError(f"{option} {text!r}: name a group exam, laterality or view")
    return pattern


def found_in(pattern: re.Pattern[str], picture: Picture) -> dict[str, str] | None:
    """Group -> text in a file's name and folders; None where the pattern does not match.

    Raises:
        AnnotationError: A side or view is no word for one.
    """
    match = pattern.search(readable(picture.file_name.replace("\\", "/")))
    if match is None:
        return None
    found = {name: text for name, text in match.groupdict().items() if text}
    if not pattern.groupindex and pattern.groups == 1 and match[1]:
        found["patient"] = match[1]
    for column in ("laterality", "view"):
        if column in found:
            found[column] = word_of(column, found[column], picture)
    return found


def word_of(column: str, text: str, picture: Picture) -> str:
    """A side or view in our word.

    Raises:
        AnnotationError: It is none.
    """
    spelt = in_our_spelling(column, text.strip())
    if spelt not in LEGAL[column]:
        spelt = USUAL[column].get(text.strip().casefold(), "")
    if not spelt:
        raise AnnotationError(
            f"{picture.where}: {column} is {text!r}; legal are {', '.join(LEGAL[column])}"
        )
    return spelt


def example_of(picture: Picture) -> str:
    """A file's name to show beside a question: its last two parts."""
    place = normal_place(picture.file_name)
    return "/".join(place.parts[-2:]) if place else picture.file_name
