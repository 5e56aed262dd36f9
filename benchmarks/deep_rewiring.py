"""Deep Rewiring against torch: training step, rewiring step, sparse layer, growth of cost.

python benchmarks/deep_rewiring.py [path of the JSON]
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from eventbook.kernels.rewiring.products import sparse_gradients, sparse_product, to_lanes
from eventbook.kernels.rewiring.steps import deep_r_step, rewire
from eventbook.learning.rewiring.compiled_training import train_compiled
from eventbook.learning.rewiring.deep_r import DeepR
from eventbook.learning.rewiring.mlp_classifier import sparse_mlp
from harness import Case, Goal, Missing, Work, growth, main

SIZES, CONNECTIVITIES = (784, 300, 100, 10), (0.01, 0.03, 0.30)
LR, L1, GDNOISE = 0.5, 1e-5, 1e-5
STEPS = 64  # of a training loop in one call
PEERS = {
    "torch, dense masked": "torch", "torch, index lists": "torch", "torch, CSR + sampled_addmm": "torch",
}  # fmt: skip


# --- (a) training step --------------------------------------------------------------------------------------


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


def training_step() -> Case:
    """64 steps of batch 10 at 784-300-100-10, K = 3,552; a learnable task, so that all rewire alike."""
    torch.manual_seed(0)
    images = torch.rand(STEPS, 10, SIZES[0]) * (torch.rand(STEPS, 10, SIZES[0]) < 0.19)
    labels = (images @ torch.randn(SIZES[0], 10)).argmax(-1)

    def loop(model: nn.Module, after: Callable[[], object]) -> Work:
        def steps() -> None:
            for batch, classes in zip(images, labels, strict=True):
                loss = cross_entropy(model(batch), classes)
                for p in model.parameters():
                    p.grad = None
                loss.backward()
                after()

        return steps

    ours = sparse_mlp(SIZES, CONNECTIVITIES)
    optimizer = DeepR(ours, LR, L1, gdnoise=GDNOISE)
    dense, lists = DenseMasked(), IndexListNetwork()
    compiled = sparse_mlp(SIZES, CONNECTIVITIES)
    compiled_optimizer = DeepR(compiled, LR, L1, gdnoise=GDNOISE)
    flat, flat_labels = images.reshape(STEPS * 10, SIZES[0]), labels.reshape(STEPS * 10)

    def epoch() -> None:
        train_compiled(compiled, compiled_optimizer, flat, flat_labels, batch_size=10, epochs=1)

    competitors: dict[str, Work | Missing] = {
        "ours, step by step in torch": loop(ours, optimizer.step),
        "ours, an epoch in one call": epoch,
        "torch, dense masked": loop(dense, dense.rewire),
        "torch, index lists": loop(lists, lists.rewire),
    }
    case = "784-300-100-10, K = 3,552, batch 10, 64 steps"
    return Case("DEEP R, training", case, competitors, [Goal("torch, dense masked", 5)], PEERS)


# --- (b) rewiring step --------------------------------------------------------------------------------------


def rewiring_step(n_out: int, n_in: int, dropped: float, goals: list[Goal]) -> Case:
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
        rewire.kernel(theta, index, potential, 0, 0, state["step"])
        state["step"] += 1

    competitors: dict[str, Work | Missing] = {
        "ours": ours,
        "torch, index lists": lambda: peer.rewire(pattern.clone()),
    }
    case = f"{n_in} x {n_out}, 1 %, {dropped:.0%} dropped"
    return Case("DEEP R, rewiring step", case, competitors, goals, PEERS, (), 1, budget, "connections")


# --- (c) sparse layer ---------------------------------------------------------------------------------------


def sparse_layer(n: int, batch: int, goals: list[Goal]) -> Case:
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
        lanes = to_lanes.kernel(x)
        sparse_product.kernel(lanes, weight, index, y)
        sparse_gradients.kernel(g, lanes, weight, index, dw, dx)

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
    competitors: dict[str, Work | Missing] = {"ours": ours, "torch, CSR + sampled_addmm": peer}
    return Case(
        "sparse layer, forward + gradients", f"{n} x {n}, 1 %, batch {batch}", competitors, goals, PEERS
    )


# --- (d) growth --------------------------------------------------------------------------------------------


def whole_step(potential: int, budget: int) -> Work:
    """A DEEP R step with noise; one connection in a hundred leaves."""
    rng = np.random.default_rng(0)
    index = np.unique(rng.integers(0, potential, 2 * budget))
    index = np.sort(rng.choice(index, budget, replace=False))
    gradient = np.zeros(budget)
    start = np.where(rng.random(budget) < 0.01, 1e-12, 1.0)
    theta, state = start.copy(), {"step": 0}

    def step() -> None:
        theta[:] = start
        deep_r_step.kernel(theta, index, gradient, potential, 0, 0, state["step"], 0.1, 1e-6, 1e-6)
        state["step"] += 1

    return step


def cases() -> Iterator[Case]:
    index_lists, csr = "torch, index lists", "torch, CSR + sampled_addmm"
    yield training_step()
    yield rewiring_step(300, 784, 0.04, [Goal(index_lists, 10)])
    yield rewiring_step(300, 784, 0.10, [])
    yield rewiring_step(4096, 4096, 0.04, [Goal(index_lists, 2.5)])
    yield rewiring_step(4096, 4096, 0.10, [])
    yield sparse_layer(2048, 128, [Goal(csr, 2)])
    yield sparse_layer(2048, 16, [])


def fits() -> Iterator[dict[str, Any]]:
    budgets = [round(10_000 * 10 ** (i / 2)) for i in range(5)]
    sizes = [round(10**7 * 10 ** (i / 2)) for i in range(5)]
    yield growth("DEEP R step in K, M = 1e9", lambda budget: whole_step(10**9, budget), budgets, 1.0)
    yield growth("DEEP R step in M, K = 5e4", lambda size: whole_step(size, 50_000), sizes, 0.0)


if __name__ == "__main__":
    main(__file__, "Deep Rewiring", cases, fits)
