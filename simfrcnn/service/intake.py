"""How does an image become part of a study in the queue, whoever brought it?"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from simfrcnn.dicom.header import read_values
from simfrcnn.errors import DicomError
from simfrcnn.service.folder import FullError, ServiceFolder, film_name
from simfrcnn.service.queue import Queue

Arrival = Literal["new", "copy", "contradicting copy"]
"""A copy has the SOP Instance UID of an image that is here already; a contradicting one has other
bytes. Of both, the first image stays."""


class IdentityError(DicomError):
    """An image without a UID that it needs, or with another one than its sender has named."""


@dataclass(frozen=True)
class Taken:
    """An image that is on the disk and in the queue; ``study`` is the name of its study."""

    study: str
    arrival: Arrival


@dataclass(frozen=True)
class Intake:
    """Puts images on the disk and into the queue of a folder."""

    folder: ServiceFolder
    queue: Queue
    now: Callable[[], float] = time.time

    def take(self, content: bytes, instance_uid: str | None = None) -> Taken:
        """Take one image; when this returns, it is on the disk and in the queue.

        Args:
            content: A DICOM file.
            instance_uid: The SOP Instance UID that it must have, where the sender has named one.

        Raises:
            IdentityError: It lacks a UID, or has another one.
            DicomError: Its header cannot be read, or it is larger than any mammogram.
            FullError: The disk is full, or fuller than it may become, or the queue cannot be
                written; nothing is left of it.
        """
        study_uid, uid = _uids(content)
        if instance_uid is not None and uid != instance_uid:
            raise IdentityError("the SOP Instance UID of the data set is not that of the request")
        study, film = self.folder.name_of(study_uid), film_name(uid)
        with self.folder.changing:
            before = self.folder.keep_film(study, film, content)
            try:
                is_new = self.queue.add_film(study, film, self.now())
            except sqlite3.OperationalError as error:
                if before is None:
                    (self.folder.films_of(study) / f"{film}.dcm").unlink()
                raise FullError(f"the queue cannot be written ({error})") from error
        if is_new:
            return Taken(study, "new")
        same = before is not None and _digest(before) == _digest(content)
        return Taken(study, "copy" if same else "contradicting copy")


def _uids(content: bytes) -> tuple[str, str]:
    """Study and SOP Instance UID."""
    found = read_values(content, ["StudyInstanceUID", "SOPInstanceUID"], "the image")
    if not all(found):
        raise IdentityError("the header lacks a Study or SOP Instance UID")
    return found[0], found[1]


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
