"""How does a folder of mammograms become a folder of results? All that ``predict`` asks for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.data.exams import Selection
from simfrcnn.described import Options, described
from simfrcnn.detector import Detector, load
from simfrcnn.dicom.mammogram import DicomOptions
from simfrcnn.dicom_out.saving import kinds_of, require_identifiers
from simfrcnn.workflows.identities import PrivacyOptions, identities, note_of_new_key
from simfrcnn.workflows.predict import PredictionOptions, Summary, predict, shard_of
from simfrcnn.workflows.prediction_folder import Pictures

logger = logging.getLogger("simfrcnn")


@dataclass(frozen=True)
class JobOptions(Options):
    """How a folder is judged, as a user asks for it."""

    config_file: Path | None = described(
        None, "a config in place of that of the weights", parse=Path
    )
    device: str = described(
        "auto",
        "cpu, cuda, cuda:N; auto (default) takes that of the config, or the CPU without a GPU",
    )
    operating_point: str | None = described(
        None,
        "what decides whether an exam is positive: case/youden (default, where the model has "
        "it), case/sensitivity, case/specificity, breast/..., or a score threshold in (0, 1]",
        metavar="LEVEL/RULE",
    )
    pictures: Pictures = described(
        "all", "draw no image, those with a box to draw, or all (default)"
    )
    heat_maps: bool = described(
        False, "of a whole-image classifier: also draw where it sees each class, a picture a class"
    )
    dicom: str = described(
        "",
        "write DICOM results too: sr, gsps, cad-sr, sc, joined by commas (docs/"
        "dicom_conformance.md); asks for --keep-identifiers (default: none)",
        metavar="KINDS",
    )
    score_threshold: float | None = described(
        None,
        "smallest score of a box that is drawn or written as DICOM (default: EVAL.SCORE_THRESHOLD)",
        legal="a score in [0, 1]",
        metavar="S",
        parse=float,
    )
    all_views: bool = described(
        False, "judge what is not a screening view too: scouts, magnifications, specimens ..."
    )
    skip_unreadable: bool = described(
        False, "exit with 0 although files could not be read; they are listed in any case"
    )
    allow_for_processing: bool = described(
        False, "read raw (FOR PROCESSING) images too, although no display would show them so"
    )
    any_modality: bool = described(False, "read DICOM files of other modalities too")
    shard: str | None = described(
        None,
        "judge only the studies of shard I of N, from 1; --merge puts the outputs together",
        metavar="I/N",
    )
    workers: int | None = described(
        None,
        "processes that decode files (default: one for each core, at most 8; 0: none)",
        parse=int,
    )

    def for_detector(self, detector: Detector) -> PredictionOptions:
        """What is judged and written; the model's config has the threshold that is not given."""
        threshold = self.score_threshold
        return PredictionOptions(
            selection=Selection(
                DicomOptions(self.allow_for_processing, self.any_modality), self.all_views
            ),
            pictures=self.pictures,
            score_threshold=detector.cfg.EVAL.SCORE_THRESHOLD if threshold is None else threshold,
            shard=shard_of(self.shard),
            workers=self.workers,
            dicom=kinds_of(self.dicom),
            heat_maps=self.heat_maps,
        )


def predict_folder(
    folder: Path,
    weights: str,
    output: Path,
    options: JobOptions,
    privacy: PrivacyOptions,
    *,
    overrides: Sequence[str] = (),
) -> Summary:
    """Judge all exams of a folder, or go on with that, under pseudonyms unless asked otherwise.

    Args:
        folder: Images, in sub-folders too; or a single file.
        weights: A checkpoint, or the name of a model that comes with simfrcnn.
        output: A new or empty folder, or that of a run to go on with.
        options: How they are judged.
        privacy: Whether identifiers leave as pseudonyms.
        overrides: Config keys to change, ``KEY VALUE ...``.

    Raises:
        SimFrcnnError: Weights, options, input or output are not fit; see
            :func:`simfrcnn.workflows.predict.predict`.
    """
    check_kinds(options, privacy)
    names = identities(privacy, "predict", output)
    for line in note_of_new_key(names):
        logger.info(line)
    detector = load(
        weights,
        device=options.device,
        config_file=options.config_file,
        overrides=overrides,
        operating_point=options.operating_point,
    )
    logger.info(f"engine: {detector.engine.NAME}")
    summary = predict(
        detector,
        folder,
        output,
        options.for_detector(detector),
        pseudonyms=None if names is None else names.pseudonyms,
        id_map=None if names is None else names.id_map,
    )
    if names is not None:
        logger.info(f"what the pseudonyms stand for, for your eyes only: {names.id_map}")
    return summary


def check_kinds(options: JobOptions, privacy: PrivacyOptions) -> None:
    """Refuse kinds of DICOM results that are not known, or are asked for with pseudonyms.

    Raises:
        ConfigError: They are, or a library that they need is not installed.
    """
    require_identifiers(kinds_of(options.dicom), are_kept=privacy.keep_identifiers)
