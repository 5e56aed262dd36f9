"""Deep Rewiring against torch: training step, rewiring step, sparse layer, growth of cost.

Everything runs in one process and one thread. Competitors alternate within a round, the order is reversed
every other round, and a ratio is the median of the ratios within rounds; so drift of the machine cancels.

    OMP_NUM_THREADS=1 python benchmarks/deep_rewiring.py [path of the JSON]
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy

from eventbook.kernels.rewiring import deep_r_step, rewire
from eventbook.kernels.sparse import sparse_gradients, sparse_product, to_lanes
from eventbook.learning.compiled_training import train_compiled
from eventbook.learning.deep_rewiring import DeepR
from eventbook.learning.mlp_classifier import sparse_mlp

ROUNDS = 9
SIZES, CONNECTIVITIES = (784, 300, 100, 10), (0.01, 0.03, 0.30)
LR, L1, GDNOISE = 0.5, 1e-5, 1e-5
Work = Callable[[], object]


def compare(
    competitors: dict[str, Work], repeats: int, steps: dict[str, int] | None = None
) -> dict[str, list[float]]:
    """Seconds per step of each competitor in each round, interleaved; a call is one step or `steps`."""
    times: dict[str, list[float]] = {name: [] for name in competitors}
    for work in competitors.values():
        work()
    for number in range(ROUNDS):
        names = list(competitors)
        for name in names if number % 2 == 0 else names[::-1]:
            start = time.perf_counter()
            of_a_call = (steps or {}).get(name, 1)
            calls = max(1, repeats // of_a_call)
            for _ in range(calls):
                competitors[name]()
            times[name].append((time.perf_counter() - start) / calls / of_a_call)
    return times


def summary(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median microseconds, and the median over rounds of time / time of ours (the first)."""
    ours = np.array(next(iter(times.values())))
    return {
        name: {
            "microseconds": float(np.median(t) * 1e6),
            "ratio_to_ours": float(np.median(np.array(t) / ours)),
            "ratio_low": float(np.min(np.array(t) / ours)),
            "ratio_high": float(np.max(np.array(t) / ours)),
        }
        for name, t in times.items()
    }


# ---- (a) training step ----


class DenseMasked(nn.Module):
    """DEEP R on dense tensors: theta and sign of every potential connection, mask theta >= 0."""

    def __init__(self) -> None:
        super().__init__()
        self.thetas = nn.ParameterList()
        self.signs = []
        self.budgets = []
        for n_in, n_out, p in zip(SIZES[:-1], SIZES[1:], CONNECTIVITIES, strict=True):
            budget = round(p * n_in * n_out)
            theta = torch.full((n_out * n_in,), -1.0)
            theta[torch.randperm(theta.numel())[:budget]] = torch.randn(budget).abs() / n_in**0.5
            self.thetas.append(nn.Parameter(theta.view(n_out, n_in)))
            self.signs.append(torch.randint(0, 2, (n_out, n_in)) * 2.0 - 1.0)
            self.budgets.append(budget)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, (theta, sign) in enumerate(zip(self.thetas, self.signs, strict=True)):
            weight = sign * theta * (theta.detach() >= 0)
            x = nn.functional.linear(torch.relu(x) if layer else x, weight)
        return x

    @torch.no_grad()
    def rewire(self) -> None:
        for theta, budget in zip(self.thetas, self.budgets, strict=True):
            active = theta >= 0
            change = (theta.grad + L1).mul_(-LR).add_(torch.randn_like(theta), alpha=LR * GDNOISE)
            theta.add_(change.mul_(active))
            missing = budget - int((theta >= 0).sum())
            if missing:
                dormant = (theta.view(-1) < 0).nonzero().view(-1)
                chosen = dormant[torch.randint(dormant.numel(), (2 * missing,)).unique()]
                chosen = chosen[torch.randperm(chosen.numel())[:missing]]
                theta.view(-1)[chosen] = 0.0


class TorchIndexList:
    """DEEP R on a sorted list of K indices in torch: duplicates are rejected by binary search."""

    def __init__(self, index: torch.Tensor, potential: int) -> None:
        self.index, self.potential = index.clone(), potential

    def rewire(self, theta: torch.Tensor) -> torch.Tensor:
        """Drop theta < 0, refill; returns the new theta, in the order of the new index."""
        keep = theta >= 0
        kept = self.index[keep]
        missing = theta.numel() - kept.numel()
        if not missing:
            return theta
        new = kept[:0]
        while new.numel() < missing:
            draw = torch.randint(self.potential, (2 * missing + 8,))
            place = torch.searchsorted(kept, draw).clamp_(max=kept.numel() - 1)
            new = torch.cat([new, draw[kept[place] != draw]]).unique()
        new = new[torch.randperm(new.numel())[:missing]]
        self.index, order = torch.sort(torch.cat([kept, new]))
        return torch.cat([theta[keep], theta.new_zeros(missing)])[order]


