"""Where do jobs run, and what does each of them ask for? One YAML file says it.

Such a file::

    partition: gpu
    time_min: 480          # of one go: a job that needs longer is queued again and goes on
    gpus: 1
    cpus: 8
    memory_gb: 48
    setup: [module load cuda]
    extra: {account: breast, constraint: a100}   # further options of sbatch
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from simfrcnn.described import Described, Options, described, descriptions, made
from simfrcnn.errors import ConfigError
from simfrcnn.registry import require_known
from simfrcnn.yaml_text import parsed

Launcher = Literal["slurm", "local"]
LAUNCHERS: tuple[Launcher, ...] = ("slurm", "local")


@dataclass(frozen=True)
class LauncherOptions(Options):
    """Whether long work becomes jobs, and what they ask for."""

    launcher: Launcher | None = described(
        None,
        "run as jobs of a Slurm cluster, or as background processes of this machine by the same "
        "means (docs/scale.md); the same command again goes on with them",
        choices=LAUNCHERS,
    )
    cluster: Path | None = described(
        None,
        "with --launcher: a YAML file of what a job asks for (partition, time_min, gpus, cpus, "
        "memory_gb, setup, extra)",
        metavar="FILE",
        parse=Path,
    )


@dataclass(frozen=True)
class ClusterSettings(Described):
    """What one job asks for.

    ``extra`` are further options of sbatch, name -> value. ``poll_s`` is how often the states of
    the jobs are asked for.
    """

    partition: str | None = described(None, "of Slurm")
    time_min: int = described(240, "minutes of one go, on Slurm", legal="[1, inf)")
    gpus: int = described(0, "of one job", legal="[0, inf)")
    cpus: int = described(1, "of one job", legal="[1, inf)")
    memory_gb: float | None = described(None, "of one job", legal="(0, inf)")
    grace_s: int = described(
        120, "seconds before the end of its time at which a job saves", legal="[5, inf)"
    )
    at_a_time: int | None = described(
        None, "jobs that run at a time; none: all on Slurm, one here", legal="[1, inf)"
    )
    poll_s: float = described(10.0, "seconds", legal="(0, inf)")
    setup: tuple[str, ...] = described((), "shell commands before each job")
    extra: Mapping[str, Any] | None = described(None, "further options of sbatch")

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            ConfigError: A value is not legal.
        """
        super().__post_init__()
        if self.extra is not None and not isinstance(self.extra, Mapping):
            raise ConfigError(
                f"extra is {self.extra!r}; legal are options of sbatch with their values, such as "
                "{account: NAME}"
            )
        if self.grace_s >= 60 * self.time_min:
            raise ConfigError(
                f"grace_s is {self.grace_s}, but a job has {self.time_min} min: give less, so that "
                "it can do something before it saves"
            )


def read_cluster(path: Path | None) -> ClusterSettings:
    """The settings of a file, or the default ones.

    Raises:
        ConfigError: The file cannot be read, or a key or value in it is not legal; names it.
    """
    if path is None:
        return ClusterSettings()
    try:
        text = path.read_text(encoding="utf-8")
        content, written = parsed(text, path), parsed(text, path, texts=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: give KEY: VALUE lines, such as partition: gpu")
    try:
        require_known("a key", map(str, content), [e.name for e in descriptions(ClusterSettings)])
        return made(ClusterSettings, {**content, **_texts(content, written)})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _texts(content: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """What Slurm is given as it is written: to YAML, the account 0123 is the number 83.

    ``true`` and ``false`` stay what they are: options of sbatch without a value.
    """
    texts = {}
    if content.get("partition") is not None:
        texts["partition"] = written["partition"]
    if isinstance(content.get("extra"), Mapping):
        flags = {"true": True, "false": False}
        texts["extra"] = {
            key: flags.get(value, value) if isinstance(value, str) else value
            for key, value in written["extra"].items()
        }
    return texts
