"""What it costs to begin: compiling every kernel once, finding them in the cache, importing the package.

python benchmarks/start.py [path of the JSON]

Each number comes from processes of its own: compiling, which takes long and always the same, once, all else
three times. Every kernel runs forward and backward on small inputs in single precision, selective scans with
each step of the state and each rule. A budget stands in the table as a competitor that takes exactly as long
as it allows.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness import hardware, record, restart_with_environment

REPEATS = 3
IMPORT = "import eventbook.kernels.scans, eventbook.kernels.events, eventbook.kernels.encoders"


# --- in the child: every kernel once -----------------------------------------------------------------------


def run_scans() -> None:
    import torch

    from eventbook.kernels.scans import (
        causal_silu,
        constant_scan,
        coordinate_scan,
        event_scan,
        event_step,
        linear_scan,
        selective_scan,
        selective_step,
        token_scan,
    )

    def leaves(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
        return [torch.full(shape, 0.5, dtype=dtype).requires_grad_() for shape in shapes]

    for dtype in (torch.float32, torch.complex64):
        for scan, of_a in ((linear_scan, (2, 5, 3)), (constant_scan, (3,))):
            scan(*leaves(of_a, (2, 5, 3), dtype=dtype))[0].abs().sum().backward()
    (lam,), (gap,), (b,) = leaves((3,), dtype=torch.complex64), leaves((2, 5)), leaves((2, 5, 3))
    event_scan(lam, gap, b.to(lam.dtype))[0].abs().sum().backward()
    event_step(lam, gap[:, 0], b[:, 0].to(lam.dtype), torch.zeros(2, 3, dtype=lam.dtype))
    token_scan(lam, gap, b[0].to(lam.dtype), torch.zeros(2, 5, dtype=torch.int64))
    u, delta, delta_a, B, C = leaves(*[(2, 5, 3)] * 3, *[(2, 5, 4)] * 2)
    A, D, rate = leaves((3, 4), (3,), (3,))
    for rule in ("mamba", "zoh", "bilinear"):
        selective_scan(u, delta, A, B, C, D, rule=rule)[0].sum().backward()
    selective_scan(u, delta, A, B, C, D, delta_a=delta_a)[0].sum().backward()
    coordinate_scan(u, gap, rate, delta, A, B, C, D)[0].sum().backward()
    causal_silu(u, A, D)[0].sum().backward()
    selective_step(u[:, 0], delta[:, 0], A, B[:, 0], C[:, 0], torch.zeros(2, 3, 4), D)


def run_events() -> None:
    import torch

    from eventbook.kernels.events import CSRBySource, egru_sequence, event_csr, event_matvec

    activity, matrix = torch.eye(4).requires_grad_(), torch.ones(4, 4).requires_grad_()
    event_matvec(activity, matrix).sum().backward()
    event_csr(activity, CSRBySource.from_dense(matrix.detach())).sum().backward()
    projection, recurrent = torch.ones(2, 5, 12).requires_grad_(), torch.ones(4, 12).requires_grad_()
    run = egru_sequence(projection, recurrent, torch.zeros(12), torch.full((4,), 0.5))
    run.output.sum().backward()


def run_encoders() -> None:
    from eventbook.kernels.encoders import EVENT, EventColumns, delta_events, event_frames, saccade_events

    saccade_events(np.arange(784, dtype=np.uint8).reshape(28, 28))
    delta_events(np.arange(12.0).reshape(6, 2), 1.0, 1000)
    events = np.zeros(10, EVENT)
    for of in (events, EventColumns.of(events)):
        event_frames(of, 4, 4, bins=2)


def run_wirings() -> None:
    from eventbook.kernels import (
        count_active,
        deep_r_step,
        deep_r_step_excluding_dropped,
        soft_deep_r_step,
        soft_deep_r_step_reflecting,
        sparse_gradients,
        sparse_product,
        sparse_weight_gradient,
        to_lanes,
    )

    for step in (deep_r_step, deep_r_step_excluding_dropped):
        theta, index = np.full(4, 0.1), np.arange(4, dtype=np.int64)
        step(theta, index, np.ones(4), 100, 0, 0, 0, 0.05, 1e-3, 0.1)
        count_active(theta, index, 100)
    for soft in (soft_deep_r_step, soft_deep_r_step_reflecting):
        soft(np.full(4, 0.1), np.ones(4), 0, 0, 0, 0.05, 1e-3, 0.1, -1.0)
    x, weight, index = np.ones((2, 3), np.float32), np.ones(3, np.float32), np.arange(3, dtype=np.int64)
    lanes, y = to_lanes(x), np.empty((2, 1), np.float32)
    sparse_product(lanes, weight, index, y)
    sparse_gradients(y, lanes, weight, index, np.empty_like(weight), np.empty_like(x))
    sparse_weight_gradient(y, lanes, index, np.empty_like(weight))


ROOMS = {"scans": run_scans, "events": run_events, "encoders": run_encoders, "wirings": run_wirings}


# --- in the parent -----------------------------------------------------------------------------------------


def seconds(code: str, cache: Path) -> float:
    """Run code in a process of its own; the seconds that it prints."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{code!r} must run, failed with:\n{done.stderr[-2000:]}")
    return float(done.stdout)


def timed(work: str, before: str = "") -> str:
    return f"{before}\nimport time\nbegin = time.perf_counter()\n{work}\nprint(time.perf_counter() - begin)"


def of_room(room: str) -> str:
    folder = str(Path(__file__).parent)
    return timed(
        f"start.ROOMS[{room!r}]()",
        f"import sys\nsys.path.insert(0, {folder!r})\nimport start, torch\n{IMPORT}",
    )


def row(samples: list[float], budget: float | None) -> dict[str, Any]:
    """Our samples, and the budget, as rows of a case."""
    rows: dict[str, Any] = {
        "ours": {"microseconds": float(np.median(samples)) * 1e6, "ratio": 1.0, "low": 1.0, "high": 1.0}
    }
    if budget is not None:
        ratios = [budget / sample for sample in samples]
        rows[f"a budget of {budget:g} s"] = {
            "microseconds": budget * 1e6,
            "ratio": float(np.median(ratios)),
            "low": min(ratios),
            "high": max(ratios),
        }
    return rows


def case(kernel: str, label: str, samples: list[float], budget: float | None = None) -> dict[str, Any]:
    rows = row(samples, budget)
    goals = [
        {"against": name, "at_least": 1, "measured": rows[name]["ratio"], "met": rows[name]["ratio"] >= 1}
        for name in list(rows)[1:]
    ]
    return {"kernel": kernel, "case": label, "threads": 1, "competitors": rows, "goals": goals}


def main() -> None:
    restart_with_environment()
    begin, machine = time.perf_counter(), hardware()
    warm, imports, ours = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        cold = {room: [seconds(of_room(room), cache)] for room in ROOMS}
        for _ in range(REPEATS):
            warm.append(sum(seconds(of_room(room), cache) for room in ROOMS))
            imports.append(seconds(timed(IMPORT), cache))
            ours.append(seconds(timed(IMPORT, "import torch, numba"), cache))
    cases = [case("compiling", room, samples) for room, samples in cold.items()]
    cases.append(case("compiling", "every kernel", np.sum(list(cold.values()), 0).tolist(), 60))
    cases.append(case("first calls, kernels in the cache", "every kernel", warm))
    cases.append(case("importing the kernels", "with torch and numba", imports, 2))
    cases.append(case("importing the kernels", "torch and numba loaded", ours))
    record(__file__, "Start", machine, begin, cases, [], [], rounds=REPEATS)


if __name__ == "__main__":
    main()
