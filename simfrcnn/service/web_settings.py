"""What `simfrcnn serve` is asked to do, and the token that guards it."""

from __future__ import annotations

import ipaddress
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.described import Options, described
from simfrcnn.errors import ConfigError

TOKEN_VARIABLE = "SIMFRCNN_TOKEN"
MIN_TOKEN_LENGTH = 16


@dataclass(frozen=True)
class ServeOptions(Options):
    """The model, the folder, the address, and the bounds of what is taken."""

    weights: str | None = described(
        None, "a checkpoint of simfrcnn, or the name of a model that comes with it"
    )
    folder: Path | None = described(
        None,
        "where studies lie, in sub-folders too; uploads go to FOLDER/uploads, results to "
        "FOLDER/results; made if missing",
        parse=Path,
        metavar="DIR",
    )
    address: str = described("127.0.0.1", "to listen on; any but a loopback one asks for a token")
    port: int = described(8080, "to listen on; 0 takes a free one", legal="[0, 65535]")
    token_file: Path | None = described(
        None,
        f"a file with the token that every request must bear, readable by you only; or the "
        f"environment variable {TOKEN_VARIABLE}",
        parse=Path,
        metavar="FILE",
    )
    device: str = described("auto", "cpu, cuda, cuda:N, or auto")
    operating_point: str | None = described(
        None, "what decides a call, as for predict", metavar="LEVEL/RULE"
    )
    queue: int = described(32, "studies that wait at most; more are refused", legal="[1, 10000]")
    max_upload_mb: int = described(1024, "largest upload, packed and unpacked", legal="[1, 65536]")
    max_files: int = described(500, "most files of an upload", legal="[1, 100000]")
    uploads_per_minute: int = described(60, "more are refused", legal="[1, 100000]")

    def required(self) -> tuple[str, Path]:
        """The weights and the folder.

        Raises:
            ConfigError: One was not given.
        """
        if self.weights is None or self.folder is None:
            raise ConfigError("give --weights and --folder: a model, and where studies lie")
        return self.weights, self.folder


def token_of(options: ServeOptions) -> bytes | None:
    """The token that requests must bear; None where none was given, which only loopback may.

    Raises:
        ConfigError: It is missing, too short, in a file that cannot be read or that others can.
    """
    text = os.environ.get(TOKEN_VARIABLE, "")
    where = f"the environment variable {TOKEN_VARIABLE}"
    if options.token_file is not None:
        text, where = _read_private(options.token_file), f"--token-file {options.token_file}"
    token = text.strip()
    if not token and options.token_file is None:
        if is_loopback(options.address):
            return None
        raise ConfigError(
            f"--address {options.address} can be reached from other machines: give a token "
            f"(--token-file, or {TOKEN_VARIABLE}), or listen on 127.0.0.1"
        )
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable():
        raise ConfigError(
            f"{where}: a token has at least {MIN_TOKEN_LENGTH} printable ASCII characters, such as "
            "`openssl rand -hex 32` prints"
        )
    return token.encode("ascii")


def is_loopback(address: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _read_private(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--token-file {path} cannot be read as text ({type(error).__name__})"
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"--token-file {path}: others can read it: chmod 600 {path}")
    return text
