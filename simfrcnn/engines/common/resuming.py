"""How do an optimiser and its schedule go on where a checkpoint left them?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from simfrcnn.errors import CheckpointError


def restore_optimizer(
    optimizer: Optimizer,
    scheduler: LambdaLR,
    state: Mapping[str, Any],
    *,
    steps_done: int,
    path: Path,
) -> None:
    """Load the optimiser's state; take learning rate and schedule from the config, at this step.

    Args:
        optimizer: New, from the recipe.
        scheduler: New, from the recipe, on that optimiser.
        state: The optimiser's ``state_dict`` in the checkpoint.
        steps_done: Where the schedule stands.
        path: The checkpoint, for the message.

    Raises:
        CheckpointError: The state is another kind of optimiser's, or of other parameters.
    """
    own, saved = optimizer.state_dict()["param_groups"], state["param_groups"]
    # PyTorch itself loads the state of Adam into SGD, and fails at the next step.
    if [_shape_of(group) for group in own] != [_shape_of(group) for group in saved]:
        raise CheckpointError(
            f"{path} holds the state of another optimiser or of other trained parameters; was "
            "SOLVER.OPTIMIZER or MODEL.BACKBONE.FREEZE_AT changed? A training with other settings "
            "starts anew, with MODEL.WEIGHTS set to that file"
        )
    base_rates = list(scheduler.base_lrs)
    optimizer.load_state_dict(dict(state))
    scheduler.load_state_dict(
        {"last_epoch": steps_done, "_step_count": steps_done + 1, "lr_lambdas": [None]}
    )
    factor = scheduler.lr_lambdas[0](steps_done)
    for group, base in zip(optimizer.param_groups, base_rates, strict=True):
        group["initial_lr"] = base
        group["lr"] = base * factor
    scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


def _shape_of(group: Mapping[str, Any]) -> tuple[frozenset[str], int]:
    return frozenset(group), len(group["params"])
