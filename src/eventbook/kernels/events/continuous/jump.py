r"""What an event does to all units, and how a gradient passes through it.

    x+ = jump(x-):    a_u,m += W^u_m v      a_r,m += W^r_m v      a_z,m += W^z_m g_m v
    internal event of unit n:  v = c_n(t-) or 1,   then c_n -> 0, or c_n - theta_n
    external event:            v is given

| symbol | meaning | name |
|---|---|---|
| W | what the source sends, blocks u, r, z of one row | `weights`, (3 unit,) |
| g | 1 factor of the candidate: sig(a_r,m) before the event, the target's; or one number, the source's | - |
| v, v' | value, and its derivative along the flow: c_n'(t-) if graded, else 0 | `value`, `growth` |
| lam | gradient of the loss, after and then before the event | `adjoint`, (4, unit) |
| f | right-hand side of the flow | - |
| J | Jacobian of the jump | - |
| S | lam+ . (f(x+) - J f(x-)): what the loss gains per time that the event comes sooner | `sooner` |

With source gates g_n = sig(a_r,n(t-)) for an internal event; an external source has no gate, and g = 1.

    lam_r,m- = lam_r,m+ + lam_z,m+ W^z_m v g_m (1 - g_m)                                target's gate
    lam_r,n- = lam_r,n+ + v g_n (1 - g_n) sum_m lam_z,m+ W^z_m                          source's gate
    P = sum_m (lam_u,m W^u_m + lam_r,m W^r_m + lam_z,m W^z_m g_m)                       gradient of v
    dL/dW^X_m += lam_X,m+ v  (times g_m for X = z)                                      3 per target

Which unit fired, and K = S / c_n'(t-), is the business of `adjoint`. Source: `egru`, continuous time.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

from eventbook.kernels.events.continuous.flow import A_R, A_U, A_Z, C, logistic, slope_of
from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.doors import inside


@inside
@kernel()
def deliver(x, weights, value, by_target, gate):
    """Add an event to the inputs of all units, in place.

    x: (4, unit); weights: (3 unit,). `gate` is the source's, used unless `by_target`. Relies on these shapes.
    """
    units = x.shape[1]
    for m in range(units):
        g = logistic(x[A_R, m]) if by_target else gate
        x[A_U, m] += weights[m] * value
        x[A_R, m] += weights[units + m] * value
        x[A_Z, m] += weights[2 * units + m] * g * value


@inside
@kernel()
def pull_back_jump(
    x,
    bias,
    weights,
    value,
    growth,
    by_target,
    gate,
    gate_growth,
    fired,
    kept,
    tau_s,
    tau_m,
    adjoint,
    to_weights,
):
    """Carry `adjoint` over an event, without K. Returns (S, P, gradient of the source's gate, additions).

    x: (4, unit), before the event; weights, to_weights: (3 unit,). `gate` and its derivative along the flow
    are the source's. `fired` is the unit whose c was reset, or -1; `kept` is 1 if the reset subtracts, 0 if
    it sets to zero. `additions` counts what was added to `to_weights`. Relies on these shapes and on `fired`
    being a unit or -1.
    """
    units = x.shape[1]
    sooner, to_value, to_gate, additions = 0.0, 0.0, 0.0, 0
    for m in range(units):
        w_u, w_r, w_z = weights[m], weights[units + m], weights[2 * units + m]
        lam_u, lam_r, lam_z = adjoint[A_U, m], adjoint[A_R, m], adjoint[A_Z, m]
        g, g_growth = gate, gate_growth
        if by_target:
            g = logistic(x[A_R, m])
            g_growth = g * (1.0 - g) * (bias[1, m] - x[A_R, m]) / tau_s
            adjoint[A_R, m] += lam_z * w_z * value * g * (1.0 - g)
        else:
            to_gate += lam_z * w_z * value
        to_weights[m] += lam_u * value
        to_weights[units + m] += lam_r * value
        to_weights[2 * units + m] += lam_z * g * value
        additions += 3
        to_value += lam_u * w_u + lam_r * w_r + lam_z * w_z * g
        # inputs: after the event they relax from further away; before it the jump itself moves
        sooner -= (lam_u * w_u + lam_r * w_r) * (value / tau_s + growth)
        sooner -= lam_z * w_z * (g * value / tau_s + g * growth + g_growth * value)
        before = slope_of(x[C, m], x[A_U, m], x[A_Z, m], tau_m)
        c = x[C, m]
        if m == fired:
            before *= kept
            c = 0.0  # either reset: it was at its threshold
        after = slope_of(c, x[A_U, m] + w_u * value, x[A_Z, m] + w_z * g * value, tau_m)
        sooner += adjoint[C, m] * (after - before)
    return sooner, to_value, to_gate, additions
