"""Elementary functions against float64 over their whole domain, with the errors that their table states."""

import numpy as np
import pytest

from eventbook.kernels.machinery import elementary as e
from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.vectors import LANES, load, store

N = LANES * 60_000


def applied(function, x):
    @kernel()
    def walk(x, out):
        for i in range(0, x.size, LANES):
            store(out, i, function(load(x, i)))

    out = np.empty_like(x)
    walk(x, out)
    return out.astype(np.float64)


def applied_pair(function, x, y):
    @kernel()
    def walk(x, y, first, second):
        for i in range(0, x.size, LANES):
            a, b = function(load(x, i), load(y, i))
            store(first, i, a)
            store(second, i, b)

    first, second = np.empty_like(x), np.empty_like(x)
    walk(x, y, first, second)
    return first.astype(np.float64), second.astype(np.float64)


def both_sides(largest):
    magnitude = np.logspace(-8, np.log10(largest), N // 2)
    return np.concatenate([-magnitude, magnitude]).astype(np.float32)


def relative_error(function, exact, x):
    expected = exact(x.astype(np.float64))
    return np.max(np.abs(applied(function, x) - expected) / np.abs(expected))


@pytest.mark.parametrize(
    ("function", "exact", "largest", "error"),
    [
        (e.exp, np.exp, 86.9, 1.3e-7),
        (e.exp2, np.exp2, 125.9, 1.3e-7),
        (e.expm1, np.expm1, 86.9, 2.5e-7),
        (e.softplus, lambda x: np.logaddexp(0, x), 80, 3e-7),
        (e.logistic, lambda x: 1 / (1 + np.exp(-x)), 80, 2.5e-7),
        (e.tanh, np.tanh, 80, 3e-7),
    ],
    ids=["exp", "exp2", "expm1", "softplus", "logistic", "tanh"],
)
def test_relative_errors(function, exact, largest, error):
    assert relative_error(function, exact, both_sides(largest)) < error


@pytest.mark.parametrize("largest", [3, 3e3])
def test_turning_exponential(largest):
    y = np.linspace(-largest, largest, N).astype(np.float32)
    x = np.linspace(-30, 4, N).astype(np.float32)[::-1].copy()
    real, imaginary = applied_pair(e.exp2_turning, x, y)
    expected = 2.0 ** x.astype(np.float64) * np.exp(1j * np.pi * y.astype(np.float64))
    assert (np.abs(real + 1j * imaginary - expected) / np.abs(expected)).max() < 2.5e-7


def test_exponentials_saturate_instead_of_overflowing():
    x = np.full(LANES, 1e30, np.float32)
    assert np.isfinite(applied(e.exp, x)).all()
    assert (applied(e.exp, x) > 1e38).all()
    assert (applied(e.exp, -x) < 2e-38).all()
    assert (applied(e.exp2, -x) == 2.0**-126).all()


@pytest.mark.parametrize("function", [e.exp, e.exp2, e.expm1, e.softplus, e.logistic, e.tanh])
def test_what_is_not_a_number_stays_so(function):
    assert np.isnan(applied(function, np.full(LANES, np.nan, np.float32))).all()


def test_nan_in_phase_or_modulus_stays_so():
    nan, one = np.full(LANES, np.nan, np.float32), np.ones(LANES, np.float32)
    for x, y in ((nan, one), (one, nan)):
        assert all(np.isnan(part).all() for part in applied_pair(e.exp2_turning, x, y))


@kernel()
def products(x, out):
    a, b, c = (load(x, 0), load(x, 16)), (load(x, 32), load(x, 48)), (load(x, 64), load(x, 80))
    for i, pair in enumerate((e.times_plus(a, b, c), e.times_conjugate(a, b), e.plus(a, b))):
        store(out, 32 * i, pair[0])
        store(out, 32 * i + 16, pair[1])


def test_products_of_pairs_are_complex_products():
    x = np.random.default_rng(0).standard_normal(96).astype(np.float32)
    out = np.empty(96, np.float32)
    products(x, out)
    a, b, c = (x[k : k + 16] + 1j * x[k + 16 : k + 32] for k in (0, 32, 64))
    found = [out[k : k + 16] + 1j * out[k + 16 : k + 32] for k in (0, 32, 64)]
    np.testing.assert_allclose(found, [a * b + c, a * b.conj(), a + b], rtol=1e-5, atol=1e-6)


def test_a_worse_polynomial_is_noticed():
    """Control: three terms less of the exponential are outside the stated error."""

    @kernel(inline=True)
    def short(x):
        return 1 + x * (1 + x * 0.5)

    x = np.linspace(-0.3, 0.3, N).astype(np.float32)
    assert relative_error(short, np.exp, x) > 1e-3
