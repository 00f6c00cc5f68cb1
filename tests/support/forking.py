"""Processes that begin with what this one has imported: a second import of torch takes seconds."""

from __future__ import annotations

from functools import partial

from torch import multiprocessing


def fork_processes() -> None:
    """Let ``torch.multiprocessing``, by which Detectron2 launches, fork where it would spawn."""
    forking = partial(multiprocessing.start_processes, start_method="fork")
    multiprocessing.start_processes = forking
