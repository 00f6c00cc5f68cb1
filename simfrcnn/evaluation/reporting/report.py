"""The report as files: JSON for programs, Markdown and one self-contained HTML page for people.

``report.json`` holds every number; the two pages hold the same text, the summary first. The HTML
page also shows exams, and a slider that moves the threshold.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from simfrcnn.artifacts import DetectionFile
from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.evaluation import case
from simfrcnn.evaluation.multilabel import MEAN
from simfrcnn.evaluation.readers import FILES as READER_FILES
from simfrcnn.evaluation.reporting.charts import MARKS
from simfrcnn.evaluation.reporting.checklist import FILE as CHECKLIST
from simfrcnn.evaluation.reporting.checklist import checklist
from simfrcnn.evaluation.reporting.documents import (
    DISCLAIMER,
    Block,
    Drawn,
    Picture,
    Section,
    Table,
    markdown_page,
)
from simfrcnn.evaluation.reporting.exam_pages import (
    FOLDER,
    WORDS,
    exam_pages,
    linked,
    page_name,
    remove_if_empty,
    remove_others,
)
from simfrcnn.evaluation.reporting.figures import (
    PICTURES,
    by_file_name,
    draw_charts,
    pictures_of,
)
from simfrcnn.evaluation.reporting.gallery import (
    GROUPS,
    Gallery,
    LoadMaps,
    LoadPictures,
    choose_exams,
    gallery_data,
    map_sources,
    picture_source,
)
from simfrcnn.evaluation.reporting.methods import (
    facts_of_model,
    flow_notes,
    flow_table,
    methods_table,
)
from simfrcnn.evaluation.reporting.outline_pictures import (
    CAPTION,
    FILE_NAME,
    has_outlines,
    outlines_svg,
)
from simfrcnn.evaluation.reporting.page import charts_html, html_page, page_data
from simfrcnn.evaluation.reporting.report_rules import provenance_table, rules_of_report
from simfrcnn.evaluation.reporting.report_tables import (
    calibration_blocks,
    count_table,
    decision_blocks,
    finding_blocks,
    mask_blocks,
    subgroup_blocks,
    unit_blocks,
)
from simfrcnn.evaluation.reporting.templates import as_html, render
from simfrcnn.evaluation.reporting.wording import (
    FIGURE_COLUMNS,
    RULES_OF_POINTS,
    cells_of,
    text_of,
)
from simfrcnn.evaluation.results import Figure, OperatingPoint, Report
from simfrcnn.evaluation.truth import View, views_of
from simfrcnn.files import as_json_lines_below, as_utf8, write_files
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EXAMS_PER_GROUP
from simfrcnn.wording import counted

logger = logging.getLogger("simfrcnn")

_LEVELS = 3
"""How deep ``report.json`` is laid out; what lies below, such as a row of a table, is a line."""
_Loaded = TypeVar("_Loaded")
_PICTURE_FILES = {
    "images.png",  # of the first versions
    *(f"{name}.{kind}" for name in PICTURES for kind in ("svg", "png")),
    FILE_NAME,
}


def write_report(
    folder: Path,
    report: Report,
    *,
    records: Sequence[ImageRecord],
    detections: DetectionFile,
    load_pictures: LoadPictures | None,
    load_sources: LoadPictures | None = None,
    load_maps: LoadMaps | None = None,
    title: str = "simfrcnn evaluation",
    n_gallery: int = EXAMS_PER_GROUP,
    views: Sequence[View] | None = None,
) -> Path:
    """Write ``report.json``, ``report.md``, ``report.html``, a draft of a reporting checklist and
    the pictures into ``folder``.

    An earlier report there is replaced as a whole, or not at all.

    Args:
        folder: Where the files go; made if missing.
        report: What :func:`simfrcnn.evaluation.evaluate` returned.
        records: The images it was made from; only for the gallery.
        detections: The detections it was made from; only for the gallery.
        load_pictures: Gives a small picture of each record, hung for reading. None: boxes are shown
            in empty frames.
        load_sources: Gives a lossless picture of each record at its stored resolution, hung alike:
            each exam of the gallery gets a page of its own, ``exams/<number>.html``. None: no such
            pages.
        load_maps: Gives the class maps of each record, of a whole-image classifier. None: the page
            has no heat maps.
        title: Heading of both pages.
        n_gallery: At most so many exams for each reason; 0: no exams.
        views: What the records and detections join to, if the caller has it
            (:func:`~simfrcnn.evaluation.evaluator.evaluate_with_views`). None: they are joined.

    Returns:
        The path of ``report.html``.

    Raises:
        OutputError: ``folder`` is a file, or cannot be written.
        DataError: An image of the gallery cannot be read.
        ConfigError: ``n_gallery`` is negative.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; a folder for the report is needed")
    if n_gallery < 0:
        raise ConfigError(f"--gallery is {n_gallery}; 0 (no exams) or more is legal")
    gallery = choose_exams(
        views_of(records, detections.images, report.settings)[0] if views is None else views,
        report.settings,
        score_threshold=main_point(report).score_threshold,
        n_per_group=n_gallery,
    )
    pictures = _of_gallery(gallery, load_pictures)
    maps = {key: found for key, found in _of_gallery(gallery, load_maps).items() if found}
    has_pages = load_sources is not None and bool(gallery.exams)
    sections = list(
        _sections(report, gallery, has_pictures=load_pictures is not None, has_pages=has_pages)
    )
    charts = pictures_of(report)
    drawn = by_file_name({name: draw_charts(some) for name, some in charts.items()})
    outlines = outlines_svg(gallery, pictures) if has_outlines(gallery) else None
    if outlines is not None:
        drawn[FILE_NAME] = as_utf8(outlines)
    exams = gallery_data(gallery, pictures, report.settings, maps)
    page = html_page(
        title,
        sections,
        {
            "headlines": render("headlines.html", tiles=_tiles(report)),
            "explorer": render("explorer.html", reasons=GROUPS, is_one=False),
            **{f"{name}.svg": charts_html(some) for name, some in charts.items()},
            **({} if outlines is None else {FILE_NAME: as_html(outlines)}),
        },
        page_data(
            report,
            [chart for some in charts.values() for chart in some],
            linked(exams) if has_pages else exams,
            score_threshold=gallery.score_threshold,
        ),
        {
            **{str(image_id): picture_source(picture) for image_id, picture in pictures.items()},
            **map_sources(maps),
        },
    )
    files = {
        **drawn,
        "report.md": as_utf8(markdown_page(title, sections)),
        "report.html": as_utf8(page),
        "report.json": as_utf8(as_json_lines_below(report.to_json(), _LEVELS)),
        CHECKLIST: as_utf8(checklist(report)),
    }
    had_report = (folder / "report.json").exists()
    if load_sources is None:
        write_files(folder, files)
    else:
        try:
            write_files(folder, files, exam_pages(report, gallery, load_sources, maps))
        finally:
            remove_if_empty(folder)  # where an image could not be read
    if had_report:
        for name in {*_PICTURE_FILES, *READER_FILES} - files.keys():  # of the earlier report
            (folder / name).unlink(missing_ok=True)
        remove_others(folder, len(gallery.exams) if has_pages else 0)
    if has_pages:
        _say_how_large(folder, len(gallery.exams))
    return folder / "report.html"


