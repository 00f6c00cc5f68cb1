"""`simfrcnn serve` in a test: real routes and a real socket, with a judge that is not a network."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from simfrcnn.data.ahead import Processes
from simfrcnn.data.exams import Selection, Sources, index_of
from simfrcnn.data.naming import AsTheyAre
from simfrcnn.dicom.mammogram import STRICT
from simfrcnn.exam import Call, Detection, ExamResult, ImageResult, LeftOut
from simfrcnn.images.reading import record_and_greys
from simfrcnn.outlines import rle_of_box
from simfrcnn.service.web_app import make_app
from simfrcnn.service.web_guard import Access, App
from simfrcnn.service.web_studies import RESULTS, Judge, Studies
from simfrcnn.service.web_uploads import Bounds
from simfrcnn.workflows.prediction_folder import PredictionFolder

SELECTION = Selection(STRICT)
BOUNDS = Bounds(20 * 10**6, 20, per_minute=100_000)
MODEL = {"simfrcnn": "1", "engine": "none", "checkpoint_sha256": "0" * 64, "classes": ["malignant"],
         "target_classes": ["malignant"], "note": "a test"}  # fmt: skip


def marking(folder: Path, targets: Sequence[str] = ("malignant",)) -> Judge:
    """A judge without a network: it marks two regions of every film that can be read.

    They are at known places: the middle half at .8 (detector .7, second look .9, which saw a square
    round it; its mask is the upper half), and a corner at .3. The class map is 0 in the upper half
    of the stored film and 1 in the lower one, but for the left half of that, where it is .2. Maps
    of further targets are the same everywhere: .1 of the second one, .2 of the third ...
    """
    model = {**MODEL, "classes": list(targets), "target_classes": list(targets)}
    output = folder / RESULTS
    output.mkdir(parents=True, exist_ok=True)
    naming = AsTheyAre()

    def judge(sources: Sources) -> None:
        target = PredictionFolder(output, model)
        with Processes(0) as processes, index_of(sources, SELECTION, processes) as index:
            for plan in index.exams():
                images, left_out = [], [
                    LeftOut(f.place, f.what or "failed", f.why or "") for f in plan.left_out
                ]  # fmt: skip
                for group in plan.groups:
                    try:
                        record, _ = record_and_greys(plan.path_of(group[0]), 0)
                    except Exception as error:
                        left_out.append(LeftOut(group[0].place, "unreadable", type(error).__name__))
                        continue
                    images.append(_image(record, group[0].place, naming, targets))
                result = ExamResult(
                    exam_id=naming.exam(plan.exam_id),
                    patient_id=naming.patient(plan.patient_id),
                    score=0.8 if images else None,
                    call=Call(True, 0.8, 0.5, "case", "youden", "the model") if images else None,
                    images=tuple(images),
                    left_out=tuple(left_out),
                    why_no_call=None if images else "no image of the exam was judged",
                    provenance=model,
                )
                digest = naming.digest(plan.fingerprint)
                target.write_exam(result, naming.stem(plan.exam_id), digest, "none", 0.5)

    return judge


def _image(record: Any, place: str, naming: AsTheyAre, targets: Sequence[str]) -> ImageResult:
    h, w = record.height, record.width
    box, square = (w / 4, h / 4, 3 * w / 4, 3 * h / 4), (-10.0, h / 4, w / 2, h / 4 + w / 2 + 10)
    mask = rle_of_box((w / 4, h / 4, 3 * w / 4, h / 2), h, w)
    middle = Detection(box, 0.8, "malignant", 0.7, 0.9, mask, square)
    corner = Detection((0, 0, w / 5, h / 10), 0.3, "malignant", 0.3, None)
    heat = {name: np.full((24, 16), number / 10) for number, name in enumerate(targets)}
    heat[targets[0]] = np.kron([[0, 0], [0.2, 1]], np.ones((12, 8)))
    return ImageResult(
        file=place,
        image_id=naming.image_id(place),
        height=h,
        width=w,
        detections=(middle, corner),
        target_classes=tuple(targets),
        laterality=record.laterality,
        view_position=record.view_position,
        heat={name: one.astype(np.float32) for name, one in heat.items()},
    )


def studies_in(folder: Path, judge: Judge | None = None, *, n_waiting: int = 8) -> Studies:
    """The studies of a folder, judged by :func:`marking` unless another judge is given."""
    return Studies(
        folder, judge or marking(folder), selection=SELECTION, n_waiting_at_most=n_waiting
    )


def app_of(studies: Studies, access: Access | None = None, bounds: Bounds = BOUNDS) -> App:
    """The whole application."""
    return make_app(
        studies, access or Access(None), bounds, options=STRICT, model=MODEL, score_threshold=0.5
    )


@contextlib.contextmanager
def served(app: App) -> Iterator[str]:
    """The address of a server that runs in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def wait_until_done(studies: Studies, n_done: int, seconds: float = 30) -> None:
    """Until so many studies are done or have failed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if sum(one.state in ("done", "failed") for one in studies.listed()) >= n_done:
            return
        time.sleep(0.02)
    raise AssertionError(f"not done after {seconds} s: {[one.state for one in studies.listed()]}")
