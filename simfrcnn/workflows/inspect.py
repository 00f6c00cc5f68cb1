"""What would spoil a training or a test, and what is in a data set? What ``data`` calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.data.coco import read_coco
from simfrcnn.data.inspect.checks.model import CheckedSet, CheckSettings, Collection, Defect
from simfrcnn.data.inspect.checks.reading import annotation_files, collect
from simfrcnn.data.inspect.checks.registry import run_checks
from simfrcnn.data.inspect.overview.anchors import (
    MATCH_IOU,
    N_LEVELS,
    coverage,
    suggest_c4,
    suggest_fpn,
)
from simfrcnn.data.inspect.overview.exploration import draw_exploration, explore
from simfrcnn.data.inspect.overview.fragment import fragment
from simfrcnn.data.inspect.overview.histograms import draw_histograms
from simfrcnn.data.inspect.overview.sheets import draw_all, evenly, sheet
from simfrcnn.data.inspect.overview.statistics import measure_inputs
from simfrcnn.described import Options, described
from simfrcnn.errors import AnnotationError, ConfigError, DataError, OutputError
from simfrcnn.files import as_utf8, require_writable, write_files
from simfrcnn.records import ImageRecord
from simfrcnn.settings import InputSettings
from simfrcnn.wording import counted

DEFAULT_SIZE = 512
BOXED_SHEET, UNBOXED_SHEET, LESION_SHEET = "boxed.png", "unboxed.png", "lesions.png"
HISTOGRAMS = "histograms.png"
FINDINGS, SEVERAL_SHEET, OUTLINE_SHEET = "findings.png", "several.png", "outlines.png"
C4_FRAGMENT, FPN_FRAGMENT = "data_c4.yaml", "data_fpn.yaml"
OUTPUTS = (
    *(BOXED_SHEET, UNBOXED_SHEET, LESION_SHEET),
    *(HISTOGRAMS, C4_FRAGMENT, FPN_FRAGMENT),
    *(FINDINGS, SEVERAL_SHEET, OUTLINE_SHEET),
)
_LEAST_SIZE = 32


@dataclass(frozen=True)
class AskedInput(Options):
    """The input of the network as a user asks for it; what is not said is as prepared.

    ``sides`` are one side, or height and width, in pixels.
    """

    sides: tuple[int, ...] = described(
        (),
        "input of the network: one side, or height and width (default: what the pictures were "
        f"prepared for, else {DEFAULT_SIZE})",
        option="--size",
        metavar="PX",
        many="words",
        parse=int,
    )
    whole_image: bool = described(
        False, "the input is the whole image, not the breast (CROP_TO_BREAST False)"
    )
    stretch: bool = described(
        False, "the input is stretched to its size, not padded (KEEP_ASPECT False)"
    )

    def settings(self, records: Sequence[ImageRecord]) -> InputSettings:
        """As asked for; where nothing is, as the pictures were prepared (but for whole ones).

        Raises:
            ConfigError: The sides are none.
        """
        asked = InputSettings(
            size_px=_size(self.sides or (DEFAULT_SIZE,)),
            crop_to_breast=not self.whole_image,
            keep_aspect=not self.stretch,
        )
        made_for = next((p.as_input for r in records if (p := r.prepared) and p.as_input), None)
        return made_for if made_for and self == AskedInput() else asked


@dataclass(frozen=True)
class InspectionOptions(Options):
    """What is shared by the checks and the overview of a data set."""

    target_classes: tuple[str, ...] = described(
        ("malignant",),
        "classes whose boxes make an image positive (default: malignant)",
        metavar="A,B",
        many="commas",
    )
    dataset: tuple[str, ...] = described(
        (),
        "a COCO file for a name",
        metavar="NAME=PATH",
        many="times",
    )
    workers: int | None = described(
        None, "processes (default: one per core, at most 8)", metavar="N", parse=int
    )

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            ConfigError: No class is given.
        """
        super().__post_init__()
        if not self.target_classes:
            raise ConfigError(
                "--target-classes is empty: give one or more class names, such as mass"
            )


