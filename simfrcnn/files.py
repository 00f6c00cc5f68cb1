"""Writing files so that nothing half-written remains, and hashing them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from simfrcnn.errors import OutputError

_REASONS = {
    errno.ENOSPC: "the disk is full: free some space and run again",
    errno.EDQUOT: "the disk quota is used up: free some space and run again",
    errno.EACCES: "no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of that path is a file, not a folder",
    errno.EEXIST: "a part of that path is a file, not a folder",
    errno.EISDIR: "that path is a folder",
}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the block ends well.

    A reader sees the old file or the whole new one, never a part. If the block fails, the temporary
    file is removed and ``path`` is untouched.

    Raises:
        OutputError: The operating system refused to write (disk full, no permission ...).
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary)
        _give_ordinary_permissions(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        raise OutputError(f"cannot write {path}: {_REASONS[error.errno]}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically (see :func:`writing`)."""
    with writing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` to ``path`` as UTF-8, atomically (see :func:`writing`)."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any, *, indent: int | None = 1) -> None:
    """Write ``content`` as JSON, atomically. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        read: Callable[[], bytes] = lambda: stream.read(1 << 20)  # noqa: E731
        for block in iter(read, b""):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def _give_ordinary_permissions(path: Path) -> None:
    """mkstemp makes files that only their owner reads; give them what the umask would."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)
