"""How does a nested download of CBIS-DDSM become folders that a person can read?

    <Mass|Calc>/<Train|Test>/<Mass|Calc>-<Train|Test>_P_00001_LEFT_CC_<FULL|CROP_1|MASK_1>.dcm

Files are copied, never moved: the download stays as it was. What cannot be told goes to ``Other``
under its old path, so that there are as many files afterwards as before.
"""

from __future__ import annotations

import filecmp
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from simfrcnn.data.sources.cbis_ddsm.files import Mask, find_files, find_mask, two_valued
from simfrcnn.data.sources.cbis_ddsm.reader import files_of, read_rows
from simfrcnn.data.sources.cbis_ddsm.tables import Abnormality, find_tables
from simfrcnn.data.sources.films import ANY_IMAGE, Film, find_film
from simfrcnn.data.sources.source import listed
from simfrcnn.errors import DataError, OutputError
from simfrcnn.files import copy_file, write_bytes
from simfrcnn.images.reading import read_image
from simfrcnn.parallel import in_parallel
from simfrcnn.wording import counted

OTHER = "Other"


@dataclass(frozen=True)
class Flat:
    """What was done: images of the download, copies made now and before, summed masks, notes."""

    n_before: int
    n_after: int
    n_copied: int
    n_summed: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Series:
    """A film of one kind, its files, and its abnormalities with theirs."""

    image_files: tuple[Path, ...]
    abnormalities: tuple[tuple[Abnormality, tuple[Path, ...]], ...]


def reorganise(
    root: Path,
    out: Path,
    *,
    tables: Path | None = None,
    sum_masks: bool = False,
    n_workers: int | None = None,
) -> Flat:
    """Copy every image of a download to its readable name, and the tables beside them.

    Nothing is overwritten: a file that is there already must be the same, so an interrupted run
    goes on where it stopped. Train and test are those of the published tables.

    Args:
        root: The download, in any layout, tables included.
        out: Another folder, outside of the root.
        tables: The folder with the tables, if not below the root.
        sum_masks: Also write one mask per film, of all its abnormalities: ``..._MASK.png``, 0 and
            255, in the film's size.
        n_workers: Processes, see :func:`~simfrcnn.parallel.in_parallel`.

    Raises:
        AnnotationError: A table is not understood.
        DataError: Tables or images are missing, or two files would get one name.
        OutputError: ``out`` lies in the root or holds another file of a name, or a copy is lost.
    """
    root, out = Path(root).absolute(), Path(out).absolute()
    if out.resolve().is_relative_to(root.resolve()) or root.resolve().is_relative_to(out.resolve()):
        raise OutputError(f"{out}: lies in {root} or round it; give an --out beside it")
    table_folder = root if tables is None else tables
    rows, _ = read_rows(table_folder)
    files = find_files(root)
    series = [
        _Series(
            image_files=files.of_series.get(uid, ()),
            abnormalities=tuple((row, files_of(row, files)) for row in of_image),
        )
        for uid, of_image in groupby(rows, key=lambda row: row.image_series)
    ]
    before = files.all
    if not before:
        raise DataError(f"{root}: holds no image; give the folder of the CBIS-DDSM download")
    places: dict[Path, Path] = {}
    looked_at = in_parallel(_look_at, series, title="look", unit="film", n_workers=n_workers)
    summable: list[tuple[Path, Film, tuple[Path, ...]]] = []
    for one, (film, masks) in zip(series, looked_at, strict=True):
        for source, name in _names(one, film, masks):
            if source in places:
                raise DataError(
                    f"{source}: would be both {places[source].name} and {name.name}; the tables "
                    "name its series twice"
                )
            places[source] = out / name
        if isinstance(film, Film) and (known := tuple(m.mask for m in masks if m.mask)):
            summable.append((out / _prefixed(one, "MASK", ".png"), film, known))
    named = set(places)
    other = [path for path in before if path not in named]
    places |= {path: out / OTHER / path.relative_to(root) for path in other}
    places |= {table: out / table.name for table in find_tables(table_folder).values()}
    _require_free(places)
    n_copied = sum(
        _copy(source, target)
        for source, target in tqdm(places.items(), desc="copy", unit="file", mininterval=1.0)
    )
    if sum_masks:
        for _ in in_parallel(_sum, summable, title="sum", unit="film", n_workers=n_workers):
            pass
    n_after = sum(places[path].is_file() for path in before)
    if n_after != len(before):
        raise OutputError(
            f"{out}: {counted(len(before), '[image|images]')} before, {n_after} after; run again"
        )
    shown = [str(path.relative_to(root)) for path in other]
    return Flat(
        n_before=len(before),
        n_after=n_after,
        n_copied=n_copied,
        n_summed=len(summable) if sum_masks else 0,
        notes=listed(
            f"[image|images] that [is|are] no known film, crop or mask, in {OTHER}", shown
        ),
    )


