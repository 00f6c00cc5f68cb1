"""Which greys does the presentation state of a film give to a viewer?

A state holds one modality transform, one VOI transform and one polarity; a film may hold several
tables and windows, in functional groups, in the byte order of its file. What is written is not what
stands in the header but what can be applied of it. The pixels are not read again: a film without a
VOI transform, and one in the case that :func:`first_voi` names, was judged under other greys.

Reference: DICOM PS3.3 C.11.1 (modality), C.11.2 (VOI), C.11.6 (polarity), C.11.8 (softcopy VOI).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from simfrcnn.dicom.display import is_inverted
from simfrcnn.dicom.header import Header
from simfrcnn.dicom.transforms import Table, Window, first_voi

_NOTHING_SAID = "US"
"""Rescale Type (0028,1054) and Modality LUT Type (0028,3004): unspecified."""


@dataclass(frozen=True)
class Greyscale:
    """The elements of the modality transform, the item of the VOI transform, and the polarity."""

    modality: Dataset
    voi: Dataset | None
    is_inverted: bool

    def add_to(self, state: Dataset) -> None:
        """Give a presentation state the transforms; its polarity is given when it is made."""
        state.update(self.modality)
        if self.voi is not None:
            state.SoftcopyVOILUTSequence = [self.voi]


def greyscale_of(header: Header) -> Greyscale:
    """That of a film which was judged.

    Raises:
        DicomError: An element of it is malformed.
        UnusableError: Its modality table cannot be applied.
    """
    smallest, largest = _stored_range(header)
    modality = Dataset()
    if tables := header.items("ModalityLUTSequence"):
        table = Table.of(header, tables[0], is_signed=smallest < 0)
        item = _as_item(table.first, table.entries)
        item.ModalityLUTType = str(tables[0].get("ModalityLUTType") or _NOTHING_SAID)
        modality.ModalityLUTSequence = [item]
        smallest = 0
    else:
        slope, intercept = header.numbers("RescaleSlope"), header.numbers("RescaleIntercept")
        if slope or intercept:
            factor, offset = [*slope, 1.0][0], [*intercept, 0.0][0]
            modality.RescaleSlope = format_number_as_ds(factor)
            modality.RescaleIntercept = format_number_as_ds(offset)
            modality.RescaleType = header.text("RescaleType") or _NOTHING_SAID
            smallest = min(factor * smallest + offset, factor * largest + offset)
    voi = first_voi(header, is_signed=smallest < 0)
    return Greyscale(modality, _voi_item(voi), is_inverted(header, []))


def _stored_range(header: Header) -> tuple[float, float]:
    n_values = 2 ** header.whole_number("BitsStored", default=16)
    is_signed = header.whole_number("PixelRepresentation", default=0) == 1
    return (-n_values // 2, n_values // 2 - 1) if is_signed else (0, n_values - 1)


def _voi_item(voi: Table | Window | None) -> Dataset | None:
    if voi is None:
        return None
    item = Dataset()
    if isinstance(voi, Table):
        entries = np.rint(voi.entries * 65535 / voi.full_scale)
        item.VOILUTSequence = [_as_item(voi.first, entries)]
    else:
        item.WindowCenter = format_number_as_ds(voi.center)
        item.WindowWidth = format_number_as_ds(voi.width)
        item.VOILUTFunction = voi.function
    return item


def _as_item(first: int, entries: NDArray[np.float64]) -> Dataset:
    """LUT Descriptor and LUT Data of 16 bits, which tables of either kind may have in a state."""
    item = Dataset()
    # A length of 65,536 is written as 0; all three values are signed where the first one is.
    n_entries, vr = len(entries) % 65536, "US"
    if first < 0:
        n_entries, vr = (n_entries + 32768) % 65536 - 32768, "SS"
    item.add_new("LUTDescriptor", vr, [n_entries, first, 16])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item
