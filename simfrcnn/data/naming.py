"""Under which names do exams, patients and files stand in a result?"""

from __future__ import annotations

import hashlib
from pathlib import PurePath
from typing import Protocol

from simfrcnn.data.pseudonyms import Pseudonyms, name_of_image

_HEX_DIGITS = 16
_NUMBER_DIGITS = 13
"""Of an image's number: 52 bits, which every reader of JSON keeps exactly."""


class Naming(Protocol):
    """The names of a run; equal sources get equal names in every run."""

    def exam(self, exam_id: str) -> str:
        """The name of an exam."""
        ...

    def patient(self, patient_id: str) -> str:
        """The name of a patient."""
        ...

    def file(self, place: str) -> str:
        """The name of a file, from its path below the folder."""
        ...

    def image_id(self, place: str) -> int:
        """The number of an image, of at most 52 bits."""
        ...

    def stem(self, exam_id: str) -> str:
        """How the result file of an exam is called."""
        ...

    def digest(self, text: str) -> str:
        """A hash of what must be recognised, but never read."""
        ...


class AsTheyAre:
    """The identifiers of the files; numbers are hashes of the paths."""

    def exam(self, exam_id: str) -> str:
        """The Study Instance UID, or the path."""
        return _shown(exam_id)

    def patient(self, patient_id: str) -> str:
        """The Patient ID, or what stands for it."""
        return _shown(patient_id)

    def file(self, place: str) -> str:
        """The path below the folder, with slashes; bytes that are not UTF-8 become escapes."""
        return _shown(PurePath(place).as_posix())

    def image_id(self, place: str) -> int:
        """From a hash of the path below the folder."""
        return int(_hash(f"image\0{PurePath(place).as_posix()}")[:_NUMBER_DIGITS], 16)

    def stem(self, exam_id: str) -> str:
        """From a hash of the exam: an identifier may be no file name."""
        return f"exam-{_hash(exam_id)[:_HEX_DIGITS]}"

    def digest(self, text: str) -> str:
        """SHA-256."""
        return _hash(text)


class UnderPseudonyms:
    """Pseudonyms by a key, as `prepare-data` makes them: the same image has the same one there."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms

    def exam(self, exam_id: str) -> str:
        """``exam-0123456789abcdef``."""
        return self._pseudonyms.text("exam", exam_id)

    def patient(self, patient_id: str) -> str:
        """``patient-0123456789abcdef``."""
        return self._pseudonyms.text("patient", patient_id)

    def file(self, place: str) -> str:
        """Thirteen hexadecimal digits: the image's number."""
        return name_of_image(self.image_id(place))

    def image_id(self, place: str) -> int:
        """The number that `prepare-data` gives to the file of this path."""
        return self._pseudonyms.number("image", PurePath(place).as_posix())

    def stem(self, exam_id: str) -> str:
        """The pseudonym of the exam."""
        return self.exam(exam_id)

    def digest(self, text: str) -> str:
        """A keyed hash."""
        return self._pseudonyms.fingerprint(text)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _shown(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
