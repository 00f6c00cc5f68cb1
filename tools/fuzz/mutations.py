"""How is a DICOM file damaged, the same way whenever the same number is asked for?"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom.tag import Tag

_HEADER_BYTES = 2048
_ABSURD_NUMBERS = (0, 1, 2, 7, 13, 255, 256, 4096, 32767, 32768, 65535)
_ABSURD_LENGTHS = (0, 1, 2, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
_ABSURD_TEXTS = (b"-1", b"0", b"1e308", b"nan", b"inf", b"999999999999999999", b"\\\\\\\\", b"\xff")
_SIZES = tuple(
    Tag(keyword)
    for keyword in (
        *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "ImagerPixelSpacing"),
        *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue"),
        *("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"),
    )
)
_ROWS_AND_COLUMNS = (Tag("Rows"), Tag("Columns"))
_LARGE_SIZES = ((8192, 8192), (1024, 65535), (65535, 1), (1, 65535), (5000, 4000), (97, 81))
_SOC = 0x4F
_STREAM_MARKERS = (b"\xff\x4f\xff\x51", b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xf7")


class Element(NamedTuple):
    """Where one top-level element lies in a file; ``end`` is that of its value."""

    tag: int
    start: int
    value: int
    end: int


@dataclass(frozen=True)
class Seed:
    """A whole file and its elements; none where pydicom cannot say where they lie."""

    name: str
    content: bytes
    elements: tuple[Element, ...]

    @classmethod
    def of(cls, name: str, content: bytes) -> Seed:
        """Find the elements of a file."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return cls(name, content, tuple(_elements(content)))
            except Exception:  # damaged already
                return cls(name, content, ())


@dataclass(frozen=True)
class Case:
    """One damaged file; ``how`` names the seed and what was done to it."""

    number: int
    how: str
    content: bytes


def make_case(seeds: Sequence[Seed], seed: int, number: int) -> Case:
    """The case of a number: a seed file with one to three kinds of damage.

    Args:
        seeds: At least one, always in the same order.
        seed: Of the corpus.
        number: Of the case; the same arguments give the same bytes.
    """
    rng = np.random.default_rng([seed, number])
    file = seeds[int(rng.integers(len(seeds)))]
    content = bytearray(file.content)
    names = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        name = str(rng.choice(list(_KINDS)))
        if content:
            _KINDS[name](content, file, rng)
        names.append(name)
    return Case(number, f"{file.name}: {' + '.join(names)}", bytes(content))


def _elements(content: bytes) -> list[Element]:
    dataset = pydicom.dcmread(io.BytesIO(content))
    if dataset.file_meta.TransferSyntaxUID.is_deflated:
        return []
    found = []
    for tag in dataset.keys():  # noqa: SIM118  (iterating a data set converts its elements)
        raw = dataset.get_item(tag)
        if not isinstance(raw, pydicom.dataelem.RawDataElement) or raw.value is None:
            continue
        is_long = not raw.is_implicit_VR and raw.VR in {"OB", "OW", "OF", "SQ", "UN", "UT", "UC"}
        start = raw.value_tell - (12 if is_long else 8)
        found.append(Element(int(tag), start, raw.value_tell, raw.value_tell + len(raw.value)))
    return found


def _flip_bits(content: bytearray, file: Seed, rng: np.random.Generator) -> None:
    for place in rng.integers(_reach(content, rng), size=int(rng.integers(1, 65))):
        content[place] ^= 1 << int(rng.integers(8))


def _overwrite(content: bytearray, file: Seed, rng: np.random.Generator) -> None:
    place, length = int(rng.integers(_reach(content, rng))), int(rng.integers(1, 17))
    filling = [rng.bytes(length), b"\0" * length, b"\xff" * length][int(rng.integers(3))]
    content[place : place + length] = filling[: len(content) - place]


def _cut(content: bytearray, file: Seed, rng: np.random.Generator) -> None:
    del content[int(rng.integers(_reach(content, rng))) :]


def _repeat(content: bytearray, file: Seed, rng: np.random.Generator) -> None:
    """Put a piece of the file in another place of it, between what was there."""
    begin, place = (int(rng.integers(_reach(content, rng))) for _ in range(2))
    content[place:place] = content[begin : begin + int(rng.integers(1, 4096))]


