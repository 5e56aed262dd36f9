r"""Deep Rewiring as a torch optimiser: a network that never has more than K connections, and rewires itself.

    theta_k <- theta_k - eta dE/dtheta_k - eta alpha + sigma nu_k,     sigma^2 = 2 eta T + (eta gdnoise)^2
    theta_k < 0: dormant; replaced by a dormant connection, drawn uniformly, at theta = 0

`DeepR` keeps the budget of every layer, `GlobalDeepR` that of the network, `SoftDeepR` has none and keeps the
number of active connections near a target by the clip theta_min = -(1 - p) / (p beta), beta = alpha / T.

| symbol | meaning | shape | name |
|---|---|---|---|
| eta | learning rate, of any torch scheduler | scalar | `lr` |
| alpha | L1 strength | scalar | `l1` |
| T | temperature of the posterior that is sampled | scalar | `temperature` |
| - | noise as the authors' code states it: eta gdnoise nu is added | scalar | `gdnoise` |
| p | target connectivity (soft rule) | per layer | `connectivity` |
| theta_min | lower clip (soft rule) | per layer | `theta_min` |

The two noise conventions differ as soon as eta decays: a constant T keeps the posterior, a constant gdnoise
cools it, T = eta gdnoise^2 / 2. Give one of them.

Source: Bellec, Kappel, Maass and Legenstein, ICLR 2018 (DEEP R and soft-DEEP R); the authors' code for
gdnoise and the global budget.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.nn.utils import parametrize

from eventbook.kernels.rewiring.steps import (
    count_active,
    draw_layers,
    drop_negative,
    refill,
    rewire,
    soft_deep_r_step,
    step_key,
    update_active,
)
from eventbook.learning.rewiring.soft_linear import SoftSparseLinear
from eventbook.learning.rewiring.sparse_linear import SparseLinear
from eventbook.learning.rewiring.sparsify import SparseWeight, sparsify
from eventbook.learning.rewiring.wiring import Wired, check_count, check_seed, replace_data

__all__ = [
    "BudgetError",
    "DeepR",
    "GlobalDeepR",
    "SoftDeepR",
    "SoftSparseLinear",
    "SparseLinear",
    "SparseWeight",
    "gdnoise_from_temperature",
    "other_parameters",
    "soft_theta_min",
    "sparse_connections",
    "sparsify",
    "temperature_from_gdnoise",
]


class BudgetError(RuntimeError):
    """The number of active connections is not what it must be."""


class Connections(NamedTuple):
    """The connections of one weight matrix: where `index` lives, and the parameter."""

    name: str
    home: Wired  # SparseLinear or SparseWeight
    theta: nn.Parameter


def _walk(model: nn.Module) -> Iterator[Connections]:
    for name, module in model.named_modules():
        if isinstance(module, SparseLinear):
            yield Connections(name, module, module.theta)
        elif isinstance(module, parametrize.ParametrizationList) and isinstance(module[0], SparseWeight):
            theta = cast(nn.Parameter, module.original)
            yield Connections(name.replace("parametrizations.", ""), module[0], theta)


def sparse_connections(model: nn.Module) -> list[Connections]:
    """All matrices of a model that Deep Rewiring can rewire, in the order of `named_modules`."""
    return list(_walk(model))


def other_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Parameters that are not connections (biases, norms): hand them to an ordinary optimiser."""
    thetas = {id(c.theta) for c in _walk(model)}
    thetas |= {id(m.theta) for m in model.modules() if isinstance(m, SoftSparseLinear)}
    return [p for p in model.parameters() if id(p) not in thetas]


def temperature_from_gdnoise(lr: float, gdnoise: float) -> float:
    """T = eta gdnoise^2 / 2: the temperature at which noise eta gdnoise nu is the Langevin noise."""
    return lr * gdnoise**2 / 2


def gdnoise_from_temperature(lr: float, temperature: float) -> float:
    """The inverse of `temperature_from_gdnoise` at the same learning rate."""
    if not (lr > 0.0 and temperature >= 0.0):
        raise ValueError(f"lr must be > 0 and temperature >= 0, got {lr} and {temperature}")
    return (2 * temperature / lr) ** 0.5


