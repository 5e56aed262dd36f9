r"""Terms that make a layer speak less, or keep its states where they can still learn to speak.

    activity           mean o                                 differentiable through the surrogate of o
    activity_target    (mean o - target)^2                    the released code: target .05
    voltage_target     mean (h - target)^2                    an option of its pixel task
    voltage_margin     mean (h - (theta - margin))            its gesture task: margin .05
    language_terms     alpha mean h + beta mean over events (h_{t+1} - h_t)^2 + gamma mean o

| symbol | meaning | shape | name |
|---|---|---|---|
| o | event indicator | (batch, time, unit) | `LayerRun.event` |
| h | state after the reset | (batch, time, unit) | `LayerRun.after_reset` |
| theta | threshold | (unit,) | `LayerRun.threshold` |

All are of one layer, to be weighed and added up by whoever trains; means are over steps that are no padding
and over units, and 0 of no steps at all. In `language_terms` the difference counts where the unit spoke at
t, before the change: the released code says "where there was an event" and no more that we know of.

Source: the released code of arXiv:2206.06178.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eventbook.models.egru.layers import LayerRun

Scalar = Float[Tensor, ""]


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean where the weight is 1; 0 if it is nowhere."""
    weight = weight.expand_as(values).to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp(min=1)


def activity(run: LayerRun) -> Scalar:
    """Share of units and steps with an event, as a number that can be trained.

    Parameters
    ----------
    run
        What a layer did, (batch, time, unit).

    Returns
    -------
    Tensor
        A scalar in [0, 1]; 0 of no steps at all.
    """
    return _mean(run.event(), run.steps()[..., None])


def activity_target(run: LayerRun, target: float = 0.05) -> Scalar:
    """Squared distance of the activity from a target.

    Parameters
    ----------
    run
        What a layer did.
    target
        Share of units and steps, in [0, 1].

    Returns
    -------
    Tensor
        A scalar.

    Raises
    ------
    ValueError
        If the target is no share.
    """
    if not 0 <= target <= 1:
        raise ValueError(f"target must be a share in [0, 1], got {target}")
    return (activity(run) - target).square()


def voltage_target(run: LayerRun, target: float = 0.0) -> Scalar:
    """Mean squared distance of the states from a target.

    Parameters
    ----------
    run
        What a layer did; its states after the reset count, (batch, time, unit).
    target
        In units of the state.

    Returns
    -------
    Tensor
        A scalar.
    """
    return _mean((run.after_reset() - target).square(), run.steps()[..., None])


def voltage_margin(run: LayerRun, margin: float = 0.05) -> Scalar:
    """How far states are above a margin below their threshold, on average; negative below it.

    Parameters
    ----------
    run
        What a layer did; its states after the reset count, (batch, time, unit).
    margin
        In units of the state.

    Returns
    -------
    Tensor
        A scalar.
    """
    return _mean(run.after_reset() - (run.threshold - margin), run.steps()[..., None])


def language_terms(run: LayerRun, alpha: float = 0.0, beta: float = 0.0, gamma: float = 0.0) -> Scalar:
    """The three terms of the released language model, 0 by default as there.

    Parameters
    ----------
    run
        What a layer did.
    alpha, beta, gamma
        Strengths of the mean state, of its change after events, and of the activity.

    Returns
    -------
    Tensor
        A scalar.

    Raises
    ------
    ValueError
        If a strength is negative, infinite or not a number.
    """
    for name, strength in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if not 0 <= strength < math.inf:
            raise ValueError(f"{name} must be >= 0 and finite, got {strength}")
    h, steps = run.after_reset(), run.steps()[..., None]
    total = run.output.new_zeros(())
    if alpha:
        total = total + alpha * _mean(h, steps)
    if beta:
        spoke = (run.output[:, :-1] != 0) & steps[:, 1:]
        total = total + beta * _mean((h[:, 1:] - h[:, :-1]).square(), spoke)
    if gamma:
        total = total + gamma * activity(run)
    return total


def total_activity(runs: tuple[LayerRun, ...]) -> Scalar:
    """Share of all units of a network and all steps with an event, as a number that can be trained.

    Parameters
    ----------
    runs
        What each layer did: `NetworkRun.layers`.

    Returns
    -------
    Tensor
        A scalar in [0, 1]; 0 of no steps at all.

    Raises
    ------
    ValueError
        If there is no layer.
    """
    if not runs:
        raise ValueError("runs must have a layer at least, got none")
    spoken = torch.stack([run.event().sum() for run in runs]).sum()
    places = sum(int(run.steps().sum()) * run.output.shape[2] for run in runs)
    return spoken / max(1, places)
