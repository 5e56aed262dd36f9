"""Benchmark results as tables and figures: ``benchmarks/results/<name>.json`` -> ``book/_generated``.

    measured_<name>.md            every competitor of every case, with goals; missing ones are named
    measured_<name>_ratios.svg    time of each competitor over ours
    measured_<name>_growth.svg    time against size, with fitted exponents
    measured_<name>_curves.svg    time against a quantity, one line per way to compute it
    measured_<name>_*.dark.svg    the same for the dark mode
    measured_goals.md             all goals of all files, met or missed

What a file holds is written by ``benchmarks/harness.py``; nothing is measured here.
"""

from __future__ import annotations

import html
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..files import read_json, sha256, write_atomically
from ..project import Project
from .dark import in_dark, twin_name
from .theme import PALETTE, use_theme

COLORS = ("orange", "green", "vermilion", "purple", "sky", "grey", "black")
MARKERS = "osD^vPX*"


def results_of(project: Project) -> dict[str, dict[str, Any]]:
    """Recorded results by name, in alphabetical order."""
    folder = project.root / "benchmarks" / "results"
    return {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}


def write_measurements(project: Project) -> None:
    """Write all tables and figures; a figure is drawn only if its results have changed."""
    target = project.root / "book" / "_generated"
    results = results_of(project)
    if not results:
        return
    write_atomically(target / "measured_goals.md", goals_table(results))
    for name, result in results.items():
        write_atomically(target / f"measured_{name}.md", table(result))
        _draw(target, name, result)


# --- tables ------------------------------------------------------------------------------------------------


def table(result: dict[str, Any]) -> str:
    """Every competitor of every case as a MyST list-table, and where it was measured."""
    lines = ["::::{list-table}", ":class: measured", ":header-rows: 1", ":widths: 34 30 12 12 12", ""]
    lines += _row("Case", "Way", "Time", "Times ours", "Goal")
    for case in result["cases"]:
        goals = {goal["against"]: goal for goal in case["goals"]}
        label = _label(case, bold="**")
        if unit := case.get("unit"):
            label += f' <span class="claim-note">rates: {unit}</span>'
        for name, row in case["competitors"].items():
            lines += _row(label, _named(name, row), *_figures(row), _goal(goals.get(name)))
            label = ""
    return "\n".join([*lines, "::::", "", _provenance(result), ""])


def goals_table(results: dict[str, dict[str, Any]]) -> str:
    """One row per goal: what was wanted, what was measured, what a loop at the limit would reach."""
    lines = ["::::{list-table}", ":class: measured", ":header-rows: 1", ":widths: 40 28 10 12 10", ""]
    lines += _row("Case", "Against", "At least", "Measured", "At the limit")
    count, met, before = 0, 0, ""
    for result in results.values():
        for case in result["cases"]:
            for goal in case["goals"]:
                row = case["competitors"][goal["against"]]
                found = "missing" if goal["measured"] is None else _ratio(goal["measured"])
                label = _label(case)
                shown_label, before = ("" if label == before else label), label
                shown = _marked(found, goal["met"])
                bound = "" if row.get("limit") else _at_the_limit(case, goal["measured"])
                lines += _row(
                    shown_label, _named(goal["against"], row), f"{goal['at_least']:g}", shown, bound
                )
                count, met = count + 1, met + (goal["met"] is True)
        for fit in result.get("growth", []):
            shown = _marked(f"{fit['exponent']:.2f}", fit["met"])
            wanted = f"{fit['expected']:g} ± {fit['within']:g}"
            lines += _row(f"cost of {fit['name']}", "exponent of the growth", wanted, shown, "")
            count, met = count + 1, met + (fit["met"] is True)
    return "\n".join([f"{met} of {count} goals are met.", "", *lines, "::::", ""])


def _at_the_limit(case: dict[str, Any], measured: float | None) -> str:
    """The ratio to a competitor if ours took no more time than the limit, which no other loop could beat."""
    shares = [row["ratio"] for row in case["competitors"].values() if row.get("limit")]
    return "" if measured is None or not shares else _ratio(measured / max(shares))


def _row(*texts: str) -> list[str]:
    return [f"{'*' if i == 0 else ' '} - {text}".rstrip() for i, text in enumerate(texts)]


def _label(case: dict[str, Any], bold: str = "") -> str:
    return f"{bold}{case['kernel']}{bold}, {case['case']}, {_threads(case['threads'])}"


def _marked(text: str, met: bool | None) -> str:
    mark = {True: "met", False: "missed", None: "open"}[met]
    return f'{text} <span class="goal goal-{mark}">{mark}</span>'


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


def _named(name: str, row: dict[str, Any]) -> str:
    version = row.get("version")
    return f"{name} ({version})" if version else name


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _time(microseconds: float) -> str:
    if microseconds < 1000:
        return f"{microseconds:.3g} µs"
    if microseconds < 1e6:
        return f"{microseconds / 1e3:.3g} ms"
    return f"{microseconds / 1e6:.3g} s"


def _figures(row: dict[str, Any]) -> tuple[str, str]:
    if "missing" in row:
        return "missing", f'<span class="claim-note">{html.escape(row["missing"])}</span>'
    spread = f'<span class="claim-note">{_ratio(row["low"])} to {_ratio(row["high"])}</span>'
    ratio = f"{_ratio(row['ratio'])} {spread}" if row["high"] > row["low"] else "1"
    return _time(row["microseconds"]) + _rate(row.get("millions_per_second")), ratio


