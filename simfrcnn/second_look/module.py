"""How does the second look learn beside a detector, and how does it judge what that has found?

Squares carry no gradient to the detector's boxes: the two learn side by side, and share nothing but
the suspicion that chooses what is looked at.

Shapes: N images of a batch, n squares of a step, S their side, D_i detections of image i, C = 1 + K
classes, background first.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from simfrcnn.losses import are_partners, similarity_loss
from simfrcnn.second_look.choice import (
    Regions,
    are_finite,
    choose_regions,
    is_positive,
    jittered,
)
from simfrcnn.second_look.crops import Picture, cut, least_sides, normalised, squares_around, turned
from simfrcnn.second_look.memory import Memory
from simfrcnn.second_look.network import Judge
from simfrcnn.second_look.places import labels_at, scattered
from simfrcnn.second_look.scores import Found, Rescored, combined
from simfrcnn.second_look_settings import SecondLookSettings
from simfrcnn.settings import SimilaritySettings
from simfrcnn.structures import ImageTargets

N_TURNS = 8
_FLIPS = (0, 1, 2, 3)

logger = logging.getLogger("simfrcnn")


class SecondLook(nn.Module):
    """A network that looks again at suspected regions; part of the model of either engine."""

    def __init__(
        self,
        settings: SecondLookSettings,
        judge: Judge,
        *,
        target_labels: Sequence[int],
        similarity: SimilaritySettings,
    ) -> None:
        """Take the network.

        Args:
            settings: ``MODEL.SECOND_LOOK``.
            judge: What judges squares.
            target_labels: Labels in 1..K of the target classes.
            similarity: The loss on the vectors of this network; of kind ``none`` for none.
        """
        super().__init__()
        self.settings = settings
        self.judge = judge
        self.target_labels = tuple(target_labels)
        self.similarity = similarity
        self.memory = Memory(settings.memory, settings.size)
        """Squares of earlier steps; a part of the state of a training, not of the model."""
        self._has_noted = False

    def training_loss(
        self,
        pictures: Sequence[Picture],
        targets: Sequence[ImageTargets],
        regions: Sequence[Regions],
    ) -> Tensor:
        """The loss of a step, weighted: a scalar to which every parameter is connected.

        Cross entropy over the classes; the mean over the squares of positive images and the mean
        over those of the others, weighted like their image, count one half each, so that neither
        side outweighs the other.

        Of each labelled image the region that was chosen for its label gets one more square. They
        are a part of their own, weighted like their label, and are not remembered.

        Args:
            pictures: Of the N images.
            targets: Of the N images.
            regions: Of the N images, from the box head; of a labelled one the chosen one, or none.
        """
        everything = list(zip(pictures, targets, regions, strict=True))
        others = [each for each in everything if each[1].image_label is None]
        labelled = [each for each in everything if each[1].image_label is not None]
        loss = self._loss_of(*map(list, zip(*others, strict=True))) if others else self._nothing()
        chosen = [(*each[:2], each[2].finite()) for each in labelled]
        of_labels = [self._loss_of_label(*each) for each in chosen if len(each[2].boxes)]
        if of_labels:
            loss = loss + torch.stack(of_labels).sum() / n_bags_of([each[1] for each in labelled])
        return loss * self.settings.weight

    def _nothing(self) -> Tensor:
        """A zero that is connected to every parameter."""
        return torch.stack([each.flatten()[:0].sum() for each in self.judge.parameters()]).sum()

    def _loss_of_label(self, picture: Picture, targets: ImageTargets, region: Regions) -> Tensor:
        """The weighted cross entropy of the region that was chosen for a label."""
        square = self._cut(picture, jittered(region.cpu().boxes))
        _, logits = self._judged(turned(square, torch.randint(N_TURNS, (1,))))
        label = torch.tensor([targets.image_label], device=logits.device)
        return targets.label_weight * functional.cross_entropy(logits, label)

    def _loss_of(
        self,
        pictures: Sequence[Picture],
        targets: Sequence[ImageTargets],
        regions: Sequence[Regions],
    ) -> Tensor:
        """The loss of boxed and normal images."""
        squares, labels, suspicion, image_index = self._drawn(pictures, targets, regions)
        n_new, device = len(squares), self.judge.classifier.weight.device
        sides = torch.tensor([is_positive(each, self.target_labels) for each in targets])
        weights = torch.tensor([each.normal_weight for each in targets])
        batch, batch_labels, batch_sides, batch_weights = self._filled_up(
            squares, labels, sides[image_index], weights[image_index]
        )
        if not len(batch):  # a network of timm takes no empty one
            return self._nothing()
        turns = torch.randint(N_TURNS, (len(batch),))
        vectors, logits = self._judged(turned(batch, turns))
        loss = balanced_cross_entropy(
            logits, batch_labels.to(device), batch_sides.to(device), batch_weights.to(device)
        )
        similarity = similarity_loss(  # of this step's pairs of images alone
            features=vectors[:n_new],
            labels=labels.to(device),
            image_index=image_index.to(device),
            objectness=suspicion.to(device),
            class_logits=logits[:n_new],
            is_partner=are_partners(
                [each.labels for each in targets],
                [each.is_normal for each in targets],
                self.target_labels,
            ),
            target_labels=self.target_labels,
            settings=self.similarity,
        )
        return loss + self.similarity.weight * similarity

    @torch.no_grad()
    def judged_again(self, picture: Picture, boxes: Tensor, values: Tensor) -> Tensor:
        """What regions of an image are worth with a second look at the best of them.

        Args:
            picture: The image.
            boxes: (n, 4) in input pixels.
            values: (n,) in [0, 1], by the detector; NaN where it diverges.

        Returns:
            (n,) the combined value of the best ``detections_per_image``, as at test time, with the
            highest probability of a target class; -1 of the others, and of all whose box or value
            is not finite.
        """
        best = torch.argsort(values, descending=True, stable=True)
        best = best[(are_finite(boxes) & values.isfinite())[best]]
        best = best[: self.settings.detections_per_image]
        chances = self.probabilities(self._cut(picture, boxes[best].cpu().float()))
        again = torch.full_like(values, -1.0)
        of_targets = chances[:, list(self.target_labels)].amax(dim=1).to(values)
        again[best] = values[best] ** self.settings.first_exponent * of_targets
        return again

    @torch.no_grad()
    def rescored(self, pictures: Sequence[Picture], found: Sequence[Found]) -> list[Rescored]:
        """What the best detections of each image look like at a second look.

        A square is judged in its four flips, whose logits are averaged: so an image and its mirror
        image are judged alike.

        Args:
            pictures: Of the N images.
            found: Of the N images, by falling score.
        """
        best = self.settings.detections_per_image
        squares = [
            self._squares(picture, one.boxes[:best].cpu().float())
            for picture, one in zip(pictures, found, strict=True)
        ]
        pixels = [
            cut(picture.pixels, own, self.settings.size)
            for picture, own in zip(pictures, squares, strict=True)
        ]
        chances = self.probabilities(torch.cat(pixels))
        of_images = torch.split(chances, [len(each) for each in squares])
        exponent = self.settings.first_exponent
        return [
            combined(
                one.scores,
                one.labels,
                of_image,
                picture.frame.to_input(own),
                first_exponent=exponent,
            )
            for one, of_image, picture, own in zip(found, of_images, pictures, squares, strict=True)
        ]

    @torch.no_grad()
    def probabilities(self, squares: Tensor) -> Tensor:
        """Squares (n, S, S) in grey levels -> probabilities (n, C)."""
        if not len(squares):  # nothing was found; a network of timm takes no empty batch
            return squares.new_zeros(0, self.judge.classifier.out_features)
        flips = [turned(squares, torch.full((len(squares),), flip)) for flip in _FLIPS]
        _, logits = self._judged(torch.cat(flips))
        mean: Tensor = logits.reshape(len(_FLIPS), len(squares), -1).mean(dim=0)
        return mean.softmax(dim=1)

    def _drawn(
        self,
        pictures: Sequence[Picture],
        targets: Sequence[ImageTargets],
        regions: Sequence[Regions],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Squares (n, S, S) of a step, their labels, suspicion and images."""
        squares, labels, suspicion, image_index = [], [], [], []
        for index, (picture, of_image, found) in enumerate(
            zip(pictures, targets, regions, strict=True)
        ):
            boxes, own_labels, own_suspicion = choose_regions(
                found.cpu(),
                of_image,
                target_labels=self.target_labels,
                n_regions=self.settings.regions_per_image,
            )
            if self.settings.normals == "random" and not is_positive(of_image, self.target_labels):
                boxes = scattered(boxes, picture)
                own_labels = labels_at(boxes, of_image)
                own_suspicion = torch.zeros_like(own_suspicion)
            squares.append(self._cut(picture, jittered(boxes)))
            labels.append(own_labels)
            suspicion.append(own_suspicion)
            image_index.append(torch.full((len(boxes),), index))
        return tuple(map(torch.cat, (squares, labels, suspicion, image_index)))  # type: ignore[return-value]

    def _filled_up(
        self, squares: Tensor, labels: Tensor, is_of_positive: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The squares of a step, then remembered ones up to half a batch of each side."""
        half = self.settings.batch_size // 2
        parts = [(squares, labels, is_of_positive, weights)]
        for side in (True, False):
            n_missing = half - int((is_of_positive == side).sum())
            old, old_labels, old_weights = self.memory.drawn(n_missing, is_of_positive=side)
            parts.append((old, old_labels, torch.full((len(old),), side), old_weights))
        self.memory.add(squares, labels, is_of_positive, weights)
        return tuple(map(torch.cat, zip(*parts, strict=True)))  # type: ignore[return-value]

    def _cut(self, picture: Picture, boxes: Tensor) -> Tensor:
        """The pixels (n, S, S) of the squares round boxes (n, 4) in input pixels."""
        return cut(picture.pixels, self._squares(picture, boxes), self.settings.size)

    def _squares(self, picture: Picture, boxes: Tensor) -> Tensor:
        """The squares (n, 4), in pixels of the picture, round boxes (n, 4) in input pixels."""
        if picture.spacing_mm is None:
            self._note_once()
        settings = self.settings
        return squares_around(
            picture.frame.to_original(boxes),
            context=settings.context,
            least=least_sides(picture.spacing_mm, min_mm=settings.min_mm, size=settings.size),
        )

    def _judged(self, squares: Tensor) -> tuple[Tensor, Tensor]:
        device = self.judge.classifier.weight.device
        vectors, logits = self.judge(normalised(squares).to(device))
        return vectors, logits

    def _note_once(self) -> None:
        if not self._has_noted:
            self._has_noted = True
            logger.warning(
                "the pixel spacing of an image is not known: MODEL.SECOND_LOOK.MIN_MM cannot be "
                "honoured there, and squares have a side of at least MODEL.SECOND_LOOK.SIZE "
                f"{self.settings.size} pixels"
            )


def n_bags_of(targets: Sequence[ImageTargets]) -> int:
    """How many bags labelled images form."""
    return len({one.bag_key(place) for place, one in enumerate(targets)})


def balanced_cross_entropy(
    logits: Tensor, labels: Tensor, is_of_positive: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Half the mean cross entropy of each side; a side without squares adds 0.

    Args:
        logits: (n, C).
        labels: (n,) in 0..K.
        is_of_positive: (n,) whether a square is of a positive image.
        weights: (n,) of the squares' images, None for 1 each; a side is still divided by its
            squares.
    """
    costs = functional.cross_entropy(logits, labels, reduction="none")
    costs = costs if weights is None else costs * weights
    sides = (costs[is_of_positive], costs[~is_of_positive])
    return torch.stack([side.sum() / max(len(side), 1) for side in sides]).sum() / 2
