"""Find suspicious regions in a folder of mammograms: a JSON per exam, and overlay pictures.

Not a medical device: the output is for research and must not guide the care of a patient.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simfrcnn.cli import common
from simfrcnn.config import load_config
from simfrcnn.data.dicom import DicomOptions
from simfrcnn.data.images import find_images, load_pixels, records_of_files
from simfrcnn.engines.common.checkpoints import read_checkpoint
from simfrcnn.engines.common.device import check_device
from simfrcnn.engines.common.inference import detect_records
from simfrcnn.engines.contract import Engine
from simfrcnn.errors import CheckpointError, ConfigError, OutputError
from simfrcnn.files import sha256_of, write_bytes, write_json
from simfrcnn.records import ImageRecord
from simfrcnn.structures import Detections

SCHEMA = 1
_WHITE = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("folder", type=Path, help="DICOM or PNG files, in sub-folders too")
    parser.add_argument("--weights", type=Path, required=True, help="a checkpoint of simfrcnn")
    parser.add_argument("--output", type=Path, required=True, help="a new or empty folder")
    parser.add_argument(
        "--config-file",
        type=Path,
        help="the config of the weights (default: config.yaml beside them)",
    )
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="list files that cannot be read and go on; without it they are an error",
    )
    parser.add_argument(
        "--allow-for-processing",
        action="store_true",
        help="read raw (FOR PROCESSING) images too, although no display would show them so",
    )
    parser.add_argument(
        "--any-modality",
        action="store_true",
        help="read DICOM files of other modalities too",
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=None,
        help="smallest score of a box that is drawn (default: EVAL.SCORE_THRESHOLD)",
    )
    parser.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="a config key to change, such as MODEL.DEVICE cpu; may be given several times",
    )


def run(arguments: argparse.Namespace) -> int:
    """Predict, and write one JSON per exam and one picture per image."""
    _require_new_folder(arguments.output)
    engine, cfg = _engine_and_config(arguments)
    threshold = _drawing_threshold(arguments.score_threshold, cfg)
    options = DicomOptions(arguments.allow_for_processing, arguments.any_modality)
    records, skipped = records_of_files(
        find_images(arguments.folder),
        skip_unreadable=arguments.skip_unreadable,
        options=options,
    )
    for path, reason in skipped:
        print(f"skipped {path}: {reason}")
    model = engine.build_model(cfg)
    engine.load_weights(model, arguments.weights)
    found = detect_records(cfg, model, engine.detect, records, title="predict", options=options)
    provenance = {
        "engine": engine.NAME,
        "weights_sha256": sha256_of(arguments.weights),
        "classes": list(cfg.DATASETS.CLASSES),
        "note": "Research software, not a medical device.",
    }
    n_exams = _write_exams(arguments, records, found, tuple(cfg.DATASETS.CLASSES), provenance)
    for record, detections in zip(records, found, strict=True):
        picture = draw_detections(load_pixels(record, options), detections, threshold)
        _write_picture(arguments.output / f"image_{record.image_id:05d}.png", picture)
    print(
        f"{len(records)} images of {n_exams} exams in {arguments.output}; {len(skipped)} files "
        "skipped"
    )
    return 0


def draw_detections(
    pixels: NDArray[np.uint8], detections: Detections, score_threshold: float
) -> NDArray[np.uint8]:
    """The image in grey with a frame and a score for every detection at or above a score.

    Args:
        pixels: (H, W).
        detections: Boxes in pixels of this image.
        score_threshold: Smallest score that is drawn.

    Returns:
        (H, W, 3) BGR.
    """
    picture = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    width = max(1, round(max(pixels.shape) / 500))
    colour = (0, 200, 255)
    for box, score in zip(detections.boxes.tolist(), detections.scores.tolist(), strict=True):
        if score < score_threshold:
            continue
        left, top, right, bottom = (round(side) for side in box)
        cv2.rectangle(picture, (left, top), (right, bottom), colour, width)
        cv2.putText(
            picture,
            f"{score:.2f}",
            (left, max(12 * width, top - 4)),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.5 * width,
            colour,
            width,
        )
    return np.asarray(picture, dtype=np.uint8)


def _require_new_folder(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"--output {folder} is not a new or empty folder; give another")


def _engine_and_config(arguments: argparse.Namespace) -> tuple[Engine, Any]:
    """The checkpoint knows its engine; the config lies beside it unless it is given."""
    engine = common.start_engine(read_checkpoint(arguments.weights)["engine"])
    config_file = arguments.config_file or arguments.weights.with_name("config.yaml")
    if not config_file.is_file():
        raise CheckpointError(
            f"{config_file} does not exist; give the config of {arguments.weights} by --config-file"
        )
    cfg = load_config(
        engine.default_cfg(), config_file, [word for pair in arguments.set for word in pair]
    )
    check_device(cfg)
    return engine, cfg


def _drawing_threshold(asked: float | None, cfg: Any) -> float:
    threshold = float(cfg.EVAL.SCORE_THRESHOLD) if asked is None else asked
    if not 0 <= threshold <= 1:
        raise ConfigError(f"--score-threshold is {threshold}; legal is a score in [0, 1]")
    return threshold


def _write_exams(
    arguments: argparse.Namespace,
    records: Sequence[ImageRecord],
    found: Sequence[Detections],
    classes: tuple[str, ...],
    provenance: dict[str, Any],
) -> int:
    exams: dict[str, list[tuple[ImageRecord, Detections]]] = defaultdict(list)
    for record, detections in zip(records, found, strict=True):
        exams[record.exam_id].append((record, detections))
    for number, (exam_id, images) in enumerate(sorted(exams.items()), start=1):
        entries = [
            {
                "file": str(record.path.relative_to(arguments.folder.absolute())),
                **_image_entry(record, detections, classes),
            }
            for record, detections in images
        ]
        write_json(
            arguments.output / f"exam_{number:05d}.json",
            {
                "schema": SCHEMA,
                "exam_id": exam_id,
                "score": max(entry["score"] for entry in entries),
                "images": entries,
                "provenance": provenance,
            },
        )
    return len(exams)


def _image_entry(
    record: ImageRecord, detections: Detections, classes: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "picture": f"image_{record.image_id:05d}.png",
        "height": record.height,
        "width": record.width,
        "laterality": record.laterality.value if record.laterality else None,
        "view_position": record.view_position.value if record.view_position else None,
        "score": max(detections.scores.tolist(), default=0.0),
        "detections": [
            {"box_xyxy_px": box, "score": score, "class": classes[label - 1]}
            for box, score, label in zip(
                detections.boxes.tolist(),
                detections.scores.tolist(),
                detections.labels.tolist(),
                strict=True,
            )
        ],
    }


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    written, content = cv2.imencode(".png", picture)
    if not written:
        raise OutputError(f"cannot encode {path} as PNG")
    write_bytes(path, content.tobytes())
