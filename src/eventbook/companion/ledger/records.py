"""Recorded full-profile results: ``results/full/<slug>.json``, committed and shown beside the quick ones."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..execution.jobs import plan
from ..files import read_json, write_json
from ..project import Chapter
from .claims import collect_values


def record_full(chapter: Chapter) -> Path:
    """Write the values of the finished full run of a chapter, with all that is needed to judge them.

    Returns
    -------
    Path
        The file written: values by key (with notebook and cell), parameters (seeds among them), versions,
        machine, seconds, commit, stamps.

    Raises
    ------
    UserError
        If a notebook of the chapter has no finished full run of the present code, or shows values that it
        took from an earlier record.
    """
    jobs = plan(chapter, "full")
    if missing := [job.notebook for job in jobs if not job.is_done()]:
        raise UserError(
            f"{chapter.slug}: expected a finished full run of {', '.join(missing)}, found none; "
            f"run 'eventbook run {chapter.slug} --profile full --record'"
        )
    reports = {job.notebook: read_json(job.path("report.json")) for job in jobs}
    values = collect_values(chapter, chapter.project.runs("full", chapter.label))
    if copied := [key for key, recorded in values.items() if not recorded.measured]:
        raise UserError(
            f"{chapter.slug}: expected a full run that measures every value, got {', '.join(copied)} from "
            "the record before; set the parameters that measure them in "
            f"{chapter.project.shown(chapter.folder / 'full.yml')}"
        )
    first = reports[jobs[0].notebook]
    record: dict[str, Any] = {
        "chapter": chapter.slug,
        "recorded": max(report["started"] for report in reports.values()),
        "commit": _commit(chapter.project.root),
        "machine": first["machine"],
        "versions": first["versions"],
        "notebooks": {
            name: {"seconds": report["seconds"], "parameters": report["parameters"], "stamp": report["stamp"]}
            for name, report in reports.items()
        },
        "values": {
            key: {"value": recorded.value, "notebook": recorded.notebook, "cell": recorded.cell}
            for key, recorded in sorted(values.items())
        },
    }
    path = chapter.project.recorded(chapter.slug)
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
