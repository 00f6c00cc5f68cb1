"""How does a training, a ladder or a prediction become jobs, of a cluster or of this machine?"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from simfrcnn.cluster.extra import require_launcher
from simfrcnn.cluster.jobs import Job, JobsFailedError, run_jobs, submitted_before
from simfrcnn.cluster.settings import Launcher, LauncherOptions, read_cluster
from simfrcnn.config import load_config, name_of_config, stored_keys
from simfrcnn.data import catalog
from simfrcnn.data.pseudonyms import merge_id_maps
from simfrcnn.described import described
from simfrcnn.engines.common.run_folder import MANIFEST
from simfrcnn.engines.contract import Engine
from simfrcnn.errors import ConfigError, OutputError, SimFrcnnError
from simfrcnn.files import require_new_or_empty, sha256_of, write_text
from simfrcnn.wording import counted
from simfrcnn.workflows.identities import PrivacyOptions, identities, note_of_new_key
from simfrcnn.workflows.predict import Summary
from simfrcnn.workflows.predict_job import JobOptions, check_kinds
from simfrcnn.workflows.prediction_folder import INDEX
from simfrcnn.workflows.prediction_shards import merge, summary_of, update
from simfrcnn.workflows.training import Processes, checked_training, weights_of
from simfrcnn.zoo import find_model

logger = logging.getLogger("simfrcnn")

SIMFRCNN = (sys.executable, "-m", "simfrcnn")
_LISTS_FAILURES = 3
"""Exit code of a prediction that could not read all files: they are listed in its output."""


@dataclass(frozen=True)
class ShardOptions(LauncherOptions):
    """How a prediction becomes jobs."""

    shards: int = described(
        4, "with --launcher: jobs that share the studies", metavar="N", legal="[1, inf)"
    )


def jobs_folder(output: Path) -> Path:
    """Where what was submitted for an output, and its logs, lie: beside it."""
    output = output.absolute()
    return output.with_name(f"{output.name}.jobs")


def launch(
    jobs: Sequence[Job],
    output: Path,
    options: LauncherOptions,
    *,
    at_a_time: int | None = None,
    skips_done: bool = True,
) -> dict[str, str]:
    """Submit and follow the jobs of an output; those that failed, and why.

    Raises:
        SimFrcnnError: See :func:`simfrcnn.cluster.jobs.run_jobs`; or no launcher is named.
    """
    launcher = _launcher_of(options)
    settings = read_cluster(options.cluster)
    if at_a_time is not None:
        settings = replace(settings, at_a_time=at_a_time)
    folder = jobs_folder(output)
    return run_jobs(jobs, folder, launcher, settings, say=logger.info, skips_done=skips_done)


def _launcher_of(options: LauncherOptions) -> Launcher:
    if options.launcher is None:
        raise ConfigError("--cluster and --shards go with --launcher slurm or --launcher local")
    require_launcher(options.launcher)
    return options.launcher


def train_as_job(
    config: str | Path,
    options: LauncherOptions,
    *,
    datasets: Sequence[str] = (),
    overrides: Sequence[str] = (),
    engine: str = "auto",
    resume: bool = False,
    processes: Processes | None = None,
) -> Path:
    """Train and test as :func:`simfrcnn.workflows.training.train` does, as one job.

    What would fail after hours is refused here, before anything is submitted. When its time is over
    or another job takes its place, the job saves, is queued again, and ends in the weights of one
    that was not interrupted. The job reads a copy of the config as it is now, beside its logs.

    Args:
        config: As for ``train``.
        options: The launcher.
        datasets: ``NAME=PATH`` words.
        overrides: Config keys to change, ``KEY VALUE ...``.
        engine: As for ``train``.
        resume: Go on from a checkpoint that another training has left: one without jobs, or of
            another config or other annotation files.
        processes: As for ``train``.

    Returns:
        The checkpoint that counts.

    Raises:
        SimFrcnnError: As for ``train``; or the job failed, with its log.
    """
    processes = processes or Processes()
    launcher = _launcher_of(options)
    chosen, cfg = checked_training(
        *(config, datasets, overrides, engine, processes), runs_here=launcher == "local"
    )
    folder = Path(cfg.OUTPUT_DIR)
    name = Path(name_of_config(config)).stem  # a report of the job names this file
    frozen = _copy_of(chosen, cfg, jobs_folder(folder), name)
    words = [*SIMFRCNN, "train-net", "--engine", chosen.NAME, "--config-file", str(frozen)]
    words += ["--resume", *processes.words()]
    job = Job(f"train {folder.name}", tuple(words), _hash_of(*_annotations(cfg)))
    before = submitted_before(jobs_folder(folder)).get(job.name)
    is_same = before is not None and before.digest == job.digest
    there = weights_of(folder)
    if there.exists() and not resume and not is_same:
        raise OutputError(
            f"OUTPUT_DIR {folder} holds a run already ({there.name}), and not of a job with this "
            "config and these annotation files; go on with --resume, or give another OUTPUT_DIR"
        )
    if not frozen.exists():
        write_text(frozen, cfg.dump())
    _require_success(launch([job], folder, options, skips_done=_is_trained(folder)))
    return weights_of(folder)


def _copy_of(engine: Engine, cfg: Any, jobs: Path, name: str) -> Path:
    """The copy of a config that its job reads: one that means the same, or a new name.

    A copy of an older version lacks the keys that are new since. Were it not recognised, an upgrade
    would make another job of each.
    """
    text: str = cfg.dump()
    exact = jobs / f"config_{_hash_of(text)}_{name}.yaml"
    if exact.exists():
        return exact
    for copy in sorted(jobs.glob(f"config_{'[0-9a-f]' * 16}_{glob.escape(name)}.yaml")):
        with contextlib.suppress(SimFrcnnError, yaml.YAMLError, ValueError, AttributeError):
            keys = stored_keys(copy, copy.read_text(encoding="utf-8"))  # torn, or of old keys
            if load_config(engine.default_cfg(), None, overlay=keys).dump() == text:
                return copy
    return exact


def _annotations(cfg: Any) -> list[str]:
    """The hashes of the annotation files that a training reads."""
    files = catalog.parse_files(cfg.DATASETS.FILES)
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL, *cfg.DATASETS.TEST)
    return [sha256_of(catalog.resolve(name, files)) for name in names]


def _hash_of(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _is_trained(folder: Path) -> bool:
    """Whether the model that a training was to make is there, by the run folder itself."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest.get("finished")) and weights_of(folder).exists()
    return False


