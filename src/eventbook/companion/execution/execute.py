"""Execute one notebook in a clean kernel, through Papermill.

Run as ``python -m eventbook.companion.execution.execute <job.json>``: the command that both engines call. The
kernel gets one thread, no user configuration and a fixed hash seed. Papermill writes beside the result
under another name; only a finished run is moved into place, so a failed or killed one never looks done.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# isort: split  (papermill imports nbformat, too; who comes first decides how long that takes)
import papermill
from papermill.engines import NBClientEngine, papermill_engines

from ..errors import UserError
from ..files import write_json
from ..notebooks.notebook_format import NotebookNode, nbformat
from ..notebooks.pairs import INJECTED, read_notebook, read_source, refresh, tags, write_pair
from .hardware import THREAD_VARIABLES, common_instructions, describe_machine, describe_versions
from .jobs import Job
from .processes import end_with_children, end_with_run


def kernel_environment(build: Path, profile: str) -> dict[str, str]:
    """Variables of a kernel: one thread, this interpreter's kernel, nobody's personal configuration.

    What is committed must come out alike on any processor, though training makes a percent of the last bit of
    a product: outside the full profile, which is only recorded, libraries keep to what all processors share.
    """
    return {
        **(common_instructions() if profile != "full" else {}),
        **{name: "1" for name in THREAD_VARIABLES},
        "EVENTBOOK_PROFILE": profile,
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": "default",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "IPYTHONDIR": str(build / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }


class _ReportingEngine(NBClientEngine):
    """Papermill's own engine, which also says which cell it is at and how long each took."""

    on_cell: Callable[[int, int], None]
    seconds: dict[int, float]

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
        start, complete = nb_man.cell_start, nb_man.cell_complete
        began: dict[int, float] = {}

        def cell_start(cell: NotebookNode, cell_index: int | None = None, **rest: Any) -> Any:
            if cell_index is not None:
                began[cell_index] = time.perf_counter()
                cls.on_cell(cell_index, len(nb_man.nb.cells))
            return start(cell, cell_index, **rest)

        def cell_complete(cell: NotebookNode, cell_index: int | None = None, **rest: Any) -> Any:
            if cell_index in began:
                cls.seconds[cell_index] = round(time.perf_counter() - began[cell_index], 3)
            return complete(cell, cell_index, **rest)

        nb_man.cell_start, nb_man.cell_complete = cell_start, cell_complete
        return super().execute_managed_notebook(nb_man, kernel_name, **options)


papermill_engines.register("eventbook", _ReportingEngine)


def execute(job: Job) -> dict[str, Any]:
    """Execute a job and return its report.

    On success the executed notebook is in place, the report written and the pair refreshed. On failure
    the report holds the error, and ``<notebook>.failed.ipynb`` what was executed so far.

    Raises
    ------
    UserError
        If files cannot be read or written, or the pair's ``.ipynb`` holds edits of its own. The executed
        notebook is in place in the latter case: nothing has to run again.
    """
    os.environ.update(kernel_environment(Path(job.build), job.profile))
    log, failed, result = job.path("log.ipynb"), job.path("failed.ipynb"), job.path("ipynb")
    report: dict[str, Any] = {
        "notebook": job.name,
        "profile": job.profile,
        "parameters": job.parameters,
        "stamp": job.stamp,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": describe_machine(),
        "versions": describe_versions(),
    }

    def progress(cell: int, cells: int) -> None:
        write_json(job.path("progress.json"), {"cell": cell + 1, "cells": cells})

    _ReportingEngine.on_cell, _ReportingEngine.seconds = staticmethod(progress), {}
    source = read_source(Path(job.source))
    began = time.perf_counter()
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        for leftover in (result, failed, log):
            leftover.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(prefix="eventbook-") as scratch:
            prepared = Path(scratch) / f"{job.notebook}.ipynb"
            nbformat.write(source, prepared)
            error = _papermill(job, prepared, log)
        report["seconds"] = round(time.perf_counter() - began, 2)
        report["cell_seconds"] = _ReportingEngine.seconds
        if error is not None:
            report["error"] = error
            if log.is_file():
                log.replace(failed)
            write_json(job.path("report.json"), report)
            return report
        executed = read_notebook(log)
        fresh = refresh(source, executed, job.stamp, job.profile)
        write_json(job.path("report.json"), report)
        log.replace(result)
        if job.pair:
            write_pair(Path(job.pair), fresh)
    except OSError as error:
        raise UserError(f"cannot write results to {job.folder}: {error.strerror or error}") from error
    finally:
        for name in ("progress.json", "log.ipynb"):
            with contextlib.suppress(OSError):
                job.path(name).unlink(missing_ok=True)
    return report


def _papermill(job: Job, prepared: Path, log: Path) -> dict[str, Any] | None:
    """Run Papermill from `prepared` to `log`; the error as plain data, or None."""
    try:
        papermill.execute_notebook(
            prepared,
            log,
            parameters=job.parameters,
            engine_name="eventbook",
            kernel_name="python3",
            cwd=Path(job.source).parent,
            progress_bar=False,
            log_output=False,
            request_save_on_cell_execute=True,
        )
    except papermill.PapermillExecutionError as error:
        return {
            "cell": _cell_of_source(log, error.cell_index),
            "source": error.source,
            "name": error.ename,
            "value": error.evalue,
            "traceback": list(error.traceback),
        }
    except (OSError, UserError):
        raise
    except Exception as error:  # such as a kernel that dies: everything else that can go wrong in a run
        seconds = _ReportingEngine.seconds
        return {
            "cell": _cell_of_source(log, max(seconds)) if seconds else None,
            "source": "",
            "name": type(error).__name__,
            "value": str(error),
            "traceback": [],
        }
    return None


def _cell_of_source(log: Path, index: int) -> int:
    """Number (from 1) in the source of the cell at `index` of the run, which has one more: the injected."""
    if not log.is_file():
        return index + 1
    # Papermill marks a failure with cells of its own
    ran = [c for c in read_notebook(log).cells if not any("papermill-error" in tag for tag in tags(c))]
    return index + 1 - sum(INJECTED in tags(cell) for cell in ran[:index])


def main(arguments: list[str]) -> int:
    """The command above: 0 done, 1 the notebook failed, 2 bad input."""
    end_with_children()
    end_with_run()
    try:
        if len(arguments) != 1:
            raise UserError(f"expected one job file, got {len(arguments)} arguments")
        report = execute(Job.read(Path(arguments[0])))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if "error" in report else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
