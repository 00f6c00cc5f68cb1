"""Which outlines of a source are kept when it is prepared, and how exactly?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from simfrcnn import outlines
from simfrcnn.data.sources.source import SourceData, listed
from simfrcnn.described import Options, described
from simfrcnn.records import Finding, ImageRecord, Outline

_KEEP = "keep"


@dataclass(frozen=True)
class OutlineOptions(Options):
    """What becomes of the outlines that a source has."""

    outlines: str = described(
        _KEEP,
        "outlines of findings, where the source has them: keep (default) or drop",
        choices=(_KEEP, "drop"),
    )
    simplify_px: float = described(
        0.5,
        "by how many pixels of the source's image the edge of an outline may move to save points; "
        "0 keeps all (default: 0.5, which is the most)",
        legal="[0, 0.5]",
        metavar="PX",
        parse=float,
    )


def outlined(data: SourceData, options: OutlineOptions) -> SourceData:
    """The same records with their outlines simplified, or without any.

    An outline whose box is not that of its finding, but for a pixel, is left out, and named in the
    notes: one of the two is wrong.
    """
    if options.outlines != _KEEP:
        return replace(data, records=tuple(_without(record) for record in data.records))
    records: list[ImageRecord] = []
    unfit: list[str] = []
    for record in data.records:
        findings = tuple(_simplified(one, options.simplify_px) for one in record.findings)
        unfit += [
            record.file_name
            for one, kept in zip(record.findings, findings, strict=True)
            if one.outline and not kept.outline
        ]
        records.append(replace(record, findings=findings) if record.findings else record)
    n_known = outlines.n_outlined(_outlines_of(records))
    if not n_known and not unfit:
        return data
    n_findings = len(_outlines_of(records))
    how = f"simplified by at most {options.simplify_px:g} px" if options.simplify_px else "as drawn"
    return replace(
        data,
        records=tuple(records),
        info={**data.info, "outlines": f"of {n_known} of {n_findings} findings, {how}"},
        notes=(
            *data.notes,
            *listed("[outline|outlines] whose box is not the finding's, left out, of", unfit),
        ),
    )


def _simplified(finding: Finding, tolerance_px: float) -> Finding:
    if not finding.outline:
        return finding
    fewer = outlines.simplified(finding.outline, tolerance_px)
    return replace(finding, outline=fewer if outlines.fits(fewer, finding.box) else ())


def _without(record: ImageRecord) -> ImageRecord:
    if not any(finding.outline for finding in record.findings):
        return record
    return replace(record, findings=tuple(replace(f, outline=()) for f in record.findings))


def _outlines_of(records: Sequence[ImageRecord]) -> list[Outline]:
    return [finding.outline for record in records for finding in record.findings]
