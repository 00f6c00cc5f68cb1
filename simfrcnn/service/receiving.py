"""Which images does the node take, from whom, and what does it answer?

A Storage SCP for *Digital Mammography X-Ray Image Storage - For Presentation*, and C-ECHO. Any
other SOP class is refused when the association is negotiated, so that a sender knows at once.

Reference: PS3.4 B.2.3 (statuses of C-STORE), PS3.7 D.3 (negotiation).
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from simfrcnn.dicom.header import MAX_FILE_BYTES
from simfrcnn.errors import ConfigError, DicomError
from simfrcnn.service.audit import Audit
from simfrcnn.service.extra import import_pynetdicom
from simfrcnn.service.folder import FullError
from simfrcnn.service.intake import IdentityError, Intake
from simfrcnn.service.options import NodeOptions
from simfrcnn.service.sending import application_entity

SUCCESS, OUT_OF_RESOURCES, NOT_OF_CLASS = 0x0000, 0xA700, 0xA900
CANNOT_UNDERSTAND, PROCESSING_FAILURE = 0xC000, 0x0110
_VERIFICATION = UID("1.2.840.10008.1.1")
_CLOSING_S = 10.0
_IS_COMMAND, _IS_LAST = 0b01, 0b10

logger = logging.getLogger("simfrcnn")


@dataclass
class _Visit:
    """What came by one association."""

    statuses: Counter[str] = field(default_factory=Counter)
    arrivals: Counter[str] = field(default_factory=Counter)
    studies: set[str] = field(default_factory=set)
    n_echoes: int = 0
    n_bytes: int = 0
    """Of the data set that comes."""


class Receiver:
    """The Storage SCP of a node; answers as soon as it is made, in threads of its own."""

    def __init__(self, options: NodeOptions, intake: Intake, audit: Audit) -> None:
        """Listen.

        Raises:
            ConfigError: The port cannot be had, or pynetdicom is not installed.
        """
        self._intake, self._audit = intake, audit
        self._visits: dict[int, _Visit] = {}
        events = import_pynetdicom().evt
        self._entity = entity = application_entity(options)
        entity.maximum_associations = options.max_associations
        entity.require_called_aet = True
        entity.require_calling_aet = list(options.allow_ae)
        entity.add_supported_context(DigitalMammographyXRayImageStorageForPresentation, _syntaxes())
        entity.add_supported_context(_VERIFICATION)
        handlers = [
            (events.EVT_C_STORE, self._store),
            (events.EVT_C_ECHO, self._echo),
            (events.EVT_PDU_RECV, self._bound),
            (events.EVT_ACCEPTED, self._accepted),
            (events.EVT_REJECTED, self._rejected),
            (events.EVT_CONN_CLOSE, self._closed),
        ]
        try:
            self._server = entity.start_server(
                (options.address, options.port or 0), block=False, evt_handlers=handlers
            )
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"cannot listen on {options.address} port {options.port} ({error}): give another "
                "--port or --address, or end the program that has it"
            ) from error

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Accept no more; associations that are open are aborted, after the image in hand."""
        visitors = self._entity.active_associations
        self._entity.shutdown()
        for visitor in visitors:
            visitor.join(_CLOSING_S)

    def _store(self, event: Any) -> int:
        visit = self._visit(event)
        status = self._status(event, visit)
        visit.statuses[f"{status:04X}"] += 1
        return status

    def _status(self, event: Any, visit: _Visit) -> int:
        try:
            wanted = str(event.request.AffectedSOPInstanceUID)
            taken = self._intake.take(event.encoded_dataset(), wanted)
        except FullError:
            return OUT_OF_RESOURCES
        except IdentityError:
            return NOT_OF_CLASS
        except DicomError:
            return CANNOT_UNDERSTAND
        except Exception as error:  # whatever it is, the sender must hear that nothing was kept
            logger.warning("an image could not be kept: %s", type(error).__name__)
            return PROCESSING_FAILURE
        visit.arrivals[taken.arrival] += 1
        visit.studies.add(taken.study)
        return SUCCESS

    def _echo(self, event: Any) -> int:
        self._visit(event).n_echoes += 1
        return SUCCESS

    def _bound(self, event: Any) -> None:
        """Abort where more of an image comes than any mammogram has: it is held in memory."""
        for item in getattr(event.pdu, "presentation_data_value_items", ()):
            visit, control = self._visit(event), item.data[0]  # PS3.8 E.2
            if control & _IS_COMMAND:
                continue
            visit.n_bytes += len(item.data) - 1
            if visit.n_bytes > MAX_FILE_BYTES:
                self._audit.note("image too large", **_caller(event), bytes=visit.n_bytes)
                event.assoc.abort(block=False)
            if control & _IS_LAST:
                visit.n_bytes = 0

    def _accepted(self, event: Any) -> None:
        refused = [UID(one.abstract_syntax) for one in event.assoc.rejected_contexts]
        if refused:
            names = sorted({uid.name if uid.is_valid and not uid.is_private else "private"
                            for uid in refused})  # fmt: skip
            self._audit.note("SOP classes refused", **_caller(event), classes=names)

    def _rejected(self, event: Any) -> None:
        self._audit.note("association rejected", **_caller(event))

    def _closed(self, event: Any) -> None:
        visit = self._visits.pop(id(event.assoc), None)
        if visit is not None:
            self._audit.note(
                "received" if visit.statuses else "echo",
                **_caller(event),
                images=dict(visit.arrivals),
                statuses=dict(visit.statuses),
                studies=sorted(visit.studies),
                echoes=visit.n_echoes,
            )

    def _visit(self, event: Any) -> _Visit:
        return self._visits.setdefault(id(event.assoc), _Visit())


def _syntaxes() -> list[UID]:
    """The transfer syntaxes whose pixels can be decoded here; a sender may choose among them.

    Deflated data sets are left out: a few bytes of one can become gigabytes.
    """
    known = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    for uid in AllTransferSyntaxes:
        try:
            is_decoded = get_decoder(uid).is_available
        except NotImplementedError:
            continue
        if is_decoded and uid not in known and uid != DeflatedExplicitVRLittleEndian:
            known.append(uid)
    return known


def _caller(event: Any) -> dict[str, str]:
    requestor = event.assoc.requestor
    return {"ae": str(requestor.ae_title).strip(), "address": str(requestor.address)}
