"""How are the exams of a report seen at the resolution of their files? On a page for each.

A page that is opened as a file may not read the pixels of other files, so that each page holds its
own: PNGs of every stored pixel. They are made one after the other, so that the pictures of one exam
are in memory, not those of all. Their names are numbers; who was examined stands on the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simfrcnn.evaluation.reporting.documents import DISCLAIMER, Drawn, Section
from simfrcnn.evaluation.reporting.gallery import (
    GROUPS,
    ClassMaps,
    Exam,
    Gallery,
    LoadPictures,
    exam_data,
    map_sources,
    picture_source,
)
from simfrcnn.evaluation.reporting.page import NO_DATA, html_page, points_data
from simfrcnn.evaluation.reporting.templates import render
from simfrcnn.evaluation.results import Report
from simfrcnn.files import as_utf8

FOLDER = "exams"
WORDS = (
    "Each exam has a page of its own in the folder exams, with every stored pixel of its films, "
    "without loss: the link 'source pixels' above the films opens it."
)
_OURS = re.compile(r"[1-9]\d*\.html")


def exam_pages(
    report: Report,
    gallery: Gallery,
    load_pictures: LoadPictures,
    maps: Mapping[int, ClassMaps],
) -> Iterator[tuple[str, bytes]]:
    """Name and content of each page, made when it is asked for.

    Args:
        report: Whose rules and operating points hold.
        gallery: The exams, in the order of their numbers.
        load_pictures: Gives a lossless picture of each record at its stored resolution.
        maps: Class maps by image id.

    Raises:
        DataError: An image cannot be read.
    """
    for number, exam in enumerate(gallery.exams, start=1):
        yield page_name(number), as_utf8(_page(number, exam, report, gallery, load_pictures, maps))


def page_name(number: int) -> str:
    """The page of an exam, seen from the report; the first exam is 1."""
    return f"{FOLDER}/{number}.html"


def linked(exams: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Exams of the report for its script, with the link of each to its page."""
    return [
        {**exam, "link": _link(number, page_name(number), "source pixels")}
        for number, exam in enumerate(exams, start=1)
    ]


def remove_others(folder: Path, n_pages: int) -> None:
    """Remove the pages of an earlier report beyond so many."""
    others = [
        path
        for path in (folder / FOLDER).glob("*.html")
        if _OURS.fullmatch(path.name) and int(path.stem) > n_pages
    ]
    for path in others:
        path.unlink()
    if others:
        remove_if_empty(folder)


def remove_if_empty(folder: Path) -> None:
    """Remove the folder of the pages where it holds nothing."""
    pages = folder / FOLDER
    if pages.is_dir() and not any(pages.iterdir()):
        pages.rmdir()


def _page(
    number: int,
    exam: Exam,
    report: Report,
    gallery: Gallery,
    load_pictures: LoadPictures,
    maps: Mapping[int, ClassMaps],
) -> str:
    records = [seen.view.record for seen in exam.views]
    loaded = zip(records, load_pictures(records), strict=True)
    pictures = {record.image_id: picture for record, picture in loaded}
    own_maps = {record.image_id: maps.get(record.image_id, {}) for record in records}
    reasons = ", ".join(GROUPS[group] for group in exam.groups)
    data = exam_data(exam, pictures, report.settings, own_maps, is_at_source=True)
    return html_page(
        f"{exam.exam_id}: source pixels",
        [
            Section(
                "Source pixels",
                [
                    "Every stored pixel of the films, as 8-bit greys as they are displayed, "
                    f"without loss. Shown for: {reasons}.",
                    Drawn("explorer", ""),
                    DISCLAIMER,
                ],
            )
        ],
        {"explorer": render("explorer.html", reasons=GROUPS, is_one=True)},
        {
            **NO_DATA,
            "points": points_data(report),
            "start": gallery.score_threshold,
            "exams": [{**data, "link": _link(number, "../report.html", "to the report")}],
        },
        {
            **{str(image_id): picture_source(picture) for image_id, picture in pictures.items()},
            **map_sources(own_maps),
        },
    )


def _link(number: int, page: str, words: str) -> dict[str, Any]:
    """A link for the script, which adds exam, threshold and view to it."""
    return {"exam": number, "page": page, "words": words}
