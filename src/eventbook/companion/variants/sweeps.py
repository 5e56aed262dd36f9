"""Sweeps: one parameter of a chapter over several values, each run a job, each claim a curve."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..book.dark import in_dark, picture, staged
from ..book.pages import list_table, stage_and_render
from ..book.tables import badge
from ..errors import UserError
from ..execution.jobs import Job, declared_parameters, plan
from ..files import write_atomically
from ..ledger.claims import measured_numbers, values_of
from ..ledger.ledger import Claim, read_ledger
from ..notebooks.pairs import read_notebook
from ..notebooks.parameters import owners_of, shown, split_values, typed_overrides
from ..notebooks.profiles import profile_overrides
from ..project import Chapter


@dataclass(frozen=True)
class Sweep:
    """A parameter, its values, what else is overridden, and the jobs of each value."""

    chapter: Chapter
    parameter: str
    values: list[Any]
    fixed: dict[str, Any]
    jobs: list[list[Job]]

    @property
    def folder(self) -> Path:
        return self.chapter.project.build / "sweeps" / f"{self.chapter.slug}-{self.parameter}"


def plan_sweep(chapter: Chapter, assignments: Mapping[str, str], profile: str = "quick") -> Sweep:
    """Plan the jobs of a sweep: only the notebooks that declare the parameter run.

    Parameters
    ----------
    assignments
        Values by parameter name as typed; exactly one of them is a list, ``0,1e-4,1e-3``.

    Raises
    ------
    UserError
        If not exactly one parameter has several values, a name is unknown or a value has the wrong type.
    """
    declared = declared_parameters(chapter)
    for name in assignments:
        owners_of(name, declared)
    lists = {name: texts for name, text in assignments.items() if len(texts := split_values(text)) > 1}
    if len(lists) != 1:
        raise UserError(
            f"expected one parameter with several values, as in -p temperature=0,1e-4,1e-3; "
            f"got {len(lists)} ({', '.join(lists) or 'none'})"
        )
    ((name, texts),) = lists.items()
    values = [typed_overrides({name: text}, declared)[name] for text in texts]
    if any(value in values[:index] for index, value in enumerate(values)):
        raise UserError(f"parameter {name}: expected different values, got {', '.join(map(shown, values))}")
    fixed = typed_overrides({other: text for other, text in assignments.items() if other != name}, declared)
    owners = owners_of(name, declared)
    base = profile_overrides(chapter, profile)
    jobs = []
    for value in values:
        # a value that the profile has anyway needs no run of its own
        same = all(base.get(name, declared[notebook][name].default) == value for notebook in owners)
        jobs.append(plan(chapter, profile, fixed if same else {**fixed, name: value}, owners))
    return Sweep(chapter, name, values, fixed, jobs)


def render_sweep(sweep: Sweep) -> Path:
    """Write ``results.csv`` and the page with one small plot per claim; return the page.

    Variants that failed have no values and are named on the page. Claims that no variant has measured, such
    as those that a notebook shows from the recorded full run, are left out.
    """
    ledger = read_ledger(sweep.chapter.ledger_path)
    measured: list[dict[str, Any]] = []
    failed: list[Any] = []
    for value, jobs in zip(sweep.values, sweep.jobs, strict=True):
        if not all(job.is_done() for job in jobs):
            failed.append(value)
            measured.append({})
            continue
        measured.append(
            {
                key: value
                for job in jobs
                for key, value in measured_numbers(
                    values_of(read_notebook(job.path("ipynb")), job.notebook)
                ).items()
            }
        )
    claims = [claim for claim in ledger.claims if any(claim.key in values for values in measured)]
    _write_csv(sweep, claims, measured)
    page = _page(sweep, claims, measured, failed)
    images = staged("book/_static/sweep.png", *_plot(sweep, claims, measured)) if claims else {}
    title = f"sweep of {sweep.parameter}"
    return stage_and_render(sweep.chapter.project, sweep.folder, title, {"index": page}, {}, images)


def _write_csv(sweep: Sweep, claims: Sequence[Claim], measured: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([sweep.parameter, "claim", "key", "value", "holds"])
    for value, values in zip(sweep.values, measured, strict=True):
        for claim in claims:
            if claim.key is not None and claim.key in values:
                found = values[claim.key]
                writer.writerow([value, claim.id, claim.key, found, claim.holds(found)])
    write_atomically(sweep.folder / "results.csv", text.getvalue())


def _page(
    sweep: Sweep, claims: Sequence[Claim], measured: Sequence[Mapping[str, Any]], failed: list[Any]
) -> str:
    fixed = "".join(f", with {name} = {shown(value)}" for name, value in sweep.fixed.items())
    parts = [f"# {sweep.chapter.title}: sweep of `{sweep.parameter}`{fixed}", ""]
    if failed:
        without = ", ".join(map(shown, failed))
        parts += [
            f":::{{warning}}\nNo result for {sweep.parameter} = {without}: the run failed.\n:::",
            "",
        ]
    if not claims:
        return "\n".join([*parts, "No claim of this chapter depends on this parameter.", ""])
    alt = f"Each claim's value against {sweep.parameter}, with the threshold of the ledger"
    parts += [picture("_static/sweep.png", alt, twin=True), ""]
    parts += [
        "Filled points hold, open points do not; the dashed line or band is the ledger's condition.",
        "",
    ]
    header = ["Claim", "Holds if", *(f"`{shown(value)}`" for value in sweep.values)]
    rows = []
    for claim in claims:
        cells = [f'<span class="claim-id">{claim.id}</span> {claim.statement}', f"`{claim.condition()}`"]
        for values in measured:
            value = values.get(claim.key or "")
            cells.append("" if value is None else f"{claim.shown(value)} {badge(claim.verdict(value))}")
        rows.append(cells)
    return "\n".join([*parts, list_table(header, rows, "claims")])


def _plot(
    sweep: Sweep, claims: Sequence[Claim], measured: Sequence[Mapping[str, Any]]
) -> tuple[bytes, bytes]:
    """One small axis per claim: value against parameter, threshold dashed; light and dark."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from ..book.theme import PALETTE, use_theme

    use_theme()
    columns = min(3, len(claims))
    rows = -(-len(claims) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.0 * columns, 2.7 * rows), squeeze=False)
    places = range(len(sweep.values))
    for axis, claim in zip(axes.flat, claims, strict=False):
        points = [
            (x, float(values[claim.key]))
            for x, values in zip(places, measured, strict=True)
            if claim.key is not None and claim.key in values
        ]
        axis.plot(*zip(*points, strict=True), color=PALETTE["blue"], zorder=2)
        for x, y in points:
            holds = claim.holds(y)
            face = PALETTE["blue"] if holds else "white"
            axis.plot(
                x, y, "o", markersize=7, markerfacecolor=face, markeredgecolor=PALETTE["blue"], zorder=3
            )
        if isinstance(claim.threshold, tuple):
            axis.axhspan(*claim.threshold, color=PALETTE["orange"], alpha=0.2)
        elif claim.threshold is not None:
            axis.axhline(float(claim.threshold), color=PALETTE["vermilion"], linestyle="--", linewidth=1.2)
        axis.set_title(claim.id)
        axis.set_xticks(list(places), [shown(value) for value in sweep.values])
        axis.set_xlabel(sweep.parameter)
        axis.margins(x=0.1, y=0.15)
    for axis in axes.flat[len(claims) :]:
        axis.remove()
    light = _png(figure)
    with in_dark(figure):
        dark = _png(figure)
    plt.close(figure)
    return light, dark


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
