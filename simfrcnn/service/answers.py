"""How much of a DICOMweb server's answer is read into memory? Not more than a mammogram has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydicom.uid import DeflatedExplicitVRLittleEndian

from simfrcnn.dicom.header import MAX_FILE_BYTES
from simfrcnn.errors import SimFrcnnError


class AnswerError(SimFrcnnError):
    """An answer that is not read to its end; the message names nothing of what it holds."""


def bounded(response: Any, *_: Any, **__: Any) -> None:
    """Read the answer now, as far as it is bounded: a hook of ``requests``.

    It is read before anything decodes it. Deflated data sets are refused, as a few bytes of one
    can become gigabytes when they are read.

    Args:
        response: A ``requests.Response`` whose body is still to come.

    Raises:
        AnswerError: It is longer than any mammogram, or holds a deflated data set.
    """
    response.raw = _Bounded(response.raw)
    try:
        content = response.content  # which keeps it
    except AnswerError:
        response.close()
        raise
    if DeflatedExplicitVRLittleEndian.encode() in content:
        raise AnswerError("a Deflated data set, which is not read over DICOMweb")


class _Bounded:
    """The body of an answer, which ends in an error where it is too long."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, *arguments: Any, **options: Any) -> Iterator[bytes]:
        """The chunks of the body, inflated where the answer is compressed as a whole."""
        n_bytes = 0
        for chunk in self._raw.stream(*arguments, **options):
            n_bytes += len(chunk)
            if n_bytes > MAX_FILE_BYTES:
                raise AnswerError(f"an answer of more than {MAX_FILE_BYTES:,} bytes")
            yield chunk
