"""How a stored image becomes the network's input; described as :mod:`simfrcnn.settings` are."""

from __future__ import annotations

from dataclasses import dataclass

from simfrcnn.described import Described, described
from simfrcnn.registry import illegal

ALL_GREYS = (0.0, 255.0)
"""The window that changes nothing."""


@dataclass(frozen=True)
class InputSettings(Described):
    """How a stored image becomes the network's input."""

    size_px: tuple[int, int] = described(
        (512, 512), "height and width of the network's input in pixels", key="INPUT.MAMMO.SIZE"
    )
    crop_to_breast: bool = described(
        True, "cut to the largest connected bright region", key="INPUT.MAMMO.CROP_TO_BREAST"
    )
    keep_aspect: bool = described(
        True,
        "resize by one factor and pad right and below with 0; otherwise stretch",
        key="INPUT.MAMMO.KEEP_ASPECT",
    )

    @property
    def greys(self) -> tuple[float, float]:
        """The grey levels that become black and white."""
        return ALL_GREYS

    def unwindowed(self) -> InputSettings:
        """The same with all grey levels, as pictures are prepared."""
        return InputSettings(self.size_px, self.crop_to_breast, self.keep_aspect)


@dataclass(frozen=True)
class WindowedInputSettings(InputSettings):
    """The same with an intensity window.

    >>> WindowedInputSettings(window=(40, 200)).greys
    (40, 200)
    >>> WindowedInputSettings(window=(200, 40))
    Traceback (most recent call last):
    simfrcnn.errors.ConfigError: INPUT.MAMMO.WINDOW is (200, 40); legal is (low, high) with 0 <= \
low < high <= 255
    """

    window: tuple[float, float] = described(
        ALL_GREYS,
        "grey levels of the stored image that become black and white; what lies beyond is clipped",
        key="INPUT.MAMMO.WINDOW",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        ends = self.window
        if len(ends) != 2 or not 0 <= ends[0] < ends[1] <= 255:
            legal = "(low, high) with 0 <= low < high <= 255"
            raise illegal("INPUT.MAMMO.WINDOW", ends, legal)

    @property
    def greys(self) -> tuple[float, float]:
        """The window."""
        return self.window
