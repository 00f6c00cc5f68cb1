"""How do samples reach Detectron2, and data sets its catalogues?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.samplers import InferenceSampler
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm
from torch.utils.data import BatchSampler

from simfrcnn import config
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.engines.detectron2.mask_head import outline_fields
from simfrcnn.errors import ConfigError
from simfrcnn.outlines import as_segmentation
from simfrcnn.records import Finding, ImageRecord
from simfrcnn.structures import ImageTargets, Sample
from simfrcnn.training import recipe
from simfrcnn.training.loading import RecordDataset
from simfrcnn.training.workers import BatchLoader

_OF_LABEL = ("image_label", "label_weight", "bag")
_UNNAMED = "an input without file_name"


def to_dicts(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """A batch as Detectron2's models take it."""
    return [to_dict(sample) for sample in samples]


def to_dict(sample: Sample) -> dict[str, Any]:
    """One image as Detectron2's models take it.

    ``height`` and ``width`` are those of the stored image; ``frame`` maps detections there;
    ``sample`` is what this was made of.
    """
    record, frame, targets = sample.record, sample.frame, sample.targets
    entry: dict[str, Any] = {
        "image": sample.image,
        "image_id": record.image_id,
        "file_name": str(record.path),
        "height": frame.original_height,
        "width": frame.original_width,
        "frame": frame,
        "sample": sample,
    }
    if targets is not None:
        height, width = sample.image.shape[-2:]
        entry["is_normal"] = targets.is_normal
        if targets.normal_weight != 1:
            entry["normal_weight"] = targets.normal_weight
        entry["instances"] = Instances(
            (height, width),
            gt_boxes=Boxes(targets.boxes),
            gt_classes=targets.labels - 1,
            **outline_fields(targets),
        )
    if targets is not None and targets.image_label is not None:
        entry |= {name: getattr(targets, name) for name in _OF_LABEL}
    if sample.is_unknown:
        entry["is_unknown"] = True
    return entry


def targets_of(entry: Mapping[str, Any]) -> ImageTargets:
    """What a training input teaches: of one that :func:`to_dict` made, or of another mapper.

    It gives ``instances`` and ``is_normal``, and for an image with a label and no box, whose
    instances are empty, ``image_label`` (1..K, in the order of ``DATASETS.CLASSES``),
    ``label_weight`` (see :class:`~simfrcnn.training.labelled.LabelWeights`) and, if it shares the
    label with others of the batch, ``bag``. A normal image may have a ``normal_weight``. One of
    which nothing is known has no instances and ``is_unknown`` True.

    Raises:
        ValueError: A key is missing, or they contradict each other; names the image.
    """
    _require_normal(entry)
    image, label = entry.get("file_name", _UNNAMED), entry.get("image_label")
    if label is not None and "label_weight" not in entry:
        raise ValueError(
            f"{image}: 'image_label' needs a 'label_weight': LabelWeights.weight gives that of an "
            "item, 1.0 is a constant one"
        )
    instances = entry["instances"]
    try:
        return ImageTargets(
            instances.gt_boxes.tensor,
            instances.gt_classes + 1,
            bool(entry["is_normal"]),
            None if label is None else int(label),
            float(entry.get("label_weight", 0.0)),
            entry.get("bag"),
            normal_weight=float(entry.get("normal_weight", 1.0)),
            is_unknown=bool(entry.get("is_unknown", False)),
        )
    except ValueError as error:
        raise ValueError(f"{image}: {error}") from error


def _require_normal(entry: Mapping[str, Any]) -> None:
    image = entry.get("file_name", _UNNAMED)
    if "is_normal" not in entry:
        raise ValueError(
            f"{image}: 'is_normal' is missing; SimFasterRCNN trains on build_train_loader's inputs"
        )
    if entry["is_normal"] and len(entry["instances"]):
        raise ValueError(f"{image}: a normal image carries training boxes; is_normal must be False")