def predict_as_jobs(
    folder: Path,
    weights: str,
    output: Path,
    options: JobOptions,
    privacy: PrivacyOptions,
    launcher: ShardOptions,
    *,
    overrides: Sequence[str] = (),
) -> Summary:
    """Judge a folder as :func:`simfrcnn.workflows.predict_job.predict_folder` does, as shards.

    The shards lie in ``OUTPUT.jobs``, and are put together in ``output`` when all are done. The
    same again judges what is new in the folder, or has failed, as ``predict`` does; where the
    shards were deleted after that, nothing is judged.

    Args:
        folder: Images, in sub-folders too.
        weights: A checkpoint, or the name of a model that comes with simfrcnn.
        output: A new or empty folder, or that of these jobs.
        options: How they are judged; not ``shard``.
        privacy: Whether identifiers leave as pseudonyms. Each shard has an id map of its own; the
            one that is asked for holds them all in the end.
        launcher: The launcher, and how many shards.
        overrides: Config keys to change.

    Raises:
        SimFrcnnError: Options or input are not fit, or a job failed, with its log.
    """
    if options.shard is not None:
        raise ConfigError("--launcher makes the shards itself: leave out --shard")
    if not folder.exists():
        raise ConfigError(f"{folder} does not exist; give a folder of images")
    check_kinds(options, privacy)
    is_merged = (output / INDEX).exists()
    if not is_merged:
        require_new_or_empty(output)  # known before hours of judging, not after
    names = identities(privacy, "predict", output)
    for line in note_of_new_key(names):
        logger.info(line)  # the key is there before several jobs would make one each
    identity = _hash_of(*map(sha256_of, filter(None, [find_model(weights), options.config_file])))
    parts: list[Path] = []
    maps: list[Path] = []
    jobs: list[Job] = []
    for number in range(1, launcher.shards + 1):
        name = f"shard_{number}_of_{launcher.shards}"
        parts.append(jobs_folder(output) / name)
        own = replace(options, shard=f"{number}/{launcher.shards}")
        own_privacy = _with_own_map(privacy, name)
        if own_names := identities(own_privacy, "predict", parts[-1]):
            maps.append(own_names.id_map)
        words = [*SIMFRCNN, "predict", str(folder), "--weights", weights]
        words += ["--output", str(parts[-1]), *own.words(), *own_privacy.words()]
        for key, value in zip(overrides[::2], overrides[1::2], strict=True):
            words += ["--set", key, value]
        jobs.append(Job(name, tuple(words), identity, good_codes=(0, _LISTS_FAILURES)))
    if is_merged and not any(part.exists() for part in parts):
        return _summary_without_shards(output, jobs)
    _require_success(launch(jobs, output, launcher, skips_done=False))
    summary = update(parts, output) if is_merged else merge(parts, output)
    if names is not None:
        merge_id_maps(names.id_map, maps, names.pseudonyms)
        logger.info(f"what the pseudonyms stand for, for your eyes only: {names.id_map}")
    return summary


def _summary_without_shards(output: Path, jobs: Sequence[Job]) -> Summary:
    """That of a prediction that was put together, and whose shards were deleted then."""
    before = submitted_before(jobs_folder(output))
    if any(job.name not in before or before[job.name].digest != job.digest for job in jobs):
        raise OutputError(
            f"{output} holds a prediction already, and not by shards of these options: go on with "
            "it without --launcher, or give another --output"
        )
    logger.info("the shards were deleted: nothing is judged; without --launcher, new studies are")
    return summary_of(output)


def _with_own_map(privacy: PrivacyOptions, shard: str) -> PrivacyOptions:
    """Two jobs must not write one id map at the same time."""
    path = privacy.id_map
    if path is None:
        return privacy
    return replace(privacy, id_map=path.with_name(f"{path.stem}.{shard}{path.suffix}"))


def _require_success(failures: dict[str, str]) -> None:
    if failures:
        listed = "; ".join(f"{name}: {why}" for name, why in failures.items())
        raise JobsFailedError(
            f"{counted(len(failures), '[job|jobs]')} failed; the same command again goes on with "
            f"what is left. {listed}"
        )
