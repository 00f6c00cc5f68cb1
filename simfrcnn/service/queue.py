"""In which state is every study, so that a process that is killed at any moment loses none?

``received``, ``stable``, ``predicting``, ``predicted``, ``sending``, then ``done`` or ``failed``.
SQLite, every change one transaction that is on the disk when it ends. Studies and films have the
names of :mod:`simfrcnn.service.folder`, no identifiers; the reason of a failure may quote a header.

A *revision* is a study with the films that it had when it was judged. Films that come later make a
new one.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from simfrcnn.errors import OutputError

State = Literal["received", "stable", "predicting", "predicted", "sending", "done", "failed"]
STATES: tuple[State, ...] = (
    *("received", "stable", "predicting", "predicted", "sending", "done", "failed"),
)  # fmt: skip
_COLUMNS = "id, study, revision, attempts, reason, code, ended"
_WAIT_S = 60.0
"""For another process that writes."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY, study TEXT NOT NULL, revision INTEGER NOT NULL, state TEXT NOT NULL,
    last_image REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL
    DEFAULT 0, again TEXT, code TEXT, reason TEXT, ended REAL, UNIQUE (study, revision));
CREATE INDEX IF NOT EXISTS by_state ON job (state, id);
CREATE TABLE IF NOT EXISTS film (study TEXT, name TEXT, PRIMARY KEY (study, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS result (
    job INTEGER, name TEXT, sha256 TEXT NOT NULL, PRIMARY KEY (job, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sent (
    sha256 TEXT, target TEXT, begun REAL NOT NULL, tries INTEGER NOT NULL, ended REAL,
    PRIMARY KEY (sha256, target)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gone (study TEXT, name TEXT, PRIMARY KEY (study, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lost (job INTEGER PRIMARY KEY, times INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS pulled (study TEXT PRIMARY KEY, films TEXT NOT NULL) WITHOUT ROWID;
"""
_CAN_BE_RETRIED = """state = 'failed' AND NOT EXISTS (
    SELECT 1 FROM job AS later WHERE later.study = job.study AND later.revision > job.revision AND (
        later.state IN ('sending', 'done') OR EXISTS (
            SELECT 1 FROM result JOIN sent USING (sha256) WHERE result.job = later.id)))"""


@dataclass(frozen=True)
class Job:
    """One revision of a study; ``attempts`` are those of its present step, this one included.

    ``ended`` is when it last was done or failed, in seconds since 1970.
    """

    id: int
    study: str
    revision: int
    attempts: int
    reason: str | None = None
    code: str | None = None
    ended: float | None = None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Queue]:
    """A queue, for a block.

    Raises:
        OutputError: It cannot be read or written, when it is opened or in the block, or is damaged;
            names the file and what to do.
    """
    try:
        with contextlib.closing(Queue(path)) as queue:
            yield queue
    except sqlite3.OperationalError as error:
        raise OutputError(
            f"the queue {path} cannot be read or written ({error}): free some space, or see that "
            "the folder can be written, and start again; it goes on where it was"
        ) from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise  # a fault of this program, such as an unknown column
        raise OutputError(
            f"the queue {path} is damaged ({error}): move it out of the folder, with the files "
            f"{path.name}-wal and {path.name}-shm, and start again; a new one is made of the films "
            "in the folder, whose studies are all judged and sent once more"
        ) from error


class _Run(Protocol):
    """Runs one statement of a transaction."""

    def __call__(self, query: str, *values: object) -> sqlite3.Cursor: ...


class Queue:
    """The states of all studies of a folder; safe to be used by several threads and processes."""

    def __init__(self, path: Path) -> None:
        """Open the database, made if missing; :func:`opened` explains what goes wrong.

        Raises:
            OutputError: It belongs to somebody else.
            sqlite3.DatabaseError: It cannot be read or written, or is damaged.
        """
        self._lock = threading.RLock()
        self._database = sqlite3.connect(
            path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
        )
        try:
            path.chmod(0o600)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)
        except BaseException as error:
            self.close()
            if isinstance(error, PermissionError):
                raise OutputError(
                    f"the queue {path} belongs to somebody else: start as its owner, or give "
                    "another folder"
                ) from error
            raise

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    # -- images come ---------------------------------------------------------------------------

    def add_film(self, study: str, film: str, now: float) -> bool:
        """Note a film that is on the disk; whether it is new.

        It joins the newest revision if that is not judged yet, or has failed; else it makes a new
        one. The study is ``received`` again, and its time without a new image begins.
        """
        with self._changing() as run:
            if run("INSERT OR IGNORE INTO film VALUES (?, ?)", study, film).rowcount == 0:
                return False
            row = run(
                "SELECT id, revision, state FROM job WHERE study = ? ORDER BY revision DESC", study
            ).fetchone()
            if row is not None and row[2] in ("received", "stable", "failed"):
                run(
                    "UPDATE job SET state = 'received', last_image = ?, attempts = 0, "
                    "not_before = 0, code = NULL, reason = NULL WHERE id = ?",
                    *(now, row[0]),
                )
            else:
                run(
                    "INSERT INTO job (study, revision, state, last_image) "
                    "VALUES (?, ?, 'received', ?)",
                    *(study, 1 if row is None else row[1] + 1, now),
                )
            return True

    def has_film(self, study: str, film: str) -> bool:
        """Whether a film was noted."""
        rows = self._rows("SELECT 1 FROM film WHERE study = ? AND name = ?", study, film)
        return bool(rows)

    def settle(self, now: float, quiet_s: float, study: str | None = None) -> int:
        """Make studies ``stable`` that got no image for some seconds; how many.

        Args:
            now: Seconds since 1970. A later time in the queue, of a clock that was put back, counts
                as now.
            quiet_s: Seconds without a new image.
            study: Only this one.
        """
        which, values = ("", []) if study is None else ("AND study = ?", [study])
        with self._changing() as run:
            run("UPDATE job SET last_image = ? WHERE last_image > ?", now, now)
            return int(
                run(
                    "UPDATE job SET state = 'stable' WHERE state = 'received' AND last_image <= ? "
                    f"{which}",
                    *(now - quiet_s, *values),
                ).rowcount
            )

    # -- judging -------------------------------------------------------------------------------

    def take_for_judging(self, now: float) -> Job | None:
        """The oldest ``stable`` study whose time has come, which is ``predicting`` from now on."""
        return self._take("stable", "predicting", now)

    def judged(self, job: Job, results: Mapping[str, str]) -> None:
        """Its results are on the disk: ``predicted``.

        Args:
            job: The study.
            results: File -> SHA-256; they are sent in the order of their names.
        """
        with self._changing() as run:
            run("DELETE FROM result WHERE job = ?", job.id)
            for name, sha256 in results.items():
                run("INSERT INTO result VALUES (?, ?, ?)", job.id, name, sha256)
            self._move(job, "predicted")

    def results_of(self, job: Job) -> dict[str, str]:
        """File -> SHA-256."""
        return dict(self._rows("SELECT name, sha256 FROM result WHERE job = ?", job.id))

    # -- sending -------------------------------------------------------------------------------

    def take_for_sending(self, now: float) -> Job | None:
        """The oldest ``predicted`` study whose time has come, which is ``sending`` from now on."""
        return self._take("predicted", "sending", now)

    def was_sent(self, sha256: str, target: str) -> bool:
        """Whether a target has confirmed this instance."""
        rows = self._rows(
            "SELECT 1 FROM sent WHERE sha256 = ? AND target = ? AND ended IS NOT NULL",
            *(sha256, target),
        )
        return bool(rows)

    def begin_sending(self, sha256: str, target: str, now: float) -> int:
        """Note, before an instance is sent, that it will be; how many times it was begun."""
        with self._changing() as run:
            run(
                "INSERT INTO sent VALUES (?, ?, ?, 1, NULL) "
                "ON CONFLICT DO UPDATE SET begun = excluded.begun, tries = tries + 1",
                *(sha256, target, now),
            )
            (tries,) = run(
                "SELECT tries FROM sent WHERE sha256 = ? AND target = ?", sha256, target
            ).fetchone()
            return int(tries)

    def confirm_sent(self, sha256: str, target: str, now: float) -> None:
        """The target has said that it keeps the instance."""
        with self._changing() as run:
            run("UPDATE sent SET ended = ? WHERE sha256 = ? AND target = ?", now, sha256, target)

    def done(self, job: Job, now: float) -> None:
        """Everything was sent: ``done``, and so are earlier revisions, which have fewer films."""
        with self._changing() as run:
            self._move(job, "done")
            run("UPDATE job SET ended = ? WHERE id = ?", now, job.id)
            run(
                "UPDATE job SET state = 'done', code = 'superseded', ended = ? "
                "WHERE study = ? AND revision < ? AND state != 'done'",
                *(now, job.study, job.revision),
            )

    # -- what goes wrong -----------------------------------------------------------------------

    def try_again(self, job: Job, state: State, not_before: float) -> None:
        """Put a study back to a state, to be taken up again at a time; its attempts are kept."""
        with self._changing() as run:
            run("UPDATE job SET state = ?, not_before = ? WHERE id = ?", state, not_before, job.id)

    def note_lost(self, job: Job) -> int:
        """Its results were gone or damaged when they were to be sent; how many times by now."""
        with self._changing() as run:
            run(
                "INSERT INTO lost VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1", job.id
            )
            (times,) = run("SELECT times FROM lost WHERE job = ?", job.id).fetchone()
            return int(times)

    def put_back(self, job: Job, state: State) -> None:
        """Put a study back as if it had not been taken up."""
        with self._changing() as run:
            run(
                "UPDATE job SET state = ?, attempts = max(attempts - 1, 0) WHERE id = ?",
                *(state, job.id),
            )

    def fail(self, job: Job, again: State, code: str, reason: str, now: float) -> None:
        """Give a study up, until somebody puts it back to the state ``again``."""
        with self._changing() as run:
            run(
                "UPDATE job SET state = 'failed', again = ?, code = ?, reason = ?, ended = ? "
                "WHERE id = ?",
                *(again, code, reason, now, job.id),
            )

    def failed(self) -> list[Job]:
        """The studies that were given up."""
        return [
            Job(*row)
            for row in self._rows(f"SELECT {_COLUMNS} FROM job WHERE state = 'failed' ORDER BY id")
        ]

    def retry_failed(self) -> int:
        """Put the revisions back that were given up; how many.

        One of which a later revision is being sent, or was sent to any target, stays as it is: it
        would arrive last and look newest. It is superseded when the later one is done.
        """
        with self._changing() as run:
            run(f"DELETE FROM lost WHERE job IN (SELECT id FROM job WHERE {_CAN_BE_RETRIED})")
            return int(
                run(
                    "UPDATE job SET state = again, attempts = 0, not_before = 0, code = NULL, "
                    f"reason = NULL WHERE {_CAN_BE_RETRIED}"
                ).rowcount
            )

    def recover(self, now: float) -> int:
        """Put back what a process had in its hands that is no more; how many studies.

        Studies that were ``received`` wait again: their sender may have been cut off.
        """
        with self._changing() as run:
            run("UPDATE job SET last_image = ? WHERE state = 'received'", now)
            moved = run("UPDATE job SET state = 'stable' WHERE state = 'predicting'").rowcount
            moved += run("UPDATE job SET state = 'predicted' WHERE state = 'sending'").rowcount
            return int(moved)

    # -- what is there -------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """How many revisions are in each state."""
        found = dict(self._rows("SELECT state, count(*) FROM job GROUP BY state"))
        return {state: found.get(state, 0) for state in STATES}

    def finished_studies(self) -> list[tuple[str, float]]:
        """(study, when) of those whose revisions are all done and whose films are here, by age."""
        return self._rows(
            "SELECT study, max(ended) FROM job GROUP BY study HAVING "
            "sum(state != 'done') = 0 AND study IN (SELECT study FROM film) ORDER BY max(ended)"
        )

    def is_finished(self, study: str) -> bool:
        """Whether a study has revisions, and all are done."""
        rows = self._rows("SELECT state FROM job WHERE study = ?", study)
        return bool(rows) and all(state == "done" for (state,) in rows)

    def forget_films(self, study: str) -> None:
        """Its films are no longer on the disk; should they come again, they are a new revision."""
        with self._changing() as run:
            run("INSERT OR IGNORE INTO gone SELECT study, name FROM film WHERE study = ?", study)
            run("DELETE FROM film WHERE study = ?", study)

    def missing_films(self, study: str) -> int:
        """How many films were judged, have left the disk, and did not come again."""
        ((n,),) = self._rows(
            "SELECT count(*) FROM gone WHERE study = ? AND name NOT IN "
            "(SELECT name FROM film WHERE study = ?)",
            *(study, study),
        )
        return int(n)

    def oldest_unsent(self) -> float | None:
        """When the last image came of the study that waits longest; received ones do not wait."""
        ((when,),) = self._rows(
            "SELECT min(last_image) FROM job WHERE state IN "
            "('stable', 'predicting', 'predicted', 'sending')"
        )
        return None if when is None else float(when)

    def studies_with_films(self) -> list[str]:
        """All studies of which a film was noted."""
        return [study for (study,) in self._rows("SELECT DISTINCT study FROM film")]

    def pulled(self, study: str) -> str | None:
        """The hash of the films that a pull has taken of a study; None if there was none."""
        rows = self._rows("SELECT films FROM pulled WHERE study = ?", study)
        return rows[0][0] if rows else None

    def note_pulled(self, study: str, films: str) -> None:
        """All films of a study, by their hash, were taken."""
        with self._changing() as run:
            run("INSERT OR REPLACE INTO pulled VALUES (?, ?)", study, films)

    # ------------------------------------------------------------------------------------------

    def _take(self, before: State, after: State, now: float) -> Job | None:
        """One after the other of a study: a result must not overtake that of fewer films."""
        with self._changing() as run:
            row = run(
                f"SELECT {_COLUMNS} FROM job WHERE state = ? AND not_before <= ? AND NOT EXISTS "
                "(SELECT 1 FROM job AS other WHERE other.study = job.study AND other.revision < "
                "job.revision AND other.state NOT IN ('done', 'failed')) ORDER BY id LIMIT 1",
                *(before, now),
            ).fetchone()
            if row is None:
                return None
            run("UPDATE job SET state = ?, attempts = attempts + 1 WHERE id = ?", after, row[0])
            return Job(row[0], row[1], row[2], row[3] + 1)

    def _move(self, job: Job, state: State) -> None:
        self._database.execute(
            "UPDATE job SET state = ?, attempts = 0, not_before = 0 WHERE id = ?", (state, job.id)
        )

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_Run]:
        """One transaction, of this thread alone."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield lambda query, *values: self._database.execute(query, values)
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.OperationalError):  # a full disk has ended it
                    self._database.execute("ROLLBACK")
                raise
