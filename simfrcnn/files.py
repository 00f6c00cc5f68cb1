"""Writing files so that nothing half-written remains, and hashing them."""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import itertools
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from simfrcnn.errors import DataError, OutputError
from simfrcnn.locks import LOCK, working_in
from simfrcnn.write_errors import REASONS, explaining

_UNFINISHED = ".simfrcnn-unfinished-"
_LONGEST_STEM = 40
"""Characters of a file's name in that of its temporary file, which must not grow too long."""
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False)


@contextlib.contextmanager
def writing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the block ends well.

    A reader sees the old file or the whole new one, never a part. If the block fails, the temporary
    file is removed and ``path`` is untouched. An error of the block that is not about writing this
    file, such as a source that cannot be read, is raised as it is.

    Args:
        path: The file to be.
        private: Only the owner may read and write it, from its first byte on; folders that are
            missing are made for the owner alone.

    Raises:
        OutputError: The operating system refused to write (disk full, no permission ...).
    """
    path = Path(path)
    with explaining(path):
        _make_folder(path.parent, private=private)
        temporary = _new_file_beside(path, 0o600 if private else 0o666)
    try:
        with explaining(path, temporary):
            yield temporary
        with explaining(path):
            _sync(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """Give a hidden folder inside ``folder``; move its files up when the block ends well.

    For results that belong together: if the block fails, none of them is left, and ``folder`` is as
    it was. Inside, not beside, because ``folder`` may be a mount point. What a killed run left is
    removed; while another is at work, ``folder`` is locked.

    Args:
        folder: New or empty; made if missing.

    Raises:
        OutputError: ``folder`` is a file, not empty, or another run is at work in it; or the
            operating system refused to write.
    """
    folder = Path(folder)
    require_new_or_empty(folder)
    with working_in(folder), _unfinished_in(folder) as temporary:
        yield temporary
        with explaining(folder):
            for path in sorted(temporary.iterdir()):
                path.rename(folder / path.name)


def require_new_or_empty(folder: Path) -> None:
    """Refuse at once what :func:`writing_folder` would refuse when the work for it is done.

    Raises:
        OutputError: ``folder`` is a file, or holds more than what a killed run left.
    """
    if not folder.exists():
        return
    if not folder.is_dir() or any(not _is_leftover(path) for path in folder.iterdir()):
        raise OutputError(f"{folder} is not a new or empty folder; give another")


def require_writable(folder: Path) -> None:
    """Refuse at once a folder that cannot be made or written to when the work for it is done.

    Raises:
        OutputError: A part of the path is a file or a link to nothing, or it may not be written to.
    """
    with explaining(folder):
        places = (folder, *folder.absolute().parents)
        nearest = next(place for place in places if os.path.lexists(place))
        if not nearest.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), nearest)
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), nearest)
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), nearest)


def require_writable_file(path: Path) -> None:
    """Refuse at once a file that cannot be written when its content is known.

    Raises:
        OutputError: It is a folder, or its folder cannot be written to.
    """
    if path.is_dir():
        raise OutputError(f"cannot write {path}: {REASONS[errno.EISDIR]}")
    require_writable(path.parent)


@contextlib.contextmanager
def _unfinished_in(folder: Path) -> Iterator[Path]:
    """A hidden folder, removed at the end; those that killed runs left are removed before."""
    with explaining(folder):
        for leftover in folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(leftover)
        temporary = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically (see :func:`writing`)."""
    with writing(path) as temporary:
        temporary.write_bytes(content)


