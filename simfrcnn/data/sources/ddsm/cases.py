"""Which cases and views does a download of DDSM have, and which files belong to each view?

A case is one study of one patient, described by an `.ics` file; its folder lies in a volume such as
`cancer_01` or `normal_03`. The other files are found by name, wherever they lie:
`A_1141_1.LEFT_CC.LJPEG`, `.OVERLAY`, and the converted `.png` or `.dcm`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.data.sources.films import dicom_first, is_image
from simfrcnn.dicom.patient import years_stated
from simfrcnn.errors import AnnotationError, DataError
from simfrcnn.images.names import files_below
from simfrcnn.records import Laterality, ViewPosition

_VOLUME = re.compile(r"(normal|cancer|benign|benign_without_callback)s?(_\d+)?", re.IGNORECASE)
_VIEW = re.compile(
    r"(LEFT|RIGHT)_(CC|MLO) LINES (\d+) PIXELS_PER_LINE (\d+) BITS_PER_PIXEL \d+ "
    r"RESOLUTION (\d+(?:\.\d+)?) (NON_)?OVERLAY"
)
_NAME = re.compile(r"(.+?)[._]((?:LEFT|RIGHT)_(?:CC|MLO))((?:\..*)?)", re.IGNORECASE)


@dataclass(frozen=True)
class View:
    """One film: what the `.ics` file says of it, and its files.

    Attributes:
        height: LINES, in pixels of the original.
        width: PIXELS_PER_LINE.
        spacing_mm: RESOLUTION, the side of a pixel of the original.
        has_overlay: The `.ics` file says OVERLAY.
        images: What can be read, DICOM first.
        overlays: `.OVERLAY` files.
        is_packed: There is an `.LJPEG` file.
    """

    laterality: Laterality
    position: ViewPosition
    height: int
    width: int
    spacing_mm: float
    has_overlay: bool
    images: tuple[Path, ...]
    overlays: tuple[Path, ...]
    is_packed: bool

    @property
    def name(self) -> str:
        """Such as LEFT_CC."""
        return f"{self.laterality.name}_{self.position.value}"


@dataclass(frozen=True)
class Case:
    """One `.ics` file.

    Attributes:
        name: Such as A_1141_1.
        volume: `normal`, `cancer`, `benign` or `benign_without_callback`, by the folder; None
            outside of such folders.
        facts: DENSITY (1 to 4), DIGITIZER and PATIENT_AGE (as ``age``), where they are given.
        views: In the file's order.
    """

    path: Path
    name: str
    volume: str | None
    facts: Mapping[str, str]
    views: tuple[View, ...]

    @property
    def is_marked(self) -> bool:
        """Whether any view has markings, by the `.ics` file or by its files."""
        return any(view.has_overlay or view.overlays for view in self.views)

    @property
    def is_normal(self) -> bool:
        """From a normal volume, and nothing is marked in any view."""
        return self.volume == "normal" and not self.is_marked

    @property
    def patient(self) -> str:
        """The case without the number of its study."""
        return self.name.rsplit("_", 1)[0]


def find_cases(root: Path) -> list[Case]:
    """All cases below a folder, by name.

    Raises:
        AnnotationError: An `.ics` file is malformed.
        DataError: The folder is missing, holds no `.ics` file, or one case twice.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give that of the DDSM download")
    case_files: list[Path] = []
    of_view: dict[tuple[str, str], list[Path]] = {}
    for path in files_below(root):
        if path.suffix.lower() == ".ics":
            case_files.append(path)
        elif match := _NAME.fullmatch(path.name):
            of_view.setdefault((_plain(match[1]), match[2].upper()), []).append(path)
    cases: dict[str, Case] = {}
    for path in case_files:
        case = _read_case(root, path, of_view)
        if case.name in cases:
            raise DataError(f"{cases[case.name].path} and {path} are the same case; remove one")
        cases[case.name] = case
    if not cases:
        raise DataError(f"{root}: holds no .ics file; give a folder of DDSM volumes or cases")
    return [cases[name] for name in sorted(cases)]


def _read_case(root: Path, path: Path, of_view: Mapping[tuple[str, str], list[Path]]) -> Case:
    try:
        lines = path.read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from error
    name = _plain(path.stem)
    facts: dict[str, str] = {}
    views: dict[str, View] = {}
    for line in (" ".join(line.split()) for line in lines):
        key, _, value = line.partition(" ")
        if key in {"DENSITY", "DIGITIZER"} and value:
            facts[key.lower()] = value
        elif key == "PATIENT_AGE" and value.isdecimal() and (age := years_stated(value)):
            facts["age"] = age
        elif key.startswith(("LEFT_", "RIGHT_")):
            if key in views:
                raise AnnotationError(f"{path}: {key} is there twice")
            views[key] = _view(f"{path}: {line!r}", line, of_view.get((name, key), []))
    if not views:
        raise AnnotationError(f"{path}: names no view such as LEFT_CC: not a case file of DDSM")
    return Case(path, name, _volume(root, path), facts, tuple(views.values()))


def _view(where: str, line: str, files: list[Path]) -> View:
    match = _VIEW.fullmatch(line)
    if match is None or not (int(match[3]) and int(match[4]) and float(match[5])):
        raise AnnotationError(
            f"{where} is not a view of DDSM, which reads 'LEFT_CC LINES 4696 PIXELS_PER_LINE 3024 "
            "BITS_PER_PIXEL 12 RESOLUTION 50 OVERLAY' (or NON_OVERLAY)"
        )
    return View(
        laterality=Laterality[match[1]],
        position=ViewPosition(match[2]),
        height=int(match[3]),
        width=int(match[4]),
        spacing_mm=float(match[5]) / 1000,
        has_overlay=match[6] is None,
        images=dicom_first([path for path in files if is_image(path)]),
        overlays=tuple(path for path in files if path.suffix.lower() == ".overlay"),
        is_packed=any(path.suffix.lower() == ".ljpeg" for path in files),
    )


def _volume(root: Path, path: Path) -> str | None:
    """The kind of the nearest folder of a volume's name, from the file up to the root."""
    for folder in [root.name, *path.relative_to(root).parts[:-1]][::-1]:
        if match := _VOLUME.fullmatch(folder):
            return match[1].lower()
    return None


def _plain(name: str) -> str:
    """The `.ics` file is A-1141-1, the others A_1141_1."""
    return name.upper().replace("-", "_")
