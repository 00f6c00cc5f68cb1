"""Which exams does the report show, and where do their boxes lie?

Chosen by rules that are written on the page, so that nobody can pick the pretty ones: the exams
with the highest false positives, those with the worst missed lesions, and a random sample of those
in which every lesion was found.

Shapes: D detections, G findings of one image.
"""

from __future__ import annotations

import base64
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.case import pool
from simfrcnn.evaluation.matching import FALSE_POSITIVE, REPEAT, hit_criterion, match_image
from simfrcnn.evaluation.truth import Truth, View, unit_truth
from simfrcnn.outlines import as_segmentation, moved, simplified, traced
from simfrcnn.records import ImageRecord, Outline, Point
from simfrcnn.settings import EXAMS_PER_GROUP, EvaluationSettings
from simfrcnn.wording import counted

CRITERION = hit_criterion("centre")
"""What counts as a hit in the gallery."""
GROUPS = {
    "false_positive": "worst false positives",
    "missed": "missed lesions",
    "hit": "found",
}
MAX_BOXES = 300
"""Detections drawn in one image, the highest first."""
NEVER = -1.0
_OUTLINE_TOLERANCE = 1 / 1600
"""By which part of the longer side of an image an outline may be off: half a picture's pixel."""
_SOURCE_TOLERANCE_PX = 0.5
"""The same, in pixels of the image, over its stored pixels."""


class HungPicture(Protocol):
    """An encoded picture of an image, hung for reading."""

    @property
    def content(self) -> bytes:
        """The encoded file."""

    @property
    def media_type(self) -> str:
        """Such as image/jpeg; a PNG has every stored pixel."""

    @property
    def is_mirrored(self) -> bool:
        """Whether left and right are exchanged against the stored pixels."""

    @property
    def is_upside_down(self) -> bool:
        """Whether top and bottom are exchanged against the stored pixels."""


LoadPictures = Callable[[Sequence[ImageRecord]], Iterable[HungPicture]]
"""A picture for each record, in their order."""
ClassMaps = Mapping[str, bytes]
"""Of an image, class -> a map over the stored image: an 8-bit grey PNG, 0 for 0 and 255 for 1."""
LoadMaps = Callable[[Sequence[ImageRecord]], Iterable[ClassMaps]]
"""The class maps of each record, in their order; empty where there are none."""


@dataclass(frozen=True)
class Seen:
    """A view and what its detections are.

    ``outcomes`` (D,) as of :func:`match_image`; ``hit_scores`` (G,), ``NEVER`` where missed.
    """

    view: View
    outcomes: NDArray[np.intp]
    hit_scores: NDArray[np.float64]


@dataclass(frozen=True)
class Exam:
    """An exam of the gallery; ``groups`` are the reasons for which it is shown."""

    patient_id: str
    exam_id: str
    truth: Truth
    score: float
    groups: tuple[str, ...]
    views: tuple[Seen, ...]


@dataclass(frozen=True)
class Gallery:
    """The chosen exams, of how many, and at which score a lesion counts as found."""

    exams: tuple[Exam, ...]
    n_exams: int
    score_threshold: float
    n_per_group: int
    seed: int

    @property
    def rules(self) -> list[str]:
        """How the exams were chosen, in words."""
        found = f"at score >= {self.score_threshold:.4g}; a hit: {CRITERION.description}"
        counts = {g: sum(g in exam.groups for exam in self.exams) for g in GROUPS}
        return [
            f"{len(self.exams)} of {counted(self.n_exams, '[exam is|exams are]')} shown, at most "
            f"{self.n_per_group} for each reason; one exam can be shown for several.",
            f"Worst false positives ({counts['false_positive']}): the exams with the highest false "
            "positive of all, whatever its score, in images of known truth.",
            f"Missed lesions ({counts['missed']}): positive exams with a lesion that is hit in no "
            f"view {found}; lesions that are hit at no score first, then those with the lowest "
            "score, of equal ones the largest. A positive exam without boxes is one missed lesion "
            "if its own score is lower.",
            f"Found ({counts['hit']}): a random sample (seed {self.seed}) of the exams with "
            "lesions, all of which are hit.",
        ]


