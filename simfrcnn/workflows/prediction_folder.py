"""What lies in the output folder of a prediction, and how is it gone on with and finished?

Every exam is a file of its own, which a line in the manifest follows when it is whole. All lists
are made of these files at the end, in the order of their names: it does not matter in which order,
in how many goes or by how many shards the exams were done.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from simfrcnn.artifacts import MASKS_FROM, write_sidecar
from simfrcnn.data.exams import CONTRADICTING, FAILED, UNREADABLE
from simfrcnn.errors import ArtifactError, OutputError
from simfrcnn.exam import SCHEMA, ExamResult, ImageResult
from simfrcnn.files import as_json, copy_file, write_bytes, write_json, writing
from simfrcnn.locks import LOCK, working_in
from simfrcnn.workflows.prediction_dicom import NO_DICOM, files_written, has_failed, write_dicom
from simfrcnn.workflows.prediction_entries import detection_entry, image_entry
from simfrcnn.workflows.prediction_facts import DESCRIBED, RUN, differences, read_facts
from simfrcnn.workflows.prediction_heat import write_maps

Pictures = Literal["none", "findings", "all"]

MANIFEST, INDEX, FAILURES = "manifest.jsonl", "index.csv", "failures.csv"
BEGUN = ".simfrcnn-begun"
"""There from the beginning of a go until its lists are made, also where the go was killed."""
DETECTIONS, IMAGES = "detections.json", "images.json"
EXAMS, PICTURES, DICOM = "exams", "pictures", "dicom"

_INDEX = ("exam", "patient", "score", "call", "images", "left_out", "result")
_FAILURES = ("exam", "file", "what", "why", "result")
_NO_IMAGE = "no image"
_MOST_REASONS = 1000


@dataclass
class Tally:
    """What a prediction holds; ``failures`` count by what and why."""

    n_exams: int = 0
    n_images: int = 0
    n_positive: int = 0
    n_called: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)


class PredictionFolder:
    """The output folder of one run; made by :meth:`begin_or_go_on`."""

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        """``facts`` are all that a result hangs on, in JSON types: they stand in ``run.json``."""
        self.path = path
        self.facts = dict(facts)

    @contextlib.contextmanager
    def begin_or_go_on(self) -> Iterator[int]:
        """Make the folder, or take up a run of the same facts; how many exams it holds already.

        As long as the block runs, no other process can do the same. A new folder in which the
        block has judged nothing before it fails is as it was.

        Raises:
            OutputError: It holds something else, a prediction with other facts, or another run is
                at work in it.
        """
        self._require_ours()
        with working_in(self.path):
            is_new = not (self.path / RUN).exists()
            n_done_before = self._n_done_before()
            (self.path / BEGUN).touch()
            try:
                yield n_done_before
            except BaseException:
                if is_new and not (self.path / MANIFEST).exists():
                    (self.path / BEGUN).unlink(missing_ok=True)
                    (self.path / RUN).unlink(missing_ok=True)
                raise

    def _require_ours(self) -> None:
        if (self.path / RUN).exists() or not self.path.exists():
            return
        if not self.path.is_dir() or any(one.name != LOCK for one in self.path.iterdir()):
            raise OutputError(
                f"{self.path} is not a new or empty folder, nor a prediction to go on with; give "
                "another"
            )

    def _n_done_before(self) -> int:
        if not (self.path / RUN).exists():
            write_json(self.path / RUN, self.facts)
            return 0
        before = read_facts(self.path)
        if differing := differences(before, self.facts):
            raise OutputError(
                f"{self.path} holds a prediction that cannot be gone on with: "
                f"{'; '.join(differing)}. Give another --output, or the weights and options of "
                "before"
            )
        self.facts[DESCRIBED] = before.get(DESCRIBED, self.facts.get(DESCRIBED, {}))
        for leftover in self.path.rglob(".*.part"):  # of a run that was killed
            leftover.unlink()
        manifest = self.path / MANIFEST
        if not manifest.exists():
            return 0
        _cut_torn_line(manifest)
        with open(manifest, "rb") as stream:
            return sum(1 for _ in stream)

    def write_exam(
        self,
        result: ExamResult,
        stem: str,
        fingerprint: str,
        pictures: Pictures,
        score_threshold: float,
        dicom: Sequence[str] = (),
        *,
        heat_maps: bool = False,
    ) -> dict[str, Any]:
        """Write the pictures and DICOM files of an exam, then its result; return its line.

        Of images with class maps also these; ``heat_maps``: and pictures of them.
        """
        place = f"{EXAMS}/{stem[-2:]}/{stem}.json"
        self._remove_result_of_before(place)
        content = result.to_dict()
        for image, entry in zip(result.images, content["images"], strict=True):
            entry["picture"] = self._write_picture(image, pictures, score_threshold)
            entry.update(write_maps(self.path, image, pictures=heat_maps))
        content["fingerprint"] = fingerprint
        if dicom:
            folder = f"{DICOM}/{stem[-2:]}/{stem}"
            content["dicom"] = write_dicom(self.path, folder, result, dicom, score_threshold)
        write_json(self.path / place, content)
        return _manifest_line(place, content)

    def _write_picture(
        self, image: ImageResult, pictures: Pictures, score_threshold: float
    ) -> str | None:
        has_boxes = any(one.score >= score_threshold for one in image.suspicious)
        if pictures == "none" or (pictures == "findings" and not has_boxes):
            return None
        name = f"{image.image_id:013x}"
        place = f"{PICTURES}/{name[:2]}/{name}.png"
        write_bytes(self.path / place, image.to_png(score_threshold))
        return place

    def _remove_result_of_before(self, place: str) -> None:
        """An exam that is judged again is not done, and has no file, until its new result is whole.

        The result goes first: without it the exam counts as not done, whenever the run is killed.
        """
        if (self.path / place).exists():
            before = _read(self.path / place)
            (self.path / place).unlink()
            for file in files_written(before):
                (self.path / file).unlink(missing_ok=True)

    def take(self, part: Path) -> None:
        """Copy from a finished shard every exam that this folder does not have as it is there.

        Raises:
            ArtifactError: The result of an exam is damaged.
            DataError: A file of an exam is not there.
            OutputError: A file cannot be written.
        """
        with self.done() as done, open(part / MANIFEST, encoding="utf-8") as lines:
            for line in map(json.loads, lines):
                if not done.holds(line["exam"], line["fingerprint"]):
                    place = line["result"]
                    self._remove_result_of_before(place)
                    for file in sorted(files_written(_read(part / place))):
                        copy_file(part / file, self.path / file)
                    copy_file(part / place, self.path / place)

    @contextlib.contextmanager
    def manifest(self) -> Iterator[IO[str]]:
        """The manifest, to append lines to."""
        with open(self.path / MANIFEST, "a", encoding="utf-8") as stream:
            yield stream

    @contextlib.contextmanager
    def done(self) -> Iterator[Done]:
        """Which exams have been done: those in the manifest whose result is there."""
        with contextlib.closing(Done()) as done:
            if (self.path / MANIFEST).exists():
                with open(self.path / MANIFEST, encoding="utf-8") as stream:
                    lines = map(json.loads, stream)
                    done.add(line for line in lines if (self.path / line["result"]).exists())
            yield done

    def finish(self) -> Tally:
        """Make all lists from the results of the exams, and the manifest in their order.

        Raises:
            ArtifactError: The result of an exam is damaged, or two images have one number.
        """
        tally = Tally()
        numbers = {name: number for number, name in enumerate(self.facts["classes"], start=1)}
        image_ids: list[int] = []
        with contextlib.ExitStack() as stack:
            lists = _Lists(self.path, stack, numbers)
            for place, content in self._results():
                lists.add(place, content)
                _count(tally, content)
                image_ids += [image["image_id"] for image in content["images"]]
            lists.end()
        image_ids.sort()
        if any(one == other for one, other in itertools.pairwise(image_ids)):
            raise ArtifactError(
                f"{self.path}: two images have the same number, by chance: predict into another "
                "folder with another key (--key-file)"
            )
        write_sidecar(
            self.path / DETECTIONS,
            image_ids=image_ids,
            categories={number: name for name, number in numbers.items()},
            provenance={
                **{name: self.facts[name] for name in _PROVENANCE if name in self.facts},
                **self.facts.get(DESCRIBED, {}),
            },
            image_list=IMAGES,
        )
        (self.path / BEGUN).unlink(missing_ok=True)
        return tally

    def _results(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for place in places_of_results(self.path):
            yield place, _read(self.path / place)


def places_of_results(folder: Path) -> Iterator[str]:
    """Where the results of a prediction lie below its folder, in the order of all lists."""
    for group in sorted((folder / EXAMS).glob("*")):
        for path in sorted(group.glob("*.json")):
            yield path.relative_to(folder).as_posix()


_PROVENANCE = ("simfrcnn", "engine", "checkpoint_sha256", MASKS_FROM)


class Done:
    """The exams that the manifest holds, in a temporary file: they may be many."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")
        self._database.execute("CREATE TABLE done (stem TEXT PRIMARY KEY, fingerprint TEXT)")

    def add(self, lines: Iterator[Mapping[str, Any]]) -> None:
        """Take what was done; an exam that failed is tried once more."""
        self._database.executemany(
            "INSERT OR REPLACE INTO done VALUES (?, ?)",
            ((line["exam"], line["fingerprint"]) for line in lines if not line["has_failed"]),
        )

    def holds(self, stem: str, fingerprint: str) -> bool:
        """Whether an exam was done, with the files that it has now."""
        row = self._database.execute(
            "SELECT fingerprint FROM done WHERE stem = ?", (stem,)
        ).fetchone()
        return row is not None and row[0] == fingerprint

    def close(self) -> None:
        """Free the file."""
        self._database.close()


