"""Does an image say which breast and view it is, and do the pixels agree?

Which side of the picture a left breast's chest wall is on differs between data sets: as on a
display (left), mirrored, or all images turned to one side. So the rule is found from the set
itself, and single images are held against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simfrcnn.data.inspect.checks.measures import ImageMeasures
from simfrcnn.data.inspect.checks.model import (
    CheckSettings,
    Collection,
    Defect,
    Entry,
    Example,
    Severity,
    by_key,
    example,
    found,
)
from simfrcnn.records import Laterality
from simfrcnn.wording import counted

_LEFT, _RIGHT = Laterality.LEFT, Laterality.RIGHT
# Side of the chest wall in the picture, by breast; the first is DICOM's usual display.
_RULES = {
    "left breasts left, right breasts right": {_LEFT: _LEFT, _RIGHT: _RIGHT},
    "left breasts right, right breasts left": {_LEFT: _RIGHT, _RIGHT: _LEFT},
    "all left": {_LEFT: _LEFT, _RIGHT: _LEFT},
    "all right": {_LEFT: _RIGHT, _RIGHT: _RIGHT},
}
_LEAST_AGREEMENT = 0.8


def check_views_stated(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Images without laterality or view."""
    yield from found(
        "laterality_missing",
        Severity.WARNING,
        "images do not say which breast they show: evaluation by breast falls back to the exam",
        "add laterality (L or R) to the annotation file",
        (example(entry) for entry in collection.images() if entry.record.laterality is None),
    )
    yield from found(
        "view_missing",
        Severity.NOTE,
        "images do not say which view they are",
        "add view_position (CC, MLO or other) if it is known",
        (example(entry) for entry in collection.images() if entry.record.view_position is None),
    )


def check_sides(collection: Collection, settings: CheckSettings) -> Iterator[Defect]:
    """Breasts on the other side than laterality says, by the rule of their own set."""
    wrong: list[Example] = []
    unruly: list[Example] = []
    for folder, entries in by_key(_sided(collection), _folder).items():
        rule, agreement = _rule_of(entries)
        if agreement < _LEAST_AGREEMENT:
            share = f"{agreement:.0%} of {counted(len(entries), '[image|images]')} at best"
            unruly.append(Example(folder, detail=f"a rule holds for {share}"))
            continue
        wrong += [
            example(entry, f"breast {_laterality(entry).value}, chest wall {_shown(_side(entry))}")
            for entry in entries
            if _RULES[rule][_laterality(entry)] is not _side(entry)
        ]
    yield from found(
        "laterality_contradicts_pixels",
        Severity.WARNING,
        "the chest wall is on the other side than in the rest of the set: laterality is wrong, or "
        "the image is mirrored",
        "look at the images; correct laterality, or turn them",
        wrong,
    )
    yield from found(
        "laterality_without_rule",
        Severity.WARNING,
        "laterality and the side of the chest wall have nothing to do with each other",
        "check where laterality was read from; evaluation by breast would join the wrong views",
        unruly,
    )


def _sided(collection: Collection) -> Iterator[Entry]:
    """The images whose laterality is stated and whose chest wall is clear, each file once."""
    for entry, measures in collection.measured():
        if entry.record.laterality is not None and measures.chest_wall is not None:
            yield entry


def _rule_of(entries: Sequence[Entry]) -> tuple[str, float]:
    """The rule that most images keep, and their share; of equals, the display's."""
    shares = {
        name: sum(rule[_laterality(e)] is _side(e) for e in entries) / len(entries)
        for name, rule in _RULES.items()
    }
    best = max(shares, key=lambda name: shares[name])
    return best, shares[best]


def _folder(entry: Entry) -> str:
    return entry.set.name.rpartition("/")[0]


def _laterality(entry: Entry) -> Laterality:
    assert entry.record.laterality is not None
    return entry.record.laterality


def _side(entry: Entry) -> Laterality:
    assert isinstance(entry.measures, ImageMeasures)
    assert entry.measures.chest_wall is not None
    return entry.measures.chest_wall


def _shown(side: Laterality) -> str:
    return "left" if side is _LEFT else "right"
