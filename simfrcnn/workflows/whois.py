"""Which patient, study or file does a pseudonym stand for? Only the private id maps know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from simfrcnn.data.pseudonyms import Source, find_pseudonym, id_maps, private_folder
from simfrcnn.errors import DataError
from simfrcnn.wording import counted


def whois(pseudonym: str, id_map: Path | None = None) -> list[Source]:
    """What a pseudonym stands for, by one id map or by all in the private folder.

    Args:
        pseudonym: A patient, exam, lesion or attribute as it stands in a file; the number or the
            name of an image.
        id_map: The map to ask; by default all that ``prepare-data`` and ``predict`` have written
            to the private folder.

    Raises:
        ConfigError: The map does not exist, or is none.
        DataError: No map knows it.
    """
    maps: Sequence[Path] = id_maps() if id_map is None else [id_map]
    found = [source for path in maps for source in find_pseudonym(path, pseudonym)]
    if found:
        return found
    if not maps:
        raise DataError(
            f"{private_folder()} holds no id map: name it with --id-map. Pseudonyms can be "
            "resolved only where they were made"
        )
    asked = f"the id map {id_map}"
    if id_map is None:
        asked = f"any of the {len(maps)} id maps in {maps[0].parent}"
    raise DataError(
        f"{pseudonym} is not in {asked}: it was made elsewhere, with --id-map, or is no pseudonym "
        "(with --keep-identifiers there are none)"
    )


def lines_of(sources: Sequence[Source]) -> list[str]:
    """For a terminal: kind, what it stands for, and the map that says so; of several the newest."""
    maps: dict[str, list[Path]] = {}
    for source in sources:
        stands_for = source.path or source.identifier
        maps.setdefault(f"{source.pseudonym}  {source.kind}  {stands_for}", []).append(
            source.id_map
        )
    lines = []
    for line, places in maps.items():
        newest = max(places, key=lambda place: place.stat().st_mtime)
        others = f" and {counted(len(places) - 1, 'other [map|maps]')}" if len(places) > 1 else ""
        lines.append(f"{line}  ({newest}{others})")
    return lines