def _rate(millions: float | None) -> str:
    if millions is None:
        return ""
    return f", {millions:.3g} M/s" if millions < 1000 else f", {millions / 1000:.3g} G/s"


def _goal(goal: dict[str, Any] | None) -> str:
    if goal is None:
        return ""
    return _marked(f"{goal['at_least']:g}", goal["met"])


def _provenance(result: dict[str, Any]) -> str:
    machine = result["hardware"]
    versions = ", ".join(
        f"{name} {machine[name]}" for name in ("torch", "numba", "numpy") if machine.get(name)
    )
    return (
        f'<p class="claim-note">{machine["cpu"]}, {machine["cores"]} cores, Python {machine["python"]}, '
        f"{versions}; {result['rounds']} rounds, {result['seconds']:.0f} s in all.</p>"
    )


# --- figures -----------------------------------------------------------------------------------------------


def _draw(target: Path, name: str, result: dict[str, Any]) -> None:
    mark = target / f"measured_{name}.digest"
    drawn_by = (Path(__file__), Path(__file__).with_name("dark.py"), Path(__file__).with_name("theme.py"))
    digest = sha256([repr(result), *(path.read_bytes() for path in drawn_by)])
    if mark.is_file() and mark.read_text(encoding="utf-8") == digest:
        return
    use_theme()
    for kind, figure in _figures_of(result):
        image = f"measured_{name}_{kind}.svg"
        write_atomically(target / image, _svg(figure))
        with in_dark(figure):
            write_atomically(target / twin_name(image), _svg(figure))
    write_atomically(mark, digest)


def _svg(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _figures_of(result: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "ratios", ratios_figure(result["cases"])
    if result.get("growth"):
        yield "growth", growth_figure(result["growth"])
    if result.get("curves"):
        yield "curves", curves_figure(result["curves"])


def ratios_figure(cases: Sequence[dict[str, Any]]) -> Any:
    """One row per case, one mark per competitor: its time over ours."""
    from matplotlib.figure import Figure

    peers = dict.fromkeys(
        name
        for case in cases
        for name, row in list(case["competitors"].items())[1:]
        if "ratio" in row and not row.get("limit")
    )
    style = {
        name: (PALETTE[COLORS[i % len(COLORS)]], MARKERS[i % len(MARKERS)]) for i, name in enumerate(peers)
    }
    figure = Figure(figsize=(7.6, 0.42 * len(cases) + 0.34 * -(-len(peers) // 2) + 1.3))
    axis = figure.subplots()
    for i, case in enumerate(cases):
        for name, row in case["competitors"].items():
            if name in style and "ratio" in row:
                color, marker = style[name]
                axis.plot([row["low"], row["high"]], [i, i], color=color, linewidth=1, alpha=0.5)
                axis.plot(row["ratio"], i, marker, color=color, markersize=7)
    for name, (color, marker) in style.items():
        axis.plot([], [], marker, color=color, label=name)
    axis.axvline(1, color=PALETTE["blue"], linewidth=2)
    labels = [f"{case['kernel']}\n{case['case']}" for case in cases]
    axis.set_yticks(range(len(cases)), labels, fontsize=8)
    axis.set(xscale="log", xlabel="time over ours", ylim=(len(cases) - 0.5, -0.5))
    axis.grid(axis="y", visible=False)
    if style:
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


def growth_figure(fits: Sequence[dict[str, Any]]) -> Any:
    """Time against size, both logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.4 + 0.25 * len(fits)))
    axis = figure.subplots()
    for i, fit in enumerate(fits):
        color = PALETTE[("blue", *COLORS)[i % 8]]
        label = f"{fit['name']}: exponent {fit['exponent']:.2f}"
        axis.loglog(fit["x"], fit["seconds"], MARKERS[i % 8] + "-", color=color, markersize=5, label=label)
    axis.set(xlabel="size", ylabel="seconds")
    figure.legend(loc="outside lower center", fontsize=9)
    return figure


def curves_figure(curves: Sequence[dict[str, Any]]) -> Any:
    """A panel per sweep: time of each way to compute the same, against what was varied."""
    from matplotlib.figure import Figure

    ways = list(dict.fromkeys(name for curve in curves for name in curve["seconds"]))
    figure = Figure(figsize=(3.0 * len(curves), 3.4))
    axes = figure.subplots(1, len(curves), squeeze=False)[0]
    for axis, curve in zip(axes, curves, strict=True):
        for name, seconds in curve["seconds"].items():
            i = ways.index(name)
            color, micro = PALETTE[("blue", *COLORS)[i % 8]], [1e6 * s for s in seconds]
            axis.loglog(curve["x"], micro, MARKERS[i % 8] + "-", color=color, markersize=4)
        axis.set(title=curve["name"], xlabel=curve["label"])
        axis.yaxis.set_minor_formatter("")
    axes[0].set_ylabel("µs")
    for i, name in enumerate(ways):
        axes[0].plot([], [], MARKERS[i % 8] + "-", color=PALETTE[("blue", *COLORS)[i % 8]], label=name)
    figure.legend(loc="outside lower center", ncols=len(ways), fontsize=9)
    return figure
