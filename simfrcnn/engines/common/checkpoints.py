"""How are checkpoints written and read, so that none is half-written, unsafe or mistaken for
another?

A checkpoint is a dict saved by torch: ``schema``, ``engine``, ``architecture``, ``model`` (a state
dict), and for resuming ``training``. Files of one run: ``model_last.pth``, replaced in one rename
at every checkpoint, and ``model_best.pth``.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor, nn

from simfrcnn.errors import CheckpointError
from simfrcnn.files import writing

SCHEMA = 1
LAST = "model_last.pth"
BEST = "model_best.pth"
_ENTRIES = {"engine", "architecture", "model", "training"}

# The keys that decide the names and shapes of weights, or what they mean.
_ARCHITECTURE_KEYS = (
    "MODEL.META_ARCHITECTURE",
    "MODEL.PIXEL_MEAN",
    "MODEL.PIXEL_STD",
    "MODEL.BACKBONE.NAME",
    "MODEL.TIMM.NAME",
    "MODEL.RESNETS.DEPTH",
    "MODEL.RESNETS.NORM",
    "MODEL.RESNETS.STRIDE_IN_1X1",
    "MODEL.RESNETS.OUT_FEATURES",
    "MODEL.FPN.IN_FEATURES",
    "MODEL.FPN.OUT_CHANNELS",
    "MODEL.FPN.NORM",
    "MODEL.ANCHOR_GENERATOR.SIZES",
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
    "MODEL.ROI_HEADS.NAME",
    "MODEL.ROI_BOX_HEAD.NAME",
    "MODEL.ROI_BOX_HEAD.NUM_FC",
    "MODEL.ROI_BOX_HEAD.FC_DIM",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION",
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE",
    "MODEL.SIMFRCNN.DEFORM_STAGES",
    "DATASETS.CLASSES",
)
# What a checkpoint meant before it had the key.
_BEFORE_THE_KEY = {"MODEL.TIMM.NAME": "", "MODEL.SIMFRCNN.DEFORM_STAGES": "[]"}


@dataclass(frozen=True)
class Identity:
    """Whose weights these are: the engine, and the keys that shape the network."""

    engine: str
    architecture: Mapping[str, str]

    @classmethod
    def of(cls, engine: str, cfg: Any) -> Identity:
        """Read the identity of a model from its config."""
        return cls(engine, {key: _plain(_get(cfg, key)) for key in _ARCHITECTURE_KEYS})


def save_checkpoint(
    path: Path, model: nn.Module, identity: Identity, training: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: The file; replaced as a whole or not at all.
        model: Its state dict is saved (unwrap a data-parallel model first).
        identity: Engine and architecture.
        training: Everything that resuming needs, made of tensors and plain containers only.

    Raises:
        OutputError: Disk full, no permission.
    """
    content = {
        "schema": SCHEMA,
        "engine": identity.engine,
        "architecture": dict(identity.architecture),
        "model": model.state_dict(),
        "training": training,
    }
    with writing(path) as temporary:
        _torch_save(content, temporary)


def read_checkpoint(path: Path, identity: Identity | None = None) -> dict[str, Any]:
    """Read a checkpoint of simfrcnn, without running any code that it might hold.

    Args:
        path: The file.
        identity: If given, the checkpoint must be of this engine and architecture.

    Raises:
        CheckpointError: Missing, damaged, unsafe, not one of ours, or of another engine or
            architecture (the keys that differ are listed).
    """
    content: dict[str, Any] = read_torch_file(path)
    if not is_simfrcnn_checkpoint(content):
        raise CheckpointError(
            f"{path} is not a checkpoint of simfrcnn (schema {SCHEMA}); weights for the start of a "
            "training go into MODEL.WEIGHTS"
        )
    if identity is not None:
        _check_identity(path, content, identity)
    return content


def is_simfrcnn_checkpoint(content: Any) -> bool:
    """Whether what was read from a ``.pth`` file is a checkpoint of ours."""
    return (
        isinstance(content, dict) and content.get("schema") == SCHEMA and content.keys() >= _ENTRIES
    )