def _look_at(series: _Series) -> tuple[Film | str, tuple[Mask, ...]]:
    film = find_film(series.image_files)
    if isinstance(film, str):
        return film, ()
    size = film.height, film.width
    return film, tuple(find_mask(paths, *size) for _, paths in series.abnormalities)


def _names(series: _Series, film: Film | str, masks: Sequence[Mask]) -> list[tuple[Path, Path]]:
    """What of a film's files is known: file -> its new name, relative to the output folder."""
    if isinstance(film, str):
        return []
    names = [(film.path, _prefixed(series, "FULL", film.path.suffix))]
    for (row, _), mask in zip(series.abnormalities, masks, strict=True):
        for what, path in (("CROP", mask.crop), ("MASK", mask.mask)):
            if path is not None:
                names.append((path, _prefixed(series, f"{what}_{row.number}", path.suffix)))
    return names


def _prefixed(series: _Series, what: str, suffix: str) -> Path:
    row, _ = series.abnormalities[0]
    kind, split = row.folder
    return Path(kind, split, f"{kind}-{split}_{row.film}_{what}{suffix or '.dcm'}")


def _require_free(places: Mapping[Path, Path]) -> None:
    """Refuse, before anything is written, two files of one name and other files of a name."""
    sources: dict[Path, Path] = {}
    for source, target in places.items():
        if target in sources:
            raise DataError(f"{sources[target]} and {source} would both become {target.name}")
        sources[target] = source
        if target.exists() and target.stat().st_size != source.stat().st_size:
            raise _differs(source, target)


def _differs(source: Path | str, target: Path) -> OutputError:
    return OutputError(f"{target} is there already and differs from {source}; give another --out")


def _copy(source: Path, target: Path) -> bool:
    """Copy a file, atomically; False if it is there already. The same content is checked."""
    if target.exists():
        if not filecmp.cmp(source, target, shallow=False):
            raise _differs(source, target)
        return False
    copy_file(source, target)
    return True


def _sum(of_film: tuple[Path, Film, tuple[Path, ...]]) -> None:
    """Write the summed mask of a film, unless the same is there already."""
    target, film, masks = of_film
    content = _png(_summed(masks, film))
    if not target.exists():
        write_bytes(target, content)
    elif target.read_bytes() != content:
        raise _differs("the sum of its masks", target)


def _summed(masks: Sequence[Path], film: Film) -> NDArray[np.uint8]:
    """(H, W) 255 where any mask is bright, in the film's size."""
    total = np.zeros((film.height, film.width), dtype=np.uint8)
    for path in masks:
        inside = two_valued(read_image(path, ANY_IMAGE))
        if inside is not None:
            bright = inside.astype(np.uint8) * np.uint8(255)
            size = (film.width, film.height)
            total |= cv2.resize(bright, size, interpolation=cv2.INTER_NEAREST)
    return total


def _png(pixels: NDArray[np.uint8]) -> bytes:
    _, content = cv2.imencode(".png", pixels)
    return bytes(content)
