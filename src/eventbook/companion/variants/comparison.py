"""The page that sets a fork beside its original: parameters, claims, figures, code."""

from __future__ import annotations

import difflib
import html
import re
from pathlib import Path
from typing import Any

from ..book.dark import picture, staged
from ..book.pages import figures, list_table, stage_and_render
from ..book.tables import badge
from ..execution.jobs import plan
from ..ledger.claims import collect_values, measured_numbers
from ..ledger.ledger import Claim, read_ledger
from ..notebooks.pairs import read_notebook
from ..notebooks.parameters import shown
from ..project import Chapter, Project
from .forks import changed_parameters


def render_comparison(project: Project, fork: Chapter) -> Path:
    """Build the comparison page of an executed fork.

    Notebooks that have not run in the fork are left out of figures and claims, and the page says so.

    Returns
    -------
    Path
        The page as HTML.
    """
    original = project.chapter(fork.slug)
    name = fork.folder.name
    executed = [job.notebook for job in plan(fork) if job.is_done()]
    missing = [n for n in fork.notebooks if n not in executed]
    runs = project.runs("quick", fork.label)
    images, grid = _figures(original, runs, executed)
    page = f"notebooks/{fork.slug}/index"
    text = "\n".join(
        [
            f"# Fork *{name}* beside *{original.title}*",
            "",
            *([f":::{{warning}}\nNot executed in the fork: {', '.join(missing)}.\n:::\n"] if missing else []),
            "## Changed parameters",
            "",
            _parameters(project, fork),
            "## Claims side by side",
            "",
            _claims(original, fork, runs),
            "## Figures",
            "",
            grid,
            "## Code",
            "",
            _code(original, fork),
        ]
    )
    pages = {page: text}
    notebooks = {f"notebooks/{fork.slug}/{n}": fork.pair(n) for n in executed}
    return stage_and_render(project, project.build / "forks" / name, f"fork {name}", pages, notebooks, images)


def _parameters(project: Project, fork: Chapter) -> str:
    changes = changed_parameters(project, fork)
    if not changes:
        return "None: the defaults are the original's.\n"
    rows = [
        [
            f"`{c['name']}`",
            c["notebook"],
            f"`{_value(c['original'])}`",
            f"`{_value(c['fork'])}`",
            c["comment"],
        ]
        for c in changes
    ]
    return list_table(["Parameter", "Notebook", "Original", "Fork", "Meaning"], rows, "parameters")


def _value(value: Any) -> str:
    return "not declared" if value is None else shown(value)


def _claims(original: Chapter, fork: Chapter, runs: Path) -> str:
    """Every row that either has measured; what the fork has not measured says so."""
    recorded = collect_values(fork, runs)
    before, after = measured_numbers(collect_values(original)), measured_numbers(recorded)
    rows = []
    for claim in read_ledger(fork.ledger_path).claims:
        key = claim.key or ""
        if key not in before and key not in after:
            continue
        old, new = before.get(key), after.get(key)
        link = f"{recorded[key].notebook}.html#{key}" if key in after else None
        rows.append(
            [
                f'<span class="claim-id">{claim.id}</span> {claim.statement}',
                claim.paper_value,
                f"`{claim.condition()}`",
                claim.shown(old),
                claim.shown(new),
                _difference(claim, old, new),
                badge(claim.verdict(old)),
                badge(claim.verdict(new), link),
            ]
        )
    header = ["Claim", "Paper", "Holds if", "Original", "Fork", "Difference", "Original", "Fork"]
    return list_table(header, rows, "claims claims-comparison")


def _difference(claim: Claim, old: float | None, new: float | None) -> str:
    if old is None or new is None:
        return "not measured"
    difference = float(new) - float(old)
    if difference == 0:
        return "0"
    return format(difference, "+.2%" if claim.format.endswith("%") else "+.3g")


def _figures(original: Chapter, runs: Path, executed: list[str]) -> tuple[dict[str, bytes], str]:
    """Images to stage, and a two-column grid of the figures that changed."""
    images: dict[str, bytes] = {}
    parts: list[str] = []
    same = 0
    for notebook in executed:
        pair = original.pair(notebook)  # none for a notebook that the fork has added
        old = figures(read_notebook(pair)) if pair.is_file() else {}
        new = figures(read_notebook(runs / f"{notebook}.ipynb"))
        for name in [*old, *(n for n in new if n not in old)]:
            if name in old and name in new and old[name].image == new[name].image:
                same += 1
                continue
            cells = []
            for who, found in (("original", old), ("fork", new)):
                if name not in found:
                    cells.append(
                        f"<figure><figcaption><strong>{who}</strong>: no such figure</figcaption></figure>"
                    )
                    continue
                caption, data, twin = found[name]
                image = f"comparison/{notebook}-{name}-{who}.png"
                images |= staged(f"book/_static/{image}", data, twin)
                alt = html.escape(f"{who}: {caption or name}", quote=True)
                shown_image = picture(f"../../_static/{image}", alt, twin=twin is not None)
                cells.append(f"<figure><figcaption><strong>{who}</strong></figcaption>{shown_image}</figure>")
            caption = (new.get(name) or old[name]).caption
            parts += [
                f"### {notebook}: {name}",
                "",
                caption,
                "",
                f'<div class="fork-figures">{"".join(cells)}</div>',
                "",
            ]
    if same:
        parts.append(f"{same} further figure{'s are' if same > 1 else ' is'} identical, bit for bit.")
    return images, "\n".join(parts or ["No figures."]) + "\n"


def _code(original: Chapter, fork: Chapter) -> str:
    """Unified diff of the percent scripts."""
    lines: list[str] = []
    for notebook in fork.notebooks:
        before = original.source(notebook)
        old = before.read_text(encoding="utf-8").splitlines() if before.is_file() else []
        new = fork.source(notebook).read_text(encoding="utf-8").splitlines()
        lines += difflib.unified_diff(
            old,
            new,
            f"notebooks/{original.slug}/{notebook}.py",
            f"{fork.label}/{notebook}.py",
            lineterm="",
            n=2,
        )
    if not lines:
        return "The code is the same.\n"
    # a plain fence: as a directive its first line, ---, would begin a block of options
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}diff", *lines, fence, ""])
