"""How do entries, files and the user's answers become records?"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from simfrcnn import fields
from simfrcnn.data.coco_entries import read_labels
from simfrcnn.data.sources.breasts import without_guesses
from simfrcnn.data.sources.coco import boxes, classes, names, rules
from simfrcnn.data.sources.coco.classes import IGNORE
from simfrcnn.data.sources.coco.documents import Picture, is_empty, name_of
from simfrcnn.data.sources.copies import ONE_UID, contradictions
from simfrcnn.data.sources.facts import Facts
from simfrcnn.data.sources.source import listed, note_on_labels
from simfrcnn.data.sources.table import each_good
from simfrcnn.dicom.patient import with_whole_years
from simfrcnn.errors import AnnotationError
from simfrcnn.image_labels import contradiction_of
from simfrcnn.records import (
    Box,
    Finding,
    ImageRecord,
    Laterality,
    Pathology,
    Supervision,
    ViewPosition,
)
from simfrcnn.wording import counted

_Place = tuple[Picture, Path]
"""An entry, and where its file lies."""
_PATHOLOGIES = ("malignant", "benign")


@dataclass(frozen=True)
class Answers:
    """What the user has said, and what was plain: ``classes`` is category -> class."""

    root: Path
    patient: rules.PatientRule
    pattern: re.Pattern[str] | None
    classes: Mapping[str, str]
    unboxed: Supervision | None
    crowds_are_boxes: bool
    units: str
    attributes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Made:
    """The records, and notes of what was left out, clipped or guessed."""

    records: tuple[ImageRecord, ...]
    notes: tuple[str, ...]
    unreadable: tuple[str, ...]


@dataclass
class _Seen:
    """What there is to say afterwards: file names, or counts."""

    clipped: list[str] = field(default_factory=list)
    without_box: list[str] = field(default_factory=list)
    guessed: set[int] = field(default_factory=set)
    without_outline: list[str] = field(default_factory=list)
    n_crowd: int = 0


def records_of(
    pictures: Sequence[Picture],
    places: Sequence[Path],
    found: Sequence[Facts | None],
    answers: Answers,
    *,
    all_views: bool,
    n_workers: int | None = None,
) -> Made:
    """One record for each image that can be read and, if so asked, is a screening view.

    Raises:
        AnnotationError: Entries are bad; all are named at once. Or two files have one SOP Instance
            UID, and are no copies.
    """
    seen, finding_ids = _Seen(), count(1)
    kept: list[tuple[Picture, Path, Facts]] = []
    unreadable: list[str] = []
    other_views: Counter[str] = Counter()
    copies: list[tuple[_Place, _Place]] = []
    first_of: dict[str, _Place] = {}
    for picture, path, facts in zip(pictures, places, found, strict=True):
        if facts is None:
            unreadable.append(picture.file_name)
        elif facts.not_screening is not None and not all_views:
            other_views[facts.not_screening] += 1
        elif (uid := facts.sop_instance_uid) in first_of:
            copies.append(((picture, path), first_of[uid]))
        else:
            kept.append((picture, path, facts))
            if uid is not None:
                first_of[uid] = picture, path
    _require_copies(copies, n_workers)
    made = each_good(
        pictures[0].document,
        list(enumerate(kept, start=1)),
        lambda item: _record(item[0], *item[1], answers, seen, finding_ids),
    )
    shown = [picture for picture, _, _ in kept]
    is_by_image = answers.patient.kind == "image"
    if not is_by_image:  # files whose names differ in capitals are two
        names.require_one_spelling(pictures[0].document, shown, made)
    names.require_known(pictures[0].document, shown, made)
    records = without_guesses(made, seen.guessed, knows_patients=not is_by_image)
    n_beside = sum(
        new.supervision is not old.supervision for new, old in zip(records, made, strict=True)
    )
    records, shared = names.with_own_exams(records, all_of_them=is_by_image)
    notes = (
        *(
            f"{counted(n, '[picture|pictures] left out (--all-views keeps [it|them])')}: {reason}"
            for reason, n in other_views.items()
        ),
        *listed(
            "[further copy|further copies] of one SOP instance, left out",
            [one.file_name for (one, _), _ in copies],
        ),
        *(_crowd_note(seen, answers) if seen.n_crowd else ()),
        *listed("[box|boxes] clipped to [its|their] image, of", seen.clipped),
        *listed(
            "[finding has|findings have] no usable box, so [its|their] image is image_label",
            seen.without_box,
        ),
        *listed(
            "[exam_id is|exam_ids are] of several patients, each an exam of its own; images of "
            "[it|them]",
            () if is_by_image else shared,
        ),
        *listed(
            "[outline|outlines] not taken, [its finding keeps|their findings keep] the box",
            seen.without_outline,
        ),
        *(
            (
                f"{counted(n_beside, '[image|images] without boxes [is|are]')} not taken as "
                "normal, but as image_label: another view of the exam, not certainly of the other "
                "breast, has a cancer",
            )
            if n_beside
            else ()
        ),
    )
    return Made(tuple(records), (*notes, *note_on_labels(records)), tuple(unreadable))


def _require_copies(copies: Sequence[tuple[_Place, _Place]], n_workers: int | None) -> None:
    """Refuse two entries of one SOP instance with other boxes, and files that are no copies."""
    paths = [(first[1], other[1]) for other, first in copies]
    found = contradictions(paths, n_workers)
    for ((picture, _), (first, _)), differs_in in zip(copies, found, strict=True):
        both = f"{picture.where} and {first.where}"
        if differs_in is not None:
            raise AnnotationError(
                f"{both} {ONE_UID}, but are no copies: {differs_in}; keep the right one"
            )
        if _drawn(first) != _drawn(picture):
            raise AnnotationError(
                f"{both} are one SOP instance (SOP Instance UID (0008,0018)), and their boxes "
                "differ: keep one"
            )


def _drawn(picture: Picture) -> list[tuple[str, str]]:
    return sorted((one.category, repr(one.entry.get("bbox"))) for one in picture.drawn)


def _crowd_note(seen: _Seen, answers: Answers) -> tuple[str, ...]:
    what = (
        "taken as [a box|boxes] like others (--crowd leave keeps [it as a crowd|them as crowds])"
        if answers.crowds_are_boxes
        else "left as [a crowd: it does|crowds: they do] not train"
    )
    return (counted(seen.n_crowd, f"[annotation has|annotations have] iscrowd 1: {what}"),)


def _record(
    number: int,
    picture: Picture,
    path: Path,
    facts: Facts,
    answers: Answers,
    seen: _Seen,
    finding_ids: Any,
) -> ImageRecord:
    _require_size(picture, facts)
    named = {} if answers.pattern is None else rules.found_in(answers.pattern, picture) or {}
    patient = _patient(picture, path, named, answers)
    findings, is_whole = _findings(picture, facts, answers, seen, finding_ids)
    supervision = _supervision(picture, findings, is_whole, answers)
    labels = _labels(picture, answers)
    if _stated(picture) is None and not findings and supervision is Supervision.NORMAL:
        seen.guessed.add(number)
    record = ImageRecord(
        image_id=number,
        file_name=path.name,
        path=path,
        height=facts.height,
        width=facts.width,
        patient_id=patient,
        exam_id=_exam(picture, patient, named, facts, answers.patient),
        supervision=supervision,
        laterality=_side(picture, named, facts),
        view_position=_view(picture, named, facts),
        pixel_spacing_mm=_spacing(picture) or facts.pixel_spacing_mm,
        pathology=fields.enum_member(picture.where, picture.entry, "pathology", Pathology)
        or _pathology(findings, supervision),
        split=picture.part,
        findings=findings,
        labels=labels,
        attributes={**facts.person, **_attributes(picture, answers), **facts.attributes},
    )
    if contradiction := contradiction_of(record, ("malignant",)):
        raise AnnotationError(f"{picture.where}: {contradiction}")
    return record


def _labels(picture: Picture, answers: Answers) -> dict[str, bool]:
    """What the image's key ``labels`` says of categories, as classes."""
    return classes.visible(read_labels(picture.where, picture.entry), answers.classes)