def load_model_strictly(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy a state dict into a model; every name and shape must match.

    Counters of batch normalisation may be there or not: layers with frozen statistics have none,
    and nothing reads them.

    Raises:
        CheckpointError: Names the tensors that are missing, unexpected or of another shape.
    """
    own = model.state_dict()
    state = {name: tensor for name, tensor in state.items() if name in own or not is_counter(name)}
    state |= {name: own[name] for name in own if name not in state and is_counter(name)}
    problems = [f"missing: {name}" for name in own if name not in state]
    problems += [f"unexpected: {name}" for name in state if name not in own]
    problems += [
        f"{name}: {tuple(state[name].shape)} in the file, {tuple(tensor.shape)} in the model"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if problems:
        raise CheckpointError(f"{path} does not fit the model: {_first(problems)}")
    model.load_state_dict(state)


def is_counter(name: str) -> bool:
    """Whether a tensor of this name counts the batches that a norm layer has seen."""
    return name.endswith("num_batches_tracked")


def read_torch_file(path: Path) -> Any:
    """``torch.load`` with ``weights_only``: tensors and plain containers, no code.

    Raises:
        CheckpointError: Missing, damaged, or holding anything else.
    """
    _require_file(path)
    try:
        with warnings.catch_warnings():
            # Of a foreign pickle protocol it warns, and then reads or refuses.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        found = f"it holds {named[1]}" if named else "it is damaged or of another format"
        raise CheckpointError(
            f"{path} was not opened: {found}; a .pth may hold tensors and plain containers only"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error) or "it ends too early"
        raise CheckpointError(f"{path} is damaged or not a PyTorch file: {reason}") from error


def read_pickled_arrays(path: Path) -> dict[str, Any]:
    """Read a ``.pkl`` weights file of the Detectron family: numpy arrays and builtins only.

    An ordinary unpickler runs whatever code a crafted file names; this one admits the few names
    that arrays need and refuses every other.

    Raises:
        CheckpointError: Missing, damaged, or holding anything but arrays in plain containers.
    """
    _require_file(path)
    try:
        with open(path, "rb") as stream:
            content = _ArrayUnpickler(stream, encoding="latin1").load()
    except _ForbiddenNameError as error:
        raise CheckpointError(f"{path} was not opened: {error}") from error
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        KeyError,
        ImportError,
        MemoryError,
    ) as error:
        raise CheckpointError(f"{path} is damaged or not a pickle of arrays: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dict of arrays")
    return content


class _ForbiddenNameError(Exception):
    pass


class _ArrayUnpickler(pickle.Unpickler):
    _ALLOWED = frozenset(
        (module, name)
        for package in ("numpy.core", "numpy._core")
        for module, name in (
            (f"{package}.multiarray", "_reconstruct"),
            (f"{package}.multiarray", "scalar"),
            (f"{package}.numeric", "_frombuffer"),
        )
    ) | {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("collections", "OrderedDict"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise _ForbiddenNameError(
                f"it holds {module}.{name}; a .pkl may hold numpy arrays and plain containers only"
            )
        return super().find_class(module, name)


def _torch_save(content: Any, path: Path) -> None:
    """``torch.save`` whose failure to write is an OSError, as everywhere else.

    Given a path, its writer turns a full disk into a RuntimeError that does not say so.
    """
    failure: list[OSError] = []
    with open(path, "wb", buffering=0) as stream:
        try:
            torch.save(content, cast(IO[bytes], _Recording(stream, failure)))
        except RuntimeError as error:
            raise (failure[0] if failure else error) from error


class _Recording:
    """A writable stream that remembers the first OSError of a write."""

    def __init__(self, stream: io.FileIO, failure: list[OSError]) -> None:
        self._stream, self._failure = stream, failure

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        try:
            while left:
                left = left[self._stream.write(left) :]
        except OSError as error:
            self._failure.append(error)
            raise
        return len(data)

    def flush(self) -> None:
        self._stream.flush()


def _check_identity(path: Path, content: dict[str, Any], identity: Identity) -> None:
    if content["engine"] != identity.engine:
        raise CheckpointError(
            f"{path} was trained with the engine {content['engine']}, this run uses "
            f"{identity.engine}; take --engine {content['engine']}"
        )
    theirs = {**_BEFORE_THE_KEY, **content["architecture"]}
    ours = {**_BEFORE_THE_KEY, **identity.architecture}
    differing = [
        f"{key} is {theirs.get(key)} in the file, {ours.get(key)} in the config"
        for key in sorted({*theirs, *ours})
        if theirs.get(key) != ours.get(key)
    ]
    if differing:
        raise CheckpointError(f"{path} is of another architecture: {_first(differing)}")


def _require_file(path: Path) -> None:
    if not Path(path).is_file():
        raise CheckpointError(f"{path} does not exist or is not a file")


def _first(problems: list[str], shown: int = 5) -> str:
    more = f"; and {len(problems) - shown} more" if len(problems) > shown else ""
    return "; ".join(problems[:shown]) + more


def _get(cfg: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        cfg = cfg[part]
    return cfg


def _plain(value: Any) -> str:
    """The same text for a list and a tuple: YAML knows no tuples."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    return str(value)
