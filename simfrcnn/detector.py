"""How is a trained model used from Python: on a picture, a study, or a folder of studies?

A model is loaded from one file and judges what it is given, the same way as `simfrcnn predict`.
Research software, not a medical device.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from simfrcnn import config
from simfrcnn.data.ahead import Processes
from simfrcnn.data.exams import FAILED, FileFacts, Selection, Sources, index_of, reason_of_fault
from simfrcnn.data.naming import AsTheyAre, Naming
from simfrcnn.decision import Decision, decision_of
from simfrcnn.dicom.mammogram import STRICT, DicomOptions
from simfrcnn.engines.common.checkpoints import state_sha256
from simfrcnn.engines.common.decoding import (
    DecodedExam,
    DecodedImage,
    Decoding,
    decode_pixels,
    killed_exam,
)
from simfrcnn.engines.common.descriptions import facts_of_model, read_described
from simfrcnn.engines.common.device import check_device
from simfrcnn.engines.common.flips import flips_of, in_flips
from simfrcnn.engines.common.inference import (
    IMAGES_PER_BATCH,
    detecting,
    load_detector,
    precision_of,
)
from simfrcnn.engines.common.score_keys import (
    OF_MODEL,
    keys_changed_since_points,
    warn_of_other_scores,
)
from simfrcnn.engines.common.validation import masks_from
from simfrcnn.engines.contract import Engine, load_engine
from simfrcnn.errors import CheckpointError, ConfigError
from simfrcnn.evaluation.case import pool
from simfrcnn.exam import Detection, ExamResult, ImageResult, LeftOut
from simfrcnn.files import sha256_of
from simfrcnn.images.raster import greys_of_array
from simfrcnn.images.reading import record_and_greys
from simfrcnn.records import ImageRecord, Supervision
from simfrcnn.structures import Detections
from simfrcnn.version import __version__
from simfrcnn.zoo import find_model

NOT_A_DEVICE = "Research software, not a medical device."

logger = logging.getLogger("simfrcnn")


def load(
    weights: Path | str,
    *,
    device: str = "auto",
    config_file: Path | str | None = None,
    engine: str | None = None,
    overrides: config.Overrides = (),
    operating_point: str | float | None = None,
) -> Detector:
    """Load a trained model, ready to judge.

    A checkpoint carries its config, classes and operating points. Of a file of an earlier version
    they are taken from ``config.yaml`` and ``operating_points.json`` beside it, with a logged note.

    Args:
        weights: A checkpoint of simfrcnn, or the name of a model that comes with it.
        device: ``cpu``, ``cuda``, ``cuda:N``; ``auto`` is the device of the config, and the CPU,
            with a logged warning, where that is a GPU which is not there.
        config_file: A config in place of the model's own.
        engine: The detection library; a checkpoint knows its own, and another is refused.
        overrides: Config keys to change, such as ``{"TEST.DETECTIONS_PER_IMAGE": 10}``; or keys and
            values in turn, as on the command line.
        operating_point: What decides the call of an exam: ``case/youden`` (the default where the
            model has it), ``case/sensitivity``, ``breast/youden`` ..., or a score threshold of your
            own.

    Raises:
        CheckpointError: The file is missing, damaged, unsafe or not one of simfrcnn, or there is no
            config for it.
        ConfigError: The config, the device or the operating point does not fit.
        EngineError: The model's engine is not installed, or another one was asked for.
        ArtifactError: The operating points are damaged.

    Example:
        >>> import simfrcnn
        >>> detector = simfrcnn.load(weights, device="cpu")
        >>> detector.classes
        ('malignant',)
    """
    weights = find_model(weights)
    content, notes = read_described(weights)
    for note in notes:
        logger.info(note)
    used = load_engine(content["engine"])
    if engine not in (None, "auto", used.NAME):
        raise CheckpointError(
            f"{weights} was trained with the engine {used.NAME}; {engine} cannot run it"
        )
    cfg = _config_of(weights, content, used, config_file, overrides, device)
    if config_file is not None or overrides:
        warn_of_other_scores(cfg, content["config"], used.default_cfg(), weights)
    sha256 = sha256_of(weights) if content["schema"] == 1 else state_sha256(content["model"])
    model = load_detector(used, cfg, weights)
    decision = decision_of(
        operating_point,
        content["operating_points"],
        config.evaluation_settings(cfg),
        checkpoint_sha256=sha256,
        where=OF_MODEL,
        changed_keys=keys_changed_since_points(cfg, content, used.default_cfg()),
    )
    if decision.why_none:
        logger.warning("no call is made: %s", decision.why_none)
    return Detector(used, model, cfg, decision, sha256, facts_of_model(cfg, weights, content))


@dataclass(frozen=True, eq=False)
class Detector:
    """A loaded model; made by :func:`load`.

    ``decision`` says from which score on an exam is called positive. ``sha256`` identifies the
    weights; ``facts`` say where they come from, as far as their file does: ``checkpoint``,
    ``model``, ``config``, ``config_sha256``, ``trained_on``, ``seed``.
    """

    engine: Engine = field(repr=False)
    model: nn.Module = field(repr=False)
    cfg: Any = field(repr=False)
    decision: Decision
    sha256: str
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    makes_heat_maps: bool = False

    @property
    def has_class_maps(self) -> bool:
        """Whether it is a whole-image classifier, which can say where it sees each class."""
        return config.is_classifier(self.cfg)

    def with_heat_maps(self) -> Detector:
        """The same model, whose results also say where it sees each class (``ImageResult.heat``).

        Raises:
            ConfigError: It is a detector, which has boxes and no such maps.
        """
        if not self.has_class_maps:
            raise ConfigError(
                "heat maps (--heat-maps) are the class maps of a whole-image classifier "
                f"({config.CLASSIFIER}), and this model is a {self.cfg.MODEL.META_ARCHITECTURE}: "
                "it says by boxes where it sees something (--pictures)"
            )
        return dataclasses.replace(self, makes_heat_maps=True)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the model knows."""
        return tuple(self.cfg.DATASETS.CLASSES)

    @property
    def target_classes(self) -> tuple[str, ...]:
        """Those that are suspicious: they make the score of an image."""
        return tuple(self.cfg.DATASETS.TARGET_CLASSES)

    def detect(
        self, image: NDArray[Any] | Path | str, *, white: float | None = None
    ) -> ImageResult:
        """Find suspicious regions in one picture.

        Args:
            image: A file of any kind that is read, or the stored pixels (H, W), white = dense:
                uint8 from 0 to 255, uint16, or floating point from 0 to 1.
            white: The value that is white, 0 being black. By default 255, 1 for floating point, and
                for uint16 the smallest of 255, 1023, 4095, 16383 and 65535 that holds all values.

        Raises:
            DataError: The file cannot be read, or the array is no grey picture of such a range.

        Example:
            >>> import numpy as np
            >>> import simfrcnn
            >>> detector = simfrcnn.load(weights, device="cpu")
            >>> found = detector.detect(np.zeros((320, 240), dtype=np.uint8))
            >>> found.height, found.width
            (320, 240)
            >>> found.draw(score_threshold=0.9).shape
            (320, 240, 3)
        """
        decoding = self.decoding(STRICT, keeps_pixels=True)
        if isinstance(image, (str, Path)):
            path = Path(image)
            record, greys = record_and_greys(path, 0)
            decoded = decode_pixels(record, greys, decoding, path.name)
        else:
            greys = greys_of_array(np.asarray(image), white)
            decoded = decode_pixels(_record_of_array(greys.shape), greys, decoding, "array")
        (result,) = self._judged([decoded], Path("."), AsTheyAre())
        return result

    def predict(
        self,
        study: Path | str | Sequence[Path | str],
        *,
        all_views: bool = False,
        options: DicomOptions = STRICT,
        keep_pixels: bool = True,
        workers: int = 0,
    ) -> Iterator[ExamResult]:
        """Judge every exam of a study, a folder or a list of files, one after the other.

        DICOM files are put together by Study Instance UID (and Patient ID, where patients share
        one); a file of another format is an exam of its own. What cannot be judged stands in
        ``left_out`` of its exam; it does not end the run.

        Args:
            study: A folder, with sub-folders; a file; or a list of files.
            all_views: Judge pictures that are not screening views (scouts, magnifications ...).
            options: Which DICOM files are accepted beyond For Presentation mammograms.
            keep_pixels: Keep the stored pixels, for ``draw()`` and ``save()``: some 10 MB an image,
                as long as the result lives.
            workers: Processes that decode files.

        Raises:
            DataError: There is nothing to read.

        Example:
            >>> import simfrcnn
            >>> detector = simfrcnn.load(weights, device="cpu")
            >>> for exam in detector.predict(study):
            ...     print(len(exam.images), exam.left_out, exam.draw().shape[0])
            4 () 800
        """
        selection = Selection(options, all_views)
        decoding = self.decoding(options, keeps_pixels=keep_pixels)
        with (
            Processes(workers) as processes,
            index_of(Sources.of(study), selection, processes) as index,
        ):
            decoded = processes.results(decoding, index.exams(), on_kill=killed_exam)
            for exam in decoded:
                yield self.judge(exam, AsTheyAre())

    def decoding(self, options: DicomOptions, *, keeps_pixels: bool) -> Decoding:
        """How files become this model's input."""
        return Decoding(
            config.input_settings(self.cfg),
            options,
            keeps_pixels,
            native=config.needs_native_pixels(self.cfg),
        )

    def judge(self, exam: DecodedExam, naming: Naming) -> ExamResult:
        """The result of an exam whose files have been read; a failing model fails this exam alone.

        Args:
            exam: From a decoding process.
            naming: The names that patient, exam and files get.
        """
        plan = exam.plan
        left_out = [_left_out(file, plan.root, naming) for file in exam.left_out]
        try:
            images = tuple(self._judged(exam.images, plan.root, naming))
        except Exception as error:  # whatever it is, the other exams can be judged
            why = f"the model failed: {reason_of_fault(error)}"
            logger.warning("an exam failed: %s", why, exc_info=error)
            left_out += [
                LeftOut(naming.file(image.place), FAILED, why, plan.root / image.place)
                for image in exam.images
            ]
            images = ()
        scores = [image.score for image in images]
        return ExamResult(
            exam_id=naming.exam(plan.exam_id),
            patient_id=naming.patient(plan.patient_id),
            score=pool(scores, self.cfg.EVAL.POOLING) if scores else None,
            call=self.decision.call(images),
            images=images,
            left_out=tuple(sorted(left_out, key=lambda one: one.file)),
            why_no_call=self.decision.why_none if images else "no image of the exam was judged",
            notes=plan.notes,
            provenance=self.provenance(),
        )

    def provenance(self) -> dict[str, Any]:
        """Where results come from, in JSON types."""
        return {
            "simfrcnn": __version__,
            "engine": self.engine.NAME,
            "checkpoint_sha256": self.sha256,
            "classes": list(self.classes),
            "target_classes": list(self.target_classes),
            "note": NOT_A_DEVICE,
            **masks_from(self.cfg),
            **precision_of(self.cfg),
            **flips_of(self.cfg),
        }

    def _judged(
        self, images: Sequence[DecodedImage], root: Path, naming: Naming
    ) -> Iterator[ImageResult]:
        # A batch never holds images of two exams: the last digit of a score can hang on what else
        # is in a batch, and a result must not hang on which exams were run with it.
        for first in range(0, len(images), IMAGES_PER_BATCH):
            batch = images[first : first + IMAGES_PER_BATCH]
            samples = [image.sample() for image in batch]
            heat: Sequence[Any] = [None] * len(batch)
            with detecting(self.cfg):
                found = in_flips(self.cfg, self.engine.detect)(self.model, samples)
                if self.makes_heat_maps:
                    model: Any = self.model
                    heat = model.heat_maps(samples)
            for image, detections, maps in zip(batch, found, heat, strict=True):
                result = self._result_of(image, detections, root, naming)
                if maps is not None:
                    of_class = dict(zip(self.classes, maps.numpy(), strict=True))
                    result = dataclasses.replace(result, heat=of_class)
                yield result

    def _result_of(
        self, image: DecodedImage, found: Detections, root: Path, naming: Naming
    ) -> ImageResult:
        record = image.record
        return ImageResult(
            file=naming.file(image.place),
            image_id=naming.image_id(image.place),
            height=record.height,
            width=record.width,
            detections=_detections_of(found, self.classes),
            target_classes=self.target_classes,
            laterality=record.laterality,
            view_position=record.view_position,
            notes=record.attributes.get("notes"),
            path=root / image.place,
            pixels=image.pixels,
            flips=image.flips,
        )


