"""How do a patient's facts, which are words in an annotation file, become numbers?

Numbers are standardised, words are one column each, and a missing value has a column of its own.
What is a number, and which words there are, is decided once, on the validation set.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.errors import DataError
from simfrcnn.records import ImageRecord

FloatArray = NDArray[np.float64]
_MOST_WORDS, _N_SHOWN = 30, 3


@dataclass(frozen=True)
class FactEncoding:
    """How one attribute becomes columns.

    ``words`` is None of a number, whose ``mean`` and ``deviation`` are those of the validation
    set's images.
    """

    name: str
    words: tuple[str, ...] | None = None
    mean: float = 0.0
    deviation: float = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, the one of a missing value last."""
        own = (self.name,) if self.words is None else tuple(f"{self.name}={w}" for w in self.words)
        return (*own, f"{self.name} missing")

    def encode(self, records: Sequence[ImageRecord]) -> FloatArray:
        """(N, columns) of N images.

        Raises:
            DataError: A value that is no number where the validation set had numbers alone.
        """
        coded = np.zeros((len(records), len(self.columns)))
        for row, record in zip(coded, records, strict=True):
            value = value_of(record, self.name)
            if value is None or (self.words is not None and value not in self.words):
                row[-1] = 1.0
            elif self.words is not None:
                row[self.words.index(value)] = 1.0
            else:
                number = _number(value)
                if number is None:
                    raise DataError(
                        f"image {record.image_id} ({record.file_name}): the attribute {self.name} "
                        f"is {value!r}; where the combination was fitted it was a number: correct "
                        "the value, or fit again with it"
                    )
                row[0] = (number - self.mean) / self.deviation
        return coded

    def unknown_words(self, records: Sequence[ImageRecord]) -> list[str]:
        """Words that the validation set did not have; they count as missing."""
        if self.words is None:
            return []
        values = {value for r in records if (value := value_of(r, self.name)) is not None}
        return sorted(values - set(self.words))

    def why_words(self) -> str | None:
        """Why an attribute with numbers counts as words, None where it has none or is a number."""
        others = _not_numbers(self.words or ())
        if not others or len(others) == len(self.words or ()):
            return None
        return (
            f"{self.name} counts as {len(self.words or ())} words, not as a number, since "
            f"{', '.join(map(repr, others[:_N_SHOWN]))} is none; where it is meant as a number, "
            "correct such values or leave them out of the annotation file"
        )

    def to_json(self) -> dict[str, Any]:
        """The encoding in JSON types."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> FactEncoding:
        """What :meth:`to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: It is damaged.
        """
        words = content["words"]
        made = FactEncoding(
            name=str(content["name"]),
            words=None if words is None else tuple(map(str, words)),
            mean=float(content["mean"]),
            deviation=float(content["deviation"]),
        )
        if not (math.isfinite(made.mean) and 0 < made.deviation < math.inf):
            raise ValueError(f"{made.name}: mean {made.mean} and deviation {made.deviation}")
        return made


def value_of(record: ImageRecord, name: str) -> str | None:
    """An attribute of an image; None where it is not stated."""
    return record.attributes.get(name, "").strip() or None


def encoding_of(name: str, records: Sequence[ImageRecord]) -> FactEncoding:
    """How an attribute becomes columns, by the images of the validation set.

    It is a number where every stated value is one.

    Raises:
        DataError: No image states it (names those that are there), all state the same and none is
            without, or there are too many different words.
    """
    stated = [value for record in records if (value := value_of(record, name)) is not None]
    if not stated:
        there = sorted({key for record in records for key in record.attributes})
        raise DataError(
            f"no image states the attribute {name!r}; there are: {', '.join(there) or 'none'}"
        )
    different = sorted(set(stated))
    if len(different) == 1 and len(stated) == len(records):
        raise DataError(
            f"every image states {name} {different[0]!r}: the attribute tells no image from "
            "another; leave it out"
        )
    numbers = [_number(value) for value in stated]
    known = np.array([number for number in numbers if number is not None])
    if len(known) == len(stated):
        deviation = float(known.std())
        return FactEncoding(name, mean=float(known.mean()), deviation=deviation or 1.0)
    if len(different) > _MOST_WORDS:
        others = _not_numbers(different)
        shown = ", ".join(map(repr, others[:_N_SHOWN]))
        raise DataError(
            f"the attribute {name} has {len(different)} different words, such as {shown}; at most "
            f"{_MOST_WORDS} are legal: it tells patients apart, and no kinds of them"
            + (
                f". If it is meant as a number: {len(different) - len(others)} of them are, and "
                "those named must be corrected or left out"
                if len(others) < len(different)
                else ""
            )
        )
    return FactEncoding(name, words=tuple(different))


def _not_numbers(words: Sequence[str]) -> list[str]:
    return [word for word in words if _number(word) is None]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
