"""Second looks that learn beside one detector: in what do they differ, and how are they held?

:func:`beside_one_detector` puts several of them where a model of Detectron2 has one.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from unittest import mock

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from simfrcnn import config
from simfrcnn.artifacts import ImageDetections
from simfrcnn.engines.common.second_look import build_second_look
from simfrcnn.labels import is_benign
from simfrcnn.second_look import Found, Picture, Regions, SecondLook, picture_of
from simfrcnn.second_look.choice import choose_regions, is_positive, jittered, suspected
from simfrcnn.second_look.crops import least_sides, squares_around, turned
from simfrcnn.second_look.memory import Memory
from simfrcnn.second_look.module import N_TURNS, balanced_cross_entropy
from simfrcnn.second_look.scores import Rescored, combined
from simfrcnn.structures import ImageTargets, Sample

FIRST = "second_look"
DETECTOR = "faster_top"
"""The detector's own score, of the same boxes."""
_GRID = 14
_N_FLIPS = 4
"""The first positions of a square that :func:`turned` knows, none of which is transposed."""
_LEVEL, _STRIDE = "p2", 4


@dataclass(frozen=True)
class FromSample(Picture):
    """What squares are cut from, and the sample that it is of."""

    sample: Sample | None = None


class Evenly(SecondLook):
    """Draws the suspected places of a normal image evenly, not in proportion to suspicion."""

    def training_loss(
        self,
        pictures: Sequence[Picture],
        targets: Sequence[ImageTargets],
        regions: Sequence[Regions],
    ) -> Tensor:
        pairs = zip(regions, targets, strict=True)
        return super().training_loss(pictures, targets, [self._evened(*pair) for pair in pairs])

    def _evened(self, regions: Regions, targets: ImageTargets) -> Regions:
        if is_positive(targets, self.target_labels):
            return regions
        known = regions.cpu().finite()
        places = suspected(known.boxes, known.suspicion)
        alike = torch.ones(len(places))
        return Regions(known.boxes[places], known.labels[places], alike)


class Graded(SecondLook):
    """A normal image with a benign mass counts twice, as by ``MODEL.SIMFRCNN.BENIGN_WEIGHT 2``."""

    def training_loss(
        self,
        pictures: Sequence[Picture],
        targets: Sequence[ImageTargets],
        regions: Sequence[Regions],
    ) -> Tensor:
        graded = [
            dataclasses.replace(of_image, normal_weight=2.0)
            if of_image.is_normal and is_benign(sample_of(picture).record)
            else of_image
            for picture, of_image in zip(pictures, targets, strict=True)
        ]
        return super().training_loss(pictures, graded, regions)


class NotNormalised(SecondLook):
    """Sees grey levels as they are: the mean and deviation of a square are left in it."""

    def _judged(self, squares: Tensor) -> tuple[Tensor, Tensor]:
        vectors, logits = self.judge(((squares - 127.5) / 64).to(self.judge.classifier.weight))
        return vectors, logits


