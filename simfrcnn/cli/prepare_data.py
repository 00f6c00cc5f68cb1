"""Prepare a public data set: its own files -> COCO annotation files, split by patient."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from simfrcnn.data.catalog import datasets_root
from simfrcnn.data.coco import write_coco
from simfrcnn.data.sources.mias import ABNORMALITIES, CATEGORIES, MiasData, read_mias
from simfrcnn.data.splits import split_by_patient
from simfrcnn.errors import ConfigError, DataError, OutputError
from simfrcnn.files import sha256_of, writing
from simfrcnn.records import ImageRecord

DEFAULT_FRACTIONS = ("train=0.6", "val=0.2", "test=0.2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand per data set."""
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    mias = sources.add_parser("mias", help="the mini-MIAS database: 322 digitised MLO films")
    mias.add_argument(
        "--root", type=Path, required=True, help="folder with Info.txt and mdbNNN.pgm or .png"
    )
    mias.add_argument(
        "--out", type=Path, help="folder for train.json ... (default: mias in $SIMFRCNN_DATASETS)"
    )
    mias.add_argument("--seed", type=int, default=0, help="of the split by patient (default: 0)")
    mias.add_argument(
        "--fractions",
        nargs="+",
        default=list(DEFAULT_FRACTIONS),
        metavar="SPLIT=SHARE",
        help=f"shares of the patients (default: {' '.join(DEFAULT_FRACTIONS)})",
    )
    mias.add_argument(
        "--target-classes",
        default=",".join(ABNORMALITIES),
        help="abnormalities whose malignant findings are the target (default: all; masses only: "
        "CIRC,SPIC,MISC)",
    )
    mias.add_argument(
        "--copy", action="store_true", help="copy the films to OUT/images instead of pointing there"
    )
    mias.add_argument("--overwrite", action="store_true", help="replace what is in OUT")


def run(args: argparse.Namespace) -> int:
    """Read the source, split it by patient, write one COCO file per split, print what there is."""
    out = args.out or datasets_root() / args.source
    fractions = parse_fractions(args.fractions)
    files = {name: out / f"{name}.json" for name in fractions}
    _require_free(out, list(files.values()), overwrite=args.overwrite)
    target_classes = tuple(part.strip() for part in args.target_classes.split(",") if part.strip())
    print(f"reading {args.root} ...", flush=True)
    data = read_mias(args.root, target_classes)
    splits = split_by_patient(data.records, fractions, args.seed)
    for name, records in splits.items():
        if not records:
            raise DataError(f"split {name!r} gets no patient: raise its share in --fractions")
    if args.copy:
        _require_same_or_absent(data.records, out / "images", overwrite=args.overwrite)
        splits = {name: _copied(records, out / "images") for name, records in splits.items()}
    for name, records in splits.items():
        info = _info(name, fractions, args.seed, target_classes)
        write_coco(files[name], records, CATEGORIES, info)
    print(_summary(data, splits, files))
    return 0


def parse_fractions(entries: Sequence[str]) -> dict[str, float]:
    """Entries "SPLIT=SHARE" as a mapping.

    Raises:
        ConfigError: An entry is malformed or a split is named twice.
    """
    fractions: dict[str, float] = {}
    for entry in entries:
        name, _, share = entry.partition("=")
        try:
            fraction = float(share)
        except ValueError:
            fraction = 0.0
        if not name.isidentifier() or name in fractions or not 0 < fraction <= 1:
            raise ConfigError(
                f"--fractions {entry!r}: give SPLIT=SHARE, each split once, a share above 0 and at "
                f"most 1, for instance {' '.join(DEFAULT_FRACTIONS)}"
            )
        fractions[name] = fraction
    return fractions


def _require_free(out: Path, paths: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse to replace files unasked, and to leave a split of another division beside new ones."""
    there = sorted(out.glob("*.json"))
    stale = [path for path in there if path not in paths]
    if stale:
        raise OutputError(
            f"{', '.join(map(str, stale))}: belongs to another division, and would share patients "
            "with the new files; give another --out, or remove it"
        )
    if there and not overwrite:
        raise OutputError(
            f"already there: {', '.join(map(str, there))}; give another --out, or --overwrite"
        )


def _require_same_or_absent(
    records: Sequence[ImageRecord], folder: Path, *, overwrite: bool
) -> None:
    """Refuse to replace other films by copies unasked; those of an interrupted run are the same."""
    for record in records:
        target = folder / record.path.name
        if target.exists() and not overwrite and sha256_of(target) != sha256_of(record.path):
            raise OutputError(
                f"{target} is there already and differs from {record.path}; give another --out, or "
                "--overwrite"
            )


def _copied(records: Sequence[ImageRecord], folder: Path) -> tuple[ImageRecord, ...]:
    copies = []
    for record in records:
        target = folder.absolute() / record.path.name
        with writing(target) as temporary:
            shutil.copyfile(record.path, temporary)
        copies.append(dataclasses.replace(record, path=target))
    return tuple(copies)


def _info(
    split: str, fractions: Mapping[str, float], seed: int, target_classes: Sequence[str]
) -> dict[str, object]:
    return {
        "description": f"mini-MIAS, {split}",
        "version": "1",
        "reference": "Suckling et al. (1994), Excerpta Medica 1069, 375-378; for research only",
        "seed": seed,
        "fractions": dict(fractions),
        "target_classes": list(target_classes),
        "boxes": "round the stated circle; y turned to count from the top; clipped to the film",
    }


def _summary(
    data: MiasData, splits: Mapping[str, Sequence[ImageRecord]], files: Mapping[str, Path]
) -> str:
    lines = [
        f"{len(data.records)} films; {data.n_clipped_boxes} boxes clipped to their film",
        _listed("rows of Info.txt without a film", data.films_without_image),
        _listed("films without a row of Info.txt, not used", data.images_without_row),
    ]
    for name, records in splits.items():
        kinds = Counter(record.supervision.value for record in records)
        boxes = Counter(finding.category for record in records for finding in record.findings)
        n_patients = len({record.patient_id for record in records})
        lines += [
            f"{name}: {n_patients} patients, {len(records)} images -> {files[name]}",
            f"  images: {_counts(kinds)}",
            f"  boxes:  {_counts(boxes)}",
        ]
    return "\n".join(lines)


def _listed(what: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
    return f"{len(names)} {what}" + (f": {shown}" if names else "")


def _counts(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counter.items())) or "none"
