"""What stands around a node when it is measured or tested: senders, an archive, a judge, a kill.

As a program, ``python -m benchmarks.node_parts --folder DIR --to AE@HOST:PORT``, it is a node whose
judge takes no model, and which may kill itself at a stated moment.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from simfrcnn.dicom_out.objects import uid_of
from simfrcnn.service import working
from simfrcnn.service.folder import ServiceFolder
from simfrcnn.service.judging import Judge, Judged
from simfrcnn.service.node import run_node
from simfrcnn.service.options import NodeOptions
from simfrcnn.service.queue import Queue

PORT_FILE = "port"
MOMENTS = (
    *("kept", "received", "stable", "predicting", "renamed", "predicted", "before sending"),
    *("sending", "confirmed", "done"),
)
"""After which step a node kills itself: ``kept`` is before a film is in the queue, ``sending``
after the archive has said that it has the result, and before that is noted."""


def write_film(path: Path, study: int, number: int, *, size: int = 16, **tags: Any) -> Path:
    """A tiny mammogram, for presentation: film ``number`` of study ``study``."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    facts = {
        "SOPClassUID": DigitalMammographyXRayImageStorageForPresentation,
        "SOPInstanceUID": f"1.2.826.0.1.3680043.10.99.{study}.{number}",
        "StudyInstanceUID": f"1.2.826.0.1.3680043.10.99.{study}",
        "SeriesInstanceUID": f"1.2.826.0.1.3680043.10.99.{study}.0",
        "Modality": "MG",
        "StudyDate": "20260102",
        "PresentationIntentType": "FOR PRESENTATION",
        "PatientName": f"Tiny^{study}",
        "PatientID": f"TINY-{study}",
        "Rows": size,
        "Columns": size,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": np.full((size, size), study % 4096, np.uint16).tobytes(),
        **tags,
    }
    for keyword, value in facts.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def send(
    paths: Sequence[Path],
    port: int,
    *,
    called: str = "SIMFRCNN",
    caller: str = "SENDER",
    timeout_s: float = 20.0,
) -> list[int | None]:
    """C-STORE files over one association; the status of each, None where there was no answer."""
    if not paths:
        return []
    entity = AE(ae_title=caller)
    entity.dimse_timeout = entity.acse_timeout = entity.network_timeout = timeout_s
    datasets = [pydicom.dcmread(path) for path in paths]
    for pair in {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in datasets}:
        entity.add_requested_context(*pair)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return [None] * len(paths)
    statuses: list[int | None] = []
    for dataset in datasets:
        try:
            statuses.append(association.send_c_store(dataset).get("Status"))
        except (RuntimeError, ValueError):  # the association is gone, or the class was refused
            statuses.append(None)
    association.release()
    return statuses


class Archive:
    """A Storage SCP that takes every result and remembers each C-STORE, repeated ones too.

    With ``answers_queries`` it says what it has, by C-FIND.
    """

    def __init__(self, *, answers_queries: bool = True) -> None:
        self.stored: list[tuple[str, str]] = []
        """(Study, SOP Instance UID) in the order in which they came."""
        self.status = 0x0000
        self._lock = threading.Lock()
        entity = AE(ae_title="ARCHIVE")
        entity.maximum_associations = 50
        entity.add_supported_context(ComprehensiveSRStorage, ExplicitVRLittleEndian)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store)]
        if answers_queries:
            entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
            handlers.append((evt.EVT_C_FIND, self._find))
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    @property
    def target(self) -> str:
        """As ``--to`` takes it."""
        return f"ARCHIVE@127.0.0.1:{self._server.server_address[1]}"

    def _store(self, event: Any) -> int:
        found = event.dataset
        with self._lock:
            if self.status == 0:
                self.stored.append((str(found.StudyInstanceUID), str(found.SOPInstanceUID)))
        return self.status

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        with self._lock:
            if (query.StudyInstanceUID, query.SOPInstanceUID) in self.stored:
                yield 0xFF00, query