def check_data(
    sets: Sequence[CheckedSet],
    asked: AskedInput,
    target_classes: tuple[str, ...],
    *,
    smallest_anchor_px: float,
    read_pixels: bool = True,
    n_workers: int | None = None,
) -> tuple[list[Defect], Collection, CheckSettings]:
    """Everything that would spoil a training or an evaluation.

    Args:
        sets: Annotation files that were read.
        asked: The input of the network.
        target_classes: Classes whose boxes make an image positive.
        smallest_anchor_px: Side of the config's smallest anchor, in input pixels.
        read_pixels: Also look into the images.
        n_workers: Processes that read images.

    Raises:
        ConfigError: The anchor or the size is none.
    """
    if smallest_anchor_px <= 0:
        raise ConfigError(f"--smallest-anchor is {smallest_anchor_px:g}: give pixels, > 0")
    settings = CheckSettings(
        input=asked.settings([r for s in sets for r in s.annotated.records]),
        smallest_anchor_px=smallest_anchor_px,
        target_classes=target_classes,
    )
    collection = collect(sets, settings.input, read_pixels=read_pixels, n_workers=n_workers)
    return run_checks(collection, settings), collection, settings


def show_data(
    target: str,
    files: Mapping[str, str],
    output: Path,
    asked: AskedInput,
    target_classes: tuple[str, ...],
    *,
    n_images: int = 40,
    overwrite: bool = False,
    n_workers: int | None = None,
) -> list[str]:
    """Draw contact sheets and histograms of a training set, and suggest anchors for a config.

    Args:
        target: A COCO file, a name, or a folder with train.json.
        files: COCO files by data set name.
        output: The folder for :data:`OUTPUTS`.
        asked: The input of the network.
        target_classes: Classes whose boxes are measured.
        n_images: Most on a sheet.
        overwrite: Replace what is in the folder.
        n_workers: Processes that read images.

    Returns:
        What was found, as lines.

    Raises:
        ConfigError: No image is asked for, or the size is none.
        DataError: The target holds no training set.
        OutputError: The folder is a file, or holds some of the outputs already.
    """
    if n_images < 1:
        raise ConfigError(f"--images is {n_images}: give 1 or more")
    _require_free(output, overwrite=overwrite)
    path = _training_file(target, files)
    annotated = read_coco(path)
    settings = asked.settings(annotated.records)
    statistics = measure_inputs(annotated.records, settings, target_classes, n_workers=n_workers)
    c4, fpn = suggest_c4(statistics.sides_px), suggest_fpn(statistics.sides_px)
    others = [name for name in annotated.categories.values() if name not in target_classes]
    sheets = _sheets(annotated.records, settings, (*target_classes, *others), n_images, n_workers)
    title = f"{path.parent.name}/{path.stem} at {settings.size_px[0]} x {settings.size_px[1]}"
    fragments = {
        name: fragment(statistics, anchors, settings, f"{title}, for {kind}", annotated.sha256)
        for name, anchors, kind in (
            (C4_FRAGMENT, c4, "a C4 detector"),
            (FPN_FRAGMENT, fpn, f"a pyramid of {N_LEVELS} levels"),
        )
    }
    beside, unread = _beside(target, files)
    explored = explore(
        {path.stem: annotated.records, **beside}, annotated.records, statistics.shares
    )
    contents = {
        **sheets,
        FINDINGS: draw_exploration(explored),
        HISTOGRAMS: draw_histograms(statistics, c4, fpn),
        **{name: as_utf8(text) for name, text in fragments.items()},
    }
    write_files(output, contents)
    lines = [
        f"{title}: {counted(statistics.n_images, 'training [image|images]')}, "
        f"{counted(len(statistics.sides_px), '[box|boxes]')}",
        f"grey values: mean {statistics.mean:.1f}, deviation {statistics.std:.1f}",
        *explored.lines(),
        *(f"{name}: not counted, it cannot be read (simfrcnn data check)" for name in unread),
    ]
    for name, anchors in (("C4", c4), ("pyramid", fpn)):
        fit = coverage(statistics.sides_px, anchors)
        lines.append(
            f"anchors for {name}: sizes {', '.join(map(str, anchors.all_sizes))}, aspect ratios "
            f"{', '.join(f'{ratio:g}' for ratio in anchors.ratios)}; best IoU {fit.mean_iou:.2f} "
            f"in the mean, at least {MATCH_IOU:g} for {fit.matched_share:.0%} of the boxes"
        )
    return [*lines, f"wrote {', '.join(contents)} -> {output}"]


