"""How many findings has an image, how large are they, and which images show several kinds?

Sizes are the longer side of the box in mm, at the detector, and the share of the breast's pixels
that the finding covers: its outline where that is known, else its box.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simfrcnn.labels import drawn_findings
from simfrcnn.records import ImageRecord
from simfrcnn.wording import counted

_COLOURS = ("#D55E00", "#56B4E9", "#009E73", "#CC79A7", "#E69F00")
_N_BINS, _N_TICKS = 24, 5
_WITHOUT_VERSION = {"Software": None}
_KINDS = "abnormality"
"""Attribute of an image that names the kinds of its findings, with commas."""


@dataclass(frozen=True)
class Exploration:
    """What is in annotation files.

    Attributes:
        findings: File -> class -> (findings, images with one).
        per_image: Number of findings -> images of the training set with so many, from 1 on.
        sides_mm: Class -> longer side of each finding's box, where the spacing is known.
        shares: Class -> share of the breast that each finding covers.
        n_outlined: Findings of the training set with an outline.
        several_classes: Classes, joined by ``+`` -> images that have findings of all of them.
        several_kinds: The same of the kinds that the source names.
        in_several_files: Images that more than one file lists.
    """

    findings: Mapping[str, Mapping[str, tuple[int, int]]]
    per_image: Mapping[int, int]
    sides_mm: Mapping[str, Sequence[float]]
    shares: Mapping[str, Sequence[float]]
    n_outlined: int
    several_classes: Mapping[str, int]
    several_kinds: Mapping[str, int]
    in_several_files: int

    def lines(self) -> tuple[str, ...]:
        """For people."""
        return tuple(self._lines())

    def _lines(self) -> Iterator[str]:
        for name, classes in self.findings.items():
            counts = (
                f"{category} {n} in {counted(images, '[image|images]')}"
                for category, (n, images) in classes.items()
            )
            yield f"findings of {name}: {', '.join(counts) or 'none'}"
        of_images = (f"{n} in {counted(k, '[image|images]')}" for n, k in self.per_image.items())
        yield f"findings an image: {', '.join(of_images) or 'none'}"
        for what, sizes, unit, factor in (
            ("longer side", self.sides_mm, " mm", 1.0),
            ("share of the breast", self.shares, "%", 100.0),
        ):
            for category, values in sizes.items():
                low, middle, high = factor * np.quantile(values, [0.05, 0.5, 0.95])
                yield (
                    f"{what}, {category}: median {middle:.3g}{unit}, 90% from {low:.3g} to "
                    f"{high:.3g}{unit}"
                )
        if self.n_outlined:
            yield counted(self.n_outlined, "[finding has an outline|findings have an outline]")
        for what, several in (("classes", self.several_classes), ("kinds", self.several_kinds)):
            for names, n_images in several.items():
                yield f"{counted(n_images, '[image|images]')} with several {what}: {names}"
        if self.in_several_files:
            listed = "[image is in several files|images are in several files]"
            yield counted(self.in_several_files, listed)


def explore(
    files: Mapping[str, Sequence[ImageRecord]],
    training: Sequence[ImageRecord],
    shares: Mapping[str, Sequence[float]],
) -> Exploration:
    """Count what annotation files hold; a crowd region is no finding by itself.

    Args:
        files: Name -> records: the training set and those beside it.
        training: The records of the training set.
        shares: Class -> share of the breast, see :class:`Exploration`.
    """
    per_image = Counter(len(findings) for r in training if (findings := drawn_findings(r)))
    places = Counter(path for records in files.values() for path in {r.path for r in records})
    return Exploration(
        findings={name: _by_class(records) for name, records in files.items()},
        per_image=dict(sorted(per_image.items())),
        sides_mm=_sides_mm(training),
        shares=shares,
        n_outlined=sum(bool(f.outline) for record in training for f in drawn_findings(record)),
        several_classes=_several(
            {f.category for f in drawn_findings(record)} for record in training
        ),
        several_kinds=_several(
            set(filter(None, record.attributes.get(_KINDS, "").split(","))) for record in training
        ),
        in_several_files=sum(n > 1 for n in places.values()),
    )


def draw_exploration(explored: Exploration) -> bytes:
    """Findings an image, their sizes in mm and as share of the breast: three histograms, PNG."""
    # Not pyplot: the program's backend and current figure are left alone; and only when drawn.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    by_number, by_side, by_share = figure.subplots(1, 3)
    numbers = list(explored.per_image)
    by_number.bar(numbers, list(explored.per_image.values()), color=_COLOURS[1])
    by_number.set_xticks(numbers)
    by_number.set(xlabel="findings an image", ylabel="images of the training set")
    for axes, sizes, label, factor in (
        (by_side, explored.sides_mm, "longer side of the box, mm", 1.0),
        (by_share, explored.shares, "share of the breast, %", 100.0),
    ):
        known = {name: factor * np.asarray(values) for name, values in sizes.items()}
        if not known:
            axes.set_axis_off()
            axes.text(0.5, 0.5, f"{label}: not known", ha="center")
            continue
        every = np.concatenate(list(known.values()))
        bins = np.geomspace(every.min() / 1.1, every.max() * 1.1, _N_BINS)
        for number, (name, values) in enumerate(known.items()):
            colour = _COLOURS[number % len(_COLOURS)]
            axes.hist(values, bins=bins, histtype="step", linewidth=1.6, color=colour, label=name)
        axes.set_xscale("log")
        ticks = sorted({float(f"{tick:.1g}") for tick in np.geomspace(bins[0], bins[-1], _N_TICKS)})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set(xlabel=label, ylabel="findings")
        axes.legend(fontsize=8, frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata=_WITHOUT_VERSION)
    return stream.getvalue()


def _by_class(records: Sequence[ImageRecord]) -> dict[str, tuple[int, int]]:
    findings = Counter(finding.category for r in records for finding in drawn_findings(r))
    images = Counter(name for r in records for name in {f.category for f in drawn_findings(r)})
    return {name: (findings[name], images[name]) for name in sorted(findings)}


def _sides_mm(records: Sequence[ImageRecord]) -> dict[str, list[float]]:
    sides: dict[str, list[float]] = {}
    for record in records:
        if record.pixel_spacing_mm is None:
            continue
        row_mm, column_mm = record.pixel_spacing_mm
        for finding in drawn_findings(record):
            x1, y1, x2, y2 = finding.box
            longer = max((x2 - x1) * column_mm, (y2 - y1) * row_mm)
            sides.setdefault(finding.category, []).append(longer)
    return dict(sorted(sides.items()))


def _several(of_images: Iterator[set[str]]) -> dict[str, int]:
    counts = Counter(" + ".join(sorted(names)) for names in of_images if len(names) > 1)
    return dict(sorted(counts.items()))
