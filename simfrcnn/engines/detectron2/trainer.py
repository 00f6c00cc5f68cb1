"""How does Detectron2's trainer run the recipe, so that a run can be killed, resumed and spread?

What is Detectron2's: the loop, its hooks for time, learning rate and logs, data parallelism and
AMP. What is ours: what is trained on (the recipe), checkpoints that are never half-written,
resuming that goes on exactly, validation on VAL, and what a NaN leaves behind.
"""

from __future__ import annotations

import functools
import logging
import math
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from detectron2.engine import DefaultTrainer, HookBase, hooks
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
from torch.nn.parallel import DistributedDataParallel

from simfrcnn import config
from simfrcnn.data import catalog
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.engines.common.best import BestSoFar
from simfrcnn.engines.common.cards import model_card, quoted
from simfrcnn.engines.common.checkpoints import (
    BEST,
    LAST,
    Description,
    Identity,
    save_checkpoint,
)
from simfrcnn.engines.common.failures import not_finite, report_divergence
from simfrcnn.engines.common.layout import lay_out_for_training
from simfrcnn.engines.common.resuming import Resumable
from simfrcnn.engines.common.run_folder import (
    METRICS,
    forget_best,
    forget_metrics_from,
    open_run_folder,
    write_config,
    write_manifest,
)
from simfrcnn.engines.common.stopping import (
    StopRequested,
    failed_ranks,
    interrupted,
    refuse_failures,
)
from simfrcnn.engines.common.teacher import Teacher
from simfrcnn.engines.common.validation import mean_over_sets
from simfrcnn.engines.detectron2.batches import SeededBatches
from simfrcnn.engines.detectron2.checkpointer import Checkpointer
from simfrcnn.engines.detectron2.compatibility import check_supported
from simfrcnn.engines.detectron2.data import (
    build_test_loader,
    register_datasets,
)
from simfrcnn.engines.detectron2.evaluation import build_evaluator
from simfrcnn.engines.detectron2.logs import removed_if_refused, shown_and_kept
from simfrcnn.engines.detectron2.mixed_precision import autocast_training, library_on
from simfrcnn.engines.detectron2.model import NAME, build_model
from simfrcnn.engines.detectron2.weights import load_initial_weights
from simfrcnn.errors import TrainingError
from simfrcnn.structures import Sample
from simfrcnn.training import recipe
from simfrcnn.training.precision import training_precision

T = TypeVar("T")

