"""Generated text: the claims tables, the status page, measurements, and the counts in the README.

Pages include the tables from ``book/_generated``; nothing in them is typed by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..execution.jobs import Job
from ..files import read_json, write_atomically
from ..ledger.claims import Row
from ..ledger.ledger import Verdict, read_ledger
from ..notebooks.pairs import read_notebook
from ..project import Chapter, Project
from .measurements import write_measurements

BEGIN, END = "<!-- chapters:begin -->", "<!-- chapters:end -->"


def write_tables(project: Project, rows: Mapping[str, Sequence[Row]], jobs: Sequence[Job]) -> None:
    """Write all tables into ``book/_generated``; files whose content is the same are left alone.

    Parameters
    ----------
    rows
        The ledger's rows by chapter.
    jobs
        The quick jobs of all chapters, for the status page.
    """
    folder = project.root / "book" / "_generated"
    for slug, own in rows.items():
        write_atomically(folder / f"claims_{slug}.md", chapter_table(own, ""))
    write_atomically(folder / "claims_overview.md", overview(project, rows))
    write_atomically(folder / "status.md", status(project, jobs))
    write_measurements(project)


def badge(verdict: Verdict, link: str | None = None) -> str:
    """A verdict as inline HTML, linked to the cell that measured it."""
    span = f'<span class="verdict verdict-{verdict.css}">{verdict}</span>'
    return f'<a class="verdict-link" href="{link}">{span}</a>' if link else span


def chapter_table(rows: Sequence[Row], prefix: str) -> str:
    """The rows of a chapter as a MyST list-table.

    Parameters
    ----------
    prefix
        From the page that shows the table to the chapter's folder, e.g. ``../notebooks/egru/``.
    """
    lines = [
        "::::{list-table}",
        ":class: claims claims-rows",
        ":header-rows: 1",
        ":widths: 40 16 14 9 9 12",
        "",
        *_cells("Claim", "Paper", "Holds if", "Quick", "Full", "Verdict"),
    ]
    for row in rows:
        claim = row.claim
        link = None
        if row.notebook:
            anchor = f"#{claim.key}" if row.on_page else ""
            link = f"{prefix}{row.notebook}.html{anchor}"
        statement = f'<span class="claim-id">{claim.id}</span> {claim.statement}'
        if claim.scale:
            statement += f' <span class="claim-note">Scale: {claim.scale}</span>'
        if claim.reason:
            statement += f' <span class="claim-note">{claim.reason}</span>'
        paper = " ".join(
            part
            for part in (
                f"**{claim.paper_value}**" if claim.paper_value else "",
                f'<span class="claim-note">{"; ".join(dict.fromkeys([claim.where, claim.source]))}</span>',
            )
            if part
        )
        condition = f"`{claim.condition()}`" if claim.condition() else ""
        lines += _cells(
            statement,
            paper,
            condition,
            claim.shown(row.quick),
            claim.shown(row.full),
            badge(row.verdict, link),
        )
    return "\n".join([*lines, "::::", ""])


def _cells(*texts: str) -> list[str]:
    flat = [" ".join(text.split()) for text in texts]
    return [f"{'*' if i == 0 else ' '} - {text}".rstrip() for i, text in enumerate(flat)]


def count(rows: Iterable[Row]) -> dict[Verdict, int]:
    """How many rows have each verdict."""
    found = dict.fromkeys(Verdict, 0)
    for row in rows:
        found[row.verdict] += 1
    return found


def overview(project: Project, rows: Mapping[str, Sequence[Row]]) -> str:
    """Counts per chapter, then every chapter's table."""
    parts = ["::::{list-table}", ":class: claims-overview", ":header-rows: 1", ""]
    parts += _cells("Chapter", "Claims", *(str(verdict).capitalize() for verdict in Verdict))
    for chapter in project.chapters():
        counts = count(rows[chapter.slug])
        link = f'<a href="../notebooks/{chapter.slug}/index.html">{chapter.title}</a>'
        parts += _cells(link, str(len(rows[chapter.slug])), *(str(counts[verdict]) for verdict in Verdict))
    parts += ["::::", ""]
    for chapter in project.chapters():
        parts += [
            f"## {chapter.title}",
            "",
            chapter_table(rows[chapter.slug], f"../notebooks/{chapter.slug}/"),
        ]
    return "\n".join(parts)