def _swap_elements(content: bytearray, file: Seed, rng: np.random.Generator) -> None:
    """Two elements change places, or only their values do."""
    if len(file.elements) < 2:
        return _repeat(content, file, rng)
    chosen = sorted(int(n) for n in rng.choice(len(file.elements), size=2, replace=False))
    first, second = (file.elements[n] for n in chosen)
    whole = bool(rng.integers(2))
    a, b = (e.start if whole else e.value for e in (first, second))
    parts = content[a : first.end], content[first.end : b], content[b : second.end]
    content[a : second.end] = parts[2] + parts[1] + parts[0]
    return None


def _absurd_value(content: bytearray, file: Seed, rng: np.random.Generator) -> None:
    """Sizes and numbers that no image has, in as many bytes as the element has."""
    known = [element for element in file.elements if element.tag in _SIZES]
    pool = known if known and rng.integers(4) else list(file.elements)
    if not pool:
        return _overwrite(content, file, rng)
    for element in (pool[int(n)] for n in rng.integers(len(pool), size=int(rng.integers(1, 4)))):
        length = min(element.end - element.value, 4096)
        if length % 2 == 0 and 0 < length <= 12 and rng.integers(4):
            number = int(rng.choice(_ABSURD_NUMBERS))
            value = struct.pack("<H", number) * (length // 2)
        else:
            text = _ABSURD_TEXTS[int(rng.integers(len(_ABSURD_TEXTS)))]
            value = text[:length].ljust(length)
        content[element.value : element.value + length] = value[: max(0, len(content))]
    return None


def _absurd_length(content: bytearray, file: Seed, rng: np.random.Generator) -> None:
    """An element that claims to be far longer, or shorter, than it is."""
    if not file.elements:
        return _overwrite(content, file, rng)
    element = file.elements[int(rng.integers(len(file.elements)))]
    width = 4 if element.value - element.start == 12 else int(rng.choice([2, 4]))
    length = int(rng.choice(_ABSURD_LENGTHS)) & (2 ** (8 * width) - 1)
    content[element.value - width : element.value] = length.to_bytes(width, "little")
    return None


def _absurd_stream(content: bytearray, file: Seed, rng: np.random.Generator) -> None:
    """Sizes in the compressed stream itself, which is what a decoder believes."""
    places = [content.find(marker, 132) for marker in _STREAM_MARKERS]
    places = [place for place in places if place >= 0]
    if not places:
        return _absurd_value(content, file, rng)
    place = places[int(rng.integers(len(places)))]
    if rng.integers(2):
        return _absurd_but_consistent(content, file, place, rng)
    place += int(rng.integers(2, 48))
    number = int(rng.choice([*_ABSURD_NUMBERS, 0x7FFFFFFF, 0xFFFFFFFF]))
    absurd = number.to_bytes(4, "big")[-int(rng.choice([1, 2, 4])) :]
    content[place : place + len(absurd)] = absurd
    return None


def _absurd_but_consistent(
    content: bytearray, file: Seed, marker: int, rng: np.random.Generator
) -> None:
    """The same large size in the header and in the stream, so that neither gives the other away."""
    rows, columns = _LARGE_SIZES[int(rng.integers(len(_LARGE_SIZES)))]
    for element in file.elements:
        if element.tag in _ROWS_AND_COLUMNS:
            length = rows if element.tag == _ROWS_AND_COLUMNS[0] else columns
            content[element.value : element.end] = struct.pack("<H", length)
    if content[marker + 1] == _SOC:
        content[marker + 8 : marker + 16] = struct.pack(">2I", columns, rows)
    else:
        content[marker + 5 : marker + 9] = struct.pack(">2H", rows, columns)


_KINDS: dict[str, Callable[[bytearray, Seed, np.random.Generator], None]] = {
    "bits": _flip_bits,
    "bytes": _overwrite,
    "cut": _cut,
    "repeat": _repeat,
    "swap": _swap_elements,
    "value": _absurd_value,
    "length": _absurd_length,
    "stream": _absurd_stream,
}


def _reach(content: bytearray, rng: np.random.Generator) -> int:
    """Half of the damage goes to the first two kilobytes, where the header is."""
    return min(len(content), _HEADER_BYTES) if rng.integers(2) else len(content)
