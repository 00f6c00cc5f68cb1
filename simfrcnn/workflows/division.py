"""Into which parts is a data set divided: as it is published, or at random by patient?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from simfrcnn.data.sources.split_words import LEGAL, part_of
from simfrcnn.data.splits import assert_no_patient_leak, split_by_patient
from simfrcnn.described import Options, described
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.records import ImageRecord
from simfrcnn.wording import counted

DEFAULT_FRACTIONS = ("train=0.6", "val=0.2", "test=0.2")
PUBLISHED_FRACTIONS = ("train=0.8", "val=0.2")
"""Of the patients of the train part of a published division; its test part stays whole."""


@dataclass(frozen=True)
class PublishedOptions(Options):
    """For sources that state a division."""

    split: str | None = described(
        None,
        "the division that the set or its table states, or all patients divided at random "
        "(default: published where every image states its split)",
        choices=("published", "random"),
    )


@dataclass(frozen=True)
class DivisionOptions(Options):
    """Of a division at random."""

    seed: int = described(0, "of the split by patient (default: 0)", parse=int)
    fractions: Mapping[str, float] | tuple[str, ...] | None = described(
        None,
        f"shares of the patients (default: {' '.join(DEFAULT_FRACTIONS)}; of the train part of a "
        f"published division that has no val part: {' '.join(PUBLISHED_FRACTIONS)})",
        many="words",
        metavar="SPLIT=SHARE",
    )


@dataclass(frozen=True)
class Division:
    """Split name -> its records, how that came about, and what the files say of it."""

    splits: dict[str, tuple[ImageRecord, ...]]
    title: str
    facts: dict[str, object] = field(default_factory=dict)


def divided(
    records: Sequence[ImageRecord], options: DivisionOptions, split: str | None
) -> Division:
    """The splits, as published or at random.

    Raises:
        ConfigError: The published division is asked for, and not every record states its split; a
            fraction is malformed; or a published split has a name that means none.
    """
    fractions = _fractions(options.fractions)
    n_without = sum(record.split is None for record in records)
    wanted = split or ("random" if n_without else "published")
    if wanted == "random":
        fractions = fractions or parse_fractions(DEFAULT_FRACTIONS)
        title = f"at random by patient, {_shares(fractions)}"
        splits = split_by_patient(records, fractions, options.seed)
    elif n_without:
        raise ConfigError(
            f"--split published: {n_without} of {counted(len(records), '[image|images]')} without "
            "a split: state it for all (a table's column `split`), or give --split random"
        )
    else:
        records = [_in_our_words(record) for record in records]
        parts = {str(record.split) for record in records}
        if fractions is None and "train" in parts and "val" not in parts:
            fractions = parse_fractions(PUBLISHED_FRACTIONS)
        title = "as published" + (
            f", its train part at random by patient, {_shares(fractions)}" if fractions else ""
        )
        splits = split_as_published(records, fractions, options.seed)
    chosen = {"seed": options.seed, "fractions": fractions} if fractions else {}
    return Division(splits, title, {"division": title, **chosen})


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


def require_patients(splits: Mapping[str, Sequence[ImageRecord]]) -> None:
    """Refuse an empty split.

    Raises:
        DataError: Names it.
    """
    n_patients = len({r.patient_id for records in splits.values() for r in records})
    for name, records in splits.items():
        if not records:
            raise DataError(
                f"split {name!r} gets no patient of the {n_patients} that there are: raise its "
                "share in --fractions, or leave it out"
            )


def _fractions(given: Mapping[str, float] | tuple[str, ...] | None) -> dict[str, float] | None:
    if given is None:
        return None
    if isinstance(given, Mapping):
        return parse_fractions([f"{name}={share}" for name, share in given.items()])
    return parse_fractions(given)


def _shares(fractions: Mapping[str, float]) -> str:
    return " ".join(f"{name}={share:g}" for name, share in fractions.items())


def _in_our_words(record: ImageRecord) -> ImageRecord:
    part = part_of(str(record.split))
    if part is None:
        raise ConfigError(
            f"{record.path}: is of split {record.split!r}, which is none of {LEGAL}; rename it, or "
            "give --split random"
        )
    return replace(record, split=part)