def build_train_loader(cfg: Any) -> BatchLoader:
    """The recipe's batches of pairs for this process, as Detectron2's models take them.

    Raises:
        ConfigError: A value or combination that the recipe cannot honour, such as the library's
            default ``SEED``, -1; or one that needs simfrcnn's own trainer.
    """
    config.check_config(cfg)
    if cfg.DATASETS.REPLAY.FRACTION:
        raise ConfigError(
            f"DATASETS.REPLAY.FRACTION is {cfg.DATASETS.REPLAY.FRACTION}, but this loader alone "
            "does not learn how hard the model fires: train with "
            "simfrcnn.engines.detectron2.Trainer, or set the fraction to 0"
        )
    if cfg.MODEL.SIMFRCNN.LABELS.TEACHER.ENABLED:
        raise ConfigError(
            "MODEL.SIMFRCNN.LABELS.TEACHER.ENABLED is True, but this loader alone does not let the "
            "teacher follow the model: train with simfrcnn.engines.detectron2.Trainer, or set it "
            "to False"
        )
    return recipe.training_loader(
        cfg, convert=to_dicts, rank=comm.get_rank(), world_size=comm.get_world_size()
    )


def build_test_loader(cfg: Any, dataset_name: str) -> BatchLoader:
    """All images of a data set, shared among the processes, one a batch."""
    (annotated,) = recipe.load_sets(cfg, [dataset_name])
    return BatchLoader(
        RecordDataset(
            annotated.records,
            config.input_settings(cfg),
            native=config.needs_native_pixels(cfg),
        ),
        BatchSampler(InferenceSampler(len(annotated.records)), batch_size=1, drop_last=False),
        n_workers=cfg.DATALOADER.NUM_WORKERS,
        collate=to_dicts,
    )


def register_datasets(cfg: Any) -> None:
    """Enter the data sets of TRAIN, VAL and TEST into Detectron2's catalogues.

    Our own loaders read records and do not need this; Detectron2's tools (its visualiser, its COCO
    evaluator) do. A name that is registered already is registered again.

    Raises:
        DataError: A data set is not there or malformed.
    """
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL, *cfg.DATASETS.TEST)
    for name in dict.fromkeys(names):
        (annotated,) = recipe.load_sets(cfg, [name])
        _register(name, annotated, tuple(cfg.DATASETS.CLASSES))


def _register(name: str, annotated: AnnotatedSet, classes: tuple[str, ...]) -> None:
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, _standard_dicts(annotated, classes))
    MetadataCatalog.get(name).set(
        thing_classes=list(classes),
        thing_dataset_id_to_contiguous_id={
            number: classes.index(category)
            for number, category in annotated.categories.items()
            if category in classes
        },
        json_file=str(annotated.path),
        evaluator_type="simfrcnn",
    )


def _standard_dicts(
    annotated: AnnotatedSet, classes: tuple[str, ...]
) -> Callable[[], list[dict[str, Any]]]:
    return lambda: [_standard_dict(record, classes) for record in annotated.records]


def _standard_dict(record: ImageRecord, classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "file_name": str(record.path),
        "image_id": record.image_id,
        "height": record.height,
        "width": record.width,
        "patient_id": record.patient_id,
        "exam_id": record.exam_id,
        "laterality": record.laterality.value if record.laterality else None,
        "view_position": record.view_position.value if record.view_position else None,
        "pixel_spacing_mm": record.pixel_spacing_mm,
        "pathology": record.pathology.value if record.pathology else None,
        "supervision": record.supervision.value,
        "split": record.split,
        "annotations": [
            _standard_annotation(finding, classes) for finding in record.findings_of(classes)
        ],
    }


def _standard_annotation(finding: Finding, classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "bbox": list(finding.box),
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": classes.index(finding.category),
        "iscrowd": int(finding.iscrowd),
        "pathology": finding.pathology.value if finding.pathology else None,
        "lesion_id": finding.lesion_id,
        "source": finding.source.value,
        "score": finding.score,
        **({"segmentation": as_segmentation(finding.outline)} if finding.outline else {}),
    }
