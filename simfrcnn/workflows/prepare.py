"""How does a data set become annotation files: COCO, divided by patient, with small pictures?

The source's own files are read (:mod:`simfrcnn.data.sources`), its patients divided, identifiers
that are not public replaced by pseudonyms, pictures stored at the training size, and one COCO file
a split written, all or none.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from simfrcnn.data.catalog import datasets_root
from simfrcnn.data.coco import as_coco
from simfrcnn.data.prepared import CacheSettings
from simfrcnn.data.pseudonyms import IDENTIFIERS, pseudonymised
from simfrcnn.data.sources.exams import views_per_exam
from simfrcnn.data.sources.registry import source_named
from simfrcnn.data.sources.source import Reading, Source, SourceData
from simfrcnn.described import Options, described, descriptions, made
from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.files import as_json, as_utf8, write_files
from simfrcnn.image_labels import image_roles
from simfrcnn.labels import tally_of, training_roles
from simfrcnn.locks import working_in
from simfrcnn.records import ImageRecord
from simfrcnn.registry import require_known
from simfrcnn.wording import counted
from simfrcnn.workflows import pictures
from simfrcnn.workflows.division import (
    Division,
    DivisionOptions,
    PublishedOptions,
    divided,
    require_patients,
)
from simfrcnn.workflows.identities import (
    Identities,
    PrivacyOptions,
    identities,
    note_of_new_key,
)
from simfrcnn.workflows.outlining import OutlineOptions, outlined
from simfrcnn.workflows.pictures import PictureOptions, Storing

TARGET = "malignant"
logger = logging.getLogger("simfrcnn")


@dataclass(frozen=True)
class RunOptions(Options):
    """How the work is done."""

    workers: int | None = described(
        None, "processes (default: one per core that is ours, at most 8)", parse=int, metavar="N"
    )
    skip_unreadable: bool = described(
        False, "leave out images that cannot be read; without it they are an error"
    )
    overwrite: bool = described(False, "replace what is in OUT")


@dataclass(frozen=True)
class LayoutOptions(Options):
    """For sources that can be reorganised."""

    layout: str = described(
        "coco", "coco (default): annotation files; else reorganise the download into OUT"
    )


@dataclass(frozen=True)
class SplitCounts:
    """What a split holds.

    ``supervision`` and ``boxes`` count images and boxes by kind and class. Of the images,
    ``n_positive`` have complete boxes with one of the target `malignant` that trains (in a set of
    labels, such as ChestX-ray14: show one of its classes), ``n_normal`` are known to have none, and
    ``n_left_out`` teach nothing.
    """

    n_patients: int
    n_images: int
    supervision: Mapping[str, int]
    boxes: Mapping[str, int]
    n_positive: int
    n_normal: int
    by_labels: bool = False

    @property
    def n_left_out(self) -> int:
        """Images that are neither positive nor known to be normal."""
        return self.n_images - self.n_positive - self.n_normal


@dataclass(frozen=True)
class Prepared:
    """What :func:`prepare` has written.

    Attributes:
        folder: Where it lies.
        files: Split -> its annotation file; nothing where a download was reorganised.
        counts: Split -> what it holds.
        notes: What was left out, clipped, repaired or chosen: one line each.
        id_map: What the pseudonyms stand for, where there are any.
    """

    folder: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    counts: Mapping[str, SplitCounts] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    id_map: Path | None = None

    def lines(self) -> tuple[str, ...]:
        """The same for people."""
        if not self.files:
            return self.notes
        n_images = sum(c.n_images for c in self.counts.values())
        lines = [counted(n_images, "[image|images]"), *self.notes]
        for name, counts in self.counts.items():
            lines += [
                f"{name}: {counted(counts.n_patients, '[patient|patients]')}, "
                f"{counted(counts.n_images, '[image|images]')} -> {self.files[name]}",
                f"  images: {_counts(counts.supervision)}",
                f"  boxes:  {_counts(counts.boxes)}",
                f"  labels: {counts.n_positive} positive, {counts.n_normal} normal, "
                f"{counts.n_left_out} left out{_background(counts)}",
            ]
        return tuple(lines)


def option_groups(source: Source) -> tuple[type[Options], ...]:
    """The dataclasses of all options that a source can be prepared with."""
    return (
        source.options,
        *((PublishedOptions,) if source.publishes_split else ()),
        DivisionOptions,
        PictureOptions,
        OutlineOptions,
        *(() if source.has_public_ids else (PrivacyOptions,)),
        *((LayoutOptions,) if source.layouts else ()),
        RunOptions,
    )


def prepare(
    source: str, root: str | Path, out: str | Path | None = None, **options: Any
) -> Prepared:
    """Prepare a data set: its own files -> COCO annotation files, split by patient.

    Args:
        source: What it is: `mias`, `cbis_ddsm`, `ddsm`, `inbreast`, `vindr_mammo`, `rsna`, `cmmd`,
            `chestxray14`, `coco` (files of an annotation tool) or `folder` (images with a table).
        root: Its folder.
        out: Where `train.json` ... go; by default the source's name below $SIMFRCNN_DATASETS.
        options: Those of ``simfrcnn prepare-data SOURCE --help``, with underscores and without the
            dashes in front; ``for_config`` is ``--for``.

    Returns:
        What was written, what is in it, and notes of all that was left out or chosen.

    Raises:
        ConfigError: The source or an option does not exist, or options contradict each other.
        DataError: The source cannot be read, or a split would be empty.
        OutputError: Something is in the way, or cannot be written, or another run is at work in
            ``out``.

    Example:
        Four pictures with a table beside them, every second one with a malignant finding:

        >>> import tempfile
        >>> from pathlib import Path
        >>> import cv2, numpy, simfrcnn
        >>> folder = tempfile.TemporaryDirectory()
        >>> root, out = Path(folder.name, "clinic"), Path(folder.name, "prepared")
        >>> root.mkdir()
        >>> for name in "abcd":
        ...     _ = cv2.imwrite(str(root / f"{name}.png"), numpy.full((64, 48), 90, "uint8"))
        >>> _ = (root / "labels.csv").write_text(
        ...     "file,label,x1,y1,x2,y2,patient\\n"
        ...     "a.png,malignant,8,8,24,30,p1\\nb.png,normal,,,,,p2\\n"
        ...     "c.png,malignant,9,9,20,22,p3\\nd.png,normal,,,,,p4\\n")
        >>> done = simfrcnn.prepare("folder", root, out, workers=0, keep_identifiers=True,
        ...     cache="none", fractions={"train": 0.5, "val": 0.5})
        >>> sorted(path.name for path in done.files.values())
        ['train.json', 'val.json']
        >>> done.counts["train"].n_positive, done.counts["train"].n_normal
        (1, 1)
        >>> folder.cleanup()
    """
    what = source_named(source)
    root, folder = Path(root), datasets_root() / source if out is None else Path(out)
    groups = option_groups(what)
    known = [each.name for group in groups for each in descriptions(group)]
    require_known(f"{source}: the option", options, known)
    given: dict[type, Any] = {group: made(group, options) for group in groups}
    run: RunOptions = given[RunOptions]
    how = Reading(run.skip_unreadable, run.workers, given[DivisionOptions].seed)
    layout = given[LayoutOptions].layout if what.layouts else "coco"
    if layout != "coco":
        return _laid_out(what, layout, root, folder, given, how)
    return _Preparation(what, root, folder, given, how).run()


@dataclass(frozen=True)
class _Preparation:
    """One call of :func:`prepare`, its options by group."""

    source: Source
    root: Path
    out: Path
    given: Mapping[type, Any]
    how: Reading

    def run(self) -> Prepared:
        source, own, wanted = self.source, self.given[self.source.options], self._pictures
        cache = pictures.cache_settings(wanted, self._cache, source.dicom_options(own))
        _require_apart(self.root, self.out, makes_pictures=wanted.copy or cache is not None)
        with working_in(self.out):
            _require_free(self.out, overwrite=self._run.overwrite)
            identities = self._identities()
            data = outlined(source.read(self.root, own, self.how), self.given[OutlineOptions])
            # By the identifiers of the source: every site divides one public set alike.
            division = self._divided(data)
            require_patients(division.splits)
            _require_no_others(self.out, division.splits)
            return self._written(data, division, identities, cache)

    @property
    def _pictures(self) -> PictureOptions:
        options: PictureOptions = self.given[PictureOptions]
        return options

    @property
    def _run(self) -> RunOptions:
        options: RunOptions = self.given[RunOptions]
        return options

    @property
    def _cache(self) -> str:
        return self._pictures.cache or ("none" if self.source.has_public_ids else "8bit")

    def _divided(self, data: SourceData) -> Division:
        split = self.given[PublishedOptions].split if self.source.publishes_split else "random"
        return divided(data.records, self.given[DivisionOptions], split)

    def _identities(self) -> Identities | None:
        """The pseudonyms of a source whose identifiers are not public, unless they are kept."""
        if self.source.has_public_ids:
            return None
        options: PrivacyOptions = self.given[PrivacyOptions]
        if not options.keep_identifiers and (self._pictures.copy or self._cache == "none"):
            raise ConfigError(
                f"{'--copy' if self._pictures.copy else '--cache none'}: the source's own files "
                "and their names tell who the patients are: let pictures be made (--cache 8bit or "
                "16bit), or ask for --keep-identifiers"
            )
        own = identities(options, self.source.name, self.out)
        for line in note_of_new_key(own):
            logger.info(line)
        return own

    def _written(
        self,
        data: SourceData,
        division: Division,
        own: Identities | None,
        cache: CacheSettings | None,
    ) -> Prepared:
        splits, facts = dict(division.splits), dict(division.facts)
        notes = [
            f"divided: {division.title}",
            *(f"note: {note}" for note in data.notes),
        ]
        if not self.source.has_public_ids:
            facts["identifiers"] = "those of the source" if own is None else IDENTIFIERS
            notes += views_per_exam(data.records)
        place_of = partial(data.place_of, root=self.root.absolute())
        pseudonyms = None if own is None else own.pseudonyms
        if own is not None:
            splits = {
                name: pseudonymised(records, own.pseudonyms, place_of)
                for name, records in splits.items()
            }
            own.save(self.root)
            notes.append(f"what the pseudonyms stand for, for your eyes only: {own.id_map}")
        if cache is not None:
            storing = Storing(
                root=self.root,
                out=self.out,
                place_of=place_of,
                pseudonyms=pseudonyms,
                overwrite=self._run.overwrite,
                skip_unreadable=self._run.skip_unreadable,
                n_workers=self._run.workers,
            )
            splits, cached = pictures.cache_splits(splits, cache, storing)
            require_patients(splits)
            facts |= pictures.in_file(cache, cached)
            notes += pictures.report(cached, self.root, self.out)
        if self._pictures.copy:
            folder = self.out / pictures.FOLDER
            splits = pictures.all_copied(splits, place_of, folder, overwrite=self._run.overwrite)
        files = _write(self.out, splits, data, facts)
        counts = {name: _counted(records, data.label_targets) for name, records in splits.items()}
        notes += _without_positives(counts, data.label_targets)
        return Prepared(self.out, files, counts, tuple(notes), None if own is None else own.id_map)


def _laid_out(
    source: Source,
    layout: str,
    root: Path,
    out: Path,
    given: Mapping[type, Any],
    how: Reading,
) -> Prepared:
    """Reorganise a download; options that are for annotation files are refused."""
    require_known("--layout", [layout], ["coco", *source.layouts])
    heeded = {"--layout", *(f"--{name.replace('_', '-')}" for name in source.layout_options)}
    chosen = [flag for options in given.values() for flag in options.chosen()]
    refused = [flag for flag in chosen if flag not in heeded]
    if refused:
        raise ConfigError(
            f"{', '.join(refused)}: is for annotation files; --layout {layout} copies every file, "
            "and overwrites none"
        )
    with working_in(out):
        return Prepared(out, notes=source.layouts[layout](root, out, given[source.options], how))


def _require_apart(root: Path, out: Path, *, makes_pictures: bool) -> None:
    """Refuse new pictures among those of the source, which would be taken for some of them."""
    own, source = (out / pictures.FOLDER).resolve(), root.resolve()
    if makes_pictures and (own.is_relative_to(source) or source.is_relative_to(own)):
        raise ConfigError(
            f"--out {out}: its pictures ({pictures.FOLDER}) would lie among those of --root "
            f"{root}; give a folder beside it"
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


def _write(
    out: Path,
    splits: Mapping[str, Sequence[ImageRecord]],
    data: SourceData,
    facts: Mapping[str, object],
) -> dict[str, Path]:
    """Write the annotation files together: one of another division beside them would leak."""
    contents, files = {}, {}
    for name, records in splits.items():
        path = files[name] = out / f"{name}.json"
        document = as_coco(path, records, data.categories, _info(data.info, name, facts))
        contents[path.name] = as_utf8(as_json(document))
    write_files(out, contents)
    return files


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


def _counted(records: Sequence[ImageRecord], label_targets: tuple[str, ...]) -> SplitCounts:
    targets = label_targets or (TARGET,)
    by_boxes = not label_targets
    roles = (
        training_roles(records, targets, "exclude") if by_boxes else image_roles(records, targets)
    )
    tally = tally_of(records, roles, target_classes=targets)
    return SplitCounts(
        n_patients=tally.n_patients,
        n_images=tally.n_images,
        supervision=Counter(record.supervision.value for record in records),
        boxes={name: of_class.boxes for name, of_class in tally.classes.items()},
        n_positive=tally.positives,
        n_normal=tally.normals,
        by_labels=bool(label_targets),
    )


def _without_positives(
    counts: Mapping[str, SplitCounts], label_targets: tuple[str, ...]
) -> list[str]:
    if label_targets:  # a classifier says which class lacks what
        return []
    names = [name for name, of_split in counts.items() if not of_split.n_positive]
    if not names:
        return []
    return [
        f"note: {', '.join(names)}: no image has a box of class {TARGET}, so it can neither "
        "be trained nor judged on; give other --fractions, or map the classes"
    ]


def _background(counts: SplitCounts) -> str:
    others = [] if counts.by_labels else sorted(name for name in counts.boxes if name != TARGET)
    return f" (boxes of {', '.join(others)} alone count as normal)" if others else ""


def _counts(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counter.items())) or "none"
