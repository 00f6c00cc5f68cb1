"""Where do the messages of a training go? To standard output, and into a file of the run folder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from simfrcnn.errors import SimFrcnnError


class _Stdout(logging.Handler):
    """Prints to what is standard output now, not when the handler was made."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


@contextlib.contextmanager
def shown_and_kept(path: Path, is_main: bool) -> Iterator[None]:
    """Show the library's and our messages on standard output and in a file, while training runs.

    Only the first process speaks. An error for the user is not also logged with its traceback.
    """
    loop = logging.getLogger("detectron2.engine.train_loop")
    loop.addFilter(_is_no_user_error)
    attached: list[tuple[logging.Logger, logging.Handler]] = []
    for name in ("detectron2", "fvcore", "simfrcnn") if is_main else ():
        library = logging.getLogger(name)
        wanted: list[logging.Handler] = [logging.FileHandler(path, encoding="utf-8")]
        if not library.handlers:  # the command line has its own, as has Detectron2's setup_logger
            wanted.append(_Stdout())
        for handler in wanted:
            handler.setFormatter(logging.Formatter("[%(asctime)s] %(message)s", "%H:%M:%S"))
            library.addHandler(handler)
            attached.append((library, handler))
        library.setLevel(logging.INFO)
    try:
        yield
    finally:
        loop.removeFilter(_is_no_user_error)
        for library, handler in attached:
            library.removeHandler(handler)
            handler.close()


@contextlib.contextmanager
def removed_if_refused(path: Path, *, is_new: bool) -> Iterator[None]:
    """Remove a new log where what is done here is refused: nothing has begun that it tells of."""
    try:
        yield
    except SimFrcnnError:
        if is_new:
            path.unlink(missing_ok=True)
        raise


def _is_no_user_error(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], SimFrcnnError))
