"""Which public data sets can be prepared, and with which options of their own?

A new set is a reader in ``simfrcnn/data/sources/`` and an entry of :data:`SOURCES`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simfrcnn.data.sources.cbis_ddsm.flat import reorganise
from simfrcnn.data.sources.cbis_ddsm.reader import read_cbis_ddsm
from simfrcnn.data.sources.cbis_ddsm.tables import KINDS
from simfrcnn.data.sources.ddsm.reader import read_ddsm
from simfrcnn.data.sources.folder import (
    COLUMNS,
    DEFAULT_UNBOXED_BENIGN,
    TABLE,
    UNBOXED_BENIGN,
    read_folder,
)
from simfrcnn.data.sources.inbreast import DEFAULT_KINDS, read_inbreast
from simfrcnn.data.sources.inbreast import DEFAULT_RULE as INBREAST_RULE
from simfrcnn.data.sources.inbreast import KINDS as INBREAST_KINDS
from simfrcnn.data.sources.inbreast import RULES as INBREAST_RULES
from simfrcnn.data.sources.malignancy import DEFAULT_RULE, RULES
from simfrcnn.data.sources.mias import ABNORMALITIES, read_mias
from simfrcnn.data.sources.normals import with_normals
from simfrcnn.data.sources.source import SourceData
from simfrcnn.data.sources.vindr_mammo import DEFAULT_RULE as VINDR_RULE
from simfrcnn.data.sources.vindr_mammo import RULES as VINDR_RULES
from simfrcnn.data.sources.vindr_mammo import read_vindr_mammo
from simfrcnn.dicom.mammogram import STRICT, DicomOptions
from simfrcnn.errors import ConfigError


@dataclass(frozen=True)
class Source:
    """One data set on the command line.

    Attributes:
        help: What the set is, in a line.
        root_help: What ``--root`` must hold.
        add_arguments: Adds the options that only this set has.
        read: The parsed arguments (``root``, ``workers`` and the own options) -> its records.
        publishes_split: The reader sets ``record.split``, and ``--split`` is offered.
        layouts: Name of ``--layout`` -> what reorganises the download into a folder instead of
            writing annotation files; gets the arguments and that folder, returns the exit code.
        has_public_ids: Its identifiers are published and stay; else they become pseudonyms.
        dicom_options: What the arguments allow ``--cache`` to read beyond the ordinary.
    """

    help: str
    root_help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    read: Callable[[argparse.Namespace], SourceData]
    publishes_split: bool = False
    layouts: Mapping[str, Callable[[argparse.Namespace, Path], int]] = field(default_factory=dict)
    has_public_ids: bool = True
    dicom_options: Callable[[argparse.Namespace], DicomOptions] = lambda _: STRICT


def _mias_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target-classes",
        default=",".join(ABNORMALITIES),
        help="abnormalities whose malignant findings are the target (default: all; masses only: "
        "CIRC,SPIC,MISC)",
    )


def _read_mias(args: argparse.Namespace) -> SourceData:
    return read_mias(args.root, names_in(args.target_classes), skip_unreadable=args.skip_unreadable)


def _cbis_ddsm_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tables", type=Path, help="folder with the four case-description tables (default: ROOT)"
    )
    parser.add_argument(
        "--kinds",
        default=",".join(KINDS),
        help="abnormalities to take: mass, calc or both (default: mass,calc)",
    )
    _add_malignant(parser)
    parser.add_argument(
        "--normals-from",
        type=Path,
        metavar="DDSM_ROOT",
        help="also take the normal cases of a DDSM download: CBIS-DDSM has none",
    )
    parser.add_argument(
        "--sum-masks",
        action="store_true",
        help="with --layout flat: also one mask per film, of all its abnormalities, as PNG",
    )


def _read_cbis_ddsm(args: argparse.Namespace) -> SourceData:
    if args.sum_masks:
        raise ConfigError("--sum-masks: masks are summed with --layout flat only")
    data = read_cbis_ddsm(
        args.root,
        kinds=names_in(args.kinds),
        malignant=args.malignant,
        tables=args.tables,
        n_workers=args.workers,
    )
    if args.normals_from is None:
        return data
    normals = read_ddsm(args.normals_from, only_normal=True, n_workers=args.workers)
    return with_normals(data, normals, "ddsm", args.normals_from, args.seed)


def _flat_cbis_ddsm(args: argparse.Namespace, out: Path) -> int:
    chosen = {
        "--kinds": args.kinds != ",".join(KINDS),
        "--malignant": args.malignant != DEFAULT_RULE,
        "--normals-from": args.normals_from is not None,
        "--split": args.split is not None,
        "--seed": args.seed != 0,
        "--fractions": args.fractions is not None,
        "--copy": args.copy,
        "--cache": args.cache != "none",
        "--skip-unreadable": args.skip_unreadable,
        "--overwrite": args.overwrite,
    }
    if any(chosen.values()):
        names = ", ".join(name for name, is_chosen in chosen.items() if is_chosen)
        raise ConfigError(
            f"{names}: is for annotation files; --layout flat copies every file, and overwrites "
            "none"
        )
    flat = reorganise(
        args.root, out, tables=args.tables, sum_masks=args.sum_masks, n_workers=args.workers
    )
    print(f"{flat.n_before} images before, {flat.n_after} after -> {out}")
    print(f"  {flat.n_copied} files copied now, {flat.n_summed} masks summed")
    for note in flat.notes:
        print(f"note: {note}")
    return 0


def _ddsm_arguments(parser: argparse.ArgumentParser) -> None:
    _add_malignant(parser)


def _read_ddsm(args: argparse.Namespace) -> SourceData:
    return read_ddsm(args.root, malignant=args.malignant, n_workers=args.workers)


def _inbreast_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--malignant-from",
        choices=INBREAST_RULES,
        default=INBREAST_RULE,
        help=f"the lowest BI-RADS that is malignant (default: {INBREAST_RULE})",
    )
    parser.add_argument(
        "--kinds",
        default=",".join(DEFAULT_KINDS),
        help=f"findings that are boxed, of {', '.join(INBREAST_KINDS)} (default: "
        f"{','.join(DEFAULT_KINDS)})",
    )


def _read_inbreast(args: argparse.Namespace) -> SourceData:
    return read_inbreast(
        args.root,
        malignant_from=args.malignant_from,
        kinds=names_in(args.kinds),
        skip_unreadable=args.skip_unreadable,
    )


def _vindr_mammo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--malignant-from",
        type=int,
        choices=VINDR_RULES,
        default=VINDR_RULE,
        help=f"the lowest BI-RADS of a finding that is malignant (default: {VINDR_RULE})",
    )


def _read_vindr_mammo(args: argparse.Namespace) -> SourceData:
    return read_vindr_mammo(
        args.root,
        malignant_from=args.malignant_from,
        skip_unreadable=args.skip_unreadable,
        n_workers=args.workers,
    )


def _folder_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table",
        type=Path,
        metavar="CSV",
        help=f"the labels, with columns of {', '.join(COLUMNS)} (default: {TABLE} in ROOT)",
    )
    parser.add_argument(
        "--unboxed-benign",
        choices=list(UNBOXED_BENIGN),
        default=DEFAULT_UNBOXED_BENIGN,
        help="what benign images without boxes are: image_label (default: they do not train), or "
        "normal, known to hold no cancer",
    )
    parser.add_argument(
        "--ignore-columns",
        default="",
        metavar="NAME,...",
        help="columns of the table that are to be left aside",
    )
    parser.add_argument(
        "--any-modality", action="store_true", help="also read DICOM files that are not mammography"
    )
    parser.add_argument(
        "--allow-for-processing",
        action="store_true",
        help="also read raw (FOR PROCESSING) images, with a plain greyscale",
    )


def _folder_options(args: argparse.Namespace) -> DicomOptions:
    return DicomOptions(
        allow_for_processing=args.allow_for_processing, any_modality=args.any_modality
    )


def _read_folder(args: argparse.Namespace) -> SourceData:
    return read_folder(
        args.root,
        table=args.table,
        unboxed_benign=args.unboxed_benign,
        ignored_columns=[name.lower() for name in names_in(args.ignore_columns)],
        skip_unreadable=args.skip_unreadable,
        n_workers=args.workers,
    )


def _add_malignant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--malignant",
        choices=list(RULES),
        default=DEFAULT_RULE,
        help="what is malignant: by pathology (default), or by a BI-RADS assessment of 4 or 5",
    )


def names_in(text: str) -> tuple[str, ...]:
    """The names of a list with commas, such as ``CIRC,SPIC``."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


