"""What was found in an exam: the result of `predict`, one exam in, one result out.

Boxes are XYXY in pixels of the stored file, half open, origin top left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.dicom.view import AS_STORED, Flips
from simfrcnn.dicom_out.findings import ExamFindings, JudgedFilm, Region, model_of
from simfrcnn.errors import DataError
from simfrcnn.files import write_bytes, write_files, write_json
from simfrcnn.images.drawing import as_marked_png, draw_boxes, draw_heat, hung_side_by_side
from simfrcnn.images.hanging import flips_for_reading
from simfrcnn.outlines import Rle, traced
from simfrcnn.records import Box, Laterality, Outline, ViewPosition

SCHEMA = 3
"""Of the JSON of an exam."""
_CONTRADICTING = "contradicting copy"
_FAILURES = ("unreadable", _CONTRADICTING, "failed")
_PATIENTS = "another patient"
_REFUSED = "several patients share the Study Instance UID, and a viewer would mix them up"


@dataclass(frozen=True)
class Detection:
    """One suspicious region; ``score`` in [0, 1], ``category`` one of the model's classes.

    Of a model with a second look ``first_score`` is the detector's own and ``second_score`` that of
    the second look, None where it did not look; ``score`` is made of both. ``square`` is what the
    second look saw, XYXY in stored pixels; it may reach beyond the image. Of a model with a mask
    head ``mask`` is what it takes for the inside of the region, in the size of the stored image;
    None below the score from which it makes them.
    """

    box: Box
    score: float
    category: str
    first_score: float | None = None
    second_score: float | None = None
    mask: Rle | None = None
    square: Box | None = None

    @property
    def outline(self) -> Outline:
        """The edge of the mask, rings of points (x, y) in stored pixels; empty without a mask."""
        return () if self.mask is None else traced(self.mask.to_array()).outline

    def to_dict(self) -> dict[str, Any]:
        """In JSON types; scores, square and mask (COCO's run lengths) only where known."""
        both = {"first_score": self.first_score, "second_score": self.second_score}
        return {
            "box_xyxy_px": list(self.box),
            "score": self.score,
            "class": self.category,
            **{name: value for name, value in both.items() if value is not None},
            **({} if self.square is None else {"second_look_xyxy_px": list(self.square)}),
            **({} if self.mask is None else {"segmentation": self.mask.to_json()}),
        }


@dataclass(frozen=True)
class LeftOut:
    """A file of an exam that was not judged, and why.

    ``what`` is ``unreadable``, ``not a mammogram``, ``not a screening view``, ``duplicate`` (of one
    SOP instance), ``contradicting copy`` (the same SOP Instance UID, and another picture),
    ``another patient`` (with the same Study Instance UID), or ``failed`` (the model, or the process
    that read it).
    """

    file: str
    what: str
    why: str
    path: Path | None = field(default=None, compare=False, repr=False)
    """Where it lies, None where that is not known; no result shows it."""

    def to_dict(self) -> dict[str, str]:
        """In JSON types."""
        return {"file": self.file, "what": self.what, "why": self.why}


@dataclass(frozen=True)
class Call:
    """Whether an exam is positive at an operating point of the model, and what that point is.

    ``score`` is what was compared with ``score_threshold``: that of the exam, or the highest of its
    breasts or images, as ``level`` says. ``origin`` says where the point comes from.
    ``sensitivity`` and ``specificity`` are those on the set on which it was chosen.
    """

    is_positive: bool
    score: float
    score_threshold: float
    level: str
    rule: str
    origin: str
    chosen_on: str | None = None
    sensitivity: float | None = None
    specificity: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """In JSON types; ``call`` is ``positive`` or ``negative``."""
        facts = dataclasses.asdict(self)
        is_positive = facts.pop("is_positive")
        return {"call": "positive" if is_positive else "negative", **facts}


@dataclass(frozen=True)
class ImageResult:
    """One view: what it is, what was found in it, and its score.

    ``file`` is its path below the folder that was given, or its pseudonym; ``image_id`` is made of
    it, and the same in every run. ``detections`` are by falling score, of all classes;
    ``suspicious`` those of a target class, of which ``score`` is the highest, 0 without any.
    ``notes`` say what was decided where the file leaves a choice.
    """

    file: str
    image_id: int
    height: int
    width: int
    detections: tuple[Detection, ...]
    target_classes: tuple[str, ...]
    laterality: Laterality | None = None
    view_position: ViewPosition | None = None
    notes: str | None = None
    path: Path | None = None
    pixels: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)
    """(H, W), white = dense, as stored; None where they were not kept."""
    flips: Flips = AS_STORED
    heat: Mapping[str, NDArray[np.float32]] | None = field(default=None, compare=False, repr=False)
    """Of a whole-image classifier that was asked for them: class -> (h, w) in [0, 1]."""

    @property
    def suspicious(self) -> tuple[Detection, ...]:
        """The detections of a target class: a model may know more than what is suspicious."""
        return tuple(one for one in self.detections if one.category in self.target_classes)

    @property
    def score(self) -> float:
        """The highest of a target class, 0 without any."""
        return max((one.score for one in self.suspicious), default=0.0)

    def draw(self, score_threshold: float = 0.5, *, hung: bool = False) -> NDArray[np.uint8]:
        """The stored pixels with a frame round every suspicious region from a score on.

        Of a model with a mask head also the edges of the masks.

        Args:
            score_threshold: Smallest score of a region that is drawn.
            hung: Turn the picture as a radiologist hangs it; the scores are not mirrored.

        Returns:
            (H, W, 3) BGR, as OpenCV has it.

        Raises:
            DataError: The pixels were not kept.
        """
        pixels, flips = self._kept_pixels(), AS_STORED
        if hung:
            flips = flips_for_reading(pixels, self.flips, self.laterality)
        moved = partial(flips.moved, shape=pixels.shape)
        drawn = [one for one in self.suspicious if one.score >= score_threshold]
        outlines = [tuple(tuple(map(moved, ring)) for ring in one.outline) for one in drawn]
        boxes = [flips.moved_box(one.box, pixels.shape) for one in drawn]
        return draw_boxes(flips.turned(pixels), boxes, [one.score for one in drawn], outlines)

    def to_png(self, score_threshold: float = 0.5) -> bytes:
        """The picture of :meth:`draw` as a PNG file; a grey one where there is no frame.

        Raises:
            DataError: The pixels were not kept.
        """
        has_frames = any(one.score >= score_threshold for one in self.suspicious)
        picture = self.draw(score_threshold) if has_frames else self._kept_pixels()
        return as_marked_png(picture)

    def draw_heat(self, category: str) -> NDArray[np.uint8]:
        """The stored pixels under the map of a class: where the model sees it.

        Returns:
            (H, W, 3) BGR.

        Raises:
            DataError: The pixels or the maps were not kept, or there is no map of that class.
        """
        if self.heat is None or category not in self.heat:
            known = ", ".join(self.heat or ()) or "none; see Detector.with_heat_maps"
            raise DataError(f"{self.file}: no heat map of {category!r}; there are {known}")
        return draw_heat(self._kept_pixels(), self.heat[category])

    def to_dict(self) -> dict[str, Any]:
        """In JSON types."""
        return {
            "file": self.file,
            "image_id": self.image_id,
            "height": self.height,
            "width": self.width,
            "laterality": self.laterality.value if self.laterality else None,
            "view_position": self.view_position.value if self.view_position else None,
            "notes": self.notes,
            "score": self.score,
            "detections": [one.to_dict() for one in self.detections],
        }

    def _kept_pixels(self) -> NDArray[np.uint8]:
        if self.pixels is None:
            raise DataError(
                f"{self.file}: the pixels were not kept; predict again with keep_pixels=True"
            )
        return self.pixels


