"""Is one no worse than the other by more than a margin that was stated beforehand?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from simfrcnn.registry import illegal


@dataclass(frozen=True)
class Claims:
    """What a 95% interval of a difference allows to say, first less second.

    Each claim is a one-sided test at 2.5%; equivalence is two of them.
    """

    is_superior: bool
    is_non_inferior: bool
    is_equivalent: bool

    def __str__(self) -> str:
        """``superior``, ``non-inferior, equivalent``, or ``not shown``."""
        best = "superior" if self.is_superior else "non-inferior" if self.is_non_inferior else ""
        words = [best, "equivalent" if self.is_equivalent else ""]
        return ", ".join(word for word in words if word) or "not shown"


def claims_of(low: float, high: float, margin: float) -> Claims:
    """What the interval from ``low`` to ``high`` shows; nothing where it is NaN.

    Args:
        low: Of first less second, in a figure of which more is better.
        high: The other end.
        margin: The largest difference that does not matter; above 0.

    Reference:
        Schuirmann 1987 (two one-sided tests); ICH E9, section 3.3.2 (non-inferiority by the lower
        end of the interval).

    Examples:
        >>> print(claims_of(-0.02, 0.06, margin=0.05))
        non-inferior
        >>> print(claims_of(-0.02, 0.03, margin=0.05))
        non-inferior, equivalent
        >>> print(claims_of(0.01, 0.03, margin=0.05))
        superior, equivalent
        >>> print(claims_of(-0.08, 0.03, margin=0.05))
        not shown
    """
    is_there = not (math.isnan(low) or math.isnan(high))
    return Claims(
        is_superior=is_there and low > 0,
        is_non_inferior=is_there and low > -margin,
        is_equivalent=is_there and -margin < low and high < margin,
    )


def require_margin(margin: float | None) -> None:
    """Refuse what is no margin; None is none.

    Raises:
        ConfigError: It is not above 0, or not below 1.
    """
    if margin is not None and not 0 < margin < 1:
        raise illegal("--margin", margin, "a number in (0, 1)")