def soft_theta_min(connectivity: float, l1: float, temperature: float) -> float:
    """Clip of soft-DEEP R, -(1 - p) T / (p alpha): with zero loss, P(theta > 0) = p.

    The stationary density is then exp(-beta theta) above 0, of mass 1 / beta, and flat on [theta_min, 0].
    """
    if not 0.0 < connectivity < 1.0:
        raise ValueError(f"connectivity must be in (0, 1), got {connectivity}")
    if not (l1 > 0.0 and temperature > 0.0):
        raise ValueError(f"l1 and temperature must be > 0, got {l1} and {temperature}")
    return -(1 - connectivity) / connectivity * temperature / l1


def noise_of(group: dict[str, Any]) -> float:
    """Standard deviation of the noise of one step."""
    lr = group["lr"]
    return float((2 * lr * group["temperature"] + (lr * group["gdnoise"]) ** 2) ** 0.5)


def _check_rates(**rates: float) -> None:
    for name, value in rates.items():
        if not 0.0 <= value < float("inf"):
            raise ValueError(f"{name} must be finite and >= 0, got {value}")
    if rates["temperature"] > 0 and rates["gdnoise"] > 0:
        raise ValueError("give temperature or gdnoise, not both: they are two names of one noise")


def check_finite(name: str, theta: Tensor) -> None:
    """BudgetError if a layer misses its budget because it has no numbers left: training has diverged."""
    if not bool(theta.isfinite().all()):
        raise BudgetError(f"theta of layer {name!r} must be finite, got inf or nan: training has diverged")


