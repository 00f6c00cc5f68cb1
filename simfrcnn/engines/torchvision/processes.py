"""How do several processes train one model? ``torchrun`` starts them; here they find each other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those of the run."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this one writes files."""
        return self.rank == 0

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model whose gradients are averaged over all processes."""
        if self.world_size == 1:
            return model
        device_ids = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=device_ids)

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.world_size > 1:
            distributed.barrier()

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a vector over all processes."""
        if self.world_size > 1:
            distributed.all_reduce(values)
        return values / self.world_size

    def gather(self, part: Sequence[T]) -> list[T]:
        """The parts of all processes, by rank, in every process."""
        if self.world_size == 1:
            return list(part)
        parts: list[Any] = [None] * self.world_size
        distributed.all_gather_object(parts, list(part))
        return [item for one in parts for item in one]


@contextlib.contextmanager
def joined_processes(cfg: Any) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started: NCCL on GPUs, gloo on CPUs; or be alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    on_gpu = str(cfg.MODEL.DEVICE).startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
