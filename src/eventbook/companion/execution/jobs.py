"""Jobs: one notebook, one profile, one set of parameters. What to run, and whether it has run already.

A job is a small JSON file beside the place of its result::

    _build/runs/<variant>/<label>/<notebook>.job.json        what to run, with its stamp
    _build/runs/<variant>/<label>/<notebook>.ipynb           the executed notebook, only after success
    _build/runs/<variant>/<label>/<notebook>.report.json     times, versions, hardware, or the error
    _build/runs/<variant>/<label>/<notebook>.failed.ipynb    what a failed run left, for reading

The job file changes only if something that the notebook depends on changes; both engines go by that.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_json, write_json
from ..notebooks.notebook_format import NotebookNode
from ..notebooks.pairs import parameters_of, read_source
from ..notebooks.parameters import Parameter, check_overrides, label
from ..notebooks.profiles import profile_overrides
from ..notebooks.stamps import stamp
from ..project import Chapter, Project


@dataclass(frozen=True)
class Job:
    """One execution of one notebook; paths are strings, so that a job is plain JSON."""

    label: str
    notebook: str
    source: str
    profile: str
    variant: str
    parameters: dict[str, Any]
    stamp: str
    build: str
    pair: str | None  # the .ipynb to refresh on success
    note: str = ""  # the overrides of a one-off variant, or the profile

    @property
    def name(self) -> str:
        """How progress lines call it."""
        return f"{self.label}/{self.notebook}" + (f" ({self.note})" if self.note else "")

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return Path(self.build) / "runs" / self.variant / self.label

    def path(self, suffix: str) -> Path:
        """A file of this job, e.g. ``ipynb``, ``report.json``, ``failed.ipynb``, ``job.json``."""
        return self.folder / f"{self.notebook}.{suffix}"

    def is_done(self) -> bool:
        """True if the executed notebook exists and everything it depends on is as it was."""
        return self.path("ipynb").is_file() and self.report().get("stamp") == self.stamp

    def report(self) -> dict[str, Any]:
        """What the last execution reported; empty if there is no (readable) report."""
        try:
            report = read_json(self.path("report.json"))
        except UserError:
            return {}
        return report if isinstance(report, dict) else {}

    def write(self) -> Path:
        """Write the job file (only if its content changed) and return its path."""
        write_json(self.path("job.json"), asdict(self))
        return self.path("job.json")

    @classmethod
    def read(cls, path: Path) -> Job:
        try:
            return cls(**read_json(path))
        except TypeError as error:
            raise UserError(f"{path}: expected a job file ({error})") from None


def declared_parameters(chapter: Chapter) -> dict[str, dict[str, Parameter]]:
    """Parameters of every notebook of a chapter, by notebook and name."""
    return _declared(chapter, {name: read_source(chapter.source(name)) for name in chapter.notebooks})


def _declared(chapter: Chapter, sources: Mapping[str, NotebookNode]) -> dict[str, dict[str, Parameter]]:
    shown = chapter.project.shown
    return {name: parameters_of(source, shown(chapter.source(name))) for name, source in sources.items()}


def plan(
    chapter: Chapter,
    profile: str = "quick",
    overrides: Mapping[str, Any] | None = None,
    notebooks: Iterable[str] | None = None,
) -> list[Job]:
    """The jobs of a chapter.

    Parameters
    ----------
    chapter
        A chapter or a fork.
    profile
        ``quick`` or ``full``.
    overrides
        Further parameters, by name. With overrides the run is a one-off variant in a folder of its own
        and leaves the pair alone.
    notebooks
        Only these; default all.

    Raises
    ------
    UserError
        If there is no such notebook, or a parameter is unknown or has the wrong type, in the overrides or
        in ``full.yml``.
    """
    chosen = list(chapter.notebooks if notebooks is None else notebooks)
    if unknown := [name for name in chosen if name not in chapter.notebooks]:
        raise UserError(
            f"{chapter.label}: expected notebooks of {', '.join(chapter.notebooks)}, got {', '.join(unknown)}"
        )
    sources = {name: read_source(chapter.source(name)) for name in chapter.notebooks}
    declared = _declared(chapter, sources)
    values = profile_overrides(chapter, profile)
    try:
        base = check_overrides(values, declared)
    except UserError as error:
        raise UserError(f"{chapter.label}, profile {profile}: {error}") from None
    extra = check_overrides(overrides or {}, declared)
    variant = variant_name(profile, overrides or {})
    refreshes = profile == "quick" and not overrides
    jobs = []
    for name in chosen:
        parameters = {**base[name], **extra[name]}
        jobs.append(
            Job(
                label=chapter.label,
                notebook=name,
                source=str(chapter.source(name)),
                profile=profile,
                variant=variant,
                parameters=parameters,
                stamp=stamp(chapter, sources[name], profile, parameters),
                build=str(chapter.project.build),
                pair=str(chapter.pair(name)) if refreshes else None,
                note=label(overrides) if overrides else "" if profile == "quick" else profile,
            )
        )
    return jobs


def reuse_results(done: Iterable[Job], wanted: Iterable[Job]) -> None:
    """Copy results of finished jobs to jobs with the same stamp: the same outputs would come out again."""
    finished = {job.stamp: job for job in done if job.is_done()}
    for job in wanted:
        if (original := finished.get(job.stamp)) and not job.is_done():
            job.folder.mkdir(parents=True, exist_ok=True)
            for suffix in ("ipynb", "report.json"):  # in this order: a result without a report is none
                shutil.copy(original.path(suffix), job.path(suffix))


def variant_name(profile: str, overrides: Mapping[str, Any]) -> str:
    """``quick``, or ``quick-<digest>`` for a one-off variant."""
    if not overrides:
        return profile
    digest = hashlib.sha256(json.dumps(overrides, sort_keys=True).encode()).hexdigest()[:8]
    return f"{profile}-{digest}"


def all_jobs(project: Project, profile: str = "quick") -> list[Job]:
    """The jobs of every chapter of the book."""
    return [job for chapter in project.chapters() for job in plan(chapter, profile)]
