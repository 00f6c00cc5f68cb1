"""How does an averaged copy of the model box images without boxes while the model trains?

The copy, the *teacher*, looks at each labelled image and at its mirror image. Where it finds the
same there, sure enough and of the class that the label states, the image also trains as a boxed
one, with a small weight. So does an image of which nothing is known, where a target is found. The
teacher begins as the model of a certain step, stays so for a while, and then follows the model
slowly: a model that learnt from its own boxes of the moment would confirm whatever it believes.

Shapes: D detections of an image.

Reference:
    Tarvainen 2017 (mean teacher); Liu 2021 (unbiased teacher) for detectors. Both without labels.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from simfrcnn import config
from simfrcnn.engines.common.boxes import iou
from simfrcnn.engines.common.flips import Detect, flipped
from simfrcnn.engines.common.layout import lay_out_for_detection
from simfrcnn.errors import DataError
from simfrcnn.label_settings import TeacherSettings
from simfrcnn.labels import trained_findings
from simfrcnn.records import FindingSource
from simfrcnn.settings import DataSettings
from simfrcnn.structures import ImageTargets, Sample
from simfrcnn.wording import counted

LossesOf = Callable[[Sequence[Sample]], Mapping[str, Tensor]]

_LOSSES_OF_BOXES = ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg")


@dataclass(frozen=True)
class Boxed:
    """An image with the box that the teacher gives it.

    Attributes:
        sample: The image.
        box: (4,) in input pixels.
        label: In 1..K.
        score: The lower one of the image's and its mirror image's.
    """

    sample: Sample
    box: Tensor
    label: int
    score: float

    @property
    def rank(self) -> tuple[bool, float]:
        """The higher, the surer: what a label states comes before what nobody has said."""
        return not self.sample.is_unknown, self.score

    def as_boxed(self) -> Sample:
        """The image as one that trains by its box."""
        labels = torch.tensor([self.label], dtype=torch.int64)
        targets = ImageTargets(self.box[None], labels, is_normal=False)
        return dataclasses.replace(self.sample, targets=targets)


class Teacher:
    """An averaged copy of a model. It is no part of the model: it has no gradients, and the model's
    state is what it is without it.
    """

    def __init__(
        self,
        settings: TeacherSettings,
        build: Callable[[], nn.Module],
        detect: Detect,
        data: DataSettings,
    ) -> None:
        """Nothing is built yet: a model that is only asked to detect has no use for a second one.

        Args:
            settings: When the teacher begins and follows, and what it may box.
            build: A model like the one that is trained, on its device.
            detect: The engine's.
            data: The K foreground classes, and which are targets.
        """
        self.settings = settings
        self.steps = -1
        """Of the model's training, when it was last seen; -1 before."""
        self.begun_at: int | None = None
        """The steps after which it began to teach, a copy of the model."""
        self.n_boxes = 0
        """That it has given; in this process, where there are several."""
        self.n_unlabelled = 0
        """Of these, on images of which nothing is known."""
        self._build = build
        self._detect = detect
        self._data = data

    @functools.cached_property
    def network(self) -> nn.Module:
        """The copy; it means nothing before it follows a model."""
        with _generators_kept(), torch.enable_grad():  # which the building of some backbones needs
            return self._build().eval().requires_grad_(False)

    @property
    def is_teaching(self) -> bool:
        """Whether it has begun; never before it follows a model."""
        return self.begun_at is not None

    def tested(self, model: nn.Module) -> nn.Module:
        """The network that is validated and given away; before it teaches, that is the model."""
        is_own = self.settings.tested == "teacher" and self.is_teaching
        return self.network if is_own else model

    @torch.no_grad()
    def follow(self, model: nn.Module, steps: int) -> None:
        """Come to where the model is after ``steps`` steps; call it before the first and after
        each.

        At the start of the training, and of the teaching, it becomes a copy of the model: after
        ``start`` steps, or at once where a resumed run has an earlier start. After ``fixed``
        further steps each weight moves towards the model's: w <- m w + (1 - m) w'. Buffers, such as
        the statistics of norm layers, are the model's.
        """
        self.steps = steps
        if steps == 0 or (self.begun_at is None and steps >= self.settings.start):
            self.copy_of(model, steps)
        elif self.begun_at is not None and steps > self.begun_at + self.settings.fixed:
            weights = zip(self.network.parameters(), model.parameters(), strict=True)
            for own, of_model in weights:
                own.lerp_(of_model, 1 - self.settings.momentum)
            for buffer, now in zip(self.network.buffers(), model.buffers(), strict=True):
                buffer.copy_(now)

    def copy_of(self, model: nn.Module, steps: int) -> None:
        """Become a copy of the model, as it is after ``steps`` steps, and begin if it is time."""
        self.steps = steps
        self.begun_at = steps if steps >= self.settings.start else None
        self.network.load_state_dict(model.state_dict())

    def loss(self, samples: Sequence[Sample], losses_of: LossesOf) -> Tensor:
        """``loss_teacher`` of a batch: the losses of boxes on images that the teacher boxes.

        The mean over the labelled images or bags and those of which nothing is known; where there
        is no box they add 0. What the generators
        give out afterwards is what they would have given out without it.

        Args:
            samples: The batch.
            losses_of: The model's losses of samples, by the keys of the contract.
        """
        boxed = self.boxed(samples)
        self.n_boxes += len(boxed)
        self.n_unlabelled += sum(each.sample.is_unknown for each in boxed)
        if not boxed:
            return torch.zeros(())
        with _generators_kept():
            losses = losses_of([each.as_boxed() for each in boxed])
        n_bags = len({bag for bag, _, _ in self._open(samples)})
        mean = torch.stack([losses[key].float() for key in _LOSSES_OF_BOXES]).sum()
        return self.settings.weight * mean * (len(boxed) / n_bags)

    @torch.no_grad()
    def boxed(self, samples: Sequence[Sample]) -> list[Boxed]:
        """The images of a batch that get a box, the surest first, labelled ones before others.

        One image of a bag gets one, and not more images do than there are drawn boxes in the batch.
        Normal images, and those with drawn boxes, get none: what they show is known.
        """
        if not self.is_teaching:
            return []
        of_bags: dict[object, Boxed] = {}
        for bag, sample, label in self._open(samples):
            found = self._found(sample, label) if self._may_box(sample, label) else None
            if found is not None and (bag not in of_bags or found.score > of_bags[bag].score):
                of_bags[bag] = found
        best = sorted(of_bags.values(), key=lambda boxed: boxed.rank, reverse=True)
        return best[: self._n_drawn(samples)]

    def figures(self) -> dict[str, float]:
        """For the log of a run."""
        figures = {"teacher/boxes": float(self.n_boxes)}
        if self.settings.unlabelled_per_item:
            figures["teacher/unlabelled_boxes"] = float(self.n_unlabelled)
        return figures

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold beside the model."""
        return {
            "steps": self.steps,
            "begun_at": self.begun_at,
            "n_boxes": self.n_boxes,
            "n_unlabelled": self.n_unlabelled,
            "weights": self.network.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.network.load_state_dict(state["weights"])
        self.steps, self.n_boxes = int(state["steps"]), int(state["n_boxes"])
        self.n_unlabelled = int(state.get("n_unlabelled", 0))  # older files have none
        self.begun_at = state["begun_at"]

    def _open(self, samples: Sequence[Sample]) -> Iterator[tuple[Hashable, Sample, int]]:
        """The images of a batch that may get a box: what tells the bag from others, the image, and
        the class of the box; of an image of which nothing is known that is the one target.
        """
        (target, *_) = self._data.target_classes
        for place, sample in enumerate(samples):
            targets = sample.targets
            if targets is None:
                continue
            if targets.is_unknown:
                yield targets.bag_key(place), sample, self._data.classes.index(target) + 1
            elif targets.image_label is not None:
                yield targets.bag_key(place), sample, targets.image_label

    def _may_box(self, sample: Sample, label: int) -> bool:
        """Whether the image's own labels allow a finding of the class, and one box says all about
        its targets: the others are known to be absent.
        """
        name, stated = self._data.classes[label - 1], sample.record.labels
        others = [target for target in self._data.target_classes if target != name]
        return stated.get(name, True) and all(stated.get(other) is False for other in others)

    def _found(self, sample: Sample, label: int) -> Boxed | None:
        """What the teacher finds of a class both in the image and in its mirror image."""
        height, width = sample.image.shape[-2:]
        turned = flipped(sample, horizontally=True, vertically=False)
        device = next(self.network.parameters()).device
        with torch.autocast(device.type, enabled=False):
            found = [self._detect(self.network, [each])[0] for each in (sample, turned)]
        agreed = best_agreeing(
            *((each.boxes[each.labels == label], each.scores[each.labels == label])
              for each in found),
            min_score=self.settings.score,
            min_iou=self.settings.agreement,
        )  # fmt: skip
        if agreed is None:
            return None
        box, score = agreed
        limits = torch.tensor([width, height] * 2, dtype=torch.float64)
        inside = torch.minimum(sample.frame.to_input(box[None].double()).clamp(min=0), limits)[0]
        has_area = bool((inside[2:] > inside[:2]).all())
        return Boxed(sample, inside.float(), label, score) if has_area else None

    def _n_drawn(self, samples: Sequence[Sample]) -> int:
        """The boxes of trained classes in a batch that no model has proposed."""
        return sum(
            finding.source is not FindingSource.PSEUDO
            for sample in samples
            if sample.targets is not None
            and sample.targets.image_label is None
            and not sample.is_unknown
            for finding in trained_findings(sample.record, self._data.classes)
        )


def teacher_of(cfg: Any, build: Callable[[], nn.Module], detect: Detect) -> Teacher | None:
    """The teacher of a new model; None where ``MODEL.SIMFRCNN.LABELS.TEACHER`` is off.

    Args:
        cfg: The model's config.
        build: Another model of it, without a teacher.
        detect: The engine's.
    """
    settings = config.teacher_settings(cfg)
    if not settings.enabled:
        return None
    copy = functools.partial(_laid_out, cfg, build)
    return Teacher(settings, copy, detect, config.data_settings(cfg))


def _laid_out(cfg: Any, build: Callable[[], nn.Module]) -> nn.Module:
    return lay_out_for_detection(cfg, build())


def best_agreeing(
    one: tuple[Tensor, Tensor],
    other: tuple[Tensor, Tensor],
    *,
    min_score: float,
    min_iou: float,
) -> tuple[Tensor, float] | None:
    """The surest box on which two lists of detections agree, whichever comes first.

    Args:
        one: Boxes (D, 4) and scores (D,).
        other: Likewise, in the same pixels.
        min_score: Of either box.
        min_iou: Of the two.

    Returns:
        The mean of the two boxes (4,) and the lower score; of equal scores the pair of the greater
        IoU counts. None where they do not agree.
    """
    scores = torch.minimum(one[1][:, None], other[1][None])
    overlaps = iou(one[0], other[0])
    agree = (scores >= min_score) & (overlaps >= min_iou)
    if not bool(agree.any()):
        return None
    highest = scores[agree].max()
    ranked = torch.where(agree & (scores == highest), overlaps, -1.0)
    first, second = divmod(int(ranked.argmax()), ranked.shape[1])
    return (one[0][first] + other[0][second]) / 2, float(highest)


def require_use(n_unknown: int, teacher: Teacher | None) -> None:
    """Refuse images of which nothing is known where nobody would box them.

    Raises:
        DataError: Says what to do.
    """
    if n_unknown and teacher is None:
        raise DataError(
            f"of {counted(n_unknown, '[image|images]')} of the batch nothing is known "
            "('is_unknown'), and there is no teacher to box them: leave them out, or set "
            "MODEL.SIMFRCNN.LABELS.TEACHER.ENABLED and .UNLABELLED_PER_ITEM"
        )


def _generators_kept() -> Any:
    """A context after which the generators of this process and its GPUs are as before."""
    is_on = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = [torch.cuda.current_device()] if is_on else []
    return torch.random.fork_rng(devices=devices)
