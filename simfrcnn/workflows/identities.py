"""Do identifiers leave as pseudonyms, and where lie their key and the way back?"""

from __future__ import annotations

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
from simfrcnn.described import Options, described
from simfrcnn.errors import ConfigError

KEY_NAME = "pseudonyms.key"


@dataclass(frozen=True)
class PrivacyOptions(Options):
    """Whether identifiers become pseudonyms, and where what belongs to them lies."""

    keep_identifiers: bool = described(
        False, "write patient and study identifiers and file names as they are, not pseudonyms"
    )
    key_file: Path | None = described(
        None,
        f"the key of the pseudonyms, made if missing (default: {KEY_NAME} in "
        "$XDG_STATE_HOME/simfrcnn, by default ~/.local/state/simfrcnn)",
        parse=Path,
        metavar="FILE",
    )
    id_map: Path | None = described(
        None,
        "what the pseudonyms stand for, outside the output folder and readable by you only "
        "(default: one per output folder, beside the key)",
        parse=Path,
        metavar="FILE",
    )


@dataclass(frozen=True)
class Identities:
    """The pseudonyms of one output folder, and the file that leads back to the source.

    ``new_key`` is the key's file where it was made just now.
    """

    pseudonyms: Pseudonyms
    id_map: Path
    new_key: Path | None = None

    def save(self, root: Path | None = None) -> None:
        """Write the id map; to be done before anything bears a pseudonym.

        Args:
            root: The folder below which the images' places lie, for ``simfrcnn whois``.
        """
        write_id_map(self.id_map, self.pseudonyms, root)


def identities(options: PrivacyOptions, what: str, out: Path) -> Identities | None:
    """The pseudonyms that the options ask for; None where identifiers are kept.

    Args:
        options: Keep, or which key and map.
        what: Begins the name of the id map.
        out: The output folder, which must hold neither key nor id map.

    Raises:
        ConfigError: Options contradict each other, a place is inside ``out``, or the key is none,
            or others can read it.
    """
    if options.keep_identifiers:
        if options.key_file or options.id_map:
            raise ConfigError("--keep-identifiers makes no pseudonyms: leave out the key and map")
        return None
    key_file = options.key_file or private_folder() / KEY_NAME
    id_map = options.id_map or default_id_map(what, out)
    require_outside(key_file, out, "--key-file")
    require_outside(id_map, out, "--id-map")
    key, is_new = read_or_make_key(key_file)
    return Identities(Pseudonyms(key), id_map, key_file if is_new else None)


def note_of_new_key(own: Identities | None) -> tuple[str, ...]:
    """What to say where a key was made."""
    if own is None or own.new_key is None:
        return ()
    return (f"new key of pseudonyms: {own.new_key} (keep it: with another, pseudonyms change)",)
