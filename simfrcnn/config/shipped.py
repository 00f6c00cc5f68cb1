"""Which configs come with simfrcnn, and which file does a name or a path mean?

They lie in ``simfrcnn/configs``, in a checkout and in an installed package alike. A file refers to
one of them as ``simfrcnn:NAME``, wherever it lies itself.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from simfrcnn.errors import ConfigError

SCHEME = "simfrcnn:"
FOLDER = Path(__file__).parents[1] / "configs"


def find_config(named: str | Path, *, what: str = "config file") -> Path:
    """The file of a path or of a name such as ``sim_r101`` or ``demo/sim``; a file goes first.

    Args:
        named: A path; or the name of a config of simfrcnn, with or without ``simfrcnn:``,
            ``configs/`` and ``.yaml``.
        what: What it is called in an error.

    Raises:
        ConfigError: There is neither; names the nearest config.
    """
    text = str(named)
    path = Path(named).expanduser()
    if not text.startswith(SCHEME) and path.exists() and not path.is_dir():
        return path
    name = text.removeprefix(SCHEME).removeprefix("configs/").removesuffix(".yaml")
    if not path.is_absolute() and ".." not in Path(name).parts:
        shipped = FOLDER / f"{name}.yaml"
        if shipped.is_file():
            return shipped
    if path.is_dir():
        raise ConfigError(
            f"{what} {named} is a folder; give a file, or a name that `simfrcnn configs` lists"
        )
    near = _nearest(name)
    hint = f" Did you mean {near}?" if near else ""
    raise ConfigError(
        f"{what} {named} does not exist, and no config of simfrcnn has that name.{hint} `simfrcnn "
        "configs` lists them"
    )


def name_of_config(named: str | Path) -> str:
    """How a report names a config: ``demo/sim`` of one of simfrcnn, else the file's name.

    Raises:
        ConfigError: There is no such config.
    """
    path = find_config(named)
    if path.resolve().is_relative_to(FOLDER.resolve()):
        return path.resolve().relative_to(FOLDER.resolve()).with_suffix("").as_posix()
    return path.name


def _nearest(name: str) -> str | None:
    """The one config whose last word is that of ``name``, else the one that is spelt most alike."""
    names, last = list(shipped_configs()), Path(name).name
    same = [other for other in names if Path(other).name == last]
    if len(same) == 1:
        return same[0]
    near = difflib.get_close_matches(name, names, n=1)
    near = near or difflib.get_close_matches(last, names, n=1)
    return near[0] if near else None


def named_in(named: str, file: Path) -> Path:
    """The file that another file names: relative to that one, or ``simfrcnn:NAME``.

    Raises:
        ConfigError: There is no such config of simfrcnn, or there is one and no such file: then
            ``simfrcnn:`` is missing.
    """
    if named.startswith(SCHEME):
        return find_config(named)
    path = Path(os.path.normpath(file.parent / Path(named).expanduser()))
    name = named.removesuffix(".yaml")
    if not path.exists() and name in shipped_configs():
        raise ConfigError(
            f"{file} names {named}, but there is no file {path}; for the config of simfrcnn write "
            f"{SCHEME}{name}"
        )
    return path


def shipped_configs() -> dict[str, str]:
    """Name -> what it is, of every config that can be run; not of the parts they share."""
    paths = [
        path.relative_to(FOLDER)
        for path in FOLDER.rglob("*.yaml")
        if not any(part.startswith("_") for part in path.relative_to(FOLDER).parts)
    ]
    ordered = sorted(paths, key=lambda path: (len(path.parts) > 1, path.parts))
    return {path.with_suffix("").as_posix(): first_sentence(FOLDER / path) for path in ordered}


def first_sentence(path: Path) -> str:
    """What the comment at the head of a file says first."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        words += line.lstrip("#").split()
    return re.split(r"(?<=\.) (?!\d)", " ".join(words))[0]
