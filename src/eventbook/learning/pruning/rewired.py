r"""Deep Rewiring instead of pruning: which recurrent weights exist is chosen while they are trained.

    W = scatter of s_k [theta_k]_+ over K = n - round(s n) places,  the rest 0        `SparseWeight`
    theta, places <- one step of Deep Rewiring                                         `DeepR`

| symbol | meaning | shape | name |
|---|---|---|---|
| s, n | sparsity, as in pruning; weights of the matrix. K never changes | scalars | `sparsity` |
| theta_k | parameter of a connection | (K,) | - |
| s_k | its sign, drawn with the connection | (K,) | - |

`DeepR` acts on `SparseLinear` layers and on parameters behind a `SparseWeight`, which forms the dense matrix
anew for each pass. So nothing of its rule is written a second time here: `rewire` puts that parametrization
on the chosen kernels, `sparsify` would put it on every matrix of the model and count fan-in along the wrong
axis of a (source, target) kernel. Two things differ from pruning, and are the method's: connections begin at
random places with random fixed signs, so what the kernels had learned is lost; and a connection that was just
drawn has weight 0 and counts as one.

Connections do not decay: theta is a vector, which `eventbook.models.decay.matrices_decay` spares, and is not
named among `matrix_entries`. What pulls it to 0 is the l1 term of `DeepR`, which is part of the method.

Weights begin half normal with the mean square that the dense matrix had, divided by the density, so that a
unit hears as much as before.

Source: Bellec et al., ICLR 2018; `eventbook.learning.rewiring`.
"""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eventbook.kernels.machinery.random import derive
from eventbook.learning.pruning.masks import Masks
from eventbook.learning.pruning.selection import check_sparsity
from eventbook.learning.pruning.weights import Prunable, chosen
from eventbook.learning.rewiring.deep_r import sparse_connections
from eventbook.learning.rewiring.sparsify import SparseWeight, sparsify_weight
from eventbook.learning.rewiring.wiring import check_seed


def rewire(
    model: nn.Module,
    sparsity: float,
    weights: Iterable[Prunable | str] | None = None,
    *,
    seed: int = 0,
) -> nn.Module:
    """Make chosen parameters sparse in place, with connections that `DeepR(model, ...)` can rewire.

    Parameters
    ----------
    model
        Any network.
    sparsity
        Share of each matrix that has no connection, below 1.
    weights
        Which; the kernels of recurrent layers if not given.
    seed
        Of places, signs and first values.

    Returns
    -------
    nn.Module
        The same model. `other_parameters(model)` are those for an ordinary optimiser.

    Raises
    ------
    ValueError
        If the sparsity is not in [0, 1] or leaves no connection, a name is none of the model's, or a
        parameter has less than two axes.

    Examples
    --------
    >>> from eventbook.learning import DeepR
    >>> from eventbook.models.egru import EGRU
    >>> model = rewire(EGRU(3, 8), 0.9, ["cells.0.recurrent_kernel"])
    >>> DeepR(model, lr=0.1).active()
    [19]
    """
    check_sparsity(sparsity)
    listed, parameters = chosen(model, weights)
    counts = {}
    for weight in listed:
        parameter = parameters[weight.name]
        if parameter.ndim < 2:
            raise ValueError(f"weights must have two axes or more to be rewired, got {weight.name!r}")
        counts[weight.name] = parameter.numel() - round(sparsity * parameter.numel())
        if not counts[weight.name]:
            raise ValueError(f"sparsity must leave a connection in {weight.name!r}, got {sparsity}")
    for number, (name, count) in enumerate(counts.items()):
        path, _, attribute = name.rpartition(".")
        dense = parameters[name]
        spread = float(dense.double().square().mean().sqrt()) * (dense.numel() / count) ** 0.5
        own = int(np.uint64(derive(check_seed(seed), number)) >> np.uint64(1))
        fan_in = dense.numel() // dense.shape[0]  # what SparseWeight divides by
        sparsify_weight(model.get_submodule(path), attribute, count, spread * fan_in**0.5, own)
    return model


@torch.no_grad()
def connection_masks(model: nn.Module) -> dict[str, Bool[Tensor, "..."]]:
    """Where the rewired parameters have connections, by the names that the dense ones had."""
    masks = {}
    for name, home, theta in sparse_connections(model):
        if isinstance(home, SparseWeight):
            mask = torch.zeros(home.potential, dtype=torch.bool)
            mask[home.proved(theta, name)[theta >= 0]] = True
            masks[name] = mask.view(home.shape)
    return masks


@torch.no_grad()
def settle(model: nn.Module) -> Masks:
    """End rewiring: dense parameters again, under masks of the connections there are.

    An optimiser of the connections knows nothing of the new parameters; make another.

    Raises
    ------
    ValueError
        If nothing was rewired.
    """
    masks = connection_masks(model)
    if not masks:
        raise ValueError("model must have rewired parameters, found none")
    for name in masks:
        path, _, attribute = name.rpartition(".")
        owner = model.get_submodule(path)
        dense = getattr(owner, attribute).clone()
        kind = type(owner)  # copies of the model share it: the weight would be taken from them, too
        owner.__class__ = type(kind.__name__, kind.__bases__, dict(kind.__dict__))
        parametrize.remove_parametrizations(owner, attribute, leave_parametrized=True)
        setattr(owner, attribute, nn.Parameter(dense))  # graphs may still know the one of another length
    return Masks(model, masks)