class _Lists:
    """The lists of a finished prediction, written entry by entry and renamed together."""

    def __init__(
        self, folder: Path, stack: contextlib.ExitStack, numbers: Mapping[str, int]
    ) -> None:
        self._numbers = numbers
        self._stack = stack
        self._folder = folder
        self._manifest = self._open(MANIFEST)
        self._detections = _JsonList(self._open(DETECTIONS))
        images = self._open(IMAGES)
        info = {
            "description": "the images of a prediction, as detections.json numbers them",
            "note": "Research software, not a medical device.",
        }
        images.write(f'{{"info": {json.dumps(info)}, "images": ')
        self._images_stream, self._images = images, _JsonList(images)
        self._index = csv.writer(self._open(INDEX), lineterminator="\n")
        self._index.writerow(_INDEX)
        self._failures = csv.writer(self._open(FAILURES), lineterminator="\n")
        self._failures.writerow(_FAILURES)

    def add(self, place: str, content: Mapping[str, Any]) -> None:
        """Add one exam to every list."""
        self._manifest.write(as_json(_manifest_line(place, content), indent=None))
        decision = content["decision"]
        self._index.writerow(
            (
                content["exam_id"],
                content["patient_id"],
                "" if content["score"] is None else repr(content["score"]),
                "" if decision is None else decision["call"],
                len(content["images"]),
                len(content["left_out"]),
                place,
            )
        )
        for file, what, why in _failures_of(content):
            self._failures.writerow((content["exam_id"], file, what, why, place))
        for image in content["images"]:
            self._images.add(image_entry(image, content))
            for found in image["detections"]:
                self._detections.add(detection_entry(image["image_id"], found, self._numbers))

    def end(self) -> None:
        """Close what is open in the files, and the files."""
        self._detections.end()
        self._images.end()
        categories = [{"id": number, "name": name} for name, number in self._numbers.items()]
        self._images_stream.write(
            f', "annotations": [], "categories": {json.dumps(categories)}}}\n'
        )

    def _open(self, name: str) -> IO[str]:
        path = self._stack.enter_context(writing(self._folder / name))
        return self._stack.enter_context(open(path, "w", encoding="utf-8", newline="\n"))


