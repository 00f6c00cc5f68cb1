"""How are saved detections judged against an annotation file? What ``evaluate`` and Python call."""

from __future__ import annotations

from pathlib import Path

from simfrcnn.artifacts import DetectionFile
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.errors import OutputError
from simfrcnn.evaluation import evaluator, operating
from simfrcnn.evaluation.operating import ChosenPoints
from simfrcnn.evaluation.reporting.report import write_report
from simfrcnn.evaluation.results import Report
from simfrcnn.files import collector_at_rest, require_writable, require_writable_file
from simfrcnn.settings import EXAMS_PER_GROUP, EvaluationSettings
from simfrcnn.workflows.class_maps import maps_beside
from simfrcnn.workflows.gallery import GalleryOptions
from simfrcnn.workflows.inputs import annotated_set, detections_of, origin_of, require_images
from simfrcnn.workflows.kept_apart import notes_on_patients


@collector_at_rest()
def evaluate(
    annotations: str | Path | AnnotatedSet,
    detections: str | Path | DetectionFile,
    *,
    output: str | Path | None = None,
    settings: EvaluationSettings | None = None,
    operating_points: str | Path | ChosenPoints | None = None,
    choose_operating_points: str | Path | None = None,
    pictures: bool = True,
    gallery: int = EXAMS_PER_GROUP,
    source_pictures: bool = False,
) -> Report:
    """Judge detections by case, breast, image, finding and lesion, and write the report.

    Args:
        annotations: A COCO file of the test set, or what :func:`simfrcnn.read_coco` gave.
        detections: A COCO results list, ours or another tool's, or what
            :func:`simfrcnn.read_detections` gave.
        output: A folder for ``report.html``, ``report.md``, ``report.json`` and the figures; None
            writes nothing.
        settings: The rules. None: the default ones, with the sensitivity and specificity that
            ``operating_points`` were chosen for.
        operating_points: Points that were chosen on a validation set, to be applied here. If the
            annotation file of that set lies beside this one, patients of both are a note.
        choose_operating_points: A file to write: this is the validation set, and operating points
            are chosen on it.
        pictures: Show the exams of the gallery; without them image files may be missing.
        gallery: At most so many exams for each reason.
        source_pictures: Beside the report, write a page for each exam of the gallery,
            ``exams/<number>.html``, with every stored pixel of its films as lossless 8-bit greys.
            The report's own pictures are small; such a page takes 10 to 20 MB for four films of 10
            megapixels.

    Returns:
        Every figure with its interval, the curves, and the counts behind them.

    Raises:
        ConfigError: ``source_pictures`` without ``pictures``; a negative ``gallery``.
        SimFrcnnError: A file that cannot be read, detections of other images, a class that is not
            known, operating points of another model or of other rules, or an output that cannot be
            written.

    Example:
        Two patients, one of whom has a box that was found:

        >>> import json, tempfile
        >>> from pathlib import Path
        >>> import simfrcnn
        >>> folder = Path(tempfile.mkdtemp())
        >>> box = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30]}
        >>> images = [
        ...     {"id": number, "file_name": f"{number}.png", "width": 100, "height": 100,
        ...      "patient_id": f"P{number}", "exam_id": f"E{number}", "supervision": supervision}
        ...     for number, supervision in ((1, "boxes"), (2, "normal"))
        ... ]
        >>> truth = {
        ...     "images": images,
        ...     "annotations": [{"id": 1, "area": 900, "iscrowd": 0, **box}],
        ...     "categories": [{"id": 1, "name": "malignant"}],
        ... }
        >>> _ = (folder / "test.json").write_text(json.dumps(truth))
        >>> _ = (folder / "detections.json").write_text(json.dumps([{**box, "score": 0.9}]))
        >>> report = simfrcnn.evaluate(
        ...     folder / "test.json", folder / "detections.json", pictures=False,
        ...     settings=simfrcnn.EvaluationSettings(bootstrap_replicates=0),
        ... )
        >>> print(report.figures["case/auc"])
        1.000 (no interval)
    """
    shown = GalleryOptions(no_images=not pictures, gallery=gallery, source_pictures=source_pictures)
    output = None if output is None else Path(output)
    points_file = None if choose_operating_points is None else Path(choose_operating_points)
    _require_places(output, points_file)
    annotated = annotated_set(annotations)
    found = detections_of(detections, annotated)
    chosen = points_of(operating_points)
    if pictures:  # last, since faults of the small files are cheaper to find
        require_images(annotated)
    settings = settings or settings_for(chosen)
    applied, notes = operating.Applied(), list[str]()
    if chosen is not None:
        applied = operating.apply_to(chosen, found, settings, annotated.sha256)
        notes = [*applied.notes, *notes_on_patients(chosen, annotated)]
    report, views = evaluator.evaluate_with_views(
        annotated.records,
        found,
        settings,
        categories=annotated.categories,
        operating_points=applied.points,
        recalibrations=applied.recalibrations,
        notes=notes,
        provenance={**origin_of(annotated, found), **applied.provenance},
    )
    if output is not None:
        write_report(
            output,
            report,
            records=annotated.records,
            detections=found,
            views=views,
            load_maps=maps_beside(found),
            **shown.of_report,
        )
    if points_file is not None:
        points = operating.choose_operating_points({annotated.path.name: report})
        operating.write_operating_points(points_file, points)
    return report


def settings_for(chosen: ChosenPoints | None) -> EvaluationSettings:
    """The default rules, with the targets that operating points were chosen for."""
    if chosen is None:
        return EvaluationSettings()
    names = ("operating_sensitivity", "operating_specificity")
    return EvaluationSettings(**{name: chosen.settings[name] for name in names})


def points_of(points: str | Path | ChosenPoints | None) -> ChosenPoints | None:
    """Operating points as they are, or from their file."""
    if isinstance(points, str | Path):
        return operating.read_operating_points(Path(points))
    return points


def _require_places(output: Path | None, points: Path | None) -> None:
    """Refuse what cannot be written before anything is judged."""
    if output is not None and output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file; --output takes a folder for the report")
    if points is not None and points.is_dir():
        raise OutputError(
            f"{points} is a folder; --choose-operating-points takes the file to write"
        )
    if output is not None:
        require_writable(output)
    if points is not None:
        require_writable_file(points)
