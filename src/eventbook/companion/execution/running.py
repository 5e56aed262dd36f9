"""Run what is stale and say how it went."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ..errors import UserError
from ..notebooks.pairs import is_current, read_notebook, read_source, refresh, refuse_edits, write_pair
from ..project import Project
from .engines import choose_engine, run_with_pool, run_with_snakemake
from .jobs import Job
from .locking import locked
from .progress import ProgressLines

TRACEBACK_LINES = 25
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes
    ----------
    executed, current
        Jobs that ran to their end, jobs whose result was there already.
    failed
        Jobs whose notebook raised, or ended without a word.
    refused
        Jobs that could not run or be written: edited pairs, a full disk.
    """

    executed: list[Job]
    current: list[Job]
    failed: list[Job]
    refused: list[Job]

    @property
    def exit_status(self) -> int:
        """0 all is well, 1 a notebook failed, 2 something could not be run or written."""
        return 2 if self.refused else 1 if self.failed else 0

    def __str__(self) -> str:
        refused = f", {len(self.refused)} refused" if self.refused else ""
        return (
            f"{len(self.executed)} executed, {len(self.current)} current, {len(self.failed)} failed{refused}"
        )


def run_jobs(
    jobs: Sequence[Job],
    project: Project,
    console: Console,
    *,
    cores: int = 2,
    engine: str = "auto",
    force: bool = False,
) -> Outcome:
    """Execute the jobs that are not done, then refresh pairs whose outputs are not the executed ones.

    Raises
    ------
    UserError
        If another run is at work in the same build folder, or its files cannot be written.
    """
    start = run_with_snakemake if choose_engine(engine) == "snakemake" else run_with_pool
    with locked(project.build) as lock:
        refused = _refusals(jobs)
        allowed = [job for job in jobs if job.name not in refused]
        stale = [job for job in allowed if force or not job.is_done()]
        for job in stale:
            # a report from before must not be mistaken for this run's
            for suffix in ("report.json", "progress.json", "log.txt"):
                job.path(suffix).unlink(missing_ok=True)
        if stale:
            with ProgressLines(stale, console) as lines:
                start(stale, project, cores, lines.update, lock)
        executed, current, failed = list[Job](), list[Job](), list[Job]()
        for job in allowed:
            if not job.is_done():
                if not job.report() and (reason := _reason(job)):
                    refused[job.name] = reason
                else:
                    failed.append(job)
                continue
            try:
                _restore_pair(job, console)
            except UserError as error:
                refused[job.name] = str(error)
            else:
                (executed if job in stale else current).append(job)
    for job in failed:
        _show_failure(job, project, console)
    for name, reason in refused.items():
        console.print(f"{name}: {reason}", style="red")
    return Outcome(executed, current, failed, [job for job in jobs if job.name in refused])


def _refusals(jobs: Sequence[Job]) -> dict[str, str]:
    """Jobs whose pair was edited in a way that executing would lose, with the reason."""
    found = {}
    for job in jobs:
        if job.pair is not None:
            try:
                refuse_edits(Path(job.pair), read_source(Path(job.source)))
            except UserError as error:
                found[job.name] = str(error)
    return found


def _restore_pair(job: Job, console: Console) -> None:
    """Bring a pair back to what was executed, if its text is older or its outputs missing or edited."""
    if job.pair is None:
        return
    pair, source = Path(job.pair), read_source(Path(job.source))
    if pair.is_file() and is_current(read_notebook(pair), source, job.stamp):
        return
    executed = read_notebook(job.path("ipynb"))
    if write_pair(pair, refresh(source, executed, job.stamp, job.profile)):
        console.print(f"{job.name}: outputs restored from the executed notebook")


def _reason(job: Job) -> str:
    """Why a job could not be executed at all, as its process said; empty if that is not why it failed."""
    log = job.path("log.txt")
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), "")


def _show_failure(job: Job, project: Project, console: Console) -> None:
    """The failing cell and its traceback, and where the whole notebook can be read."""
    error = job.report().get("error")
    if error is None:
        log = job.path("log.txt") if job.path("log.txt").is_file() else project.build / "snakemake.log"
        console.print(
            f"{job.name}: it ended without a report (killed?); log: {project.shown(log)}", style="red"
        )
        return
    where = "before the first cell" if error["cell"] is None else f"cell {error['cell']}"
    console.print(f"\n{job.name}: {where} raised {error['name']}:", style="red")
    for line in error["source"].rstrip().splitlines():
        console.print(f"    {line}")
    traceback = "\n".join(error["traceback"]).splitlines() or [f"{error['name']}: {error['value']}"]
    for line in traceback[-TRACEBACK_LINES:]:
        console.out(line if console.is_terminal else ESCAPES.sub("", line), highlight=False)
    if job.path("failed.ipynb").is_file():
        console.print(f"the notebook as far as it came: {project.shown(job.path('failed.ipynb'))}")
