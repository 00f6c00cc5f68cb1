"""What do both engines need to learn from images with a label and no box?

Shapes: R regions of the labelled images of a batch, C = 1 + K classes, background first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from simfrcnn import config
from simfrcnn.errors import ConfigError
from simfrcnn.label_settings import LabelSettings
from simfrcnn.losses import label_loss
from simfrcnn.sampling.regions import (
    Bags,
    EmptyBags,
    chosen_by_image,
    highest_of_bags,
    interest,
)
from simfrcnn.second_look import Picture, SecondLook

Judge = Callable[[int, Tensor, Tensor], Tensor]
"""An image's place in the batch, boxes (n, 4) in input pixels and values (n,) of its regions ->
their values (n,) with a second look at the best; the others come after these."""


def label_settings_of(cfg: Any) -> LabelSettings | None:
    """How labelled images teach; None where none train."""
    return config.label_settings(cfg) if cfg.DATASETS.LABELS_PER_ITEM else None


def require_separate_regions(cfg: Any, head: nn.Module, look: SecondLook | None) -> None:
    """Refuse, where labelled images train, what does not judge each region by itself.

    That may be the box head, or the network of the second look.

    The region of a labelled image is chosen in one pass and learnt from in another: it must mean
    the same in both.

    Raises:
        ConfigError: Names the layer.
    """
    if not cfg.DATASETS.LABELS_PER_ITEM:
        return
    said = f"DATASETS.LABELS_PER_ITEM is {cfg.DATASETS.LABELS_PER_ITEM}, but"
    if found := not_separate(head):
        has_norm = "NORM" in cfg.MODEL.ROI_BOX_HEAD  # a key of Detectron2
        norm = "MODEL.ROI_BOX_HEAD.NORM GN or '', " if has_norm else ""
        raise ConfigError(
            f"{said} the box head has a {found}: a region would be chosen by other values than it "
            "is learnt from. Take MODEL.RESNETS.NORM FrozenBN or GN (of a C4 detector res5 is the "
            f"box head), {norm}and no dropout"
        )
    if look is not None and (found := not_separate(look.judge)):
        raise ConfigError(
            f"{said} the network of the second look has a {found}, and the one region of a label "
            "is judged alone. Give MODEL.SECOND_LOOK.BACKBONE_WEIGHTS, with which its batch "
            "statistics are frozen, or leave MODEL.SECOND_LOOK.BACKBONE empty"
        )


def not_separate(network: nn.Module) -> str | None:
    """A layer by which regions see one another, or chance has a say; None without one."""
    for name, module in network.named_modules():
        if name.startswith("mask_"):  # of the ROI heads: no labelled region goes there
            continue
        has_statistics = isinstance(module, nn.modules.batchnorm._BatchNorm)
        is_random = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        if has_statistics or is_random or getattr(module, "drop_prob", False):
            return f"{type(module).__name__} ({name})"
    return None


def judge_of(
    look: SecondLook | None, settings: LabelSettings | None, pictures: Sequence[Picture]
) -> Judge | None:
    """What the second look says of a batch's images, if it has a say in the choice of regions."""
    if look is None or settings is None or settings.chooser == "detector":
        return None
    return lambda place, boxes, values: look.judged_again(pictures[place], boxes, values)


@dataclass(frozen=True)
class Choice:
    """Chooses one region of each bag of a batch, without gradient.

    ``judge`` is the second look, None where the detector alone chooses; ``empty_bags`` counts for
    as long as the head lives.
    """

    settings: LabelSettings
    target_labels: Sequence[int]
    empty_bags: EmptyBags
    judge: Judge | None = None

    @torch.no_grad()
    def of(self, bags: Bags, class_logits: Tensor, boxes: Sequence[Tensor]) -> list[Tensor]:
        """The chosen regions of each labelled image, as places in its own list: one or none.

        Args:
            bags: Of the batch.
            class_logits: (R, C), in the order of the labelled images.
            boxes: Of each labelled image (n, 4), in input pixels.
        """
        counts, device = [len(of_image) for of_image in boxes], class_logits.device
        labels = torch.tensor(bags.labels, device=device)
        bag_index = torch.tensor(bags.bag_of, device=device).repeat_interleave(
            torch.tensor(counts, device=device)
        )
        values = interest(class_logits, labels[bag_index], self.settings.region, self.target_labels)
        if self.judge is not None:
            of_images = zip(bags.images, boxes, torch.split(values, counts), strict=True)
            values = torch.cat([self.judge(*of_image) for of_image in of_images])
        # What was cast for this pass has no gradient: it must not serve the next one.
        torch.clear_autocast_cache()
        chosen = highest_of_bags(values, bag_index, len(bags.labels))
        self.empty_bags.add(int((chosen < 0).sum()))
        return chosen_by_image(chosen, counts)


def loss_of_bags(class_logits: Tensor, image_index: Tensor, bags: Bags) -> Tensor:
    """``loss_label`` of a batch in which each bag has its chosen region, or none.

    Args:
        class_logits: Of all regions of the batch, background first.
        image_index: The image of each region.
        bags: Of the batch.
    """
    rows = torch.nonzero(are_of(bags.images, image_index)).flatten()
    bag_of_image = dict(zip(bags.images, bags.bag_of, strict=True))
    own = [bag_of_image[image] for image in image_index[rows].tolist()]
    return label_loss(
        class_logits[rows],
        torch.tensor([bags.labels[bag] for bag in own], dtype=torch.int64, device=rows.device),
        torch.tensor([bags.weights[bag] for bag in own], device=rows.device),
        n_bags=len(bags.labels),
    )


def are_of(images: Sequence[int], image_index: Tensor) -> Tensor:
    """Which regions are of some images, by the image of each region."""
    return torch.isin(image_index, torch.tensor(list(images), device=image_index.device))
