"""What does the user get when a loss is no longer finite?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simfrcnn.engines.common.checkpoints import LAST, Description, Identity, save_checkpoint
from simfrcnn.errors import TrainingError
from simfrcnn.structures import Sample


def not_finite(losses: Mapping[str, Tensor]) -> list[str]:
    """The names of the losses that are NaN or infinite."""
    return [name for name, loss in losses.items() if not bool(torch.isfinite(loss).all())]


def report_divergence(
    *,
    cause: str,
    step: int,
    samples: Sequence[Sample],
    losses: Mapping[str, float],
    model: nn.Module,
    identity: Identity,
    folder: Path,
    rank: int = 0,
    description: Description | None = None,
) -> TrainingError:
    """Save what is needed to look into a diverged step, and make the error that names it.

    Args:
        cause: What was not finite, such as ``loss_cls``.
        step: The step, counted from 0.
        samples: The batch.
        losses: What is known of the losses of this step.
        model: The weights before the step was taken are saved.
        identity: Of the model.
        folder: The run folder.
        rank: Of this process.
        description: Of the model before the step.

    Returns:
        The error to raise.
    """
    name = f"diverged_step{step:07d}" + (f"_process{rank}" if rank else "")
    path = folder / f"{name}.pth"
    images = [sample.record.file_name for sample in samples]
    evidence: dict[str, Any] = {
        "step": step,
        "cause": cause,
        "losses": {name: float(value) for name, value in losses.items()},
        "images": images,
        "inputs": [sample.image for sample in samples],
        "boxes": [sample.targets.boxes if sample.targets else None for sample in samples],
    }
    save_checkpoint(path, model, identity, evidence, description)
    way_on = (
        "The last checkpoint is from before this step: --resume goes on from it."
        if (folder / LAST).exists()
        else "There is no checkpoint to go on from yet: --resume starts at the beginning."
    )
    return TrainingError(
        f"step {step}: {cause} is not finite (NaN or infinite). Images of the step: "
        f"{', '.join(images)}. Weights, inputs and losses of the step are in {path}. Lower "
        f"SOLVER.BASE_LR or raise SOLVER.WARMUP_ITERS. {way_on}"
    )
