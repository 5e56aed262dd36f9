r"""LeNet-300-100 and its like, sparse or dense, without biases; and the one loop that trains them all.

Every method of the chapter (Deep Rewiring and its baselines) is an optimiser with `zero_grad` and `step`,
and sees the same images in the same order.

| symbol | meaning | shape | name |
|---|---|---|---|
| x | images, flattened | (images, n_in) | `images` |
| t | classes | (images,) int64 | `labels` |
| eta_e | learning rate of epoch e | (epochs,) | `learning_rates` |

Source: the authors' code (784-300-100-10, ReLU, no biases, SGD, eta 0.5 times 0.8 per epoch, batch 10).
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from eventbook.kernels.machinery.random import derive
from eventbook.learning.rewiring.sparse_linear import SparseLinear
from eventbook.learning.rewiring.wiring import check_count, check_seed, half_normal


class _Layer(Protocol):
    def __call__(
        self,
        in_features: int,
        out_features: int,
        *,
        connectivity: float,
        init_scale: float,
        seed: int,
        dtype: Any,
    ) -> nn.Module: ...


def layer_seed(seed: int, layer: int) -> int:
    """A seed of its own for each layer, in [0, 2^63)."""
    return int(np.uint64(derive(check_seed(seed), layer)) >> np.uint64(1))


def _with_relus(layers: Iterable[nn.Module]) -> nn.Sequential:
    modules: list[nn.Module] = []
    for layer in layers:
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def sparse_mlp(
    sizes: Sequence[int],
    connectivities: Sequence[float],
    *,
    seed: int = 0,
    init_scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
    layer: _Layer = SparseLinear,
) -> nn.Sequential:
    """ReLU network without biases from sparse layers.

    Parameters
    ----------
    sizes
        Units per layer, input first, e.g. (784, 300, 100, 10).
    connectivities
        Stored fraction of each weight matrix, e.g. (0.01, 0.03, 0.30); one fewer than sizes.
    seed, init_scale, dtype
        As in `SparseLinear`; each layer gets a seed of its own.
    layer
        `SparseLinear`, `FreeSparseLinear` or `SoftSparseLinear`.
    """
    if len(connectivities) != len(sizes) - 1:
        raise ValueError(f"connectivities must have {len(sizes) - 1} entries, got {len(connectivities)}")
    return _with_relus(
        layer(
            sizes[i],
            sizes[i + 1],
            connectivity=p,
            init_scale=init_scale,
            seed=layer_seed(seed, i),
            dtype=dtype,
        )
        for i, p in enumerate(connectivities)
    )


def dense_mlp(
    sizes: Sequence[int], *, seed: int = 0, init_scale: float = 1.0, dtype: torch.dtype = torch.float32
) -> nn.Sequential:
    """The same network from `nn.Linear`, weights init_scale N(0, 1) / sqrt(n_in)."""
    layers = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        dense = nn.Linear(n_in, n_out, bias=False, dtype=dtype)
        own = layer_seed(seed, i)
        sign = torch.from_numpy(np.random.default_rng(own).choice([-1.0, 1.0], (n_out, n_in))).to(dtype)
        with torch.no_grad():
            size = half_normal(n_in * n_out, init_scale / n_in**0.5, own, dtype)
            dense.weight.copy_(size.view(n_out, n_in) * sign)
        layers.append(dense)
    return _with_relus(layers)


def exponential_decay(start: float, factor: float) -> Callable[[int], float]:
    """Learning rate of an epoch, start * factor^epoch."""
    return lambda epoch: start * factor**epoch


def halving_until(start: float, every: int, floor: float) -> Callable[[int], float]:
    """Learning rate halved every few epochs until it is below `floor` (recipe of Liu et al. 2018)."""
    check_count("every", every)

    def rate(epoch: int) -> float:
        lr = start
        for _ in range(epoch // every):
            lr = lr / 2 if lr >= floor else lr
        return lr

    return rate


def epoch_order(images: int, epoch: int, seed: int) -> Int[Tensor, "images"]:
    """Order of the images in an epoch: a function of (seed, epoch)."""
    order = np.random.default_rng([check_seed(seed), epoch]).permutation(images)
    return torch.from_numpy(order)


def check_training(images: Tensor, labels: Tensor, batch_size: int) -> None:
    """ValueError unless there is a label for every image and a batch fits into them."""
    if len(images) != len(labels):
        raise ValueError(f"images and labels must be equally many, got {len(images)} and {len(labels)}")
    check_count("batch_size", batch_size)
    if batch_size > len(images):
        raise ValueError(f"batch_size must be between 1 and {len(images)} images, got {batch_size}")


def train(
    model: nn.Module,
    optimizer: Any,
    images: Float[Tensor, "images n_in"],
    labels: Int[Tensor, "images"],
    *,
    batch_size: int,
    epochs: int,
    learning_rates: Callable[[int], float] | None = None,
    callback: Callable[[int], dict[str, Any]] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Train with cross entropy; an incomplete last batch of an epoch is left out.

    Parameters
    ----------
    optimizer
        Anything with `zero_grad()`, `step()` and, for `learning_rates`, `param_groups`.
    learning_rates
        Learning rate of an epoch, e.g. `exponential_decay(0.5, 0.8)`; None leaves it to the optimiser.
    callback
        Called after each epoch with its number; what it returns is added to that epoch's record.
    seed
        Order of the images.

    Returns
    -------
    list of dict
        Per epoch: `epoch`, `loss` (mean over steps), `lr`, `rewired` (where the optimiser counts), and the
        callback's.
    """
    check_training(images, labels, batch_size)
    history = []
    model.train()
    rewired_before = getattr(optimizer, "total_rewired", 0)
    for epoch in range(epochs):
        if learning_rates is not None:
            for group in optimizer.param_groups:
                group["lr"] = learning_rates(epoch)
        order = epoch_order(len(images), epoch, seed)
        steps = len(images) // batch_size
        losses = []
        for chosen in order[: steps * batch_size].view(steps, batch_size):
            loss = cross_entropy(model(images.index_select(0, chosen)), labels.index_select(0, chosen))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        mean_loss = float(torch.stack(losses).double().mean())
        record = {"epoch": epoch, "loss": mean_loss, "lr": optimizer.param_groups[0]["lr"]}
        if hasattr(optimizer, "total_rewired"):
            record["rewired"] = optimizer.total_rewired - rewired_before
            rewired_before = optimizer.total_rewired
        if callback is not None:
            record |= callback(epoch)
        history.append(record)
    return history


@torch.no_grad()
def accuracy(
    model: nn.Module,
    images: Float[Tensor, "images n_in"],
    labels: Int[Tensor, "images"],
    batch_size: int = 500,
) -> float:
    """Fraction of images whose class is the largest output."""
    if len(images) == 0:
        raise ValueError("images must be at least one, got none")
    check_training(images, labels, min(batch_size, len(images)))
    was_training = model.training
    model.eval()
    hits = sum(
        int((model(x).argmax(-1) == t).sum())
        for x, t in zip(images.split(batch_size), labels.split(batch_size), strict=True)
    )
    model.train(was_training)
    return hits / len(images)
