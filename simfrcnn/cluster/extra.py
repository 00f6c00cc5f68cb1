"""The library of the extra ``slurm``, loaded when jobs are submitted."""

from __future__ import annotations

import importlib
import shutil
from typing import Any

from simfrcnn.cluster.settings import Launcher
from simfrcnn.errors import ConfigError

_PROGRAMS = ("sbatch", "squeue", "scontrol", "srun")


def import_submitit() -> Any:
    """The library.

    Raises:
        ConfigError: It is not installed; names the extra.
    """
    try:
        return importlib.import_module("submitit")
    except ModuleNotFoundError as error:
        if error.name != "submitit":
            raise
        raise ConfigError(
            "--launcher needs submitit, which is not installed: pip install 'simfrcnn[slurm]'"
        ) from error


def require_launcher(launcher: Launcher) -> None:
    """Refuse a launcher that cannot work here.

    Raises:
        ConfigError: submitit or a program of Slurm is missing; says which.
    """
    import_submitit()
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if launcher == "slurm" and missing:
        raise ConfigError(
            f"--launcher slurm: {', '.join(missing)} cannot be found. Start it where jobs are "
            "submitted, such as the login node of the cluster, or take --launcher local"
        )
