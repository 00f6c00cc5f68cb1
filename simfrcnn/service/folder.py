"""What lies in the folder of a node, and how does a film get there so that it stays?

::

    queue.sqlite          states of all studies          key       of the pseudonyms
    studies/ab12.../      films/, results/REVISION/      failed/   reason.json of each failed study
    audit.jsonl           what happened                  health.json
    unfinished/           files of this moment; emptied at the next start

The name of a study is a keyed hash of its UID, that of a film a plain one: films are read in the
order of their names, so every node makes the same result of them. A film is on the disk, under its
own name, before anybody hears that it was received.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from simfrcnn.data.pseudonyms import Pseudonyms, read_or_make_key
from simfrcnn.errors import OutputError
from simfrcnn.files import sync_folder

_NAME_DIGITS = 24
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class FullError(OutputError):
    """The disk is full, or fuller than it may become."""


class ServiceFolder:
    """The folder of one node or pull."""

    def __init__(self, path: Path, *, min_free_bytes: float = 0) -> None:
        """Make what is missing.

        Args:
            path: For the owner alone; made if missing.
            min_free_bytes: What stays free on its disk.

        Raises:
            OutputError: It cannot be made.
            ConfigError: Its key is damaged, or others can read it.
        """
        self.path = path.absolute()
        self.min_free_bytes = min_free_bytes
        self.changing = threading.Lock()
        """Held while a film comes or a study goes."""
        try:
            for folder in (self.path, self.studies, self.failed, self.unfinished):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"--folder {path} cannot be made: {error.strerror}") from error
        key, _ = read_or_make_key(self.path / "key")
        self._pseudonyms = Pseudonyms(key)

    @property
    def studies(self) -> Path:
        """A folder for each study."""
        return self.path / "studies"

    @property
    def failed(self) -> Path:
        """A folder with the reason for each study that failed."""
        return self.path / "failed"

    @property
    def unfinished(self) -> Path:
        """Files that are being written."""
        return self.path / "unfinished"

    def films_of(self, study: str) -> Path:
        """The films of a study, by its name."""
        return self.studies / study / "films"

    def results_of(self, study: str, revision: int) -> Path:
        """What was made of the films of a study, as they were at this revision."""
        return self.studies / study / "results" / str(revision)

    def name_of(self, uid: str) -> str:
        """What stands for a study in paths, queue and logs: a keyed hash of its UID."""
        return self._pseudonyms.fingerprint(uid)[:_NAME_DIGITS]

    def free_bytes(self) -> int:
        """What is free on its disk."""
        return shutil.disk_usage(self.path).free

    def keep_film(self, study: str, film: str, content: bytes) -> bytes | None:
        """Put a film on the disk; None, or the content of the film that has its name already.

        Args:
            study: Name of the study.
            film: Name of the film.
            content: A DICOM file.

        Raises:
            FullError: The disk is full, or would be fuller than it may be; nothing is left of it.
            OSError: Another refusal of the operating system; nothing is left of it either.
        """
        path = self.films_of(study) / f"{film}.dcm"
        if path.exists():
            return path.read_bytes()
        if self.free_bytes() - len(content) < self.min_free_bytes:
            raise FullError("less than --min-free-gb would stay free on the disk")
        temporary = self.unfinished / f"{film}.{secrets.token_hex(4)}.part"
        try:
            _write_through(temporary, content)
            _make_folder(path.parent)
            os.replace(temporary, path)
            sync_folder(path.parent)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise FullError("the disk is full") from error
            raise
        finally:
            temporary.unlink(missing_ok=True)
        return None

    def films(self) -> Iterator[tuple[str, str]]:
        """(study, film) of all films on the disk."""
        for path in sorted(self.studies.glob("*/films/*.dcm")):
            yield path.parent.parent.name, path.stem

    def remove_unfinished(self) -> None:
        """Delete what a killed process left half-written."""
        for path in self.unfinished.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def take_away(self, study: str) -> Path:
        """Move a study out of sight, at once and whole; what has its name after is another."""
        target = self.unfinished / f"{study}.{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.studies / study, target)
        return target


def film_name(uid: str) -> str:
    """What stands for a film in paths and queue: a hash of its UID."""
    return hashlib.sha256(uid.encode()).hexdigest()[:_NAME_DIGITS]


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _make_folder(folder: Path) -> None:
    """With its parents, on the disk."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        sync_folder(one.parent)


def _write_through(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
