"""Prepare a public data set: its own files -> COCO annotation files, split by patient."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from simfrcnn.cli import caching, identifiers
from simfrcnn.cli.sources import SOURCES, Source
from simfrcnn.data.catalog import datasets_root
from simfrcnn.data.coco import as_coco
from simfrcnn.data.pseudonyms import IDENTIFIERS, pseudonymised
from simfrcnn.data.sources.source import SourceData
from simfrcnn.data.splits import assert_no_patient_leak, split_by_patient
from simfrcnn.errors import ConfigError, DataError, OutputError
from simfrcnn.files import as_json, sha256_of, write_files, writing
from simfrcnn.records import ImageRecord

DEFAULT_FRACTIONS = ("train=0.6", "val=0.2", "test=0.2")
PUBLISHED_FRACTIONS = ("train=0.8", "val=0.2")
"""Of the patients of the train part of a published division; its test part stays whole."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand per data set: its own options, and those that all sets share."""
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name, source in SOURCES.items():
        own = sources.add_parser(name, help=source.help)
        own.add_argument("--root", type=Path, required=True, help=source.root_help)
        own.add_argument(
            "--out",
            type=Path,
            help=f"folder for train.json ... (default: {name} in $SIMFRCNN_DATASETS)",
        )
        source.add_arguments(own)
        _add_division(own, source)
        caching.add_arguments(own, default="none" if source.has_public_ids else "8bit")
        if not source.has_public_ids:
            identifiers.add_arguments(own)
        own.add_argument(
            "--copy",
            action="store_true",
            help="copy the images to OUT/images instead of pointing there",
        )
        own.add_argument("--overwrite", action="store_true", help="replace what is in OUT")
        if source.layouts:
            own.add_argument(
                "--layout",
                choices=["coco", *source.layouts],
                default="coco",
                help="coco (default): annotation files; else reorganise the download into OUT",
            )


def run(args: argparse.Namespace) -> int:
    """Read the source, split it by patient, write one COCO file per split, print what there is."""
    source = SOURCES[args.source]
    out = args.out or datasets_root() / args.source
    if source.layouts and args.layout != "coco":
        return source.layouts[args.layout](args, out)
    fractions = None if args.fractions is None else parse_fractions(args.fractions)
    cache = caching.cache_settings(args, source.dicom_options(args))
    _require_apart(args, out)
    _require_free(out, overwrite=args.overwrite)
    identities = _identities(args, source, out)
    print(f"reading {args.root} ...", flush=True)
    data = source.read(args)
    # By the identifiers of the source: every site divides one public set alike.
    splits, facts = _divided(args, data.records, fractions)
    _require_patients(splits)
    _require_no_others(out, splits)
    notes = [f"divided: {facts['division']}", *(f"note: {note}" for note in data.notes)]
    if not source.has_public_ids:
        facts["identifiers"] = "those of the source" if identities is None else IDENTIFIERS
    place_of = partial(data.place_of, root=args.root.absolute())
    pseudonyms = None if identities is None else identities.pseudonyms
    if identities is not None:
        splits = {
            name: pseudonymised(records, identities.pseudonyms, place_of)
            for name, records in splits.items()
        }
        identities.save()
        notes.append(f"what the pseudonyms stand for, for your eyes only: {identities.id_map}")
    if cache is not None:
        splits, cached = caching.cache_splits(splits, out, cache, place_of, pseudonyms, args)
        _require_patients(splits)
        facts |= caching.in_file(cache, cached)
        notes += caching.report(cached, args.root, out)
    if args.copy:
        splits = _all_copied(
            data, splits, args.root, out / caching.FOLDER, overwrite=args.overwrite
        )
    _write(out, splits, data, facts)
    print(_summary(splits, out, notes))
    return 0


def _identities(
    args: argparse.Namespace, source: Source, out: Path
) -> identifiers.Identities | None:
    """The pseudonyms of a source whose identifiers are not public, unless they shall be kept."""
    if source.has_public_ids:
        return None
    if not args.keep_identifiers and (args.copy or args.cache == "none"):
        raise ConfigError(
            f"{'--copy' if args.copy else '--cache none'}: the source's own files and their names "
            "tell who the patients are: let pictures be made (--cache 8bit or 16bit), or ask for "
            "--keep-identifiers"
        )
    return identifiers.identities(args, args.source, out)


