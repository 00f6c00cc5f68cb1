"""Which squares of earlier steps are learnt from again?

A step of the detector sees a few images only; squares of so few are a poor batch. So the squares
of the last steps are kept, and each step fills its batch up with some of them, drawn evenly: one
half of the batch from positive images, one half from the others.

Shapes: n squares, S their side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Memory:
    """The last squares of each of the two sides, in 8 bits, on the CPU."""

    def __init__(self, capacity: int, size: int) -> None:
        """Nothing is remembered yet.

        Args:
            capacity: Squares of each side that are kept; 0 keeps none.
            size: S.
        """
        self.capacity = capacity
        self.size = size
        self._squares = {side: torch.zeros(0, size, size, dtype=torch.uint8) for side in _SIDES}
        self._labels = {side: torch.zeros(0, dtype=torch.int64) for side in _SIDES}
        self._weights = {side: torch.zeros(0) for side in _SIDES}

    def add(
        self,
        squares: Tensor,
        labels: Tensor,
        is_of_positive: Tensor,
        weights: Tensor | None = None,
    ) -> None:
        """Remember squares (n, S, S) in grey levels, their labels, sides and weights (n,) each;
        None is a weight of 1.
        """
        if not self.capacity:
            return
        weights = torch.ones(len(squares)) if weights is None else weights
        in_8_bits = squares.round().clamp(0, 255).to(torch.uint8)
        for side in _SIDES:
            own = is_of_positive == side
            kept = torch.cat([self._squares[side], in_8_bits[own]])
            self._squares[side] = kept[-self.capacity :]
            self._labels[side] = torch.cat([self._labels[side], labels[own]])[-self.capacity :]
            self._weights[side] = torch.cat([self._weights[side], weights[own]])[-self.capacity :]

    def drawn(self, n: int, *, is_of_positive: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Squares (n, S, S), labels (n,) and weights (n,) of one side, each once; fewer where there
        are fewer.
        """
        labels, weights = self._labels[is_of_positive], self._weights[is_of_positive]
        chosen = torch.randperm(len(labels))[: max(n, 0)]
        return self._squares[is_of_positive][chosen].float(), labels[chosen], weights[chosen]

    def state_dict(self) -> dict[str, Any]:
        """What going on exactly needs; weights only where one is not 1."""
        state: dict[str, Any] = {}
        for side in _SIDES:
            state[_NAMES[side]] = {"squares": self._squares[side], "labels": self._labels[side]}
            if (self._weights[side] != 1).any():
                state[_NAMES[side]]["weights"] = self._weights[side]
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what was remembered; squares of another size, or none, leave nothing."""
        for side in _SIDES:
            of_side = state.get(_NAMES[side])
            if of_side is not None and of_side["squares"].shape[-1] == self.size:
                self._squares[side] = of_side["squares"][-self.capacity :][: self.capacity]
                self._labels[side] = of_side["labels"][-self.capacity :][: self.capacity]
                weights = of_side.get("weights", torch.ones(len(of_side["labels"])))
                self._weights[side] = weights[-self.capacity :][: self.capacity]


_SIDES = (True, False)
_NAMES = {True: "positive", False: "other"}
