"""How do the tables and windows of a file map values, and which of them is taken?

Viewers pass over a VOI transform that the standard cannot apply, and so is done here, with a note:
the tables in their order, then the windows in theirs, and where none is left the range of values.

Shapes: C the possible codes of a file, see :mod:`simfrcnn.dicom.display`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from simfrcnn.dicom.header import Header, shown, tag_name
from simfrcnn.errors import DicomError

Values = NDArray[np.float64]

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


class UnusableError(Exception):
    """A transform that the standard cannot apply; says why, without the file's name."""


@dataclass(frozen=True)
class Table:
    """A look-up table of the standard: ``entries[0]`` is for ``first`` and everything below it."""

    first: int
    entries: Values
    full_scale: int

    @classmethod
    def of(cls, header: Header, item: Dataset, *, is_signed: bool) -> Table:
        """Read LUT Descriptor (0028,3002) and LUT Data (0028,3006) of one item.

        Args:
            header: Of the file.
            item: Of the sequence.
            is_signed: Whether the values that are looked up can be negative.

        Raises:
            UnusableError: Descriptor and data are no table.
        """
        try:
            n_entries, first, n_bits = (int(number) for number in item.LUTDescriptor)
            # 0 stands for 65,536, and a file may write the number with a sign.
            n_entries = n_entries % 65536 or 65536
            entries = _entries(header, item.LUTData, n_entries, n_bits)
        except Exception as error:
            raise UnusableError(
                f"cannot be applied ({type(error).__name__}): its descriptor and data must be a "
                "table"
            ) from error
        if len(entries) != n_entries:
            raise UnusableError(
                f"cannot be applied: its descriptor states {n_entries} entries, its data hold "
                f"{len(entries)}"
            )
        if not 8 <= n_bits <= 16 or entries.max() >= 2**n_bits:
            raise UnusableError(f"does not hold entries of {n_bits} bits")
        if is_signed and first > 32767:  # written without a sign
            first -= 65536
        return cls(first, entries.astype(np.float64), 2**n_bits - 1)

    def __call__(self, values: NDArray[Any]) -> Values:
        """What the table says for each value."""
        place = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[place.astype(np.int64)])

    def greys(self, values: NDArray[Any]) -> Values:
        """The same as greys in 0..1, of a table of the VOI transform."""
        return self(values) / self.full_scale

    @property
    def n_unused_bits(self) -> int:
        """How many of the stated bits no entry uses, from the top."""
        return self.full_scale.bit_length() - int(self.entries.max()).bit_length()


