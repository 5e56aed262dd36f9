r"""Masks of a wanted sparsity: by magnitude, or at random.

    M = 1[w is not among the k of its scope with the smallest |w|],     k = round(s n)
    ties: the first in memory goes first

| symbol | meaning | shape | name |
|---|---|---|---|
| s | share of weights that go | scalar in [0, 1] | `sparsity` |
| n | weights of one part of the scope | scalar | - |
| M | mask, True where a weight stays | as the weight | `masks` |

k is Python's `round`, half to even, and exactly k weights go: a threshold at the k-th smallest magnitude
takes too many or too few as soon as magnitudes are equal, and those of quantised or pruned weights are.

Source: Han et al., NeurIPS 2015; `sparse_language_models`. Ties are ours.
"""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Bool
from torch import Generator, Tensor, nn

from eventbook.learning.pruning.weights import Prunable, check_scope, chosen, parameter_of, parts

GONE = -1.0  # below every score: what was pruned before goes first


def magnitude_masks(
    model: nn.Module,
    sparsity: float,
    scope: str = "matrix",
    weights: Iterable[Prunable | str] | None = None,
    *,
    within: Mapping[str, Bool[Tensor, "..."]] | None = None,
) -> dict[str, Bool[Tensor, "..."]]:
    """Masks that keep the largest weights of each part of a scope; the model is left as it is.

    Parameters
    ----------
    model
        Any network.
    sparsity
        Share of the weights of each part that go.
    scope
        "matrix", "gate", "layer" or "global".
    weights
        What is pruned, as `Prunable` or by name; the kernels of recurrent layers if not given.
    within
        Masks of an earlier pruning: what is gone stays gone, and counts.

    Returns
    -------
    dict
        A mask for each weight, on its device.

    Raises
    ------
    ValueError
        If the sparsity is not in [0, 1] or below that of `within`, a scope is none of those named, a name is
        none of the model's, also one of a mask within, or a weight is not finite (it has no place in the
        order).
    TypeError
        If a mask is not boolean.

    Examples
    --------
    >>> gru = nn.GRU(8, 16)
    >>> masks = magnitude_masks(gru, 0.9)
    >>> {name: int(mask.sum()) for name, mask in masks.items()}
    {'weight_ih_l0': 38, 'weight_hh_l0': 77}
    """
    listed, parameters = chosen(model, weights)
    _check_names(model, within)
    scores = {name: parameter.abs().double().cpu() for name, parameter in parameters.items()}
    for name, score in scores.items():
        if not bool(score.isfinite().all()):
            raise ValueError(f"model must have finite weights to be pruned, got others in {name!r}")
    return _keep_highest(listed, parameters, scores, sparsity, scope, within)


def random_masks(
    model: nn.Module,
    sparsity: float,
    scope: str = "matrix",
    weights: Iterable[Prunable | str] | None = None,
    *,
    generator: Generator | None = None,
    within: Mapping[str, Bool[Tensor, "..."]] | None = None,
) -> dict[str, Bool[Tensor, "..."]]:
    """As `magnitude_masks`, but which weights go is drawn uniformly; `generator` is torch's if not given."""
    listed, parameters = chosen(model, weights)
    _check_names(model, within)
    scores = {
        name: torch.rand(parameter.shape, dtype=torch.float64, generator=generator)
        for name, parameter in parameters.items()
    }
    return _keep_highest(listed, parameters, scores, sparsity, scope, within)


def check_sparsity(sparsity: float, name: str = "sparsity") -> None:
    """ValueError unless it is a share."""
    if not 0 <= sparsity <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {sparsity}")


def check_mask(name: str, mask: Tensor, like: Tensor) -> None:
    """TypeError unless it is boolean; ValueError unless it has the shape of its parameter."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        found = str(mask.dtype).removeprefix("torch.") if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"masks must be bool, got {found} for {name!r}")
    if mask.shape != like.shape:
        raise ValueError(
            f"masks must have the shape of their parameters, {tuple(like.shape)} for {name!r}, "
            f"got {tuple(mask.shape)}"
        )


def _check_names(model: nn.Module, within: Mapping[str, Tensor] | None) -> None:
    named = dict(model.named_parameters())
    for name in within or ():
        parameter_of(named, name, "within")


def _keep_highest(
    weights: tuple[Prunable, ...],
    parameters: dict[str, Tensor],
    scores: dict[str, Tensor],
    sparsity: float,
    scope: str,
    within: Mapping[str, Tensor] | None,
) -> dict[str, Tensor]:
    check_sparsity(sparsity)
    check_scope(scope)
    for name in parameters.keys() & (within or {}).keys():
        assert within is not None
        check_mask(name, within[name], parameters[name])
        scores[name] = scores[name].masked_fill(~within[name].cpu(), GONE)
    masks = {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()}
    judged, kept = parts(weights, scores, scope), parts(weights, masks, scope)
    for (part, values), (_, views) in zip(judged, kept, strict=True):
        flat = torch.cat([value.reshape(-1) for value in values])
        count, before = round(sparsity * len(flat)), int((flat == GONE).sum())
        if count < before:
            raise ValueError(
                f"sparsity must not fall below that of the masks within, {before / len(flat)} in {part}, "
                f"got {sparsity}"
            )
        stays = torch.ones(len(flat), dtype=torch.bool)
        stays[flat.argsort(stable=True)[:count]] = False
        for view, piece in zip(views, stays.split([value.numel() for value in values]), strict=True):
            view.copy_(piece.view_as(view))
    return {name: mask.to(parameters[name].device) for name, mask in masks.items()}
