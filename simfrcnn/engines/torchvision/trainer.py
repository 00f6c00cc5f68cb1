"""How does the torchvision engine train? A plain loop around the recipe that both engines share."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from simfrcnn.data import catalog
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.engines.common.best import BestSoFar
from simfrcnn.engines.common.cards import model_card, quoted
from simfrcnn.engines.common.checkpoints import BEST, LAST, Description, save_checkpoint
from simfrcnn.engines.common.failures import not_finite, report_divergence
from simfrcnn.engines.common.inference import detect_records
from simfrcnn.engines.common.layout import lay_out_for_training
from simfrcnn.engines.common.resuming import Resumable
from simfrcnn.engines.common.run_folder import (
    forget_best,
    open_run_folder,
    write_config,
    write_manifest,
)
from simfrcnn.engines.common.stopping import Interruption, StopRequested, attempt, interrupted
from simfrcnn.engines.common.validation import mean_over_sets, quick_report
from simfrcnn.engines.contract import deviations_of, loss_keys
from simfrcnn.engines.torchvision.building import build_model, detect
from simfrcnn.engines.torchvision.model import DEVIATIONS
from simfrcnn.engines.torchvision.processes import Processes, joined_processes
from simfrcnn.engines.torchvision.progress import Progress
from simfrcnn.engines.torchvision.supported import NAME
from simfrcnn.engines.torchvision.weights import load_initial_weights
from simfrcnn.errors import ConfigError
from simfrcnn.structures import Detections, Sample
from simfrcnn.training import recipe
from simfrcnn.training.precision import training_precision

RECORD_PERIOD = 20
"""Steps between two lines of progress."""

logger = logging.getLogger("simfrcnn")


@catalog.reading_once()
def train(cfg: Any, *, resume: bool = False, command: Sequence[str] | None = None) -> Path:
    """Train into ``OUTPUT_DIR``; under ``torchrun`` together with the other processes.

    A kill loses what came after the last checkpoint; on one CPU process a resumed run ends in the
    very weights of an uninterrupted one. Ctrl-C and SIGTERM lose nothing. ``DATASETS.TEST`` is not
    touched.

    Args:
        cfg: Frozen.
        resume: Go on from the last checkpoint of the folder, if there is one.
        command: The words of the command line, for the manifest.

    Returns:
        The path of the last checkpoint.

    Raises:
        SimFrcnnError: Config, data, weights, a loss that is not finite, a full disk.
        TrainingInterrupted: Ctrl-C or SIGTERM.
    """
    with joined_processes(cfg) as processes:
        return _Training(cfg, processes, resume=resume, command=command).run()


def launch_training(
    cfg: Any,
    *,
    resume: bool = False,
    num_gpus: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    command: Sequence[str] | None = None,
) -> Path:
    """:func:`train`; several processes are started by ``torchrun``, not here.

    Raises:
        ConfigError: Several processes are asked for.
    """
    del machine_rank, dist_url
    if num_gpus * num_machines != 1:
        raise ConfigError(
            f"--num-gpus and --num-machines are not for the engine {NAME}: start it with "
            "torchrun --nproc-per-node N -m simfrcnn train-net --engine torchvision ..."
        )
    return train(cfg, resume=resume, command=command)


class _Training:
    """One run: what is trained, how far it is, and what it leaves behind."""

    def __init__(
        self,
        cfg: Any,
        processes: Processes,
        *,
        resume: bool,
        command: Sequence[str] | None = None,
    ) -> None:
        self.cfg, self.processes, self.command = cfg, processes, command
        self.started = time.time()
        self.items = recipe.training_items(cfg)
        self.training_sets = recipe.training_sets(cfg)
        self.validation_sets = recipe.validation_sets(cfg)

        torch.manual_seed(cfg.SEED)
        self.precision = training_precision(cfg)
        self.model = lay_out_for_training(cfg, build_model(cfg), self.precision)
        self.optimizer = recipe.build_optimizer(cfg, self.model)
        self.scheduler = recipe.build_lr_scheduler(cfg, self.optimizer)
        self.scaler = GradScaler("cuda", enabled=self.precision.used == "float16")
        self.best = BestSoFar(figure=cfg.TEST.BEST_BY)
        self.replay = self.items.replay
        self.resumable = Resumable(
            self.model, self.optimizer, self.scheduler, self.best, self.scaler, self.replay
        )
        self.steps_done = 0

        self.folder = Path(cfg.OUTPUT_DIR)
        last = self.folder / LAST
        if resume and last.exists():
            self.steps_done = self.resumable.load(last, self.model.identity)
            logger.info(f"resuming from {last} after step {self.steps_done}")
        else:
            load_initial_weights(self.model, cfg.MODEL.WEIGHTS)
            if self.model.teacher is not None:
                self.model.teacher.follow(self.model, 0)
        processes.wait()  # nobody writes before all have read
        if processes.is_main:
            open_run_folder(cfg, resume=resume)
            self.items.tally.log(logger)
            self.precision.log(logger)
        processes.wait()
        self.saved_steps = self.steps_done
        self.description = Description.of(
            cfg,
            model_card(
                cfg,
                engine=NAME,
                deviations=deviations_of(DEVIATIONS, cfg),
                training=self.training_sets,
                validation=self.validation_sets,
                world_size=processes.world_size,
            ),
        )

    def run(self) -> Path:
        """Train to ``MAX_ITER``."""
        if self.processes.is_main:
            forget_best(self.folder, self.best, steps_done=self.steps_done)
        if self.steps_done >= self.cfg.SOLVER.MAX_ITER:
            logger.info(f"nothing left to train: {self.steps_done} steps are done")
            return self.folder / LAST
        if self.processes.is_main:
            write_config(self.folder, self.cfg, steps_done=self.steps_done)
        self._write_manifest()
        progress = (
            Progress(self.folder, self.steps_done, self.cfg.SOLVER.MAX_ITER)
            if self.processes.is_main
            else None
        )
        try:
            with Interruption() as interruption:
                self._train(progress, interruption)
                if interruption.requested:  # in the last step
                    raise KeyboardInterrupt
        except (KeyboardInterrupt, StopRequested) as error:
            if isinstance(error, StopRequested) and self.saved_steps < self.steps_done:
                self._save()
            end = interrupted(self.steps_done, self.saved_steps, self.folder / LAST)
            logger.warning(str(end))
            raise end from None
        finally:
            if progress is not None:
                progress.close()
            self._write_manifest()
        return self.folder / LAST

    def _train(self, progress: Progress | None, interruption: Interruption) -> None:
        cfg, end = self.cfg, self.cfg.SOLVER.MAX_ITER
        model = self.processes.wrap(self.model, self.model.device)
        loader = recipe.training_loader(
            cfg,
            start_step=self.steps_done,
            rank=self.processes.rank,
            world_size=self.processes.world_size,
            items=self.items,
        )
        batches: Iterator[list[Sample]] = iter(loader)
        for step in range(self.steps_done, end):
            samples = attempt(lambda: next(batches), step=step, interruption=interruption)
            recipe.seed_step(cfg.SEED, step, self.processes.rank)
            learning_rate = float(self.scheduler.get_last_lr()[0])
            losses = self._step(model, samples, step)
            self.steps_done = step + 1
            if self.model.teacher is not None:
                self.model.teacher.follow(self.model, self.steps_done)
            self._remember(progress, step, samples)
            if _is_due(self.steps_done, RECORD_PERIOD, end):
                self._record(progress, step, losses, learning_rate)
            if _is_due(self.steps_done, cfg.TEST.EVAL_PERIOD or end, end):
                self._validate(progress, step)
            if _is_due(self.steps_done, cfg.SOLVER.CHECKPOINT_PERIOD, end):
                self._save()

    def _step(
        self, model: torch.nn.Module, samples: Sequence[Sample], step: int
    ) -> dict[str, Tensor]:
        """One step of the optimiser; nothing is changed if a loss is not finite."""
        self.optimizer.zero_grad()
        losses, total = attempt(lambda: self._losses(model, samples, step), step=step)
        self.scaler.scale(total).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        return losses

    def _losses(
        self, model: torch.nn.Module, samples: Sequence[Sample], step: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of a step and their sum, which is finite."""
        with self.precision.autocast(self.model.device.type):
            losses: dict[str, Tensor] = model(samples)
        total = torch.stack(list(losses.values())).sum()
        if not bool(torch.isfinite(total)):  # one wait for the device
            raise report_divergence(
                cause=next(iter(not_finite(losses)), "their sum"),
                step=step,
                samples=samples,
                losses={name: float(loss.detach()) for name, loss in losses.items()},
                model=self.model,
                identity=self.model.identity,
                folder=self.folder,
                rank=self.processes.rank,
                description=self.description.after(step),
            )
        return losses, total

    def _remember(self, progress: Progress | None, step: int, samples: Sequence[Sample]) -> None:
        """Tell the replay how hard the model fired on the normal images."""
        if self.replay is None:
            return
        scores = self.model.firing_scores
        figures = self.replay.after_step(step, samples, scores, self.processes.gather)
        if progress is not None and figures:
            progress.record(step, figures)

    def _record(
        self,
        progress: Progress | None,
        step: int,
        losses: dict[str, Tensor],
        learning_rate: float,
    ) -> None:
        keys = loss_keys(self.cfg)
        values = torch.stack([losses[key].detach().float() for key in keys])
        means = self.processes.mean(values).tolist()
        if progress is not None:
            progress.record_training(step, dict(zip(keys, means, strict=True)), learning_rate)
            if self.model.teacher is not None:
                progress.record(step, self.model.teacher.figures())

    def _validate(self, progress: Progress | None, step: int) -> None:
        """Judge the model on ``DATASETS.VAL`` and keep it if it is the best so far.

        With several validation sets their mean counts. Every process comes to the same decision.
        """
        if not self.validation_sets:
            return
        figures = mean_over_sets(
            [self._figures(annotated, step) for annotated in self.validation_sets]
        )
        is_best = self.best.offer(figures, self.steps_done)
        if progress is not None:
            progress.record_validation(step, figures)
            logger.info(self.best.line(figures, self.steps_done))
        if is_best and self.processes.is_main:
            self._save_best(figures)

    def _save_best(self, figures: Mapping[str, float]) -> None:
        description = self.description.after(
            self.steps_done, quoted(figures), chosen_by=self.best.figure
        )
        tested = self.resumable.tested
        save_checkpoint(self.folder / BEST, tested, self.model.identity, None, description)

    def _figures(self, annotated: AnnotatedSet, step: int) -> dict[str, float]:
        """The figures of one data set; its images are shared among the processes."""
        rank, world_size = self.processes.rank, self.processes.world_size
        found = attempt(
            lambda: detect_records(
                self.cfg,
                self.resumable.tested,
                self._detect,
                annotated.records[rank::world_size],
                title="validation" if self.processes.is_main else None,
            ),
            step=step,
        )
        return quick_report(self.processes.gather(found), self.cfg, annotated).scalars()

    def _detect(self, model: torch.nn.Module, samples: Sequence[Sample]) -> list[Detections]:
        """In float32, whatever ``TEST.AMP`` asks for: the best is chosen alike on all machines."""
        with torch.autocast(self.model.device.type, enabled=False):
            return detect(model, samples)

    def _save(self) -> None:
        if self.replay is not None:
            self.replay.merge(self.processes.gather)
        if self.processes.is_main:
            path = self.folder / LAST
            self.resumable.save(
                path,
                self.model.identity,
                steps_done=self.steps_done,
                description=self.description.after(self.steps_done),
            )
        self.saved_steps = self.steps_done

    def _write_manifest(self) -> None:
        if self.processes.is_main:
            write_manifest(
                self.folder,
                self.cfg,
                engine=NAME,
                deviations=deviations_of(DEVIATIONS, self.cfg),
                sets=[*self.training_sets, *self.validation_sets],
                labels=self.items.tally,
                world_size=self.processes.world_size,
                steps_done=self.steps_done,
                started=self.started,
                finished=self.steps_done >= self.cfg.SOLVER.MAX_ITER,
                command=self.command,
            )


def _is_due(steps_done: int, period: int, end: int) -> bool:
    return steps_done % period == 0 or steps_done == end