class Unbalanced(SecondLook):
    """Learns from one square of a positive image to seven others, by the plain mean of all."""

    def _filled_up(
        self, squares: Tensor, labels: Tensor, is_of_positive: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        n_positive = self.settings.batch_size // 8
        parts = []
        for side, wanted in ((True, n_positive), (False, self.settings.batch_size - n_positive)):
            own = torch.nonzero(is_of_positive == side).flatten()[:wanted]
            old, old_labels, old_weights = self.memory.drawn(wanted - len(own), is_of_positive=side)
            parts.append(
                (
                    torch.cat([squares[own], old]),
                    torch.cat([labels[own], old_labels]),
                    torch.full((len(own) + len(old),), side),
                    torch.cat([weights[own], old_weights]),
                )
            )
        self.memory.add(squares, labels, is_of_positive, weights)
        batch, batch_labels, sides, batch_weights = map(torch.cat, zip(*parts, strict=True))
        n_of_side = torch.where(sides, int(sides.sum()), int((~sides).sum()))
        return batch, batch_labels, sides, batch_weights * 2 * n_of_side / max(len(sides), 1)


class OnFeatures(SecondLook):
    """Sees the detector's own features of the square, 14 x 14 at stride 4, without gradient."""

    features: Tensor
    """(N, C, H, W) of the images of the last forward pass; set before each call."""

    def training_loss(
        self,
        pictures: Sequence[Picture],
        targets: Sequence[ImageTargets],
        regions: Sequence[Regions],
    ) -> Tensor:
        boxes, labels, counts = [], [], []
        for found, of_image in zip(regions, targets, strict=True):
            drawn, own_labels, _ = choose_regions(
                found.cpu(),
                of_image,
                target_labels=self.target_labels,
                n_regions=self.settings.regions_per_image,
            )
            boxes.append(jittered(drawn))
            labels.append(own_labels)
            counts.append(len(drawn))
        grids = self._grids(pictures, boxes)
        logits: Tensor = self.judge(turned_grids(grids, torch.randint(N_TURNS, (len(grids),))))
        sides = torch.tensor([is_positive(of_image, self.target_labels) for of_image in targets])
        weights = torch.tensor([of_image.normal_weight for of_image in targets])
        image_index = torch.arange(len(targets)).repeat_interleave(torch.tensor(counts))
        return self.settings.weight * balanced_cross_entropy(
            logits, torch.cat(labels), sides[image_index], weights[image_index]
        )

    @torch.no_grad()
    def rescored(self, pictures: Sequence[Picture], found: Sequence[Found]) -> list[Rescored]:
        best = self.settings.detections_per_image
        boxes = [one.boxes[:best].cpu().float() for one in found]
        grids = self._grids(pictures, boxes)
        flips = [turned_grids(grids, torch.full((len(grids),), flip)) for flip in range(_N_FLIPS)]
        logits = self.judge(torch.cat(flips)).reshape(_N_FLIPS, len(grids), -1)
        chances = logits.mean(dim=0).softmax(dim=1)
        of_images = torch.split(chances, [len(each) for each in boxes])
        return [
            combined(
                one.scores,
                one.labels,
                of_image,
                own,
                first_exponent=self.settings.first_exponent,
            )
            for one, of_image, own in zip(found, of_images, boxes, strict=True)
        ]

    def _grids(self, pictures: Sequence[Picture], boxes: Sequence[Tensor]) -> Tensor:
        """(R, C, 14, 14) the features of the squares round boxes in input pixels."""
        squares = [
            squares_around(
                own,
                context=self.settings.context,
                least=least_sides(
                    picture_of(sample_of(picture), "input").spacing_mm,
                    min_mm=self.settings.min_mm,
                    size=self.settings.size,
                ),
            )
            for picture, own in zip(pictures, boxes, strict=True)
        ]
        grids: Tensor = roi_align(
            self.features, squares, _GRID, spatial_scale=1 / _STRIDE, aligned=True
        )
        return grids


def turned_grids(grids: Tensor, turns: Tensor) -> Tensor:
    """Grids (R, C, S, S), all channels of each in one of its eight positions (R,)."""
    n_channels = grids.shape[1]
    return turned(grids.flatten(0, 1), turns.repeat_interleave(n_channels)).view_as(grids)


class FeatureJudge(nn.Sequential):
    """Four 3 x 3 convolutions with GroupNorm on the detector's features: .6 M parameters."""

    def __init__(self, n_channels: int, n_classes: int) -> None:
        layers: list[nn.Module] = []
        for number in range(4):
            convolution = nn.Conv2d(n_channels, n_channels, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, nn.GroupNorm(8, n_channels), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)] * (number == 1)
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        classifier = nn.Linear(n_channels, n_classes + 1)
        nn.init.normal_(classifier.weight, std=0.01)  # as the judge of pixels begins
        nn.init.zeros_(classifier.bias)
        self.append(classifier)


@dataclass(frozen=True)
class Kind:
    """A second look: how its config differs from the first one's, its form, and its control."""

    options: tuple[str, ...] = ()
    form: type[SecondLook] = SecondLook
    below: str = FIRST


KINDS: Mapping[str, Kind] = {
    FIRST: Kind(),
    "random": Kind(("MODEL.SECOND_LOOK.NORMALS", "random")),
    "evenly": Kind(form=Evenly),
    "input": Kind(("MODEL.SECOND_LOOK.SOURCE", "input")),
    "no_memory": Kind(("MODEL.SECOND_LOOK.MEMORY", "0")),
    "features": Kind(("MODEL.SECOND_LOOK.MEMORY", "0"), OnFeatures, below="no_memory"),
    "unbalanced": Kind(form=Unbalanced),
    "not_normalised": Kind(form=NotNormalised),
    "graded": Kind(form=Graded),
    "cosine": Kind(("MODEL.SECOND_LOOK.SIMILARITY", "cosine")),
    "contrastive": Kind(("MODEL.SECOND_LOOK.SIMILARITY", "contrastive")),
}


def sample_of(picture: Picture) -> Sample:
    """The sample of a picture that :func:`beside_one_detector` has made."""
    sample = cast(FromSample, picture).sample
    assert sample is not None
    return sample


