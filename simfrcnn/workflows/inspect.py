"""Is a data set fit for training, and what is in it? What ``data check`` and ``data show`` call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.data import catalog
from simfrcnn.data.coco import read_coco
from simfrcnn.data.inspect.checks.model import CheckSettings, Defect, Severity
from simfrcnn.data.inspect.checks.reading import annotation_files, collect, read_sets
from simfrcnn.data.inspect.checks.registry import run_checks
from simfrcnn.data.inspect.checks.table import document, verdict
from simfrcnn.data.inspect.overview.anchors import (
    MATCH_IOU,
    N_LEVELS,
    coverage,
    suggest_c4,
    suggest_fpn,
)
from simfrcnn.data.inspect.overview.fragment import fragment
from simfrcnn.data.inspect.overview.histograms import draw_histograms
from simfrcnn.data.inspect.overview.sheets import draw_all, evenly, sheet
from simfrcnn.data.inspect.overview.statistics import measure_inputs
from simfrcnn.errors import ConfigError, DataError, OutputError
from simfrcnn.files import write_files, write_json
from simfrcnn.records import ImageRecord
from simfrcnn.settings import InputSettings

BOXED_SHEET, UNBOXED_SHEET, LESION_SHEET = "boxed.png", "unboxed.png", "lesions.png"
HISTOGRAMS = "histograms.png"
C4_FRAGMENT, FPN_FRAGMENT = "data_c4.yaml", "data_fpn.yaml"
OUTPUTS = (
    *(BOXED_SHEET, UNBOXED_SHEET, LESION_SHEET),
    *(HISTOGRAMS, C4_FRAGMENT, FPN_FRAGMENT),
)


@dataclass(frozen=True)
class Checked:
    """What a check found.

    ``tallies`` say what the labels of each file mean; ``verdict`` is the last line of the table.
    """

    tallies: Sequence[str]
    defects: Sequence[Defect]
    verdict: str

    @property
    def has_errors(self) -> bool:
        """Whether something would spoil a training or an evaluation."""
        return any(defect.severity is Severity.ERROR for defect in self.defects)


def check_data(
    targets: Sequence[str],
    *,
    datasets: Sequence[str] = (),
    asked: InputSettings | None = None,
    target_classes: tuple[str, ...] = ("malignant",),
    smallest_anchor_px: float = 16,
    read_pixels: bool = True,
    n_workers: int | None = None,
    json: Path | None = None,
) -> Checked:
    """List everything that would spoil a training or an evaluation.

    Args:
        targets: Folders of COCO files, COCO files, or names.
        datasets: ``NAME=PATH`` entries.
        asked: The network's input; None: what the pictures were prepared for, or the default one.
        target_classes: Whose boxes make an image positive.
        smallest_anchor_px: Side of the smallest anchor, in input pixels.
        read_pixels: False looks at nothing but the annotation files.
        n_workers: Processes; None: one per core, at most 8.
        json: A file for everything that was found.

    Raises:
        SimFrcnnError: A target that is not there or is no COCO file; an anchor that is not above 0.
    """
    if smallest_anchor_px <= 0:
        raise ConfigError(f"--smallest-anchor is {smallest_anchor_px:g}: give pixels, > 0")
    files = catalog.parse_files(datasets)
    sets = read_sets([path for target in targets for path in annotation_files(target, files)])
    settings = CheckSettings(
        input=input_for([r for s in sets for r in s.annotated.records], asked),
        smallest_anchor_px=smallest_anchor_px,
        target_classes=target_classes,
    )
    collection = collect(sets, settings.input, read_pixels=read_pixels, n_workers=n_workers)
    defects = run_checks(collection, settings)
    if json is not None:
        write_json(json, document(defects, collection, settings))
    tallies = [line for s in sets for line in (f"{s.name}:", *s.tally(target_classes).lines())]
    return Checked(tallies, defects, verdict(defects, collection))


def show_data(
    target: str,
    folder: Path,
    *,
    datasets: Sequence[str] = (),
    asked: InputSettings | None = None,
    target_classes: tuple[str, ...] = ("malignant",),
    n_images: int = 40,
    overwrite: bool = False,
    n_workers: int | None = None,
) -> list[str]:
    """Draw contact sheets and histograms, and suggest anchors, mean and deviation for a config.

    Args:
        target: The training set: a COCO file, a name, or a folder with ``train.json``.
        folder: Gets the pictures and two YAML fragments for ``_BASE_``.
        datasets: ``NAME=PATH`` entries.
        asked: As of :func:`check_data`.
        target_classes: As of :func:`check_data`.
        n_images: Most on a sheet.
        overwrite: Replace what is in the folder.
        n_workers: As of :func:`check_data`.

    Returns:
        What there is, in lines.

    Raises:
        SimFrcnnError: A target that is not there, an image that cannot be read, or a folder that
            cannot be written.
    """
    if n_images < 1:
        raise ConfigError(f"--images is {n_images}: give 1 or more")
    _require_free(folder, overwrite=overwrite)
    path = _training_file(target, catalog.parse_files(datasets))
    annotated = read_coco(path)
    settings = input_for(annotated.records, asked)
    statistics = measure_inputs(annotated.records, settings, target_classes, n_workers=n_workers)
    c4, fpn = suggest_c4(statistics.sides_px), suggest_fpn(statistics.sides_px)
    others = [name for name in annotated.categories.values() if name not in target_classes]
    categories = (*target_classes, *others)
    sheets = _sheets(annotated.records, settings, categories, n_images, n_workers)
    title = f"{path.parent.name}/{path.stem} at {settings.size_px[0]} x {settings.size_px[1]}"
    fragments = {
        name: fragment(statistics, anchors, settings, f"{title}, for {kind}", annotated.sha256)
        for name, anchors, kind in (
            (C4_FRAGMENT, c4, "a C4 detector"),
            (FPN_FRAGMENT, fpn, f"a pyramid of {N_LEVELS} levels"),
        )
    }
    write_files(
        folder,
        {
            **sheets,
            HISTOGRAMS: draw_histograms(statistics, c4, fpn),
            **{name: text.encode() for name, text in fragments.items()},
        },
    )
    lines = [
        f"{title}: {statistics.n_images} training images, {len(statistics.sides_px)} boxes",
        f"grey values: mean {statistics.mean:.1f}, deviation {statistics.std:.1f}",
    ]
    for name, anchors in (("C4", c4), ("pyramid", fpn)):
        fit = coverage(statistics.sides_px, anchors)
        lines.append(
            f"anchors for {name}: sizes {', '.join(map(str, anchors.all_sizes))}, aspect ratios "
            f"{', '.join(f'{ratio:g}' for ratio in anchors.ratios)}; best IoU {fit.mean_iou:.2f} "
            f"in the mean, at least {MATCH_IOU:g} for {fit.matched_share:.0%} of the boxes"
        )
    return [*lines, f"wrote {', '.join([*sheets, HISTOGRAMS, *fragments])} -> {folder}"]


def input_for(records: Sequence[ImageRecord], asked: InputSettings | None) -> InputSettings:
    """As asked for; where nothing is, as the pictures were prepared (but for some whole ones)."""
    if asked is not None:
        return asked
    made_for = (p.as_input for r in records if (p := r.prepared) and p.as_input)
    return next(made_for, InputSettings())


def _require_free(folder: Path, *, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; give a folder as --output")
    taken = sorted(name for name in OUTPUTS if (folder / name).exists())
    if taken and not overwrite:
        raise OutputError(
            f"{folder} holds {', '.join(taken)} already; give another --output, or --overwrite"
        )


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
    """The pictures by file name: images with and without boxes, and lesions close up."""
    boxed = evenly([record for record in records if record.findings], n_images)
    others = evenly([record for record in records if not record.findings], n_images)
    drawn = draw_all([*boxed, *others], settings, categories, n_workers=n_workers)
    with_boxes, without = drawn[: len(boxed)], drawn[len(boxed) :]
    close_ups = [close_up for each in with_boxes for close_up in each.close_ups]
    sheets = {
        BOXED_SHEET: sheet([each.tile for each in with_boxes], categories),
        LESION_SHEET: sheet(close_ups),
    }
    return sheets | ({UNBOXED_SHEET: sheet([each.tile for each in without])} if without else {})