def _detections_of(found: Detections, classes: Sequence[str]) -> tuple[Detection, ...]:
    columns = (found.boxes, found.scores, found.labels, found.first_scores, found.second_scores)
    unknown = [None] * len(found.labels)
    rows = zip(*(unknown if c is None else c.tolist() for c in columns), strict=True)
    masks = unknown if found.masks is None else found.masks
    squares = unknown if found.squares is None else found.squares.tolist()
    return tuple(
        Detection(
            tuple(box),
            score,
            classes[label - 1],
            first,
            None if second != second else second,
            mask,
            None if square is None or square[0] != square[0] else tuple(square),
        )
        for (box, score, label, first, second), mask, square in zip(
            rows, masks, squares, strict=True
        )
    )


def _config_of(
    weights: Path,
    content: Mapping[str, Any],
    engine: Engine,
    config_file: Path | str | None,
    overrides: config.Overrides,
    device: str,
) -> Any:
    """The model's own config, or the one that was given, with what was overridden."""
    own: list[config.FileKey] = []
    if config_file is None:
        if content["config"] is None:
            raise CheckpointError(
                f"{weights} does not hold its config, and {weights.with_name('config.yaml')} does "
                "not exist; give its config (--config-file; in Python, config_file=...)"
            )
        own = config.stored_keys(weights, content["config"])

    def loaded(further: Mapping[str, Any]) -> Any:
        file = None if config_file is None else Path(config_file)
        both = config.with_further(overrides, further)
        return config.load_config(engine.default_cfg(), file, both, overlay=own)

    on_cpu = {"MODEL.DEVICE": "cpu", "SOLVER.AMP.ENABLED": False}
    if device == "cpu":
        cfg = loaded(on_cpu)
    elif device != "auto":
        cfg = loaded({"MODEL.DEVICE": device})
    else:
        cfg = loaded({})
        is_asked_for = "MODEL.DEVICE" in config.overridden_keys(overrides)
        if str(cfg.MODEL.DEVICE) != "cpu" and not torch.cuda.is_available() and not is_asked_for:
            logger.warning(
                "the model's config asks for %s, and torch %s finds no GPU here: the CPU is used",
                cfg.MODEL.DEVICE,
                torch.__version__,
            )
            cfg = loaded(on_cpu)
    check_device(cfg)
    return cfg


def _record_of_array(shape: tuple[int, int]) -> ImageRecord:
    return ImageRecord(
        image_id=0,
        file_name="array",
        path=Path("array"),
        height=shape[0],
        width=shape[1],
        patient_id="array",
        exam_id="array",
        supervision=Supervision.UNLABELLED,
    )


def _left_out(file: FileFacts, root: Path, naming: Naming) -> LeftOut:
    assert file.what is not None
    return LeftOut(naming.file(file.place), file.what, file.why or "", root / file.place)
