"""How do files from a browser or script come into the folder, bounded and without their names?

An upload is one new folder, which gets its name when all its files are on disk. Files are numbered:
no name that a request brings becomes part of a path. Zip files are unpacked, each file counted as
it is inflated, whatever the archive says of itself. Other compressions than deflate are refused:
:mod:`zipfile` inflates a whole read of them before a byte can be counted.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from simfrcnn.errors import OutputError
from simfrcnn.files import sync_folder, writing
from simfrcnn.service.web_refusals import Refusal, malformed, too_large, too_many_files

_MIB = 2**20
_RATIO = 200
"""Bytes that a byte of an archive may become; DICOM files of empty films inflate some 100 times."""
_RATIO_FROM_BYTES = 16 * _MIB
_FREE_BYTES = 512 * _MIB
"""What an upload leaves free on the disk."""
_STARTS = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"P2": ".pgm",
    b"P5": ".pgm",
}
_ZIP = b"PK\x03\x04"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_PREAMBLE = 128
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError,
    ValueError, LookupError,
)  # fmt: skip
"""What :mod:`zipfile` raises of archives that are damaged or encrypted."""


@dataclass(frozen=True)
class Bounds:
    """Of one upload, and how many uploads may come in a minute."""

    max_bytes: int
    max_files: int
    per_minute: int = 60

    @property
    def max_mb(self) -> int:
        """In MB, for messages."""
        return self.max_bytes // 10**6


@dataclass
class _Count:
    """What of an upload has been written."""

    n_files: int = 0
    n_bytes: int = 0
    n_passed_over: int = 0


@dataclass(frozen=True)
class Received:
    """An upload in its unfinished folder; ``n_passed_over`` files are no images."""

    folder: Path
    paths: tuple[Path, ...]
    n_passed_over: int

    def keep(self, name: str) -> Path:
        """Give the folder its name beside itself, on disk for good."""
        target = self.folder.parent / name
        self.folder.rename(target)
        sync_folder(target.parent)
        return target

    def drop(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def receive(uploads: Path, files: Sequence[IO[bytes]], bounds: Bounds) -> Received:
    """Write the files of an upload into an unfinished (hidden) folder below ``uploads``.

    Args:
        uploads: The folder of all uploads; made if missing.
        files: Whole files, or zip files, as they were sent.
        bounds: Of files and bytes.

    Raises:
        Refusal: Beyond a bound, a damaged archive, no file that is an image, or a full disk.
    """
    uploads.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(uploads).free < bounds.max_bytes + _FREE_BYTES:
        raise _full()
    folder = uploads / f".unfinished-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    count = _Count()
    paths: list[Path] = []
    try:
        for file in files:
            file.seek(0)
            if file.read(len(_ZIP)) == _ZIP:
                paths += _unpacked(file, folder, count, bounds)
            else:
                file.seek(0)
                paths += _written(file, folder, count, bounds, allowed=bounds.max_bytes)
        if not paths:
            raise _no_image()
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Received(folder, tuple(paths), count.n_passed_over)


def require_space_to_spool(n_bytes: int) -> None:
    """Refuse where the folder of temporary files has no room for a body, which comes there first.

    Raises:
        Refusal: It is full, or there is no such folder.
    """
    try:
        free = shutil.disk_usage(tempfile.gettempdir()).free
    except OSError as error:
        raise no_space_to_spool() from error
    if free < n_bytes:
        raise no_space_to_spool()


def remove_unfinished(uploads: Path) -> None:
    """Delete what a server that was killed had not received whole."""
    for folder in uploads.glob(".unfinished-*"):
        shutil.rmtree(folder, ignore_errors=True)


class _ShortReads:
    """A file of which no large part is read at once: the table of an archive is, by `zipfile`."""

    def __init__(self, file: IO[bytes], bounds: Bounds) -> None:
        self._file = file
        self._bounds = bounds

    def read(self, size: int = -1) -> bytes:
        """As of a file.

        Raises:
            Refusal: The table is that of more files than an upload may hold.
        """
        if size > max(2 * _MIB, 512 * self._bounds.max_files):
            raise too_many_files(self._bounds.max_files)
        return self._file.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        """As of a file."""
        return self._file.seek(place, whence)

    def tell(self) -> int:
        """As of a file."""
        return self._file.tell()

    def seekable(self) -> bool:
        """As of a file."""
        return True


def _unpacked(file: IO[bytes], folder: Path, count: _Count, bounds: Bounds) -> Iterator[Path]:
    size = file.seek(0, os.SEEK_END)
    allowed = count.n_bytes + max(_RATIO * size, _RATIO_FROM_BYTES)
    try:
        archive = zipfile.ZipFile(_ShortReads(file, bounds))
    except _DAMAGED as error:
        raise malformed("a zip file is damaged") from error
    with archive:
        members = [one for one in archive.infolist() if not one.is_dir()]
        if count.n_files + count.n_passed_over + len(members) > bounds.max_files:
            raise too_many_files(bounds.max_files)
        if any(one.compress_type not in _COMPRESSIONS for one in members):
            raise malformed(
                "a zip file is of an unknown compression", "pack the files again, by deflate"
            )
        for member in members:
            try:
                with archive.open(member) as stream:
                    yield from _written(stream, folder, count, bounds, allowed)
            except _DAMAGED as error:
                raise malformed(
                    "a zip file is damaged or encrypted",
                    "pack the files again, without a password",
                ) from error


def _written(
    stream: IO[bytes], folder: Path, count: _Count, bounds: Bounds, allowed: int
) -> Iterator[Path]:
    """Write one file under its number, or pass over one that is no image."""
    if count.n_files + count.n_passed_over >= bounds.max_files:
        raise too_many_files(bounds.max_files)
    start = stream.read(_PREAMBLE + 4)
    suffix = _suffix_of(start)
    if suffix is None:
        count.n_passed_over += 1
        return
    count.n_files += 1
    path = folder / f"{count.n_files:04}{suffix}"
    try:
        with writing(path) as temporary, open(temporary, "wb") as target:
            block = start
            while block:
                count.n_bytes += len(block)
                if count.n_bytes > bounds.max_bytes:
                    raise too_large(bounds.max_mb)
                if count.n_bytes > allowed:
                    raise malformed(
                        "a zip file inflates beyond any study's size", "pack the files again"
                    )
                target.write(block)
                block = stream.read(_MIB)
    except OutputError as error:
        raise _full() from error
    yield path


def _suffix_of(start: bytes) -> str | None:
    if start[_PREAMBLE:] == b"DICM":
        return ".dcm"
    return next((suffix for magic, suffix in _STARTS.items() if start.startswith(magic)), None)


def _no_image() -> Refusal:
    return Refusal(
        422,
        "the upload holds no image",
        "DICOM files with their preamble, PNG, PGM, JPEG and TIFF files, and zip files of them",
        "send the films of a study",
    )


def no_space_to_spool() -> Refusal:
    """The folder of temporary files is full, or cannot be written to."""
    return Refusal(
        507,
        "the upload cannot be kept until it is there whole",
        "a folder of temporary files with space for the largest upload",
        "free some space, or start the server with TMPDIR on a larger disk",
    )


def _full() -> Refusal:
    return Refusal(
        507,
        "the upload cannot be written",
        "a folder that may be written to, on a disk with space for the upload and some more",
        "free some space, or look at the permissions of the folder",
    )
