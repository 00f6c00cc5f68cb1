"""In which precision are losses computed?"""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision becomes float32, which sums of exponentials need; float64 stays as it is."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
