"""What a request is refused for: a status, what is wrong, what is legal, and what to do.

No message holds a name of a file, a value of a header or anything else that an upload brings.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False)
class Refusal(Exception):
    """Answered as JSON: ``error``, ``legal``, ``remedy``; ``retry_after_s`` as Retry-After."""

    status: int
    error: str
    legal: str
    remedy: str
    retry_after_s: int | None = None

    def to_dict(self) -> dict[str, str]:
        """In JSON types."""
        return {"error": self.error, "legal": self.legal, "remedy": self.remedy}


def too_large(max_mb: int) -> Refusal:
    """An upload beyond the bound."""
    return Refusal(
        413,
        "the upload is too large",
        f"at most {max_mb} MB, packed and unpacked",
        "send one study at a time, or start the server with a larger --max-upload-mb",
    )


def too_many_files(max_files: int) -> Refusal:
    """An upload of more files than the bound."""
    return Refusal(
        413,
        "the upload holds too many files",
        f"at most {max_files} files, those in zip files counted",
        "send one study at a time, or start the server with a larger --max-files",
    )


def malformed(what: str, remedy: str = "send it again") -> Refusal:
    """A body that is not what it says."""
    return Refusal(
        400, what, "multipart/form-data with DICOM or picture files, or zip files of them", remedy
    )


def unknown_study() -> Refusal:
    """An id that no study has."""
    return Refusal(
        404, "there is no such study", "the ids that GET /studies lists", "take one of these"
    )


def too_many_studies(n_studies: int, at_most: int) -> Refusal:
    """An upload of more studies than can ever wait."""
    return Refusal(
        413,
        f"the upload holds {n_studies} studies",
        f"at most {at_most} studies; a picture that is no DICOM file is one of its own",
        "send fewer at a time, or start the server with a larger --queue",
    )


def busy(n_waiting: int, n_more: int = 1) -> Refusal:
    """The queue has no room for so many more."""
    return Refusal(
        503,
        f"{n_waiting} studies are waiting, and there is no room for {n_more} more",
        "to wait until one is done",
        "try again later, or start the server with a larger --queue",
        retry_after_s=10,
    )


def many_uploads(n_uploads: int) -> Refusal:
    """Too many uploads at a time."""
    return Refusal(
        503,
        f"{n_uploads} uploads are under way, and no more are taken",
        "to wait until one is done",
        "try again later, one upload after the other",
        retry_after_s=10,
    )
