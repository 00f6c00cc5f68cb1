"""What does ``combination.json`` hold? The weights that ``combine --how rescore`` has fitted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simfrcnn.combining.rescoring import Combination
from simfrcnn.errors import ArtifactError

COMBINATION = "combination.json"
SCHEMA_VERSION = 1
_KIND = "simfrcnn-combination"


@dataclass(frozen=True)
class FittedCombination:
    """A combination with the models and the validation set that it belongs to.

    ``checkpoints`` holds a hash for each list of detections, None where a list does not state it.
    """

    fitted: Combination
    checkpoints: tuple[str | None, ...]
    annotations: str
    annotations_sha256: str

    def to_json(self) -> dict[str, Any]:
        """What ``combination.json`` holds."""
        return {
            "kind": _KIND,
            "schema_version": SCHEMA_VERSION,
            "checkpoints": list(self.checkpoints),
            "annotations": self.annotations,
            "annotations_sha256": self.annotations_sha256,
            **self.fitted.to_json(),
        }


def read_combination(path: Path) -> FittedCombination:
    """Read what an earlier ``combine`` fitted.

    Raises:
        ArtifactError: The file is missing, of another kind or schema version, or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror}); a {COMBINATION} of `combine --how rescore` "
            "was expected there"
        ) from error
    except ValueError as error:
        raise ArtifactError(f"{path} is no combination: it is not valid JSON ({error})") from error
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise ArtifactError(f"{path} holds no combination (its 'kind' must be {_KIND!r})")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {content.get('schema_version')!r}; this program reads "
            f"{SCHEMA_VERSION}: fit the combination again"
        )
    try:
        return FittedCombination(
            fitted=Combination.from_json(content),
            checkpoints=tuple(None if c is None else str(c) for c in content["checkpoints"]),
            annotations=str(content["annotations"]),
            annotations_sha256=str(content["annotations_sha256"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path} is damaged ({type(error).__name__}: {error}): fit the combination again"
        ) from error


def lines_on(combination: FittedCombination) -> Iterator[str]:
    """The weights and what they were fitted on, for a terminal."""
    fitted, n = combination.fitted, combination.fitted.counts
    yield (
        f"fitted on {combination.annotations}: {n['images']} images of {n['patients']} patients, "
        f"{n['positive_images']} positive; left out {n['images_of_unknown_truth']} of unknown "
        f"truth, {n['images_without_detection']} without a detection"
    )
    others = (f"model {i}: {w:+.4f}" for i, w in enumerate(fitted.others, start=2))
    facts = (f"{c}: {w:+.4f}" for c, w in zip(fitted.columns, fitted.fact_weights, strict=True))
    yield (
        f"shift (prevalence of that set, not of a clinic): {fitted.intercept:+.4f}; "
        + "; ".join([f"model 1: {fitted.own:+.4f}", *others, *facts])
        + f"; C {fitted.inverse_penalty:g}"
    )
    for fact in fitted.facts:
        if why := fact.why_words():
            yield f"note: {why}"
    if fitted.own <= 0:
        yield (
            "note: the weight of the first model's own score is not above 0: its boxes keep no "
            "order, or the opposite one, within an image"
        )