class Memories:
    """The memories of several second looks, as one state."""

    def __init__(self, memories: Mapping[str, Memory]) -> None:
        self._memories = memories

    def state_dict(self) -> dict[str, Any]:
        return {name: memory.state_dict() for name, memory in self._memories.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, memory in self._memories.items():
            memory.load_state_dict(state.get(name, {}))


class SecondLooks(nn.Module):
    """Several second looks in the place of one. Each draws what it would draw alone.

    Shapes: N images of a batch; (N, C, H, W) their features.
    """

    def __init__(self, looks: Mapping[str, SecondLook], classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = classes
        self.looks = nn.ModuleDict(looks)
        self.settings = looks[FIRST].settings
        self.memory = Memories({name: look.memory for name, look in looks.items()})
        self.features = torch.empty(0)
        self.found: dict[str, list[ImageDetections]] = {}
        """Of each image that was detected in, by each kind and by the detector alone."""
        self.forget_found()

    def forget_found(self) -> None:
        """Keep what is found from now on."""
        self.found = {name: [] for name in (*self.looks, DETECTOR)}

    def items(self) -> Iterator[tuple[str, SecondLook]]:
        """The second looks by name, with the features of the last forward pass."""
        for name, module in self.looks.items():
            look = cast(SecondLook, module)
            if isinstance(look, OnFeatures):
                look.features = self.features
            yield name, look

    def training_loss(
        self,
        pictures: Sequence[Picture],
        targets: Sequence[ImageTargets],
        regions: Sequence[Regions],
    ) -> Tensor:
        """The sum of their losses, which share no weight."""
        before, total, after = torch.get_rng_state(), torch.zeros(()), None
        for _, look in self.items():
            torch.set_rng_state(before)
            seen = [picture_for(look, picture) for picture in pictures]
            total = total + look.training_loss(seen, targets, regions)
            after = torch.get_rng_state() if after is None else after
        assert after is not None
        torch.set_rng_state(after)
        return total

    @torch.no_grad()
    def rescored(self, pictures: Sequence[Picture], found: Sequence[Found]) -> list[Rescored]:
        """What the first one makes of the detections; what each does is kept in ``found``."""
        again = {
            name: look.rescored([picture_for(look, each) for each in pictures], found)
            for name, look in self.items()
        }
        samples = [sample_of(picture) for picture in pictures]
        for name, of_images in again.items():
            for sample, one, after in zip(samples, found, of_images, strict=True):
                order = after.order
                judged = Found(one.boxes[order], after.scores, one.labels[order])
                self.found[name].append(in_original_pixels(sample, judged, self.classes))
        for sample, one in zip(samples, found, strict=True):
            self.found[DETECTOR].append(in_original_pixels(sample, one, self.classes))
        return again[FIRST]


def picture_for(look: SecondLook, picture: Picture) -> Picture:
    """What a second look cuts its squares from."""
    if look.settings.source == "native":
        return picture
    return picture_of(sample_of(picture), look.settings.source)


def in_original_pixels(sample: Sample, found: Found, classes: Sequence[str]) -> ImageDetections:
    """What was found, but for boxes that lie in the padding alone."""
    boxes = sample.frame.to_original(found.boxes)
    is_there = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return ImageDetections(
        sample.record.image_id,
        boxes[is_there].double().numpy(),
        found.scores[is_there].double().numpy(),
        tuple(classes[label - 1] for label in found.labels[is_there].tolist()),
    )


def build_looks(cfg: Any, kinds: Sequence[str]) -> SecondLooks:
    """One second look of each kind; each starts with the weights that it would have alone."""
    before, looks = torch.get_rng_state(), {}
    for name in kinds:
        torch.set_rng_state(before)
        kind, own = KINDS[name], cfg.clone()
        own.defrost()
        own.merge_from_list(list(kind.options))
        look = build_second_look(own)
        assert look is not None
        if kind.form is not SecondLook:
            look = kind.form(
                look.settings,
                look.judge,
                target_labels=look.target_labels,
                similarity=look.similarity,
            )
        if isinstance(look, OnFeatures):
            n_classes = look.judge.classifier.out_features - 1
            look.judge = cast(Any, FeatureJudge(cfg.MODEL.FPN.OUT_CHANNELS, n_classes))
        looks[name] = look
    return SecondLooks(looks, config.data_settings(cfg).classes)


@contextlib.contextmanager
def beside_one_detector(kinds: Sequence[str]) -> Iterator[list[SecondLooks]]:
    """While this holds, models are built with a second look of each kind; gives those built."""
    from simfrcnn.engines.detectron2 import meta_arch

    built: list[SecondLooks] = []

    def build(cfg: Any) -> SecondLooks:
        built.append(build_looks(cfg, kinds))
        return built[-1]

    def picture(sample: Sample, source: Any) -> FromSample:
        made = picture_of(sample, source)
        return FromSample(made.pixels, made.frame, made.spacing_mm, sample)

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, dict) and _LEVEL in output and built:
            built[-1].features = output[_LEVEL].detach().float()

    hook = nn.modules.module.register_module_forward_hook(keep)
    with (
        mock.patch.object(meta_arch, "build_second_look", build),
        mock.patch.object(meta_arch, "picture_of", picture),
    ):
        try:
            yield built
        finally:
            hook.remove()
