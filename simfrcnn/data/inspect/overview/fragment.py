"""How are the statistics of a training set written so that a config takes them as ``_BASE_``?"""

from __future__ import annotations

from simfrcnn.data.inspect.overview.anchors import Anchors, coverage
from simfrcnn.data.inspect.overview.statistics import Statistics
from simfrcnn.settings import InputSettings


def fragment(
    statistics: Statistics, anchors: Anchors, settings: InputSettings, title: str, sha256: str
) -> str:
    """YAML with the keys that depend on the data, all of them honoured by both engines.

    Mean, deviation and anchors hold for one size, crop and grey window only, so those are set with
    them.

    Args:
        statistics: Of the training set's inputs.
        anchors: One level for a C4 detector, or one entry a level for a pyramid.
        settings: Of the input.
        title: The data set's name, and what the fragment is for.
        sha256: Of its annotation file.
    """
    fit = coverage(statistics.sides_px, anchors)
    mean, std = (f"[{value:.2f}, {value:.2f}, {value:.2f}]" for value in _grey(statistics))
    sizes = ", ".join(f"[{', '.join(map(str, level))}]" for level in anchors.sizes)
    ratios = ", ".join(map(str, anchors.ratios))
    height, width = settings.size_px
    low, high = settings.greys
    return f"""\
# {" ".join(title.split())}
# Written by `simfrcnn data show` from {statistics.n_images} training images with \
{len(statistics.sides_px)} boxes
# (annotation file of SHA-256 {sha256}).
# Take it as the last entry of a config's _BASE_: [.., this file].
MODEL:
  # Mean and standard deviation of the inputs, padding included, in the window below.
  PIXEL_MEAN: {mean}
  PIXEL_STD: {std}
  # Best IoU of a training box with an anchor centred on it: {fit.mean_iou:.2f} in the mean, at \
least 0.7
  # for {fit.matched_share:.0%} of the boxes.
  ANCHOR_GENERATOR:
    SIZES: [{sizes}]
    ASPECT_RATIOS: [[{ratios}]]
INPUT:
  MAMMO:
    SIZE: [{height}, {width}]
    CROP_TO_BREAST: {settings.crop_to_breast}
    KEEP_ASPECT: {settings.keep_aspect}
    WINDOW: [{low:g}, {high:g}]
"""


def _grey(statistics: Statistics) -> tuple[float, float]:
    """Mean and deviation; a deviation of 0 (blank images) would divide by 0."""
    return statistics.mean, max(statistics.std, 1.0)
