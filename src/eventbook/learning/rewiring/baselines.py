r"""Baselines for Deep Rewiring, each an optimiser for the same training loop.

| method | model | rule |
|---|---|---|
| `FixedRandom` | `FreeSparseLinear` | SGD on the weights of a wiring that never changes |
| `SET` | `FreeSparseLinear` | now and then the smallest weights are replaced by uniformly drawn connections |
| `RigL` | `FreeSparseLinear` | as SET, but new connections are those with the largest dense gradient |
| `MagnitudePruning` | `nn.Linear` | dense SGD, then the K largest weights of a layer are kept and retrained |
| `L1Shrinkage` | `nn.Linear` | dense proximal SGD, w <- soft threshold(w - eta dE/dw, eta alpha) |

Weights are free in sign in all of them: a fixed sign belongs to Deep Rewiring. Compare methods at the
connectivity that `connectivity_of` measures, not at the one that was asked for.

Source: Mocanu et al., Nature Communications 2018 (SET); Evci et al., ICML 2020 (RigL); Han et al., NeurIPS
2015 (pruning).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from eventbook.kernels.rewiring.steps import insert_at_zero, keep_where, refill, step_key
from eventbook.learning.rewiring.deep_r import sparse_connections
from eventbook.learning.rewiring.soft_linear import SoftSparseLinear
from eventbook.learning.rewiring.sparse_linear import FreeSparseLinear
from eventbook.learning.rewiring.wiring import check_count, check_seed, resolve_budget


def connectivity_of(model: nn.Module) -> float:
    """Measured fraction of potential connections that exist.

    A stored connection of a sparse layer counts (for Deep Rewiring if theta >= 0), also when its weight
    happens to be 0, because it takes a place; in a dense matrix nonzero weights count.
    """
    existing = potential = 0
    for _, home, theta in sparse_connections(model):
        existing += int((theta >= 0).sum())
        potential += home.potential
    for module in model.modules():
        if isinstance(module, FreeSparseLinear):
            existing += module.budget
            potential += module.potential
        elif isinstance(module, SoftSparseLinear):
            existing += int((module.theta > 0).sum())
            potential += module.potential
        elif isinstance(module, nn.Linear):
            existing += int(module.weight.count_nonzero())
            potential += module.weight.numel()
    if potential == 0:
        raise ValueError("model must have sparse or linear layers, found none")
    return existing / potential


def _layers(model: nn.Module, kind: type[Any]) -> list[Any]:
    layers = [m for m in model.modules() if isinstance(m, kind)]
    if not layers:
        raise ValueError(f"model must have {kind.__name__} layers, found none")
    return layers


class FixedRandom(torch.optim.SGD):
    """Plain SGD on a random wiring that stays as it is."""

    def __init__(self, model: nn.Module, lr: float) -> None:
        super().__init__([m.value for m in _layers(model, FreeSparseLinear)], lr=lr)


class SET(torch.optim.SGD):
    """Sparse evolutionary training: every n-th step the smallest weights make room for random new
    connections.

    Parameters
    ----------
    lr
        Learning rate of SGD.
    fraction
        Share of the connections of a layer that is replaced each time.
    every
        Steps between replacements.
    seed
        Names the random numbers.
    """

    def __init__(
        self, model: nn.Module, lr: float, fraction: float = 0.3, every: int = 100, seed: int = 0
    ) -> None:
        if not 0.0 < fraction < 1.0:
            raise ValueError(f"fraction must be in (0, 1), got {fraction}")
        check_count("every", every)
        self.layers: list[FreeSparseLinear] = _layers(model, FreeSparseLinear)
        super().__init__([m.value for m in self.layers], lr=lr)
        self.fraction, self.every, self.seed = fraction, every, check_seed(seed)
        self.steps = self.total_rewired = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        if (self.steps + 1) % self.every == 0:
            for number, layer in enumerate(self.layers):
                self.total_rewired += self._replace(number, layer)
                increment_version((layer.value, layer.index))
        self.steps += 1
        return loss

    def _drop_smallest(self, layer: FreeSparseLinear) -> int:
        """Move the connections that stay to the front; returns how many they are."""
        value = layer.value.detach().numpy()
        drop = int(self.fraction * value.size)
        keep = np.ones(value.size, np.bool_)
        keep[np.argpartition(np.abs(value), drop)[:drop]] = False
        return int(keep_where(keep, value, layer.proved(layer.value).numpy()))

    def _replace(self, number: int, layer: FreeSparseLinear) -> int:
        kept = self._drop_smallest(layer)
        key = np.uint64(step_key(self.seed, number, self.steps, 1))
        refill(layer.value.detach().numpy(), layer.index.numpy(), kept, layer.potential, key)
        return layer.budget - kept


class RigL(SET):
    """Rigged lottery: as SET, but a new connection goes where the gradient of the dense matrix is largest.

    The dense gradient is formed on the steps that replace connections, and on no other. Connections dropped
    in this very step may come back.
    """

    def __init__(
        self, model: nn.Module, lr: float, fraction: float = 0.3, every: int = 100, seed: int = 0
    ) -> None:
        super().__init__(model, lr, fraction, every, seed)
        self._dense: dict[int, Tensor] = {}
        for number, layer in enumerate(self.layers):
            layer.register_forward_hook(self._listener(number))

    def _listener(self, number: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def after_forward(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if (self.steps + 1) % self.every == 0 and output.requires_grad:
                x = inputs[0].detach().reshape(-1, inputs[0].shape[-1])

                def after_backward(gradient: Tensor) -> None:
                    dense = gradient.reshape(-1, gradient.shape[-1]).T @ x
                    self._dense[number] = self._dense.get(number, 0) + dense

                output.register_hook(after_backward)

        return after_forward

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        self._dense.clear()

    def _replace(self, number: int, layer: FreeSparseLinear) -> int:
        if number not in self._dense:
            raise RuntimeError(
                "RigL needs a forward and backward pass between steps, found no dense gradient"
            )
        size = self._dense.pop(number).abs().numpy().reshape(-1)
        kept = self._drop_smallest(layer)
        grow = layer.budget - kept
        if grow == 0:  # a fraction of so few connections is none
            return 0
        index = layer.index.numpy()
        size[index[:kept]] = -1.0
        new = np.sort(np.argpartition(size, size.size - grow)[size.size - grow :])
        insert_at_zero(layer.value.detach().numpy(), index, kept, new)
        return grow


class MagnitudePruning(torch.optim.SGD):
    """Dense SGD until `prune_at` steps, then only the largest weights of each layer are kept and retrained.

    Parameters
    ----------
    connectivities
        Fraction kept in each layer, in (0, 1].
    prune_at
        Step after which the network is pruned.
    """

    def __init__(self, model: nn.Module, lr: float, connectivities: list[float], prune_at: int) -> None:
        self.layers: list[nn.Linear] = _layers(model, nn.Linear)
        if len(connectivities) != len(self.layers):
            raise ValueError(
                f"connectivities must have {len(self.layers)} entries, got {len(connectivities)}"
            )
        check_count("prune_at", prune_at)
        super().__init__([m.weight for m in self.layers], lr=lr)
        sizes = [m.weight.numel() for m in self.layers]
        self.budgets = [resolve_budget(p, None, n) for p, n in zip(connectivities, sizes, strict=True)]
        self.prune_at, self.steps = prune_at, 0
        self.masks: list[Tensor] = []

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self.steps += 1
        if self.steps == self.prune_at:
            for layer, budget in zip(self.layers, self.budgets, strict=True):
                mask = torch.zeros(layer.weight.numel(), dtype=layer.weight.dtype)
                mask[layer.weight.abs().flatten().topk(budget).indices] = 1
                self.masks.append(mask.view_as(layer.weight))
        for layer, mask in zip(self.layers, self.masks, strict=False):
            layer.weight *= mask
        return loss


class L1Shrinkage(torch.optim.SGD):
    """Dense proximal SGD: after each step weights shrink by eta alpha and stop at zero."""

    def __init__(self, model: nn.Module, lr: float, l1: float) -> None:
        if not 0.0 <= l1 < float("inf"):
            raise ValueError(f"l1 must be finite and >= 0, got {l1}")
        super().__init__([m.weight for m in _layers(model, nn.Linear)], lr=lr)
        self.l1 = l1

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        for group in self.param_groups:
            for weight in group["params"]:
                weight.copy_(nn.functional.softshrink(weight, group["lr"] * self.l1))
        return loss