def choose_exams(
    views: Sequence[View],
    settings: EvaluationSettings,
    *,
    score_threshold: float,
    n_per_group: int = EXAMS_PER_GROUP,
) -> Gallery:
    """Choose by the rules that :attr:`Gallery.rules` states.

    Args:
        views: All images of the test set.
        settings: Whose ``bootstrap_seed`` draws the sample.
        score_threshold: From which score on a lesion counts as found.
        n_per_group: At most so many exams for each reason.
    """
    by_exam: dict[tuple[str, str], list[View]] = defaultdict(list)
    for view in views:
        by_exam[view.record.patient_id, view.record.exam_id].append(view)
    false_positives: list[tuple[float, tuple[str, str]]] = []
    missed: list[tuple[float, float, tuple[str, str]]] = []
    found: list[tuple[str, str]] = []
    for key in sorted(by_exam):
        seen = [_seen(view) for view in by_exam[key] if view.has_regions]
        highest = [_highest_false_positive(one, settings) for one in seen]
        # Of the others, which are most, every detection is false, and the first is the highest.
        highest += [
            view.score
            for view in by_exam[key]
            if view.is_located and len(view.scores) and not view.has_regions
        ]
        if (worst := max(highest, default=NEVER)) > NEVER:
            false_positives.append((-worst, key))
        lesions = _lesions(seen, by_exam[key], settings)
        open_ones = [(score, -area) for score, area in lesions if score < score_threshold]
        if open_ones:
            missed.append((*min(open_ones), key))
        elif lesions and any(view.findings for view in by_exam[key]):
            found.append(key)
    seed = settings.bootstrap_seed
    sample = random.Random(seed).sample(found, min(n_per_group, len(found)))
    chosen = {
        "false_positive": [key for _, key in sorted(false_positives)[:n_per_group]],
        "missed": [key for *_, key in sorted(missed)[:n_per_group]],
        "hit": sample,
    }
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for group, keys in chosen.items():
        for key in keys:
            reasons[key].append(group)
    exams = tuple(_exam(key, by_exam[key], groups, settings) for key, groups in reasons.items())
    return Gallery(exams, len(by_exam), score_threshold, n_per_group, seed)


def gallery_data(
    gallery: Gallery,
    pictures: Mapping[int, HungPicture],
    settings: EvaluationSettings,
    maps: Mapping[int, ClassMaps] | None = None,
) -> list[dict[str, Any]]:
    """The exams in JSON types; boxes in pixels of the picture as it hangs.

    Args:
        gallery: What :func:`choose_exams` chose.
        pictures: By image id; an image without one is drawn as an empty frame.
        settings: Which classes are targets, and whether repeats are false positives.
        maps: By image id; of an image only the names of its classes are said.
    """
    return [exam_data(exam, pictures, settings, maps or {}) for exam in gallery.exams]


def exam_data(
    exam: Exam,
    pictures: Mapping[int, HungPicture],
    settings: EvaluationSettings,
    maps: Mapping[int, ClassMaps],
    *,
    is_at_source: bool = False,
) -> dict[str, Any]:
    """One exam of :func:`gallery_data`; outlines as fine as stored pixels if ``is_at_source``."""
    views = []
    for seen in exam.views:
        record = seen.view.record
        tolerance = _OUTLINE_TOLERANCE * max(record.height, record.width)
        hanging = _Hanging(
            record,
            pictures.get(record.image_id),
            _SOURCE_TOLERANCE_PX if is_at_source else tolerance,
        )
        classes = list(maps.get(record.image_id, ()))
        views.append({**_view_data(seen, hanging, settings), "heat": classes})
    return {
        "id": exam.exam_id,
        "patient": exam.patient_id,
        "truth": exam.truth.label,
        "score": exam.score,
        "groups": list(exam.groups),
        "views": views,
    }


def map_sources(maps: Mapping[int, ClassMaps]) -> dict[str, str]:
    """Class maps as data URLs, by image id and class with a space between."""
    start = "data:image/png;base64,"
    return {
        f"{image_id} {category}": start + base64.b64encode(content).decode("ascii")
        for image_id, of_image in maps.items()
        for category, content in of_image.items()
    }


def picture_source(picture: HungPicture) -> str:
    """The picture as a data URL."""
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.content).decode('ascii')}"


def _seen(view: View) -> Seen:
    if not view.has_regions:  # most images: nothing to match
        outcomes = np.full(len(view.scores), FALSE_POSITIVE, dtype=np.intp)
    else:
        outcomes = match_image(
            view.boxes, view.finding_boxes, CRITERION, view.crowd_boxes, view.ignored_boxes
        )
    hit_scores = np.full(len(view.findings), NEVER)
    is_hit = outcomes >= 0
    hit_scores[outcomes[is_hit]] = view.scores[is_hit]
    return Seen(view, outcomes, hit_scores)


def _is_false(seen: Seen, settings: EvaluationSettings) -> NDArray[np.bool_]:
    """(D,) which detections are false positives; nobody knows where findings are not located."""
    if not seen.view.is_located:
        return np.zeros(len(seen.outcomes), dtype=bool)
    is_false: NDArray[np.bool_] = seen.outcomes == FALSE_POSITIVE
    if settings.count_repeats_as_false_positives:
        is_false |= seen.outcomes == REPEAT
    return is_false


def _highest_false_positive(seen: Seen, settings: EvaluationSettings) -> float:
    return float(seen.view.scores[_is_false(seen, settings)].max(initial=NEVER))