logger = logging.getLogger(__name__)


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
        self.best = BestSoFar(figure=cfg.TEST.BEST_BY)
        self.precision = training_precision(cfg)
        with library_on(cfg.MODEL.DEVICE):
            super().__init__(cfg)
        self.checkpointer = Checkpointer(self.model, cfg, trainer=weakref.proxy(self))
        self.saved_steps = 0
        if self.precision.used == "bfloat16":
            autocast_training(self.model, self.precision)
        self.model.register_forward_hook(self._judge_losses)

    @staticmethod
    def build_model(cfg: Any) -> nn.Module:
        """The model of the config, as it trains fastest."""
        return lay_out_for_training(cfg, build_model(cfg), training_precision(cfg))

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
    def teacher(self) -> Teacher | None:
        """What boxes labelled images, if anything does."""
        bare: Any = self.bare_model
        teacher: Teacher | None = bare.teacher
        return teacher

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

    @functools.cached_property
    def training_sets(self) -> list[AnnotatedSet]:
        """Those of ``DATASETS.TRAIN``."""
        return recipe.load_sets(self.cfg, self.cfg.DATASETS.TRAIN)

    @functools.cached_property
    def validation_sets(self) -> list[AnnotatedSet]:
        """Those of ``DATASETS.VAL``."""
        return recipe.validation_sets(self.cfg)

    @functools.cached_property
    def description(self) -> Description:
        """What a checkpoint says of the model, but for its step."""
        card = model_card(
            self.cfg,
            engine=NAME,
            deviations=(),
            training=self.training_sets,
            validation=self.validation_sets,
            world_size=comm.get_world_size(),
        )
        return Description.of(self.cfg, card)

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
        """Run the remaining steps; the writers' files are opened only now.

        Raises:
            TrainingInterrupted: Ctrl-C or SIGTERM; the step was finished and is saved.
        """
        if comm.is_main_process():
            forget_metrics_from(self.folder, self.start_iter)
            self.register_hooks([hooks.PeriodicWriter(self.build_writers())])
        try:
            with self.data_loader.interruption as interruption:
                super().train()
                if interruption.requested:  # in the last step
                    raise KeyboardInterrupt
        except (KeyboardInterrupt, StopRequested) as error:
            if isinstance(error, StopRequested) and self.saved_steps < self.iter:
                self.save_last(self.iter)
            end = interrupted(self.iter, self.saved_steps, self.folder / LAST)
            logger.warning("%s", end)
            raise end from None

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint of the run folder, or start from ``MODEL.WEIGHTS``.

        Without a checkpoint there, ``resume`` starts at the beginning: the run was ended before its
        first one.
        """
        path = self.folder / LAST
        if not (resume and path.exists()):
            load_initial_weights(self.bare_model, self.cfg.MODEL.WEIGHTS)
            if self.teacher is not None:
                self.teacher.follow(self.bare_model, 0)
            return
        self.start_iter = self.saved_steps = self.resumable.load(path, self.identity)
        self.data_loader.start_at(self.start_iter)
        logger.info("going on from %s after %d steps", path, self.start_iter)

    def run_step(self) -> None:
        """One step; a NaN ends the training before the optimiser sees it.

        Raises:
            TrainingError: Names the loss and the images; the evidence is saved.
        """
        try:
            super().run_step()
        except Exception as error:
            if not self.data_loader.is_step_judged:  # the others wait for a word on the losses
                self.data_loader.is_step_judged = True
                failed_ranks(True)
            if isinstance(error, FloatingPointError):
                raise self._divergence(error) from error
            raise
        if self.data_loader.replay:
            figures = self.data_loader.replay.after_step(
                self.iter, self._samples, self.bare_model.firing_scores, _of_all_processes
            )
            self.storage.put_scalars(**figures, smoothing_hint=False)
        if self.teacher is not None:
            self.teacher.follow(self.bare_model, self.iter + 1)
            self.storage.put_scalars(**self.teacher.figures(), smoothing_hint=False)

    def _judge_losses(self, model: nn.Module, _inputs: Any, outputs: Any) -> None:
        """After a forward pass: stop in all processes if one has no finite losses."""
        if not model.training:
            return
        # One number, and so one wait for a GPU.
        is_finite = math.isfinite(sum(outputs.values()).detach())
        self.data_loader.is_step_judged = True
        failed = failed_ranks(not is_finite)
        if not is_finite:
            raise NonFiniteLossError(outputs)
        refuse_failures(failed, self.iter)

    def _divergence(self, error: FloatingPointError) -> TrainingError:
        known = error.losses if isinstance(error, NonFiniteLossError) else {}
        return report_divergence(
            cause=str(error) if known else "a predicted box or score of the RPN",
            step=self.iter,
            samples=self._samples,
            losses=known,
            model=self.bare_model,
            identity=self.identity,
            folder=self.folder,
            rank=comm.get_rank(),
            description=self.description.after(self.iter),
        )

    @property
    def _samples(self) -> list[Sample]:
        return [entry["sample"] for entry in self.data_loader.batch]

    def save_best(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the best checkpoint, which people hand on: without the state of the training.

        Args:
            step: How many steps are done.
            figures: Of the validation after that step, for the model card.
        """
        description = self.description.after(step, quoted(figures), chosen_by=self.best.figure)
        save_checkpoint(self.folder / BEST, self.resumable.tested, self.identity, None, description)

    def save_last(self, step: int) -> None:
        """Write the last checkpoint, with all that resuming needs after ``step`` steps.

        Every process takes part in what it remembers.
        """
        if self.data_loader.replay:
            self.data_loader.replay.merge(_of_all_processes)
        if comm.is_main_process():
            self.resumable.save(
                self.folder / LAST,
                self.identity,
                steps_done=step,
                description=self.description.after(step),
            )
        self.saved_steps = step

    def validate(self) -> dict[str, float]:
        """Run the model over ``DATASETS.VAL``.

        Returns:
            Figure -> value, the mean over the sets where there are several; figures that are
            undefined on one of them are left out. Empty on the other processes than the first.
        """
        of_sets = [
            flatten_results_dict(
                inference_on_dataset(
                    self.resumable.tested,
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
            if trainer.best.offer(figures, done):
                trainer.save_best(done, figures)
            logger.info(trainer.best.line(figures, done))
        comm.synchronize()


class Checkpoints(HookBase):
    """Write the last checkpoint every ``SOLVER.CHECKPOINT_PERIOD`` steps and at the end."""

    def after_step(self) -> None:
        """Write it if it is time to."""
        trainer: Any = self.trainer
        done = trainer.iter + 1
        if done < trainer.max_iter and done % trainer.cfg.SOLVER.CHECKPOINT_PERIOD:
            return
        trainer.save_last(done)


@catalog.reading_once()
def train(cfg: Any, *, resume: bool = False, command: Sequence[str] | None = None) -> Path:
    """Train into ``OUTPUT_DIR``; in one process, or in each process of ``launch_training``.

    Args:
        cfg: Checked.
        resume: Go on from the last checkpoint of the run folder, if there is one.
        command: The words of the command line, for the manifest.

    Returns:
        The path of the last checkpoint.

    Raises:
        SimFrcnnError: Config, data, weights or output folder are not fit, or a loss became NaN.
        TrainingInterrupted: Ctrl-C or SIGTERM; the step was finished and is saved.
    """
    config.check_config(cfg)
    started = time.time()
    folder = Path(cfg.OUTPUT_DIR)
    is_main = comm.is_main_process()
    check_supported(cfg)
    register_datasets(cfg)
    # Here already: a fault in the data shows before anything is written.
    labels = recipe.training_items(cfg).tally
    recipe.validation_sets(cfg)
    if is_main:
        open_run_folder(cfg, resume=resume)
    comm.synchronize()
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    log, is_new = folder / "log.txt", not (folder / "log.txt").exists()
    with shown_and_kept(log, is_main):
        if is_main:
            labels.log(logger)
            training_precision(cfg).log(logger)
        recipe.seed_step(cfg.SEED, 0)  # the weights that start random
        with removed_if_refused(log, is_new=is_new and is_main):
            trainer = Trainer(cfg)
            trainer.resume_or_load(resume)
        comm.synchronize()  # nobody removes before all have read
        if is_main:
            forget_best(folder, trainer.best, steps_done=trainer.start_iter)
        if trainer.start_iter >= trainer.max_iter:
            logger.info("nothing left to train: %d steps are done", trainer.start_iter)
            return folder / LAST
        manifest = functools.partial(
            write_manifest,
            folder,
            cfg,
            engine=NAME,
            deviations=(),
            sets=[*trainer.training_sets, *trainer.validation_sets],
            labels=labels,
            world_size=comm.get_world_size(),
            started=started,
            command=command,
        )
        if is_main:
            write_config(folder, cfg, steps_done=trainer.start_iter)
            manifest(steps_done=trainer.start_iter, finished=False)
        try:
            trainer.train()
        finally:
            if is_main:
                done = trainer.iter
                manifest(steps_done=done, finished=done >= trainer.max_iter)
    return folder / LAST


def _of_all_processes(part: list[T]) -> list[T]:
    return [item for one in comm.all_gather(part) for item in one]