@dataclass(frozen=True)
class Window:
    """Window Center (0028,1050), Window Width (0028,1051), VOI LUT Function (0028,1056)."""

    center: float
    width: float
    function: str

    def greys(self, values: NDArray[Any]) -> Values:
        """Modality values as greys in 0..1; PS3.3 C.11.2.1.2 and C.11.2.1.3."""
        center, width = self.center, self.width
        if self.function == "SIGMOID":
            # Beyond +-50 the exponential only overflows: the display is 0 or 1 to double precision.
            exponent = np.clip(-4 * (values - center) / width, -50, 50)
            return np.asarray(1 / (1 + np.exp(exponent)), dtype=np.float64)
        if self.function == "LINEAR_EXACT":
            return np.asarray(((values - center) / width + 0.5).clip(0, 1))
        if width == 1:
            return (values > center - 0.5).astype(np.float64)
        return np.asarray(((values - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1))


def _entries(header: Header, data: Any, n_entries: int, n_bits: int) -> NDArray[Any]:
    """LUT Data as numbers: words in the byte order of the file, or bytes packed into OW.

    Only entries of 8 bits can be packed; of others, half the bytes are half a table.
    """
    if not isinstance(data, bytes):
        return np.asarray(data, dtype=np.uint16)[:n_entries]
    is_packed = n_bits == 8 and n_entries <= len(data) < 2 * n_entries
    if is_packed:
        return np.frombuffer(data, "u1", count=n_entries)
    order = "<" if header.dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    return np.frombuffer(data, f"{order}u2", count=min(n_entries, len(data) // 2))


def voi_greys(
    header: Header, modality: Values, seen: NDArray[np.bool_], notes: list[str]
) -> Values | None:
    """Modality values (C,) -> 0..1 by the first VOI transform that can be applied, if there is one.

    Args:
        header: Of the file.
        modality: (C,) as the modality transform gives them.
        seen: (C,) which of them occur.
        notes: Gets what was passed over and why, and what was decided of what was taken.

    Raises:
        DicomError: What can be applied shows every pixel alike.
    """
    blank: str | None = None
    passed_over: list[str] = []
    for transform in _transforms(header, is_signed=bool(modality[seen].min() < 0)):
        problem = transform.problem or "shows every pixel of this image alike"
        if transform.shape is not None:
            greys = transform.shape.greys(modality)
            if np.ptp(modality[seen]) == 0 or np.ptp(greys[seen]) > 0:
                notes += [*passed_over, *transform.notes]
                return greys
            blank = blank or transform.keyword
        passed_over.append(f"{tag_name(transform.keyword)} {problem}; it was passed over")
    if blank is not None:
        raise header.error(
            blank, "shows every pixel of this image alike: it belongs to other values"
        )
    notes += passed_over
    return None


def first_voi(header: Header, *, is_signed: bool) -> Table | Window | None:
    """The first VOI transform of a header that can be applied, without a look at the pixels.

    It is what :func:`voi_greys` takes, but where that would show every pixel of the image alike.

    Args:
        header: Of the file.
        is_signed: Whether the values that it is applied to can be negative.
    """
    shapes = (transform.shape for transform in _transforms(header, is_signed=is_signed))
    return next((shape for shape in shapes if shape is not None), None)


@dataclass(frozen=True)
class _Transform:
    """A VOI transform of a file, or the problem why it cannot be applied.

    ``notes`` are for those who take it.
    """

    keyword: str
    shape: Table | Window | None = None
    problem: str | None = None
    notes: tuple[str, ...] = ()


def _transforms(header: Header, *, is_signed: bool) -> list[_Transform]:
    """Every VOI transform of the file: tables before windows, as viewers take them."""
    found: list[_Transform] = []
    readers: dict[str, Callable[[], Iterator[_Transform]]] = {
        "VOILUTSequence": partial(_tables, header, is_signed),
        "WindowCenter": partial(_windows, header),
    }
    for keyword, read in readers.items():
        try:
            found += read()
        except DicomError:
            found.append(_Transform(keyword, problem="is malformed"))
    return found


def _tables(header: Header, is_signed: bool) -> Iterator[_Transform]:
    items = header.items("VOILUTSequence")
    for number, item in enumerate(items, start=1):
        try:
            table = Table.of(header, item, is_signed=is_signed)
        except UnusableError as error:
            yield _Transform("VOILUTSequence", problem=str(error))
            continue
        notes = _which(number, len(items), "VOI LUTs")
        if table.n_unused_bits > 1:
            n_bits = table.full_scale.bit_length()
            notes += (
                f"VOI LUT Sequence (0028,3010) states entries of {n_bits} bits and uses "
                f"{n_bits - table.n_unused_bits}: the picture is dark, as the standard has it",
            )
        yield _Transform("VOILUTSequence", table, notes=notes)


def _windows(header: Header) -> Iterator[_Transform]:
    centers, widths = header.numbers("WindowCenter"), header.numbers("WindowWidth")
    pairs = list(zip(centers, widths, strict=False))
    common: tuple[str, ...] = ()
    if len(centers) != len(widths):
        problem = "and Window Width (0028,1051) differ in number of values"
        common = (f"{tag_name('WindowCenter')} {problem}",)
        if not pairs:
            yield _Transform("WindowCenter", problem=problem)
    for number, (center, width) in enumerate(pairs, start=1):
        function, said = _function(header, number, len(pairs))
        if (unusable := _problem_of(center, width, function)) is not None:
            yield _Transform("WindowWidth", problem=unusable)
            continue
        notes = (*common, *_which(number, len(pairs), "windows"), *said)
        yield _Transform("WindowCenter", Window(center, width, function), notes=notes)


def _which(number: int, n_all: int, what: str) -> tuple[str, ...]:
    taken = "the first" if number == 1 else f"number {number}"
    return (f"{n_all} {what}: {taken} was taken",) if n_all > 1 else ()


def _function(header: Header, number: int, n_windows: int) -> tuple[str, tuple[str, ...]]:
    """The function of a window, and what to say of it: by the standard there is one for all."""
    stated = (header.code("VOILUTFunction") or "LINEAR").split("\\")
    function = (stated[number - 1] if len(stated) == n_windows else stated[0]).strip() or "LINEAR"
    notes: tuple[str, ...] = ()
    if len(stated) > 1:
        notes += (f"{tag_name('VOILUTFunction')} has {len(stated)} values: one for each window",)
    if function not in _FUNCTIONS:
        notes += (
            f"{tag_name('VOILUTFunction')} is {shown(function)}, none of {', '.join(_FUNCTIONS)}: "
            "LINEAR was taken",
        )
        function = "LINEAR"
    return function, notes


def _problem_of(center: float, width: float, function: str) -> str | None:
    if not (math.isfinite(center) and math.isfinite(width)) or width <= 0:
        return f"is {width:g}; it must be positive"
    if function == "LINEAR" and width < 1:
        return f"is {width:g}; a LINEAR window is at least 1 wide"
    return None
