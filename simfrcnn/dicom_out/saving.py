"""Which DICOM files does a result become, by the kinds that are asked for?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from simfrcnn.dicom_out.cad import cad_report
from simfrcnn.dicom_out.capture import captures
from simfrcnn.dicom_out.comprehensive import comprehensive_report
from simfrcnn.dicom_out.extra import import_highdicom
from simfrcnn.dicom_out.findings import ExamFindings
from simfrcnn.dicom_out.marks import presentation_states
from simfrcnn.dicom_out.sources import Study, study_of
from simfrcnn.errors import ConfigError, DataError, SimFrcnnError
from simfrcnn.registry import require_known

KINDS: dict[str, Callable[[Study], Iterable[bytes]]] = {
    "sr": lambda study: [comprehensive_report(study)],
    "gsps": presentation_states,
    "cad-sr": lambda study: [cad_report(study)],
    "sc": captures,
}
"""What makes the files of each kind, in the order in which they are written."""
PICTURES_OF = "sc"
"""The kind that needs the pixels of the films."""
_OF_HIGHDICOM = ("sr", "gsps")
_UNUSABLE = (AttributeError, LookupError, TypeError, ValueError)
"""What a library raises about an element that it cannot take."""


def kinds_of(words: str | Sequence[str]) -> tuple[str, ...]:
    """The kinds that are asked for, each once, in the order of :data:`KINDS`.

    Args:
        words: ``sr,gsps``, or a sequence of kinds; an empty one is none.

    Raises:
        ConfigError: One does not exist, or needs a library that is not installed.
    """
    given = words.split(",") if isinstance(words, str) else list(words)
    names = [name.strip() for name in given if name.strip()]
    require_known("a kind of DICOM result", names, KINDS)
    if any(name in _OF_HIGHDICOM for name in names):
        import_highdicom()
    return tuple(kind for kind in KINDS if kind in names)


def require_identifiers(kinds: Sequence[str], *, are_kept: bool) -> None:
    """Refuse DICOM results of a run that writes pseudonyms.

    Raises:
        ConfigError: Kinds are asked for, and identifiers are not kept.
    """
    if kinds and not are_kept:
        raise ConfigError(
            "--dicom and pseudonyms exclude each other: a DICOM result bears the patient's name "
            "and UIDs, so that a PACS files it with the study. Add --keep-identifiers, or leave "
            "out --dicom"
        )


def files_of(findings: ExamFindings, kinds: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files of an exam: ``sr.dcm``, ``gsps-1.dcm`` ...

    Raises:
        ConfigError: A kind does not exist, or needs a library that is not installed.
        DataError: No result must be written, or a film's header cannot be used.
    """
    asked = kinds_of(kinds)
    study = study_of(findings)
    for kind in asked:
        for number, content in enumerate(_made(kind, study), start=1):
            is_single = kind in ("sr", "cad-sr")
            yield f"{kind}.dcm" if is_single else f"{kind}-{number}.dcm", content


def _made(kind: str, study: Study) -> Iterator[bytes]:
    """The files of a kind; whatever a library cannot take of a header is an error of the data."""
    try:
        yield from KINDS[kind](study)
    except SimFrcnnError:
        raise
    except _UNUSABLE as error:
        raise DataError(
            f"no DICOM result {kind}: an element of a film's header cannot be used "
            f"({type(error).__name__}: {error})"
        ) from error
