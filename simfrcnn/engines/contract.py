"""What must an engine offer, and how is one found?

An engine is a module. It translates between simfrcnn's core and one detection library and holds no
formula of its own. The tests in ``tests/contract`` run on every engine.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

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


class Engine(Protocol):
    """What the command line and the tests call; a module satisfies it."""

    NAME: str
    DEVIATIONS: tuple[Deviation, ...]

    def default_cfg(self) -> Any:
        """A config tree with every key that this engine honours, ours included."""
        ...

    def build_model(self, cfg: Any) -> nn.Module:
        """The detector with random weights on ``MODEL.DEVICE``, in training mode.

        Raises:
            ConfigError: The config asks for something that this engine has not.
        """
        ...

    def load_weights(self, model: nn.Module, path: Path) -> None:
        """Fill the model from a checkpoint of simfrcnn, strictly.

        Raises:
            CheckpointError: Another engine, architecture, name or shape; a damaged or unsafe file.
        """
        ...

    def training_losses(self, model: nn.Module, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """The losses of one batch, keys exactly :data:`LOSS_KEYS`."""
        ...

    def detect(self, model: nn.Module, samples: Sequence[Sample]) -> list[Detections]:
        """Detections in original pixels, one per sample in order; the model's mode is restored."""
        ...

    def train(self, cfg: Any, *, resume: bool = False) -> Path:
        """Train into ``OUTPUT_DIR`` and return the path of the last checkpoint."""
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
    engine: Engine = module
    return engine


def is_installed(name: str) -> bool:
    """Whether the library of an engine can be found, without importing it.

    A folder of that name is not the library: Detectron2's checkout, beside the script, is one.
    """
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None
