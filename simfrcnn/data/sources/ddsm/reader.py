"""What do the case files, markings and converted films of DDSM say, as records?

2,620 cases of four digitised films each, in normal, benign, benign without callback and cancer
volumes. Its lossless JPEG files have no standard reader: films are read from their converted PNG
or DICOM copies.

Reference:
    Heath et al. (2001), "The Digital Database for Screening Mammography", Proceedings of the Fifth
    International Workshop on Digital Mammography, 212-218.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, groupby
from pathlib import Path

from simfrcnn import outlines
from simfrcnn.data.sources.ddsm.cases import Case, View, find_cases
from simfrcnn.data.sources.ddsm.overlay import Abnormality, read_overlay
from simfrcnn.data.sources.films import Film, find_film, has_shape_of
from simfrcnn.data.sources.malignancy import (
    DEFAULT_RULE,
    RULES,
    category_by,
    malignant_option,
    pathology_of,
    require_rule,
)
from simfrcnn.data.sources.source import Source, SourceData, listed
from simfrcnn.described import Options
from simfrcnn.errors import AnnotationError, DataError
from simfrcnn.parallel import in_parallel
from simfrcnn.records import Box, Finding, ImageRecord, Outline, Pathology, Supervision
from simfrcnn.wording import agreeing, counted

CATEGORIES = {1: "malignant", 2: "benign"}
REFERENCE = "Heath et al. (2001), Proc. Fifth International Workshop on Digital Mammography"
_ONLY_LJPEG = "only .LJPEG"


@dataclass(frozen=True)
class DdsmOptions(Options):
    """What only this set can be asked for."""

    malignant: str = malignant_option()


@dataclass(frozen=True)
class _Item:
    """One view to look at."""

    image_id: int
    case: Case
    view: View

    @property
    def name(self) -> str:
        return f"{self.case.name}.{self.view.name}"


@dataclass(frozen=True)
class _Seen:
    """A view with its film, or why there is none, and what is marked on it.

    Each abnormality has its box in pixels of the film, or None where it has no place there;
    ``problem`` says why markings or places are not known. ``clipped`` is whether a box left the
    film.
    """

    item: _Item
    film: Film | str
    marked: tuple[tuple[Abnormality, Box | None], ...]
    problem: str | None = None
    clipped: bool = False

    @property
    def scale(self) -> tuple[float, float] | None:
        """(y, x) pixels of the film for one of the original; None if it has another shape."""
        view, film = self.item.view, self.film
        if isinstance(film, str) or not has_shape_of(
            (film.height, film.width), view.height, view.width
        ):
            return None
        return film.height / view.height, film.width / view.width


def read_ddsm(
    root: Path,
    *,
    malignant: str = DEFAULT_RULE,
    only_normal: bool = False,
    n_workers: int | None = None,
) -> SourceData:
    """Read the case files, markings and converted films, with a box round each marked outline.

    All films of a case of a normal volume are ``normal``. A film with markings is ``boxes``, unless
    one of them has no usable box or verdict. A film without markings is not known to be normal: it
    is ``image_label`` where its breast is marked in the other view, else ``unlabelled``. So is a
    film without malignant box if its breast has a malignant finding in the other view.

    Args:
        root: Volumes or cases, with images as PNG or DICOM beside or below.
        malignant: A rule of :data:`~simfrcnn.data.sources.malignancy.RULES`.
        only_normal: Take the normal cases alone.
        n_workers: Processes, see :func:`~simfrcnn.parallel.in_parallel`.

    Raises:
        ConfigError: The rule does not exist.
        AnnotationError: A case file is malformed. A malformed `.OVERLAY` is reported in the notes.
        DataError: There are no cases, no normal ones, or no images that can be read.
    """
    root = Path(root).absolute()
    require_rule(malignant)
    found = find_cases(root)
    cases = [case for case in found if case.is_normal] if only_normal else found
    if not cases:
        raise DataError(
            f"{root}: "
            f"{agreeing(len(found), f'[its only case is not|none of its {len(found)} cases is]')} "
            "known to be normal: give the folder that holds the volumes normal_01 ..., under "
            "these names"
        )
    image_ids = count(1)
    items = [_Item(next(image_ids), case, view) for case in cases for view in case.views]
    seen = list(in_parallel(_look_at, items, title="ddsm", unit="film", n_workers=n_workers))
    _require_films(root, seen)
    finding_ids = count(1)
    records = tuple(
        record
        for _, of_case in groupby(seen, key=lambda one: one.item.case.name)
        for record in _records(list(of_case), malignant, finding_ids)
    )
    return SourceData(
        records=records,
        categories=CATEGORIES,
        info={
            "description": "DDSM, normal cases" if only_normal else "DDSM",
            "reference": REFERENCE,
            "malignant_rule": RULES[malignant],
            "boxes": "round the marked outline, scaled where the image has another size than the "
            "original; clipped to the film",
        },
        notes=_notes(found, seen, malignant),
    )


def _look_at(item: _Item) -> _Seen:
    """Open the files of a view: the film, and what is marked on it."""
    view = item.view
    film = find_film(view.images) if view.images or not view.is_packed else _ONLY_LJPEG
    abnormalities, problem = _marked_on(item)
    seen = _Seen(item, film, tuple((one, None) for one in abnormalities), problem)
    if not abnormalities or isinstance(film, str):
        return seen
    if seen.scale is None:
        shapes = f"{film.height} x {film.width}, the original {view.height} x {view.width}"
        return replace(seen, problem=f"{item.name}: its image is {shapes}")
    original = [_scaled(one.box, seen.scale) for one in abnormalities]
    boxes = [_clipped(box, film) for box in original]
    return replace(
        seen,
        marked=tuple(zip(abnormalities, boxes, strict=True)),
        clipped=any(box not in (None, whole) for box, whole in zip(boxes, original, strict=True)),
    )


def _marked_on(item: _Item) -> tuple[tuple[Abnormality, ...], str | None]:
    """What is marked on a view; or why that is not known."""
    paths = item.view.overlays
    if not paths:
        is_lost = item.view.has_overlay
        return (), f"{item.name}: its .OVERLAY file is missing" if is_lost else None
    if len(paths) > 1:
        return (), f"{item.name}: has {len(paths)} .OVERLAY files"
    try:
        return read_overlay(paths[0]), None
    except AnnotationError as error:
        return (), f"{paths[0].name}{str(error).removeprefix(str(paths[0]))}"


def _scaled(box: Box, scale: tuple[float, float]) -> Box:
    y, x = scale
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def _outline(abnormality: Abnormality, scale: tuple[float, float] | None, film: Film) -> Outline:
    """The edge of the region that a chain code encloses, its own pixels included."""
    y, x = scale or (1.0, 1.0)
    edge = outlines.of_pixels(abnormality.outline).outline
    on_film = outlines.moved(edge, lambda point: (point[0] * x, point[1] * y))
    return outlines.clean(on_film, film.height, film.width)


def _clipped(box: Box, film: Film) -> Box | None:
    """The part of a box within the film, None if there is none."""
    x1, y1, x2, y2 = box
    inside = max(0.0, x1), max(0.0, y1), min(x2, film.width), min(y2, film.height)
    return inside if inside[0] < inside[2] and inside[1] < inside[3] else None


def _require_films(root: Path, seen: Sequence[_Seen]) -> None:
    if any(isinstance(one.film, Film) for one in seen):
        return
    packed = sum(one.film == _ONLY_LJPEG for one in seen)
    if packed:
        raise DataError(
            f"{root}: {counted(packed, '[film is|films are]')} there as .LJPEG only, DDSM's own "
            "lossless JPEG without a standard reader: convert them to 16-bit PNG or DICOM beside "
            f"the .ics files, under the same name ({seen[0].item.name}.png)"
        )
    none = f"[the only film of its .ics files is not|none of the {len(seen)} films is] there"
    raise DataError(
        f"{root}: {agreeing(len(seen), none)}: expected are images such as {seen[0].item.name}.png "
        "or .dcm"
    )


def _records(
    of_case: Sequence[_Seen], malignant: str, finding_ids: Iterator[int]
) -> Iterator[ImageRecord]:
    """The records of one case, whose views tell of each other."""
    for one in of_case:
        if isinstance(one.film, Film):
            side = one.item.view.laterality
            breast = [other for other in of_case if other.item.view.laterality is side]
            yield _record(one, one.film, breast, malignant, finding_ids)


def _record(
    seen: _Seen,
    film: Film,
    breast: Sequence[_Seen],
    malignant: str,
    finding_ids: Iterator[int],
) -> ImageRecord:
    case, view = seen.item.case, seen.item.view
    findings = tuple(
        Finding(
            box=box,
            category=category,
            finding_id=next(finding_ids),
            pathology=pathology_of(malignant, [abnormality.pathology]),
            lesion_id=f"{seen.item.name}.{abnormality.number}",
            outline=_outline(abnormality, seen.scale, film),
        )
        for abnormality, box in seen.marked
        if box is not None and (category := _category(abnormality, malignant)) is not None
    )
    of_breast = {abnormality.pathology for one in breast for abnormality, _ in one.marked}
    return ImageRecord(
        image_id=seen.item.image_id,
        file_name=film.path.name,
        path=film.path,
        height=film.height,
        width=film.width,
        patient_id=f"ddsm-{case.patient}",
        exam_id=f"ddsm-{case.name}",
        supervision=_supervision(seen, findings, breast, malignant),
        laterality=view.laterality,
        view_position=view.position,
        pixel_spacing_mm=(
            None
            if seen.scale is None
            else (view.spacing_mm / seen.scale[0], view.spacing_mm / seen.scale[1])
        ),
        pathology=Pathology.NORMAL if case.is_normal else pathology_of(malignant, of_breast),
        findings=findings,
        attributes={**case.facts, **_attributes([abnormality for abnormality, _ in seen.marked])},
    )


def _supervision(
    seen: _Seen, findings: Sequence[Finding], breast: Sequence[_Seen], malignant: str
) -> Supervision:
    """What is known of a film, by its own markings and those of the other view of its breast."""
    if seen.item.case.is_normal:
        return Supervision.NORMAL
    verdicts = {_category(one, malignant) for view in breast for one, _ in view.marked}
    if not verdicts - {None}:
        return Supervision.UNLABELLED
    is_complete = 0 < len(findings) == len(seen.marked)
    has_cancer = any(finding.category == "malignant" for finding in findings)
    all_benign = verdicts == {"benign"} and not any(view.problem for view in breast)
    is_boxed = is_complete and (has_cancer or all_benign)
    return Supervision.BOXES if is_boxed else Supervision.IMAGE_LABEL


def _category(abnormality: Abnormality, malignant: str) -> str | None:
    return category_by(malignant, abnormality.pathology, abnormality.assessment)


def _attributes(abnormalities: Sequence[Abnormality]) -> dict[str, str]:
    """The published words, those of several abnormalities joined by commas."""
    facts: dict[str, dict[str, None]] = {}
    for one in abnormalities:
        said = {
            "lesion_type": " + ".join(one.lesion_types),
            "assessment": str(one.assessment),
            "subtlety": one.subtlety,
            "pathology": one.pathology,
        }
        for name, value in said.items():
            if value:
                facts.setdefault(name, {})[value] = None
    return {name: ",".join(values) for name, values in facts.items()}


def _notes(cases: Sequence[Case], seen: Sequence[_Seen], malignant: str) -> tuple[str, ...]:
    marked = [(one, abnormality, box) for one in seen for abnormality, box in one.marked]
    without = [one for one in seen if isinstance(one.film, str)]
    outside = [one.item.name for one, _, box in marked if box is None and one.scale is not None]
    unjudged = [one.item.name for one, found, _ in marked if _category(found, malignant) is None]
    return (
        *listed(
            "[film|films] as .LJPEG only, left out: convert [it|them]",
            [one.item.name for one in without if one.film == _ONLY_LJPEG],
        ),
        *listed(
            "[film|films] without an image, left out",
            [f"{one.item.name} ({one.film})" for one in without if one.film != _ONLY_LJPEG],
        ),
        *listed(
            "[case|cases] of normal volumes with markings, not taken as normal",
            [case.name for case in cases if case.volume == "normal" and case.is_marked],
        ),
        *listed(
            "[case|cases] without markings outside of normal volumes, unlabelled",
            [case.name for case in cases if case.volume != "normal" and not case.is_marked],
        ),
        *listed(
            "[film|films] whose markings cannot be used", [s.problem for s in seen if s.problem]
        ),
        *listed("[marking|markings] outside of [its|their] film, without a box", outside),
        *listed(
            "[abnormality|abnormalities] without a verdict by the rule, left without a box",
            unjudged,
        ),
        *listed(
            "[film|films] with boxes clipped to [it|them]", [s.item.name for s in seen if s.clipped]
        ),
        *listed(
            "[film|films] of another size than the original, boxes scaled",
            [s.item.name for s in seen if s.scale not in {None, (1, 1)}],
        ),
    )


SOURCE = Source(
    name="ddsm",
    help="DDSM, the original: 2,620 cases of four films, with normal ones",
    root_help="volumes or cases with their .ics files, and the films as PNG or DICOM",
    options=DdsmOptions,
    read=lambda root, options, how: read_ddsm(
        root, malignant=options.malignant, n_workers=how.n_workers
    ),
)
