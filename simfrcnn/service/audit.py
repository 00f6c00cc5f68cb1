"""Who sent what, what became of it, and where did results go? One JSON line an event.

Lines name AE titles, addresses, counts, statuses, and studies by their pseudonyms, never a patient,
a UID or a path. The file is only appended to.
"""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from simfrcnn.errors import OutputError

AUDIT = "audit.jsonl"


class Audit:
    """The audit log of a node; safe to be used by several threads."""

    def __init__(self, folder: Path) -> None:
        """Open ``audit.jsonl`` in a folder; made if missing, for the owner alone.

        Raises:
            OutputError: It cannot be opened or made.
        """
        self._lock = threading.Lock()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        try:
            self._handle = os.open(folder / AUDIT, flags, 0o600)
        except OSError as error:
            raise OutputError(f"{folder / AUDIT} cannot be written: {error.strerror}") from error

    def note(self, event: str, **facts: Any) -> None:
        """Append an event, in one write; a fact of None is left out.

        A disk that is full loses the line, and nothing else.
        """
        known = {name: value for name, value in facts.items() if value is not None}
        line = json.dumps({"time": now_text(), "event": event, **known}, ensure_ascii=True)
        with self._lock:
            try:
                os.write(self._handle, line.encode("ascii") + b"\n")
            except OSError:
                return

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def now_text() -> str:
    """The time, UTC, as ISO 8601 to the second."""
    return time_text(time.time())


def time_text(unix: float) -> str:
    """The same of a time in seconds since 1970."""
    return datetime.fromtimestamp(unix, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
