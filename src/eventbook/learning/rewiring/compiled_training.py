r"""Deep Rewiring and fixed wiring, a whole epoch in one compiled call: what a core without a framework runs.

`train_compiled` takes the same model, the same optimiser and the same arguments as `train`, and walks the
same trajectory (equal to rounding): both call the kernels of `eventbook.kernels.rewiring.steps`, with the
same random numbers. It fits networks that `sparse_mlp` builds, trained by `DeepR` or `FixedRandom` with one
learning rate for all layers; anything else is an error, and `train` is the way.

Source: Bellec, Kappel, Maass and Legenstein, ICLR 2018 (DEEP R).
"""

# mypy: disable-error-code="no-untyped-def"
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.random import connection_sign
from eventbook.kernels.rewiring.network import activity_buffers, network_gradients
from eventbook.kernels.rewiring.steps import count_active, rewire, update_active
from eventbook.learning.rewiring.baselines import FixedRandom
from eventbook.learning.rewiring.deep_r import BudgetError, DeepR, check_finite, noise_of
from eventbook.learning.rewiring.mlp_classifier import check_training, epoch_order
from eventbook.learning.rewiring.sparse_linear import FreeSparseLinear, SparseLinear


@kernel()
def _signed(theta, index, seed, sign, weight):
    """Signs of the stored connections, and weights w = s theta (0 where theta < 0).

    Relies on vectors of one length.
    """
    for k in range(theta.size):
        sign[k] = connection_sign(seed, index[k])
        weight[k] = sign[k] * theta[k] if theta[k] >= 0 else 0.0


