r"""The event-based GRU in continuous time, written for reading, differentiable by torch step by step.

Between events four classical Runge-Kutta stages a step, on all four equations. A crossing is seen at the ends
of steps, bracketed and halved without gradients, and then made differentiable by one Newton step,

    s = s* - (c_n(s*) - theta_n) / c_n'(s*)        c_n' held constant

whose derivative is that of the crossing's time. Everything after it is ordinary autograd: this twin knows
nothing of an adjoint, and its gradient is that of its own steps.

A peak above the threshold between two ends of steps is missed here, and the error is of the fourth power of
the step. Symbols and names: `eventbook.models.egru_continuous.function`.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from eventbook.models.egru_continuous.operator import ContinuousRun

_HALVINGS = 60


def egru_continuous_reference(
    time: Float[Tensor, "event"],
    token: Int64[Tensor, "event"],
    kernel: Float[Tensor, "token three_units"],
    recurrent: Float[Tensor, "unit three_units"],
    bias: Float[Tensor, "three_units"],
    threshold: Float[Tensor, "unit"],
    *,
    duration: float,
    asked: Float[Tensor, "asked"],
    value: Float[Tensor, "event"],
    state: Float[Tensor, "4 unit"],
    tau_s: float = 5.0,
    tau_m: float = 20.0,
    gate_of: str = "target",
    reset: str = "zero",
    payload: str = "graded",
    step: float = 0.05,
) -> ContinuousRun:
    """Events, states and the integral of c, as `egru_continuous` without its checks."""
    biases = bias.view(3, -1)

    def slopes(x: Tensor) -> Tensor:
        """d/dt of c, a_u, a_r, a_z and of the integral of c."""
        c, a_u, _, a_z = x[:4]
        u, z = torch.sigmoid(a_u), torch.tanh(a_z)
        return torch.cat([(u * (z - c) / tau_m)[None], (biases - x[1:4]) / tau_s, c[None]])

    def flow(x: Tensor, span: Tensor | float, steps: int) -> Tensor:
        """The state a time `span` later."""
        h = span / steps
        for _ in range(steps):
            k1 = slopes(x)
            k2 = slopes(x + h / 2 * k1)
            k3 = slopes(x + h / 2 * k2)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + slopes(x + h * k3))
        return x

    def deliver(x: Tensor, weights: Tensor, sent: Tensor, gate: Tensor) -> Tensor:
        """The state after an event: a_X + W^X v, for z times a gate."""
        w = weights.view(3, -1)
        jump = torch.stack([w[0], w[1], gate * w[2]]) * sent
        return torch.cat([x[:1], x[1:4] + jump, x[4:]])

    def first_crossing(x: Tensor, span: float) -> tuple[float, int] | None:
        """(time, unit) of the first crossing seen within `span`."""
        steps = max(1, math.ceil(span / step))
        h = span / steps
        with torch.no_grad():
            for k in range(steps):
                after = flow(x, h, 1)
                found = []
                for n in ((x[0] < threshold) & (after[0] >= threshold)).nonzero().flatten().tolist():
                    low, high = 0.0, h
                    for _ in range(_HALVINGS):
                        middle = (low + high) / 2
                        below = flow(x, middle, 1)[0, n] < threshold[n]
                        low, high = (middle, high) if below else (low, middle)
                    found.append((k * h + high, n))
                if found:
                    return min(found)
                x = after
        return None

    x = torch.cat([state, torch.zeros_like(state[:1])])
    happening = [(t.item(), 0, k, t) for k, t in enumerate(time)]
    happening += [(t.item(), 1, k, t) for k, t in enumerate(asked)]
    happening.append((duration, 2, 0, torch.tensor(duration, dtype=torch.float64)))
    now = torch.zeros((), dtype=torch.float64)
    states, said = [], []
    for _, kind, k, boundary in sorted(happening, key=lambda event: event[:3]):
        while found := first_crossing(x, (boundary - now).item()):
            s, n = found
            steps = max(1, math.ceil(s / step))
            with torch.no_grad():
                there = flow(x, s, steps)
                slope = slopes(there)[0, n]
            moved = flow(x, s, steps)[0, n] - threshold[n]
            span = s - moved / slope
            x, now = flow(x, span, steps), now + span
            sent = x[0, n] if payload == "graded" else torch.ones_like(x[0, n])
            said.append((now, n, sent, slope))
            r = torch.sigmoid(x[2])
            x = deliver(x, recurrent[n], sent, r if gate_of == "target" else r[n])
            left = torch.zeros_like(threshold) if reset == "zero" else x[0] - threshold
            x = torch.cat([torch.where(torch.arange(len(threshold)) == n, left, x[0])[None], x[1:]])
        span = boundary - now
        x, now = flow(x, span, max(1, math.ceil(span.item() / step))), boundary
        if kind == 0:
            gate = torch.sigmoid(x[2]) if gate_of == "target" else torch.ones_like(threshold)
            x = deliver(x, kernel[token[k]], value[k], gate)
        elif kind == 1:
            states.append(x[:4])
    empty = state.new_empty(0)
    when, unit, sent_all, slope_all = zip(*said, strict=True) if said else ((), (), (), ())
    return ContinuousRun(
        torch.stack(when) if said else empty,
        torch.tensor(unit, dtype=torch.int64),
        torch.stack(sent_all) if said else empty,
        torch.stack(slope_all) if said else empty,
        torch.stack(states) if states else state.new_empty(0, *state.shape),
        x[:4],
        x[4],
    )
