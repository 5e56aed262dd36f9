r"""The exact gradient of a run: backwards over the record, with a jump at every event.

Between events the transposed steps of `flow`; weights are touched at events alone, by `jump`. At an internal
event of unit n the time of the event moves with the state. From c_n(t-) = theta_n,

    dt_n = (dtheta_n - dc_n) / c_n'(t-)
    S  = lam+ . (f(x+) - J f(x-)) - G_n c_n(t-)             see `jump`; J has v' and g' of what was sent
    K  = (S - tau_n - v' nu_n) / c_n'(t-)                   tau, nu: gradients of the event's time and value
    lam_c,n- = kept lam_c,n+ + graded (P + nu_n) + K
    dL/dtheta_n -= K + kept lam_c,n+

and for an external event at time t_k with value v_k: dL/dt_k = -S and dL/dv_k = P.

Where this differs from the sheet: there lam_c,n- has the sum P always, which holds for graded values alone (a
value of 1 does not depend on c_n), lam_c,n+ is dropped, which is right for a reset to zero alone, and the
source's gate is left open. As c_n is at theta_n when it fires, both resets are the same map and both values
are functions of theta_n only; the gradients of either reset come out equal.

| symbol | meaning | shape | name |
|---|---|---|---|
| lam | adjoint; in the end the gradient of the first state | (4, unit) | `adjoint` |
| G | gradient of the integral of c | (unit,) | `to_integral` |
| tau, nu | gradients of times and values of events | (event,) | `to_time`, `to_value` |
| K | off as a control: events as if their times were fixed | - | `with_times` |

Symbols and names: `eventbook.kernels.events.continuous.flow`, `jump` and `forward`. Source: `egru`,
continuous time; the variants are derived here.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

import numpy as np

from eventbook.kernels.events.continuous.flow import A_R, C, advance, logistic, pull_back, set_fade
from eventbook.kernels.events.continuous.forward import ASKED, EXTERNAL, INTERNAL
from eventbook.kernels.events.continuous.jump import pull_back_jump
from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.doors import inside


@inside
@kernel()
def run_back(
    value, token, weights, recurrent, bias, events, fired, began, lengths, marks, by_target, kept, graded,
    tau_s, tau_m, with_times, to_time, to_value, to_states, to_integral, adjoint,
):  # fmt: skip
    """Gradients of a loss from those of what `forward.run` returned.

    adjoint: (4, unit), gradient of the last state on entry and of the first on return; to_states: (asked, 4,
    unit); to_integral: (unit,). Relies on a record that `forward.run` made of the other arguments.

    Returns gradients of external times and values, of input and recurrent weights, biases and thresholds, and
    how many additions to weights' gradients were made at external and at internal events.
    """
    units = recurrent.shape[0]
    to_external, to_external_value = np.zeros(value.size), np.zeros(value.size)
    to_weights, to_recurrent = np.zeros(weights.shape), np.zeros(recurrent.shape)
    to_bias, to_threshold = np.zeros((3, units)), np.zeros(units)
    fade, ignored, additions = np.empty(4), np.zeros(units), np.zeros(2, np.int64)
    longest = 0
    for stretch in range(marks.shape[0]):
        longest = max(longest, marks[stretch, 0])
    path = np.empty((longest + 1, 4, units))
    for stretch in range(marks.shape[0] - 1, -1, -1):
        steps, mark, number = marks[stretch, 0], marks[stretch, 1], marks[stretch, 2]
        length, last = lengths[stretch, 0], lengths[stretch, 1]
        # the stretch once more, step by step as it was run
        path[0] = began[stretch]
        set_fade(length, tau_s, fade)
        for k in range(steps):
            path[k + 1] = path[k]
            if k == steps - 1:
                set_fade(last, tau_s, fade)
            advance(path[k + 1], bias, length if k < steps - 1 else last, fade, tau_m, ignored)
        x = path[steps]
        if mark == INTERNAL:
            n = fired[number]
            sent, slope = events[number, 1], events[number, 2]
            growth = slope if graded else 0.0
            gate = logistic(x[A_R, n])
            opening = gate * (1.0 - gate)
            sooner, to_sent, to_gate, added = pull_back_jump(
                x, bias, recurrent[n], sent, growth, by_target, gate,
                opening * (bias[1, n] - x[A_R, n]) / tau_s, n, kept, tau_s, tau_m, adjoint, to_recurrent[n],
            )  # fmt: skip
            sooner -= to_integral[n] * x[C, n]  # the sooner it is reset, the less of c is in its integral
            moved = (sooner - to_time[number] - growth * to_value[number]) / slope if with_times else 0.0
            left = adjoint[C, n] if kept else 0.0
            to_threshold[n] -= moved + left
            adjoint[C, n] = left + moved
            if graded:
                adjoint[C, n] += to_sent + to_value[number]
            adjoint[A_R, n] += to_gate * opening
            additions[1] += added
        elif mark == EXTERNAL:
            sooner, to_sent, _, added = pull_back_jump(
                x, bias, weights[token[number]], value[number], 0.0, by_target, 1.0, 0.0, -1, kept,
                tau_s, tau_m, adjoint, to_weights[token[number]],
            )  # fmt: skip
            to_external[number], to_external_value[number] = -sooner, to_sent
            additions[0] += added
        elif mark == ASKED:
            adjoint[:] += to_states[number]
        for k in range(steps - 1, -1, -1):
            if k >= steps - 2:
                set_fade(last if k == steps - 1 else length, tau_s, fade)
            pull_back(
                path[k], bias, last if k == steps - 1 else length, fade, tau_m, to_integral, adjoint, to_bias
            )
    return (
        to_external, to_external_value, to_weights, to_recurrent, to_bias, to_threshold, additions
    )  # fmt: skip
