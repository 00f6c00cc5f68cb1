"""Which options decide whether identifiers leave as pseudonyms, and where key and id map lie?"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.data.pseudonyms import (
    Pseudonyms,
    default_id_map,
    private_folder,
    read_or_make_key,
    require_outside,
    write_id_map,
)
from simfrcnn.errors import ConfigError

KEY_NAME = "pseudonyms.key"


@dataclass(frozen=True)
class Identities:
    """The pseudonyms of one output folder, and the file that leads back to the source."""

    pseudonyms: Pseudonyms
    id_map: Path

    def save(self) -> None:
        """Write the id map; to be done before anything bears a pseudonym."""
        write_id_map(self.id_map, self.pseudonyms)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--keep-identifiers``, ``--key-file`` and ``--id-map``."""
    parser.add_argument(
        "--keep-identifiers",
        action="store_true",
        help="write patient and study identifiers and file names as they are, not pseudonyms",
    )
    parser.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help=f"the key of the pseudonyms, made if missing (default: {KEY_NAME} in "
        "$XDG_STATE_HOME/simfrcnn, by default ~/.local/state/simfrcnn)",
    )
    parser.add_argument(
        "--id-map",
        type=Path,
        metavar="FILE",
        help="what the pseudonyms stand for, outside the output folder and readable by you only "
        "(default: one per output folder, beside the key)",
    )


def identities(args: argparse.Namespace, what: str, out: Path) -> Identities | None:
    """The pseudonyms that the options ask for; None for ``--keep-identifiers``.

    Args:
        args: With the options of :func:`add_arguments`.
        what: Begins the name of the id map.
        out: The output folder, which must hold neither key nor id map.

    Raises:
        ConfigError: Options contradict each other, a place is inside ``out``, or the key is none,
            or others can read it.
    """
    if args.keep_identifiers:
        if args.key_file or args.id_map:
            raise ConfigError("--keep-identifiers makes no pseudonyms: leave out the key and map")
        return None
    key_file = args.key_file or private_folder() / KEY_NAME
    id_map = args.id_map or default_id_map(what, out)
    require_outside(key_file, out, "--key-file")
    require_outside(id_map, out, "--id-map")
    key, is_new = read_or_make_key(key_file)
    if is_new:
        print(f"new key of pseudonyms: {key_file} (keep it: with another, pseudonyms change)")
    return Identities(Pseudonyms(key), id_map)