SOURCES: Mapping[str, Source] = {
    "mias": Source(
        help="the mini-MIAS database: 322 digitised MLO films",
        root_help="folder with Info.txt and mdbNNN.pgm or .png",
        add_arguments=_mias_arguments,
        read=_read_mias,
    ),
    "cbis_ddsm": Source(
        help="CBIS-DDSM: 3,032 digitised films with masses and calcifications",
        root_help="the download, in any layout, with its four tables",
        add_arguments=_cbis_ddsm_arguments,
        read=_read_cbis_ddsm,
        publishes_split=True,
        layouts={"flat": _flat_cbis_ddsm},
    ),
    "ddsm": Source(
        help="DDSM, the original: 2,620 cases of four films, with normal ones",
        root_help="volumes or cases with their .ics files, and the films as PNG or DICOM",
        add_arguments=_ddsm_arguments,
        read=_read_ddsm,
    ),
    "inbreast": Source(
        help="INbreast: 410 digital mammograms of 115 patients, with outlines",
        root_help="the release, with INbreast.csv, AllDICOMs and AllXML",
        add_arguments=_inbreast_arguments,
        read=_read_inbreast,
    ),
    "vindr_mammo": Source(
        help="VinDr-Mammo: 5,000 exams of four digital mammograms, with boxes",
        root_help="the download, with finding_annotations.csv and images",
        add_arguments=_vindr_mammo_arguments,
        read=_read_vindr_mammo,
        publishes_split=True,
    ),
    "folder": Source(
        help="images of your own, with a table of labels",
        root_help="folder of DICOM, PNG, PGM, JPEG or TIFF images, nested or not",
        add_arguments=_folder_arguments,
        read=_read_folder,
        publishes_split=True,
        has_public_ids=False,
        dicom_options=_folder_options,
    ),
}
