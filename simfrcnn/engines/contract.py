"""What must an engine offer, and how is one found?

An engine is a module. It translates between simfrcnn's core and one detection library and holds no
formula of its own. The tests in ``tests/contract`` run on every engine.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from simfrcnn import config
from simfrcnn.config.classifier import OF_A_DETECTOR
from simfrcnn.engines.common.checkpoints import Identity
from simfrcnn.engines.common.teacher import Teacher
from simfrcnn.errors import EngineError
from simfrcnn.structures import Detections, Sample

LOSS_KEYS = (
    "loss_rpn_cls",
    "loss_rpn_loc",
    "loss_rpn_top_likelihood",
    "loss_cls",
    "loss_box_reg",
    "loss_similarity",
)
"""The losses of every step, whatever the batch holds: already weighted, to be summed."""
SECOND_LOOK_KEY = "loss_second_look"
"""One more with ``MODEL.SECOND_LOOK.ENABLED``."""
MASK_KEY = "loss_mask"
"""One more with ``MODEL.MASK_ON``."""
LABEL_KEY = "loss_label"
"""One more with ``DATASETS.LABELS_PER_ITEM``."""
IMAGE_KEY = "loss_image"
"""The one loss of a whole-image classifier (``MODEL.META_ARCHITECTURE SimClassifier``)."""
TEACHER_KEY = "loss_teacher"
"""One more with ``MODEL.SIMFRCNN.LABELS.TEACHER.ENABLED``."""


def loss_keys(cfg: Any) -> tuple[str, ...]:
    """The losses of every step of a run, in the order in which they are logged.

    They follow from the config, never from what a batch holds.
    """
    of_second_look = (SECOND_LOOK_KEY,) if cfg.MODEL.SECOND_LOOK.ENABLED else ()
    if config.is_classifier(cfg):
        return (IMAGE_KEY, *of_second_look)
    of_labels = (LABEL_KEY,) if cfg.DATASETS.LABELS_PER_ITEM else ()
    of_teacher = (TEACHER_KEY,) if cfg.MODEL.SIMFRCNN.LABELS.TEACHER.ENABLED else ()
    of_masks = (MASK_KEY,) if cfg.MODEL.MASK_ON else ()
    return (*LOSS_KEYS, *of_masks, *of_labels, *of_teacher, *of_second_look)


def as_contracted(losses: Mapping[str, Tensor], keys: Sequence[str]) -> dict[str, Tensor]:
    """The losses in the order of the contract; none is dropped, and none is missing.

    Raises:
        EngineError: Names the losses that a head returns beyond the contract, or fails to return.
    """
    unknown = [name for name in losses if name not in keys]
    missing = [name for name in keys if name not in losses]
    if unknown or missing:
        problems = [
            *(f"returns {name}, which nobody would add up" for name in unknown),
            *(f"does not return {name}" for name in missing),
        ]
        raise EngineError(
            f"the detector {'; '.join(problems)}. The losses of a step are {', '.join(keys)}: a "
            "new one is entered in simfrcnn.engines.contract.loss_keys"
        )
    return {key: losses[key] for key in keys}


ENGINES = ("detectron2", "torchvision")
"""In the order in which ``auto`` tries them."""

_INSTALL = {
    "detectron2": "Detectron2 is not on the package index: check out facebookresearch/detectron2, "
    "put the checkout on PYTHONPATH (or set DETECTRON2_HOME for make), and run "
    "pip install -e '.[detectron2]' in simfrcnn's checkout for what it imports",
    "torchvision": "pip install torchvision, in the version that fits your torch",
}


@dataclass(frozen=True)
class Deviation:
    """A place where an engine cannot do exactly what the config asks; written into every run."""

    key: str
    asked: str
    used: str
    why: str


def deviations_of(deviations: Sequence[Deviation], cfg: Any) -> tuple[Deviation, ...]:
    """Those that are a run's: what it does not ask for, it gets no otherwise.

    A classifier has no regions, and reads no key of them.
    """
    unread = OF_A_DETECTOR if config.is_classifier(cfg) else ()
    return tuple(
        each
        for each in deviations
        if not each.key.startswith(unread) and (each.key != "MODEL.MASK_ON" or cfg.MODEL.MASK_ON)
    )


@runtime_checkable
class Detector(Protocol):
    """What the models of both engines have beyond being a ``torch.nn.Module``.

    A test holds them to it: their bases are untyped, so mypy cannot.
    """

    identity: Identity
    """Engine and architecture, as checkpoints state them."""

    teacher: Teacher | None
    """What boxes images without boxes while this model trains; None where nothing does."""

    @property
    def stages(self) -> Mapping[str, nn.Module]:
        """The stages of a ResNet by name (stem, res2 ... res5); empty for another backbone."""
        ...

    @property
    def firing_scores(self) -> Tensor:
        """(N,) how hard the last training step fired on each image of its batch, but for those of
        which nothing is known.
        """
        ...


class Engine(Protocol):
    """What workflows, the command line and the tests call; a module satisfies it."""

    NAME: str
    DEVIATIONS: tuple[Deviation, ...]

    def default_cfg(self) -> Any:
        """A config tree with every key that this engine honours, ours included."""
        ...

    def build_model(self, cfg: Any) -> nn.Module:
        """The detector with random weights on ``MODEL.DEVICE``, in training mode.

        It is a :class:`Detector` as well.

        Raises:
            ConfigError: The config asks for something that this engine does not have.
        """
        ...

    def load_weights(self, model: nn.Module, path: Path) -> None:
        """Fill the model from a checkpoint of simfrcnn, strictly.

        Raises:
            CheckpointError: Another engine, architecture, name or shape; a damaged or unsafe file.
        """
        ...

    def load_initial_weights(self, model: nn.Module, weights: str) -> None:
        """Fill a new model from ``MODEL.WEIGHTS``: a backbone's file, or a checkpoint of simfrcnn.

        An empty name leaves it random.

        Raises:
            CheckpointError: A damaged or unsafe file, or one that does not fill the backbone.
        """
        ...

    def training_losses(self, model: nn.Module, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """The losses of one batch, keys exactly those of :func:`loss_keys`."""
        ...

    def detect(self, model: nn.Module, samples: Sequence[Sample]) -> list[Detections]:
        """Detections in original pixels, one per sample in order; the model's mode is restored."""
        ...

    def train(
        self, cfg: Any, *, resume: bool = False, command: Sequence[str] | None = None
    ) -> Path:
        """Train into ``OUTPUT_DIR`` and return the path of the last checkpoint.

        In one process, or in each of those that a launcher has started.

        Args:
            cfg: Checked and frozen.
            resume: Go on from the last checkpoint of the folder, if there is one.
            command: The words of the command line, for the manifest; None from Python.

        Raises:
            SimFrcnnError: Config, data, weights or folder are not fit, or a loss became NaN.
            TrainingInterrupted: Ctrl-C or SIGTERM came; the checkpoint of that step is written.
        """
        ...

    def launch_training(
        self,
        cfg: Any,
        *,
        resume: bool = False,
        num_gpus: int = 1,
        num_machines: int = 1,
        machine_rank: int = 0,
        dist_url: str = "auto",
        command: Sequence[str] | None = None,
    ) -> Path:
        """:meth:`train` in one process, or in several that the engine starts itself.

        Raises:
            ConfigError: This engine cannot start so many; says what can.
        """
        ...


def load_engine(name: str) -> Engine:
    """Import an engine by name; ``auto`` takes Detectron2 when it can be imported.

    Raises:
        EngineError: The name is unknown, or the engine's own library is not installed. Any other
            failure to import is passed on as it is.
    """
    if name == "auto":
        name = next((engine for engine in ENGINES if is_installed(engine)), ENGINES[-1])
    if name not in ENGINES:
        raise EngineError(f"unknown engine {name!r}; legal are auto, {', '.join(ENGINES)}")
    try:
        module: Any = importlib.import_module(f"simfrcnn.engines.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name:
            raise
        raise EngineError(f"the engine {name} is not installed. {_INSTALL[name]}.") from error
    engine: Engine = module  # mypy holds both to it: see simfrcnn.engines
    return engine


def is_installed(name: str) -> bool:
    """Whether the library of an engine can be found, without importing it.

    A folder of that name is not the library: Detectron2's checkout, beside the script, is one.
    """
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None
