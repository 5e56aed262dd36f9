"""Measure competitors side by side in one process: ratios within rounds, beside the machine's limits.

A *case* is one piece of work done by several competitors. In each round every competitor does it in turn,
the order reversed every other round, and a ratio is the median of the ratios within rounds: a machine that
slows down slows all of them. Before each turn there is a rest and, if calls are short, one that is not timed,
or the threads of the competitor before, which spin for a while when their work is done, would be measured
too. Limits are competitors as well: `triad` moves as many bytes as the kernel must, `multiply_add` does as
many operations.

Before anything is measured the script restarts itself with two threads at most and with an allocator that
keeps its memory. Otherwise every large result is paid for in page faults, by all competitors alike, and the
operating system is what is measured.
"""

import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROUNDS = 9
MIN_SECONDS = 3e-2  # a competitor works at least so long in each round, until the scheduler has settled
REST_SECONDS = 1e-2  # before each turn: thread pools of other libraries spin for a while after their work
SLOW_SECONDS = 0.2  # a competitor whose call takes longer than this works in every third round only
WITHOUT_CALL = "ours, without the call through torch"
LIBRARIES = ("torch", "numba", "llvmlite", "numpy")
ENVIRONMENT = {
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",  # or threads of one competitor spin on a core while the next one works
    "MKL_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "2",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "JAX_PLATFORMS": "cpu",
}
Work = Callable[[], object]


@dataclass(frozen=True)
class Missing:
    """A competitor that cannot run here, and why. It gets a row, too."""

    reason: str


@dataclass(frozen=True)
class Goal:
    """What a case should reach: at least `factor` against one competitor, or a share of a limit."""

    against: str
    at_least: float


@dataclass
class Case:
    """One piece of work.

    Attributes
    ----------
    kernel, case
        What is measured, at which size.
    competitors
        Work by name; the first one is ours.
    peers
        Package of a competitor, for its version.
    limits
        Names of competitors that are limits of the machine: their ratio is a share (limit / ours).
    goals
        Checked against the medians.
    threads
        Of ours and of torch.
    """

    kernel: str
    case: str
    competitors: dict[str, Work | Missing]
    goals: list[Goal] = field(default_factory=list)
    peers: dict[str, str] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    threads: int = 1
    per_call: int = 1  # elements of work in a call, for `unit`
    unit: str = ""


def restart_with_environment() -> None:
    """Run the script again with `ENVIRONMENT`, once; libraries read it when they are loaded."""
    if os.environ.get("EVENTBOOK_BENCH") != "1":
        os.environ.update(ENVIRONMENT, EVENTBOOK_BENCH="1")
        os.execv(sys.executable, [sys.executable, *sys.argv])


@cache
def peer(name: str) -> ModuleType | Missing:
    """An optional package, or the reason why it is missing."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # peers fail to import in many ways
        return Missing(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:120])


def of_peer(name: str, build: Callable[[Any], Work | Missing]) -> Work | Missing:
    """The work that a peer does, or why it does none."""
    package = peer(name)
    return package if isinstance(package, Missing) else build(package)


def version(distribution: str) -> str | None:
    """Version of an installed distribution."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def without_call(module: ModuleType, work: Work) -> Work:
    """The kernel that a module runs last in `work`: on the same arrays, without checks, torch, new memory."""
    from eventbook.kernels.machinery.threads import over_batch

    seen: list[tuple[Any, ...]] = []

    def spy(*arguments: Any) -> None:
        seen.append(arguments)
        over_batch(*arguments)

    module.__dict__["over_batch"] = spy
    try:
        work()
    finally:
        module.__dict__["over_batch"] = over_batch
    return lambda: over_batch(*seen[-1])


# --- limits ------------------------------------------------------------------------------------------------


