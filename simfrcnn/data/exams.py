"""Which files make up an exam, from their headers alone, however many there are?

A DICOM file belongs to its study (Study Instance UID) and, where patients share one, to its Patient
ID. A file of another format, or without a study, is an exam of its own, named by its place below
the folder. The index lies in a temporary file of the operating system's, so that memory does not
grow with the number of files, and vanishes with the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import sqlite3
import traceback
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from simfrcnn.data.ahead import Processes
from simfrcnn.dicom.header import read_header, require_known_syntax
from simfrcnn.dicom.mammogram import DicomOptions, require_mammogram
from simfrcnn.dicom.screening import not_screening_of
from simfrcnn.errors import DataError, DicomError
from simfrcnn.images.finding import LeftOut, is_dicom, walk_images
from simfrcnn.wording import counted

What = Literal[
    "unreadable",
    "not a mammogram",
    "not a screening view",
    "duplicate",
    "contradicting copy",
    "another patient",
    "failed",
]
"""Why a file of an exam is left out. ``failed``: not the file, but the model, the process that read
it, or another part of this program; it is tried again when the run goes on."""
UNREADABLE: What = "unreadable"
NOT_A_MAMMOGRAM: What = "not a mammogram"
NOT_SCREENING: What = "not a screening view"
DUPLICATE: What = "duplicate"
CONTRADICTING: What = "contradicting copy"
ANOTHER_PATIENT: What = "another patient"
FAILED: What = "failed"
_FEW, _CHUNK = 256, 64
"""Headers that are read in this process, and then by each process at a time."""
_LONGEST_REASON = 300
_MIDDLE_BYTES = 2**16
"""Of a picture without a header, so many in its middle tell whether it has changed."""


@dataclass(frozen=True)
class Selection:
    """Which files of an exam are judged: DICOM options, and whether every view is taken."""

    options: DicomOptions
    all_views: bool = False


@dataclass(frozen=True)
class FileFacts:
    """What a file says without its pixels; ``what`` and ``why`` are set where it is left out.

    ``place`` is its path below the root. ``n_bytes`` and ``digest`` tell whether it has changed:
    the digest is of a DICOM file's header, or of the middle of another picture, and None where
    that cannot be read. Other pixels under the same header, in as many bytes, are not seen, nor is
    a picture changed elsewhere in as many bytes. The time of change does not count: copies have
    another.
    """

    place: str
    n_bytes: int
    study: str | None = None
    patient: str | None = None
    instance: str | None = None
    what: What | None = None
    why: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class ExamPlan:
    """An exam before its pixels are read.

    ``key`` identifies it among all exams, ``study_key`` the study, of which patients may share
    one. ``groups`` hold the files to read, by place: of a group, copies of one SOP instance, the
    first that can be read is taken. ``left_out`` are those of another kind, with ``what`` and
    ``why``.
    """

    root: Path
    key: str
    study_key: str
    exam_id: str
    patient_id: str
    groups: tuple[tuple[FileFacts, ...], ...]
    left_out: tuple[FileFacts, ...] = ()
    notes: tuple[str, ...] = ()

    def path_of(self, file: FileFacts) -> Path:
        """Where a file of the exam lies."""
        return self.root / file.place

    @property
    def files(self) -> tuple[FileFacts, ...]:
        """All of them, those that are left out too."""
        return (*itertools.chain.from_iterable(self.groups), *self.left_out)

    @property
    def fingerprint(self) -> str:
        """A hash of its files: it changes when a file comes or goes, or its size or header changes.

        :class:`FileFacts` says which changes are not seen: those of a DICOM file's pixels alone.
        """
        return _hash(
            f"{file.place}\0{file.n_bytes}\0{file.what}\0{file.digest}" for file in self.files
        )

    @property
    def fingerprint_by_size(self) -> str:
        """What results bear that were written before headers counted: places and sizes alone."""
        return _hash(f"{file.place}\0{file.n_bytes}\0{file.what}" for file in self.files)

    def is_in_shard(self, shard: tuple[int, int]) -> bool:
        """Whether shard i of n, counted from 1, holds its study."""
        digest = hashlib.sha256(self.study_key.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % shard[1] == shard[0] - 1


def facts_of(found: Path | LeftOut, root: Path, selection: Selection) -> FileFacts:
    """What the header of a file says; a file or folder that cannot be read says so in ``why``."""
    place = _place(found, root)
    if isinstance(found, LeftOut):
        why = found.message.removeprefix(f"{found.path}: ")
        return FileFacts(place, 0, what=UNREADABLE, why=why)
    try:
        n_bytes = found.stat().st_size
    except OSError as error:
        return FileFacts(place, 0, what=UNREADABLE, why=f"cannot be opened ({error.strerror})")
    if not is_dicom(found):
        return FileFacts(place, n_bytes, digest=_digest_of_middle(found, n_bytes))
    # pydicom warns of values that break the standard; what matters here is checked.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _facts_of_dicom(found, FileFacts(place, n_bytes), selection)


def _facts_of_dicom(path: Path, facts: FileFacts, selection: Selection) -> FileFacts:
    what: What = UNREADABLE
    try:
        header = read_header(path)
        facts = replace(
            facts,
            study=header.text("StudyInstanceUID"),
            patient=header.text("PatientID"),
            instance=header.text("SOPInstanceUID"),
            digest=header.digest,
        )
        require_known_syntax(header)
        what = NOT_A_MAMMOGRAM
        require_mammogram(header, selection.options)
        why = None if selection.all_views else not_screening_of(header)
    except DicomError as error:
        return replace(facts, what=what, why=reason_of(error, path))
    except Exception as error:  # a fault of this program, which must not end a run
        return replace(facts, what=FAILED, why=reason_of_fault(error, path))
    return facts if why is None else replace(facts, what=NOT_SCREENING, why=why)


def _digest_of_middle(path: Path, n_bytes: int) -> str | None:
    """A hash of a stretch that shows tissue in a picture without compression."""
    try:
        with open(path, "rb", buffering=0) as stream:
            stream.seek(max(0, (n_bytes - _MIDDLE_BYTES) // 2))
            return hashlib.sha256(stream.read(_MIDDLE_BYTES)).hexdigest()
    except OSError:  # who reads its pixels will say so
        return None


def reason_of(error: Exception, path: Path) -> str:
    """An error's message without the path, which may name a patient."""
    return str(error).removeprefix(f"{path}: ").replace(str(path), "the file")