def _divided(
    args: argparse.Namespace,
    records: Sequence[ImageRecord],
    fractions: Mapping[str, float] | None,
) -> tuple[dict[str, tuple[ImageRecord, ...]], dict[str, object]]:
    """The splits, as published or at random, and what the files say of them.

    Raises:
        ConfigError: ``--split published`` is asked for, and not every record states its split.
    """
    n_without = sum(record.split is None for record in records)
    wanted = getattr(args, "split", "random") or ("random" if n_without else "published")
    if wanted == "random":
        fractions = fractions or parse_fractions(DEFAULT_FRACTIONS)
        division = f"at random by patient, {_shares(fractions)}"
        splits = split_by_patient(records, fractions, args.seed)
    elif n_without:
        raise ConfigError(
            f"--split published: {n_without} of {len(records)} images state no split: state it for "
            "all (a table's column `split`), or give --split random"
        )
    else:
        parts = {str(record.split) for record in records}
        if fractions is None and "train" in parts and "val" not in parts:
            fractions = parse_fractions(PUBLISHED_FRACTIONS)
        division = "as published" + (
            f", its train part at random by patient, {_shares(fractions)}" if fractions else ""
        )
        splits = split_as_published(records, fractions, args.seed)
    chosen = {"seed": args.seed, "fractions": fractions} if fractions else {}
    return splits, {"division": division, **chosen}


def _shares(fractions: Mapping[str, float]) -> str:
    return " ".join(f"{name}={share:g}" for name, share in fractions.items())


def _require_patients(splits: Mapping[str, Sequence[ImageRecord]]) -> None:
    n_patients = len({r.patient_id for records in splits.values() for r in records})
    for name, records in splits.items():
        if not records:
            raise DataError(
                f"split {name!r} gets no patient of the {n_patients} that there are: raise its "
                "share in --fractions, or leave it out"
            )


def split_as_published(
    records: Sequence[ImageRecord], fractions: Mapping[str, float] | None, seed: int
) -> dict[str, tuple[ImageRecord, ...]]:
    """The split that the records state; its train part can be divided further, by patient.

    A set publishes what to train on and what to test on, and seldom what to choose the operating
    point on: that is taken from the train part.

    Args:
        records: All records, with ``split`` set by the reader.
        fractions: Shares of the patients of the published train part by split name; None leaves it
            whole.
        seed: Of that division.

    Returns:
        The splits of the train part, then the others as published.

    Raises:
        ConfigError: A share is named like a published split other than train, or there is no train
            part to divide.
        DataError: The fractions do not sum to 1, or the published split shares patients.
    """
    published: dict[str, list[ImageRecord]] = {}
    for record in records:
        published.setdefault(str(record.split), []).append(record)
    assert_no_patient_leak(published)
    if fractions is not None and "train" not in published:
        raise ConfigError(
            f"--fractions {_shares(fractions)}: with --split published they divide the train part, "
            f"and there are only {', '.join(sorted(published))}: leave them out"
        )
    train = published.pop("train", [])
    taken = sorted(published.keys() & (fractions or {}).keys())
    if taken:
        raise ConfigError(
            f"--fractions {taken[0]}: that split is published; with --split published give shares "
            f"of its train part, for instance {' '.join(PUBLISHED_FRACTIONS)}"
        )
    others = {name: tuple(published[name]) for name in sorted(published)}
    if fractions is None:
        return ({"train": tuple(train)} if train else {}) | others
    return split_by_patient(train, fractions, seed) | others


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


def _require_apart(args: argparse.Namespace, out: Path) -> None:
    """Refuse new pictures among those of the source, which would be taken for some of them."""
    pictures, root = (out / caching.FOLDER).resolve(), args.root.resolve()
    makes_pictures = args.copy or args.cache != "none"
    if makes_pictures and (pictures.is_relative_to(root) or root.is_relative_to(pictures)):
        raise ConfigError(
            f"--out {out}: its pictures ({caching.FOLDER}) would lie among those of --root "
            f"{args.root}; give a folder beside it"
        )


