"""Which columns does a table of labels have, and which words may stand in them?"""

from __future__ import annotations

from simfrcnn.records import Laterality, ViewPosition

TABLES = ("labels.csv", "labels.xlsx")
"""Looked for in the folder, in this order."""
KEYS = ("file", "sop_instance_uid")
"""Either names the image."""
CORNERS = ("x1", "y1", "x2", "y2")
SIDES = ("x", "y", "w", "h")
"""A box by its upper left corner and its size; only a mapping file can name these columns."""
OF_IMAGE = ("patient", "exam", "laterality", "view", "density", "split", "labels")
"""What the rows of one image must say alike, where they say it."""
IDENTIFYING = ("patient", "exam")
"""Columns whose values no message shows."""
NAMES = (*IDENTIFYING, "lesion")
"""Columns that tell patients, exams and lesions apart."""
VISIBLE = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
"""What may stand behind a category in the column `labels`."""
COLUMNS = ("file", "label", *CORNERS, "outline", *OF_IMAGE, "lesion")
"""What a table without a mapping file can have."""
MAPPED = (*COLUMNS, "sop_instance_uid", "birads", *SIDES)
"""What a mapping file can name a column for."""
FURTHER = "attribute: "
"""Begins the name of a further column that is carried to the attributes."""
LABELS = ("malignant", "benign", "normal", "unlabelled")
CATEGORIES = {1: "malignant", 2: "benign"}
LEGAL = {
    "laterality": tuple(side.value for side in Laterality),
    "view": tuple(view.value for view in ViewPosition),
    "density": ("A", "B", "C", "D"),
}
"""Column -> its values, where it is not empty."""
WORDS = {"label": LABELS, **LEGAL}
"""Columns in which capitals do not matter -> our spelling of each word."""


def in_our_spelling(column: str, text: str) -> str:
    """A word in the capitals that it has here; any other text as it is."""
    return next((w for w in WORDS.get(column, ()) if w.casefold() == text.casefold()), text)