def reason_of_fault(error: Exception, path: Path | None = None) -> str:
    """What to say of an error that nobody foresaw: its kind, message, and place in the code."""
    where = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f", {Path(frame.filename).name} line {frame.lineno}" for frame in where)
    message = str(error) if path is None else reason_of(error, path)
    first_line = message.strip().partition("\n")[0][:_LONGEST_REASON]
    return f"unexpected {type(error).__name__}{place}: {first_line or 'without a message'}"


class ExamIndex:
    """The files of a run, and the exams that they make up; to be closed after use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.n_own_pictures = 0
        self._database = sqlite3.connect("")  # a temporary file that nobody else can open
        self._database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            "CREATE TABLE file (place BLOB PRIMARY KEY, n_bytes INTEGER, study TEXT, patient TEXT,"
            " instance TEXT, what TEXT, why TEXT, digest TEXT, folder BLOB);"
            "CREATE INDEX by_study ON file (study, place);"
            "CREATE INDEX by_folder ON file (folder, study);"
        )

    def __enter__(self) -> ExamIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def __len__(self) -> int:
        (n_files,) = self._database.execute("SELECT count(*) FROM file").fetchone()
        return int(n_files)

    def add(self, files: Iterable[FileFacts]) -> None:
        """Add what headers say."""
        self._database.executemany(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    os.fsencode(file.place),
                    file.n_bytes,
                    _storable(file.study),
                    _storable(file.patient),
                    _storable(file.instance),
                    file.what,
                    file.why,
                    file.digest,
                    os.fsencode(os.path.dirname(file.place)),
                )
                for file in files
            ),
        )

    def adopt_damaged_files(self) -> None:
        """Give a DICOM file without a readable header to the only study of its folder.

        It is most likely a view of that study, and the result of the exam must say that one is
        missing.
        """
        orphans = self._database.execute(
            "SELECT place, folder FROM file WHERE study IS NULL AND what IN (?, ?)",
            (UNREADABLE, FAILED),
        ).fetchall()
        for place, folder in orphans:
            studies = self._database.execute(
                "SELECT DISTINCT study FROM file WHERE folder = ? AND study IS NOT NULL LIMIT 2",
                (folder,),
            ).fetchall()
            if len(studies) == 1:
                self._database.execute(
                    "UPDATE file SET study = ?, why = why || ? WHERE place = ?",
                    (
                        studies[0][0],
                        "; taken to be of this exam, the only one in its folder",
                        place,
                    ),
                )

    def exams(self) -> Iterator[ExamPlan]:
        """Every exam, in an order that depends on the studies and places alone."""
        rows = self._database.execute(
            "SELECT place, n_bytes, study, patient, instance, what, why, digest FROM file "
            "ORDER BY study, place"
        )
        files = (FileFacts(os.fsdecode(row[0]), *row[1:]) for row in rows)
        for study, of_study in itertools.groupby(files, key=lambda file: file.study):
            if study is None:
                for file in of_study:
                    key = f"file {file.place}"
                    yield _plan(self.root, key, key, file.place, file.patient, [file])
            else:
                yield from _exams_of_study(self.root, study, list(of_study))


@dataclass(frozen=True)
class Sources:
    """Where the files of a run are: a folder, or single files; ``root`` is above all of them."""

    root: Path
    files: tuple[Path, ...] | None = None

    @classmethod
    def of(cls, study: Path | str | Sequence[Path | str]) -> Sources:
        """A folder, a file, or a list of files.

        Raises:
            DataError: One is missing, or there is none.
        """
        if isinstance(study, (str, Path)):
            path = Path(study).absolute()
            if not path.is_file():
                return cls(path)
            return cls(path.parent, (path,))
        files = tuple(Path(path).absolute() for path in study)
        if not files:
            raise DataError("no file was given: give a folder, a file, or a list of files")
        for path in files:
            if not path.is_file():
                problem = "is not a file" if path.exists() else "does not exist"
                raise DataError(f"{path} {problem}: in a list, give files")
        return cls(Path(os.path.commonpath([path.parent for path in files])), files)

    def found(self) -> Iterator[Path | LeftOut]:
        """The images, and what could not be opened or is a picture of ours, one by one.

        Raises:
            DataError: The folder is missing.
        """
        return walk_images(self.root) if self.files is None else iter(self.files)


@contextlib.contextmanager
def index_of(sources: Sources, selection: Selection, processes: Processes) -> Iterator[ExamIndex]:
    """The index of all files of a run, of which only the headers are read.

    Raises:
        DataError: The folder is missing or holds no image.
    """
    with ExamIndex(sources.root) as index:
        found = _without_own_pictures(sources.found(), index)
        beginning = list(itertools.islice(found, _FEW))
        index.add(facts_of(one, sources.root, selection) for one in beginning)
        chunks = iter(lambda: list(itertools.islice(found, _CHUNK)), [])
        read, suspects = _Headers(sources.root, selection), list[list[Path | LeftOut]]()

        def put_aside(chunk: list[Path | LeftOut]) -> list[FileFacts]:
            suspects.extend([one] for one in chunk)
            return []

        for facts in processes.results(read, chunks, on_kill=put_aside):
            index.add(facts)
        for facts in processes.results(read, suspects, on_kill=read.killed):
            index.add(facts)
        if not len(index):
            pictures = counted(index.n_own_pictures, "[picture|pictures] in it [was|were]")
            own = f"; {pictures} drawn by simfrcnn predict"
            raise DataError(
                f"{sources.root} holds no image: no DICOM, PNG, PGM, TIFF or JPEG file"
                f"{own if index.n_own_pictures else ''}"
            )
        index.adopt_damaged_files()
        yield index


@dataclass(frozen=True)
class _Headers:
    """What a process does with a part of the files."""

    root: Path
    selection: Selection

    def __call__(self, found: Sequence[Path | LeftOut]) -> list[FileFacts]:
        return [facts_of(one, self.root, self.selection) for one in found]

    def killed(self, found: Sequence[Path | LeftOut]) -> list[FileFacts]:
        """The same without a look at them: whichever kills a process will do so once more."""
        why = "the process that read its header was killed: the reader crashed, or memory ran out"
        return [FileFacts(_place(one, self.root), 0, what=FAILED, why=why) for one in found]


def _without_own_pictures(
    found: Iterable[Path | LeftOut], index: ExamIndex
) -> Iterator[Path | LeftOut]:
    for one in found:
        if isinstance(one, LeftOut) and one.is_own_output:
            index.n_own_pictures += 1
        else:
            yield one


def _place(found: Path | LeftOut, root: Path) -> str:
    return os.path.relpath(found.path if isinstance(found, LeftOut) else found, root)


def _exams_of_study(root: Path, study: str, files: list[FileFacts]) -> Iterator[ExamPlan]:
    """One exam, or one for each Patient ID; files without one go to the only patient."""
    key = f"study {study}"
    patients = sorted({file.patient for file in files if file.patient is not None})
    if len(patients) < 2:
        only = patients[0] if patients else None
        is_missing = only is not None and any(
            file.patient is None and file.instance is not None for file in files
        )
        notes = ("files without a Patient ID are taken to be of the study's only patient",)
        yield _plan(root, key, key, study, only, files, notes if is_missing else ())
        return
    by_patient: dict[str | None, list[FileFacts]] = defaultdict(list)
    for file in files:
        by_patient[file.patient].append(file)
    note = (
        f"{len(patients)} different Patient IDs share this Study Instance UID: each is an exam "
        "of its own, and this is one of them"
    )
    for patient, own in sorted(by_patient.items(), key=lambda item: item[0] or ""):
        others = [
            replace(
                file,
                what=ANOTHER_PATIENT,
                why="it has the same Study Instance UID, but another Patient ID",
            )
            for file in files
            if file.patient != patient
        ]
        name = f"{study}/{'without Patient ID' if patient is None else patient}"
        yield _plan(root, f"study {name}", key, name, patient, [*own, *others], (note,))


def _plan(
    root: Path,
    key: str,
    study_key: str,
    exam_id: str,
    patient_id: str | None,
    files: Sequence[FileFacts],
    notes: tuple[str, ...] = (),
) -> ExamPlan:
    groups: dict[str, list[FileFacts]] = defaultdict(list)
    for file in files:
        if file.what is None:
            groups[f"instance {file.instance}" if file.instance else file.place].append(file)
    return ExamPlan(
        root=root,
        key=key,
        study_key=study_key,
        exam_id=exam_id,
        patient_id=patient_id or exam_id,
        groups=tuple(tuple(group) for group in groups.values()),
        left_out=tuple(file for file in files if file.what is not None),
        notes=notes,
    )


def _hash(lines: Iterable[str]) -> str:
    text = "\n".join(sorted(lines))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _storable(text: str | None) -> str | None:
    """SQLite takes UTF-8 alone; values of DICOM files may hold undecodable bytes."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()
