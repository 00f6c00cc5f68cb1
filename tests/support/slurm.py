"""A Slurm of one node on this machine: its own key, ports and folders, ended with the tests.

It starts as root alone (``slurmd`` starts the steps of its jobs as their user).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAMS = ("mungekey", "munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "srun")
_SECONDS_TO_START = 60

# A job that is queued again waits until its old credential has expired: cred_expire, else 120 s.
_CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=6
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=5
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class NotStarted(Exception):
    """Slurm is not installed, or does not start here; says why."""


@contextlib.contextmanager
def one_node(folder: Path) -> Iterator[None]:
    """Start it, let ``sbatch`` and the other programs find it by SLURM_CONF, and end it.

    Raises:
        NotStarted: A program is missing, this is not root, or it does not start.
    """
    why = why_not()
    if why:
        raise NotStarted(why)
    host = socket.gethostname().partition(".")[0]
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True)
    controller, daemon = _free_ports(2)
    config = folder / "slurm.conf"
    config.write_text(
        _CONFIG.format(
            host=host,
            folder=folder,
            controller=controller,
            daemon=daemon,
            cpus=os.cpu_count() or 1,
        )
    )
    munge = folder / "munge"
    subprocess.run(["mungekey", "-c", "-k", munge / "key"], check=True, capture_output=True)
    munged = ["munged", "--foreground", "--force", "--key-file", munge / "key"]
    munged += ["--socket", munge / "socket", "--pid-file", munge / "pid"]
    munged += ["--seed-file", munge / "seed", "--log-file", munge / "log"]
    with contextlib.ExitStack() as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(config))
        running.enter_context(_process(munged))
        _wait_for(lambda: (munge / "socket").exists(), "munged")
        running.enter_context(_process(["slurmctld", "-D", "-c"]))
        running.enter_context(_process(["slurmd", "-D", "-N", host]))
        _wait_for(_is_idle, "slurmctld and slurmd")
        try:
            yield
        finally:
            subprocess.run(["scancel", "--me", "--signal=KILL"], check=False, capture_output=True)
            subprocess.run(["scancel", "--me"], check=False, capture_output=True)
            _wait_for(lambda: not _answer(["squeue", "--noheader"]), "squeue")


def why_not() -> str:
    """Why it cannot start here; empty if it may."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"{', '.join(missing)} cannot be found: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "its daemons are started by root alone"


def _is_idle() -> bool:
    return _answer(["sinfo", "--noheader", "--format=%T"]) == "idle"


def _answer(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip()


def _wait_for(is_there: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline:
        if is_there():
            return
        time.sleep(0.2)
    raise NotStarted(f"{what}: not as wanted within {_SECONDS_TO_START} s")


@contextlib.contextmanager
def _process(words: list[object]) -> Iterator[None]:
    process = subprocess.Popen(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as sockets:
        taken = [sockets.enter_context(socket.socket()) for _ in range(n)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in taken]
