"""Two ways to run a list of jobs: Snakemake, or a small pool of processes that needs Papermill alone.

Both call ``python -m eventbook.companion.execution.execute <job.json>`` once per job, so a notebook runs the
same way under either. Snakemake brings clusters; the pool brings nothing that has to be installed.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import UserError
from ..project import Project
from .jobs import Job
from .processes import RUN_VARIABLE

ENGINES = ("auto", "snakemake", "papermill")
POLL_SECONDS = 0.1


def choose_engine(name: str) -> str:
    """The engine to use; ``auto`` is Snakemake if it is installed.

    Raises
    ------
    UserError
        If the name is unknown, or Snakemake is asked for and not installed.
    """
    if name not in ENGINES:
        raise UserError(f"unknown engine {name!r}; expected one of {', '.join(ENGINES)}")
    installed = importlib.util.find_spec("snakemake") is not None
    if name == "snakemake" and not installed:
        raise UserError(
            "engine snakemake is not installed; install it (pip install snakemake) or use --engine papermill"
        )
    return "snakemake" if name != "papermill" and installed else "papermill"


def run_with_pool(
    jobs: Sequence[Job], project: Project, cores: int, watch: Callable[[], None], lock: int
) -> None:
    """Run jobs as separate processes, `cores` at a time; a failed one does not stop the others.

    Parameters
    ----------
    watch
        Called about ten times a second while jobs run.
    lock
        File descriptor of the run's lock, which the processes hold, too.

    An interrupt ends all of them.
    """
    waiting, running = list(jobs), list[subprocess.Popen[bytes]]()
    try:
        while waiting or running:
            while waiting and len(running) < cores:
                job = waiting.pop(0)
                command = [sys.executable, "-m", "eventbook.companion.execution.execute", str(job.write())]
                running.append(_start(command, project, job.path("log.txt"), lock))
            running = [process for process in running if process.poll() is None]
            watch()
            time.sleep(POLL_SECONDS)
    finally:
        _end(running)


def run_with_snakemake(
    jobs: Sequence[Job], project: Project, cores: int, watch: Callable[[], None], lock: int
) -> None:
    """Hand the jobs to Snakemake, which runs the rule ``execute`` for each; see `run_with_pool`.

    Snakemake's own output goes to ``snakemake.log`` in the build folder, and its notes to ``snakemake/``
    there; progress is read from the jobs' files.
    """
    for job in jobs:
        job.write()
    targets = [str(job.path("ipynb")) for job in jobs]
    notes = project.build / "snakemake"
    notes.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "snakemake"]
    command += ["--snakefile", str(Path(__file__).with_name("execute.smk")), "--directory", str(notes)]
    command += ["--cores", str(cores), "--keep-going", "--rerun-incomplete", "--nolock", "--drop-metadata"]
    # what a failed job leaves is never half of a result, and what it leaves is for reading
    command += ["--keep-incomplete", "--rerun-triggers", "mtime", "--forcerun", *targets, "--", *targets]
    process = _start(command, project, project.build / "snakemake.log", lock)
    try:
        while process.poll() is None:
            watch()
            time.sleep(POLL_SECONDS)
    finally:
        _end([process])


def _start(command: list[str], project: Project, log: Path, lock: int) -> subprocess.Popen[bytes]:
    """A process in a session of its own, so that an interrupt can end it with its kernels."""
    environment = {
        **os.environ,
        RUN_VARIABLE: str(os.getpid()),
        "EVENTBOOK_ROOT": str(project.root),
        "EVENTBOOK_BUILD": str(project.build),
    }
    with log.open("wb") as stream:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
        )


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End what still runs: ask first, insist after three seconds."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        alive = [process for process in processes if process.poll() is None]
        for process in alive:
            try:
                os.killpg(process.pid, sent)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + 3
        while any(process.poll() is None for process in alive) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
