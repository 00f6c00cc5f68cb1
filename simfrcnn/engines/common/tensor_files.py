"""How are files of tensors read without running what they might hold, and written whole?

Of a ``.pth`` tensors and plain containers are read, of a ``.pkl`` numpy arrays and plain
containers; everything else that a pickle can hold is code, and is refused. A ``.safetensors`` holds
no code.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from simfrcnn.errors import CheckpointError


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
    except Exception as error:  # what is no PyTorch file makes the reader fail in many ways
        reason = str(error) or "it ends too early"
        reason = f"{type(error).__name__} {reason}" if reason.isdigit() else reason  # a bare code
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


def write_torch_file(content: Any, path: Path) -> None:
    """``torch.save`` whose failure to write is an OSError, as everywhere else.

    Given a path, its writer turns a full disk into a RuntimeError that does not say so.
    """
    failure: list[OSError] = []
    with open(path, "wb", buffering=0) as stream:
        try:
            torch.save(content, cast(IO[bytes], _Recording(stream, failure)))
        except RuntimeError as error:
            raise (failure[0] if failure else error) from error


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a ``.safetensors`` file, and the texts beside them.

    Raises:
        CheckpointError: Missing or damaged.
    """
    _require_file(path)
    try:
        with safe_open(str(path), framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (no dict)
            return tensors, stream.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from error


def write_safetensors(tensors: Mapping[str, Tensor], texts: Mapping[str, str], path: Path) -> None:
    """Write tensors, and texts beside them; the same content gives the same bytes."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    path.write_bytes(save(contiguous, dict(texts)))


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


def _require_file(path: Path) -> None:
    if not Path(path).is_file():
        raise CheckpointError(f"{path} does not exist or is not a file")
