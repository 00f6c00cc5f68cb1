"""How is a model judged on a data set?

Detections first, on disk; the report is then a pure function of them, of the annotations, of the
settings and of the operating points, which are chosen on DATASETS.VAL before DATASETS.TEST is
looked at. Both end up in the checkpoint as well. Works on either engine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from simfrcnn import artifacts, config
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.data.splits import assert_no_patient_leak
from simfrcnn.engines.common.cards import FIGURES
from simfrcnn.engines.common.checkpoints import (
    BEST,
    LAST,
    read_checkpoint,
    weights_sha256,
    write_checkpoint,
)
from simfrcnn.engines.common.descriptions import facts_of_model, read_described
from simfrcnn.engines.common.flips import flips_of, in_flips
from simfrcnn.engines.common.inference import detect_records, load_detector, precision_of
from simfrcnn.engines.common.score_keys import keys_of_other_detections, warn_of_other_scores
from simfrcnn.engines.common.validation import DETECTIONS, quick_settings, save_detections
from simfrcnn.engines.contract import Engine, deviations_of
from simfrcnn.evaluation import operating
from simfrcnn.evaluation.evaluator import evaluate
from simfrcnn.evaluation.inputs import check_labels, check_settings
from simfrcnn.evaluation.operating import ChosenPoints
from simfrcnn.evaluation.reporting.gallery import LoadMaps
from simfrcnn.evaluation.reporting.report import summary_lines, write_report
from simfrcnn.evaluation.results import Report
from simfrcnn.evaluation.subgroups import check_subgroups
from simfrcnn.files import write_json
from simfrcnn.images.hanging import hung_pictures
from simfrcnn.training.recipe import load_sets
from simfrcnn.version import __version__
from simfrcnn.workflows.class_maps import maps_of_model

logger = logging.getLogger("simfrcnn")

NO_VALIDATION = (
    "There is no validation set (DATASETS.VAL), so no operating point was chosen: sensitivity and "
    "specificity are given at EVAL.SCORE_THRESHOLD alone."
)


def check_rules(cfg: Any) -> None:
    """Refuse rules of evaluation that the test sets cannot be judged by, before hours of training.

    Raises:
        ConfigError: A setting outside its range, a class that an annotation file lacks, or a
            subgroup that cannot be made.
        DataError: Boxes are of a target class in another spelling, on VAL or TEST.
    """
    settings = config.evaluation_settings(cfg)
    for annotated in load_sets(cfg, (*cfg.DATASETS.VAL, *cfg.DATASETS.TEST)):
        check_labels(annotated.records, settings, str(annotated.path))
    for annotated in load_sets(cfg, cfg.DATASETS.TEST):
        check_settings(settings, annotated.categories)
        check_subgroups(annotated.records, settings)


def judge_model(
    engine: Engine, cfg: Any, weights: Path, *, trained_by: str | None = None
) -> dict[str, Report]:
    """Run a checkpoint over ``DATASETS.TEST``; write detections and reports, log the summaries.

    First it is run over ``DATASETS.VAL``, if there is one, and its operating points are chosen
    there: ``OUTPUT_DIR/operating_points.json``. Everything else goes to
    ``OUTPUT_DIR/inference/<data set>/``. Detections of an earlier call are not used again: they
    depend on more keys than their sidecar says. Points and figures are also written into those
    checkpoints of ``OUTPUT_DIR`` that hold the weights judged here, unless a key that changes
    detections has another value than in the model's own config. Without a ``DATASETS.TEST`` the
    points are chosen all the same.

    Where the checkpoint holds another value of a key that changes scores, a warning names it.

    Args:
        engine: Runs the checkpoint.
        cfg: Resolved.
        weights: The checkpoint.
        trained_by: The name of the config that has just trained it, which its card is to say; None
            where the card says it already.

    Raises:
        CheckpointError: The weights are missing or do not fit the config.
        DataError: A patient of TEST is in VAL as well.
    """
    sets = dict(zip(cfg.DATASETS.TEST, load_sets(cfg, cfg.DATASETS.TEST), strict=True))
    validation = dict(zip(cfg.DATASETS.VAL, load_sets(cfg, cfg.DATASETS.VAL), strict=True))
    if not sets:
        logger.info("DATASETS.TEST is empty: nothing is tested")
        if not validation:
            return {}
    require_apart(validation, sets)
    model = load_detector(engine, cfg, weights)
    content, _ = read_described(weights)
    warn_of_other_scores(cfg, content["config"], engine.default_cfg(), weights)
    finds_otherwise = keys_of_other_detections(cfg, content["config"], engine.default_cfg())
    logger.info(f"testing {weights}")
    judged = weights_sha256(weights)
    of_training = {} if trained_by is None else {"config": trained_by}
    content["card"] = {**(content["card"] or {}), **of_training}
    provenance = {
        "engine": engine.NAME,
        "deviations": [asdict(one) for one in deviations_of(engine.DEVIATIONS, cfg)],
        "checkpoint_sha256": judged,
        **precision_of(cfg),
        **flips_of(cfg),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "simfrcnn": __version__,
        **facts_of_model(cfg, weights, content),
    }

    detect = in_flips(cfg, engine.detect)

    def run(name: str, annotated: AnnotatedSet, title: str) -> Path:
        found = detect_records(cfg, model, detect, annotated.records, title=title)
        folder = Path(cfg.OUTPUT_DIR) / "inference" / name
        save_detections(folder / DETECTIONS, found, cfg, annotated, provenance)
        return folder

    folders = {n: run(n, annotated, f"validate {n}") for n, annotated in validation.items()}
    chosen = choose_in_run_folder(cfg, folders, validation)
    reports = {
        name: report_from_file(
            run(name, annotated, f"test {name}"),
            cfg,
            annotated,
            title=name,
            chosen=chosen,
            load_maps=maps_of_model(cfg, model),
        )
        for name, annotated in sets.items()
    }
    if finds_otherwise:
        logger.info(
            "operating points and figures are not written into checkpoints, whose own config finds "
            f"otherwise ({', '.join(finds_otherwise)})"
        )
    else:
        keep_in_checkpoints(
            Path(cfg.OUTPUT_DIR),
            judged,
            chosen,
            reports,
            of_training,
            finding_otherwise=lambda own: keys_of_other_detections(cfg, own, engine.default_cfg()),
        )
    return reports


def keep_in_checkpoints(
    folder: Path,
    judged: str,
    chosen: ChosenPoints | None,
    reports: Mapping[str, Report],
    of_training: Mapping[str, Any] | None = None,
    *,
    finding_otherwise: Callable[[str | None], Sequence[str]] = lambda _own: (),
) -> None:
    """Write operating points and figures into the checkpoints of a run that hold some weights.

    Weights and what resuming needs stay as they are; the best checkpoint, which people hand on, has
    nothing for resuming, as those of Detectron2 once had. Files of earlier versions (schema 1) and
    files elsewhere are not touched.

    Args:
        folder: The run folder.
        judged: The weights, by :func:`~simfrcnn.engines.common.checkpoints.weights_sha256`.
        chosen: Their operating points; None, without a validation set, leaves those of the file.
        reports: Of the test sets, by name; without any, the figures of the file stay.
        of_training: Further entries of the card, such as the config's name.
        finding_otherwise: A checkpoint's own config -> the keys by which it finds otherwise than
            what was judged: with the same weights, a model may be given away in flips.
    """
    figures = [
        {"data_set": name, "figure": key, **report.figures[key].to_json()}
        for name, report in reports.items()
        for key in FIGURES
        if key in report.figures
    ]
    points = {} if chosen is None else {"operating_points": operating.document_of(chosen)}
    for path in (folder / BEST, folder / LAST):
        if not path.is_file() or weights_sha256(path) != judged:
            continue
        content = read_checkpoint(path)
        if keys := finding_otherwise(content["config"]):
            logger.info(
                f"nothing is written into {path}, which finds otherwise ({', '.join(keys)})"
            )
            continue
        changed: dict[str, Any] = {**points, **({"training": None} if path.name == BEST else {})}
        further = {**(of_training or {}), **({"figures": figures} if reports else {})}
        if further:
            changed["card"] = {**(content["card"] or {}), **further}
        if content["schema"] > 1 and any(content[key] != value for key, value in changed.items()):
            write_checkpoint(path, {**content, **changed})
            logger.info(f"operating points and figures are in {path}")


def require_apart(validation: Mapping[str, AnnotatedSet], test: Mapping[str, AnnotatedSet]) -> None:
    """Refuse to choose operating points on patients of the test set.

    Raises:
        DataError: Names the sets and two images.
    """
    parts = {"VAL": validation, "TEST": test}
    assert_no_patient_leak(
        {
            f"DATASETS.{part} {', '.join(sets)}": [r for one in sets.values() for r in one.records]
            for part, sets in parts.items()
        }
    )


def choose_in_run_folder(
    cfg: Any, folders: Mapping[str, Path], validation: Mapping[str, AnnotatedSet]
) -> ChosenPoints | None:
    """Choose operating points from the saved detections on the validation sets, and keep them.

    Beside the detections of each set goes a ``report.json`` without intervals. It knows none of the
    points: on the set on which they were chosen they look too good.

    Returns:
        The points as they now stand in ``OUTPUT_DIR/operating_points.json``; None without a
        validation set.
    """
    if not validation:
        return None
    path = Path(cfg.OUTPUT_DIR) / operating.FILE_NAME
    settings = quick_settings(cfg)
    reports = {}
    for name, annotated in validation.items():
        report = evaluate(
            annotated.records,
            artifacts.read_detections(folders[name] / DETECTIONS),
            settings,
            categories=annotated.categories,
            provenance={"annotations": name, "annotations_sha256": annotated.sha256},
        )
        write_json(folders[name] / "report.json", report.to_json())
        reports[name] = report
    chosen = operating.choose_operating_points(reports)
    operating.write_operating_points(path, chosen)
    _say(operating.lines_on(chosen), f"operating points: {path}")
    return chosen


def report_from_file(
    folder: Path,
    cfg: Any,
    annotated: AnnotatedSet,
    *,
    title: str,
    chosen: ChosenPoints | None,
    load_maps: LoadMaps | None = None,
) -> Report:
    """Judge the saved detections of a folder, write the report beside them, log its summary.

    Args:
        folder: Holds ``detections.json``.
        cfg: For the rules of the evaluation.
        annotated: The truth.
        title: The name of the data set.
        chosen: Operating points; None where there was no validation set.
        load_maps: Gives the class maps of images, for the exams that are shown.
    """
    detections = artifacts.read_detections(folder / DETECTIONS)
    settings = config.evaluation_settings(cfg)
    applied = (
        operating.Applied(notes=(NO_VALIDATION,))
        if chosen is None
        else operating.apply_to(chosen, detections, settings, annotated.sha256)
    )
    report = evaluate(
        annotated.records,
        detections,
        settings,
        categories=annotated.categories,
        operating_points=applied.points,
        recalibrations=applied.recalibrations,
        notes=applied.notes,
        provenance={
            "annotations": title,
            "annotations_sha256": annotated.sha256,
            **applied.provenance,
        },
    )
    page = write_report(
        folder,
        report,
        records=annotated.records,
        detections=detections,
        load_pictures=hung_pictures,
        load_maps=load_maps,
        title=title,
    )
    _say(summary_lines(report), f"report: {page}")
    return report


def _say(lines: Iterable[str], last: str) -> None:
    for line in (*lines, last):
        logger.info(line)
