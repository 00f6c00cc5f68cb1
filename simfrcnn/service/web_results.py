"""The result of an exam as it was written: which films it has, and as a DICOM report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simfrcnn.dicom_out.saving import files_of, kinds_of
from simfrcnn.errors import SimFrcnnError
from simfrcnn.exam import Call, Detection, ExamResult, ImageResult, LeftOut
from simfrcnn.outlines import Rle, as_segmentation, simplified
from simfrcnn.records import Laterality, ViewPosition
from simfrcnn.service.web_refusals import Refusal

REPORTS = ("sr", "cad-sr")
"""The DICOM reports that can be fetched: ``sr`` needs the extra ``dicom-out``."""


def exam_of(content: Mapping[str, Any], folder: Path) -> ExamResult:
    """The result that a file of `predict` holds.

    Args:
        content: Of the JSON file.
        folder: Below which the files of the exam lie.
    """
    provenance = content["provenance"]
    targets = tuple(provenance["target_classes"])
    decision = content["decision"]
    return ExamResult(
        exam_id=content["exam_id"],
        patient_id=content["patient_id"],
        score=content["score"],
        call=_call_of(decision) if decision else None,
        images=tuple(_image_of(one, folder, targets) for one in content["images"]),
        left_out=tuple(
            LeftOut(one["file"], one["what"], one["why"], folder / one["file"])
            for one in content["left_out"]
        ),
        why_no_call=content["why_no_decision"],
        notes=tuple(content["notes"]),
        provenance=provenance,
    )


def film_of(content: Mapping[str, Any], number: int, folder: Path) -> Path:
    """The file of a film of a result, by its place in the list.

    Raises:
        Refusal: The result has fewer films.
    """
    images = content["images"]
    if not 0 <= number < len(images):
        raise Refusal(
            404,
            f"the result has no film {number}",
            f"0 to {len(images) - 1}" if images else "none: no film was judged",
            "take the place of a film in the list `images` of the result, from 0",
        )
    return folder / str(images[number]["file"])


def map_of(content: Mapping[str, Any], number: int, place: int, results: Path) -> bytes:
    """The class map of a film: an 8-bit grey PNG over the stored film, 0 for 0 and 255 for 1.

    Args:
        content: Of the JSON file.
        number: Place of the film in the list, from 0.
        place: Place of the class among the target classes of the result's provenance, from 0.
        results: The folder of the prediction.

    Raises:
        Refusal: There is none, or it is gone.
    """
    images, targets = content["images"], content["provenance"]["target_classes"]
    maps = images[number].get("class_maps", {}) if number < len(images) else {}
    if place >= len(targets) or targets[place] not in maps:
        raise no_such_map(content, number)
    try:
        return (results / str(maps[targets[place]])).read_bytes()
    except OSError as error:
        raise Refusal(
            410, "the class map cannot be read any more", "the file that was written",
            "delete the result of the study, and judge it again",
        ) from error  # fmt: skip


def no_such_map(content: Mapping[str, Any], number: int) -> Refusal:
    """That a film has no class map of such a number."""
    images = content["images"]
    n_maps = len(images[number].get("class_maps", ())) if number < len(images) else 0
    return Refusal(
        404,
        "there is no such class map",
        f"0 to {n_maps - 1}" if n_maps else "none: only a whole-image classifier makes them",
        "take the place of a film in `images` and of a class in `target_classes`, from 0",
    )


def outlines_of(content: Mapping[str, Any], folder: Path) -> list[list[Any]]:
    """The outlines of the masks of every detection of every film, in the order of the result.

    Rings of x, y, x, y ... in stored pixels, true to half a pixel; None where there is no mask.
    """
    return [
        [as_segmentation(simplified(one.outline, 0.5)) or None for one in image.detections]
        for image in exam_of(content, folder).images
    ]


def report_of(content: Mapping[str, Any], folder: Path, kind: str, score_threshold: float) -> bytes:
    """The DICOM report of a result.

    Args:
        content: Of the JSON file.
        folder: Below which the films lie; their headers are read.
        kind: One of :data:`REPORTS`.
        score_threshold: Smallest score of a region that is written.

    Raises:
        Refusal: The extra is not installed, or the films cannot have one.
    """
    try:
        kinds_of((kind,))
    except SimFrcnnError as error:
        raise Refusal(501, str(error), "cad-sr, or the result as JSON", "install it") from error
    try:
        ((_, report),) = files_of(exam_of(content, folder).dicom_findings(score_threshold), (kind,))
    except SimFrcnnError as error:
        raise Refusal(
            422,
            "no DICOM report can be made of this study: its films are no DICOM files, lack what "
            "a report needs, or patients share the study",
            "studies of DICOM films of one patient",
            "take the result as JSON; `simfrcnn predict --dicom` names the reason",
        ) from error
    return report


def _call_of(decision: Mapping[str, Any]) -> Call:
    facts = {name: value for name, value in decision.items() if name != "call"}
    return Call(is_positive=decision["call"] == "positive", **facts)


def _image_of(image: Mapping[str, Any], folder: Path, targets: tuple[str, ...]) -> ImageResult:
    laterality, view = image["laterality"], image["view_position"]
    return ImageResult(
        file=image["file"],
        image_id=image["image_id"],
        height=image["height"],
        width=image["width"],
        detections=tuple(_detection_of(one) for one in image["detections"]),
        target_classes=targets,
        laterality=Laterality(laterality) if laterality else None,
        view_position=ViewPosition(view) if view else None,
        notes=image["notes"],
        path=folder / image["file"],
    )


def _detection_of(found: Mapping[str, Any]) -> Detection:
    x1, y1, x2, y2 = found["box_xyxy_px"]
    return Detection(
        (x1, y1, x2, y2),
        found["score"],
        found["class"],
        found.get("first_score"),
        found.get("second_score"),
        Rle.from_json(found["segmentation"]) if "segmentation" in found else None,
        tuple(found["second_look_xyxy_px"]) if "second_look_xyxy_px" in found else None,
    )
