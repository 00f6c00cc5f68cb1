"""Does the node work? A phantom study that went through the model says so."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simfrcnn.errors import ArtifactError
from simfrcnn.files import write_json
from simfrcnn.locks import is_locked
from simfrcnn.service.audit import now_text
from simfrcnn.service.folder import ServiceFolder
from simfrcnn.wording import counted

HEALTH = "health.json"
_SILENT_S = 600.0
"""Seconds after which a health file is old, where the wait for phantoms is not longer."""
_UNSENT_S = 3600.0
"""Seconds after its last image by which the results of a study should be with the targets."""
_MISSED = 3
"""Phantoms that may be missed: one study can take long."""


def write_health(
    folder: ServiceFolder,
    *,
    phantom: Mapping[str, Any] | None,
    phantom_minutes: float,
    queue: Mapping[str, int],
    oldest_unsent: float | None,
    last_error: Mapping[str, str] | None,
) -> None:
    """Write ``health.json``, at once and whole."""
    free = folder.free_bytes()
    write_json(
        folder.path / HEALTH,
        {
            "time": now_text(),
            "unix": time.time(),
            "phantom": phantom,
            "phantom_minutes": phantom_minutes,
            "queue": queue,
            "oldest_unsent_unix": oldest_unsent,
            "last_error": last_error,
            "free_gb": round(free / 1e9, 2),
            "is_accepting": free >= folder.min_free_bytes,
        },
    )


def problems_of(folder: Path) -> list[str]:
    """What is wrong with the node of a folder; nothing where it is well.

    The lock of the folder says whether a node runs, ``health.json`` how it is.

    Raises:
        ArtifactError: There is no such file, or it is damaged: no node runs there.
    """
    path = folder / HEALTH
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        dead = [] if is_locked(folder) else ["no node runs in the folder"]
        return dead + list(_problems(content, time.time()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} cannot be read ({type(error).__name__}): no node has begun there, or another "
            "folder is meant"
        ) from error


def _problems(content: Mapping[str, Any], now: float) -> list[str]:
    limit = max(_SILENT_S, 60 * _MISSED * content["phantom_minutes"])
    found = []
    if now - content["unix"] > limit:
        found.append(f"no sign of life since {content['time']}")
    if content["phantom_minutes"]:
        phantom = content["phantom"]
        if phantom is None or not phantom["ok"]:
            code = "none yet" if phantom is None else phantom["code"]
            found.append(f"the last phantom study did not go through the model: {code}")
        elif now - phantom["unix"] > limit:
            found.append(f"no phantom study went through the model since {phantom['time']}")
    if n_failed := content["queue"]["failed"]:
        found.append(f"{counted(n_failed, '[study has|studies have]')} failed: see failed/")
    oldest = content["oldest_unsent_unix"]
    if oldest is not None and now - oldest > _UNSENT_S:
        minutes = (now - oldest) / 60
        found.append(f"a study waits for its results to be sent for {minutes:.0f} minutes")
    if not content["is_accepting"]:
        found.append(f"images are refused: {content['free_gb']} GB are free")
    return found