class _JsonList:
    """A JSON list, one entry a line, that never is in memory as a whole."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._start = "[\n"

    def add(self, entry: Mapping[str, Any]) -> None:
        self._stream.write(self._start + as_json(entry, indent=None).rstrip("\n"))
        self._start = ",\n"

    def end(self) -> None:
        self._stream.write("[]" if self._start == "[\n" else "\n]")


def _manifest_line(place: str, content: Mapping[str, Any]) -> dict[str, Any]:
    decision = content["decision"]
    return {
        "exam": Path(place).stem,
        "result": place,
        "score": content["score"],
        "call": None if decision is None else decision["call"],
        "images": len(content["images"]),
        "left_out": len(content["left_out"]),
        "has_failed": has_failed(content),
        "fingerprint": content["fingerprint"],
    }


def _failures_of(content: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(file, what, why) of what nobody intended, and of an exam without an image."""
    for one in content["left_out"]:
        if one["what"] in (UNREADABLE, CONTRADICTING, FAILED):
            yield one["file"], one["what"], one["why"]
    if not content["images"]:
        kinds = Counter(one["what"] for one in content["left_out"])
        yield "", _NO_IMAGE, ", ".join(f"{n} {what}" for what, n in sorted(kinds.items()))
    if why := content.get("dicom", {}).get("why_none"):
        yield "", NO_DICOM, why


def _count(tally: Tally, content: Mapping[str, Any]) -> None:
    tally.n_exams += 1
    tally.n_images += len(content["images"])
    if content["decision"] is not None:
        tally.n_called += 1
        tally.n_positive += content["decision"]["call"] == "positive"
    tally.left_out.update(one["what"] for one in content["left_out"])
    for _, what, why in _failures_of(content):
        is_one_too_many = len(tally.failures) > _MOST_REASONS and (what, why) not in tally.failures
        tally.failures[what, "other reasons" if is_one_too_many else why] += 1


def _cut_torn_line(manifest: Path) -> None:
    """A run that was killed while it wrote a line leaves a part of it: that exam is done again."""
    with open(manifest, "rb+") as stream:
        content_end = stream.seek(0, os.SEEK_END)
        while content_end:
            start = max(0, content_end - 4096)
            stream.seek(start)
            newline = stream.read(content_end - start).rfind(b"\n")
            if newline >= 0:
                content_end = start + newline + 1
                break
            content_end = start
        stream.truncate(content_end)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path} is damaged ({type(error).__name__}): delete it, and run predict again"
        ) from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ArtifactError(f"{path} is not the result of an exam of schema {SCHEMA}")
    return content
