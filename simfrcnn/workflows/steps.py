"""Which steps of a job are done, and does what they were made from still hold?

A job is a list of steps, each with a folder of its own. ``manifest.json`` of the job's folder
records of every step what it was made from (settings, and hashes of files), hashes of what it made,
and the time it took. A step that is done is not done again; one that was ended goes on; one whose
inputs have changed since is refused, unless it may be overwritten: then it and all later steps are
made again. What a later step made before stays recorded as outdated until its turn, so that it is
removed then, and never gone on with, even if the job is ended in between.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simfrcnn.engines.common.checkpoints import weights_sha256
from simfrcnn.errors import CheckpointError, OutputError
from simfrcnn.files import sha256_of, write_json
from simfrcnn.trees import leaves_of
from simfrcnn.wording import first_few

logger = logging.getLogger("simfrcnn")

MANIFEST = "manifest.json"
SCHEMA = 1
_N_SHOWN = 5
_OUTDATED = "outdated"


@dataclass(frozen=True)
class Step:
    """One step of a job.

    ``inputs`` is JSON: whatever the result depends on. ``work`` learns whether an earlier attempt
    with the same inputs may be gone on with, and returns the files that later steps rely on.
    ``folder`` is what is removed before the step is made again. ``foreign`` is a file that cannot
    be there before the first attempt, unless something else than this job made it.
    """

    name: str
    folder: Path
    inputs: Mapping[str, Any]
    work: Callable[[bool], Sequence[Path]]
    foreign: Path | None = None


class StepRunner:
    """The record of a job, written at the start and at the end of every step."""

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        facts: Mapping[str, Any],
        *,
        overwrite: bool,
    ) -> None:
        """Read the record of the folder, if there is one.

        Args:
            folder: The job's folder.
            names: All steps in their order.
            facts: What else the manifest says, as JSON.
            overwrite: Make steps again whose inputs or results have changed.

        Raises:
            OutputError: The folder cannot be made, or its manifest is not a job's.
        """
        self._folder = folder
        self._names = tuple(names)
        self._facts = dict(facts)
        self._overwrite = overwrite
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make OUTPUT_DIR {folder}: {error.strerror}") from error
        self.steps: dict[str, dict[str, Any]] = self._read()
        self.states: dict[str, str] = {}

    def run(self, step: Step) -> str:
        """Do a step, go on with it, or find it done.

        Returns:
            ``up to date``, ``resumed`` or ``made``.

        Raises:
            OutputError: Its inputs or its results have changed, and ``overwrite`` is not set; or
                its folder holds what this job did not make.
        """
        if self.steps.get(step.name, {}).get(_OUTDATED):
            shutil.rmtree(step.folder, ignore_errors=True)
            del self.steps[step.name]
        inputs = json.loads(json.dumps(dict(step.inputs)))
        changes = self._changes(step.name, inputs)
        if changes and not self._overwrite:
            shown = first_few(changes, _N_SHOWN, "; ")
            raise OutputError(
                f"{step.name} in {self._folder} was made from something else: {shown}. Give "
                "another OUTPUT_DIR, or --overwrite to make this step and those after it again"
            )
        if changes:
            self._forget_from(step)
        elif self.steps.get(step.name, {}).get("finished"):
            self._tell(step.name, "up to date")
            return "up to date"
        is_resumed = step.name in self.steps
        if not is_resumed and step.foreign and step.foreign.exists():
            raise OutputError(
                f"{step.folder} holds a run that this job did not start; give another OUTPUT_DIR"
            )
        state = "resumed" if is_resumed else "made"
        logger.info(f"{step.name}: {'going on' if is_resumed else 'started'}")
        self._do(step, inputs, is_resumed)
        self._tell(step.name, state)
        return state

    def wall_seconds(self, name: str) -> float:
        """The time a step took over all its attempts."""
        return _seconds(self.steps[name])

    def _do(self, step: Step, inputs: dict[str, Any], is_resumed: bool) -> None:
        entry = self.steps.setdefault(step.name, {"parts": []})
        entry.update(finished=False, inputs=inputs, outputs={})
        for killed in (part for part in entry["parts"] if part["wall_seconds"] is None):
            # Nobody was left to say when: up to the last file that it wrote.
            seconds = _last_change(step.folder) - killed["started"]
            killed.update(wall_seconds=round(max(0.0, seconds), 1), ended="killed")
        part: dict[str, Any] = {"started": time.time(), "wall_seconds": None, "ended": None}
        entry["parts"].append(part)
        self._write()
        try:
            outputs = step.work(is_resumed)
            entry["outputs"] = {
                path.relative_to(self._folder).as_posix(): hash_of(path) for path in outputs
            }
            part["ended"], entry["finished"] = "finished", True
        except BaseException:
            part["ended"] = "interrupted"
            raise
        finally:
            part["wall_seconds"] = round(time.time() - part["started"], 1)
            self._write()

    def _changes(self, name: str, inputs: Mapping[str, Any]) -> list[str]:
        """In words, what is no longer as the record of a step says."""
        entry = self.steps.get(name)
        if entry is None:
            return []
        before, now = dict(leaves_of(entry["inputs"])), dict(leaves_of(inputs))
        changes = [
            f"{key} was {before.get(key)}, is {now.get(key)}"
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key)
        ]
        for place, digest in entry["outputs"].items():
            path = self._folder / place
            if not path.exists():
                changes.append(f"its result {place} is gone")
            elif hash_of(path) != digest:
                changes.append(f"its result {place} has changed")
        return changes

    def _forget_from(self, step: Step) -> None:
        """Remove a step's results and record; what later steps have made is outdated."""
        for name in self._names[self._names.index(step.name) :]:
            if name in self.steps:
                self.steps[name] = {"parts": [], "finished": False, _OUTDATED: True}
        self._write()
        shutil.rmtree(step.folder, ignore_errors=True)
        del self.steps[step.name]

    def _tell(self, name: str, state: str) -> None:
        self.states[name] = state
        logger.info(f"{name}: {state} ({self.wall_seconds(name):.0f} s)")

    def _read(self) -> dict[str, dict[str, Any]]:
        path = self._folder / MANIFEST
        if not path.exists():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["kind"] != self._facts["kind"] or content["schema"] != SCHEMA:
                raise KeyError("kind")
            return dict(content["steps"])
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{path} is not the manifest of a {self._facts['kind']}: OUTPUT_DIR holds "
                "something else; give another"
            ) from error

    def _write(self) -> None:
        done = {name: self.steps[name] for name in self._names if name in self.steps}
        write_json(
            self._folder / MANIFEST,
            {
                "schema": SCHEMA,
                **self._facts,
                "finished": all(done.get(name, {}).get("finished") for name in self._names),
                "wall_seconds": round(sum(map(_seconds, done.values())), 1),
                "steps": {
                    name: {**entry, "wall_seconds": round(_seconds(entry), 1)}
                    for name, entry in done.items()
                },
            },
        )


def hash_of(path: Path) -> str:
    """Of a checkpoint that of its weights: its test writes operating points into the file."""
    if path.suffix == ".pth":
        with contextlib.suppress(CheckpointError):
            return weights_sha256(path)
    return sha256_of(path)


def _seconds(entry: Mapping[str, Any]) -> float:
    return sum(part["wall_seconds"] or 0.0 for part in entry["parts"])


def _last_change(folder: Path) -> float:
    """When a file below a folder was last written; 0 if there is none."""
    return max((path.stat().st_mtime for path in folder.rglob("*") if path.is_file()), default=0.0)
