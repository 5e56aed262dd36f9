"""The exact gradient without autograd: what it is, and what it took.

Symbols and names: `eventbook.models.egru_continuous.function`.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from eventbook.kernels.machinery.tensors import same_dtype
from eventbook.models.egru_continuous.arguments import checked, options
from eventbook.models.egru_continuous.operator import (
    Additions,
    ContinuousGradients,
    ContinuousRun,
    walk,
    walk_back,
)


def egru_continuous_gradients(
    arriving: dict[str, Tensor],
    time: Float[Tensor, "event"],
    token: Int64[Tensor, "event"],
    kernel: Float[Tensor, "token three_units"],
    recurrent: Float[Tensor, "unit three_units"],
    bias: Float[Tensor, "three_units"],
    threshold: Float[Tensor, "unit"],
    *,
    duration: float,
    asked: Float[Tensor, "asked"] | None = None,
    value: Float[Tensor, "event"] | None = None,
    state: Float[Tensor, "4 unit"] | None = None,
    tau_s: float = 5.0,
    tau_m: float = 20.0,
    gate_of: str = "target",
    reset: str = "zero",
    payload: str = "graded",
    step: float | None = None,
    max_events: int = 10_000,
    moving_times: bool = True,
) -> tuple[ContinuousGradients, Additions]:
    """Gradients of a loss, and how many additions to gradients of weights they took.

    Parameters
    ----------
    arriving
        Gradients of the loss by what a run gives, e.g. ``{"states": ..., "time": ...}``; zero where left out.
    moving_times
        False leaves K out, as if no event moved in time: not the gradient, but a control for it.

    The other arguments are those of `egru_continuous`.

    Returns
    -------
    gradients
        Of time, value, kernel, recurrent, bias, threshold and state.
    additions
        At external and at internal events: 3 unit for each, and none between events.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `egru_continuous`, and if what arrives is no result of a run or has another shape.
    """
    chosen = options(duration, gate_of, reset, payload, tau_s, tau_m, step, max_events)
    with torch.no_grad():
        given = checked(time, token, kernel, recurrent, bias, threshold, asked, value, state, chosen.duration)
        result, record = walk(given, chosen)
        return walk_back(given, record, chosen, _complete(arriving, result), moving_times)


def _complete(arriving: dict[str, Any], result: ContinuousRun) -> ContinuousRun:
    """Zeros for what does not arrive."""
    differentiable = [name for name in ContinuousRun._fields if name not in ("unit", "slope")]
    for name, gradient in arriving.items():
        if name not in differentiable:
            raise ValueError(f"arriving must be of {', '.join(differentiable)}, got {name!r}")
        expected = getattr(result, name)
        if gradient.shape != expected.shape:
            raise ValueError(
                f"arriving[{name!r}] must be {tuple(expected.shape)}, got {tuple(gradient.shape)}"
            )
        same_dtype((torch.float64,), **{name: gradient})
    zeros = {name: torch.zeros_like(part) for name, part in result._asdict().items()}
    return ContinuousRun(**{**zeros, **arriving})
