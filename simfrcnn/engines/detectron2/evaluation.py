"""How does Detectron2's evaluation loop judge by case, in our trainer and in anybody else's?"""

from __future__ import annotations

import itertools
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from simfrcnn import artifacts
from simfrcnn.artifacts import ImageDetections
from simfrcnn.data import catalog
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.engines.common.validation import (
    DETECTIONS,
    category_ids,
    image_detections,
    quick_settings,
)
from simfrcnn.engines.detectron2.model import NAME, to_detections
from simfrcnn.errors import ArtifactError, DataError
from simfrcnn.evaluation.evaluator import evaluate
from simfrcnn.evaluation.results import Report
from simfrcnn.files import write_json
from simfrcnn.settings import EvaluationSettings

NO_INTERVALS = EvaluationSettings(bootstrap_replicates=0)
"""The default rules, without the resampling: cheap enough for every validation of a training."""
_LOGGED = (
    *("case/", "exam/", "patient/", "breast/", "image/", "finding/", "froc/centre/all/"),
    "mask/",
)

logger = logging.getLogger(__name__)


class SimfrcnnEvaluator(DatasetEvaluator):
    """Our evaluation in any Detectron2 project whose COCO files carry our keys.

    It takes the place of ``COCOEvaluator``, or stands beside it in ``DatasetEvaluators``: it
    gathers the detections of all processes, saves them, and judges them by case, breast, image and
    finding. The model may be any that gives ``Instances`` with boxes, scores and classes. Each
    image of the annotation file needs ``patient_id``, ``exam_id`` and ``supervision``.

    A hook that keeps the best checkpoint finds ``case/auc`` among what ``EvalHook`` stores. A
    figure that is undefined, such as an AUC without a positive case, is not stored.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        settings: EvaluationSettings = NO_INTERVALS,
        classes: Sequence[str] | None = None,
        annotations: str | Path | None = None,
        output_dir: str | Path | None = None,
        distributed: bool = True,
    ) -> None:
        """Read the annotations; nothing is written before :meth:`evaluate`.

        Args:
            dataset_name: A name in Detectron2's catalogue (``register_coco_instances``), else in
                ours (``<folder>/<split>`` below ``$SIMFRCNN_DATASETS``).
            settings: The rules. The default makes no intervals.
            classes: Names of the model's classes 0, 1 ...; by default ``thing_classes`` of the
                catalogue, or the categories of the annotation file by rising id, which
                ``register_coco_instances`` makes of them.
            annotations: The COCO file, where no catalogue knows the name.
            output_dir: For ``detections.json``, its sidecar and ``report.json``; None writes none.
            distributed: Gather the detections of all processes, which is right where each ran a
                part of the images; False judges what this process has run.

        Raises:
            DataError: The name is in no catalogue, or the file is malformed or lacks one of our
                keys; names the file, the image and the key.
        """
        metadata = MetadataCatalog.get(dataset_name) if dataset_name in MetadataCatalog else None
        self._annotated = _annotated_set(dataset_name, metadata, annotations)
        by_id = sorted(self._annotated.categories.items())
        named = getattr(metadata, "thing_classes", None) or [name for _, name in by_id]
        self._classes = tuple(classes or named)
        self._settings = settings
        self._name = dataset_name
        self._folder = None if output_dir is None else Path(output_dir)
        self._distributed = distributed
        self._found: list[ImageDetections] = []

    def reset(self) -> None:
        """Forget what was found so far."""
        self._found = []

    def process(self, inputs: Iterable[dict[str, Any]], outputs: Iterable[dict[str, Any]]) -> None:
        """Keep the detections of one batch.

        Args:
            inputs: Each with the ``image_id`` of the annotation file.
            outputs: Each with ``instances`` on any device, in pixels of the stored image.

        Raises:
            ArtifactError: A class that the model is not known to have, or a NaN.
        """
        for entry, output in zip(inputs, outputs, strict=True):
            found = to_detections(entry["image_id"], output["instances"])
            highest = int(found.labels.max()) if len(found.labels) else 0
            if highest > len(self._classes):
                raise ArtifactError(
                    f"image {found.image_id}: the model found class {highest - 1}, but on "
                    f"{self._name} it is known to have {len(self._classes)} classes, "
                    f"{list(self._classes)}: give the model's as classes=[...]"
                )
            self._found.append(image_detections(found, self._classes))

    def evaluate(self) -> OrderedDict[str, dict[str, float]] | None:
        """Judge the detections, and save them if there is a folder.

        Of an image that was run twice, because a sampler filled up the last batch, the detections
        of the first process count.

        Returns:
            Group (``case``, ``finding`` ...) -> figure -> value; undefined figures are left out.
            Gathered from several processes, None on the others than the first.

        Raises:
            ArtifactError: An image of the data set was not run, or one that it lacks was.
        """
        parts = comm.gather(self._found) if self._distributed else [self._found]
        if self._distributed and not comm.is_main_process():
            return None
        images: dict[int, ImageDetections] = {}
        for found in itertools.chain.from_iterable(parts):
            images.setdefault(found.image_id, found)
        facts = {"engine": NAME, "annotations_sha256": self._annotated.sha256}
        categories = category_ids(self._classes, self._annotated)
        report = evaluate(
            self._annotated.records,
            artifacts.DetectionFile(images, categories, facts),
            self._settings,
            categories=self._annotated.categories,
            provenance={"annotations": self._name, "annotations_sha256": self._annotated.sha256},
        )
        if self._folder is not None and comm.is_main_process():
            path = self._folder / DETECTIONS
            artifacts.write_detections(
                path, images.values(), categories=categories, provenance=facts
            )
            write_json(self._folder / "report.json", report.to_json())
            logger.info("detections of %s are in %s", self._name, path)
        return _grouped(report)


def build_evaluator(
    cfg: Any, dataset_name: str, output_folder: str | Path | None = None
) -> SimfrcnnEvaluator:
    """Our evaluator by the rules and classes of a config, without intervals.

    Writes to ``OUTPUT_DIR/inference/<data set>`` unless told otherwise; ``simfrcnn evaluate`` makes
    the full report from the detections there.
    """
    return SimfrcnnEvaluator(
        dataset_name,
        settings=quick_settings(cfg),
        classes=cfg.DATASETS.CLASSES,
        annotations=catalog.resolve(dataset_name, catalog.parse_files(tuple(cfg.DATASETS.FILES))),
        output_dir=output_folder or Path(cfg.OUTPUT_DIR) / "inference" / dataset_name,
    )


def _annotated_set(name: str, metadata: Any, annotations: str | Path | None) -> AnnotatedSet:
    """The file given, else that of Detectron2's catalogue, else that of ours.

    Whether the images exist is not checked: the loader reads them, and ``register_coco_instances``
    may have put them elsewhere.
    """
    registered = getattr(metadata, "json_file", None)
    if annotations is not None:
        return catalog.read(Path(annotations), check_files=False)
    if registered is not None:
        return catalog.read(Path(PathManager.get_local_path(registered)), check_files=False)
    try:
        path = catalog.resolve(name, {})
    except DataError as error:
        raise DataError(
            f"data set {name!r} has no COCO file in Detectron2's catalogue (json_file): register "
            f"it with register_coco_instances, or give annotations=FILE. In simfrcnn's: {error}"
        ) from error
    return catalog.read(path, check_files=False)


def _grouped(report: Report) -> OrderedDict[str, dict[str, float]]:
    groups: OrderedDict[str, dict[str, float]] = OrderedDict(case={})
    for name, value in report.scalars().items():
        if name.startswith(_LOGGED):
            group, _, figure = name.partition("/")
            groups.setdefault(group, {})[figure] = value
    return groups