def _require_size(picture: Picture, facts: Facts) -> None:
    stated = (picture.entry.get("height"), picture.entry.get("width"))
    if any(stated) and tuple(stated) != (facts.height, facts.width):
        raise AnnotationError(
            f"{picture.where}: states {stated[0]} x {stated[1]} pixels (height x width), its file "
            f"has {facts.height} x {facts.width}: the boxes belong to another version of the image"
        )


def _patient(picture: Picture, path: Path, named: Mapping[str, str], answers: Answers) -> str:
    rule = answers.patient
    if rule.kind == "image":
        return os.path.relpath(path, answers.root)
    return named["patient"] if rule.kind == "from-name" else str(picture.name(rule.word))


def _exam(
    picture: Picture,
    patient: str,
    named: Mapping[str, str],
    facts: Facts,
    rule: rules.PatientRule,
) -> str:
    of_patient = "" if rule.kind == "image" else f"{patient}/"  # an exam is not one image's
    if "exam" in named:
        return f"{of_patient}{named['exam']}"
    if (stated := picture.name("exam_id")) is not None:
        return stated
    return f"{of_patient}{facts.exam_id}" if facts.exam_id else patient


def _side(picture: Picture, named: Mapping[str, str], facts: Facts) -> Laterality | None:
    if "laterality" in named:
        return Laterality(named["laterality"])
    stated = picture.fact("laterality")
    if stated is None:
        return facts.laterality
    return Laterality(rules.word_of("laterality", str(stated), picture))


