"""What can be told without executing anything: pairs, stamps, outputs, ledgers, counts, table of contents."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from .book.render import check_version
from .book.tables import readme_with_counts
from .errors import UserError
from .execution.jobs import Job, declared_parameters, plan
from .ledger.claims import Row, rows_of
from .notebooks.pairs import as_saved, differences, edited_outputs, read_notebook, read_source
from .notebooks.parameters import disagreements
from .project import Chapter, Project


def findings(project: Project) -> Iterator[str]:
    """Everything that is wrong with the committed state, one line each; nothing if all is well."""
    try:
        check_version()
    except UserError as error:
        yield str(error)
    yield from _contents_findings(project)
    rows: dict[str, list[Row]] = {}
    chapters = project.chapters()
    for chapter in chapters:
        try:
            jobs = plan(chapter)
            plan(chapter, "full")
            rows[chapter.slug] = rows_of(chapter)
        except UserError as error:
            yield from str(error).splitlines()
            continue
        yield from chapter_findings(chapter, jobs, rows[chapter.slug])
        folder = project.shown(chapter.folder)
        yield from (f"{folder}: {line}" for line in disagreements(declared_parameters(chapter)))
    yield from _duplicates(rows)
    if len(rows) < len(chapters):
        return  # the counts cannot be told
    try:
        if readme_with_counts(project, rows) != (project.root / "README.md").read_text(encoding="utf-8"):
            yield "README.md: the table of chapters is not current; 'eventbook build' writes it"
    except UserError as error:
        yield str(error)


def _contents_findings(project: Project) -> Iterator[str]:
    """Pages of the table of contents without a source, chapters that are not in it."""
    for page in project.toc_pages:
        if not any((project.root / f"{page}{suffix}").is_file() for suffix in (".md", ".ipynb")):
            yield f"_toc.yml: expected {page}.md or {page}.ipynb, found neither"
    for folder in sorted(path for path in (project.root / "notebooks").iterdir() if path.is_dir()):
        sources = {path.stem for path in folder.glob("[!.]*.py")}
        for name in sorted(["index", *sources] if sources else []):
            if f"notebooks/{folder.name}/{name}" not in project.toc_pages:
                yield f"_toc.yml: expected notebooks/{folder.name}/{name}, found none"
        for orphan in sorted({path.stem for path in folder.glob("[!.]*.ipynb")} - sources):
            yield f"notebooks/{folder.name}/{orphan}.ipynb: expected its source {orphan}.py, found none"
        if sources and not (folder / "claims.yml").is_file():
            yield f"notebooks/{folder.name}: expected the ledger claims.yml, found none"


def chapter_findings(chapter: Chapter, jobs: list[Job], rows: list[Row]) -> Iterator[str]:
    """What is wrong with one chapter, given its quick jobs and its ledger's rows."""
    shown, remedy = chapter.project.shown, f"run 'eventbook run {chapter.slug}'"
    for job in jobs:
        name, script = shown(chapter.pair(job.notebook)), chapter.source(job.notebook)
        if place := _first_other_line(script):
            yield (
                f"{shown(script)}:{place}: JupyterLab would save this line otherwise; after "
                f"'eventbook run {chapter.slug}' write it as 'jupytext --to py:percent {name}' does"
            )
        if not chapter.pair(job.notebook).is_file():
            yield f"{name}: expected the pair of {job.notebook}.py, found none; {remedy}"
            continue
        pair = read_notebook(chapter.pair(job.notebook))
        if unequal := differences(read_source(script), pair):
            more = f" and {len(unequal) - 1} further differences" if len(unequal) > 1 else ""
            yield f"{name}: not the pair of its .py: {unequal[0]}{more}; {remedy}"
        if pair.metadata.get("eventbook", {}).get("stamp") != job.stamp:
            yield f"{name}: stale, its code, ledger, data or lock changed since it ran; {remedy}"
        for number in edited_outputs(pair):
            yield f"{name}: cell {number}: outputs are not those of the execution; {remedy}"
    ledger, record = shown(chapter.ledger_path), chapter.project.recorded(chapter.slug)
    for row in rows:
        if problem := row.problem("quick"):
            yield f"{ledger}: {problem}"
    lacking = [problem for row in rows if (problem := row.problem("full"))]
    if lacking and not record.is_file():
        yield (
            f"{ledger}: {len(lacking)} claims of the full profile, but no recorded run {shown(record)}; "
            f"{remedy[:-1]} --profile full --record'"
        )
    else:
        yield from (f"{ledger}: {problem}" for problem in lacking)


def _first_other_line(script: Path) -> int | None:
    """Number of the first line that Jupytext would write otherwise; None if it would change nothing."""
    lines = script.read_text(encoding="utf-8").splitlines()
    pairs = zip_longest(lines, as_saved(script).splitlines())
    return next((number for number, (own, saved) in enumerate(pairs, start=1) if own != saved), None)


def _duplicates(rows: dict[str, list[Row]]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for slug, own in rows.items():
        for row in own:
            if row.claim.id in seen:
                yield f"notebooks/{slug}/claims.yml: {row.claim.id!r} is taken by {seen[row.claim.id]}"
            seen[row.claim.id] = slug
