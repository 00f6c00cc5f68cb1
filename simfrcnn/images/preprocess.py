"""How does a stored image become the network's input, and where does each pixel go?

Shapes: H x W the stored image, h x w the input (`InputSettings.size_px`). Boxes half open, XYXY.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from simfrcnn.dicom.view import AS_STORED, Flips, Grey
from simfrcnn.images.breast import breast_box
from simfrcnn.input_settings import ALL_GREYS
from simfrcnn.records import Box
from simfrcnn.settings import InputSettings
from simfrcnn.structures import Frame, Native

_NEARLY = 1e-6


def to_input(
    pixels: NDArray[np.uint8],
    settings: InputSettings,
    *,
    keep: Sequence[Box] = (),
    flips: Flips = AS_STORED,
) -> tuple[NDArray[np.uint8], Frame]:
    """Hang, crop to the breast, resize, pad; and the exact map of coordinates.

    Hung first: neither the crop nor the averages of a resize are the same from the other end, and a
    picture that was stored hung must give the same input as its source.

    The scale of the map is the ratio of whole pixel counts that was really used, not the factor
    that was asked for, so boxes are exact however the sizes round.

    Args:
        pixels: (H, W) uint8.
        settings: Size, whether to crop, whether to keep the aspect (and pad right and below with 0)
            or to stretch.
        keep: Boxes, in original pixels, that the crop must contain. In training these are the
            findings, so that none is cut; at test time there are none, because nothing is known.
        flips: What turns the image into the standard hanging.

    Returns:
        The input (h, w) uint8 and the map from original to input pixels.
    """
    content, frame = to_content(pixels, settings, keep=keep, flips=flips)
    return pad(content, settings), frame


def to_content(
    pixels: NDArray[np.uint8],
    settings: InputSettings,
    *,
    keep: Sequence[Box] = (),
    flips: Flips = AS_STORED,
) -> tuple[NDArray[np.uint8], Frame]:
    """:func:`to_input` without its padding: (h', w') with h' <= h and w' <= w."""
    hung, to_hung = hang(pixels, flips)
    crop = crop_of(hung, settings, moved(keep, to_hung))
    content, from_hung = cut_and_resize(hung, crop, settings)
    return windowed(content, settings), to_hung.then(from_hung)


def windowed(pixels: NDArray[np.uint8], settings: InputSettings) -> NDArray[np.uint8]:
    """Grey levels of the window spread over all 256; the whole range leaves every pixel as it is.

    It comes after the resize and before the padding, which stays black.

    Args:
        pixels: (h, w).
        settings: Their ``greys``.
    """
    low, high = settings.greys
    if (low, high) == ALL_GREYS:
        return pixels
    levels = (np.arange(256) - low) * 255 / (high - low)
    spread: NDArray[np.uint8] = np.rint(levels.clip(0, 255)).astype(np.uint8)[pixels]
    return spread


def native_of(pixels: NDArray[np.uint8], frame: Frame, size_px: tuple[int, int]) -> Native:
    """The stored pixels of what an input shows, at their own resolution, turned as the input is.

    Args:
        pixels: (H, W) uint8, as stored.
        frame: The map from these pixels to the input, flips included.
        size_px: Height and width of the input.
    """
    height, width = pixels.shape
    x1, x2, offset_x = _shown(frame.scale_x, frame.offset_x, size_px[1], width)
    y1, y2, offset_y = _shown(frame.scale_y, frame.offset_y, size_px[0], height)
    part = pixels[y1:y2, x1:x2]
    turned = part[:: 1 if frame.scale_y > 0 else -1, :: 1 if frame.scale_x > 0 else -1]
    to_input = Frame(abs(frame.scale_x), offset_x, abs(frame.scale_y), offset_y, y2 - y1, x2 - x1)
    return Native(torch.from_numpy(turned.copy()), to_input)


def _shown(scale: float, offset: float, n_input: int, n_stored: int) -> tuple[int, int, float]:
    """On one axis: the stored pixels that an input shows, and where the first of them lies."""
    start, end = sorted((-offset / scale, (n_input - offset) / scale))
    first = min(max(0, math.floor(start + _NEARLY)), n_stored - 1)
    last = max(min(n_stored, math.ceil(end - _NEARLY)), first + 1)
    return first, last, offset + scale * (first if scale > 0 else last)


def hang(pixels: NDArray[Grey], flips: Flips) -> tuple[NDArray[Grey], Frame]:
    """Mirror an image (H, W) into the standard hanging; and the map from its stored pixels."""
    height, width = pixels.shape
    as_stored = Frame(1.0, 0.0, 1.0, 0.0, height, width)
    if flips == AS_STORED:
        return pixels, as_stored
    return flip(pixels, as_stored, horizontal=flips.horizontal, vertical=flips.vertical)


def moved(boxes: Sequence[Box], frame: Frame) -> list[Box]:
    """Boxes in original pixels -> where a map takes them."""
    corners = torch.tensor(list(boxes), dtype=torch.float64).reshape(-1, 4)
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in frame.to_input(corners).tolist()]


def crop_of(
    pixels: NDArray[np.uint8], settings: InputSettings, keep: Sequence[Box] = ()
) -> tuple[int, int, int, int]:
    """The part of an image that becomes the input: whole pixels, XYXY, inside the image.

    Args:
        pixels: (H, W) uint8.
        settings: Whether to crop at all.
        keep: Boxes, in original pixels, that the crop must contain.
    """
    height, width = pixels.shape
    return _crop(pixels, keep) if settings.crop_to_breast else (0, 0, width, height)


def cut_and_resize(
    pixels: NDArray[Grey], crop: tuple[int, int, int, int], settings: InputSettings
) -> tuple[NDArray[Grey], Frame]:
    """The input without its padding, of 8 or 16 bit samples, and the map of coordinates.

    Args:
        pixels: (H, W).
        crop: What to cut out, see :func:`crop_of`.
        settings: Size, and whether to keep the aspect.

    Returns:
        (h', w') with h' <= h and w' <= w, and the map from original to input pixels.
    """
    height, width = pixels.shape
    x1, y1, x2, y2 = crop
    out_height, out_width = settings.size_px
    inner_width, inner_height = out_width, out_height
    if settings.keep_aspect:
        factor = min(out_width / (x2 - x1), out_height / (y2 - y1))
        inner_width = min(out_width, max(1, round((x2 - x1) * factor)))
        inner_height = min(out_height, max(1, round((y2 - y1) * factor)))
    content = _resize(pixels[y1:y2, x1:x2], inner_width, inner_height)
    scale_x, scale_y = inner_width / (x2 - x1), inner_height / (y2 - y1)
    frame = Frame(
        scale_x=scale_x,
        offset_x=-x1 * scale_x,
        scale_y=scale_y,
        offset_y=-y1 * scale_y,
        original_height=height,
        original_width=width,
    )
    return content, frame


def pad(content: NDArray[np.uint8], settings: InputSettings) -> NDArray[np.uint8]:
    """(h', w') -> the input (h, w), with 0 right and below."""
    inner_height, inner_width = content.shape
    out_height, out_width = settings.size_px
    if (inner_height, inner_width) == (out_height, out_width):
        return content
    padded: NDArray[np.uint8] = cv2.copyMakeBorder(
        content,
        0,
        out_height - inner_height,
        0,
        out_width - inner_width,
        cv2.BORDER_CONSTANT,
        value=0,
    )
    return padded


def _crop(pixels: NDArray[np.uint8], keep: Sequence[Box]) -> tuple[int, int, int, int]:
    """The breast box joined with the boxes to keep: whole pixels, inside the image."""
    height, width = pixels.shape
    x1, y1, x2, y2 = zip(breast_box(pixels), *keep, strict=True)
    return (
        max(0, math.floor(min(x1))),
        max(0, math.floor(min(y1))),
        min(width, math.ceil(max(x2))),
        min(height, math.ceil(max(y2))),
    )


def _resize(pixels: NDArray[Grey], width: int, height: int) -> NDArray[Grey]:
    """Shrink by area average, then enlarge linearly: each axis by the method that suits it."""
    shrunk = (min(width, pixels.shape[1]), min(height, pixels.shape[0]))
    if shrunk != pixels.shape[::-1]:
        pixels = cv2.resize(pixels, shrunk, interpolation=cv2.INTER_AREA)
    if (width, height) != pixels.shape[::-1]:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return pixels


def flip(
    image: NDArray[Grey], frame: Frame, *, horizontal: bool, vertical: bool
) -> tuple[NDArray[Grey], Frame]:
    """Mirror an input image (h, w) and its frame: a flip is a negative scale.

    Box edges are half open, so edge x goes to w - x; nothing is off by one.
    """
    height, width = image.shape
    if horizontal:
        frame = dataclasses.replace(frame, scale_x=-frame.scale_x, offset_x=width - frame.offset_x)
    if vertical:
        frame = dataclasses.replace(frame, scale_y=-frame.scale_y, offset_y=height - frame.offset_y)
    return Flips(horizontal, vertical).turned(image), frame