@dataclass(frozen=True)
class ExamResult:
    """One exam: its score, the call at the model's operating point, its images, what is missing.

    ``score`` is pooled from the images by EVAL.POOLING (their highest, by default), None where no
    image could be judged. ``call`` is None where the model has no operating point, or there is no
    image; ``why_no_call`` says which. ``notes`` are of the exam as a whole.

    Example:
        With ``weights`` a checkpoint, and ``study`` a folder of one exam:

        >>> import simfrcnn
        >>> (exam,) = simfrcnn.load(weights, device="cpu").predict(study)
        >>> exam.exam_id, [image.file for image in exam.images][:2]
        ('1.2.3.1', ['study1/LCC.dcm', 'study1/LMLO.dcm'])
        >>> exam.score == max(image.score for image in exam.images)
        True
        >>> exam.save("found").name, sorted(exam.to_dict()["images"][0]["detections"][0])
        ('exam.json', ['box_xyxy_px', 'class', 'score'])
    """

    exam_id: str
    patient_id: str
    score: float | None
    call: Call | None
    images: tuple[ImageResult, ...]
    left_out: tuple[LeftOut, ...] = ()
    why_no_call: str | None = None
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def draw(self, score_threshold: float = 0.5, *, height_px: int = 800) -> NDArray[np.uint8]:
        """All views in one picture, hung as a radiologist hangs them, with their frames.

        Returns:
            (``height_px``, W, 3) BGR.

        Raises:
            DataError: The pixels were not kept.
        """
        pictures = [image.draw(score_threshold, hung=True) for image in self.images]
        views = [(image.laterality, image.view_position) for image in self.images]
        return hung_side_by_side(pictures, views, height_px=height_px)

    def to_dict(self) -> dict[str, Any]:
        """In JSON types: what the file of an exam holds."""
        return {
            "schema": SCHEMA,
            "exam_id": self.exam_id,
            "patient_id": self.patient_id,
            "score": self.score,
            "decision": self.call.to_dict() if self.call else None,
            "why_no_decision": self.why_no_call,
            "images": [image.to_dict() for image in self.images],
            "left_out": [one.to_dict() for one in self.left_out],
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }

    def save(self, folder: Path | str, score_threshold: float = 0.5) -> Path:
        """Write ``exam.json``, ``exam.png`` (all views) and ``image_N.png`` into a folder.

        They bear the identifiers that the result has: `simfrcnn predict` writes pseudonyms.

        Args:
            folder: Made if missing; files of these names are replaced.
            score_threshold: Smallest score of a box that is drawn.

        Returns:
            The path of ``exam.json``.

        Raises:
            DataError: The pixels were not kept.
            OutputError: The operating system refused to write.
        """
        folder = Path(folder)
        sheet = folder / "exam.png"
        write_bytes(sheet, as_marked_png(self.draw(score_threshold)))
        entries = self.to_dict()
        for number, (image, entry) in enumerate(
            zip(self.images, entries["images"], strict=True), 1
        ):
            path = folder / f"image_{number}.png"
            write_bytes(path, image.to_png(score_threshold))
            entry["picture"] = path.name
        write_json(folder / "exam.json", entries)
        return folder / "exam.json"

    def save_dicom(
        self,
        folder: Path | str,
        kinds: str | Sequence[str] = ("sr",),
        score_threshold: float = 0.5,
    ) -> tuple[Path, ...]:
        """Write the result as DICOM objects of the same study and patient, for a PACS.

        Args:
            folder: Made if missing; files of these names are replaced.
            kinds: ``sr`` (Comprehensive SR), ``gsps`` (frames and scores on each film), ``cad-sr``
                (Mammography CAD SR), ``sc`` (the drawn pictures).
            score_threshold: Smallest score of a region that is written.

        Returns:
            The files.

        Raises:
            ConfigError: A kind does not exist, or needs the extra ``dicom-out``.
            DataError: A film is not a DICOM file or lacks what a result needs, patients share the
                study, or the pixels were not kept (``sc``).
            OutputError: The operating system refused to write.

        Example:
            >>> import simfrcnn
            >>> (exam,) = simfrcnn.load(weights, device="cpu").predict(study)
            >>> [path.name for path in exam.save_dicom("dicom", ["cad-sr"])]
            ['cad-sr.dcm']
        """
        from simfrcnn.dicom_out.saving import files_of, kinds_of

        contents = dict(files_of(self.dicom_findings(score_threshold), kinds_of(kinds)))
        write_files(Path(folder), contents)
        return tuple(Path(folder) / name for name in contents)

    def dicom_findings(self, score_threshold: float = 0.5) -> ExamFindings:
        """What the DICOM objects say: the suspicious regions from a score on."""
        return ExamFindings(
            films=tuple(_as_film(image, score_threshold) for image in self.images),
            failed=tuple(
                None if one.what == _CONTRADICTING else one.path  # a judged film has its UID
                for one in self.left_out
                if one.what in _FAILURES
            ),
            model=model_of(self.provenance),
            score_threshold=score_threshold,
            remarks=tuple(self._remarks()),
            refused=_REFUSED if any(one.what == _PATIENTS for one in self.left_out) else None,
        )

    def _remarks(self) -> Iterator[str]:
        if self.score is not None:
            yield f"Score of the exam {self.score:.3f}."
        if self.call is not None:
            call = "positive" if self.call.is_positive else "negative"
            score, threshold = _told_apart(self.call.score, self.call.score_threshold)
            yield (
                f"Call {call}: {score} at the score threshold {threshold} "
                f"({self.call.level}/{self.call.rule})."
            )
        elif self.images:  # why in full, with the remedy, is said where the model is run
            yield "No call was made: the model has no operating point that holds for these scores."
        else:
            yield "No call was made: no film of the exam was judged."


def _told_apart(one: float, other: float) -> tuple[str, str]:
    """Two numbers with three decimals, or with as many as it takes to tell one from the other."""
    for digits in range(3, 17):
        texts = f"{one:.{digits}f}", f"{other:.{digits}f}"
        if texts[0] != texts[1] or one == other:
            return texts
    return repr(float(one)), repr(float(other))


def _as_film(image: ImageResult, score_threshold: float) -> JudgedFilm:
    regions = [one for one in image.suspicious if one.score >= score_threshold]
    return JudgedFilm(
        path=image.path or Path(image.file),
        regions=tuple(Region(one.box, one.score, one.category) for one in regions),
        picture=partial(image.draw, score_threshold),
        laterality=image.laterality,
        view_position=image.view_position,
    )
