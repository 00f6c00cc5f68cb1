"""Which options decide how prepared pictures are stored, and what does a run of them report?"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from simfrcnn.data.prepared import Cached, CacheSettings, Unreadable, cache_images
from simfrcnn.data.pseudonyms import Pseudonyms, name_of_image
from simfrcnn.dicom.mammogram import STRICT, DicomOptions
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.images.finding import DICOM_SUFFIXES, RASTER_SUFFIXES
from simfrcnn.records import ImageRecord
from simfrcnn.settings import InputSettings

FOLDER = "images"
_BITS = {"8bit": 8, "16bit": 16}
_SMALLEST_PX = 32
_N_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser, *, default: str) -> None:
    """``--cache`` and what goes with it."""
    parser.add_argument(
        "--cache",
        choices=["none", *_BITS],
        default=default,
        help="store each image as PNG at the training size, boxes moved along: 8bit is exactly "
        f"what training reads, 16bit has finer grey (default: {default})",
    )
    parser.add_argument(
        "--size",
        nargs="+",
        default=["512"],
        metavar="PX",
        help="with --cache: the config's INPUT.MAMMO.SIZE, one number or height and width "
        "(default: 512), or `full` for whole images in their own size",
    )
    parser.add_argument(
        "--whole-image",
        action="store_true",
        help="with --cache: do not crop to the breast (INPUT.MAMMO.CROP_TO_BREAST False)",
    )
    parser.add_argument(
        "--stretch",
        action="store_true",
        help="with --cache: do not keep the aspect (INPUT.MAMMO.KEEP_ASPECT False)",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one per core, at most 8)"
    )
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="leave out images that cannot be read; without it they are an error",
    )


def cache_settings(
    args: argparse.Namespace, options: DicomOptions = STRICT
) -> CacheSettings | None:
    """What the options ask for; None for ``--cache none``.

    Raises:
        ConfigError: The size is none, or options need ``--cache`` or contradict each other.
    """
    shapes = {
        "--size": args.size != ["512"],
        "--whole-image": args.whole_image,
        "--stretch": args.stretch,
    }
    if args.cache == "none":
        if chosen := [name for name, is_chosen in shapes.items() if is_chosen]:
            raise ConfigError(f"{', '.join(chosen)}: is for stored pictures; give --cache 8bit too")
        return None
    if args.copy:
        raise ConfigError("--copy copies the source's files, --cache makes others: give one")
    if args.size == ["full"]:
        if args.whole_image or args.stretch:
            raise ConfigError("--size full stores whole images: no --whole-image and no --stretch")
        return CacheSettings(_BITS[args.cache], None, options)
    wanted = InputSettings(
        size_px=_size(args.size),
        crop_to_breast=not args.whole_image,
        keep_aspect=not args.stretch,
    )
    return CacheSettings(_BITS[args.cache], wanted, options)


def in_file(settings: CacheSettings, cached: Cached) -> dict[str, object]:
    """What an annotation file's ``info`` says about its pictures."""
    wanted = settings.as_input
    as_input = None if wanted is None else asdict(wanted)
    left_out = {"n_unreadable_left_out": len(cached.unreadable)} if cached.unreadable else {}
    return {"prepared": {"bits": settings.bits, "as_input": as_input}, **left_out}


def cache_splits(
    splits: Mapping[str, Sequence[ImageRecord]],
    out: Path,
    settings: CacheSettings,
    place_of: Callable[[Path], Path],
    pseudonyms: Pseudonyms | None,
    args: argparse.Namespace,
) -> tuple[dict[str, tuple[ImageRecord, ...]], Cached]:
    """Store the pictures of all splits below ``out``, and give the records of the stored ones.

    Args:
        splits: Records with the paths of the source.
        out: The prepared folder.
        settings: What to store.
        place_of: A file's path -> the same below the source's root; pictures keep that place,
            unless they bear pseudonyms.
        pseudonyms: Of the records, if they bear any.
        args: With the options of :func:`add_arguments`, ``root`` and ``overwrite``.

    Raises:
        DataError: Images cannot be read, without ``--skip-unreadable``; those that can are stored
            and need not be made again.
        OutputError: See :func:`~simfrcnn.data.prepared.cache_images`.
    """
    records = [record for of_split in splits.values() for record in of_split]
    places = {
        record.image_id: out.absolute() / FOLDER / _picture(record, place_of, pseudonyms)
        for record in records
    }
    cached = cache_images(
        records,
        places,
        settings,
        fingerprint=(pseudonyms or Pseudonyms(b"")).fingerprint,
        overwrite=args.overwrite,
        n_workers=args.workers,
    )
    if cached.unreadable and not (args.skip_unreadable and cached.records):
        remedy = "; leave them out, or skip them (--skip-unreadable)" if cached.records else ""
        raise DataError(
            f"{len(cached.unreadable)} of {len(records)} images cannot be read{remedy}:"
            + "".join(f"\n  {line}" for line in _named(cached.unreadable, args.root))
        )
    stored = {record.image_id: record for record in cached.records}
    return {
        name: tuple(stored[r.image_id] for r in of_split if r.image_id in stored)
        for name, of_split in splits.items()
    }, cached


def report(cached: Cached, root: Path, out: Path) -> list[str]:
    """Lines for the terminal: what was made, what was there, what is missing or left over."""
    lines = [f"pictures: {cached.n_made} made, {cached.n_up_to_date} up to date"]
    used = {record.path for record in cached.records}
    unused = [p for p in (out.absolute() / FOLDER).rglob("*.png") if p not in used]
    if unused:
        lines.append(
            f"  {len(unused)} pictures in {out / FOLDER} are in no annotation file (of an earlier "
            f"run?), such as {unused[0].name}: remove them before the folder is passed on"
        )
    if cached.n_whole:
        lines.append(f"  {cached.n_whole} stored whole: a finding leaves the crop to the breast")
    if cached.unreadable:
        lines.append(f"  {len(cached.unreadable)} images cannot be read, left out:")
        lines += [f"    {line}" for line in _named(cached.unreadable, root)]
    return lines


def _picture(
    record: ImageRecord, place_of: Callable[[Path], Path], pseudonyms: Pseudonyms | None
) -> Path:
    if pseudonyms is not None:
        return Path(f"{name_of_image(record.image_id)}.png")
    place = place_of(record.path)
    has_suffix = place.suffix.lower() in DICOM_SUFFIXES | RASTER_SUFFIXES
    return place.with_suffix(".png") if has_suffix else place.with_name(f"{place.name}.png")


def _named(unreadable: Sequence[Unreadable], root: Path) -> list[str]:
    """Paths below the root and what is wrong, those of the first files."""
    lines = [
        item.message.replace(f"{root.absolute()}{os.sep}", "") for item in unreadable[:_N_SHOWN]
    ]
    more = len(unreadable) - len(lines)
    return [*lines, f"and {more} more"] if more else lines


def _size(words: Sequence[str]) -> tuple[int, int]:
    sides = [int(word) if word.isdecimal() else 0 for word in words]
    if len(sides) > 2 or min(sides) < _SMALLEST_PX:
        raise ConfigError(
            f"--size {' '.join(words)}: give one number, or height and width, of at least "
            f"{_SMALLEST_PX} pixels, or `full`"
        )
    return sides[0], sides[-1]