def _view(picture: Picture, named: Mapping[str, str], facts: Facts) -> ViewPosition | None:
    if "view" in named:
        return ViewPosition(named["view"])
    stated = picture.fact("view_position")
    if stated is None:
        return facts.view_position
    return ViewPosition(rules.word_of("view", str(stated), picture))


def _spacing(picture: Picture) -> tuple[float, float] | None:
    stated = picture.entry.get("pixel_spacing_mm")
    if stated is None:
        return None
    if not isinstance(stated, list) or len(stated) != 2 or not all(_is_above_0(v) for v in stated):
        raise AnnotationError(
            f"{picture.where}: pixel_spacing_mm is {stated!r}; [row, column] in mm is legal"
        )
    return float(stated[0]), float(stated[1])


def _is_above_0(value: object) -> bool:
    return fields.is_finite(value) and value > 0


def _attributes(picture: Picture, answers: Answers) -> dict[str, str]:
    own = picture.entry.get("attributes")
    stated = {key: picture.fact(key) for key in answers.attributes}
    both = {**(own if isinstance(own, dict) else {}), **stated}
    return with_whole_years({str(k): str(v) for k, v in both.items() if not is_empty(v)})


def _findings(
    picture: Picture, facts: Facts, answers: Answers, seen: _Seen, finding_ids: Any
) -> tuple[tuple[Finding, ...], bool]:
    """The findings with a box, and whether every finding of the image has one."""
    findings: list[Finding] = []
    is_whole = True
    for drawn in picture.drawn:
        category = answers.classes[drawn.category]
        if category == IGNORE:
            continue
        box = boxes.box_of(drawn, facts.height, facts.width, answers.units)
        if isinstance(box, str):
            seen.without_box.append(f"{picture.file_name} ({drawn.name} {box})")
            is_whole = False
            continue
        if boxes.leaves(drawn, facts.height, facts.width, answers.units):
            seen.clipped.append(picture.file_name)
        is_crowd = boxes.is_crowd(drawn)
        seen.n_crowd += is_crowd
        outline, problem = boxes.outline_of(drawn, box, facts.height, facts.width, answers.units)
        if problem is not None:
            seen.without_outline.append(f"{picture.file_name} ({drawn.name} {problem})")
        where = f"{picture.document}: {drawn.name} ({picture.file_name})"
        number = next(finding_ids)
        finding = _finding(where, drawn.entry, box, category, number, is_crowd, answers)
        findings.append(replace(finding, outline=outline))
    return tuple(findings), is_whole


def _finding(
    where: str,
    entry: Mapping[str, Any],
    box: Box,
    category: str,
    number: int,
    is_crowd: bool,
    answers: Answers,
) -> Finding:
    return Finding(
        box=box,
        category=category,
        finding_id=number,
        pathology=Pathology(category) if category in _PATHOLOGIES else None,
        lesion_id=name_of(where, "lesion_id", entry.get("lesion_id")),
        iscrowd=is_crowd and not answers.crowds_are_boxes,
        weight=fields.optional(where, entry, "lesion_weight", fields.above_zero),
    )


def _supervision(
    picture: Picture, findings: Sequence[Finding], is_whole: bool, answers: Answers
) -> Supervision:
    stated = _stated(picture)
    if stated is Supervision.NORMAL and any(f.category == "malignant" for f in findings):
        raise AnnotationError(f"{picture.where}: supervision is normal, but it has malignant boxes")
    if not is_whole:
        return Supervision.IMAGE_LABEL
    if stated is not None:
        return stated
    labels = _labels(picture, answers)
    is_boxed = any(finding.category == "malignant" for finding in findings)
    if (labels.get("malignant") and not is_boxed) or (labels and not findings):
        return Supervision.IMAGE_LABEL
    if findings:
        return Supervision.BOXES
    assert answers.unboxed is not None  # asked for where an image says nothing itself
    return answers.unboxed


def _stated(picture: Picture) -> Supervision | None:
    """What an image, or its attributes, says of its labels."""
    said = {"supervision": picture.fact("supervision")}
    return fields.enum_member(picture.where, said, "supervision", Supervision)


def _pathology(findings: Sequence[Finding], supervision: Supervision) -> Pathology | None:
    said = {finding.pathology for finding in findings}
    for pathology in (Pathology.MALIGNANT, Pathology.BENIGN):
        if pathology in said:
            return pathology
    return Pathology.NORMAL if supervision is Supervision.NORMAL else None