def _require_free(folder: Path, *, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; give a folder as --output")
    taken = sorted(name for name in OUTPUTS if (folder / name).exists())
    if taken and not overwrite:
        raise OutputError(
            f"{folder} holds {', '.join(taken)} already; give another --output, or --overwrite"
        )
    require_writable(folder)


def _beside(
    target: str, files: Mapping[str, str]
) -> tuple[dict[str, tuple[ImageRecord, ...]], list[str]]:
    """The records of all annotation files of the target by name, and those that are malformed."""
    records: dict[str, tuple[ImageRecord, ...]] = {}
    unread: list[str] = []
    for path in annotation_files(target, files):
        try:
            records[path.stem] = read_coco(path, check_files=False).records
        except AnnotationError:
            unread.append(path.name)
    return records, unread


def _training_file(target: str, files: Mapping[str, str]) -> Path:
    """The one file of the target; of a folder, its train.json."""
    found = annotation_files(target, files)
    if len(found) == 1:
        return found[0]
    train = [path for path in found if path.stem == "train"]
    if not train:
        raise DataError(
            f"{target} holds {', '.join(path.name for path in found)}: give the file of the "
            "training set; anchors and mean are taken from nothing else"
        )
    return train[0]


def _sheets(
    records: Sequence[ImageRecord],
    settings: InputSettings,
    categories: tuple[str, ...],
    n_images: int,
    n_workers: int | None,
) -> dict[str, bytes]:
    """The pictures by file name: images with and without boxes, lesions close up; those with
    several findings, and what their outlines cover together.
    """
    boxed = evenly([record for record in records if record.findings], n_images)
    others = evenly([record for record in records if not record.findings], n_images)
    several = evenly([record for record in records if len(record.findings) > 1], n_images)
    drawn = draw_all([*boxed, *others, *several], settings, categories, n_workers=n_workers)
    with_boxes, without = drawn[: len(boxed)], drawn[len(boxed) : len(boxed) + len(others)]
    with_several = drawn[len(boxed) + len(others) :]
    close_ups = [close_up for each in with_boxes for close_up in each.close_ups]
    sheets = {
        BOXED_SHEET: sheet([each.tile for each in with_boxes], categories),
        LESION_SHEET: sheet(close_ups),
    }
    summed = [tile for each in with_several or with_boxes if (tile := each.summed) is not None]
    further = {
        UNBOXED_SHEET: ([each.tile for each in without], ()),
        SEVERAL_SHEET: ([each.tile for each in with_several], categories),
        OUTLINE_SHEET: (summed, ()),
    }
    return sheets | {name: sheet(tiles, names) for name, (tiles, names) in further.items() if tiles}


def _size(sides: Sequence[int]) -> tuple[int, int]:
    if len(sides) > 2 or min(sides) < _LEAST_SIZE:
        raise ConfigError(
            f"--size {' '.join(map(str, sides))}: give one side, or height and width, each at "
            f"least {_LEAST_SIZE} pixels"
        )
    return sides[0], sides[-1]
