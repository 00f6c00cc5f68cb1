"""What is trained on what, in which order, with which optimiser? Pure functions of the config.

Both engines call these, so that a number never depends on which of them runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from simfrcnn import config
from simfrcnn.data import catalog
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.data.selection import TrainingLists, image_lists, training_lists
from simfrcnn.data.splits import assert_no_patient_leak, warn_of_patients_alike
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.image_labels import require_drawn_truth
from simfrcnn.labels import is_benign, trained_findings
from simfrcnn.registry import look_up
from simfrcnn.sampling.pairs import ItemNumbers
from simfrcnn.sampling.replay import NormalReplay
from simfrcnn.structures import Sample
from simfrcnn.training.items import TrainingItems, by_place
from simfrcnn.training.labelled import LabelWeights
from simfrcnn.training.loading import require_native_pixels
from simfrcnn.training.workers import PREFETCHED_PER_WORKER, BatchLoader

LOW_STAGES = ("stem", "res2", "res3")
"""conv1 to conv3: what ``SOLVER.LOW_STAGES_LR_FACTOR`` slows down."""


def build_optimizer(cfg: Any, model: nn.Module) -> Optimizer:
    """Adam (the source's) or SGD over the parameters that are trained, in the model's order.

    Args:
        cfg: The config.
        model: Of either engine, or in its data-parallel shell. With
            ``SOLVER.LOW_STAGES_LR_FACTOR`` other than 1 it must have ``stages``: name -> module.

    Raises:
        ConfigError: No optimiser is called ``SOLVER.OPTIMIZER``, nothing is left to train, or
            there are no low stages where the learning rate of those is asked for.
    """
    build = look_up(OPTIMIZERS, cfg.SOLVER.OPTIMIZER, "SOLVER.OPTIMIZER")
    is_on_cpu = all(p.device.type == "cpu" for p in _trained(model))
    return build(_parameter_groups(cfg, model), cfg.SOLVER, is_on_cpu)


def _adam(parameters: list[Any], solver: Any, is_on_cpu: bool) -> Optimizer:
    # Fused: a CPU reads and writes each tensor once, and takes a fifth of the time.
    return torch.optim.Adam(
        parameters,
        lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        fused=True if is_on_cpu else None,
    )


def _sgd(parameters: list[Any], solver: Any, is_on_cpu: bool) -> Optimizer:
    return torch.optim.SGD(
        parameters,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        weight_decay=solver.WEIGHT_DECAY,
        fused=True if is_on_cpu else None,
    )


OPTIMIZERS: Mapping[str, Callable[[list[Any], Any, bool], Optimizer]] = {"adam": _adam, "sgd": _sgd}
"""By ``SOLVER.OPTIMIZER``, from parameter groups and ``SOLVER``: a new one is a function and a line
here."""


def _parameter_groups(cfg: Any, model: nn.Module) -> list[Any]:
    """One group; where the low stages or the second look have another learning rate, more of them.

    The first is that of all others.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigError("every parameter is frozen; lower MODEL.BACKBONE.FREEZE_AT")
    bare: Any = model.module if isinstance(model, DistributedDataParallel) else model
    groups = [
        (factor, own)
        for factor, own in (_low_stages(cfg, bare), _second_look(cfg, bare))
        if factor != 1
    ]
    if not groups:
        return trained
    taken = {id(parameter) for _, own in groups for parameter in own}
    others = [parameter for parameter in trained if id(parameter) not in taken]
    return [
        {"params": others},
        *({"params": own, "lr": cfg.SOLVER.BASE_LR * factor} for factor, own in groups),
    ]


def _low_stages(cfg: Any, model: Any) -> tuple[float, list[nn.Parameter]]:
    factor = cfg.SOLVER.LOW_STAGES_LR_FACTOR
    stages: Mapping[str, nn.Module] = getattr(model, "stages", {})  # others' models have none
    low = [p for name in LOW_STAGES if name in stages for p in _trained(stages[name])]
    if factor != 1 and not low:
        raise ConfigError(
            f"SOLVER.LOW_STAGES_LR_FACTOR is {factor}, but nothing is trained in {LOW_STAGES}: "
            "lower MODEL.BACKBONE.FREEZE_AT, or leave the factor at 1"
        )
    return factor, low


def _second_look(cfg: Any, model: Any) -> tuple[float, list[nn.Parameter]]:
    second_look = getattr(model, "second_look", None)
    if second_look is None:
        return 1.0, []
    return cfg.MODEL.SECOND_LOOK.LR_FACTOR, _trained(second_look)


def _trained(part: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in part.parameters() if parameter.requires_grad]


def build_lr_scheduler(cfg: Any, optimizer: Optimizer) -> LambdaLR:
    """The schedule of ``SOLVER``, stepped per step: see :class:`LearningRateFactor`.

    Raises:
        ConfigError: Detectron2's ``SOLVER.LR_SCHEDULER_NAME`` asks for another.
    """
    name = cfg.SOLVER.get("LR_SCHEDULER_NAME", next(iter(SCHEDULES)))
    return LambdaLR(optimizer, look_up(SCHEDULES, name, "SOLVER.LR_SCHEDULER_NAME")(cfg))


@dataclass(frozen=True)
class LearningRateFactor:
    """The factor on the base learning rate at a step, counted from 0.

    ``GAMMA`` to the power of the ``STEPS`` passed, after a linear warm-up.
    """

    milestones: tuple[int, ...]
    gamma: float
    warmup_steps: int
    warmup_factor: float

    @classmethod
    def of(cls, cfg: Any) -> LearningRateFactor:
        """Read the schedule from ``SOLVER``."""
        solver = cfg.SOLVER
        return cls(
            tuple(solver.STEPS), solver.GAMMA, solver.WARMUP_ITERS, float(solver.WARMUP_FACTOR)
        )

    def __call__(self, step: int) -> float:
        decay = self.gamma ** sum(step >= milestone for milestone in self.milestones)
        if step >= self.warmup_steps:
            return float(decay)
        done = step / self.warmup_steps
        return float(decay * (self.warmup_factor * (1 - done) + done))


SCHEDULES: Mapping[str, Callable[[Any], Callable[[int], float]]] = {
    "WarmupMultiStepLR": LearningRateFactor.of
}
"""By Detectron2's ``SOLVER.LR_SCHEDULER_NAME``, which the portable configs leave at the first."""


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed Python, NumPy and torch for one training step.

    What a step draws depends on (seed, step, rank) alone, so that a resumed run draws what the
    uninterrupted one would have drawn, without any saved generator state.
    """
    drawn = int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])
    random.seed(drawn)
    np.random.seed(drawn % 2**32)  # noqa: NPY002 (detection libraries draw from it)
    torch.manual_seed(drawn % 2**63)


def load_sets(cfg: Any, names: Iterable[str]) -> list[AnnotatedSet]:
    """Read the annotation files of the named data sets (``DATASETS.FILES`` and the catalogue)."""
    files = catalog.parse_files(tuple(cfg.DATASETS.FILES))
    return [catalog.load(name, files) for name in names]


def training_sets(cfg: Any) -> list[AnnotatedSet]:
    """The sets of ``DATASETS.TRAIN``.

    Raises:
        ConfigError: There are none, or none has a category for one of ``DATASETS.CLASSES``.
        DataError: A class has no box.
    """
    if not cfg.DATASETS.TRAIN:
        raise ConfigError("DATASETS.TRAIN is empty; name at least one data set to train on")
    sets = load_sets(cfg, cfg.DATASETS.TRAIN)
    known = {name for annotated in sets for name in annotated.categories.values()}
    missing = [name for name in cfg.DATASETS.CLASSES if name not in known]
    if missing:
        raise ConfigError(
            f"DATASETS.CLASSES asks for {missing}, but {[str(s.path) for s in sets]} have the "
            f"categories {sorted(known)} only"
        )
    if not config.is_classifier(cfg):  # of which `image_lists` asks more
        _require_examples(sets, cfg)
    if cfg.MODEL.MASK_ON:
        _require_outlines(sets, cfg)
    return sets


def _require_outlines(sets: Sequence[AnnotatedSet], cfg: Any) -> None:
    """Refuse to train a mask head on nothing."""
    classes = tuple(cfg.DATASETS.CLASSES)
    records = [record for annotated in sets for record in annotated.records]
    if not any(finding.outline for r in records for finding in trained_findings(r, classes)):
        raise DataError(
            f"MODEL.MASK_ON is True, but no box of {', '.join(classes)} in "
            f"{[str(annotated.path) for annotated in sets]} has an outline ('segmentation'): "
            "prepare the data set again with outlines (prepare-data; of phantoms, the sets "
            "train_outlines, val_outlines, test_outlines), or set MODEL.MASK_ON to False"
        )


def _require_examples(sets: Sequence[AnnotatedSet], cfg: Any) -> None:
    """Refuse a class without a box; ``training_lists`` reports that of the target classes."""
    seen = {f.category for annotated in sets for r in annotated.records for f in r.findings}
    targets = tuple(cfg.DATASETS.TARGET_CLASSES)
    for name in cfg.DATASETS.CLASSES:
        if name in seen or name in targets:
            continue
        advice = "leave it out of DATASETS.CLASSES, or give data that have it"
        origins = [annotated.info.get("pseudo") for annotated in sets]
        if any(isinstance(origin, dict) and origin.get("class") == name for origin in origins):
            advice = (
                "the pseudo-labelling found none (see the summary beside the file): train stage 1 "
                "for longer, or label again with a lower PSEUDO.SCORE_THRESHOLD (--score-threshold)"
            )
        raise DataError(
            f"{', '.join(cfg.DATASETS.TRAIN)}: no image has a box of the class {name!r} in "
            f"{[str(annotated.path) for annotated in sets]}, so it cannot be learnt; {advice}"
        )


def check_native_pixels(cfg: Any) -> None:
    """Refuse data sets without the pixels that the second look cuts from, before anything is made.

    Raises:
        ConfigError: Names the first picture, and the remedy.
    """
    if config.needs_native_pixels(cfg):
        names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL, *cfg.DATASETS.TEST)
        for annotated in load_sets(cfg, names):
            require_native_pixels(annotated.records)


def check_patients_stay_apart(cfg: Any) -> None:
    """Refuse a config whose training, validation and test sets share a patient.

    A warning says where one may be spelt in two ways.

    Raises:
        DataError: Names the sets and two images of a patient.
    """
    parts = {"TRAIN": cfg.DATASETS.TRAIN, "VAL": cfg.DATASETS.VAL, "TEST": cfg.DATASETS.TEST}
    sets = {
        f"DATASETS.{part} {', '.join(names)}": [
            record for annotated in load_sets(cfg, names) for record in annotated.records
        ]
        for part, names in parts.items()
    }
    assert_no_patient_leak(sets)
    warn_of_patients_alike(sets)


def check_truth(cfg: Any) -> None:
    """Refuse validation and test sets whose target boxes a model has proposed.

    Raises:
        DataError: Names the file and the box.
    """
    _sets_of_drawn_truth(cfg, (*cfg.DATASETS.VAL, *cfg.DATASETS.TEST))


def validation_sets(cfg: Any) -> list[AnnotatedSet]:
    """The sets of ``DATASETS.VAL``, which choose the best checkpoint.

    Raises:
        DataError: A model has proposed a target box of one; names the file and the box.
    """
    return _sets_of_drawn_truth(cfg, cfg.DATASETS.VAL)


def _sets_of_drawn_truth(cfg: Any, names: Iterable[str]) -> list[AnnotatedSet]:
    sets, targets = load_sets(cfg, names), tuple(cfg.DATASETS.TARGET_CLASSES)
    for annotated in sets:
        require_drawn_truth(str(annotated.path), annotated.records, targets)
    return sets


def training_items(cfg: Any) -> TrainingItems:
    """The endless items of the config's training sets."""
    data = config.data_settings(cfg)
    records = [record for annotated in training_sets(cfg) for record in annotated.records]
    whole_images, names = config.is_classifier(cfg), tuple(cfg.DATASETS.TRAIN)
    n_unlabelled = config.teacher_settings(cfg).unlabelled_per_item
    lists = (
        image_lists(records, data, names=names)
        if whole_images
        else training_lists(records, data, names=names, unlabelled_per_item=n_unlabelled)
    )
    return TrainingItems(
        lists,
        seed=cfg.SEED,
        data=data,
        weights=LabelWeights.of(cfg, lists.labelled) if lists.labelled else None,
        input_settings=config.input_settings(cfg),
        augmentation=config.augmentation_settings(cfg),
        replay=_replay(cfg, lists),
        native=config.needs_native_pixels(cfg),
        benign_weight=_benign_weight(cfg, lists),
        whole_images=whole_images,
        unlabelled_per_item=n_unlabelled,
    )


def _benign_weight(cfg: Any, lists: TrainingLists) -> float:
    """The weight of benign normal images.

    Raises:
        ConfigError: It would change nothing.
    """
    weight, reason = config.grading_settings(cfg).benign_weight, None
    classes = config.data_settings(cfg).classes
    if cfg.MODEL.SIMFRCNN.RPN_NORMALS != "top_likelihood" and not cfg.MODEL.SECOND_LOOK.ENABLED:
        reason = (
            "MODEL.SIMFRCNN.RPN_NORMALS is not top_likelihood and MODEL.SECOND_LOOK.ENABLED is "
            "False"
        )
    elif not any(is_benign(r) and not r.findings_of(classes) for r in lists.normals):
        reason = (
            "no normal image of the training sets is known to show anything benign (and has no box "
            "of DATASETS.CLASSES: boxed images train by their boxes)"
        )
    if weight != 1 and reason is not None:
        raise ConfigError(
            f"MODEL.SIMFRCNN.BENIGN_WEIGHT is {weight}, but {reason}: it changes nothing; legal "
            "here is 1"
        )
    return weight


def _replay(cfg: Any, lists: TrainingLists) -> NormalReplay | None:
    """The replay of ``DATASETS.REPLAY``; None if it is off."""
    settings = config.replay_settings(cfg)
    if not settings.fraction:
        return None
    n_ahead = cfg.DATALOADER.NUM_WORKERS * PREFETCHED_PER_WORKER
    if n_ahead > settings.period:
        raise ConfigError(
            f"DATASETS.REPLAY.PERIOD is {settings.period}, but with DATALOADER.NUM_WORKERS "
            f"{cfg.DATALOADER.NUM_WORKERS} loading processes work {n_ahead} steps ahead, beyond "
            f"the rankings that are known by then; legal is {n_ahead} or more, or fewer processes"
        )
    return NormalReplay(
        settings,
        normals=lists.normals,
        classes=tuple(cfg.DATASETS.CLASSES),
        seed=cfg.SEED,
        items_per_step=config.items_per_step(cfg),
    )


def training_loader(
    cfg: Any,
    *,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    convert: Callable[[list[Sample]], Any] | None = None,
    items: TrainingItems | None = None,
) -> BatchLoader:
    """One batch per training step from ``start_step`` to ``SOLVER.MAX_ITER``, on this rank.

    Args:
        cfg: The config.
        start_step: First step, for resuming.
        rank: This process, 0-based.
        world_size: Number of processes; ``SOLVER.IMS_PER_BATCH`` is shared among them.
        convert: What the engine makes of a batch (list of samples: positives, normals, labelled).
        items: The items, if they have been built already.

    Raises:
        ConfigError: The processes cannot share a step, or each would have one pair alone where
            pairs are compared with each other.
    """
    n_items, of_item = config.items_per_step(cfg), config.images_per_item(cfg)
    if cfg.MODEL.SIMFRCNN.SIMILARITY.SAME_KIND_PAIRS and n_items < 2 * world_size:
        raise ConfigError(
            "MODEL.SIMFRCNN.SIMILARITY.SAME_KIND_PAIRS is True, but with SOLVER.IMS_PER_BATCH "
            f"{cfg.SOLVER.IMS_PER_BATCH} each of {world_size} processes has one pair a step, and "
            f"no second image of a kind; legal is {2 * of_item * world_size} or more"
        )
    return BatchLoader(
        items if items is not None else training_items(cfg),
        ItemNumbers(
            start_step=start_step,
            end_step=cfg.SOLVER.MAX_ITER,
            items_per_step=n_items,
            images_per_item=of_item,
            rank=rank,
            world_size=world_size,
        ),
        n_workers=cfg.DATALOADER.NUM_WORKERS,
        collate=_Collate(convert),
    )


@dataclass(frozen=True)
class _Collate:
    """A picklable collate function, for loaders that spawn their workers."""

    convert: Callable[[list[Sample]], Any] | None

    def __call__(self, items: list[list[Sample]]) -> Any:
        batch = by_place(items)
        return self.convert(batch) if self.convert else batch