def readme_table(project: Project, rows: Mapping[str, Sequence[Row]]) -> str:
    """The README's table of chapters with the counts of their claims."""
    header = ["Chapter", "Paper", "Claims", *(str(verdict).capitalize() for verdict in Verdict)]
    lines = [" | ".join(header), " | ".join(["---", "---", *["--:"] * (len(header) - 2)])]
    for chapter in project.chapters():
        counts = count(rows[chapter.slug])
        paper = _paper(project, read_ledger(chapter.ledger_path).paper)
        title = f"[{chapter.title}](notebooks/{chapter.slug}/index.md)"
        lines.append(
            " | ".join(
                [title, paper, str(len(rows[chapter.slug])), *(str(counts[verdict]) for verdict in Verdict)]
            )
        )
    return "\n".join(f"| {line} |" for line in lines)


def _paper(project: Project, key: str) -> str:
    """``Author et al. 2018`` with a link, from the bibliography."""
    from pybtex.database import parse_file
    from pybtex.exceptions import PybtexError

    path = project.root / "book" / "references.bib"
    try:
        entries = parse_file(str(path)).entries
    except PybtexError as error:
        raise UserError(f"{path}: expected BibTeX ({error})") from None
    if key not in entries:
        raise UserError(f"{path}: expected an entry {key!r} (named by a ledger), found none")
    entry = entries[key]
    if "author" not in entry.persons or "year" not in entry.fields:
        raise UserError(f"{path}: expected author and year in the entry {key!r}")
    authors = ["".join(person.last_names).strip("{}") for person in entry.persons["author"]]
    named = authors[0] if len(authors) == 1 else f"{authors[0]} et al."
    text = f"{named} {entry.fields['year']}"
    arxiv = entry.fields.get("eprint")
    return f"[{text}](https://arxiv.org/abs/{arxiv})" if arxiv else text


def readme_with_counts(project: Project, rows: Mapping[str, Sequence[Row]]) -> str:
    """The README as it should be, with a fresh table between its markers.

    Raises
    ------
    UserError
        If the markers are missing.
    """
    path = project.root / "README.md"
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{path}: expected the markers {BEGIN} and {END}, found none")
    return f"{before}{BEGIN}\n{readme_table(project, rows)}\n{END}{after}"


def status(project: Project, jobs: Sequence[Job]) -> str:
    """Times, stamps, versions and hardware of what the book shows."""
    parts = ["## Notebooks of this build", "", "::::{list-table}", ":class: status", ":header-rows: 1", ""]
    parts += _cells("Notebook", "Cells", "Seconds", "Slowest cell", "Executed", "Stamp")
    machine: dict[str, Any] = {}
    versions: dict[str, str] = {}
    for job in jobs:
        report = job.report()
        machine, versions = report.get("machine", machine), report.get("versions", versions)
        parts += _cells(*_status_row(job, report))
    parts += ["::::", ""]
    if machine:
        parts += ["## Machine", "", *_facts(machine), "", "## Versions", "", *_facts(versions), ""]
    for chapter in project.chapters():
        parts += _full_status(chapter)
    return "\n".join(parts)


def _status_row(job: Job, report: dict[str, Any]) -> list[str]:
    cells, own = 0, ""
    if job.pair is not None and Path(job.pair).is_file():
        pair = read_notebook(Path(job.pair))
        cells, own = len(pair.cells), pair.metadata.get("eventbook", {}).get("stamp", "")
    stamp = f"`{job.stamp[:12]}`" + ("" if own == job.stamp else " **stale**")
    link = f'<a href="../notebooks/{job.label}/{job.notebook}.html">{job.name}</a>'
    if report.get("stamp") != own:
        return [link, str(cells), "", "", "outputs as committed", stamp]
    slowest = max(report["cell_seconds"].values(), default=0.0)
    return [link, str(cells), f"{report['seconds']:.1f}", f"{slowest:.1f}", report["started"], stamp]


def _facts(values: dict[str, Any]) -> list[str]:
    return [f"- {name.replace('_gib', ' (GiB)')}: {value}" for name, value in values.items()]


def _full_status(chapter: Chapter) -> list[str]:
    path = chapter.project.recorded(chapter.slug)
    if not path.is_file():
        return []
    note = "Minutes of the start that finished; what an earlier one had left in checkpoints is not in them."
    lines = [f"## Recorded full run: {chapter.title}", "", note, ""]
    for name, entry in read_json(path)["notebooks"].items():
        machine = f"{entry['machine']['processor']}, {entry['machine']['cores']} cores"
        versions = ", ".join(f"{what} {entry['versions'].get(what)}" for what in ("torch", "numba", "numpy"))
        when = f"recorded {entry['recorded']} at commit `{entry['commit']}`"
        lines += [f"- {name}: {entry['seconds'] / 60:.1f} minutes, {when} ({machine}; {versions})"]
    return [*lines, ""]