def write_files(
    folder: Path, contents: Mapping[str, bytes], further: Iterable[tuple[str, bytes]] = ()
) -> None:
    """Write files that belong together: all are on disk before the first one gets its name.

    ``further`` are files too large to be held together: each is asked for when the one before it
    is on disk.
    """
    with contextlib.ExitStack() as stack:
        for name, content in itertools.chain(contents.items(), further):
            if (folder / name).is_dir():  # the rename would fail when others are through
                raise OutputError(f"cannot write {folder / name}: {REASONS[errno.EISDIR]}")
            temporary = stack.enter_context(writing(folder / name))
            temporary.write_bytes(content)
            del content  # before the next one is made
            _sync(temporary)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` to ``path`` as UTF-8, atomically (see :func:`writing`)."""
    write_bytes(path, as_utf8(content))


def as_utf8(text: str) -> bytes:
    r"""Text as UTF-8, also where it names a file whose name is none.

    The operating system gives a byte that is no UTF-8 as a lone surrogate. It is written as its
    escape, such as ``\udce9``; in a JSON file, that is how JSON itself writes it, so whoever reads
    the file has the name of the file again.
    """
    return text.encode("utf-8", errors="backslashreplace")


def write_json(path: Path, content: Any, *, indent: int | None = 1) -> None:
    """Write ``content`` as JSON, atomically. NaN and infinity are refused: they are not JSON."""
    write_text(path, as_json(content, indent=indent))


def as_json(content: Any, *, indent: int | None = 1) -> str:
    """The text that :func:`write_json` writes; it can be encoded whatever it names."""
    text = json.dumps(content, indent=indent, allow_nan=False, ensure_ascii=False) + "\n"
    return as_utf8(text).decode("utf-8")


def as_json_lines_below(content: Mapping[str, Any], levels: int) -> str:
    """The same, with a line for each value that lies ``levels`` deep: a row of a table, a list.

    A large document takes a third of the time, and a row of it can be read as one.

    >>> print(as_json_lines_below({"rows": {"case": [{"id": 1}, {"id": 2}]}}, 3), end="")
    {
     "rows": {
      "case": [
       {"id": 1},
       {"id": 2}
      ]
     }
    }
    """
    text = "".join((*_written(content, levels, "\n"), "\n"))
    return as_utf8(text).decode("utf-8")


def _written(value: Any, levels: int, margin: str) -> Iterator[str]:
    """The parts of the text of ``value``; ``margin`` begins the line on which it ends."""
    if not levels or not value or not isinstance(value, dict | list | tuple):
        yield _ENCODER.encode(value)
        return
    inner = margin + " "
    if isinstance(value, dict):
        start, end = "{}"
        parts = [(f"{_ENCODER.encode(str(key))}: ", of) for key, of in value.items()]
    else:
        start, end = "[]"
        parts = [("", of) for of in value]
    yield start
    for number, (name, of) in enumerate(parts):
        yield f",{inner}{name}" if number else inner + name
        if levels == 1:
            yield _ENCODER.encode(of)
        else:
            yield from _written(of, levels - 1, inner)
    yield margin + end


@contextlib.contextmanager
def collector_at_rest() -> Iterator[None]:
    """Python's collector of cyclic garbage rests in the block, which makes millions of objects.

    It would go through all of them again and again, and none can be garbage. What no longer has
    a reference is freed as usual.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@collector_at_rest()
def json_of(text: str | bytes) -> Any:
    """The content of a JSON text.

    Raises:
        ValueError: It is not JSON.
        RecursionError: It is nested too deeply.
    """
    return json.loads(text)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, atomically (see :func:`writing`).

    Raises:
        DataError: ``source`` cannot be read.
        OutputError: ``target`` cannot be written.
    """
    with writing(target) as temporary:
        try:
            shutil.copyfile(source, temporary)
        except OSError as error:
            if error.filename2 is None and error.filename == os.fspath(source):
                raise DataError(f"cannot read {source}: {error.strerror}") from error
            raise


def sync_folder(folder: Path) -> None:
    """Let the names in a folder be on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        read: Callable[[], bytes] = lambda: stream.read(1 << 20)  # noqa: E731
        for block in iter(read, b""):
            digest.update(block)
    return digest.hexdigest()


def _is_leftover(path: Path) -> bool:
    return path.name == LOCK or (path.name.startswith(_UNFINISHED) and path.is_dir())


def _make_folder(folder: Path, *, private: bool) -> None:
    if private:
        for missing in reversed([f for f in (folder, *folder.parents) if not f.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


def _new_file_beside(path: Path, mode: int) -> Path:
    """Make an empty hidden file; the system takes what the umask forbids off its permissions."""
    while True:
        name = f".{path.stem[:_LONGEST_STEM]}{path.suffix}.{secrets.token_hex(4)}.part"
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path.parent / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
            return path.parent / name


def _sync(path: Path) -> None:
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())
