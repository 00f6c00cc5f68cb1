"""On what does a prediction depend, and in what do two differ? The facts of ``run.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simfrcnn.errors import ArtifactError

RUN = "run.json"
DESCRIBED = "described"
"""In ``run.json``: the day and what describes the model; results hang on its hash alone."""


def read_facts(folder: Path) -> dict[str, Any]:
    """What ``run.json`` says.

    Raises:
        ArtifactError: There is none, or it is damaged.
    """
    try:
        facts = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{folder / RUN} cannot be read ({type(error).__name__}): {folder} is not the output "
            "of simfrcnn predict"
        ) from error
    if not isinstance(facts, dict):
        raise ArtifactError(f"{folder / RUN} is damaged: {folder} is not the output of predict")
    return facts


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what the facts of a prediction differ, each in a few words."""
    return [
        _difference(name, before.get(name), now.get(name))
        for name in sorted({*before, *now} - {DESCRIBED})
        if before.get(name) != now.get(name)
    ]


def _difference(name: str, before: Any, now: Any) -> str:
    was, is_now = _in_words(before), _in_words(now)
    if was == is_now and isinstance(before, Mapping):  # another origin, or reason for none
        keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        return f"{name} has another {' and '.join(keys)}"
    return f"{name} was {was} and is {is_now}"


def _in_words(fact: Any) -> str:
    """A fact as JSON; of what decides a call the point and its score alone."""
    if fact is None:
        return "not given"
    if not isinstance(fact, Mapping) or "operating_point" not in fact:
        return json.dumps(fact)
    point = fact["operating_point"]
    return "none" if point is None else f"{point} from score {fact['score_threshold']:g} on"
