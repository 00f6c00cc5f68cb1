"""What does the header of a DICOM file say, in whichever place it says it?

A single-frame object states its facts at the top level; an enhanced one (breast tomosynthesis,
breast projection) in functional groups, shared by all frames or of one frame. :class:`Header` looks
in all of them, so that nobody else has to know.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pydicom
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_file_meta_info, read_preamble
from pydicom.multival import MultiValue
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from simfrcnn.errors import DicomError

MAX_FILE_BYTES = 256 * 2**20
"""Pixels of a larger file are not read: a single view needs at most 128 MB."""

_NAMES = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
    "1.2.840.113619.5.2": "private, GE Implicit VR with big endian pixels",
}
"""Transfer syntaxes that pydicom does not know, for errors."""
_PICTURES = {
    b"\x89PNG\r\n\x1a\n": ("PNG", (".png",)),
    b"\xff\xd8\xff": ("JPEG", (".jpg", ".jpeg")),
    b"II*\0": ("TIFF", (".tif", ".tiff")),
    b"MM\0*": ("TIFF", (".tif", ".tiff")),
    b"P5": ("PGM", (".pgm",)),
}
"""How files of other formats begin, and how their names end."""
_DICOM_ROOT = "1.2.840.10008."

_DEFER_BYTES = 2**20
_BLOCK_BYTES = 2**16


@dataclass(frozen=True)
class Header:
    """A data set and its path; values are asked for here, so that errors name file and tag."""

    path: Path
    dataset: Dataset
    has_pixels_left_out: bool = False
    """Whether Pixel Data was not read, because nobody asked for it or because it is too large."""
    digest: str | None = None
    """SHA-256 of the file's bytes before Pixel Data; None where pixels were asked for."""

    def error(self, keyword: str, problem: str) -> DicomError:
        """The error to raise about one element."""
        return DicomError(f"{self.path}: {tag_name(keyword)} {problem}")

    def value(self, keyword: str) -> Any:
        """The value of an element, None where it is absent or empty everywhere.

        Raises:
            DicomError: Its bytes are no value of its type.
        """
        for scope in self._scopes:
            value = self._value_in(scope, keyword)
            if value is not None:
                return value
        return None

    def text(self, keyword: str) -> str | None:
        """The value as text, several joined by a backslash as in the file."""
        value = self.value(keyword)
        if isinstance(value, MultiValue):
            value = "\\".join(map(str, value))
        return str(value).strip() or None if value is not None else None

    def code(self, keyword: str) -> str | None:
        """The value of an element of defined terms: files write some in small letters."""
        text = self.text(keyword)
        return text.upper() if text is not None else None

    def numbers(self, keyword: str) -> list[float]:
        """The values of a numeric element as a list, empty where it is absent.

        Raises:
            DicomError: One is not a number.
        """
        value = self.value(keyword)
        if value is None:
            return []
        values = value if isinstance(value, (list, tuple, MultiValue)) else [value]
        try:
            return [float(number) for number in values]
        except (TypeError, ValueError) as error:
            raise self.error(keyword, "is not a number: repair the file or leave it out") from error

    def whole_number(self, keyword: str, default: int | None = None) -> int:
        """The value of an element that holds one whole number.

        Raises:
            DicomError: It is something else, or absent without a default.
        """
        numbers = self.numbers(keyword)
        if not numbers and default is not None:
            return default
        if len(numbers) != 1 or not numbers[0].is_integer():
            found = "is missing" if not numbers else "is not one whole number"
            raise self.error(keyword, f"{found}: repair the file or leave it out")
        return int(numbers[0])

    def items(self, keyword: str) -> list[Dataset]:
        """The items of a sequence, empty where it is absent.

        Raises:
            DicomError: The element is no sequence.
        """
        value = self.value(keyword)
        if value is None:
            return []
        if not isinstance(value, pydicom.Sequence):
            raise self.error(keyword, "is not a sequence: repair the file or leave it out")
        return list(value)

    def has(self, keyword: str) -> bool:
        """Whether an element stands at the top level, whatever its value."""
        return keyword in self.dataset

    @cached_property
    def _scopes(self) -> tuple[Dataset, ...]:
        """The top level, then the shared functional groups, then those of the first frame."""
        return (self.dataset, *self._functional_groups())

    def _functional_groups(self) -> Iterator[Dataset]:
        for keyword in (
            "SharedFunctionalGroupsSequence",
            "PerFrameFunctionalGroupsSequence",
        ):
            groups = self._value_in(self.dataset, keyword)
            if not isinstance(groups, pydicom.Sequence) or not groups:
                continue
            for macro in groups[0]:
                if macro.VR == "SQ" and macro.value:
                    yield macro.value[0]

    def _value_in(self, scope: Dataset, keyword: str) -> Any:
        try:
            value = scope.get(keyword)
        except Exception as error:  # a malformed element fails when it is first looked at
            raise self.error(
                keyword, f"is malformed ({type(error).__name__}): repair the file or leave it out"
            ) from error
        if value is None or value == "" or (isinstance(value, MultiValue) and not value):
            return None
        return value


