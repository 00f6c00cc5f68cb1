"""Find suspicious regions in a folder of mammograms: a JSON per exam, and overlay pictures.

The JSON lists every detection that the config keeps; the score of an image is its highest one of a
target class, that of an exam the highest of its images. Exams and images bear pseudonyms (keyed
hashes); a private id map outside the output says which files they are, and --keep-identifiers
writes Study Instance UIDs and paths below the folder instead.

Not a medical device: the output is for research and must not guide the care of a patient.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from simfrcnn.cli import common, identifiers
from simfrcnn.config import data_settings, load_config
from simfrcnn.data.pseudonyms import name_of_image, pseudonymised
from simfrcnn.dicom.mammogram import DicomOptions
from simfrcnn.engines.common.checkpoints import read_checkpoint
from simfrcnn.engines.common.device import check_device
from simfrcnn.engines.common.inference import detect_records
from simfrcnn.engines.contract import Engine
from simfrcnn.errors import CheckpointError, ConfigError, OutputError
from simfrcnn.files import sha256_of, write_bytes, write_json, writing_folder
from simfrcnn.images.finding import find_images
from simfrcnn.images.reading import load_pixels, records_of_files
from simfrcnn.records import ImageRecord
from simfrcnn.structures import Detections
from simfrcnn.version import __version__

SCHEMA = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "folder", type=Path, help="DICOM, PNG, PGM, TIFF or JPEG files, in sub-folders too"
    )
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
    identifiers.add_arguments(parser)
    parser.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="a config key to change, such as MODEL.DEVICE cpu; may be given several times",
    )


def run(arguments: argparse.Namespace) -> int:
    """Predict, and write one JSON per exam and one picture per image: all of them, or none."""
    identities = identifiers.identities(arguments, "predict", arguments.output)
    with writing_folder(arguments.output) as folder:
        engine, cfg = _engine_and_config(arguments)
        data = data_settings(cfg)
        score_threshold = _drawing_threshold(arguments.score_threshold, cfg)
        options = DicomOptions(arguments.allow_for_processing, arguments.any_modality)
        found_records, n_skipped = _read_records(arguments, options)
        images = _named(found_records, arguments.folder.absolute(), identities)
        records = [image.record for image in images]
        model = engine.build_model(cfg)
        engine.load_weights(model, arguments.weights)
        found = detect_records(cfg, model, engine.detect, records, title="predict", options=options)
        exams: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for number, (image, detections) in enumerate(zip(images, found, strict=True), start=1):
            suspicious = of_classes(detections, data.target_classes, data.classes)
            pixels = load_pixels(image.record, options)
            picture = f"image_{number:05d}.png"
            _write_picture(folder / picture, draw_detections(pixels, suspicious, score_threshold))
            exams[image.record.exam_id].append(
                {
                    **image.name,
                    "score": max(suspicious.scores.tolist(), default=0.0),
                    "picture": picture,
                    **_image_entry(image, detections, data.classes),
                }
            )
        _write_exams(folder, exams, _provenance(arguments.weights, engine, cfg, score_threshold))
        if identities is not None:
            identities.save()
            print(f"what the pseudonyms stand for, for your eyes only: {identities.id_map}")
    print(
        f"{len(records)} images of {len(exams)} exams in {arguments.output}; {n_skipped} files "
        "skipped"
    )
    return 0


def of_classes(
    detections: Detections, wanted: Collection[str], classes: Sequence[str]
) -> Detections:
    """The detections of some classes: a model may know more than what is suspicious.

    Args:
        detections: Of one image.
        wanted: Class names.
        classes: All classes of the model; label i + 1 is ``classes[i]``.
    """
    labels = [label for label, name in enumerate(classes, start=1) if name in wanted]
    chosen = torch.isin(detections.labels, torch.tensor(labels, dtype=detections.labels.dtype))
    return Detections(
        detections.image_id,
        detections.boxes[chosen],
        detections.scores[chosen],
        detections.labels[chosen],
    )


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


def _read_records(
    arguments: argparse.Namespace, options: DicomOptions
) -> tuple[list[ImageRecord], int]:
    """The records of all images of the folder, decoded once, and how many files were skipped."""
    paths = find_images(arguments.folder)
    with tqdm(paths, desc="read", unit="file", mininterval=1.0) as progress:
        records, skipped = records_of_files(
            progress, skip_unreadable=arguments.skip_unreadable, options=options
        )
    for _, message in skipped:
        print(f"skipped {message.replace(f'{arguments.folder.absolute()}{os.sep}', '')}")
    return records, len(skipped)


@dataclass(frozen=True)
class _Image:
    """An image as the output names it; ``notes`` say what was decided when it was read."""

    record: ImageRecord
    name: Mapping[str, str]
    notes: str | None


def _named(
    records: Sequence[ImageRecord], folder: Path, identities: identifiers.Identities | None
) -> list[_Image]:
    """The images by their paths, or in the order of their pseudonyms, which tells no path's."""
    if identities is None:
        return [
            _Image(r, {"file": str(r.path.relative_to(folder))}, r.attributes.get("notes"))
            for r in records
        ]
    notes = {record.path: record.attributes.get("notes") for record in records}
    renamed = pseudonymised(records, identities.pseudonyms, lambda path: path.relative_to(folder))
    return [
        _Image(record, {"pseudonym": name_of_image(record.image_id)}, notes[record.path])
        for record in renamed
    ]


def _provenance(weights: Path, engine: Engine, cfg: Any, score_threshold: float) -> dict[str, Any]:
    return {
        "simfrcnn": __version__,
        "engine": engine.NAME,
        "weights_sha256": sha256_of(weights),
        "classes": list(cfg.DATASETS.CLASSES),
        "target_classes": list(cfg.DATASETS.TARGET_CLASSES),
        "score_threshold_of_pictures": score_threshold,
        "note": "Research software, not a medical device.",
    }


def _write_exams(
    folder: Path, exams: Mapping[str, Sequence[Mapping[str, Any]]], provenance: Mapping[str, Any]
) -> None:
    for number, (exam_id, images) in enumerate(exams.items(), start=1):
        write_json(
            folder / f"exam_{number:05d}.json",
            {
                "schema": SCHEMA,
                "exam_id": exam_id,
                "score": max(image["score"] for image in images),
                "images": images,
                "provenance": provenance,
            },
        )


def _image_entry(image: _Image, detections: Detections, classes: Sequence[str]) -> dict[str, Any]:
    record = image.record
    return {
        "height": record.height,
        "width": record.width,
        "laterality": record.laterality.value if record.laterality else None,
        "view_position": record.view_position.value if record.view_position else None,
        "notes": image.notes,
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
