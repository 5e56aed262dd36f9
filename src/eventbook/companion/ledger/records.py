"""Recorded full-profile results: ``results/full/<slug>.json``, committed and shown beside the quick ones."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..execution.jobs import plan
from ..files import read_json, write_json
from ..project import Chapter
from .claims import collect_values


def record_full(chapter: Chapter, notebooks: Sequence[str] | None = None) -> Path:
    """Write the values of the finished full run of a chapter, with all that is needed to judge them.

    Parameters
    ----------
    chapter
        A chapter of the book.
    notebooks
        Those to record; of the others stays what was recorded before. Default: all.

    Returns
    -------
    Path
        The file written: values by key (with notebook and cell) and, for each notebook, parameters (seeds
        among them), versions, machine, seconds, commit and stamp.

    Raises
    ------
    UserError
        If the chapter has no such notebook, one of them has no finished full run of the present code, or
        shows values that it took from an earlier record.
    """
    jobs = plan(chapter, "full", notebooks=notebooks)
    if missing := [job.notebook for job in jobs if not job.is_done()]:
        pages = "".join(f" -n {name}" for name in missing)
        raise UserError(
            f"{chapter.slug}: expected a finished full run of {', '.join(missing)}, found none; "
            f"run 'eventbook run {chapter.slug}{pages} --profile full --record'"
        )
    names = [job.notebook for job in jobs]
    found = collect_values(chapter, chapter.project.runs("full", chapter.label))
    measured = {key: value for key, value in found.items() if value.notebook in names}
    if copied := [key for key, value in measured.items() if not value.measured]:
        raise UserError(
            f"{chapter.slug}: expected a full run that measures every value, got {', '.join(copied)} from "
            "the record before; set the parameters that measure them in "
            f"{chapter.project.shown(chapter.folder / 'full.yml')}"
        )
    path = chapter.project.recorded(chapter.slug)
    before = read_json(path) if path.is_file() and notebooks is not None else {"notebooks": {}, "values": {}}
    kept = [name for name in chapter.notebooks if name in before["notebooks"] and name not in names]
    entries = {name: before["notebooks"][name] for name in kept}
    values = {key: entry for key, entry in before["values"].items() if entry["notebook"] in kept}
    commit = _commit(chapter.project.root)
    for job in jobs:
        report = job.report()
        told = {name: report[name] for name in ("machine", "versions", "seconds", "parameters", "stamp")}
        entries[job.notebook] = {"recorded": report["started"], "commit": commit} | told
    for key, value in measured.items():
        if key in values:
            other = values[key]["notebook"]
            raise UserError(f"{chapter.slug}: {key!r} is recorded by {other} and by {value.notebook}")
        values[key] = {"value": value.value, "notebook": value.notebook, "cell": value.cell}
    record: dict[str, Any] = {
        "chapter": chapter.slug,
        "notebooks": {name: entries[name] for name in chapter.notebooks if name in entries},
        "values": dict(sorted(values.items())),
    }
    write_json(path, record)
    return path


def _commit(root: Path) -> str:
    """The commit of the sources, marked if the tree had changes; empty outside a repository."""
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        changed = subprocess.run(
            [
                "git",
                "-C",
                str(root),
                "status",
                "--porcelain",
                "--",
                "src",
                "notebooks/*.py",
                "requirements.lock",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{commit}+changes" if changed else commit