def triad(bytes_moved: int, threads: int = 1, *, past_cache: bool = True) -> Work:
    """z = x + s y over three arrays of `bytes_moved` bytes in all, by vectors of our own."""
    import torch

    from eventbook.kernels.machinery.limits import triad as walk
    from eventbook.kernels.machinery.tensors import new
    from eventbook.kernels.machinery.threads import over_batch

    count = max(1, bytes_moved // 12 // threads // 16) * 16
    x, y, z = (new((threads, count), torch.empty(0)).numpy() for _ in range(3))
    for filled in (x, y, z):
        filled.fill(1.0)
    return lambda: over_batch(walk, threads, (x, y, z), past_cache)


def multiply_add(operations: int, threads: int = 1) -> Work:
    """As many floating-point operations (two per multiply-add) on registers as a kernel needs."""
    from eventbook.kernels.machinery.limits import OPERATIONS_PER_TURN
    from eventbook.kernels.machinery.limits import multiply_add as walk
    from eventbook.kernels.machinery.threads import over_batch

    out = np.zeros((threads, 16), np.float32)
    turns = max(1, operations // OPERATIONS_PER_TURN // threads)
    return lambda: over_batch(walk, threads, (out,), turns)


# --- measurement -------------------------------------------------------------------------------------------


def _pace(work: Work) -> tuple[int, int]:
    """How many calls fill `MIN_SECONDS`, and in which rounds (every n-th) to make them."""
    work()
    begin = time.perf_counter()
    work()
    seconds = max(time.perf_counter() - begin, 1e-7)
    return max(1, min(10_000, int(MIN_SECONDS / seconds))), 3 if seconds > SLOW_SECONDS else 1


def interleaved(competitors: dict[str, Work], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds per call of each competitor in each round; NaN in rounds that it sat out."""
    pace = {name: _pace(work) for name, work in competitors.items()}
    times: dict[str, list[float]] = {name: [] for name in competitors}
    for number in range(rounds):
        for name in list(competitors)[:: 1 if number % 2 == 0 else -1]:
            work, (calls, every) = competitors[name], pace[name]
            if number % every:
                times[name].append(float("nan"))
                continue
            time.sleep(REST_SECONDS)
            if every == 1:
                work()
            begin = time.perf_counter()
            for _ in range(calls):
                work()
            times[name].append((time.perf_counter() - begin) / calls)
    return times


def measure(case: Case, rounds: int = ROUNDS) -> dict[str, Any]:
    """Run one case.

    Returns
    -------
    dict
        For JSON: every competitor's microseconds and ratio to ours (median, lowest, highest over rounds), the
        missing ones with their reason, the goals with what was measured.
    """
    import torch

    torch.set_num_threads(case.threads)
    present = {name: work for name, work in case.competitors.items() if not isinstance(work, Missing)}
    times = interleaved(present, rounds)
    ours = np.array(next(iter(times.values())))
    rows: dict[str, Any] = {}
    for name, work in case.competitors.items():
        if isinstance(work, Missing):
            rows[name] = {"missing": work.reason}
            continue
        ratios = np.array(times[name]) / ours
        rows[name] = {
            "microseconds": float(np.nanmedian(times[name])) * 1e6,
            "ratio": float(np.nanmedian(ratios)),
            "low": float(np.nanmin(ratios)),
            "high": float(np.nanmax(ratios)),
        }
        if name in case.peers:
            rows[name]["version"] = version(case.peers[name])
        if name in case.limits:
            rows[name]["limit"] = True
        if case.unit and name not in case.limits:
            rows[name]["millions_per_second"] = case.per_call / float(np.nanmedian(times[name])) / 1e6
    goals = []
    for goal in case.goals:
        found = rows[goal.against].get("ratio")
        met = None if found is None else bool(found >= goal.at_least)
        goals.append({"against": goal.against, "at_least": goal.at_least, "measured": found, "met": met})
    result = {
        "kernel": case.kernel, "case": case.case, "threads": case.threads, "competitors": rows, "goals": goals
    }  # fmt: skip
    if case.unit:
        result["unit"] = case.unit
    return result


def growth(
    name: str, work_of_size: Callable[[int], Work], sizes: Iterable[int], expected: float, within: float = 0.1
) -> dict[str, Any]:
    """Median seconds over a range of sizes, the fitted exponent of the cost, and if it is as expected."""
    sizes = list(sizes)
    works = {str(size): work_of_size(size) for size in sizes}
    times = interleaved(works, rounds=7)
    seconds = [float(np.nanmedian(times[str(size)])) for size in sizes]
    slope = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    return {
        "name": name, "x": sizes, "seconds": seconds,
        "exponent": slope, "expected": expected, "within": within, "met": abs(slope - expected) <= within,
    }  # fmt: skip


def curve(
    name: str, label: str, x: Iterable[float], ways: Callable[[float], dict[str, Work]]
) -> dict[str, Any]:
    """Median seconds of several ways to compute the same, against a quantity: shows where they cross.

    Parameters
    ----------
    name, label
        Title, and what x is.
    ways
        Work by name at a given x; the same names everywhere.
    """
    xs, seconds = list(x), dict[str, list[float]]()
    for value in xs:
        for way, times in interleaved(ways(value), rounds=7).items():
            seconds.setdefault(way, []).append(float(np.nanmedian(times)))
    return {"name": name, "label": label, "x": xs, "seconds": seconds}


def hardware() -> dict[str, Any]:
    """The machine and the versions that the numbers belong to."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), cpu)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


# --- reports -----------------------------------------------------------------------------------------------


def report(title: str, cases: list[dict[str, Any]], fits: list[dict[str, Any]]) -> None:
    """Print what was measured."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in ("case", "competitor", "us", "x ours", "lowest", "highest", "goal"):
        table.add_column(column)
    for case in cases:
        label = f"{case['kernel']}, {case['case']}, {case['threads']} thr."
        goals = {goal["against"]: goal for goal in case["goals"]}
        for name, row in case["competitors"].items():
            goal = goals.get(name)
            wanted = "" if goal is None else f">= {goal['at_least']:g} {'yes' if goal['met'] else 'NO'}"
            if "missing" in row:
                table.add_row(label, name, "missing", row["missing"], "", "", wanted)
            else:
                ratios = [f"{row[key]:.2f}" for key in ("ratio", "low", "high")]
                table.add_row(label, name, f"{row['microseconds']:.1f}", *ratios, wanted)
            label = ""
    console = Console(width=160)
    console.print(table)
    for fit in fits:
        wanted = f"expected {fit['expected']:g} +- {fit['within']:g}: {'yes' if fit['met'] else 'NO'}"
        console.print(f"cost of {fit['name']}: exponent {fit['exponent']:.3f}, {wanted}")


def write(target: Path, content: dict[str, Any]) -> None:
    """Write JSON under a temporary name, then rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(target)


def main(
    script: str,
    title: str,
    cases: Callable[[], Iterable[Case]],
    fits: Callable[[], Iterable[dict[str, Any]]] = lambda: (),
    curves: Callable[[], Iterable[dict[str, Any]]] = lambda: (),
) -> None:
    """Measure all cases of a script, print and record them."""
    restart_with_environment()
    begin, machine = time.perf_counter(), hardware()
    measured = [measure(case) for case in cases()]
    grown, crossing = list(fits()), list(curves())
    record(script, title, machine, begin, measured, grown, crossing)


def record(
    script: str, title: str, machine: dict[str, Any], begin: float,
    cases: list[dict[str, Any]], fits: list[dict[str, Any]], curves: list[dict[str, Any]],
    rounds: int = ROUNDS,
) -> None:  # fmt: skip
    """Print what was measured since `begin` and write ``results/<script>.json`` (or the path given)."""
    report(title, cases, fits)
    chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    target = chosen or Path(script).parent / "results" / f"{Path(script).stem}.json"
    write(
        target,
        {
            "title": title,
            "hardware": machine,
            "rounds": rounds,
            "seconds": round(time.perf_counter() - begin, 1),
            "cases": cases,
            "growth": fits,
            "curves": curves,
        },
    )
