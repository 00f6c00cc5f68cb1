"""How does a training, a ladder or a prediction become jobs, of a cluster or of this machine?"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simfrcnn.cluster.jobs import RECORD, Job, JobsFailedError, run_jobs
from simfrcnn.cluster.settings import LauncherOptions, read_cluster
from simfrcnn.described import described
from simfrcnn.engines.common.checkpoints import LAST
from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.files import sha256_of
from simfrcnn.wording import counted
from simfrcnn.workflows.identities import PrivacyOptions, identities, note_of_new_key
from simfrcnn.workflows.predict import Summary, merge, summary_of
from simfrcnn.workflows.predict_job import JobOptions, check_kinds
from simfrcnn.workflows.prediction_folder import INDEX, require_shards
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
    if options.launcher is None:
        raise ConfigError("--cluster and --shards go with --launcher slurm or --launcher local")
    settings = read_cluster(options.cluster)
    if at_a_time is not None:
        settings = replace(settings, at_a_time=at_a_time)
    folder = jobs_folder(output)
    return run_jobs(
        jobs, folder, options.launcher, settings, say=logger.info, skips_done=skips_done
    )


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
    that was not interrupted.

    Args:
        config: As for ``train``.
        options: The launcher.
        datasets: ``NAME=PATH`` words.
        overrides: Config keys to change, ``KEY VALUE ...``.
        engine: As for ``train``.
        resume: Go on from a checkpoint that an earlier training without jobs has left.
        processes: As for ``train``.

    Returns:
        The checkpoint that counts.

    Raises:
        SimFrcnnError: As for ``train``; or the job failed, with its log.
    """
    processes = processes or Processes()
    chosen, cfg = checked_training(
        *(config, datasets, overrides, engine, processes),
        runs_here=options.launcher == "local",
    )
    folder = Path(cfg.OUTPUT_DIR)
    if (folder / LAST).exists() and not resume and not (jobs_folder(folder) / RECORD).exists():
        raise OutputError(
            f"OUTPUT_DIR {folder} holds a run already ({LAST}); go on with --resume, or give "
            "another OUTPUT_DIR"
        )
    words = [*SIMFRCNN, "train-net", "--engine", chosen.NAME, "--config-file", str(config)]
    words += ["--resume", *processes.words()]
    words += [word for dataset in datasets for word in ("--dataset", dataset)]
    identity = hashlib.sha256(cfg.dump().encode()).hexdigest()
    job = Job(f"train {folder.name}", (*words, *overrides), identity)
    _require_success(launch([job], folder, options))
    return weights_of(folder)


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

    The shards lie in ``OUTPUT.jobs``, and are put together in ``output`` when all are done.

    Args:
        folder: Images, in sub-folders too.
        weights: A checkpoint, or the name of a model that comes with simfrcnn.
        output: A new or empty folder, or that of these jobs.
        options: How they are judged; not ``shard``.
        privacy: Whether identifiers leave as pseudonyms. Each shard has an id map of its own.
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
    for line in note_of_new_key(identities(privacy, "predict", output)):
        logger.info(line)  # the key is there before several jobs would make one each
    model = find_model(weights)
    parts: list[Path] = []
    jobs: list[Job] = []
    for number in range(1, launcher.shards + 1):
        name = f"shard_{number}_of_{launcher.shards}"
        parts.append(jobs_folder(output) / name)
        own = replace(options, shard=f"{number}/{launcher.shards}")
        words = [*SIMFRCNN, "predict", str(folder), "--weights", weights]
        words += ["--output", str(parts[-1]), *own.words(), *_with_own_map(privacy, name).words()]
        for key, value in zip(overrides[::2], overrides[1::2], strict=True):
            words += ["--set", key, value]
        jobs.append(Job(name, tuple(words), sha256_of(model), good_codes=(0, _LISTS_FAILURES)))
    _require_success(launch(jobs, output, launcher))
    if not (output / INDEX).exists():
        return merge(parts, output)
    return summary_of(output, require_shards(parts))


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