def main_point(report: Report) -> OperatingPoint:
    """The operating point of the summary: one chosen on a validation set, else the fixed one."""
    return case.main_point(report.operating_points, report.settings)


def headlines(report: Report) -> dict[str, str]:
    """The keys of the figures that matter, and what they are called."""
    key = main_point(report).key
    return {
        "case/auc": "AUC by case",
        f"{key}/sensitivity": "Sensitivity by case",
        f"{key}/specificity": "Specificity by case",
        **({MEAN: "Mean AUC over the labels"} if MEAN in report.figures else {}),
    }


def summary_lines(report: Report) -> list[str]:
    """The figures that matter, one line each, for a terminal."""
    labels = headlines(report)
    width = max(len(label) for label in labels.values())
    return [f"{label:<{width}}  {text_of(report.figures[key])}" for key, label in labels.items()]


def _say_how_large(folder: Path, n_pages: int) -> None:
    sizes = [(folder / page_name(number)).stat().st_size for number in range(1, n_pages + 1)]
    logger.info(
        f"source pixels: {counted(n_pages, '[page|pages]')} of {sum(sizes) / 1e6:.1f} MB together, "
        f"the largest {max(sizes) / 1e6:.1f} MB, in {folder / FOLDER}"
    )


# What stands where


def _of_gallery(
    gallery: Gallery, load: Callable[[Sequence[ImageRecord]], Iterable[_Loaded]] | None
) -> dict[int, _Loaded]:
    """What is loaded for each image that is shown, by image id."""
    if load is None:
        return {}
    records = [seen.view.record for exam in gallery.exams for seen in exam.views]
    ids = [record.image_id for record in records]
    return dict(zip(ids, load(records), strict=True))