@kernel()
def _deep_r_epoch(
    images, labels, order, batch, theta, index, potential, layer_seed, seed, first_step, lr, l1, noise,
    rewire_every, sign, weight, gradient, activity, delta,
):  # fmt: skip
    """One epoch of DEEP R. Returns total loss, connections replaced in all and by the last step, and how
    often a layer missed its budget.

    Relies on data and layers that fit each other, on proved indices and on an order of existing images.
    """
    loss, replaced, latest, violations = 0.0, 0, 0, 0
    for number in range(order.size // batch):
        step = first_step + number
        for layer in range(len(theta)):
            _signed(theta[layer], index[layer], layer_seed[layer], sign[layer], weight[layer])
        chosen = order[number * batch : (number + 1) * batch]
        loss += network_gradients(images, labels, chosen, weight, index, activity, delta, gradient)
        for layer in range(len(theta)):
            slope = gradient[layer]
            for k in range(slope.size):
                slope[k] *= sign[layer][k] if theta[layer][k] >= 0 else 0.0
            update_active(theta[layer], slope, index[layer], seed, layer, step, lr, l1, noise)
        latest = 0
        if (step + 1) % rewire_every == 0:
            for layer in range(len(theta)):
                latest += rewire(theta[layer], index[layer], potential[layer], seed, layer, step)
                violations += count_active(theta[layer], index[layer], potential[layer]) != theta[layer].size
        replaced += latest
    return loss, replaced, latest, violations


@kernel()
def _fixed_epoch(images, labels, order, batch, value, index, lr, gradient, activity, delta):
    """One epoch of SGD on a wiring that stays. Returns total loss. Relies on the same as `_deep_r_epoch`."""
    loss = 0.0
    for number in range(order.size // batch):
        chosen = order[number * batch : (number + 1) * batch]
        loss += network_gradients(images, labels, chosen, value, index, activity, delta, gradient)
        for layer in range(len(value)):
            weight, slope = value[layer], gradient[layer]
            for k in range(weight.size):
                weight[k] -= lr * slope[k]
    return loss


def _layers(model: nn.Module, kind: type) -> list[Any]:
    """The sparse layers of a network that `sparse_mlp` built; ValueError for any other network."""
    modules = list(model) if isinstance(model, nn.Sequential) else []
    layers, relus = modules[::2], modules[1::2]
    fits = len(modules) % 2 == 1 and all(type(m) is kind and m.bias is None for m in layers)
    if not (fits and all(isinstance(m, nn.ReLU) for m in relus)):
        raise ValueError(
            f"model must alternate {kind.__name__} without bias and ReLU, as sparse_mlp builds it; "
            "use train() for others"
        )
    for number, (below, above) in enumerate(pairwise(layers), 1):
        if above.in_features != below.out_features or above.values.dtype != below.values.dtype:
            raise ValueError(
                f"layer {number} must take the {below.out_features} outputs of the one before, "
                f"{below.values.dtype}, got {above.in_features} inputs, {above.values.dtype}"
            )
    return layers


def _check_data(x: NDArray[Any], t: NDArray[Any], layers: list[Any]) -> None:
    """ValueError unless images and labels fit the network: the kernels read them unchecked."""
    features, classes = layers[0].in_features, layers[-1].out_features
    dtype = layers[0].values.detach().numpy().dtype
    if x.ndim != 2 or x.shape[1] != features or x.dtype != dtype:
        raise ValueError(f"images must be (images, {features}) of {dtype}, got {x.shape} of {x.dtype}")
    if t.ndim != 1 or t.dtype != np.int64:
        raise ValueError(f"labels must be (images,) of int64, got {t.shape} of {t.dtype}")
    if t.min() < 0 or t.max() >= classes:
        raise ValueError(f"labels must be in 0..{classes - 1}, got {t.min()}..{t.max()}")


def _rates_of(optimizer: DeepR | FixedRandom) -> dict[str, Any]:
    """The parameter group that stands for all; ValueError if the layers differ in their rates."""
    first, *others = optimizer.param_groups
    for name in ("lr", "l1", "temperature", "gdnoise"):
        values = [group[name] for group in (first, *others) if name in group]
        if any(value != values[0] for value in values):
            raise ValueError(f"{name} must be the same for all layers, got {values}; use train()")
    return first


def train_compiled(
    model: nn.Module,
    optimizer: DeepR | FixedRandom,
    images: Float[Tensor, "images n_in"],
    labels: Int[Tensor, "images"],
    *,
    batch_size: int,
    epochs: int,
    learning_rates: Callable[[int], float] | None = None,
    callback: Callable[[int], dict[str, Any]] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Train as `eventbook.learning.rewiring.mlp_classifier.train` does, an epoch per compiled call.

    Parameters and result as there. Model and optimiser are left as after `train`: weights, wiring, step
    count, `rewired` and `total_rewired`. The two may follow each other on one optimiser. Gradients are left
    alone.

    Raises
    ------
    ValueError
        If the model is not a bias-free ReLU network of sparse layers, if the optimiser is neither `DeepR`
        (per layer) nor `FixedRandom`, or not one of this model, or has other rates in other layers, if
        images or labels do not fit the model, or if the indices of a layer are corrupt before an epoch
        (nothing is then read through them).
    BudgetError
        If a layer ever has not exactly K active connections after rewiring, such as when training diverges.
    """
    if type(optimizer) not in (DeepR, FixedRandom):
        raise ValueError(
            f"optimizer must be DeepR or FixedRandom, got {type(optimizer).__name__}; use train()"
        )
    check_training(images, labels, batch_size)
    layers = _layers(model, SparseLinear if isinstance(optimizer, DeepR) else FreeSparseLinear)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if [id(parameter) for parameter in trained] != [id(layer.values) for layer in layers]:
        raise ValueError("optimizer must be one of this model, got the parameters of another")
    x, t = images.contiguous().numpy(), labels.contiguous().numpy()
    _check_data(x, t, layers)
    history = []
    for epoch in range(epochs):
        if learning_rates is not None:
            for group in optimizer.param_groups:
                group["lr"] = learning_rates(epoch)
        group = _rates_of(optimizer)
        values = tuple(layer.values.detach().numpy() for layer in layers)
        scratch = _Scratch(layers, values, batch_size)  # anew: a callback may have loaded another wiring
        order = epoch_order(len(images), epoch, seed).numpy()
        steps = len(order) // batch_size
        if isinstance(optimizer, DeepR):
            loss, replaced = _rewiring_epoch(optimizer, layers, values, x, t, order, batch_size, scratch)
            counted = {"rewired": replaced}
        else:
            counted = {}
            loss = _fixed_epoch(
                x, t, order, batch_size, values, scratch.index, float(group["lr"]),
                scratch.gradient, scratch.activity, scratch.delta,
            )  # fmt: skip
        for layer in layers:  # torch then refuses to go backward through an older forward pass
            increment_version((layer.values, layer.index))
        record: dict[str, Any] = {"epoch": epoch, "loss": loss / steps, "lr": group["lr"], **counted}
        if callback is not None:
            record |= callback(epoch)
        history.append(record)
    return history


class _Scratch:
    """Arrays that an epoch works in."""

    def __init__(self, layers: list[Any], values: tuple[NDArray[Any], ...], batch_size: int) -> None:
        sizes = [layers[0].in_features, *(layer.out_features for layer in layers)]
        dtype = values[0].dtype
        self.index = tuple(
            layer.proved(layer.values, f"layer {number}").numpy() for number, layer in enumerate(layers)
        )
        self.sign, self.weight, self.gradient = (tuple(map(np.empty_like, values)) for _ in range(3))
        self.activity = activity_buffers(sizes, batch_size, dtype)
        self.delta = activity_buffers(sizes, batch_size, dtype)


def _rewiring_epoch(
    optimizer: DeepR,
    layers: list[Any],
    theta: tuple[NDArray[Any], ...],
    x: NDArray[Any],
    t: NDArray[Any],
    order: NDArray[Any],
    batch_size: int,
    scratch: _Scratch,
) -> tuple[float, int]:
    """One epoch of DEEP R; keeps the optimiser's counters as if it had stepped itself."""
    group = optimizer.param_groups[0]
    loss, replaced, latest, violations = _deep_r_epoch(
        x, t, order, batch_size, theta, scratch.index,
        np.array([layer.potential for layer in layers]),
        np.array([layer.seed for layer in layers]),
        optimizer.seed, optimizer.steps, float(group["lr"]), float(group["l1"]), noise_of(group),
        optimizer.rewire_every,
        scratch.sign, scratch.weight, scratch.gradient, scratch.activity, scratch.delta,
    )  # fmt: skip
    if violations:
        for number, layer in enumerate(layers):
            check_finite(str(2 * number), layer.theta)
        raise BudgetError(
            f"layers missed their budgets {violations} times after rewirings of this epoch, expected never"
        )
    optimizer.steps += len(order) // batch_size
    optimizer.rewired = latest
    optimizer.total_rewired += replaced
    return loss, replaced
