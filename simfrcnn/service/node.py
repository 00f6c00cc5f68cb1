"""How do receiving, judging, sending, health and removal make up one process that can be killed?"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from simfrcnn.errors import ConfigError, OutputError
from simfrcnn.locks import locked
from simfrcnn.service.audit import Audit
from simfrcnn.service.canary import Canary
from simfrcnn.service.folder import ServiceFolder
from simfrcnn.service.health import write_health
from simfrcnn.service.intake import Intake
from simfrcnn.service.judging import Judge
from simfrcnn.service.options import NodeOptions, ServiceOptions
from simfrcnn.service.queue import opened
from simfrcnn.service.receiving import Receiver
from simfrcnn.service.retention import remove_old
from simfrcnn.service.sending import targets_of
from simfrcnn.service.working import Work
from simfrcnn.version import __version__
from simfrcnn.wording import counted

_IDLE_S = 0.25
_HEALTH_S, _REMOVAL_S = 10.0, 300.0
QUEUE = "queue.sqlite"
_LIBRARIES = ("pynetdicom", "dicomweb_client", "urllib3", "pydicom")

logger = logging.getLogger("simfrcnn")


@dataclass
class _Every:
    """Whether some seconds have passed since it was last asked and said yes."""

    seconds: float
    _next: float = field(default=0.0)

    def __call__(self) -> bool:
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self.seconds
        return True


@contextlib.contextmanager
def work_of(options: ServiceOptions, judge: Judge | None, stop: threading.Event) -> Iterator[Work]:
    """What is done in a folder by one process at a time; taken up where the last one ended.

    Args:
        options: With folder, targets and, where there is no ``judge``, weights.
        judge: None loads the model.
        stop: Set where it is to end.

    Raises:
        OutputError: Another process is at work in the folder, it cannot be made or written, or its
            queue cannot be read or written, at the start or in the block.
        ConfigError: A target is not legal, or a library is missing.
    """
    quiet_libraries()
    targets = targets_of(options)
    folder = ServiceFolder(options.folder, min_free_bytes=options.min_free_gb * 1e9)
    with locked(folder.path):
        judge = _loaded(options) if judge is None else judge
        with (
            opened(folder.path / QUEUE) as queue,
            contextlib.closing(Audit(folder.path)) as audit,
        ):
            work = Work(folder, queue, judge, targets, options, audit, stop)
            work.recover()
            show(work)
            yield work


def run_node(
    options: NodeOptions,
    *,
    judge: Judge | None = None,
    stop: threading.Event | None = None,
    on_listening: Callable[[int], None] | None = None,
) -> None:
    """Receive, judge and send until it is asked to stop; then end the study in hand, and end.

    Args:
        options: Folder, weights, port and targets are needed.
        judge: In place of the model of the options.
        stop: Set by whoever wants it to stop; SIGTERM and Ctrl-C do too in a main thread.
        on_listening: Called with the port once images are taken.

    Raises:
        ConfigError: An option is missing or not legal, or the port cannot be had.
        OutputError: Another node or pull is at work in the folder, or the queue cannot be written;
            whatever it held is taken up at the next start.
    """
    options.require(*("folder", "to"), *(("weights", "port") if judge is None else ()))
    stop = threading.Event() if stop is None else stop
    with work_of(options, judge, stop) as work, _stopped_by_signals(stop):
        receiver = Receiver(options, Intake(work.folder, work.queue), work.audit)
        sender = threading.Thread(target=_send_all, args=(work,), name="sender")
        try:
            sender.start()
            work.audit.note("node begins", version=__version__, port=receiver.port)
            logger.info("%s listens on %s port %d", options.aet, options.address, receiver.port)
            if on_listening is not None:
                on_listening(receiver.port)
            _judge_all(work, options)
        finally:
            stop.set()
            receiver.close()
            sender.join()
            show(work)
            work.audit.note("node ends")
        if work.fault is not None:
            raise work.fault


def retry_failed(folder: Path) -> int:
    """Put the studies of ``failed/`` back into the queue, beside a node that runs or not; how many.

    Raises:
        ConfigError: It is not the folder of a node.
        OutputError: Its queue cannot be read or written, or is damaged.
    """
    if not (folder / QUEUE).is_file():
        raise ConfigError(f"{folder} is not the folder of a node or pull: it has no {QUEUE}")
    with opened(folder / QUEUE) as queue:
        return queue.retry_failed()


def quiet_libraries() -> None:
    """Libraries do not print: their messages hold UIDs, names and addresses of requests."""
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"(pydicom|pynetdicom|dicomweb_client)(\..*)?")


def _loaded(options: ServiceOptions) -> Judge:
    from simfrcnn.service.model import judge_of  # the model needs torch

    return judge_of(options)


def _judge_all(work: Work, options: NodeOptions) -> None:
    canary = Canary(work.folder, work.judge, options.canary_minutes)
    is_health_due, is_removal_due = _Every(_HEALTH_S), _Every(_REMOVAL_S)
    while not work.stop.is_set():
        if canary.is_due() and not canary.fly():
            logger.warning("the phantom study did not go through the model")
            work.audit.note("phantom failed", code=(canary.last or {}).get("code"))
        work.queue.settle(work.now(), options.stable_after)
        has_worked = work.judge_one()
        show(work, canary if is_health_due() else None)
        if is_removal_due():
            removed = remove_old(
                work.folder,
                work.queue,
                work.audit,
                keep_days=options.keep_days,
                keep_gb=options.keep_gb,
                now=work.now(),
            )
            if removed:
                logger.info("%s removed here", counted(len(removed), "[study|studies]"))
        if not has_worked:
            work.stop.wait(_IDLE_S)


def show(work: Work, canary: Canary | None = None) -> None:
    """Let files say what is the case; a disk that is full ends nothing."""
    try:
        work.show_failed()
        if canary is not None:
            write_health(
                work.folder,
                phantom=canary.last,
                phantom_minutes=canary.minutes,
                queue=work.queue.counts(),
                oldest_unsent=work.queue.oldest_unsent(),
                last_error=work.last_error,
            )
    except (OSError, OutputError) as error:
        logger.warning("health.json or failed/ cannot be written (%s)", type(error).__name__)


def _send_all(work: Work) -> None:
    try:
        while not work.stop.is_set():
            if not work.send_one():
                work.stop.wait(_IDLE_S)
    except Exception as error:  # the node ends with it, and not only this thread
        work.fault = error
        work.stop.set()


@contextlib.contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """The first SIGTERM or Ctrl-C lets the study in hand be ended; the second interrupts it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        logger.info("stopping: the study in hand is ended first; again to put it back")

    before = {n: signal.signal(n, handle) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
