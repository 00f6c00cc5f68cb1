"""How does Detectron2's trainer run the recipe, so that a run can be killed, resumed and spread?

What is Detectron2's: the loop, its hooks for time, learning rate and logs, data parallelism and
AMP. What is ours: what is trained on (the recipe), checkpoints that are never half-written,
resuming that goes on exactly, validation on VAL, and what a NaN leaves behind.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from detectron2.engine import DefaultTrainer, HookBase, create_ddp_model, defaults, hooks, launch
from detectron2.evaluation import inference_on_dataset
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from torch.nn.parallel import DistributedDataParallel

from simfrcnn import config, errors
from simfrcnn.data import catalog
from simfrcnn.engines.common.best import BestSoFar
from simfrcnn.engines.common.checkpoints import (
    BEST,
    LAST,
    Identity,
)
from simfrcnn.engines.common.failures import not_finite, report_divergence
from simfrcnn.engines.common.resuming import Resumable
from simfrcnn.engines.common.run_folder import (
    METRICS,
    forget_metrics_from,
    open_run_folder,
    write_config,
    write_manifest,
)
from simfrcnn.engines.common.validation import mean_over_sets
from simfrcnn.engines.detectron2.compatibility import check_supported
from simfrcnn.engines.detectron2.data import (
    build_test_loader,
    register_datasets,
    to_dicts,
)
from simfrcnn.engines.detectron2.evaluation import build_evaluator
from simfrcnn.engines.detectron2.model import NAME, build_model
from simfrcnn.engines.detectron2.weights import load_initial_weights
from simfrcnn.errors import ConfigError, SimFrcnnError
from simfrcnn.structures import Sample
from simfrcnn.training import recipe

T = TypeVar("T")

logger = logging.getLogger(__name__)


class SeededBatches:
    """The batches of a training from a given step on.

    All generators are seeded between the loading of a batch and its use, so that what a step draws
    depends on (seed, step, rank) alone.
    """

    def __init__(self, cfg: Any) -> None:
        """Read the training sets; no image is loaded yet."""
        self._cfg = cfg
        self._items = recipe.training_items(cfg)
        self.replay = self._items.replay
        self.batch: list[dict[str, Any]] = []
        """The batch of the current step."""
        self.start_at(0)

    def start_at(self, step: int) -> None:
        """Go on with the batch of ``step``, for resuming; call it before the first batch."""
        self._start_step = step
        self._loader = recipe.training_loader(
            self._cfg,
            start_step=step,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
            convert=to_dicts,
            items=self._items,
        )

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for step, batch in enumerate(self._loader, self._start_step):
            self.batch = batch
            recipe.seed_step(self._cfg.SEED, step, comm.get_rank())
            yield batch


class NonFiniteLossError(FloatingPointError):
    """Losses of one step, some of which are NaN or infinite."""

    def __init__(self, losses: dict[str, Tensor]) -> None:
        """Keep the losses as numbers."""
        self.losses = {name: float(loss.detach()) for name, loss in losses.items()}
        super().__init__(", ".join(not_finite(losses)))


class Trainer(DefaultTrainer):
    """Detectron2's trainer with simfrcnn's recipe, checkpoints and validation."""

    def __init__(self, cfg: Any) -> None:
        """Build everything that the config names; nothing is written yet."""
        self.best = BestSoFar()
        with _data_parallel_on(cfg.MODEL.DEVICE):
            super().__init__(cfg)
        self.model.register_forward_hook(_refuse_non_finite)

    build_model = staticmethod(build_model)
    build_optimizer = staticmethod(recipe.build_optimizer)
    build_lr_scheduler = staticmethod(recipe.build_lr_scheduler)
    build_train_loader = SeededBatches
    build_test_loader = staticmethod(build_test_loader)
    build_evaluator = staticmethod(build_evaluator)

    @property
    def bare_model(self) -> nn.Module:
        """The model without its data-parallel shell."""
        model: nn.Module = self.model
        return model.module if isinstance(model, DistributedDataParallel) else model

    @property
    def resumable(self) -> Resumable:
        """What a checkpoint holds."""
        scaler = getattr(self._trainer, "grad_scaler", None)
        return Resumable(
            self.bare_model,
            self.optimizer,
            self.scheduler,
            self.best,
            scaler,
            self.data_loader.replay,
        )

    @property
    def identity(self) -> Identity:
        """Engine and architecture, for checkpoints."""
        return Identity.of(NAME, self.cfg)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.cfg.OUTPUT_DIR)

    def build_hooks(self) -> list[HookBase | None]:
        """Detectron2's hooks for time and learning rate; ours for validation and checkpoints.

        Validation comes before the checkpoint, so that a checkpoint knows the best figure so far
        and a run killed between the two repeats the validation.
        """
        return [
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            Validation(),
            Checkpoints(),
        ]

    def build_writers(self) -> list[EventWriter]:
        """Detectron2's, but TensorBoard forgets what a resumed run writes again."""
        return [
            CommonMetricPrinter(self.max_iter),
            JSONWriter(str(self.folder / METRICS)),
            TensorboardXWriter(str(self.folder), purge_step=self.start_iter),
        ]

    def train(self) -> None:
        """Run the remaining steps; the writers' files are opened only now."""
        if comm.is_main_process():
            forget_metrics_from(self.folder, self.start_iter)
            self.register_hooks([hooks.PeriodicWriter(self.build_writers())])
        super().train()

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint of the run folder, or start from ``MODEL.WEIGHTS``.

        Without a checkpoint there, ``resume`` starts at the beginning: the run was ended before its
        first one.
        """
        path = self.folder / LAST
        if not (resume and path.exists()):
            load_initial_weights(self.bare_model, self.cfg.MODEL.WEIGHTS)
            return
        self.start_iter = self.resumable.load(path, self.identity)
        self.data_loader.start_at(self.start_iter)
        logger.info("going on from %s after %d steps", path, self.start_iter)

    def run_step(self) -> None:
        """One step; a NaN ends the training before the optimiser sees it.

        Raises:
            TrainingError: Names the loss and the images; the evidence is saved.
        """
        try:
            super().run_step()
        except FloatingPointError as error:
            known = error.losses if isinstance(error, NonFiniteLossError) else {}
            raise report_divergence(
                cause=str(error) if known else "a predicted box or score of the RPN",
                step=self.iter,
                samples=self._samples,
                losses=known,
                model=self.bare_model,
                identity=self.identity,
                folder=self.folder,
            ) from error
        if self.data_loader.replay:
            figures = self.data_loader.replay.after_step(
                self.iter, self._samples, self.bare_model.firing_scores, _of_all_processes
            )
            self.storage.put_scalars(**figures, smoothing_hint=False)

    @property
    def _samples(self) -> list[Sample]:
        return [entry["sample"] for entry in self.data_loader.batch]

    def save(self, name: str, step: int) -> None:
        """Write a checkpoint after ``step`` steps, with all that resuming needs."""
        self.resumable.save(self.folder / name, self.identity, steps_done=step)

    def validate(self) -> dict[str, float]:
        """Run the model over ``DATASETS.VAL``.

        Returns:
            Figure -> value, the mean over the sets where there are several; figures that are
            undefined on one of them are left out. Empty on the other processes than the first.
        """
        of_sets = [
            flatten_results_dict(
                inference_on_dataset(
                    self.bare_model,
                    self.build_test_loader(self.cfg, name),
                    self.build_evaluator(self.cfg, name),
                )
            )
            for name in self.cfg.DATASETS.VAL
        ]
        return mean_over_sets(of_sets)


class Validation(HookBase):
    """Judge the model on VAL every ``TEST.EVAL_PERIOD`` steps and at the end; keep the best."""

    def after_step(self) -> None:
        """Validate if it is time to."""
        trainer: Any = self.trainer
        done, period = trainer.iter + 1, trainer.cfg.TEST.EVAL_PERIOD
        is_time = done == trainer.max_iter or (period > 0 and done % period == 0)
        if not (is_time and trainer.cfg.DATASETS.VAL):
            return
        figures = trainer.validate()
        if comm.is_main_process():
            trainer.storage.put_scalars(**figures, smoothing_hint=False)
            auc = figures.get("case/auc", math.nan)
            if trainer.best.offer(auc, done):
                trainer.save(BEST, done)
            logger.info("step %d: case AUC on VAL %.4f; best: %s", done, auc, trainer.best)
        comm.synchronize()


class Checkpoints(HookBase):
    """Write the last checkpoint every ``SOLVER.CHECKPOINT_PERIOD`` steps and at the end."""

    def after_step(self) -> None:
        """Write it if it is time to; every process takes part in what it remembers."""
        trainer: Any = self.trainer
        done = trainer.iter + 1
        if done < trainer.max_iter and done % trainer.cfg.SOLVER.CHECKPOINT_PERIOD:
            return
        if trainer.data_loader.replay:
            trainer.data_loader.replay.merge(_of_all_processes)
        if comm.is_main_process():
            trainer.save(LAST, done)


@catalog.reading_once()
def train(cfg: Any, *, resume: bool = False) -> Path:
    """Train into ``OUTPUT_DIR``; in one process, or in each process of :func:`launch_training`.

    Args:
        cfg: A checked config.
        resume: Go on from the last checkpoint of the run folder, if there is one.

    Returns:
        The path of the last checkpoint.

    Raises:
        SimFrcnnError: Config, data, weights or output folder are not fit, or a loss became NaN.
    """
    config.check_config(cfg)
    started = time.time()
    folder = Path(cfg.OUTPUT_DIR)
    is_main = comm.is_main_process()
    check_supported(cfg)
    register_datasets(cfg)
    # Here already: a fault in the data shows before anything is written.
    labels = recipe.training_items(cfg).tally
    if is_main:
        open_run_folder(cfg, resume=resume)
    comm.synchronize()
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    with _progress(folder / "log.txt", is_main):
        if is_main:
            labels.log(logger)
        recipe.seed_step(cfg.SEED, 0)  # the weights that start random
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume)
        if trainer.start_iter >= trainer.max_iter:
            logger.info("nothing left to train: %d steps are done", trainer.start_iter)
            return folder / LAST
        sets = recipe.load_sets(cfg, (*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL))
        manifest = functools.partial(
            write_manifest,
            folder,
            cfg,
            engine=NAME,
            deviations=(),
            sets=sets,
            labels=labels,
            world_size=comm.get_world_size(),
            started=started,
        )
        if is_main:
            write_config(folder, cfg, steps_done=trainer.start_iter)
            manifest(steps_done=trainer.start_iter, finished=False)
        try:
            _run(trainer)
        finally:
            if is_main:
                done = trainer.iter
                manifest(steps_done=done, finished=done >= trainer.max_iter)
    return folder / LAST


def launch_training(
    cfg: Any,
    *,
    resume: bool = False,
    num_gpus: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
) -> Path:
    """Train in one process, or in several by Detectron2's ``launch``.

    Args:
        cfg: A checked config; ``SOLVER.IMS_PER_BATCH`` is that of all processes together.
        resume: As for :func:`train`.
        num_gpus: Processes on this machine: one per GPU or, with ``MODEL.DEVICE cpu``, so many.
        num_machines: Machines in all.
        machine_rank: This machine, 0-based.
        dist_url: Where the processes meet; ``auto`` on one machine.

    Returns:
        The path of the last checkpoint.

    Raises:
        SimFrcnnError: As for :func:`train`, whichever process it is from.
        ConfigError: More processes than GPUs, or several CPU processes beside a GPU.
    """
    if num_gpus * num_machines == 1:
        return train(cfg, resume=resume)
    _check_processes(cfg, num_gpus, num_machines, dist_url)
    with tempfile.TemporaryDirectory(prefix="simfrcnn-") as messages:
        try:
            launch(
                _train_one_of_many,
                num_gpus,
                num_machines=num_machines,
                machine_rank=machine_rank,
                dist_url=dist_url,
                args=(cfg, resume, messages),
            )
        except (ProcessRaisedException, ProcessExitedException) as error:
            raise _first_message(Path(messages)) or error from None
    return Path(cfg.OUTPUT_DIR) / LAST


def _run(trainer: Trainer) -> None:
    try:
        trainer.train()
    except KeyboardInterrupt:
        logger.warning(
            "interrupted; %s",
            f"the last checkpoint is in {trainer.folder / LAST}: go on from it with --resume"
            if (trainer.folder / LAST).exists()
            else "there is no checkpoint yet: --resume starts at the beginning",
        )
        raise


def _train_one_of_many(cfg: Any, resume: bool, messages: str) -> None:
    """In a process of its own: leave an error for the user where the parent finds it."""
    try:
        train(cfg, resume=resume)
    except SimFrcnnError as error:
        told = {"error": type(error).__name__, "message": str(error)}
        (Path(messages) / f"{time.time_ns()}-{os.getpid()}.json").write_text(json.dumps(told))
        raise


def _first_message(folder: Path) -> SimFrcnnError | None:
    for path in sorted(folder.glob("*.json")):
        told = json.loads(path.read_text())
        error: SimFrcnnError = getattr(errors, told["error"])(told["message"])
        return error
    return None


def _check_processes(cfg: Any, num_gpus: int, num_machines: int, dist_url: str) -> None:
    if dist_url == "auto" and num_machines > 1:
        raise ConfigError("--dist-url is auto; several machines need tcp://HOST:PORT of the first")
    n_found = torch.cuda.device_count()
    if cfg.MODEL.DEVICE == "cpu" and n_found:
        raise ConfigError(
            "several processes with MODEL.DEVICE cpu on a machine with a GPU: Detectron2 would "
            "join them by NCCL. Hide the GPU with CUDA_VISIBLE_DEVICES=''"
        )
    if cfg.MODEL.DEVICE != "cpu" and num_gpus > n_found:
        raise ConfigError(
            f"--num-gpus is {num_gpus}; this machine has {n_found}. Give at most that, or "
            "MODEL.DEVICE cpu for so many CPU processes"
        )


def _of_all_processes(part: list[T]) -> list[T]:
    return [item for one in comm.all_gather(part) for item in one]


def _refuse_non_finite(model: nn.Module, _inputs: Any, outputs: Any) -> None:
    # One number, and so one wait for a GPU.
    if model.training and not math.isfinite(sum(outputs.values()).detach()):
        raise NonFiniteLossError(outputs)


@contextlib.contextmanager
def _data_parallel_on(device: str) -> Iterator[None]:
    """On CPUs, have the library wrap the model without ``device_ids``: torch refuses them."""
    if device != "cpu":
        yield
        return
    original = defaults.create_ddp_model
    defaults.create_ddp_model = functools.partial(create_ddp_model, device_ids=None)
    try:
        yield
    finally:
        defaults.create_ddp_model = original


class _Stdout(logging.Handler):
    """Prints to what is standard output now, not when the handler was made."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


@contextlib.contextmanager
def _progress(path: Path, is_main: bool) -> Iterator[None]:
    """Show the library's and our messages on standard output and in a file, while training runs.

    Only the first process speaks. An error for the user is not also logged with its traceback.
    """
    loop = logging.getLogger("detectron2.engine.train_loop")
    loop.addFilter(_is_no_user_error)
    attached: list[tuple[logging.Logger, logging.Handler]] = []
    for name in ("detectron2", "fvcore", "simfrcnn") if is_main else ():
        library = logging.getLogger(name)
        log = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
        wanted: list[logging.Handler] = [log]
        if not library.handlers:  # the command line has its own, as has Detectron2's setup_logger
            wanted.append(_Stdout())
        for handler in wanted:
            handler.setFormatter(logging.Formatter("[%(asctime)s] %(message)s", "%H:%M:%S"))
            library.addHandler(handler)
            attached.append((library, handler))
        library.setLevel(logging.INFO)
    try:
        yield
    finally:
        loop.removeFilter(_is_no_user_error)
        for library, handler in attached:
            library.removeHandler(handler)
            handler.close()


def _is_no_user_error(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], SimFrcnnError))
