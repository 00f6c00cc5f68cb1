"""Processes that begin with what is already imported: an import of torch takes seconds.

``run_program`` stands for ``subprocess.run([sys.executable, ...])`` where a test is not about how a
program starts.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

# Forks from a process that has imported these, and done nothing else. Missing ones are left out.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "simfrcnn.cli.main",
        "simfrcnn.workflows.training",
        "simfrcnn.engines.torchvision.trainer",
        "simfrcnn.engines.detectron2.trainer",
        "simfrcnn.evaluation.reporting.figures",
        "matplotlib.backends.backend_agg",
        "simfrcnn.service.node",
        "pynetdicom",
    ]
)


def fork_processes() -> None:
    """Let ``torch.multiprocessing``, by which Detectron2 launches, fork where it would spawn."""
    from torch import multiprocessing as torch_multiprocessing

    forking = partial(torch_multiprocessing.start_processes, start_method="fork")
    torch_multiprocessing.start_processes = forking


def run_program(
    words: Sequence[object],
    *,
    cwd: Path,
    logs: Path,
    env: Mapping[str, str] | None = None,
    timeout: float = 400,
) -> subprocess.CompletedProcess[str]:
    """Run what ``python WORDS`` would run, to its end.

    Args:
        words: A script or ``-m MODULE``, then its arguments.
        cwd: The folder that it runs in.
        logs: The folder that keeps what it prints.
        env: Its whole environment; as it is here by default.
        timeout: Seconds after which it is killed, and the test fails.
    """
    process = start_program(words, cwd=cwd, logs=logs, env=env)
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"{words[0]} took more than {timeout} s:\n{_printed(logs)[1]}")
    return subprocess.CompletedProcess(list(words), process.exitcode, *_printed(logs))


def kill_program_once(
    is_time: Callable[[], bool], words: Sequence[object], *, cwd: Path, logs: Path
) -> None:
    """Start what ``python WORDS`` would run and kill it (SIGKILL) as soon as it is time."""
    process = start_program(words, cwd=cwd, logs=logs)
    deadline = time.monotonic() + 240
    while not is_time() and time.monotonic() < deadline:
        assert process.is_alive(), "".join(_printed(logs))
        time.sleep(0.02)
    process.kill()
    process.join()
    assert is_time(), "".join(_printed(logs))


def start_program(
    words: Sequence[object],
    *,
    cwd: Path,
    logs: Path,
    env: Mapping[str, str] | None = None,
) -> ForkServerProcess:
    """Start what ``python WORDS`` would run; arguments as those of :func:`run_program`."""
    environment = dict(os.environ if env is None else env)
    process = _SERVER.Process(
        target=_become, args=([str(word) for word in words], str(cwd), str(logs), environment)
    )
    process.start()
    return process


def _become(words: list[str], cwd: str, logs: str, environment: dict[str, str]) -> None:
    """In the new process: be the program."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream: Any = open(Path(logs) / name, "w", encoding="utf-8")  # noqa: SIM115
        os.dup2(stream.fileno(), number)
        setattr(sys, name, stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        runpy.run_path(words[0], run_name="__main__")


def _printed(logs: Path) -> tuple[str, str]:
    """What a program has printed: stdout and stderr."""
    return tuple((logs / name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))  # type: ignore[return-value]
