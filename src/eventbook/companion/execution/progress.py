"""One line per notebook while jobs run: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ..errors import UserError
from ..files import read_json
from .jobs import Job


class ProgressLines:
    """Reads the jobs' progress files and shows where each notebook is.

    Use as a context manager; call `update` often.
    """

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        self.waiting = dict(enumerate(jobs, start=1))
        self.total = len(self.waiting)
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            TextColumn("cell {task.completed:>2.0f}/{task.total:.0f}", markup=False),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.tasks: dict[int, TaskID] = {}

    def __enter__(self) -> ProgressLines:
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self.update()
        self.bars.stop()

    def update(self) -> None:
        """Look at every job that has not finished once."""
        for number, job in list(self.waiting.items()):
            self._look(number, job)

    def _look(self, number: int, job: Job) -> None:
        head = f"[{number}/{self.total}] {job.name}"
        progress = job.path("progress.json")
        # the progress file is the last that a job removes, so without one the report is final
        if (report := job.report()) and not progress.is_file():
            del self.waiting[number]
            if number in self.tasks:
                self.bars.update(self.tasks[number], completed=self.bars.tasks[self.tasks[number]].total)
            failed = "error" in report
            word = "FAILED" if failed else "done"
            self.console.print(f"{head}: {word} in {report['seconds']:.1f} s", style="red" if failed else "")
            return
        try:
            state = read_json(progress)
        except UserError:
            return
        if number not in self.tasks:
            self.tasks[number] = self.bars.add_task(head, total=state["cells"])
            if not self.console.is_terminal:
                self.console.print(f"{head}: running {state['cells']} cells")
        self.bars.update(self.tasks[number], completed=state["cell"] - 1)