class _Stepping(torch.optim.Optimizer):
    """Step counter, seed and their state: the random numbers of a step are named by (seed, layer, step)."""

    def __init__(self, groups: list[dict[str, Any]], defaults: dict[str, Any], seed: int) -> None:
        _check_rates(**{k: defaults[k] for k in ("lr", "l1", "temperature", "gdnoise")})
        super().__init__(groups, defaults)
        self.seed = check_seed(seed)
        self.steps = 0

    def _own_state(self) -> dict[str, Any]:
        return {"seed": self.seed, "steps": self.steps}

    def _judge_own_state(self, state: dict[str, Any]) -> None:
        """ValueError unless it is a state of this kind of optimiser."""
        if set(state) != set(self._own_state()):
            raise ValueError(
                f"state_dict must come from {type(self).__name__}, with {', '.join(self._own_state())}, "
                f"got {', '.join(state)}"
            )
        check_seed(state["seed"])

    def _set_own_state(self, state: dict[str, Any]) -> None:
        self.seed, self.steps = state["seed"], state["steps"]

    def state_dict(self) -> dict[str, Any]:
        """As torch's, with the seed and the step: a resumed run draws the same random numbers."""
        return {**super().state_dict(), "rewiring": self._own_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume; ValueError if the state is not that of such an optimiser."""
        if "rewiring" not in state_dict:
            raise ValueError(
                f"state_dict must come from {type(self).__name__}, got keys {sorted(state_dict)}"
            )
        own = state_dict["rewiring"]
        self._judge_own_state(own)
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "rewiring"})
        self._set_own_state(own)


class DeepR(_Stepping):
    """Deep Rewiring with a fixed budget of connections in every layer.

    Parameters
    ----------
    model
        Holds `SparseLinear` layers, or matrices made sparse by `sparsify`. Other parameters are left alone.
    lr, l1
        Learning rate eta and L1 strength alpha.
    temperature, gdnoise
        The noise, in one of the two conventions.
    rewire_every
        Drop and refill on every n-th step. In between, a connection with theta < 0 waits with weight 0.
    seed
        Names the random numbers of the optimiser.

    Attributes
    ----------
    rewired, total_rewired
        Connections replaced by the last step and so far.

    Raises
    ------
    BudgetError
        From `step`, if a layer does not have exactly K active connections after rewiring, or more at any time
        (also when theta is no longer a number).

    Examples
    --------
    >>> net = nn.Sequential(SparseLinear(784, 100, budget=500), nn.ReLU(), SparseLinear(100, 10, budget=200))
    >>> optimizer = DeepR(net, lr=0.5, l1=1e-5, gdnoise=1e-5)
    >>> loss = net(torch.rand(10, 784)).square().mean()
    >>> loss.backward()
    >>> optimizer.step()
    >>> [layer.budget for layer in net if isinstance(layer, SparseLinear)]
    [500, 200]
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        l1: float = 0.0,
        temperature: float = 0.0,
        gdnoise: float = 0.0,
        rewire_every: int = 1,
        seed: int = 0,
    ) -> None:
        self.connections = sparse_connections(model)
        if not self.connections:
            raise ValueError(
                "model must have sparse layers (SparseLinear or sparsify(model, ...)), found none"
            )
        check_count("rewire_every", rewire_every)
        groups = [{"params": [c.theta], "name": c.name} for c in self.connections]
        defaults = {"lr": lr, "l1": l1, "temperature": temperature, "gdnoise": gdnoise}
        super().__init__(groups, defaults, seed)
        self.rewire_every = rewire_every
        self.rewired = self.total_rewired = 0

    def _own_state(self) -> dict[str, Any]:
        return {**super()._own_state(), "rewired": self.rewired, "total_rewired": self.total_rewired}

    def _set_own_state(self, state: dict[str, Any]) -> None:
        super()._set_own_state(state)
        self.rewired, self.total_rewired = state["rewired"], state["total_rewired"]

    def active(self) -> list[int]:
        """Active connections (theta >= 0) of each layer, counted."""
        return self._count(self._arrays())

    def _count(self, arrays: list[tuple[NDArray[Any], NDArray[np.int64]]]) -> list[int]:
        return [
            count_active.kernel(theta, index, c.home.potential)
            for (theta, index), c in zip(arrays, self.connections, strict=True)
        ]

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One step of Deep Rewiring from the gradients in `theta.grad`; layers without gradient do not
        move."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        arrays = self._arrays()
        for layer, (values, index) in enumerate(arrays):
            theta, group = self.connections[layer].theta, self.param_groups[layer]
            if theta.grad is not None:
                gradient = theta.grad.contiguous().numpy()
                if gradient.shape != values.shape:
                    raise ValueError(f"theta.grad must be {values.shape} like theta, got {gradient.shape}")
                lr, l1, noise = float(group["lr"]), float(group["l1"]), noise_of(group)
                update_active.kernel(values, gradient, index, self.seed, layer, self.steps, lr, l1, noise)
                increment_version(theta)
        rewiring = (self.steps + 1) % self.rewire_every == 0
        self.rewired = self._rewire(arrays) if rewiring else 0
        self.total_rewired += self.rewired
        self._check(self._count(arrays), exact=rewiring)  # which walks through all indices
        for c in self.connections:
            c.home.keeps_proof()
        self.steps += 1
        return loss

    def _arrays(self) -> list[tuple[NDArray[Any], NDArray[np.int64]]]:
        """Theta and proved index of each layer, on the storage of the tensors."""
        return [(c.theta.detach().numpy(), c.home.proved(c.theta, c.name).numpy()) for c in self.connections]

    def _rewire(self, arrays: list[tuple[NDArray[Any], NDArray[np.int64]]]) -> int:
        """Drop and refill every layer, keeping `arrays` up to date; returns how many were replaced."""
        rewired = 0
        for layer, (theta, index) in enumerate(arrays):
            home = self.connections[layer].home
            replaced = rewire.kernel(theta, index, home.potential, self.seed, layer, self.steps)
            if replaced:
                increment_version(home.index)
                rewired += replaced
        return rewired

    def _check(self, counts: list[int], exact: bool) -> None:
        for (name, _, theta), active in zip(self.connections, counts, strict=True):
            budget = theta.numel()
            if not (active == budget or (not exact and 0 <= active <= budget)):
                check_finite(name, theta)
                raise BudgetError(f"layer {name!r} has {active} active connections, expected {budget}")


