"""How does a config become a trained and tested model? What ``train-net`` and Python call."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simfrcnn.config import LAST_COUNTS, Overrides, load_config, name_of_config
from simfrcnn.data import catalog
from simfrcnn.described import Options, described
from simfrcnn.engines.common.checkpoints import BEST, LAST
from simfrcnn.engines.common.device import check_device
from simfrcnn.engines.contract import Engine, load_engine
from simfrcnn.errors import ConfigError
from simfrcnn.evaluation import operating
from simfrcnn.locks import working_in
from simfrcnn.training import recipe
from simfrcnn.workflows.phantoms import make_missing_phantoms
from simfrcnn.zoo import find_model

if TYPE_CHECKING:
    from simfrcnn.evaluation.operating import ChosenPoints
    from simfrcnn.evaluation.results import Report

logger = logging.getLogger("simfrcnn")

Datasets = Mapping[str, str | Path] | Sequence[str]
"""Name -> COCO file, or words ``NAME=PATH``."""


@dataclass(frozen=True)
class TrainedRun:
    """What a training or a test leaves behind.

    Attributes:
        engine: Which detection library was used.
        folder: The run folder, ``OUTPUT_DIR``.
        weights: The checkpoint that was tested; to be given to ``simfrcnn.load``.
        reports: By test set; empty without ``DATASETS.TEST``, and in all but the first process.
        operating_points: Chosen on ``DATASETS.VAL``; None without it.
    """

    engine: str
    folder: Path
    weights: Path
    reports: Mapping[str, Report]
    operating_points: ChosenPoints | None


@dataclass(frozen=True)
class Processes(Options):
    """In how many processes a training runs (Detectron2's launcher; torchrun says it itself)."""

    num_gpus: int = described(
        1,
        "processes on this machine (Detectron2; with MODEL.DEVICE cpu, CPU processes). The "
        "torchvision engine is started by torchrun instead",
    )
    num_machines: int = described(1, "of one training, as in Detectron2's launch")
    machine_rank: int = described(0, "which of them this is, as in Detectron2's launch")
    dist_url: str = described("auto", "as in Detectron2's launch")

    @property
    def is_main(self) -> bool:
        """False on all but the first machine, and in all but the first process of torchrun."""
        return self.machine_rank == 0 and os.environ.get("RANK", "0") == "0"


@catalog.reading_once()
def train(
    config: str | Path,
    *,
    datasets: Datasets = (),
    overrides: Overrides = (),
    engine: str = "auto",
    resume: bool = False,
    processes: Processes = Processes(),
    command: Sequence[str] | None = None,
) -> TrainedRun:
    """Train a detector, choose its operating points on ``DATASETS.VAL``, test it once.

    Everything goes into ``OUTPUT_DIR``. The checkpoint is one file: it holds the config, the
    classes, the operating points and a model card. Phantom data sets that the config names are made
    if they are missing.

    Args:
        config: A YAML file, or the name of a config of simfrcnn.
        datasets: COCO files for data set names of the config.
        overrides: Config keys to change.
        engine: ``detectron2``, ``torchvision``, or ``auto``: the first that is installed.
        resume: Go on from the last checkpoint of ``OUTPUT_DIR``, if there is one.
        processes: More than one process of Detectron2.
        command: The words of a command line, for the manifest.

    Raises:
        SimFrcnnError: Config, data, weights or folder are not fit, another run is at work in the
            folder, or a loss became NaN.
        TrainingInterrupted: A ``KeyboardInterrupt``: Ctrl-C or SIGTERM came, the step was finished
            and ``model_last.pth`` holds it; ``resume=True`` goes on.

    Example:
        One step on phantoms, which learns nothing:

        >>> import tempfile
        >>> from pathlib import Path
        >>> import simfrcnn
        >>> from simfrcnn.phantom.generate import generate
        >>> from simfrcnn.phantom.presets import PRESETS
        >>> folder = Path(tempfile.mkdtemp())
        >>> made = generate(PRESETS["tiny"], folder / "data", seed=0)
        >>> run = simfrcnn.train(
        ...     Path(simfrcnn.__file__).parent / "configs" / "smoke" / "sim_r18_fpn.yaml",
        ...     datasets={
        ...         f"phantom_tiny/{part}": folder / "data" / f"{part}.json"
        ...         for part in ("train", "val", "test")
        ...     },
        ...     overrides={"SOLVER.MAX_ITER": 1, "OUTPUT_DIR": str(folder / "run")},
        ...     engine="torchvision",
        ... )
        >>> run.weights.name
        'model_best.pth'
        >>> 0 <= run.reports["phantom_tiny/test"].figures["case/auc"].value <= 1
        True
    """
    chosen, cfg = checked_training(config, datasets, overrides, engine, processes)
    folder, trained_by = Path(cfg.OUTPUT_DIR), name_of_config(config)
    # One process of a run holds its folder, also where each is started by itself.
    with working_in(folder) if processes.is_main else contextlib.nullcontext():
        chosen.launch_training(
            cfg,
            resume=resume,
            num_gpus=processes.num_gpus,
            num_machines=processes.num_machines,
            machine_rank=processes.machine_rank,
            dist_url=processes.dist_url,
            command=command,
        )
        return _judged(chosen, cfg, weights_of(folder), processes, trained_by=trained_by)


@catalog.reading_once()
def judge(
    config: str | Path,
    *,
    weights: str | Path | None = None,
    datasets: Datasets = (),
    overrides: Overrides = (),
    engine: str = "auto",
) -> TrainedRun:
    """Choose operating points and test, as :func:`train` does, without training.

    Args:
        config: As for :func:`train`.
        weights: A checkpoint, or the name of a model that comes with simfrcnn; None takes that of
            ``OUTPUT_DIR``, the best or else the last; with ``TEST.BEST_BY`` ``last`` the last.
        datasets: As for :func:`train`.
        overrides: As for :func:`train`.
        engine: As for :func:`train`.

    Raises:
        SimFrcnnError: Config, data or weights are not fit, or a run is at work in the folder.
    """
    processes = Processes()
    chosen, cfg = checked_training(config, datasets, overrides, engine, processes, trains=False)
    folder = Path(cfg.OUTPUT_DIR)
    if weights is not None:
        path = find_model(weights)
    else:
        path = folder / LAST if cfg.TEST.BEST_BY == LAST_COUNTS else weights_of(folder)
    with working_in(folder):
        return _judged(chosen, cfg, path, processes)


def resolved_config(
    engine: Engine, config: str | Path, *, datasets: Datasets = (), overrides: Overrides = ()
) -> Any:
    """A config file with data sets and overrides, checked and frozen.

    Raises:
        ConfigError: See :func:`simfrcnn.config.load_config`; or ``DATASETS.FILES`` is given twice.
    """
    if isinstance(datasets, Mapping):
        datasets = [f"{name}={path}" for name, path in datasets.items()]
    files = tuple(datasets)
    cfg = engine.default_cfg()
    cfg.DATASETS.FILES = files
    cfg = load_config(cfg, config, overrides)
    if files and tuple(cfg.DATASETS.FILES) != files:
        raise ConfigError("give data set files by --dataset or by DATASETS.FILES, not by both")
    return cfg


def weights_of(folder: Path) -> Path:
    """The checkpoint of a run folder that counts: the best on VAL, or the last if there is none."""
    best = folder / BEST
    return best if best.exists() else folder / LAST


def checked_training(
    config: str | Path,
    datasets: Datasets,
    overrides: Overrides,
    name: str,
    processes: Processes,
    *,
    trains: bool = True,
    runs_here: bool = True,
) -> tuple[Engine, Any]:
    """Load engine and config, make phantoms, and refuse what would fail after hours of training.

    Raises:
        SimFrcnnError: Config or data are not fit.
    """
    engine = load_engine(name)
    logger.info(f"engine: {engine.NAME}")
    cfg = resolved_config(engine, config, datasets=datasets, overrides=overrides)
    if runs_here:
        check_device(cfg)
    if processes.is_main:
        _warn_of_unused(datasets, cfg)
        # Imported late: the metrics are of no use to the other processes, which wait for this one
        # when they join the group.
        from simfrcnn.workflows.testing import check_rules

        make_missing_phantoms(cfg)
        if not trains:
            cfg = _without_missing_train(cfg)
        recipe.check_patients_stay_apart(cfg)
        recipe.check_native_pixels(cfg)
        recipe.check_truth(cfg)
        check_rules(cfg)
    return engine, cfg


def _warn_of_unused(datasets: Datasets, cfg: Any) -> None:
    """Log which of the given files are not read, such as one whose name is misspelt."""
    sets = cfg.DATASETS
    used = (*sets.TRAIN, *sets.VAL, *sets.TEST)
    given = datasets if isinstance(datasets, Mapping) else catalog.parse_files(tuple(datasets))
    for name in given:
        if name not in used:
            near = difflib.get_close_matches(name, used, n=1)
            logger.warning(
                f"the file given for {name} is not read: DATASETS.TRAIN, VAL and TEST name "
                f"{', '.join(used) or 'no data set'}{f'; did you mean {near[0]}?' if near else ''}"
            )


def _without_missing_train(cfg: Any) -> Any:
    """The config without those training sets that are not here: a model is judged elsewhere too."""
    missing = catalog.missing(cfg.DATASETS.TRAIN, cfg.DATASETS.FILES)
    if not missing:
        return cfg
    logger.warning(
        f"DATASETS.TRAIN {', '.join(missing)} is not here: nobody can tell whether the model has "
        "seen patients of the sets that it is judged on"
    )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TRAIN = tuple(name for name in cfg.DATASETS.TRAIN if name not in missing)
    cfg.freeze()
    return cfg


def _judged(
    engine: Engine,
    cfg: Any,
    weights: Path,
    processes: Processes,
    *,
    trained_by: str | None = None,
) -> TrainedRun:
    folder = Path(cfg.OUTPUT_DIR)
    if not processes.is_main:
        return TrainedRun(engine.NAME, folder, weights, {}, None)
    from simfrcnn.workflows.testing import judge_model

    reports = judge_model(engine, cfg, weights, trained_by=trained_by)
    points = folder / operating.FILE_NAME
    chosen = operating.read_operating_points(points) if cfg.DATASETS.VAL else None
    return TrainedRun(engine.NAME, folder, weights, reports, chosen)
