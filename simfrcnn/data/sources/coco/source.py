"""What do COCO files of an annotation tool say, as records, once the user has said the rest?

CVAT, Label Studio, Roboflow, VIA, makesense, labelme's converters: they write boxes and classes.
Who the patient is, what an image without boxes means and which class is the target is not in them.
All that is not known is asked at once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from simfrcnn.data.coco_entries import read_labels
from simfrcnn.data.sources.coco import boxes, classes, rules
from simfrcnn.data.sources.coco.documents import Picture, read_documents
from simfrcnn.data.sources.coco.places import places_of
from simfrcnn.data.sources.coco.records import Answers, Made, records_of
from simfrcnn.data.sources.facts import Facts, facts_of_all
from simfrcnn.data.sources.source import ClinicOptions, Reading, Source, SourceData, listed
from simfrcnn.described import described
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.records import Supervision
from simfrcnn.wording import counted

UNBOXED = {
    "normal": "images without boxes are normal: somebody looked, and there is no target in them",
    "unlabelled": "images without boxes are unlabelled: nobody may have looked",
    "image_label": "images without boxes are image_label: something is known of them, not where",
}
"""What an image without boxes can mean -> what it says."""
CROWD = ("boxes", "leave")
_N_KEYS = 12


@dataclass(frozen=True)
class CocoOptions(ClinicOptions):
    """What plain COCO files do not say."""

    annotations: tuple[Path, ...] = described(
        (),
        "the COCO files (default: those at the top of ROOT, in annotations, or in train, valid, "
        "test)",
        parse=Path,
        many="words",
        metavar="FILE",
    )
    images: Path | None = described(
        None,
        "the folder from which file_name leads to the images (default: looked for below ROOT, as "
        "stated, in images, and by name)",
        parse=Path,
        metavar="DIR",
    )
    classes: tuple[str, ...] = described(
        (),
        "which category is which class, such as malignant=Mass,IDC benign=Cyst ignore=Nipple "
        "(default: categories named malignant and benign, in any capitals)",
        many="words",
        metavar="CLASS=CATEGORY,...",
    )
    patient: tuple[str, ...] = described(
        (),
        f"who the patient is: {rules.HOW}; the pattern's group, or groups patient, exam, "
        "laterality and view, say it (default: the images' key patient_id)",
        many="words",
        metavar="RULE",
    )
    views: str | None = described(
        None,
        "a pattern for file names with groups exam, laterality, view, where the patient is known "
        "otherwise",
        metavar="REGEX",
    )
    unboxed: str | None = described(None, "what an image without boxes is", choices=tuple(UNBOXED))
    crowd: str = described(
        "boxes",
        "what boxes with iscrowd 1 are: boxes like others (default: tools mark masks so), or "
        "leave: crowds, which do not train",
        choices=CROWD,
    )
    boxes: str = described(
        "pixels",
        "the numbers of bbox: "
        + "; ".join(f"{name}: {what}" for name, what in boxes.UNITS.items())
        + " (default: pixels)",
        choices=tuple(boxes.UNITS),
    )
    attributes: tuple[str, ...] = described(
        (), "further keys of the images to carry along", many="commas", metavar="KEY,..."
    )


def read_plain_coco(
    root: Path, options: CocoOptions = CocoOptions(), how: Reading = Reading()
) -> SourceData:
    """Read COCO files that do not say what simfrcnn must know, by the user's answers.

    An image with boxes is ``boxes``: all its findings must be boxed. One without, whose ``labels``
    say what is visible in it, is ``image_label``, and so is one that shows something malignant
    without a box of it. What the files do state in our
    keys (`patient_id`, `supervision`, `laterality` ...) is taken as it is.

    Raises:
        ConfigError: Answers are missing (all of them are named, with the options to give), or make
            no sense.
        AnnotationError: An entry is malformed.
        DataError: Files or images are missing or cannot be read.
    """
    root = Path(root).absolute()
    pictures = read_documents(root, options.annotations)
    answers = _answers(root, pictures, options)
    places = places_of(pictures, root, options.images)
    found = facts_of_all(
        places, title="coco", skip_unreadable=how.skip_unreadable, n_workers=how.n_workers
    )
    _require_no_prepared(places, found)
    made = records_of(
        pictures, places, found, answers, all_views=options.all_views, n_workers=how.n_workers
    )
    if not made.records:
        raise DataError(f"{root}: no image is left: {'; '.join(made.notes)}")
    return SourceData(
        records=made.records,
        categories=_categories(answers.classes),
        info={
            "description": "COCO files",
            "reference": "the annotation files that came with the images",
            "classes": dict(sorted(answers.classes.items())),
            "unboxed_rule": UNBOXED[options.unboxed] if options.unboxed else "as each image says",
            "patients": _patient_fact(answers),
            "boxes": boxes.UNITS[options.boxes],
        },
        notes=_notes(root, places, answers, made),
    )


def _answers(root: Path, pictures: Sequence[Picture], options: CocoOptions) -> Answers:
    """What the options say, or one error that asks for all that is missing."""
    counts = Counter(d.category for p in pictures for d in p.drawn)
    named = {name for p in pictures for name in read_labels(p.where, p.entry)}
    mapped, unknown, notes = classes.mapped(counts, options.classes, named)
    patient = rules.parse_patient(options.patient) if options.patient else None
    if patient is None and all(p.fact("patient_id") is not None for p in pictures):
        patient = rules.PatientRule("key", "patient_id")
    pattern = _pattern(patient, options)
    questions = [
        *_ask_patient(patient, pattern, pictures),
        *_ask_unboxed(pictures, mapped, options.unboxed),
        *_ask_classes(counts, unknown),
        *_ask_labels(pictures, mapped),
        *_ask_boxes(pictures, options.boxes),
    ]
    if questions or patient is None:
        files = ", ".join(sorted({_shown(root, picture.document) for picture in pictures}))
        raise ConfigError(
            f"{files}: {counted(len(questions), '[thing is|things are]')} not said by the files; "
            "add:" + "".join(f"\n  {question}" for question in questions)
        )
    return Answers(
        root=root,
        patient=patient,
        pattern=pattern,
        classes=mapped,
        unboxed=None if options.unboxed is None else Supervision(options.unboxed),
        crowds_are_boxes=options.crowd == "boxes",
        units=options.boxes,
        attributes=options.attributes,
        notes=notes,
    )


def _pattern(patient: rules.PatientRule | None, options: CocoOptions) -> re.Pattern[str] | None:
    if patient is not None and patient.kind == "from-name":
        if options.views:
            raise ConfigError("--views: the pattern of --patient from-name has all groups")
        return rules.pattern_of(patient.word, "--patient from-name", needs_patient=True)
    if options.views:
        return rules.pattern_of(options.views, "--views", needs_patient=False)
    return None


def _ask_patient(
    patient: rules.PatientRule | None,
    pattern: re.Pattern[str] | None,
    pictures: Sequence[Picture],
) -> Iterator[str]:
    names = f"names such as {rules.example_of(pictures[0])}"
    if patient is None:
        keys = ", ".join(list(dict.fromkeys(k for p in pictures for k in p.entry))[:_N_KEYS])
        yield (
            f"--patient {rules.HOW}: who the patient is, so that nobody trains and tests "
            f"(the images have the keys {keys}, and {names}; `image` is one patient an image)"
        )
    elif patient.kind == "key":
        without = [p.file_name for p in pictures if p.fact(patient.word) is None]
        if without:
            yield (
                f"--patient: {len(without)} of {counted(len(pictures), '[image has|images have]')} "
                f"no key {patient.word!r}, such as {without[0]}"
            )
    if pattern is not None:
        is_of_patient = patient is not None and patient.kind == "from-name"
        unmatched = [
            p.file_name
            for p in pictures
            if (found := rules.found_in(pattern, p)) is None
            or (is_of_patient and "patient" not in found)
        ]
        if unmatched:
            yield (
                f"{'--patient' if is_of_patient else '--views'}: the "
                f"pattern {pattern.pattern!r} is not in {len(unmatched)} of {len(pictures)} file "
                f"names, such as {unmatched[0]}"
            )


def _ask_unboxed(
    pictures: Sequence[Picture], mapped: Mapping[str, str], unboxed: str | None
) -> Iterator[str]:
    without = [
        p
        for p in pictures
        if p.fact("supervision") is None
        and not _is_labelled(p, mapped)
        and not _has_boxes(p, mapped)
    ]
    if without and unboxed is None:
        yield (
            f"--unboxed {' | '.join(UNBOXED)}: what the {len(without)} of {len(pictures)} images "
            "without boxes are"
        )


def _is_labelled(picture: Picture, mapped: Mapping[str, str]) -> bool:
    """Whether its labels say something of a class, or may do so once the categories are mapped."""
    labels = read_labels(picture.where, picture.entry)
    is_open = any(classes.class_of(name, mapped) is None for name in labels)
    return is_open or bool(classes.visible(labels, mapped))


def _has_boxes(picture: Picture, mapped: Mapping[str, str]) -> bool:
    return any(mapped.get(d.category) != classes.IGNORE for d in picture.drawn)


def _ask_classes(counts: Counter[str], unknown: Sequence[str]) -> Iterator[str]:
    if unknown:
        boxes_of = ", ".join(f"{count} {name!r}" for name, count in counts.most_common())
        yield (
            f"--classes malignant={','.join(sorted(unknown))} (or benign=, ignore=): what "
            f"{', '.join(map(repr, sorted(unknown)))} are; malignant is the target (boxes: "
            f"{boxes_of})"
        )


def _ask_labels(pictures: Sequence[Picture], mapped: Mapping[str, str]) -> Iterator[str]:
    said = {name for p in pictures for name in read_labels(p.where, p.entry)}
    unknown = sorted(name for name in said if classes.class_of(name, mapped) is None)
    if unknown:
        yield (
            f"--classes malignant={','.join(unknown)} (or benign=, ignore=): what "
            f"{', '.join(map(repr, unknown))} of the images' 'labels' are"
        )


def _ask_boxes(pictures: Sequence[Picture], units: str) -> Iterator[str]:
    if units == "pixels" and boxes.are_fractions(pictures):
        yield (
            "--boxes fractions | centres: all boxes lie within 0..1, so they are no pixels: "
            "`fractions` begin at the upper left corner, `centres` (YOLO) at the centre"
        )


def _shown(root: Path, path: Path) -> str:
    path = path.absolute()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _require_no_prepared(places: Sequence[Path], found: Sequence[Facts | None]) -> None:
    own = [path for path, facts in zip(places, found, strict=True) if facts and facts.is_prepared]
    if own:
        raise DataError(
            f"{own[0]}: simfrcnn prepare-data made this picture, and "
            f"{counted(len(own) - 1, '[other|others]')}: train on the annotation files that lie "
            "beside them, or give the source"
        )


def _categories(mapped: Mapping[str, str]) -> dict[int, str]:
    further = sorted({name for name in mapped.values() if name != classes.IGNORE})
    names = dict.fromkeys(("malignant", "benign", *further))
    return dict(zip(count(1), names, strict=False))


def _patient_fact(answers: Answers) -> str:
    if answers.patient.kind == "image":
        return "not known: each image counts as one, so a patient may be in two splits"
    return f"by {answers.patient.kind} {answers.patient.word}"


def _notes(root: Path, places: Sequence[Path], answers: Answers, made: Made) -> tuple[str, ...]:
    outside = [str(path) for path in places if not path.is_relative_to(root)]
    if outside:
        raise ConfigError(
            f"--images: {outside[0]} lies outside of --root {root}: give a --root that holds both"
        )
    is_guess = answers.patient.kind == "image"
    return (
        *answers.notes,
        *(
            (
                "each image counts as a patient of its own: if one has several, they are in two "
                "splits, and results are too good",
            )
            if is_guess
            else ()
        ),
        *made.notes,
        *listed("[image|images] that cannot be read, left out", made.unreadable),
    )


SOURCE = Source(
    name="coco",
    help="COCO files of CVAT, Label Studio, Roboflow, VIA, makesense ...",
    root_help="the folder of the export: COCO files and images",
    options=CocoOptions,
    read=read_plain_coco,
    publishes_split=True,
    has_public_ids=False,
    dicom_options=ClinicOptions.dicom,
)
