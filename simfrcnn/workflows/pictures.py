"""How are prepared pictures stored, and what does a run of them report?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from simfrcnn.config import FileKey, add_simfrcnn_config, input_settings, portable_defaults
from simfrcnn.config import read_keys as keys_of_config
from simfrcnn.config.shipped import named_in
from simfrcnn.config.stages import STAGES
from simfrcnn.data.prepared import Cached, CacheSettings, Unreadable, cache_images
from simfrcnn.data.pseudonyms import Pseudonyms, name_of_image
from simfrcnn.described import Options, described
from simfrcnn.dicom.mammogram import STRICT, DicomOptions
from simfrcnn.errors import ConfigError, DataError, OutputError
from simfrcnn.files import copy_file, sha256_of
from simfrcnn.images.finding import DICOM_SUFFIXES, RASTER_SUFFIXES
from simfrcnn.records import ImageRecord
from simfrcnn.settings import InputSettings
from simfrcnn.wording import agreeing, counted

FOLDER = "images"
_BITS = {"8bit": 8, "16bit": 16}
_SMALLEST_PX = 32
_N_SHOWN = 20


@dataclass(frozen=True)
class PictureOptions(Options):
    """What becomes of the source's pictures; ``cache`` of None is the source's default."""

    cache: str | None = described(
        None,
        "store each image as PNG at the training size, boxes moved along: 8bit is exactly what "
        "training reads, 16bit has finer grey; or none (default: none for public sets, else 8bit)",
        choices=("none", *_BITS),
    )
    size: tuple[str | int, ...] = described(
        ("512",),
        "with --cache: the config's INPUT.MAMMO.SIZE, one number or height and width (default: "
        "512), or `full` for whole images in their own size",
        many="words",
        metavar="PX",
    )
    whole_image: bool = described(
        False, "with --cache: do not crop to the breast (INPUT.MAMMO.CROP_TO_BREAST False)"
    )
    stretch: bool = described(
        False, "with --cache: do not keep the aspect (INPUT.MAMMO.KEEP_ASPECT False)"
    )
    for_config: Path | None = described(
        None,
        "with --cache: size, crop and aspect that this config (a file or a name such as demo/sim) "
        "wants, in place of the three options above",
        parse=Path,
        metavar="CONFIG",
        option="--for",
    )
    invert: bool = described(
        False, "with --cache: the pictures are negatives (dense is dark): turn their greys round"
    )
    copy: bool = described(False, "copy the images to OUT/images instead of pointing there")


def cache_settings(
    options: PictureOptions, cache: str, dicom: DicomOptions = STRICT
) -> CacheSettings | None:
    """What the options ask for; None for ``--cache none``.

    Args:
        options: Size, crop and aspect.
        cache: `none`, `8bit` or `16bit`.
        dicom: What is read although it is refused by default.

    Raises:
        ConfigError: The size is none, or options need ``--cache`` or contradict each other.
    """
    shapes = [flag for flag in options.chosen() if flag not in ("--cache", "--copy")]
    if cache == "none":
        if shapes:
            raise ConfigError(f"{', '.join(shapes)}: is for stored pictures; give --cache 8bit too")
        return None
    if options.copy:
        raise ConfigError("--copy copies the source's files, --cache makes others: give one")
    return CacheSettings(_BITS[cache], _wanted(options, shapes), dicom, options.invert)


def _wanted(options: PictureOptions, shapes: Sequence[str]) -> InputSettings | None:
    sizes = tuple(map(str, options.size))
    if options.for_config is not None:
        others = [flag for flag in shapes if flag not in ("--for", "--invert")]
        if others:
            raise ConfigError(f"--for states size, crop and aspect: leave out {', '.join(others)}")
        return input_of_config(options.for_config)
    if sizes == ("full",):
        if options.whole_image or options.stretch:
            raise ConfigError("--size full stores whole images: no --whole-image and no --stretch")
        return None
    return InputSettings(
        size_px=_size(sizes),
        crop_to_breast=not options.whole_image,
        keep_aspect=not options.stretch,
    )


def input_of_config(path: Path) -> InputSettings:
    """Size, crop and aspect that a config asks for (its keys ``INPUT.MAMMO``).

    Args:
        path: A file, or the name of a config of simfrcnn. Of a job of two stages, what both ask
            for; of a ladder, what its shared config does.

    Raises:
        ConfigError: The file is missing or malformed, a value is not legal, or two stages ask for
            different inputs.
    """
    entries = keys_of_config(path)
    values = {entry.key: entry for entry in entries}
    if any(entry.key.startswith("RUNGS.") for entry in entries) and "CONFIG" in values:
        return input_of_config(named_in(str(values["CONFIG"].value), values["CONFIG"].path))
    stages = [values[stage] for stage in STAGES if stage in values]
    wanted = {
        _input_of_keys([*keys_of_config(named_in(str(stage.value), stage.path)), *entries])
        for stage in stages
    } or {_input_of_keys(entries)}
    if len(wanted) > 1:
        raise ConfigError(
            f"{path}: its stages ask for different inputs; name the config of one of them"
        )
    return wanted.pop()


def _input_of_keys(entries: Sequence[FileKey]) -> InputSettings:
    cfg = portable_defaults()
    add_simfrcnn_config(cfg)
    for entry in [entry for entry in entries if entry.key.startswith("INPUT.MAMMO.")]:
        try:
            cfg.merge_from_list([entry.key, entry.value])
        except (KeyError, ValueError, AssertionError) as error:
            raise ConfigError(f"{entry.path}: {entry.key}: {error}") from error
    return input_settings(cfg).unwindowed()


def in_file(settings: CacheSettings, cached: Cached) -> dict[str, object]:
    """What an annotation file's ``info`` says about its pictures."""
    wanted = settings.as_input
    as_input = None if wanted is None else asdict(wanted)
    left_out = {"n_unreadable_left_out": len(cached.unreadable)} if cached.unreadable else {}
    inverted = {"inverted": True} if settings.inverted else {}
    return {"prepared": {"bits": settings.bits, "as_input": as_input, **inverted}, **left_out}