def _require_free(out: Path, *, overwrite: bool) -> None:
    """Refuse to replace annotation files unasked, before the source is read."""
    there = sorted(out.glob("*.json"))
    if there and not overwrite:
        raise OutputError(
            f"already there: {', '.join(map(str, there))}; give another --out, or --overwrite"
        )


def _require_no_others(out: Path, names: Iterable[str]) -> None:
    """Refuse to leave a split of another division beside the new ones."""
    own = {f"{name}.json" for name in names}
    stale = [path for path in sorted(out.glob("*.json")) if path.name not in own]
    if stale:
        raise OutputError(
            f"{', '.join(map(str, stale))}: belongs to another division, and would share patients "
            "with the new files; give another --out, or remove it"
        )


def _all_copied(
    data: SourceData,
    splits: Mapping[str, Sequence[ImageRecord]],
    root: Path,
    folder: Path,
    *,
    overwrite: bool,
) -> dict[str, tuple[ImageRecord, ...]]:
    """The records with their images copied to ``folder``, placed there as they lie below root."""
    root, folder = root.absolute(), folder.absolute()
    places = {
        record.image_id: folder / data.place_of(record.path, root)
        for records in splits.values()
        for record in records
    }
    for records in splits.values():
        _require_same_or_absent(records, places, overwrite=overwrite)
    return {
        name: tuple(_copied(record, places[record.image_id]) for record in records)
        for name, records in splits.items()
    }


def _require_same_or_absent(
    records: Sequence[ImageRecord], places: Mapping[int, Path], *, overwrite: bool
) -> None:
    """Refuse to replace other images by copies unasked; an interrupted run's are the same."""
    for record in records:
        target = places[record.image_id]
        if target.exists() and not overwrite and sha256_of(target) != sha256_of(record.path):
            raise OutputError(
                f"{target} is there already and differs from {record.path}; give another --out, or "
                "--overwrite"
            )


def _copied(record: ImageRecord, target: Path) -> ImageRecord:
    with writing(target) as temporary:
        shutil.copyfile(record.path, temporary)
    return dataclasses.replace(record, path=target)


def _add_division(parser: argparse.ArgumentParser, source: Source) -> None:
    default = " ".join(DEFAULT_FRACTIONS)
    if source.publishes_split:
        parser.add_argument(
            "--split",
            choices=["published", "random"],
            help="the division that the set or its table states, or all patients divided at random "
            "(default: published where every image states its split)",
        )
        default = (
            f"random: {default}; published: {' '.join(PUBLISHED_FRACTIONS)} of its train part, or "
            "none of it where there is a val part"
        )
    parser.add_argument("--seed", type=int, default=0, help="of the split by patient (default: 0)")
    parser.add_argument(
        "--fractions",
        nargs="+",
        metavar="SPLIT=SHARE",
        help=f"shares of the patients (default: {default})",
    )


def _write(
    out: Path,
    splits: Mapping[str, Sequence[ImageRecord]],
    data: SourceData,
    facts: Mapping[str, object],
) -> None:
    """Write the annotation files together: one of another division beside them would leak."""
    contents = {}
    for name, records in splits.items():
        path = out / f"{name}.json"
        document = as_coco(path, records, data.categories, _info(data.info, name, facts))
        contents[path.name] = as_json(document).encode("utf-8")
    write_files(out, contents)


def _info(
    source: Mapping[str, object], split: str, facts: Mapping[str, object]
) -> dict[str, object]:
    own = dict(source)
    return {
        "description": f"{own.pop('description')}, {split}",
        "version": "1",
        "reference": own.pop("reference"),
        **facts,
        **own,
    }


def _summary(splits: Mapping[str, Sequence[ImageRecord]], out: Path, lines: Sequence[str]) -> str:
    lines = [f"{sum(map(len, splits.values()))} images", *lines]
    for name, records in splits.items():
        kinds = Counter(record.supervision.value for record in records)
        boxes = Counter(finding.category for record in records for finding in record.findings)
        n_patients = len({record.patient_id for record in records})
        lines += [
            f"{name}: {n_patients} patients, {len(records)} images -> {out / f'{name}.json'}",
            f"  images: {_counts(kinds)}",
            f"  boxes:  {_counts(boxes)}",
        ]
    return "\n".join(lines)


def _counts(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counter.items())) or "none"
