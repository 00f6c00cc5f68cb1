"""How are defects shown: a table to read, a document for machines?"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from simfrcnn.data.inspect.checks.model import (
    CheckSettings,
    Collection,
    Defect,
    Example,
    Severity,
)
from simfrcnn.wording import counted, first_few

SCHEMA = "simfrcnn/data-check/1"
_N_SHOWN = 3
_HEADINGS = ("severity", "images", "what", "for instance", "remedy")
_SHARES = (0.34, 0.33, 0.33)
"""Of the width that the last three columns share."""
_LEAST_COLUMN = 20


def table(defects: Sequence[Defect], width: int) -> str:
    """The defects as one table.

    Args:
        defects: In the order to show them.
        width: Columns of the terminal; cells are wrapped into it.
    """
    fixed = (len(_HEADINGS[0]), len(_HEADINGS[1]))
    free = width - sum(fixed) - 2 * (len(_HEADINGS) - 1)
    widths = (*fixed, *(max(_LEAST_COLUMN, int(share * free)) for share in _SHARES))
    rows = [_HEADINGS, tuple("-" * width for width in widths), *map(_cells, defects)]
    return "\n".join(_row(cells, widths) for cells in rows)


def verdict(defects: Sequence[Defect], collection: Collection) -> str:
    """The last line: how many of each severity, in how many images."""
    counts = Counter(defect.severity for defect in defects)
    parts = [
        counted(counts[severity], f"[{severity.value}|{severity.value}s]") for severity in Severity
    ]
    n_images = len({entry.record.path for entry in collection.entries})
    unread = (
        ""
        if collection.is_measured or not collection.entries
        else "; no pixel was read (--no-pixels)"
    )
    return f"{', '.join(parts)} in {counted(n_images, '[image|images]')}{unread}"


def document(
    defects: Sequence[Defect], collection: Collection, settings: CheckSettings
) -> dict[str, Any]:
    """The same for machines, with every case.

    Images are named by set and id alone: the name of a file may say whose it is.
    """
    counts = Counter(defect.severity for defect in defects)
    return {
        "schema": SCHEMA,
        "settings": {
            "size_px": list(settings.input.size_px),
            "crop_to_breast": settings.input.crop_to_breast,
            "keep_aspect": settings.input.keep_aspect,
            "smallest_anchor_px": settings.smallest_anchor_px,
            "target_classes": list(settings.target_classes),
            "pixels_read": collection.is_measured,
        },
        "sets": [
            {
                "name": checked.name,
                "sha256": checked.annotated.sha256,
                "n_images": len(checked.annotated.records),
                "n_patients": len({record.patient_id for record in checked.annotated.records}),
                "n_boxes": sum(len(record.findings) for record in checked.annotated.records),
                "labels": checked.tally(settings.target_classes).to_dict(),
            }
            for checked in collection.sets
        ],
        "n_by_severity": {severity.value: counts[severity] for severity in Severity},
        "defects": [
            {
                "key": defect.key,
                "severity": defect.severity.value,
                "what": defect.what,
                "remedy": defect.remedy,
                "n_images": defect.n_images,
                "examples": [
                    {
                        "set": case.set_name,
                        "image_id": case.record.image_id if case.record else None,
                        "detail": case.detail,
                    }
                    for case in defect.examples
                ],
            }
            for defect in defects
        ],
    }


def _cells(defect: Defect) -> tuple[str, ...]:
    shown = first_few([_shown(case) for case in defect.examples], _N_SHOWN, "\n")
    count = str(defect.n_images or "-")
    return defect.severity.value, count, defect.what, shown, defect.remedy


def _shown(case: Example) -> str:
    """The image by its set, its id and the last part of its file name."""
    record = case.record
    image = "" if record is None else f" {record.image_id} ({record.path.name})"
    return f"{case.set_name}{image}{': ' if case.detail else ''}{case.detail}"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    columns = [_wrapped(cell, width) for cell, width in zip(cells, widths, strict=True)]
    height = max(map(len, columns))
    padded = [column + [""] * (height - len(column)) for column in columns]
    return "\n".join(
        "  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*padded, strict=True)
    )


def _wrapped(cell: str, width: int) -> list[str]:
    lines = [part for line in cell.splitlines() for part in textwrap.wrap(line, width)]
    return lines or [""]
