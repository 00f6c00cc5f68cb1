"""Which COCO files describe a phantom data set?

One file per split, and ``train_oracle.json``: the same training images with their benign masses
boxed, for the upper bound only (no reader of a real archive has drawn them). Where they are asked
for, ``train_outlines.json``, ``val_outlines.json`` and ``test_outlines.json`` are the first three
with the outlines of what is boxed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simfrcnn import outlines
from simfrcnn.phantom.exams import VIEWS_OF_EXAM, PhantomExam, stored_box, stored_outline
from simfrcnn.phantom.lesions import Mass
from simfrcnn.phantom.presets import Preset
from simfrcnn.records import FindingSource, Laterality, Pathology, Supervision, ViewPosition

CATEGORIES = ({"id": 1, "name": "malignant"}, {"id": 2, "name": "benign"})


def annotation_file(
    exams: Sequence[PhantomExam],
    preset: Preset,
    seed: int,
    *,
    split: str,
    oracle: bool = False,
    outlined: bool = False,
) -> dict[str, Any]:
    """The content of one COCO file.

    Args:
        exams: All exams of the data set.
        preset: Image size and spacing.
        seed: Named in the description.
        split: Whose images are listed.
        oracle: Also box the benign masses, on images whose truth is complete (``boxes``,
            ``normal``).
        outlined: Also give the outline of every mass that is boxed.

    Returns:
        A COCO dictionary with the project's extra keys; boxes are XYWH.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for exam in exams:
        if exam.split != split:
            continue
        for laterality, view in VIEWS_OF_EXAM:
            image = _image(exam, laterality, view, preset)
            images.append(image)
            for mass in _boxed(exam, laterality, view, oracle):
                number = len(annotations) + 1
                annotations.append(
                    {"id": number, "image_id": image["id"]}
                    | _annotation(mass, laterality, view, preset)
                    | (_segmentation(mass, laterality, view, preset) if outlined else {})
                )
    kind = f"{split} with benign boxes" if oracle else split
    kind = f"{kind} with outlines" if outlined else kind
    info = {
        "description": f"simfrcnn phantom mammograms, preset {preset.name}, seed {seed}: {kind}",
        "version": "1",
    }
    return {
        "info": info,
        "images": images,
        "annotations": annotations,
        "categories": [dict(category) for category in CATEGORIES],
    }


def _image(
    exam: PhantomExam, laterality: Laterality, view: ViewPosition, preset: Preset
) -> dict[str, Any]:
    supervision, pathology = exam.truth(laterality, view)
    return {
        "id": 4 * (exam.number - 1) + VIEWS_OF_EXAM.index((laterality, view)) + 1,
        "file_name": exam.file_name(laterality, view),
        "height": preset.rows,
        "width": preset.columns,
        "patient_id": exam.patient_id,
        "exam_id": exam.exam_id,
        "laterality": laterality.value,
        "view_position": view.value,
        "pixel_spacing_mm": [preset.pixel_spacing_mm, preset.pixel_spacing_mm],
        "pathology": pathology.value if pathology else None,
        "supervision": supervision.value,
        "split": exam.split,
        "attributes": {
            "age": str(exam.age_years),
            "density": exam.density,
            "vendor": exam.vendor,
        },
    }


def _boxed(
    exam: PhantomExam, laterality: Laterality, view: ViewPosition, oracle: bool
) -> list[Mass]:
    supervision, _ = exam.truth(laterality, view)
    if supervision not in (Supervision.BOXES, Supervision.NORMAL):
        return []
    masses = exam.masses(laterality, view)
    return [mass for mass in masses if oracle or mass.pathology is Pathology.MALIGNANT]


def _segmentation(
    mass: Mass, laterality: Laterality, view: ViewPosition, preset: Preset
) -> dict[str, Any]:
    outline = stored_outline(mass, laterality, view, preset)
    inside = outlines.rle_of(outline, preset.rows, preset.columns)
    return {"area": float(inside.area), "segmentation": outlines.as_segmentation(outline)}


def _annotation(
    mass: Mass, laterality: Laterality, view: ViewPosition, preset: Preset
) -> dict[str, Any]:
    left, top, right, bottom = stored_box(mass, laterality, view, preset)
    is_malignant = mass.pathology is Pathology.MALIGNANT
    source = FindingSource.RADIOLOGIST if is_malignant else FindingSource.ORACLE
    return {
        "category_id": 1 if is_malignant else 2,
        "bbox": [left, top, right - left, bottom - top],
        "area": (right - left) * (bottom - top),
        "iscrowd": 0,
        "pathology": mass.pathology.value,
        "lesion_id": mass.lesion_id,
        "source": source.value,
    }