@contextlib.contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Whatever breaks in the block is the damage of a file, which the error names.

    pydicom warns of values that break the standard, decoders of what they meet. Nothing of that is
    shown: what matters is checked, and a warning could show a value that identifies the patient.

    Raises:
        DicomError: As it was raised, or in place of any other error.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except DicomError:
            raise
        except Exception as error:  # damaged bytes can break any element in any way
            raise DicomError(
                f"{path}: a value in it is malformed ({type(error).__name__}): the file is "
                "damaged; fetch it again or leave it out"
            ) from error


def read_header(path: Path, *, with_pixels: bool = False) -> Header:
    """Read the data set of a file.

    Args:
        path: A DICOM file.
        with_pixels: Whether to read Pixel Data as well, up to a file of :data:`MAX_FILE_BYTES`.

    Raises:
        DicomError: The file is missing, is no DICOM file or cannot be parsed.
    """
    try:
        is_large = path.stat().st_size > MAX_FILE_BYTES
        leave_out = is_large or not with_pixels
        with _BoundedReader(io.FileIO(os.fspath(path)), path.stat().st_size) as stream:
            _refuse_what_inflates_too_far(path, stream)
            dataset = pydicom.dcmread(
                stream,
                stop_before_pixels=leave_out,
                defer_size=_DEFER_BYTES if is_large else None,
            )
            digest = None if with_pixels else _digest_up_to(stream.tell(), stream)
        if not len(dataset):  # pydicom warns of a file that ends too early, and gives nothing
            raise _damaged(path, "is empty or ends too early")
        return Header(path, dataset, leave_out, digest)
    except DicomError:
        raise
    except FileNotFoundError as error:
        raise DicomError(f"{path}: no such file") from error
    except OSError as error:
        raise DicomError(f"{path}: cannot be opened ({error.strerror})") from error
    except pydicom.errors.InvalidDicomError as error:
        if path.stat().st_size == 0:
            raise DicomError(
                f"{path}: the file is empty (0 bytes): fetch it again or leave it out"
            ) from error
        raise DicomError(f"{path}: not a DICOM file{_what_instead(path)}") from error
    except Exception as error:  # a damaged file makes pydicom fail in many ways
        raise _damaged(path, f"cannot be parsed ({type(error).__name__})") from error


def _digest_up_to(end: int, stream: io.BufferedReader) -> str:
    """SHA-256 of the first ``end`` bytes of a stream."""
    digest = hashlib.sha256()
    stream.seek(0)
    while block := stream.read(min(_BLOCK_BYTES, end - stream.tell())):
        digest.update(block)
    return digest.hexdigest()


def read_values(content: bytes, keywords: Sequence[str], name: str) -> list[str]:
    """Values of a DICOM file in memory as text, empty where they are absent.

    Args:
        content: The file; of more than :data:`MAX_FILE_BYTES` nothing is read.
        keywords: Elements of the top level.
        name: What stands for the file in errors.

    Raises:
        DicomError: It is too large, is no DICOM file or cannot be parsed.
    """
    if len(content) > MAX_FILE_BYTES:
        raise DicomError(f"{name} is larger than {MAX_FILE_BYTES:,} bytes: not a mammogram")
    try:
        with _BoundedReader(io.BytesIO(content), len(content)) as stream:
            _refuse_what_inflates_too_far(name, stream)
        dataset = pydicom.dcmread(
            io.BytesIO(content), stop_before_pixels=True, specific_tags=list(keywords)
        )
        return [str(dataset.get(keyword) or "").strip() for keyword in keywords]
    except DicomError:
        raise
    except Exception as error:  # damaged bytes can break a reader in any way
        raise DicomError(f"{name} cannot be read ({type(error).__name__})") from error