class IndexListNetwork(nn.Module):
    """The network on index lists in torch: gather, multiply, index_add."""

    def __init__(self) -> None:
        super().__init__()
        self.lists, self.signs, self.thetas = [], [], nn.ParameterList()
        for n_in, n_out, p in zip(SIZES[:-1], SIZES[1:], CONNECTIVITIES, strict=True):
            budget = round(p * n_in * n_out)
            index = torch.randperm(n_in * n_out)[:budget].sort().values
            self.lists.append(TorchIndexList(index, n_in * n_out))
            self.signs.append(torch.randint(0, 2, (n_in * n_out,)) * 2.0 - 1.0)
            self.thetas.append(nn.Parameter(torch.randn(budget).abs() / n_in**0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, (theta, lists) in enumerate(zip(self.thetas, self.lists, strict=True)):
            n_in, n_out = SIZES[layer : layer + 2]
            row, col = lists.index // n_in, lists.index % n_in
            x = torch.relu(x) if layer else x
            terms = x.T[col] * (self.signs[layer][lists.index] * theta)[:, None]
            x = torch.zeros(n_out, x.shape[0]).index_add(0, row, terms).T
        return x

    @torch.no_grad()
    def rewire(self) -> None:
        for theta, lists in zip(self.thetas, self.lists, strict=True):
            theta -= LR * (theta.grad + L1)
            theta.add_(torch.randn_like(theta), alpha=LR * GDNOISE)
            theta.copy_(lists.rewire(theta))


def training_step() -> dict[str, dict[str, float]]:
    """One step of batch 10 at 784-300-100-10, K = 3,552; a learnable task, so that all rewire alike."""
    torch.manual_seed(0)
    images = torch.rand(64, 10, SIZES[0]) * (torch.rand(64, 10, SIZES[0]) < 0.19)
    labels = (images @ torch.randn(SIZES[0], 10)).argmax(-1)

    def loop(model: nn.Module, after: Callable[[], None]) -> Work:
        state = {"step": 0}

        def step() -> None:
            at = state["step"] % 64
            state["step"] += 1
            loss = cross_entropy(model(images[at]), labels[at])
            for p in model.parameters():
                p.grad = None
            loss.backward()
            after()

        return step

    ours = sparse_mlp(SIZES, CONNECTIVITIES)
    optimizer = DeepR(ours, LR, L1, gdnoise=GDNOISE)
    dense, lists = DenseMasked(), IndexListNetwork()
    compiled = sparse_mlp(SIZES, CONNECTIVITIES)
    compiled_optimizer = DeepR(compiled, LR, L1, gdnoise=GDNOISE)
    flat, flat_labels = images.reshape(640, SIZES[0]), labels.reshape(640)

    def epoch() -> None:
        train_compiled(compiled, compiled_optimizer, flat, flat_labels, batch_size=10, epochs=1)

    competitors = {
        "ours": loop(ours, lambda: optimizer.step() and None),
        "ours, an epoch in one call": epoch,
        "torch, dense masked": loop(dense, dense.rewire),
        "torch, index lists": loop(lists, lists.rewire),
    }
    return summary(compare(competitors, 64, {"ours, an epoch in one call": 64}))


# ---- (b) rewiring step ----


def rewiring_step(n_out: int, n_in: int, dropped: float) -> dict[str, dict[str, float]]:
    """Drop the same connections, refill, at 1 % connectivity."""
    rng = np.random.default_rng(0)
    potential = n_in * n_out
    budget = potential // 100
    index = np.sort(rng.choice(potential, budget, replace=False))
    negative = rng.random(budget) < dropped
    pattern = torch.from_numpy(np.where(negative, -1.0, 1.0).astype(np.float32))
    peer = TorchIndexList(torch.from_numpy(index), potential)
    signs = pattern.numpy()
    theta = signs.copy()
    state = {"step": 0}

    def ours() -> None:
        theta[:] = signs
        rewire(theta, index, potential, 0, 0, state["step"])
        state["step"] += 1

    result = summary(
        compare(
            {"ours": ours, "torch, index list": lambda: peer.rewire(pattern.clone())},
            max(3, 400_000 // budget),
        )
    )
    for row in result.values():
        row["nanoseconds_per_connection"] = row["microseconds"] * 1e3 / budget
    return result


# ---- (c) sparse layer ----


def sparse_layer(n: int, batch: int) -> dict[str, dict[str, float]]:
    """Forward and both gradients at 1 %, float32: ours against CSR products and sampled_addmm.

    The structure of the transposed matrix is given to torch for free; its values follow the weights, which
    change at every step of training.
    """
    rng = np.random.default_rng(0)
    index = np.sort(rng.choice(n * n, n * n // 100, replace=False))
    weight = rng.standard_normal(index.size).astype(np.float32)
    x, g = (rng.standard_normal((batch, n)).astype(np.float32) for _ in range(2))
    y, dw, dx = np.empty_like(g), np.empty_like(weight), np.empty_like(x)

    def ours() -> None:
        lanes = to_lanes(x)
        sparse_product(lanes, weight, index, y)
        sparse_gradients(g, lanes, weight, index, dw, dx)

    row, col = (torch.from_numpy(a) for a in np.divmod(index, n))
    coo = torch.sparse_coo_tensor(torch.stack([row, col]), torch.from_numpy(weight), (n, n))
    matrix, transposed = coo.to_sparse_csr(), coo.t().coalesce().to_sparse_csr()
    order = torch.argsort(col * n + row)  # from row-major to column-major
    pattern = torch.sparse_csr_tensor(
        matrix.crow_indices(), matrix.col_indices(), torch.zeros(index.size), (n, n)
    )
    tx, tg = torch.from_numpy(x), torch.from_numpy(g)
    kept = {}

    def peer() -> None:
        kept["y"] = (matrix @ tx.T).T.contiguous()
        transposed.values().copy_(matrix.values()[order])
        kept["dx"] = (transposed @ tg.T).T.contiguous()
        kept["dw"] = torch.sparse.sampled_addmm(pattern, tg.T, tx, beta=0.0).values()

    ours()
    peer()
    for mine, theirs in ((y, kept["y"]), (dx, kept["dx"]), (dw, kept["dw"])):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-3, atol=1e-3)
    return summary(compare({"ours": ours, "torch, CSR + sampled_addmm": peer}, 10))


# ---- (d) growth ----


def step_cost(potential: int, budget: int) -> float:
    """Seconds of one whole DEEP R step with noise, median of 30; one connection in a hundred leaves."""
    rng = np.random.default_rng(0)
    index = np.unique(rng.integers(0, potential, 2 * budget))
    index = np.sort(rng.choice(index, budget, replace=False))
    gradient = np.zeros(budget)
    start = np.where(rng.random(budget) < 0.01, 0.0, 1.0)
    theta, times = start.copy(), []
    for step in range(30):
        theta[:] = start - 1e-9
        theta[start == 0] = 1e-12
        begin = time.perf_counter()
        deep_r_step(theta, index, gradient, potential, 0, 0, step, 0.1, 1e-6, 1e-6)
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def growth() -> dict[str, dict[str, object]]:
    """Fitted exponents of the cost of a step: in K at fixed size, in the dense size at fixed K."""
    budgets = [10_000 * 10 ** (i / 2) for i in range(5)]
    sizes = [10**7 * 10 ** (i / 2) for i in range(5)]
    in_budget = [step_cost(10**9, round(b)) for b in budgets]
    in_size = [step_cost(round(s), 50_000) for s in sizes]

    def exponent(x: list[float], y: list[float]) -> float:
        return float(np.polyfit(np.log(x), np.log(y), 1)[0])

    return {
        "in K, M = 1e9": {"x": budgets, "seconds": in_budget, "exponent": exponent(budgets, in_budget)},
        "in M, K = 5e4": {"x": sizes, "seconds": in_size, "exponent": exponent(sizes, in_size)},
    }


def hardware() -> dict[str, object]:
    """The machine and the versions that the numbers belong to."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((s.split(":")[1].strip() for s in info.read_text().splitlines() if "model name" in s), cpu)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    versions = {m.__name__: m.__version__ for m in (torch, numba, np)}
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": load,
        "python": platform.python_version(),
        **versions,
    }


def main(target: Path) -> None:
    torch.set_num_threads(1)
    begin = time.perf_counter()
    machine = hardware()
    comparisons = {
        "(a) training step, 784-300-100-10, K = 3,552, batch 10": training_step(),
        "(b) rewiring, 784 x 300, 1 %, 4 % dropped": rewiring_step(300, 784, 0.04),
        "(b) rewiring, 784 x 300, 1 %, 10 % dropped": rewiring_step(300, 784, 0.10),
        "(b) rewiring, 4096 x 4096, 1 %, 4 % dropped": rewiring_step(4096, 4096, 0.04),
        "(b) rewiring, 4096 x 4096, 1 %, 10 % dropped": rewiring_step(4096, 4096, 0.10),
        "(c) sparse layer, 2048 x 2048, 1 %, batch 128": sparse_layer(2048, 128),
        "(c) sparse layer, 2048 x 2048, 1 %, batch 16": sparse_layer(2048, 16),
    }
    exponents = growth()
    table = Table(title="Deep Rewiring against torch, one thread")
    for column in ("case", "competitor", "us", "x ours", "lowest", "highest", "ns / connection"):
        table.add_column(column)
    for case, rows in comparisons.items():
        for name, row in rows.items():
            ratios = [f"{row[k]:.2f}" for k in ("ratio_to_ours", "ratio_low", "ratio_high")]
            each = row.get("nanoseconds_per_connection")
            table.add_row(
                case, name, f"{row['microseconds']:.0f}", *ratios, "" if each is None else f"{each:.2f}"
            )
            case = ""
    console = Console(width=150)
    console.print(table)
    for name, fit in exponents.items():
        console.print(f"cost of a step {name}: exponent {fit['exponent']:.3f}")
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {
            "hardware": machine,
            "rounds": ROUNDS,
            "seconds": time.perf_counter() - begin,
            "comparisons": comparisons,
            "growth": exponents,
        },
        indent=1,
    )
    partial = target.with_suffix(".part")
    partial.write_text(text + "\n")
    partial.replace(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results" / "deep_rewiring.json")