@dataclass(frozen=True)
class Storing:
    """Where the pictures of a source go, and what may happen there.

    ``place_of`` is a file's path -> the same below the source's root; pictures keep that place,
    unless they bear ``pseudonyms``.
    """

    root: Path
    out: Path
    place_of: Callable[[Path], Path]
    pseudonyms: Pseudonyms | None
    overwrite: bool
    skip_unreadable: bool
    n_workers: int | None


def cache_splits(
    splits: Mapping[str, Sequence[ImageRecord]], settings: CacheSettings, how: Storing
) -> tuple[dict[str, tuple[ImageRecord, ...]], Cached]:
    """Store the pictures of all splits below ``how.out``, and give the records of the stored ones.

    Args:
        splits: Records with the paths of the source.
        settings: What to store.
        how: Where.

    Raises:
        DataError: Images cannot be read and must not be left out; those that can are stored and
            need not be made again.
        OutputError: See :func:`~simfrcnn.data.prepared.cache_images`.
    """
    records = [record for of_split in splits.values() for record in of_split]
    folder = how.out.absolute() / FOLDER
    places = {record.image_id: folder / _picture(record, how) for record in records}
    cached = cache_images(
        records,
        places,
        settings,
        fingerprint=(how.pseudonyms or Pseudonyms(b"")).fingerprint,
        overwrite=how.overwrite,
        n_workers=how.n_workers,
    )
    if cached.unreadable and not (how.skip_unreadable and cached.records):
        remedy = "; leave them out, or skip them (--skip-unreadable)" if cached.records else ""
        raise DataError(
            f"{len(cached.unreadable)} of {counted(len(records), '[image|images]')} cannot be "
            f"read{remedy}:"
            + "".join(f"\n  {line}" for line in _named(cached.unreadable, how.root))
        )
    stored = {record.image_id: record for record in cached.records}
    return {
        name: tuple(stored[r.image_id] for r in of_split if r.image_id in stored)
        for name, of_split in splits.items()
    }, cached


def all_copied(
    splits: Mapping[str, Sequence[ImageRecord]],
    place_of: Callable[[Path], Path],
    folder: Path,
    *,
    overwrite: bool,
) -> dict[str, tuple[ImageRecord, ...]]:
    """The records with their images copied to ``folder``, placed there as they lie below root.

    Raises:
        OutputError: Another file is in the way.
    """
    folder = folder.absolute()
    places = {
        record.image_id: folder / place_of(record.path)
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
    copy_file(record.path, target)
    return replace(record, path=target)


def report(cached: Cached, root: Path, out: Path) -> list[str]:
    """Lines for the terminal: what was made, what was there, what is missing or left over."""
    lines = [f"pictures: {cached.n_made} made, {cached.n_up_to_date} up to date"]
    used = {record.path for record in cached.records}
    unused = [p for p in (out.absolute() / FOLDER).rglob("*.png") if p not in used]
    if unused:
        lines.append(
            f"  {counted(len(unused), '[picture|pictures]')} in {out / FOLDER} "
            f"{agreeing(len(unused), '[is|are]')} in no annotation file (of an earlier run?), such "
            f"as {unused[0].name}: remove them before the folder is passed on"
        )
    if cached.n_whole:
        lines.append(f"  {cached.n_whole} stored whole: a finding leaves the crop to the breast")
    if cached.unreadable:
        lines.append(
            f"  {counted(len(cached.unreadable), '[image|images]')} cannot be read, left out:"
        )
        lines += [f"    {line}" for line in _named(cached.unreadable, root)]
    return lines


def _picture(record: ImageRecord, how: Storing) -> Path:
    if how.pseudonyms is not None:
        return Path(f"{name_of_image(record.image_id)}.png")
    place = how.place_of(record.path)
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