def _lesions(
    seen: Sequence[Seen], views: Sequence[View], settings: EvaluationSettings
) -> list[tuple[float, float]]:
    """Score and area (px^2) of each lesion: of its best hit in any view, and of its largest box.

    A finding without lesion id is a lesion. A positive exam without boxes is one lesion, found at
    the exam's own score. ``seen`` are those of its ``views`` that have findings, at least.
    """
    lesions: dict[object, tuple[float, float]] = {}
    for one in seen:
        for finding, score in zip(one.view.findings, one.hit_scores.tolist(), strict=True):
            x1, y1, x2, y2 = finding.box
            key = finding.lesion_id or (one.view.record.image_id, finding.finding_id)
            known_score, known_area = lesions.get(key, (NEVER, 0.0))
            lesions[key] = (max(known_score, score), max(known_area, (x2 - x1) * (y2 - y1)))
    if not lesions and unit_truth(views, settings) is Truth.POSITIVE:
        return [(pool([view.score for view in views], settings.pooling), 0.0)]
    return list(lesions.values())


def _exam(
    key: tuple[str, str], views: Sequence[View], groups: Sequence[str], settings: EvaluationSettings
) -> Exam:
    return Exam(
        patient_id=key[0],
        exam_id=key[1],
        truth=unit_truth(views, settings),
        score=pool([view.score for view in views], settings.pooling),
        groups=tuple(groups),
        views=tuple(_seen(view) for view in views),
    )


def _view_data(seen: Seen, hanging: _Hanging, settings: EvaluationSettings) -> dict[str, Any]:
    view, record, picture = seen.view, hanging.record, hanging.picture
    hit_by_box = dict(zip((f.finding_id for f in view.findings), seen.hit_scores, strict=True))
    marked = []
    for finding in record.findings:
        is_target = finding.category in settings.target_classes and not finding.iscrowd
        hit = float(hit_by_box[finding.finding_id]) if is_target else NEVER
        marked.append(
            {
                "box": hanging.box(finding.box),
                "name": finding.category + (" (region)" if finding.iscrowd else ""),
                "target": is_target,
                "hit": None if hit == NEVER else hit,
                **hanging.outlined(finding.outline),
            }
        )
    is_false = _is_false(seen, settings)
    kinds = np.where(seen.outcomes >= 0, "hit", np.where(is_false, "false", "other"))
    boxes = view.boxes[:MAX_BOXES].tolist()

    return {
        "id": record.image_id,
        "side": record.laterality.value if record.laterality else None,
        "view": record.view_position.value if record.view_position else None,
        "width": record.width,
        "height": record.height,
        "mirrored": picture is not None and picture.is_mirrored,
        "upside_down": picture is not None and picture.is_upside_down,
        "truth": view.truth.label,
        "score": view.score,
        "marked": marked,
        "found": [
            [*hanging.box(box), score, str(kind), *_more(view, place, hanging)]
            for place, (box, score, kind) in enumerate(
                zip(boxes, view.scores.tolist(), kinds, strict=False)
            )
        ],
        "left_out": max(0, len(view.scores) - MAX_BOXES),
    }


def _more(view: View, place: int, hanging: _Hanging) -> list[dict[str, Any]]:
    """What a detection has of a second look (both scores, the square) and of a mask head."""
    more: dict[str, Any] = {}
    if view.looks is not None and not np.isnan(view.looks[place]).any():
        more["looks"] = view.looks[place].tolist()
        if view.squares is not None and not np.isnan(view.squares[place]).any():
            more["square"] = hanging.box(view.squares[place].tolist())
    mask = None if view.masks is None else view.masks[place]
    if mask is not None:
        more |= hanging.outlined(traced(mask.to_array()).outline)
    return [more] if more else []


@dataclass(frozen=True)
class _Hanging:
    """Where what is stated in stored pixels lies in the picture as it hangs."""

    record: ImageRecord
    picture: HungPicture | None
    outline_tolerance_px: float

    def point(self, point: Point) -> Point:
        x, y = point
        if self.picture is not None and self.picture.is_mirrored:
            x = self.record.width - x
        if self.picture is not None and self.picture.is_upside_down:
            y = self.record.height - y
        return x, y

    def box(self, box: Sequence[float]) -> list[float]:
        """x1, y1, x2, y2, to 0.1 px."""
        (x1, y1), (x2, y2) = self.point((box[0], box[1])), self.point((box[2], box[3]))
        return [round(side, 1) for side in (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))]

    def outlined(self, outline: Outline) -> dict[str, list[list[float]]]:
        """An outline as x, y, x, y ... of each ring; or nothing."""
        if not outline:
            return {}
        turned = moved(simplified(outline, self.outline_tolerance_px), self.point)
        return {"outline": [[round(side, 1) for side in ring] for ring in as_segmentation(turned)]}
