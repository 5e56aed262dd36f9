r"""The event-based GRU written for reading, differentiable by torch through an explicit surrogate.

    q_t = y_{t-1} R + b_r
    z = sig(p_z + q_z)    r = sig(p_r + q_r)    g = tanh(p_g + r q_g)
    c_t = z h_{t-1} + (1 - z) g            o_t = event(c_t - theta)        y_t = o_t c_t

With the reset gate before the recurrent matrix R = (R_zr, R_g), as in the paper,

    q_t,zr = y_{t-1} R_zr + b_r,zr         q_t,g = (r y_{t-1}) R_g + b_r,g         g = tanh(p_g + q_g)

| reset | state after an event |
|---|---|
| "threshold" | h = c - o theta |
| "value" | h = c - y |
| "none" | h = c (with theta = -inf: a GRU) |
| "paper" | h = c, and the next c is lowered by y, outside of the leak |

Symbols and names: `eventbook.kernels.events.egru`.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eventbook.kernels.machinery.lengths import check_lengths, without_padding


class TriangularEvent(torch.autograd.Function):
    """1 where the distance to the threshold is positive or NaN, else 0; the derivative is a triangle."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, support: float, dampening: float) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.support, ctx.dampening = support, dampening
        return (~(distance <= 0)).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (distance,) = ctx.saved_tensors
        inside = 1 - ctx.support * distance.abs()
        pseudo = ctx.dampening * torch.where(inside > 0, inside, torch.zeros_like(inside))
        return gradients[0] * pseudo, None, None


class _Transformed(torch.autograd.Function):
    """The same as torch.func wants it, which can derive it in all ways, and costs a step a third more."""

    generate_vmap_rule = True

    @staticmethod
    def forward(distance: Tensor, support: float, dampening: float) -> Tensor:
        return (~(distance <= 0)).to(distance.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        distance, ctx.support, ctx.dampening = inputs
        ctx.save_for_backward(distance)
        ctx.save_for_forward(distance)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return TriangularEvent.backward(ctx, *gradients)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return TriangularEvent.backward(ctx, *tangents)[0]


def triangular(support: float = 1.0, dampening: float = 0.7) -> Callable[[Tensor], Tensor]:
    """The event indicator as a function of c - theta."""

    def event(distance: Tensor) -> Tensor:
        transformed = not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()
        said: Tensor = (_Transformed if transformed else TriangularEvent).apply(distance, support, dampening)
        return said

    return event


def egru_step(
    p: Float[Tensor, "batch three_units"],
    recurrent: Float[Tensor, "unit three_units"],
    recurrent_bias: Float[Tensor, "three_units"],
    threshold: Float[Tensor, "unit"],
    carry: Float[Tensor, "batch unit"],
    output: Float[Tensor, "batch unit"],
    *,
    reset: str = "threshold",
    reset_gate: str = "after",
    event: Callable[[Tensor], Tensor] = triangular(),  # noqa: B008 (a pure function)
) -> tuple[Float[Tensor, "batch unit"], Float[Tensor, "batch unit"], Float[Tensor, "batch unit"]]:
    """y, c and h after one step, from the projected input and the h and y before it."""
    p_z, p_r, p_g = p.chunk(3, -1)
    if reset_gate == "after":
        q_z, q_r, q_g = (output @ recurrent + recurrent_bias).chunk(3, -1)
        r = torch.sigmoid(p_r + q_r)
        g = torch.tanh(p_g + r * q_g)
    else:
        zr = 2 * len(threshold)
        q_z, q_r = (output @ recurrent[:, :zr] + recurrent_bias[:zr]).chunk(2, -1)
        r = torch.sigmoid(p_r + q_r)
        g = torch.tanh(p_g + ((r * output) @ recurrent[:, zr:] + recurrent_bias[zr:]))
    z = torch.sigmoid(p_z + q_z)
    c = z * carry + (1 - z) * g
    if reset == "paper":
        c = c - output
    o = event(c - threshold)
    y = o * c
    if reset == "threshold":
        return y, c, c - o * threshold
    return y, c, c - y if reset == "value" else c


def egru_reference(
    projection: Float[Tensor, "batch time three_units"],
    recurrent: Float[Tensor, "unit three_units"],
    recurrent_bias: Float[Tensor, "three_units"],
    threshold: Float[Tensor, "unit"],
    carry: Float[Tensor, "batch unit"],
    output: Float[Tensor, "batch unit"],
    *,
    lengths: Int[Tensor, "batch"] | None = None,
    reset: str = "threshold",
    reset_gate: str = "after",
    event: Callable[[Tensor], Tensor] = triangular(),  # noqa: B008 (a pure function)
) -> tuple[Float[Tensor, "batch time unit"], Float[Tensor, "batch time unit"], Float[Tensor, "batch unit"]]:
    """Outputs, states before the reset, and the carried state after the last step of each row.

    What lies behind the length of a row is 0 in both sequences, and of the projection it is not looked at.
    Shapes and dtypes are for torch to check, lengths are looked at as by the kernels.
    """
    if lengths is not None:
        lengths = check_lengths(lengths, projection.shape[1])
        projection = without_padding(projection, lengths)
    weights, outputs, states = (recurrent, recurrent_bias, threshold), [], []
    for t, p in enumerate(projection.unbind(1)):
        y, c, h = egru_step(p, *weights, carry, output, reset=reset, reset_gate=reset_gate, event=event)
        if lengths is None:
            output, carry = y, h
        else:
            here = (t < lengths)[:, None]
            output, carry = torch.where(here, y, output), torch.where(here, h, carry)
            y, c = torch.where(here, y, 0), torch.where(here, c, 0)
        outputs.append(y)
        states.append(c)
    if not outputs:
        empty = projection.new_empty(projection.shape[0], 0, len(threshold))
        return empty, empty.clone(), carry
    return torch.stack(outputs, 1), torch.stack(states, 1), carry
