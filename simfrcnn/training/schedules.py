"""How does a weight rise in the course of a training?"""

from __future__ import annotations


def rising(step: int, *, start: float, decay: float, period: int) -> float:
    """A factor that begins at ``start`` and comes nearer to 1 after every period.

    Args:
        step: Counted from 0.
        start: In (0, 1]; 1 is the constant 1.
        decay: What is left of the distance to 1 after a period.
        period: In steps.

    Returns:
        1 - (1 - start) * decay ** floor(step / period).

    Reference:
        Shin 2019, whose code has start .01, decay .9 and period 2,000 for 60,000 steps.

    Example:
        >>> [round(rising(step, start=0.01, decay=0.9, period=2000), 3) for step in (0, 20000)]
        [0.01, 0.655]
    """
    return 1 - (1 - start) * decay ** (step // period)
