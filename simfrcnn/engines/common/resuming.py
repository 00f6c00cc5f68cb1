"""How does a training go on where a checkpoint left it?"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from simfrcnn.engines.common.best import BestSoFar
from simfrcnn.engines.common.checkpoints import (
    BEST,
    Description,
    Identity,
    load_model_strictly,
    read_checkpoint,
    save_checkpoint,
)
from simfrcnn.engines.common.teacher import Teacher
from simfrcnn.errors import CheckpointError
from simfrcnn.sampling.replay import NormalReplay
from simfrcnn.second_look.memory import Memory

logger = logging.getLogger("simfrcnn")


@dataclass(frozen=True)
class Resumable:
    """All that a step changes: what a checkpoint must hold to go on exactly.

    Random generators are not in it: each step seeds them again (see ``training.recipe``).
    """

    model: nn.Module
    optimizer: Optimizer
    scheduler: LambdaLR
    best: BestSoFar
    scaler: GradScaler | None = None
    replay: NormalReplay | None = None

    def save(
        self,
        path: Path,
        identity: Identity,
        *,
        steps_done: int,
        description: Description | None = None,
    ) -> None:
        """Write a checkpoint from which :meth:`load` goes on, atomically."""
        training = {
            "step": steps_done,
            "optimizer": self.optimizer.state_dict(),
            "best": self.best.state_dict(),
            "grad_scaler": self.scaler.state_dict() if self.scaler else {},
            "replay": self.replay.state_dict() if self.replay else {},
            "second_look": self._memory.state_dict() if self._memory else {},
            "teacher": self._teacher.state_dict() if self._teacher else {},
        }
        if self.tested is not self.model:
            training["student"] = self.model.state_dict()
        save_checkpoint(path, self.tested, identity, training, description)

    def load(self, path: Path, identity: Identity) -> int:
        """Take everything from a checkpoint; return how many steps it has behind it.

        The optimiser's options, learning rate and schedule are the config's, and so is whether
        precision is mixed. A best so far is known only if the best checkpoint beside ``path`` is
        of it.

        Raises:
            CheckpointError: Of another engine, architecture or optimiser, damaged, or without what
                resuming needs.
            ConfigError: The best checkpoint beside it was chosen by another figure.
        """
        content = read_checkpoint(path, identity)
        state = content["training"]
        if not isinstance(state, Mapping) or "optimizer" not in state:
            raise CheckpointError(
                f"{path} holds weights, but nothing to go on from; start a new training with "
                "MODEL.WEIGHTS set to that file"
            )
        load_model_strictly(self.model, state.get("student", content["model"]), path)
        steps_done = int(state["step"])
        restore_optimizer(
            self.optimizer, self.scheduler, state["optimizer"], steps_done=steps_done, path=path
        )
        self.best.go_on_from(state["best"], path.with_name(BEST))
        if self.scaler and state.get("grad_scaler"):
            self.scaler.load_state_dict(state["grad_scaler"])
        if self.replay:
            self.replay.load_state_dict(state.get("replay", {}), source=str(path))
        if self._memory:
            self._memory.load_state_dict(state.get("second_look", {}))
        if self._teacher:
            self._go_on_teaching(state.get("teacher", {}), steps_done, path)
        return steps_done

    @property
    def tested(self) -> nn.Module:
        """The network that is validated, and that others find in the checkpoint: the model, or its
        teacher (``MODEL.SIMFRCNN.LABELS.TEACHER.TESTED``).
        """
        return self._teacher.tested(self.model) if self._teacher else self.model

    def _go_on_teaching(self, state: Mapping[str, Any], steps_done: int, path: Path) -> None:
        assert self._teacher is not None
        if state:
            self._teacher.load_state_dict(state)
            return
        logger.warning(
            f"{path} has no teacher (MODEL.SIMFRCNN.LABELS.TEACHER): it begins as a copy of the "
            f"model after step {steps_done}"
        )
        self._teacher.copy_of(self.model, steps_done)

    @property
    def _teacher(self) -> Teacher | None:
        """What boxes labelled images."""
        teacher: Teacher | None = getattr(self.model, "teacher", None)
        return teacher

    @property
    def _memory(self) -> Memory | None:
        """What the second look remembers of earlier steps."""
        second_look = getattr(self.model, "second_look", None)
        return None if second_look is None else second_look.memory


def restore_optimizer(
    optimizer: Optimizer,
    scheduler: LambdaLR,
    state: Mapping[str, Any],
    *,
    steps_done: int,
    path: Path,
) -> None:
    """Load the optimiser's state; its options and the schedule, at this step, are the config's.

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
            "SOLVER.OPTIMIZER, SOLVER.LOW_STAGES_LR_FACTOR, MODEL.BACKBONE.FREEZE_AT, "
            "MODEL.SIMFRCNN.RES5_TRAINED_CONVS or MODEL.SECOND_LOOK changed? A training with other "
            "settings starts over, with MODEL.WEIGHTS set to that file"
        )
    base_rates = list(scheduler.base_lrs)
    # PyTorch would take weight decay, momentum and the like from the checkpoint.
    groups = [{**mine, "params": theirs["params"]} for mine, theirs in zip(own, saved, strict=True)]
    optimizer.load_state_dict({**state, "param_groups": groups})
    _lay_out_as_parameters(optimizer)
    scheduler.load_state_dict(
        {"last_epoch": steps_done, "_step_count": steps_done + 1, "lr_lambdas": [None]}
    )
    factor = scheduler.lr_lambdas[0](steps_done)
    for group, base in zip(optimizer.param_groups, base_rates, strict=True):
        group["initial_lr"] = base
        group["lr"] = base * factor
    scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


def _lay_out_as_parameters(optimizer: Optimizer) -> None:
    """Give every tensor of the state the memory layout of its parameter.

    A checkpoint of another version, precision or device may have another one, and a fused optimiser
    on a CPU takes both for alike without looking: it would make wrong steps in silence.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _shape_of(group: Mapping[str, Any]) -> tuple[frozenset[str], int]:
    return frozenset(group), len(group["params"])
