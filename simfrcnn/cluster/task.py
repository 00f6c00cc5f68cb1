"""What does a job do? It runs one command, and makes it save before the job's time is over.

The command is one that goes on when it is started again. When Slurm warns of the end (SIGUSR2), the
command is asked to save and end, and the job is queued again. This module is light: the process of
the job imports it beside the command's own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from simfrcnn.errors import SimFrcnnError
from simfrcnn.locks import locked

POLL_SECONDS = 0.2
_KILLED_IN_ORDER = 143
_MARGIN_SECONDS = 3.0
"""Of the grace, what is left for queueing the job again."""


@dataclass
class Task:
    """One command as submitit takes it: callable, with ``checkpoint`` for a job that must end.

    Attributes:
        name: For messages.
        words: The command.
        folder: Its working directory.
        lock: A folder that is locked as long as the command runs, even where this process, which
            started it, is killed.
        setup: Shell commands before it; where one fails, so does the task.
        grace_s: Seconds that it has to save when the job must end.
        own_session: Whether Ctrl-C of a terminal must not reach it.
    """

    name: str
    words: tuple[str, ...]
    folder: str
    lock: str
    grace_s: float
    setup: tuple[str, ...] = ()
    own_session: bool = False
    _process: int | None = field(default=None, init=False, repr=False)
    _is_terminated: bool = field(default=False, init=False, repr=False)

    def __call__(self) -> int:
        """Run the command; its exit code, negative where a signal ended it."""
        before = signal.signal(signal.SIGTERM, self._terminate)
        try:
            with locked(Path(self.lock)) as lock:
                code = self._run(lock)
        except SimFrcnnError as error:
            print(f"error: {error}", flush=True)
            return error.exit_code
        finally:
            signal.signal(signal.SIGTERM, before)
        if code and self._is_terminated:
            # Slurm ends this job, to queue it again or for good: there is no result.
            os._exit(_KILLED_IN_ORDER)
        return code

    def checkpoint(self) -> Any:
        """Make the command save and end; what submitit is to run when the job goes on."""
        import submitit

        print(f"{self.name}: this job must end; it saves, and goes on later", flush=True)
        self._send(signal.SIGUSR2)
        deadline = time.monotonic() + self.grace_s - _MARGIN_SECONDS
        while self._process is not None and self._exit_code(self._process) is None:
            if time.monotonic() > deadline:
                print(f"{self.name}: not ended in time, killed", flush=True)
                self._send(signal.SIGKILL)
                break
            time.sleep(POLL_SECONDS)
        return submitit.helpers.DelayedSubmission(replace(self))

    def _run(self, lock: int) -> int:
        process = subprocess.Popen(
            self._words_after_setup(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            start_new_session=self.own_session,
            pass_fds=(lock,),
        )
        self._process = process.pid
        # Not process.wait(): it holds a lock that the handler of a signal would wait for.
        while (code := self._exit_code(process.pid)) is None:
            time.sleep(POLL_SECONDS)
        process.returncode = code
        return code

    def _words_after_setup(self) -> tuple[str, ...]:
        """The command; with a setup, of a shell that becomes the command in the end."""
        if not self.setup:
            return self.words
        return ("sh", "-c", " && ".join((*self.setup, 'exec "$@"')), "sh", *self.words)

    @staticmethod
    def _exit_code(process: int) -> int | None:
        """The exit code of a child, None as long as it runs."""
        try:
            ended, status = os.waitpid(process, os.WNOHANG)
        except ChildProcessError:  # already asked for, in the part that a signal has interrupted
            return -signal.SIGKILL
        return os.waitstatus_to_exitcode(status) if ended else None

    def _terminate(self, number: int, _frame: FrameType | None) -> None:
        self._is_terminated = True
        self._send(number)

    def _send(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process, number)
