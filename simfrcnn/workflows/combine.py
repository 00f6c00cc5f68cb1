"""How do saved detections of several models become one list? What ``combine`` and Python call."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simfrcnn.artifacts import MASKS_FROM, DetectionFile, ImageDetections, write_detections
from simfrcnn.combining.rescoring import NO_DETECTION, fit, rescore, without_detection
from simfrcnn.combining.union import union
from simfrcnn.data import catalog
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.described import Options, described, made
from simfrcnn.errors import ArtifactError, ConfigError, DataError, OutputError
from simfrcnn.evaluation.inputs import (
    check_inputs,
    check_labels,
    check_settings,
    require_same_images,
)
from simfrcnn.files import sha256_of, write_json
from simfrcnn.settings import EvaluationSettings
from simfrcnn.wording import agreeing, counted
from simfrcnn.workflows.fitted_combination import (
    COMBINATION,
    FittedCombination,
    lines_on,
    read_combination,
)
from simfrcnn.workflows.fitting_sets import require_fittable
from simfrcnn.workflows.inputs import annotated_set, detections_of
from simfrcnn.workflows.kept_apart import shared_patients

logger = logging.getLogger("simfrcnn")

DETECTIONS = "detections.json"
_MADE_ON = "annotations_sha256"


@dataclass(frozen=True)
class CombineOptions(Options):
    """How detections are combined."""

    how: Literal["union", "rescore"] = described(
        "union",
        "union: the boxes of all models with their mean score; rescore: the boxes of the first, "
        "whose scores take the other models' image scores and --attributes into account",
    )
    iou: float = described(
        0.5,
        "with union: from this IoU on, boxes are one",
        legal="(0, 1]",
        metavar="IOU",
    )
    attributes: tuple[str, ...] = described(
        (),
        "with rescore: facts of the patient, by their names in the annotation file, such as age "
        "density",
        many="words",
        metavar="NAME",
    )
    target_classes: tuple[str, ...] = described(
        ("malignant",),
        "with rescore: classes that make an image positive, whose scores change",
        many="words",
        metavar="NAME",
    )
    combination: Path | None = described(
        None,
        "with rescore: apply this combination.json, which was fitted on a validation set, and fit "
        "nothing",
        parse=Path,
        metavar="FILE",
    )
    config_file: str | None = described(
        None,
        "a config, whose DATASETS.TRAIN and DATASETS.TEST are refused for fitting",
        metavar="FILE|NAME",
    )

    def __post_init__(self) -> None:
        """Refuse options that would mean nothing."""
        super().__post_init__()
        chosen = self.chosen()
        fitting = [f"--{n}" for n in ("attributes", "combination", "target-classes")]
        fitting = [option for option in fitting if option in chosen]
        if self.how == "union" and fitting:
            raise ConfigError(
                f"{' and '.join(fitting)} go with --how rescore; a union fits nothing"
            )
        if self.how == "rescore" and "--iou" in chosen:
            raise ConfigError(
                "--iou goes with --how union; rescoring keeps all boxes of the first model"
            )
        for option in ("attributes", "target_classes"):
            for name, n in Counter(getattr(self, option)).items():
                if n > 1:
                    raise ConfigError(
                        f"--{option.replace('_', '-')} names {name!r} {n} times; once is legal"
                    )
        named = self.attributes or "--target-classes" in chosen
        if self.combination is not None and named:
            raise ConfigError(
                "--combination says which attributes and target classes count; leave --attributes "
                "and --target-classes out"
            )


def combine(
    annotations: str | Path | AnnotatedSet,
    detections: Sequence[str | Path | DetectionFile],
    output: str | Path,
    *,
    name: str | None = None,
    **options: Any,
) -> Path:
    """Combine several models' detections of one set, and write them as one list.

    ``rescore`` fits on a validation set and writes ``combination.json`` beside the detections; with
    ``combination`` it is applied to another set and nothing is fitted. Fitting on a test set is
    refused: one whose images say ``split`` test, or that ``config_file`` has in DATASETS.TEST. So
    is a set that it has in DATASETS.TRAIN.

    Args:
        annotations: A COCO file of the images, or what :func:`simfrcnn.read_coco` gave.
        detections: What each model found in them; of ``rescore`` one is enough if there are
            attributes.
        output: A folder for ``detections.json``.
        name: Of the data set, for ``config_file``.
        **options: Those of :class:`CombineOptions`.

    Returns:
        The file of detections, for :func:`simfrcnn.evaluate` and :func:`simfrcnn.compare`.

    Raises:
        ConfigError: An option that is not legal or means nothing here.
        DataError: A test or training set to be fitted on, too few positive or normal patients, or
            an attribute that no image states.
        ArtifactError: Detections of other images, or of other models than were fitted.
        OutputError: The output cannot be written.

    Example:
        Two models that agree on one box:

        >>> import json, tempfile
        >>> from pathlib import Path
        >>> import simfrcnn
        >>> folder = Path(tempfile.mkdtemp())
        >>> truth = {
        ...     "images": [{"id": 1, "file_name": "1.png", "width": 100, "height": 100,
        ...                 "patient_id": "P1", "exam_id": "E1", "supervision": "normal"}],
        ...     "annotations": [],
        ...     "categories": [{"id": 1, "name": "malignant"}],
        ... }
        >>> _ = (folder / "test.json").write_text(json.dumps(truth))
        >>> box = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30]}
        >>> for name, score in (("a", 0.9), ("b", 0.5)):
        ...     _ = (folder / f"{name}.json").write_text(json.dumps([{**box, "score": score}]))
        >>> path = simfrcnn.combine(
        ...     folder / "test.json", [folder / "a.json", folder / "b.json"], folder / "both"
        ... )
        >>> simfrcnn.read_detections(path).images[1].scores.tolist()
        [0.7]
    """
    known = CombineOptions.__dataclass_fields__
    for option in options:
        if option not in known:
            raise ConfigError(f"combine has no option {option!r}; legal: {', '.join(known)}")
    chosen = made(CombineOptions, options)
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file; --output takes a folder")
    annotated = annotated_set(annotations)
    inputs = [detections_of(each, annotated) for each in detections]
    _require_outside(output, inputs)
    combination = None if chosen.combination is None else read_combination(chosen.combination)
    targets = chosen.target_classes if combination is None else combination.fitted.target_classes
    settings = EvaluationSettings(target_classes=targets)
    if chosen.how == "rescore":
        check_settings(settings, annotated.categories)
        check_labels(annotated.records, settings, str(annotated.path))
    _check_inputs(annotated, inputs, chosen, settings)
    for line in (*_other_annotations(annotated, inputs), *_twice(inputs)):
        logger.warning(line)
    facts: dict[str, Any] = {"how": chosen.how, "inputs": [_origin(each) for each in inputs]}
    if chosen.how == "union":
        ids = [record.image_id for record in annotated.records]
        found = [union([each.images[i] for each in inputs], chosen.iou) for i in ids]
        facts["iou"] = chosen.iou
    else:
        if combination is None:
            require_fittable(annotated, name, chosen.config_file)
            combination = _fitted(annotated, inputs, chosen)
            write_json(output / COMBINATION, combination.to_json())
        _require_same_models(combination, inputs)
        _say(combination, annotated)
        n_without = without_detection(annotated.records, inputs, targets)
        _say_without(annotated, inputs, n_without)
        facts["images_without_detection"] = n_without
        found = rescore(combination.fitted, annotated.records, inputs)
        facts["combination"] = combination.to_json()
    write_detections(
        output / DETECTIONS,
        found,
        categories=_categories(annotated, inputs),
        provenance={**_common(inputs, chosen, found), "combined": facts},
    )
    logger.info(f"combined detections: {output / DETECTIONS}")
    return output / DETECTIONS


def combine_data_set(
    dataset: str, detections: Sequence[Path], output: Path, **options: Any
) -> Path:
    """:func:`combine` for a data set by name, or ``NAME=FILE``."""
    name, files = catalog.named(dataset)
    annotated = catalog.load(name, files, check_files=False)
    return combine(annotated, detections, output, name=name, **options)


def _fitted(
    annotated: AnnotatedSet, inputs: Sequence[DetectionFile], chosen: CombineOptions
) -> FittedCombination:
    try:
        fitted = fit(
            annotated.records,
            inputs,
            attributes=chosen.attributes,
            target_classes=chosen.target_classes,
        )
    except DataError as error:
        raise DataError(f"{annotated.path}: {error}") from error
    return FittedCombination(
        fitted,
        tuple(_checkpoint(each) for each in inputs),
        annotated.path.name,
        annotated.sha256,
    )


def _say(combination: FittedCombination, annotated: AnnotatedSet) -> None:
    for line in lines_on(combination):
        logger.info(line)
    if combination.annotations_sha256 == annotated.sha256:
        logger.info(
            f"note: {annotated.path.name} is the set the combination was fitted on: figures on "
            "these detections are too good, and no test result"
        )
    elif n_shared := shared_patients(
        annotated, combination.annotations, combination.annotations_sha256
    ):
        logger.warning(
            f"{counted(n_shared, '[patient|patients]')} of {annotated.path.name} "
            f"{agreeing(n_shared, '[is|are]')} in {combination.annotations} as well, on which the "
            "combination was fitted: figures on these detections are too good, and no test result"
        )
    for fact in combination.fitted.facts:
        words = fact.unknown_words(annotated.records)
        if words:
            logger.warning(
                f"{fact.name}: {', '.join(map(repr, words))} did not occur where the combination "
                "was fitted, and count as missing"
            )


def _say_without(
    annotated: AnnotatedSet, inputs: Sequence[DetectionFile], n_without: Sequence[int]
) -> None:
    n_images = counted(len(annotated.records), "[image|images]")
    for number, (each, n) in enumerate(zip(inputs, n_without, strict=True)):
        what = f"and counts there as {NO_DETECTION}" if number else "and their score stays 0"
        if n:
            logger.info(
                f"{each.name} holds nothing of a target class for {n} of the {n_images} of "
                f"{annotated.path.name}, {what}"
            )


def _check_inputs(
    annotated: AnnotatedSet,
    inputs: Sequence[DetectionFile],
    chosen: CombineOptions,
    settings: EvaluationSettings,
) -> None:
    enough = 1 if chosen.how == "rescore" and (chosen.attributes or chosen.combination) else 2
    if len(inputs) < enough:
        raise ConfigError(
            f"given: {len(inputs)} detections; {enough} or more are legal (one is enough with "
            "--how rescore and --attributes)"
        )
    for each in inputs:
        if set(each.images) != set(inputs[0].images):
            different = sorted(set(each.images) ^ set(inputs[0].images))
            raise ArtifactError(
                f"{each.name} and {inputs[0].name} are not of the same images: {len(different)} "
                f"are in one alone, the first is image {different[0]}; run each model on the same "
                "annotation file"
            )
        if chosen.how == "rescore":
            check_inputs(annotated.records, each, settings)
        else:
            require_same_images(annotated.records, each)


def _require_same_models(combination: FittedCombination, inputs: Sequence[DetectionFile]) -> None:
    for fitted, each in zip(combination.checkpoints, inputs, strict=False):
        own = _checkpoint(each)
        if fitted is not None and own is not None and fitted != own:
            raise ArtifactError(
                f"{each.name} is of another checkpoint (sha256 {own[:12]}...) than the one the "
                f"combination was fitted with in its place ({fitted[:12]}...): a score means "
                "something else there; give the detections of the same models in the same order"
            )


def _require_outside(output: Path, inputs: Sequence[DetectionFile]) -> None:
    for each in inputs:
        if each.path is not None and each.path.resolve() == (output / DETECTIONS).resolve():
            raise OutputError(f"{each.path} would be overwritten; give another --output")


def _categories(annotated: AnnotatedSet, inputs: Sequence[DetectionFile]) -> dict[int, str]:
    """Those of the annotation file, then further classes of the models by name."""
    categories = dict(annotated.categories)
    further = {name for each in inputs for name in each.categories.values()}
    for name in sorted(further - set(categories.values())):
        categories[max(categories, default=0) + 1] = name
    return categories


def _origin(found: DetectionFile) -> dict[str, Any]:
    file = {} if found.path is None else {"file": found.path.name, "sha256": sha256_of(found.path)}
    return {**file, "provenance": dict(found.provenance)}


def _checkpoint(found: DetectionFile) -> str | None:
    sha256 = found.provenance.get("checkpoint_sha256")
    return None if sha256 is None else str(sha256)


def _other_annotations(annotated: AnnotatedSet, inputs: Sequence[DetectionFile]) -> Iterator[str]:
    """Images are joined by id, which another file may have as well."""
    for each in inputs:
        if each.provenance.get(_MADE_ON, annotated.sha256) != annotated.sha256:
            yield (
                f"{each.name} was not made on {annotated.path} (the hashes differ): images are "
                "joined by id; make sure that they are the same ones"
            )


def _twice(inputs: Sequence[DetectionFile]) -> Iterator[str]:
    """One model under two names has two votes."""
    hashes = Counter(_origin(each).get("sha256", id(each)) for each in inputs)
    if max(hashes.values()) > 1:
        yield "two of these files are the same detections, which count twice: give each file once"


def _common(
    inputs: Sequence[DetectionFile], chosen: CombineOptions, found: Sequence[ImageDetections]
) -> dict[str, Any]:
    """The annotation file that the detections were made on, if it is one, and from which score on
    the boxes have masks, if they do.
    """
    hashes = {each.provenance.get(_MADE_ON) for each in inputs}
    (one, *others) = hashes
    made_on = {} if others or one is None else {_MADE_ON: str(one)}
    is_union = chosen.how == "union"
    boxed_by = inputs if is_union else inputs[:1]
    if not all(MASKS_FROM in each.provenance for each in boxed_by):
        return made_on
    # A kept box has no higher score in a union than in its own list; rescoring may lift one.
    least = max(each.provenance[MASKS_FROM] for each in inputs) if is_union else _masked_from(found)
    return {**made_on, MASKS_FROM: least}


def _masked_from(found: Sequence[ImageDetections]) -> float:
    """From which score on every detection has a mask: just above those that have none."""
    without = [
        float(score)
        for one in found
        for score, mask in zip(one.scores, one.masks or (), strict=False)
        if mask is None
    ]
    return math.nextafter(max(without), math.inf) if without else 0.0
