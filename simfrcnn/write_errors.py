"""What does it mean that the operating system refused to write, and what helps?"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from simfrcnn.errors import OutputError

REASONS = {
    errno.ENOSPC: "the disk is full: free some space and run again",
    errno.EDQUOT: "the disk quota is used up: free some space and run again",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of that path is a file, not a folder",
    errno.EEXIST: "a part of that path is a file, or a link to nothing",
    errno.ELOOP: "a part of that path is a link that leads back to itself",
    errno.ENOENT: "no folder can be made there, or it was removed meanwhile",
    errno.EISDIR: "that path is a folder",
    errno.ENAMETOOLONG: "the path is longer than the file system allows",
}
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What the operating system says of nothing but writing, whether or not it names the file."""


@contextlib.contextmanager
def explaining(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Turn a refusal of the operating system into an :class:`OutputError` with the remedy.

    With ``temporary``, a caller's code runs inside, which may read other files: then an error is
    one of writing if it names that file, or if it can be nothing else.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in REASONS or not _is_of_writing(error, temporary):
            raise
        raise OutputError(f"cannot write {path}: {REASONS[error.errno]}") from error


def _is_of_writing(error: OSError, temporary: Path | None) -> bool:
    if temporary is None:
        return True
    names = [
        os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)
    ]
    return os.fspath(temporary) in names if names else error.errno in _OF_WRITING
