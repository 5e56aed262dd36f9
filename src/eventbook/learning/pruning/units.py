r"""Pruning whole units of an EGRU: those that speak least go, with all that they send and receive.

    a_l,i = share of steps in which unit i of layer l spoke
    the round(f H_l) units with the smallest a_l,i go; ties: the first goes first

What goes with unit i of layer l, in the weights of the full network:

    R_l[i, :]      what it sends within its layer          R_l[:, (z, r, g) of i]    what it hears there
    W_l+1[i, :]    what it sends to the layer above        W_l[:, (z, r, g) of i]    what it hears from below
                                                           b_l, b_r,l of i           its biases

| symbol | meaning | shape | name |
|---|---|---|---|
| a_l | activity of each unit | (H_l,) | `activity` |
| f | share of units that go | scalar, or one a layer | `fraction` |
| - | units that stay | (H_l,) bool | `kept` |

A unit whose weights and biases are all 0 rests at 0, below any threshold: the masked network and the smaller
one say the same. Where the dropped units never spoke, so does the full one.

Source: the history of the released code of arXiv:2206.06178, which did this to a trained checkpoint.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from eventbook.learning.pruning.selection import check_sparsity
from eventbook.models.egru import EGRU, EGRUCell, NetworkRun, Threshold


class UnitPruning(NamedTuple):
    """The same pruning as masks for the full network and as a smaller one."""

    kept: tuple[Bool[Tensor, "unit"], ...]  # of each layer; the last cuts a readout
    masks: dict[str, Bool[Tensor, "..."]]  # for `Masks`
    model: EGRU


def unit_activity(*runs: NetworkRun) -> tuple[Float[Tensor, "unit"], ...]:
    """Share of steps in which each unit of each layer spoke, over some runs of one network, float64.

    Raises
    ------
    ValueError
        If there is no run, or there are runs of several networks.
    """
    if not runs:
        raise ValueError("runs must have a run at least, got none")
    sizes = [[layer.output.shape[2] for layer in run.layers] for run in runs]
    if any(its != sizes[0] for its in sizes):
        raise ValueError(f"runs must be of one network, with layers of {sizes[0]} units, got {sizes}")
    found = []
    for layers in zip(*(run.layers for run in runs), strict=True):
        spoken = torch.stack([(layer.output.detach() != 0).sum((0, 1)) for layer in layers]).sum(0)
        steps = sum(int(layer.steps().sum()) for layer in layers)
        found.append(spoken.double() / max(1, steps))
    return tuple(found)


@torch.no_grad()
def prune_units(
    model: EGRU, activity: Sequence[Float[Tensor, "unit"]], fraction: float | Sequence[float]
) -> UnitPruning:
    """Drop the least active units of each layer.

    Parameters
    ----------
    model
        Left as it is.
    activity
        How often each unit of each layer speaks: `unit_activity`, or any other order of merit.
    fraction
        Share of each layer's units that go, one number or one a layer; 0 for a last layer whose readout is to
        stay as it is.

    Returns
    -------
    UnitPruning
        Units that stay, masks of the full network, and the smaller network, with the options of the full one.

    Raises
    ------
    ValueError
        If there is not one activity a unit, a fraction is not in [0, 1], or no unit of a layer would be left.
    TypeError
        If it is no EGRU of plain cells.
    """
    if not isinstance(model, EGRU):
        raise TypeError(f"model must be an EGRU, got {type(model).__name__}")
    for cell in model.cells:
        if type(cell) is not EGRUCell:
            raise TypeError(f"model must have plain cells, with dense parameters, got {type(cell).__name__}")
    kept = _kept(model.hidden_sizes, activity, fraction)
    small, masks = copy.deepcopy(model), {}
    below = torch.ones(model.input_size, dtype=torch.bool)
    for number, stays in enumerate(kept):
        columns = stays.repeat(3)  # blocks z, r, g
        rows = {"kernel": below, "recurrent_kernel": stays, "bias": None, "recurrent_bias": None}
        cell = small.cells[number]
        assert isinstance(cell, EGRUCell)
        for name, sends in rows.items():
            parameter = getattr(cell, name)
            if parameter is None:
                continue
            mask = columns if sends is None else sends[:, None] & columns
            masks[f"cells.{number}.{name}"] = mask.to(parameter.device)
            cut = parameter[columns] if sends is None else parameter[sends][:, columns]
            setattr(cell, name, nn.Parameter(cut.clone(), requires_grad=parameter.requires_grad))
        _cut_threshold(cell.threshold, stays)
        cell.input_size, cell.hidden_size = int(below.sum()), int(stays.sum())
        below = stays
    small.hidden_sizes = tuple(int(stays.sum()) for stays in kept)
    return UnitPruning(kept, masks, small)


def _kept(
    sizes: Sequence[int], activity: Sequence[Tensor], fraction: float | Sequence[float]
) -> tuple[Tensor, ...]:
    given_shares = np.asarray(fraction, dtype=float)  # a number, a list, an array, a tensor
    if given_shares.ndim > 1:
        raise ValueError(f"fraction must be a number or one a layer, got shape {given_shares.shape}")
    shares = given_shares.tolist() if given_shares.ndim else [float(given_shares)] * len(sizes)
    for name, given in (("activity", activity), ("fraction", shares)):
        if len(given) != len(sizes):
            raise ValueError(f"{name} must have {len(sizes)} members, one a layer, got {len(given)}")
    kept = []
    for number, (size, merit, share) in enumerate(zip(sizes, activity, shares, strict=True)):
        check_sparsity(share, "fraction")
        if tuple(merit.shape) != (size,) or not bool(merit.isfinite().all()):
            raise ValueError(
                f"activity[{number}] must be ({size},) finite numbers, one a unit, got {tuple(merit.shape)}"
            )
        count = round(share * size)
        if count == size:
            raise ValueError(f"fraction must leave a unit of each layer, got {share} of {size} units")
        stays = torch.ones(size, dtype=torch.bool)
        stays[merit.cpu().argsort(stable=True)[:count]] = False
        kept.append(stays)
    return tuple(kept)


def _cut_threshold(threshold: Threshold, stays: Tensor) -> None:
    """Keep what a threshold stores, parameters or buffers, of the units that stay."""
    for name, parameter in list(threshold.named_parameters(recurse=False)):
        cut = nn.Parameter(parameter[stays].clone(), requires_grad=parameter.requires_grad)
        setattr(threshold, name, cut)
    for name, buffer in list(threshold.named_buffers(recurse=False)):
        setattr(threshold, name, buffer[stays].clone())
    threshold.size = int(stays.sum())
