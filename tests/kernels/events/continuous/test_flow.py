"""A step of one unit against an adaptive solver, its order, and its transpose against differences."""

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from eventbook.kernels.events.continuous import flow

TAU_S, TAU_M = 5.0, 20.0


def some(units=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, units)) * [[0.3], [2], [2], [2]], rng.normal(size=(3, units))


def stepped(x, bias, length, steps=1):
    x, integral, fade = x.copy(), np.zeros(x.shape[1]), np.empty(4)
    flow.set_fade.kernel(length / steps, TAU_S, fade)
    for _ in range(steps):
        flow.advance.kernel(x, bias, length / steps, fade, TAU_M, integral)
    return x, integral


def exact(x, bias, length):
    n = x.shape[1]

    def slopes(_, y):
        c, a = y[:n], y[n : 4 * n].reshape(3, n)
        rise = (np.tanh(a[2]) - c) / (1 + np.exp(-a[0])) / TAU_M
        return np.concatenate([rise, ((bias - a) / TAU_S).ravel(), c])

    first = np.concatenate([x.ravel(), np.zeros(n)])
    y = solve_ivp(slopes, (0, length), first, method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]
    return y[: 4 * n].reshape(4, n), y[4 * n :]


def test_nodes_and_matrix_are_those_of_gauss():
    nodes, weights, matrix = map(np.array, (flow.NODES, flow.WEIGHTS, flow.MATRIX))
    for power in range(1, 7):  # B(6): exact for polynomials of degree 5
        assert abs(weights @ nodes ** (power - 1) - 1 / power) < 1e-15
    for power in range(1, 4):  # C(3) and D(3)
        assert np.abs(matrix @ nodes ** (power - 1) - nodes**power / power).max() < 1e-15
        transposed = (weights * nodes ** (power - 1)) @ matrix
        assert np.abs(transposed - weights * (1 - nodes**power) / power).max() < 1e-15


def test_a_step_is_the_solution_to_the_sixth_order():
    x, bias = some()
    after, integral = exact(x, bias, 8.0)
    errors = []
    for steps in (2, 4, 8):
        found, summed = stepped(x, bias, 8.0, steps)
        assert np.abs(found[1:] - after[1:]).max() < 1e-12  # inputs are exact
        errors.append([np.abs(found[0] - after[0]).max(), np.abs(summed - integral).max()])
    for error in np.array(errors).T:
        assert 5.5 < math.log2(error[0] / error[2]) / 2 < 7
    assert np.abs(stepped(x, bias, 8.0, 32)[0] - after).max() < 1e-11


def test_a_step_of_no_length_changes_nothing():
    x, bias = some()
    found, integral = stepped(x, bias, 0.0)
    assert np.array_equal(found[0], x[0])
    assert np.abs(found - x).max() < 1e-15
    assert not integral.any()


@pytest.mark.parametrize("length", [1e3, 1e6])
def test_a_step_far_too_long_stays_bounded(length):
    x, bias = some()
    assert np.abs(stepped(x, bias, length)[0][0]).max() < 2


@pytest.mark.parametrize("length", [0.3, 6.0])
def test_the_transposed_step_is_the_gradient_of_the_step(length):
    """At any length: it is the gradient of what was computed, however coarse."""
    x, bias = some(3)
    rng = np.random.default_rng(1)
    to_x, to_integral = rng.normal(size=x.shape), rng.normal(size=3)
    adjoint, to_bias, fade = to_x.copy(), np.zeros((3, 3)), np.empty(4)
    flow.set_fade.kernel(length, TAU_S, fade)
    flow.pull_back.kernel(x, bias, length, fade, TAU_M, to_integral, adjoint, to_bias)

    def loss(x, bias):
        after, integral = stepped(x, bias, length)
        return (to_x * after).sum() + (to_integral * integral).sum()

    for found, at in ((adjoint, 0), (to_bias, 1)):
        for place in np.ndindex(found.shape):
            ends = []
            for by in (1e-3, -1e-3, 5e-4, -5e-4):
                moved = [x.copy(), bias.copy()]
                moved[at][place] += by
                ends.append(loss(*moved))
            wide, narrow = (ends[0] - ends[1]) / 2e-3, (ends[2] - ends[3]) / 1e-3
            assert abs(found[place] - (4 * narrow - wide) / 3) < 1e-10


def test_kernels_for_kernels_are_not_called_from_python():
    with pytest.raises(TypeError, match="callable from kernels alone"):
        flow.set_fade(1.0, TAU_S, np.empty(4))