def kind_of_picture(path: Path) -> str | None:
    """``PNG``, ``JPEG``, ``TIFF`` or ``PGM`` by how a file begins; None for all others."""
    with open(path, "rb") as stream:
        start = stream.read(8)
    return next((kind for magic, (kind, _) in _PICTURES.items() if start.startswith(magic)), None)


def _what_instead(path: Path) -> str:
    """What a file is that is no DICOM file, and the remedy."""
    if kind := kind_of_picture(path):
        suffixes = dict(_PICTURES.values())[kind]
        named = "" if path.suffix.lower() in suffixes else f" name it {suffixes[0]};"
        return f", but a {kind} picture:{named} in Python, detector.detect(file) reads it"
    return (
        " (no 'DICM' after the 128-byte preamble): convert it to a valid DICOM file, or leave it "
        "out"
    )


def _damaged(path: Path, how: str) -> DicomError:
    """What to say of a data set that is not there; an unknown transfer syntax explains it."""
    if (problem := _problem_of_syntax_in(path)) is not None:
        return DicomError(f"{path}: {tag_name('TransferSyntaxUID')} {problem}")
    return DicomError(
        f"{path}: the DICOM data set {how}: the file is damaged or truncated; fetch it again or "
        "leave it out"
    )


def require_known_syntax(header: Header) -> None:
    """Refuse a transfer syntax that nothing here can read, before anything else is blamed for it.

    Raises:
        DicomError: Names the syntax and the remedy.
    """
    meta = getattr(header.dataset, "file_meta", None)
    problem = _problem_of_syntax(None if meta is None else meta.get("TransferSyntaxUID"))
    if problem is not None:
        raise header.error("TransferSyntaxUID", problem)


def tag_name(keyword: str) -> str:
    """An element as an error names it: ``Rows (0028,0010)``."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def shown(text: str) -> str:
    """A code as an error shows it; anything longer might be another element, even a name."""
    return repr(text) if re.fullmatch(r"[A-Z0-9_ ]{1,16}", text) else "no legal value"


def _problem_of_syntax(stated: Any) -> str | None:
    """Why a transfer syntax cannot be read here; None if pydicom knows it, or there is none."""
    uid = UID(str(stated or ""))
    # pynetdicom adds some of the names to pydicom's dictionary, and no decoder.
    if not uid or (uid.is_transfer_syntax and uid not in _NAMES):
        return None
    is_of_standard = uid.startswith(_DICOM_ROOT)
    is_another_thing = is_of_standard and uid not in _NAMES and uid.name != uid
    if not uid.is_valid or is_another_thing:
        return "names no transfer syntax: the file is damaged"
    name = _NAMES.get(uid, "unknown here" if is_of_standard else "private")
    return (
        f"is {uid} ({name}), which cannot be decoded here: convert the file to Explicit VR Little "
        "Endian"
    )


def _problem_of_syntax_in(path: Path) -> str | None:
    """That of a file whose data set could not be parsed."""
    try:
        return _problem_of_syntax(read_file_meta_info(path).get("TransferSyntaxUID"))
    except Exception:  # then the syntax is not what is wrong with it
        return None


class _BoundedReader(io.BufferedReader):
    """A file, or bytes, that never makes room for more bytes than it has left.

    The length of an element is four bytes of the file, and pydicom asks for that many.
    """

    def __init__(self, raw: io.RawIOBase | io.BytesIO, n_bytes: int) -> None:
        super().__init__(cast("io.RawIOBase", raw), _BLOCK_BYTES)
        self._n_bytes = n_bytes

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return super().read()
        return super().read(min(size, max(0, self._n_bytes - self.tell())))


def _refuse_what_inflates_too_far(path: Path | str, stream: io.BufferedReader) -> None:
    """pydicom inflates a deflated data set in one go; a few kilobytes can become gigabytes.

    Leaves the stream at its beginning.
    """
    if DeflatedExplicitVRLittleEndian.encode() not in stream.peek(_BLOCK_BYTES):
        return
    read_preamble(stream, force=False)
    meta = read_dataset(
        stream,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag.group != 2,
    )
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        n_bytes = 0
        while not inflater.eof and (block := inflater.unconsumed_tail or stream.read(_BLOCK_BYTES)):
            n_bytes += len(inflater.decompress(block, _BLOCK_BYTES))
            if n_bytes > MAX_FILE_BYTES:
                raise DicomError(
                    f"{path}: the deflated data set is larger than {MAX_FILE_BYTES:,} bytes: not "
                    "a mammogram; leave it out"
                )
    stream.seek(0)
