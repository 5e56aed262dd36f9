r"""A unit between events: its inputs relax in closed form, its state is one scalar linear equation.

    a_X(s) = b_X + (a_X - b_X) e^(-s/tau_s)                                   exact
    c' = u (z - c) / tau_m      u = sig(a_u(s))   z = tanh(a_z(s))            Gauss, three stages, order 6

| symbol | meaning | name |
|---|---|---|
| c | state | row `C` of `x` |
| a_u, a_r, a_z | inputs of update gate, reset gate and candidate | rows `A_U`, `A_R`, `A_Z` of `x` |
| b_u, b_r, b_z | biases | rows of `bias`, (3, unit) |
| h | length of the step | `length` |
| fade | e^(-xi_i h/tau_s) at the three nodes, and e^(-h/tau_s) | `fade`, (4,) |
| k_i | h u_i / tau_m | in the stages |

Between events no unit hears of another and only c needs a quadrature. Its equation is linear, so that an
implicit Gauss step costs one 3 x 3 system and no iteration, has order 6 and damps for every h. One step
reads, with stages C_i and slopes g_i (times h),

    g_i = k_i (z_i - C_i)      C_i = c + sum_j A_ij g_j      c(h) = c + sum_i w_i g_i
    integral of c = h sum_i w_i C_i

Gauss methods keep bilinear invariants. So the transposed step, which is the gradient of the step as it was
computed, is also the Gauss step of the adjoint equations backwards in time, to the same order. With M =
1 + diag(k) A, lam the gradient of c(h) and G that of the integral:

    y = M^-T (w lam + G h A^T w)        (A^T w)_j = w_j (1 - xi_j)
    gradient of c      lam + G h - y . k
    gradient of u_i    y_i (z_i - C_i) h / tau_m        gradient of z_i    y_i k_i

Source: `egru`, continuous time; Hairer, Lubich, Wanner, Geometric Numerical Integration, II.1.3 (Gauss) and
IV.2.1 (invariants). The arrangement is ours.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

import math

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.doors import inside

C, A_U, A_R, A_Z = range(4)  # rows of a state
B_U, B_R, B_Z = range(3)  # rows of biases, and blocks of a row of weights
ORDER = 6  # of a step, in its length

_S = math.sqrt(15)
NODES = (0.5 - _S / 10, 0.5, 0.5 + _S / 10)
WEIGHTS = (5 / 18, 4 / 9, 5 / 18)
MATRIX = (
    (5 / 36, 2 / 9 - _S / 15, 5 / 36 - _S / 30),
    (5 / 36 + _S / 24, 2 / 9, 5 / 36 - _S / 24),
    (5 / 36 + _S / 30, 2 / 9 + _S / 15, 5 / 36),
)
_X0, _X1, _X2 = NODES
_W0, _W1, _W2 = WEIGHTS
(_A00, _A01, _A02), (_A10, _A11, _A12), (_A20, _A21, _A22) = MATRIX


@inside
@kernel(inline=True)
def logistic(a):
    """1 / (1 + e^-a)."""
    return 1.0 / (1.0 + math.exp(-a))


@inside
@kernel()
def set_fade(length, tau_s, fade):
    """How much of a deviation from the bias is left at the nodes and at the end of a step."""
    fade[0] = math.exp(-_X0 * length / tau_s)
    fade[1] = math.exp(-_X1 * length / tau_s)
    fade[2] = math.exp(-_X2 * length / tau_s)
    fade[3] = math.exp(-length / tau_s)


@inside
@kernel(inline=True)
def _solve(m, r):
    """The solution of m x = r, 3 x 3, without pivoting: minors of 1 + diag(k) A are positive for k >= 0."""
    (a, b, c), (d, e, f), (g, h, i) = m
    p, q = d / a, g / a
    e, f, y = e - p * b, f - p * c, r[1] - p * r[0]
    h, i, z = h - q * b, i - q * c, r[2] - q * r[0]
    s = h / e
    z = (z - s * y) / (i - s * f)
    y = (y - f * z) / e
    return (r[0] - b * y - c * z) / a, y, z


@inside
@kernel(inline=True)
def _gates(a_u, a_z, b_u, b_z, fade):
    """u and z at the three nodes."""
    du, dz = a_u - b_u, a_z - b_z
    u = (
        logistic(b_u + du * fade[0]),
        logistic(b_u + du * fade[1]),
        logistic(b_u + du * fade[2]),
    )
    z = math.tanh(b_z + dz * fade[0]), math.tanh(b_z + dz * fade[1]), math.tanh(b_z + dz * fade[2])
    return u, z


@inside
@kernel(inline=True)
def _stages(c, u, z, rate):
    """k, slopes g and stages C of a step with rate = h / tau_m."""
    k0, k1, k2 = rate * u[0], rate * u[1], rate * u[2]
    system = (
        (1.0 + k0 * _A00, k0 * _A01, k0 * _A02),
        (k1 * _A10, 1.0 + k1 * _A11, k1 * _A12),
        (k2 * _A20, k2 * _A21, 1.0 + k2 * _A22),
    )
    g0, g1, g2 = _solve(system, (k0 * (z[0] - c), k1 * (z[1] - c), k2 * (z[2] - c)))
    stages = (
        c + _A00 * g0 + _A01 * g1 + _A02 * g2,
        c + _A10 * g0 + _A11 * g1 + _A12 * g2,
        c + _A20 * g0 + _A21 * g1 + _A22 * g2,
    )
    return (k0, k1, k2), (g0, g1, g2), stages


@inside
@kernel()
def state_after(c, a_u, a_z, b_u, b_z, fade, rate):
    """c at the end of a step; `fade` and rate = h / tau_m say how long it is."""
    u, z = _gates(a_u, a_z, b_u, b_z, fade)
    _, g, _ = _stages(c, u, z, rate)
    return c + (_W0 * g[0] + _W1 * g[1] + _W2 * g[2])


@inside
@kernel()
def slope_of(c, a_u, a_z, tau_m):
    """dc/dt."""
    return logistic(a_u) * (math.tanh(a_z) - c) / tau_m


@inside
@kernel()
def advance(x, bias, length, fade, tau_m, integral):
    """Move all units by one step in place, and add the integral of c over it.

    x: (4, unit); bias: (3, unit); fade: (4,), of `length`; integral: (unit,). Relies on these shapes.
    """
    rate = length / tau_m
    for n in range(x.shape[1]):
        c = x[C, n]
        u, z = _gates(x[A_U, n], x[A_Z, n], bias[B_U, n], bias[B_Z, n], fade)
        _, g, stages = _stages(c, u, z, rate)
        x[C, n] = c + (_W0 * g[0] + _W1 * g[1] + _W2 * g[2])
        integral[n] += length * (_W0 * stages[0] + _W1 * stages[1] + _W2 * stages[2])
        for block in range(3):
            b = bias[block, n]
            x[1 + block, n] = b + (x[1 + block, n] - b) * fade[3]


@inside
@kernel()
def pull_back(x, bias, length, fade, tau_m, to_integral, adjoint, to_bias):
    """The transposed step: `adjoint` from the step's end to its beginning, gradients of biases added.

    x: (4, unit), the state at the step's beginning; to_integral: (unit,), gradient of the integral of c;
    adjoint: (4, unit); to_bias: (3, unit). Relies on these shapes.
    """
    rate = length / tau_m
    left = fade[3]
    for n in range(x.shape[1]):
        u, z = _gates(x[A_U, n], x[A_Z, n], bias[B_U, n], bias[B_Z, n], fade)
        k, _, stages = _stages(x[C, n], u, z, rate)
        lam, source = adjoint[C, n], to_integral[n] * length
        transposed = (
            (1.0 + k[0] * _A00, k[1] * _A10, k[2] * _A20),
            (k[0] * _A01, 1.0 + k[1] * _A11, k[2] * _A21),
            (k[0] * _A02, k[1] * _A12, 1.0 + k[2] * _A22),
        )
        y = _solve(
            transposed,
            (
                _W0 * (lam + source * (1.0 - _X0)),
                _W1 * (lam + source * (1.0 - _X1)),
                _W2 * (lam + source * (1.0 - _X2)),
            ),
        )
        adjoint[C, n] = lam + source - (y[0] * k[0] + y[1] * k[1] + y[2] * k[2])
        for block in range(3):
            to_bias[block, n] += (1.0 - left) * adjoint[1 + block, n]
            adjoint[1 + block, n] *= left
        for i in range(3):
            to_u = y[i] * (z[i] - stages[i]) * k[i] * (1.0 - u[i])
            to_z = y[i] * k[i] * (1.0 - z[i] * z[i])
            to_bias[B_U, n] += (1.0 - fade[i]) * to_u
            to_bias[B_Z, n] += (1.0 - fade[i]) * to_z
            adjoint[A_U, n] += fade[i] * to_u
            adjoint[A_Z, n] += fade[i] * to_z
