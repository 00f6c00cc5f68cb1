"""How is CBIS-DDSM offered: with its own options, with normal films of DDSM, or reorganised?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simfrcnn.data.sources.cbis_ddsm.flat import reorganise
from simfrcnn.data.sources.cbis_ddsm.reader import read_cbis_ddsm
from simfrcnn.data.sources.cbis_ddsm.tables import KINDS
from simfrcnn.data.sources.ddsm.reader import read_ddsm
from simfrcnn.data.sources.malignancy import malignant_option
from simfrcnn.data.sources.normals import with_normals
from simfrcnn.data.sources.source import Reading, Source, SourceData
from simfrcnn.described import Options, described
from simfrcnn.errors import ConfigError
from simfrcnn.wording import counted


@dataclass(frozen=True)
class CbisOptions(Options):
    """What only this set can be asked for."""

    tables: Path | None = described(
        None, "folder with the four case-description tables (default: ROOT)", parse=Path
    )
    kinds: tuple[str, ...] = described(
        KINDS, "abnormalities to take: mass, calc or both (default: mass,calc)", many="commas"
    )
    malignant: str = malignant_option()
    normals_from: Path | None = described(
        None,
        "also take the normal cases of a DDSM download: CBIS-DDSM has none",
        parse=Path,
        metavar="DDSM_ROOT",
    )
    sum_masks: bool = described(
        False, "with --layout flat: also one mask per film, of all its abnormalities, as PNG"
    )


def _read(root: Path, options: CbisOptions, how: Reading) -> SourceData:
    if options.sum_masks:
        raise ConfigError("--sum-masks: masks are summed with --layout flat only")
    data = read_cbis_ddsm(
        root,
        kinds=options.kinds,
        malignant=options.malignant,
        tables=options.tables,
        n_workers=how.n_workers,
    )
    if options.normals_from is None:
        return data
    normals = read_ddsm(options.normals_from, only_normal=True, n_workers=how.n_workers)
    return with_normals(data, normals, "ddsm", options.normals_from, how.seed)


def _flat(root: Path, out: Path, options: CbisOptions, how: Reading) -> tuple[str, ...]:
    flat = reorganise(
        root,
        out,
        tables=options.tables,
        sum_masks=options.sum_masks,
        n_workers=how.n_workers,
    )
    return (
        f"{counted(flat.n_before, '[image|images]')} before, {flat.n_after} after -> {out}",
        f"  {counted(flat.n_copied, '[file|files]')} copied now, "
        f"{counted(flat.n_summed, '[mask|masks]')} summed",
        *(f"note: {note}" for note in flat.notes),
    )


SOURCE = Source(
    name="cbis_ddsm",
    help="CBIS-DDSM: 3,032 digitised films with masses and calcifications",
    root_help="the download, in any layout, with its four tables",
    options=CbisOptions,
    read=_read,
    publishes_split=True,
    layouts={"flat": _flat},
    layout_options=frozenset({"tables", "sum_masks", "workers"}),
)