class GlobalDeepR(DeepR):
    """Deep Rewiring with one budget for the whole network: connections also move between layers.

    A new connection goes to a layer with probability proportional to size_l p_l, the layer's share of the
    initial connections (as in the authors' code), and to a uniform dormant connection there. Parameters as
    `DeepR`.
    """

    def __init__(self, model: nn.Module, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        self.score = np.array([c.theta.numel() for c in self.connections], np.float64)
        self.budget = int(self.score.sum())

    def _own_state(self) -> dict[str, Any]:
        return {**super()._own_state(), "score": self.score.tolist()}

    def _judge_own_state(self, state: dict[str, Any]) -> None:
        super()._judge_own_state(state)
        score, most = np.array(state["score"], np.float64), sum(c.home.potential for c in self.connections)
        if score.shape != self.score.shape or not (score > 0).all() or score.sum() > most:
            raise ValueError(
                f"score must be the connections of {len(self.score)} layers, {most} at most, got {score}"
            )

    def _set_own_state(self, state: dict[str, Any]) -> None:
        super()._set_own_state(state)
        self.score = np.array(state["score"], np.float64)
        self.budget = int(self.score.sum())

    def _rewire(self, arrays: list[tuple[NDArray[Any], NDArray[np.int64]]]) -> int:
        kept = np.array([drop_negative.kernel(theta, index) for theta, index in arrays])
        missing = self.budget - int(kept.sum())
        if missing == 0:
            return 0
        room = np.array([home.potential for _, home, _ in self.connections]) - kept
        lottery = len(self.connections)  # a stream of its own, beside those of the layers
        added = draw_layers.kernel(missing, self.score, room, self.seed, lottery, self.steps)
        for layer, (name, home, theta) in enumerate(self.connections):
            old, size = int(kept[layer]), int(kept[layer] + added[layer])
            if size > home.potential:  # the lottery would look for connections for ever
                raise BudgetError(f"layer {name!r} got {size} connections, expected {home.potential} at most")
            index, values = home.index.new_empty(size), theta.data.new_empty(size)
            index[:old], values[:old] = home.index[:old], theta.data[:old]
            key = np.uint64(step_key(self.seed, layer, self.steps, 1))
            refill.kernel(values.numpy(), index.numpy(), old, home.potential, key)
            home.index = index
            replace_data(theta, values)
            arrays[layer] = values.numpy(), index.numpy()
        return missing

    def _check(self, counts: list[int], exact: bool) -> None:
        total = sum(counts)
        if min(counts) < 0 or total > self.budget or (exact and total != self.budget):
            for name, _, theta in self.connections:
                check_finite(name, theta)
            raise BudgetError(f"layers have {counts} active connections, expected {self.budget} in all")


class SoftDeepR(_Stepping):
    """soft-DEEP R: every potential connection diffuses, and is active while theta > 0; no budget.

    Parameters as `DeepR`; l1 and the noise must be positive, since the clip theta_min follows from their
    ratio and from the target connectivity of each `SoftSparseLinear`. The clip follows the present learning
    rate.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        l1: float,
        temperature: float = 0.0,
        gdnoise: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.layers = [m for m in model.modules() if isinstance(m, SoftSparseLinear)]
        if not self.layers:
            raise ValueError("model must have SoftSparseLinear layers, found none")
        if not (l1 > 0 and temperature + gdnoise > 0):
            raise ValueError(
                f"l1 and temperature or gdnoise must be > 0, got l1={l1}, {temperature=}, {gdnoise=}"
            )
        defaults = {"lr": lr, "l1": l1, "temperature": temperature, "gdnoise": gdnoise}
        super().__init__([{"params": [m.theta]} for m in self.layers], defaults, seed)

    def theta_min(self) -> list[float]:
        """The present clip of each layer."""
        return [self._clip(g, m) for g, m in zip(self.param_groups, self.layers, strict=True)]

    @staticmethod
    def _clip(group: dict[str, Any], layer: SoftSparseLinear) -> float:
        temperature = group["temperature"] + temperature_from_gdnoise(group["lr"], group["gdnoise"])
        return soft_theta_min(layer.target, group["l1"], temperature)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One step of soft-DEEP R; layers without gradient do not move."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for number, (group, layer) in enumerate(zip(self.param_groups, self.layers, strict=True)):
            theta = layer.theta
            if theta.grad is not None:
                if not theta.is_contiguous():
                    theta.data = theta.data.contiguous()  # the kernel writes to it in place
                soft_deep_r_step(
                    theta.detach().view(-1).numpy(),
                    theta.grad.contiguous().numpy().reshape(-1),
                    self.seed,
                    number,
                    self.steps,
                    float(group["lr"]),
                    float(group["l1"]),
                    noise_of(group),
                    self._clip(group, layer),
                )
                increment_version(theta)
        self.steps += 1
        return loss

    def connectivity(self) -> list[float]:
        """Measured fraction of active connections of each layer."""
        return [m.connectivity for m in self.layers]
