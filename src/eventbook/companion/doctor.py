"""Is everything in place, and what to do if not."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from typing import Literal

from .book.render import check_version
from .checks import findings
from .errors import UserError
from .execution.hardware import THREAD_VARIABLES, describe_machine, describe_versions
from .files import write_atomically
from .project import Project

NEEDED_GIB = 2.0


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; `remedy` says what to do."""

    subject: str
    state: Literal["ok", "note", "problem"]
    text: str
    remedy: str = ""


def project_here() -> Project | None:
    """The project around the working directory, or none, if EVENTBOOK_ROOT does not ask for one."""
    try:
        return Project.find()
    except UserError:
        if "EVENTBOOK_ROOT" in os.environ:
            raise
        return None


def examine(project: Project | None) -> Iterator[Finding]:
    """Look at versions, threads, data, stale chapters and disk; outside a checkout, at what there is."""
    yield from _versions()
    if project is not None:
        yield from _lock(project)
    yield from _threads()
    yield from _data()
    if project is not None:
        yield from _chapters(project)
        yield from _disk(project)
    else:
        yield Finding(
            "chapters",
            "note",
            "no checkout of the project here; the packages and the data sets are all there is to look at",
            "git clone the project and change into it, or set EVENTBOOK_ROOT",
        )


def _versions() -> Iterator[Finding]:
    found = describe_versions()
    yield Finding("python", "ok", f"{found['python']} at {sys.prefix}")
    try:
        check_version()
    except UserError as error:
        yield Finding("jupyter-book", "problem", str(error), "run 'make'")
    if util.find_spec("snakemake") is None:
        yield Finding(
            "snakemake",
            "note",
            "not installed; notebooks run through Papermill alone",
            "pip install snakemake",
        )


def _lock(project: Project) -> Iterator[Finding]:
    lock = project.root / "requirements.lock"
    if not lock.is_file():
        yield Finding(
            "lock",
            "problem",
            "requirements.lock is missing",
            "restore it with git, or make it with 'make lock'",
        )
        return
    different = []
    for line in lock.read_text(encoding="utf-8").splitlines():
        name, equals, pinned = line.partition("==")
        if equals and not line.startswith("#"):
            try:
                installed = metadata.version(name.strip()).split("+")[0]
            except metadata.PackageNotFoundError:
                installed = "none"
            if installed != pinned.split(";")[0].strip():
                different.append(f"{name} {installed} (lock {pinned})")
    if different:
        shown = ", ".join(different[:5]) + (f" and {len(different) - 5} more" if len(different) > 5 else "")
        yield Finding("lock", "note", f"installed otherwise: {shown}", "pip install -r requirements.lock")
    else:
        yield Finding("lock", "ok", "every installed version is the locked one")


def _threads() -> Iterator[Finding]:
    machine = describe_machine()
    set_ = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    given = ", ".join(f"{name}={value}" for name, value in set_.items()) or "none set here"
    yield Finding(
        "threads",
        "ok",
        f"{machine['cores']} cores; notebooks run with one thread each, two at a time ({given})",
    )


def _data() -> Iterator[Finding]:
    from ..datasets import DataError, list_datasets

    try:
        for info in list_datasets():
            if info.available:
                yield Finding(f"data {info.name}", "ok", info.source)
            else:
                # the reason says what to do
                yield Finding(f"data {info.name}", "note", info.source.removeprefix(f"{info.name}: "))
    except DataError as error:
        yield Finding(
            "data", "problem", str(error), "restore the file with git, or see 'eventbook data verify'"
        )


def _chapters(project: Project) -> Iterator[Finding]:
    try:
        found = list(findings(project))
    except UserError as error:
        found = str(error).splitlines()
    for line in found:
        subject, _, text = line.partition(": ")
        yield Finding(
            subject, "problem", text or line, "" if "run 'eventbook" in line else "see CONTRIBUTING.md"
        )
    if not found:
        yield Finding("chapters", "ok", "pairs agree, stamps are fresh, verdicts are as expected")


def _disk(project: Project) -> Iterator[Finding]:
    free = shutil.disk_usage(project.root).free / 2**30
    if free < NEEDED_GIB:
        yield Finding("disk", "problem", f"{free:.1f} GiB free", f"free at least {NEEDED_GIB:.0f} GiB")
    else:
        yield Finding("disk", "ok", f"{free:.0f} GiB free")
    probe = project.build / ".probe"
    try:
        write_atomically(probe, "")
        probe.unlink()
    except (UserError, OSError) as error:
        yield Finding(
            "build folder", "problem", str(error), "make it writable or set EVENTBOOK_BUILD to another folder"
        )
