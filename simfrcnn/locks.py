"""One run at a time in a folder, by a lock of the operating system."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from simfrcnn.errors import OutputError
from simfrcnn.write_errors import explaining

logger = logging.getLogger("simfrcnn")

LOCK = ".simfrcnn-lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""What a file system without locks says."""


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder (:func:`locked`); if new and left empty, it goes again.

    So do the folders above it that were made for it.

    Raises:
        OutputError: As of :func:`locked`.
    """
    new = [place for place in (folder, *folder.absolute().parents) if not place.exists()]
    try:
        with locked(folder):
            yield
    finally:
        for place in new:
            with contextlib.suppress(OSError):  # there is something in it: it stays
                place.rmdir()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Keep every other process that asks for it out of a folder until the block ends.

    The lock is the operating system's, on the hidden file :data:`LOCK`, and vanishes with the
    process, however that ends. A file that a killed process left locks nothing.

    Args:
        folder: Made if missing.

    Yields:
        The descriptor that holds the lock. A program that is started with it (``pass_fds``) holds
        the lock, too, as do the processes that it forks; a forked process of our own does not.

    Raises:
        OutputError: Another process is at work in it, or the operating system refused to write.
    """
    import fcntl  # not on Windows, where this module can still be imported

    path = folder / LOCK
    with explaining(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    with _holding(descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = _is_still(descriptor, path)
        except BlockingIOError:
            is_ours = False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            logger.warning("%s cannot be locked: run nothing else that writes there", folder)
            is_ours = True
        if not is_ours:
            raise OutputError(
                f"{folder}: another run is at work there: wait until it has ended, or give another "
                "folder"
            )
        try:
            yield descriptor
        finally:
            if descriptor in _held:  # not in a forked process
                path.unlink(missing_ok=True)


_held: set[int] = set()
"""Descriptors of this process's own locks."""


@contextlib.contextmanager
def _holding(descriptor: int) -> Iterator[None]:
    _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:
            _held.remove(descriptor)
            os.close(descriptor)


def _hold_nothing() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    # A loading process may outlive its killed parent by seconds, and would keep the next run out.
    os.register_at_fork(after_in_child=_hold_nothing)


def is_locked(folder: Path) -> bool:
    """Whether a process is at work in a folder under :func:`locked`; True where none can say."""
    import fcntl

    try:
        with open(folder / LOCK, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _is_still(handle: int, path: Path) -> bool:
    """Whether an open file still has its name: who held the lock before has removed it."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
