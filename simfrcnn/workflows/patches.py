"""How does a data set become patches at a detector's scale? What ``prepare-patches`` calls."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from simfrcnn import outlines
from simfrcnn.artifacts import read_detections
from simfrcnn.config import data_settings, input_settings
from simfrcnn.config.without_engine import load_without_engine
from simfrcnn.data import catalog, patches
from simfrcnn.data.coco import AnnotatedSet, write_coco
from simfrcnn.data.patches import Patch, PatchSettings, PatchSources
from simfrcnn.errors import DataError
from simfrcnn.files import require_new_or_empty, writing_folder
from simfrcnn.images.breast import breast_mask
from simfrcnn.images.png import encode_png
from simfrcnn.images.preprocess import moved
from simfrcnn.images.reading import load_greys
from simfrcnn.labels import drawn_findings
from simfrcnn.parallel import in_parallel
from simfrcnn.records import Box, Finding, ImageRecord, Supervision
from simfrcnn.settings import InputSettings
from simfrcnn.structures import Frame
from simfrcnn.training.loading import as_content, moved_outline
from simfrcnn.wording import counted, first_few

logger = logging.getLogger("simfrcnn")

IMAGES = "images"
INFO_KEY = "patches"
_N_NAMED = 5


@dataclass(frozen=True)
class _Seen:
    """An image as its input: (h, w) without padding, and boxes in input pixels.

    ``boxes`` are those that are drawn, without those that are too small for a patch; ``marked`` is
    everything that background must not meet.
    """

    size: tuple[int, int]
    frame: Frame
    boxes: tuple[Box, ...]
    marked: tuple[Box, ...]
    n_too_small: int

    def holds(self, side: int) -> bool:
        """Whether a square of this side fits into it."""
        return min(self.size) >= side


@dataclass(frozen=True)
class _Task:
    record: ImageRecord
    n_background: int
    found: tuple[Box, ...]


def prepare_patches(
    dataset: str,
    config_file: str,
    output: Path,
    settings: PatchSettings,
    sources: PatchSources | None = None,
) -> Counter[str]:
    """Cut patches from what a detector would see, and write them as a data set.

    A patch of a finding has supervision ``boxes``, with every box that it meets clipped to it; one
    of background is ``normal``. Patient, exam, side, view and division stay, so the check for
    patients in two sets works on patches. Images of which not all is known give none.

    Args:
        dataset: A name, or ``NAME=FILE``.
        config_file: Of the detector: its INPUT.MAMMO and DATASETS.TARGET_CLASSES count.
        output: A new or empty folder, for pictures and ``<name of the file>.json``.
        settings: Side, number, seed.
        sources: Detections for hard normal patches, and how many processes work.

    Returns:
        How many patches of each kind there are, and ``beyond``, how many of them are of findings
        that are larger than the side.

    Raises:
        ConfigError: The side does not suit the data.
        DataError: No finding gives a patch, or an image cannot be read.
        ArtifactError: Detections of other images.
        OutputError: The folder is not empty, or cannot be written.
    """
    require_new_or_empty(output)
    cfg = load_without_engine(config_file)
    seen_as, targets = input_settings(cfg).unwindowed(), data_settings(cfg).target_classes
    sources = sources or PatchSources()
    annotated = catalog.load(*catalog.named(dataset))
    records = [record for record in annotated.records if patches.gives_patches(record)]
    look = partial(_seen, settings=seen_as)
    found = in_parallel(look, records, title="boxes", unit="image", n_workers=sources.workers)
    seen = {str(r.image_id): each for r, each in zip(records, found, strict=True)}
    boxes = [box for each in seen.values() for box in each.boxes]
    sizes = [seen[str(r.image_id)].size for r in records if drawn_findings(r)]
    patches.require_fitting_side(boxes, sizes, settings.side)
    n_beyond = sum(patches.is_beyond(box, settings.side) for box in boxes)
    n_findings = (len(boxes) - n_beyond) * settings.per_finding
    n_findings += n_beyond * min(2, settings.per_finding)
    wrong = _wrong_places(annotated, sources.detections, targets)
    hard = patches.worst_places(_on_background(wrong, seen, settings), n_findings // 2)
    n_background = n_findings - sum(map(len, hard.values()))
    large = [key for key, each in seen.items() if each.holds(settings.side)]
    of_image = patches.shares(n_background, large, settings.seed)
    tasks = [
        _Task(r, of_image.get(key, 0), tuple(hard.get(key, ())))
        for r, key in zip(records, seen, strict=True)
    ]
    with writing_folder(output) as folder:
        (folder / IMAGES).mkdir()
        make = partial(_made, folder=folder, seen_as=seen_as, settings=settings)
        made = in_parallel(make, tasks, title="patches", unit="image", n_workers=sources.workers)
        written = _numbered([record for of_record in made for record in of_record])
        counts = Counter(record.attributes["patch"] for record in written)
        counts["beyond"] = n_beyond * min(2, settings.per_finding)
        info = {
            **dataclasses.asdict(settings),
            "input": dataclasses.asdict(seen_as),
            "counts": dict(counts),
            "source": annotated.path.name,
            "source_sha256": annotated.sha256,
        }
        target = folder / f"{annotated.path.stem}.json"
        write_coco(target, written, annotated.categories, {**annotated.info, INFO_KEY: info})
    n_too_small = sum(each.n_too_small for each in seen.values())
    n_left_out = len(annotated.records) - len(records)
    _say(output / target.name, counts, n_findings, n_beyond, n_too_small, n_left_out)
    _say_small(records, seen, settings.side)
    return counts


def _wrong_places(
    annotated: AnnotatedSet, detections: Path | None, targets: tuple[str, ...]
) -> dict[str, list[tuple[float, Box]]]:
    """Of normal images: (score, box) of the wrong detections of targets, in stored pixels."""
    if detections is None:
        return {}
    found = read_detections(
        detections, records=annotated.records, categories=annotated.categories
    ).images
    wrong: dict[str, list[tuple[float, Box]]] = {}
    for record in annotated.records:
        if record.image_id not in found:
            raise DataError(
                f"{detections} holds no result of image {record.image_id} ({record.file_name}); "
                "give the detections of this very data set"
            )
        if record.supervision is Supervision.NORMAL and record.is_known_normal(targets):
            one = found[record.image_id]
            places = zip(one.scores.tolist(), one.boxes.tolist(), one.categories, strict=True)
            wrong[str(record.image_id)] = [
                (score, (box[0], box[1], box[2], box[3]))
                for score, box, category in places
                if category in targets
            ]
    return wrong


def _on_background(
    wrong: Mapping[str, Sequence[tuple[float, Box]]],
    seen: Mapping[str, _Seen],
    settings: PatchSettings,
) -> dict[str, list[tuple[float, Box]]]:
    """The places whose square fits into the input and meets nothing that is marked."""
    return {
        key: [(score, box) for score, box in places if _is_free(box, seen[key], settings)]
        for key, places in wrong.items()
        if seen[key].holds(settings.side)
    }


def _is_free(box: Box, seen: _Seen, settings: PatchSettings) -> bool:
    place = moved([box], seen.frame)
    return bool(patches.hard_patches(place, seen.marked, seen.size, settings, ""))


def _seen(record: ImageRecord, settings: InputSettings) -> _Seen:
    content, frame = as_content(
        record, load_greys(record), settings, [finding.box for finding in record.findings]
    )
    height, width = content.shape
    boxes = moved([f.box for f in drawn_findings(record)], frame)
    shown = tuple(filter(patches.is_large_enough, boxes))
    marked = tuple(moved([finding.box for finding in record.findings], frame))
    return _Seen((height, width), frame, shown, marked, len(boxes) - len(shown))


def _made(
    task: _Task, folder: Path, seen_as: InputSettings, settings: PatchSettings
) -> list[ImageRecord]:
    """Cut and write the patches of one image; their numbers are given later."""
    record, key = task.record, str(task.record.image_id)
    content, frame = as_content(
        record, load_greys(record), seen_as, [finding.box for finding in record.findings]
    )
    height, width = content.shape
    patches_of_image: list[Patch] = []
    everything = moved([finding.box for finding in record.findings], frame)
    drawn = moved([finding.box for finding in drawn_findings(record)], frame)
    shown = list(filter(patches.is_large_enough, drawn))
    too_small = [box for box in everything if not patches.is_large_enough(box)]
    found = moved(task.found, frame)
    if min(height, width) >= settings.side:
        patches_of_image = [
            *patches.without(
                patches.finding_patches(shown, (height, width), settings, key), too_small
            ),
            *patches.hard_patches(found, everything, (height, width), settings, key),
            *patches.background_patches(
                task.n_background, everything, breast_mask(content), settings, key
            ),
        ]
    made = []
    for number, patch in enumerate(patches_of_image):
        path = folder / IMAGES / f"{record.image_id}_{number:04d}.png"
        path.write_bytes(encode_png(patch.cut(content), {}))
        made.append(_record_of(record, patch, everything, frame, path))
    return made


def _record_of(
    record: ImageRecord, patch: Patch, boxes: Sequence[Box], frame: Frame, path: Path
) -> ImageRecord:
    """What is known of a patch."""
    findings = []
    if patch.kind == "finding":
        clipped = zip(record.findings, map(patch.moved, boxes), strict=True)
        findings = [_shown(f, box, patch, frame) for f, box in clipped if box is not None]
    spacing = record.pixel_spacing_mm
    if spacing is not None:
        spacing = spacing[0] / abs(frame.scale_y), spacing[1] / abs(frame.scale_x)
        spacing = spacing[::-1] if patch.turns else spacing
    return dataclasses.replace(
        record,
        path=path,
        file_name=path.name,
        height=patch.side,
        width=patch.side,
        pixel_spacing_mm=spacing,
        supervision=Supervision.BOXES if patch.kind == "finding" else Supervision.NORMAL,
        pathology=None,  # of the breast: a patch beside its finding shows nothing of it
        labels={},
        findings=tuple(findings),
        attributes={**record.attributes, "patch": patch.kind},
        prepared=None,
    )


def _shown(finding: Finding, box: Box, patch: Patch, frame: Frame) -> Finding:
    """A finding in a patch; of one that is cut the outline may not fill the box: it is left out."""
    outline = patch.moved_outline(moved_outline(finding.outline, frame))
    is_fitting = bool(outline) and outlines.fits(outline, box)
    return dataclasses.replace(finding, box=box, outline=outline if is_fitting else ())


def _numbered(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """The records with numbers of their own, in their order."""
    numbered, n_findings = [], 0
    for number, record in enumerate(records, start=1):
        findings = []
        for finding in record.findings:
            n_findings += 1
            findings.append(dataclasses.replace(finding, finding_id=n_findings))
        numbered.append(dataclasses.replace(record, image_id=number, findings=tuple(findings)))
    return numbered


def _say(
    path: Path,
    counts: Mapping[str, int],
    n_findings: int,
    n_beyond: int,
    n_too_small: int,
    n_left_out: int,
) -> None:
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in ("finding", "background", "hard"))
    logger.info(f"{path}: {kinds}")
    if n_beyond:
        logger.info(
            f"  {counted(n_beyond, '[box is|boxes are]')} longer than the side, and shown in part"
        )
    if n_too_small:
        logger.warning(
            f"  {counted(n_too_small, '[box is|boxes are]')} hardly a pixel in the detector's "
            "input, give no patch, and no patch shows one: a larger INPUT.MAMMO.SIZE would"
        )
    missing = n_findings - counts["background"] - counts["hard"]
    if missing > 0:
        logger.info(
            f"  {missing} fewer patches of background than of findings: too little breast without "
            "a box"
        )
    if n_left_out:
        logger.info(
            f"  {counted(n_left_out, '[image gives|images give]')} none: not all of "
            f"{'it' if n_left_out == 1 else 'them'} is known"
        )


def _say_small(records: Sequence[ImageRecord], seen: Mapping[str, _Seen], side: int) -> None:
    """Name the images without a box that are smaller than the side; with one they are refused."""
    small = [r for r, each in zip(records, seen.values(), strict=True) if not each.holds(side)]
    if not small:
        return
    least = min(min(each.size) for each in seen.values())
    names = first_few([record.file_name for record in small], _N_NAMED)
    logger.warning(
        f"  {counted(len(small), '[image without a box is|images without a box are]')} smaller "
        f"than --side {side} in the detector's input and {'gives' if len(small) == 1 else 'give'} "
        f"no patch: {names}; the others give more. A "
        f"--side of {least} takes all in; or leave such images out of the data set"
    )