def _sections(
    report: Report, gallery: Gallery, *, has_pictures: bool, has_pages: bool
) -> Iterator[Section]:
    charts = pictures_of(report)
    yield Section("Summary", list(_summary(report)))
    yield Section(
        "Curves",
        [
            Picture("roc.svg", "ROC"),
            *(
                [Picture("precision_recall.svg", "Precision and recall per finding")]
                if "precision_recall" in charts
                else []
            ),
            _what_marks_mean(report),
            "FROC: which part of the findings is found at how many false positives per image. "
            "False positives are counted over all images, over normal ones or over positive ones.",
            Picture("froc.svg", "FROC per finding"),
        ],
    )
    yield Section("Cases, breasts, images", list(unit_blocks(report)))
    yield Section("Findings", list(finding_blocks(report)))
    if any(key.startswith("mask/") for key in report.figures):
        of_films = [Picture(FILE_NAME, CAPTION)] if has_outlines(gallery) else []
        yield Section("Outlines", [*mask_blocks(report), *of_films])
    if report.calibration:
        yield Section("Calibration", list(calibration_blocks(report)))
    if report.decisions:
        yield Section("Decision curve", list(decision_blocks(report)))
    if report.subgroups:
        yield Section("Subgroups", list(subgroup_blocks(report)))
    blocks = _gallery_blocks(gallery, has_pictures=has_pictures, has_pages=has_pages)
    yield Section("Exams", list(blocks))
    yield Section("Methods", [methods_table(report), flow_table(report), flow_notes(report)])
    yield Section("Counts", [count_table(report)])
    yield Section("Rules", [rules_of_report(report)])
    yield Section("Provenance", [provenance_table(report)])


def _what_marks_mean(report: Report) -> str:
    used = {point.rule for point in report.operating_points} | {"fixed"}
    marks = ", ".join(
        f"{shape} {RULES_OF_POINTS[rule]}" for rule, shape in MARKS.items() if rule in used
    )
    return f"Marks on the ROC curves are the operating points: {marks}."


def _summary(report: Report) -> Iterator[Block]:
    yield _what_was_tested(report)
    rows = [(label, *cells_of(report.figures[key])) for key, label in headlines(report).items()]
    yield Drawn("headlines", Table(FIGURE_COLUMNS, rows))
    yield _where_the_threshold_is_from(main_point(report))
    yield DISCLAIMER
    if report.notes:
        yield "To be read with these notes:"
        yield list(report.notes)


def _what_was_tested(report: Report) -> str:
    counts, settings = report.counts, report.settings
    cases = counts["cases"]
    facts = {**facts_of_model(report), **report.provenance}
    model = ", ".join(str(facts[k]) for k in ("model", "engine", "checkpoint") if k in facts)
    of_model = f"Tested: {model}. " if model else ""
    data = report.provenance.get("annotations")
    on = f"On {data}: " if data else "On "
    return (
        f"{of_model}{on}{counted(cases['total'], '[case|cases]')} ({cases['positive']} positive, "
        f"{cases['normal']} normal, {cases['unknown']} of unknown truth) of "
        f"{counted(counts['patients']['total'], '[patient|patients]')}, with "
        f"{counted(counts['images']['total'], '[image|images]')} and "
        f"{counted(counts['findings'], '[finding|findings]')} of class "
        f"{', '.join(settings.target_classes)}. Intervals are 95%."
    )


def _where_the_threshold_is_from(point: OperatingPoint) -> str:
    start = f"Sensitivity and specificity are at score >= {point.score_threshold:.4g}, "
    if point.rule == "fixed":
        return start + "a threshold of the settings; it was not chosen on a validation set."
    rule = RULES_OF_POINTS[point.rule]
    on = f" on {point.chosen_on}" if point.chosen_on else ""
    return start + f"an operating point chosen{on} ({rule}) and applied unchanged."


@dataclass(frozen=True)
class _Bar:
    """The interval of a figure, and the figure in it: percent of the tile's width."""

    left: float
    width: float
    value: float


@dataclass(frozen=True)
class _Tile:
    """One of the figures that matter, large, with its interval drawn."""

    label: str
    value: str
    interval: str
    counted: str
    bar: _Bar | None

    @classmethod
    def of(cls, label: str, figure: Figure) -> _Tile:
        value, interval, counted, method = cells_of(figure)
        bar = None
        if not figure.reason and figure.low == figure.low:
            low, high = 100 * figure.low, 100 * figure.high
            bar = _Bar(low, max(high - low, 0.5), 100 * figure.value)
        by = f" · {method}" if method != "-" else ""
        return cls(label, value, interval, counted + by, bar)


def _tiles(report: Report) -> list[_Tile]:
    return [_Tile.of(label, report.figures[key]) for key, label in headlines(report).items()]


def _gallery_blocks(gallery: Gallery, *, has_pictures: bool, has_pages: bool) -> Iterator[Block]:
    if not has_pictures:
        yield "The pixels were not asked for: boxes are shown in empty frames."
    if has_pages:
        yield WORDS
    yield Drawn(
        "explorer",
        "The exams, with a slider that moves the threshold, are in report.html.",
    )
    yield gallery.rules
