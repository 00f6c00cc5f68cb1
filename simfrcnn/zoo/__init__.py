"""Which trained models come with simfrcnn, and which file does a name or a path mean?

Each is one file beside this one, ``NAME.safetensors``, as `simfrcnn export` writes it: weights,
config, operating points and card. ``SHA256SUMS`` holds their hashes.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from simfrcnn.errors import CheckpointError
from simfrcnn.files import sha256_of

FOLDER = Path(__file__).parent
SUMS = "SHA256SUMS"
_SUFFIX = ".safetensors"


def find_model(named: str | Path, *, folder: Path = FOLDER) -> Path:
    """The file of a path, or of the name of a model that comes with simfrcnn; a file goes first.

    A folder of that name, such as one with results of the model, does not hide it.

    Args:
        named: A path; or a name of :func:`shipped_models`.
        folder: Of the models.

    Raises:
        CheckpointError: There is neither, or the model's file is not the one that was shipped.

    Example:
        >>> from simfrcnn.zoo import find_model
        >>> find_model(weights) == weights
        True
    """
    path = Path(named).expanduser()
    names = shipped_models(folder)
    if path.is_file() or (path.exists() and str(named) not in names):
        return path
    if str(named) not in names:
        raise CheckpointError(_unknown(str(named), names))
    path = folder / f"{named}{_SUFFIX}"
    if sha256_of(path) != _sums(folder).get(path.name):
        raise CheckpointError(
            f"{path} is not the file that simfrcnn came with (its SHA-256 is not that of {SUMS}): "
            "install simfrcnn again"
        )
    return path


def shipped_models(folder: Path = FOLDER) -> tuple[str, ...]:
    """The names of the models that come with simfrcnn."""
    return tuple(sorted(path.stem for path in folder.glob(f"*{_SUFFIX}")))


def _unknown(named: str, names: tuple[str, ...]) -> str:
    told = f"{named} does not exist; give a checkpoint of simfrcnn"
    if not names:
        return told
    near = difflib.get_close_matches(named, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{told}, or a name: the models that come with simfrcnn are {', '.join(names)}.{hint}"


def _sums(folder: Path) -> dict[str, str]:
    """File name -> SHA-256, as `sha256sum` writes them."""
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines if line)}
