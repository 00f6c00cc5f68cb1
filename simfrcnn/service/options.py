"""What can be said to a node or a pull, on the command line or in one YAML file?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from simfrcnn.described import Description, Options, described, descriptions
from simfrcnn.errors import ConfigError
from simfrcnn.registry import require_known
from simfrcnn.yaml_text import parsed

K = TypeVar("K", bound="ServiceOptions")

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_AE_TITLE = r"[A-Za-z0-9_.-]{1,16}"


def _folder(text: str) -> Path:
    """A folder; ``.`` is kept apart from ``Path()``, which stands for none."""
    return Path.cwd() if text and Path(text) == Path() else Path(text)


@dataclass(frozen=True)
class ServiceOptions(Options):
    """What node and pull have in common."""

    folder: Path = described(
        Path(),
        "queue, films, results and logs, for the owner alone; must be given (default: none)",
        parse=_folder,
        metavar="DIR",
    )
    weights: str | None = described(
        None,
        "a checkpoint of simfrcnn, or the name of a model that comes with it; must be given",
        metavar="W",
    )
    device: str = described("auto", "cpu, cuda, cuda:N, or auto: that of the model's config")
    operating_point: str | None = described(
        None, "what decides the call of an exam, as of predict", metavar="LEVEL/RULE"
    )
    to: tuple[str, ...] = described(
        (),
        "where results go: AE@HOST:PORT (C-STORE), or the URL of a DICOMweb server (STOW-RS); a "
        "node needs one; without it, pull sends to its source",
        metavar="TARGET",
        many="times",
    )
    dicom: tuple[str, ...] = described(
        ("sr",), "kinds of results: sr, gsps, cad-sr, sc", metavar="KINDS", many="commas"
    )
    score_threshold: float | None = described(
        None,
        "smallest score of a region in a result (default: EVAL.SCORE_THRESHOLD)",
        legal="a score in [0, 1]",
        metavar="P",
        parse=float,
    )
    aet: str = described("SIMFRCNN", "own AE title, as called and as caller", metavar="AE")
    attempts: int = described(
        8, "tries to judge or send a study before it fails", legal="[1, inf)", metavar="N"
    )
    retry_wait: float = described(
        30.0,
        "seconds before the second try; each further wait is twice as long",
        legal="[0, inf)",
        metavar="S",
    )
    longest_wait: float = described(
        3600.0, "seconds between two tries, at most", legal="[0, inf)", metavar="S"
    )
    association_timeout: float = described(
        30.0,
        "seconds for a connection and for an answer to an association",
        legal="(0, inf)",
        metavar="S",
    )
    dimse_timeout: float = described(
        60.0,
        "seconds for an answer to a C-STORE that this side sent",
        legal="(0, inf)",
        metavar="S",
    )
    network_timeout: float = described(
        60.0,
        "seconds without a word after which an association is aborted",
        legal="(0, inf)",
        metavar="S",
    )
    send_timeout: float = described(
        120.0,
        "seconds without an answer after which an HTTP request fails",
        legal="(0, inf)",
        metavar="S",
    )
    min_free_gb: float = described(
        2.0,
        "GB that stay free on the disk: below, images are refused",
        legal="[0, inf)",
        metavar="GB",
    )
    keep_days: float = described(
        7.0,
        "days for which films and results of a done study stay",
        legal="[0, inf)",
        metavar="DAYS",
    )
    keep_gb: float = described(
        50.0, "GB of done studies, at most; the oldest go first", legal="[0, inf)", metavar="GB"
    )

    def __post_init__(self) -> None:
        """Check what one field alone does not say.

        Raises:
            ConfigError: A value is not legal.
        """
        super().__post_init__()
        require_ae_title("--aet", self.aet)

    def require(self, *names: str) -> None:
        """Refuse to begin without these.

        Raises:
            ConfigError: One was not given.
        """
        missing = [name for name in names if getattr(self, name) in (None, (), Path())]
        if missing:
            raise ConfigError(
                f"{' and '.join(map(option_of, missing))} must be given, as an option or as a key "
                "of --config-file"
            )


@dataclass(frozen=True)
class NodeOptions(ServiceOptions):
    """Of `simfrcnn node`."""

    port: int | None = described(
        None,
        "port that it listens on; must be given",
        legal="[1, 65535]",
        metavar="P",
        parse=int,
    )
    address: str = described(
        "127.0.0.1", "address that it listens on; any but loopback asks for --allow-ae"
    )
    allow_ae: tuple[str, ...] = described(
        (), "AE titles that may call; others are rejected", metavar="AE", many="commas"
    )
    stable_after: float = described(
        60.0,
        "seconds without a new image after which a study is judged",
        legal="[0, inf)",
        metavar="S",
    )
    max_associations: int = described(10, "associations at a time", legal="[1, inf)", metavar="N")
    canary_minutes: float = described(
        15.0,
        "minutes between two phantom studies through the model; 0: none",
        legal="[0, inf)",
        metavar="M",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for title in self.allow_ae:
            require_ae_title("--allow-ae", title)
        if self.address not in LOOPBACK and not self.allow_ae:
            raise ConfigError(
                f"--address {self.address} can be reached from outside this machine: give "
                "--allow-ae with the AE titles that may call. DICOM has no passwords; let a "
                "firewall admit these machines only"
            )


@dataclass(frozen=True)
class PullOptions(ServiceOptions):
    """Of `simfrcnn pull`; the token of the servers is in an environment variable."""

    source: str | None = described(
        None,
        "URL of the DICOMweb server to read from; must be given",
        option="--from",
        metavar="URL",
    )
    since: str | None = described(
        None, "first study date, YYYY-MM-DD; must be given", metavar="DATE"
    )
    until: str | None = described(None, "last study date (default: none)", metavar="DATE")


def require_ae_title(option: str, title: str) -> None:
    """Refuse what is no AE title of 1 to 16 plain characters.

    Raises:
        ConfigError: It is none.
    """
    if not re.fullmatch(_AE_TITLE, title):
        raise ConfigError(
            f"{option} is {title!r}; legal are 1 to 16 letters, digits and the characters _ . -"
        )


def option_of(name: str) -> str:
    """How the field of this name is written on the command line."""
    kinds = (NodeOptions, PullOptions)
    return next(str(d.option) for kind in kinds for d in descriptions(kind) if d.name == name)


def read_options(kind: type[K], given: Mapping[str, Any], config_file: Path | None) -> K:
    """Options of the command line, and of a YAML file where the line is silent.

    Args:
        kind: The class.
        given: By name of the field; what stands here wins.
        config_file: Each key is an option without its dashes, such as ``stable-after: 60``.

    Raises:
        ConfigError: The file cannot be read, a key does not exist, or a value is not legal.
    """
    return kind(**{**({} if config_file is None else _of_file(kind, config_file)), **given})


def _of_file(kind: type[ServiceOptions], path: Path) -> dict[str, Any]:
    try:
        # every scalar is its text, as on the command line: an AE title ON or 0123 stays what it is
        content = parsed(path.read_text(encoding="utf-8"), path, texts=True)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"--config-file {path} cannot be read ({type(error).__name__}); a YAML file is legal"
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: options and their values are legal, such as `port: 11112`")
    known = {str(each.option).removeprefix("--"): each for each in descriptions(kind)}
    keys = {str(key).replace("_", "-"): value for key, value in content.items()}
    require_known(f"a key of {path}", keys, known)
    return {known[key].name: _value(path, key, known[key], value) for key, value in keys.items()}


def _value(path: Path, key: str, each: Description, value: Any) -> Any:
    """A value of the file, of the type that the option has."""
    is_list = isinstance(value, list)
    if is_list and each.many is None:
        raise ConfigError(f"{path}: {key} is a list; one value is legal")
    parts = value if is_list else [value]
    if not all(isinstance(part, str) for part in parts):
        raise ConfigError(f"{path}: {key} is {value!r}; legal is one value, or a list of them")
    if each.many == "commas" and not is_list:
        parts = [part for part in value.split(",") if part.strip()] or [""]  # as on the line
    parts = [part.strip() for part in parts]
    if not all(parts):
        raise ConfigError(f"{path}: {key} has an empty value: give one, or leave the key out")
    try:
        return each.parse(parts[0]) if each.many is None else tuple(parts)
    except ValueError as error:
        wanted = each.legal or "another value"
        raise ConfigError(f"{path}: {key} is {value!r}; legal is {wanted}") from error
