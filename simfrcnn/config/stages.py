"""How is the config of a job of two trainings read?

A job file is YAML: ``STAGE1`` and ``STAGE2`` name a config each, relative to the file or as
``simfrcnn:NAME``;
``OUTPUT_DIR`` is the folder of the job, of which each stage gets a part. Every other key is a
config key, set in both stages. On the command line, KEY VALUE goes over both stages too, and
``STAGE1.KEY VALUE`` over one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simfrcnn.config.loading import FileKey, load_config, override_pairs, read_keys
from simfrcnn.config.shipped import named_in
from simfrcnn.errors import ConfigError

STAGES = ("STAGE1", "STAGE2")
_FOLDER_KEY = "OUTPUT_DIR"


@dataclass(frozen=True)
class StageConfigs:
    """A job file with the overrides of the command line.

    ``config_files`` by stage; ``shared`` are the keys that the file sets in both stages;
    ``overrides`` by stage are KEY VALUE words.
    """

    path: Path
    folder: Path
    config_files: dict[str, Path]
    shared: tuple[FileKey, ...]
    overrides: dict[str, tuple[str, ...]]

    def config_of(self, stage: str, cfg: Any) -> Any:
        """The resolved config of a stage: checked, frozen, with a run folder of its own.

        Args:
            stage: One of :data:`STAGES`.
            cfg: The engine's tree of defaults; it is changed and returned.

        Raises:
            ConfigError: As :func:`~simfrcnn.config.load_config`.
        """
        words = [*self.overrides[stage], _FOLDER_KEY, str(self.folder / stage.lower())]
        return load_config(cfg, self.config_files[stage], words, overlay=self.shared)


def names_stages(config_file: Path) -> bool:
    """Whether a YAML file is a job's, and not a model's config."""
    return any(entry.key in STAGES for entry in read_keys(config_file))


def read_stages(config_file: Path, overrides: Sequence[str] = ()) -> StageConfigs:
    """Read a job file.

    Raises:
        ConfigError: A missing or malformed file, a stage without a config, no folder, or overrides
            that are not pairs.
    """
    entries = read_keys(config_file)
    pairs = override_pairs(overrides)
    folder = _last(entries, _FOLDER_KEY)
    folders = [str(folder.value)] if folder else []
    folders += [value for key, value in pairs if key == _FOLDER_KEY]
    if not folders:
        raise ConfigError(f"{config_file} has no OUTPUT_DIR: name the folder of the job")
    return StageConfigs(
        path=config_file,
        folder=Path(folders[-1]),
        config_files={stage: _config_file(config_file, entries, stage) for stage in STAGES},
        shared=tuple(entry for entry in entries if entry.key not in (*STAGES, _FOLDER_KEY)),
        overrides={stage: _of_stage(pairs, stage) for stage in STAGES},
    )


def _config_file(job: Path, entries: Sequence[FileKey], stage: str) -> Path:
    found = _last(entries, stage)
    if found is None or not isinstance(found.value, str):
        raise ConfigError(
            f"{job} has no {stage}: a job names the config of each stage, for instance {stage}: "
            f"{stage.lower()}.yaml, relative to itself"
        )
    return named_in(found.value, found.path)


def _of_stage(pairs: Sequence[tuple[str, str]], stage: str) -> tuple[str, ...]:
    """The words for one stage: those for both, and those for it alone, in their order."""
    words: list[str] = []
    for key, value in pairs:
        first, _, rest = key.partition(".")
        if first in STAGES and rest in ("", _FOLDER_KEY):
            raise ConfigError(
                f"{key} cannot be given on the command line: the config of a stage is named in the "
                f"job file, and its folder is a part of {_FOLDER_KEY}"
            )
        if first == stage:
            words += [rest, value]
        elif first not in STAGES and key != _FOLDER_KEY:
            words += [key, value]
    return tuple(words)


def _last(entries: Sequence[FileKey], key: str) -> FileKey | None:
    return next((entry for entry in reversed(entries) if entry.key == key), None)
