"""How do the shards of a prediction become one prediction, and stay one when they have grown?"""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simfrcnn.errors import ArtifactError
from simfrcnn.files import write_json, writing_folder
from simfrcnn.locks import is_locked
from simfrcnn.workflows.predict import Summary
from simfrcnn.workflows.prediction_facts import DESCRIBED, RUN, read_facts
from simfrcnn.workflows.prediction_folder import (
    BEGUN,
    DICOM,
    EXAMS,
    INDEX,
    MANIFEST,
    PICTURES,
    PredictionFolder,
    places_of_results,
)
from simfrcnn.workflows.prediction_heat import CLASS_MAPS, HEAT_MAPS


def merge(parts: Sequence[Path], output: Path) -> Summary:
    """Put the shards of a run together: the same folder, byte for byte, as one run would make.

    Args:
        parts: The output folders of all shards, in any order.
        output: A new or empty folder.

    Raises:
        ArtifactError: A shard is missing, there twice, not finished, or of another run.
        OutputError: The output is not empty, or cannot be written.
    """
    facts = require_shards(parts)
    with writing_folder(output) as unfinished:
        for part in parts:
            for kind in (EXAMS, PICTURES, HEAT_MAPS, CLASS_MAPS, DICOM):
                if (part / kind).is_dir():
                    shutil.copytree(part / kind, unfinished / kind, dirs_exist_ok=True)
        write_json(unfinished / RUN, facts)
        tally = PredictionFolder(unfinished, facts).finish()
    return Summary(output, tally)


def update(parts: Sequence[Path], output: Path) -> Summary:
    """Bring a merged prediction up to its shards, which have gone on since.

    Args:
        parts: The output folders of all shards, in any order.
        output: What :func:`merge` has made of them.

    Raises:
        ArtifactError: As for :func:`merge`.
        OutputError: It is a prediction with other facts, or cannot be written.
    """
    folder = PredictionFolder(output, require_shards(parts))
    with folder.begin_or_go_on() as n_before:
        for part in parts:
            folder.take(part)
        return Summary(output, folder.finish(), n_before)


def summary_of(output: Path) -> Summary:
    """The summary of a folder that was finished before.

    Raises:
        ArtifactError: It is no prediction, or damaged.
        OutputError: Another run is at work in it.
    """
    folder = PredictionFolder(output, read_facts(output))
    with folder.begin_or_go_on() as n_before:
        return Summary(output, folder.finish(), n_before)


def require_shards(parts: Sequence[Path]) -> dict[str, Any]:
    """Check that folders are all shards of one run, each once; their common facts.

    Raises:
        ArtifactError: One is missing, there twice, or of another run; or not finished, or at work.
    """
    facts = [read_facts(part) for part in parts]
    shards = [one.get("shard") for one in facts]
    first = min((one.get(DESCRIBED, {}) for one in facts), key=lambda one: str(one.get("date")))
    common = {**facts[0], DESCRIBED: first, "shard": None}
    for part, one in zip(parts, facts, strict=True):
        compared = sorted({*one, *common} - {"shard", DESCRIBED})
        differing = [key for key in compared if one.get(key) != common.get(key)]
        if differing:
            raise ArtifactError(
                f"{part} is not a shard of the same run as {parts[0]}: {', '.join(differing)} "
                "differ"
            )
        if is_locked(part):
            raise ArtifactError(f"{part}: a run is at work there: wait until it has ended")
        if not _is_finished(part):
            raise ArtifactError(f"{part} is not finished: run predict on it again")
    n = int(str(shards[0]).rpartition("/")[2]) if shards[0] else 0
    wanted = [f"{number}/{n}" for number in range(1, n + 1)]
    if sorted(map(str, shards)) != sorted(wanted):
        raise ArtifactError(
            f"these are the shards {', '.join(map(str, shards))}; to merge, each of 1/n ... n/n is "
            "needed, once"
        )
    return common


def _is_finished(part: Path) -> bool:
    """Whether the lists of a prediction hold every result that is there, and no other.

    They are made at the end of a go. While another one judges what is new or has changed, and where
    that was killed, the index is the one of before; an earlier version left no other sign of it.
    """
    if (part / BEGUN).exists():
        return False
    try:
        with open(part / INDEX, encoding="utf-8", newline="") as index:
            n_rows = sum(1 for _ in csv.reader(line.replace("\0", "") for line in index)) - 1
        with open(part / MANIFEST, encoding="utf-8") as manifest:
            n_lines = 0
            for line, place in itertools.zip_longest(manifest, places_of_results(part)):
                if line is None or json.loads(line)["result"] != place:
                    return False
                n_lines += 1
    except (OSError, ValueError):  # a list is missing, or its last line was torn off
        return False
    return n_rows == n_lines