def quick_judge(seconds: float = 0.0) -> Judge:
    """A judge without a model: a report that follows from the films alone, as a real one does."""

    def judge(films: Path, output: Path) -> Judged:
        time.sleep(seconds)
        paths = sorted(films.glob("*.dcm"))
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
        report = Dataset()
        report.file_meta = FileMetaDataset()
        report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "StudyDate"):
            setattr(report, keyword, headers[0].get(keyword, ""))
        instances = sorted(str(header.SOPInstanceUID) for header in headers)
        report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = ComprehensiveSRStorage
        report.SeriesInstanceUID = uid_of("series", str(report.StudyInstanceUID))
        report.SOPInstanceUID = uid_of("report", *instances)
        report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID
        report.Modality = "SR"
        report.ImageComments = hashlib.sha256("".join(instances).encode()).hexdigest()
        (output / "dicom").mkdir(parents=True)
        report.save_as(output / "dicom" / "sr.dcm", enforce_file_format=True)
        return Judged(("dicom/sr.dcm",), n_images=len(paths))

    return judge


@contextmanager
def running_node(options: NodeOptions, judge: Judge) -> Iterator[int]:
    """A node in a thread, until the block ends; its port."""
    stop, listening = threading.Event(), threading.Event()
    ports: list[int] = []
    faults: list[BaseException] = []

    def note_port(port: int) -> None:
        ports.append(port)
        listening.set()

    def run() -> None:
        try:
            run_node(options, judge=judge, stop=stop, on_listening=note_port)
        except BaseException as error:
            faults.append(error)
            listening.set()

    thread = threading.Thread(target=run, name="node")
    thread.start()
    try:
        if not listening.wait(60) or faults:
            raise faults[0] if faults else TimeoutError("the node does not listen")
        yield ports[0]
    finally:
        stop.set()
        thread.join(60)


def wait_until(is_so: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def states_of(folder: Path) -> dict[str, int]:
    """How many studies of a node are in each state."""
    queue = Queue(folder / "queue.sqlite")
    try:
        return queue.counts()
    finally:
        queue.close()


def port_of(folder: Path) -> int | None:
    """The port of a node that runs as a program; None as long as it does not listen."""
    try:
        return int(json.loads((folder / PORT_FILE).read_text()))
    except (OSError, ValueError):
        return None


def main(words: Sequence[str] | None = None) -> int:
    """Be a node that may kill itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--kill-after", choices=MOMENTS)
    parser.add_argument("--seconds", type=float, default=0.0, help="that judging takes")
    parser.add_argument("--stable-after", type=float, default=0.5)
    arguments = parser.parse_args(words)
    judge = quick_judge(arguments.seconds)
    if arguments.kill_after is not None:
        judge = _deadly(arguments.kill_after, judge)
    options = NodeOptions(
        folder=arguments.folder,
        to=(arguments.to,),
        stable_after=arguments.stable_after,
        min_free_gb=0,
        retry_wait=0.2,
        canary_minutes=0,
    )
    (arguments.folder / PORT_FILE).unlink(missing_ok=True)
    run_node(options, judge=judge, on_listening=lambda port: _write_port(arguments.folder, port))
    return 0


def _write_port(folder: Path, port: int) -> None:
    temporary = folder / f"{PORT_FILE}.part"
    temporary.write_text(str(port))
    temporary.replace(folder / PORT_FILE)


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _deadly(moment: str, judge: Judge) -> Judge:
    """Let this process kill itself after a step; the judge to use."""
    steps: dict[str, tuple[Any, str]] = {
        "kept": (ServiceFolder, "keep_film"),
        "received": (Queue, "add_film"),
        "stable": (Queue, "settle"),
        "renamed": (working, "sync_folder"),
        "predicted": (Queue, "judged"),
        "before sending": (Queue, "begin_sending"),
        "confirmed": (Queue, "confirm_sent"),
        "done": (Queue, "done"),
    }
    if moment == "sending":  # before, not after the step
        queue: Any = Queue
        queue.confirm_sent = _die
        return judge
    if moment == "predicting":

        def dying(films: Path, output: Path) -> Judged:
            judged = judge(films, output)
            _die()
            return judged

        return dying
    place, name = steps[moment]
    step = getattr(place, name)

    def deadly(*words: Any, **facts: Any) -> Any:
        answer = step(*words, **facts)
        if moment != "stable" or answer:
            _die()
        return answer

    setattr(place, name, deadly)
    return judge


if __name__ == "__main__":
    raise SystemExit(main())
