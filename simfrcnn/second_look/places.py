"""Which regions of a normal image has nobody suspected? Any place in the breast will do.

They are the control of the second look: the same boxes as the suspected ones, but elsewhere.

Shapes: n boxes of one image, XYXY in input pixels; B boxes that it carries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simfrcnn.images.breast import breast_mask
from simfrcnn.second_look.crops import Picture
from simfrcnn.structures import ImageTargets


def scattered(boxes: Tensor, picture: Picture) -> Tensor:
    """Boxes (n, 4) of the same sides, with centres drawn evenly from the pixels of the breast.

    From torch's global generator. In a picture of a single value every pixel counts as breast.
    """
    centres = picture.frame.points_to_input(_drawn_in_breast(picture.pixels, len(boxes)))
    halves = (boxes[:, 2:] - boxes[:, :2]) / 2
    return torch.cat([centres - halves, centres + halves], dim=1)


def labels_at(boxes: Tensor, targets: ImageTargets) -> Tensor:
    """The label (n,) of the first box of an image that holds the centre of each; else 0."""
    centres = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]
    own = targets.boxes.to(boxes)
    holds = ((centres >= own[:, :2]) & (centres < own[:, 2:])).all(dim=2)
    labels = torch.cat([targets.labels.cpu(), targets.labels.new_zeros(1).cpu()])
    otherwise = torch.ones(len(boxes), 1, dtype=torch.bool)
    return labels[torch.cat([holds, otherwise], dim=1).int().argmax(dim=1)]


def _drawn_in_breast(pixels: Tensor, n: int) -> Tensor:
    """Centres (n, 2), x and y, of pixels of the breast (h, w), drawn evenly."""
    grey = pixels.round().clamp(0, 255) if pixels.is_floating_point() else pixels
    mask = torch.from_numpy(breast_mask(grey.to(torch.uint8).numpy()))
    up_to = mask.sum(dim=1).cumsum(dim=0)
    ranks = torch.randint(int(up_to[-1]), (n,))
    rows = torch.searchsorted(up_to, ranks, right=True)
    columns = torch.tensor(
        [
            int(torch.nonzero(mask[row]).flatten()[int(rank - up_to[row])])  # from the end
            for row, rank in zip(rows.tolist(), ranks, strict=True)
        ],
        dtype=torch.int64,
    )
    return torch.stack([columns, rows], dim=1) + 0.5
