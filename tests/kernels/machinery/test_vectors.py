"""The vector type: arithmetic and memory, lane by lane, against NumPy; never beyond the lanes it is given."""

import numpy as np
import pytest

from eventbook.kernels.machinery import vectors as v
from eventbook.kernels.machinery.compile import kernel

LANES = v.LANES
X = np.linspace(-3, 4, LANES, dtype=np.float32)
Y = np.linspace(2, -5, LANES, dtype=np.float32)


@kernel()
def arithmetic(x, y, out):
    a, b = v.load(x, 0), v.load(y, 0)
    v.store(out, 0, a + b)
    v.store(out, 16, a - b)
    v.store(out, 32, a * b)
    v.store(out, 48, a / b)
    v.store(out, 64, -a)
    v.store(out, 80, v.minimum(a, b))
    v.store(out, 96, v.maximum(a, b))
    v.store(out, 112, v.absolute(a))
    v.store(out, 128, v.where(a < b, a, b * 10))
    v.store(out, 144, 2 * a + np.float32(0.5))
    return v.lane_sum(a)


def test_arithmetic_is_that_of_numpy():
    out = np.empty(160, np.float32)
    total = arithmetic(X, Y, out)
    expected = [
        X + Y, X - Y, X * Y, X / Y, -X, np.minimum(X, Y), np.maximum(X, Y), np.abs(X),
        np.where(X < Y, X, Y * 10), 2 * X + np.float32(0.5),
    ]  # fmt: skip
    np.testing.assert_allclose(out.reshape(10, LANES), expected, rtol=2e-7)
    assert abs(total - X.sum(dtype=np.float64)) < 1e-5


@kernel()
def compared(x, y, out):
    a, b = v.load(x, 0), v.load(y, 0)
    one, zero = v.splat(1.0), v.splat(0.0)
    v.store(out, 0, v.where(a < b, one, zero))
    v.store(out, 16, v.where(a <= b, one, zero))
    v.store(out, 32, v.where(a > b, one, zero))
    v.store(out, 48, v.where(a >= b, one, zero))


def test_comparisons_with_nan_are_false():
    x, y = X.copy(), X.copy()
    x[:4], y[4:8], x[8:12] = np.nan, np.nan, 100
    out = np.empty(64, np.float32)
    compared(x, y, out)
    with np.errstate(invalid="ignore"):
        expected = [x < y, x <= y, x > y, x >= y]
    np.testing.assert_array_equal(out.reshape(4, LANES), expected)


@kernel()
def integers(x, out):
    rounded = v.load(x, 0) + np.float32(v.ROUNDER)
    v.store(out, 0, rounded - np.float32(v.ROUNDER))
    v.store(out, 16, v.times_two_to(v.splat(1.5), rounded))
    v.store(out, 32, v.negated_if_odd(v.splat(1.0), rounded))


def test_integers_live_in_the_low_bits():
    x = np.array([-7.4, -6.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4.4, 5, 6, 7], np.float32)
    out = np.empty(48, np.float32)
    integers(x, out)
    n = np.rint(x).astype(int)
    expected = [n, 1.5 * 2.0**n, (-1.0) ** n]
    np.testing.assert_array_equal(out.reshape(3, LANES), expected)


@kernel()
def copy_part(a, out, start, n):
    v.store_part(out, start, n, v.load_part(a, start, n))


@kernel()
def copy_first(a, out, start, n):
    v.store_first(out, start, n, v.load_first(a, start, n))


@kernel()
def widen(a, out, start, n):
    v.store(out, 0, v.load_part(a, start, n))
    v.store(out, LANES, v.load_first(a, start, n))


@kernel()
def swap_pairs(a, out, n):
    real, imaginary = v.load_pairs_part(a, 0, n)
    v.store_pairs_part(out, 0, n, imaginary, real)
    return v.lane_sum(real)


@pytest.mark.parametrize("n", range(LANES + 1))
def test_parts_touch_the_first_lanes_only(n):
    a = np.arange(1, 41, dtype=np.float32)
    out = np.empty(40, np.float32)
    for copy in (copy_part, copy_first):
        out[:] = -1
        copy(a, out, 3, n)
        assert np.array_equal(out[3 : 3 + n], a[3 : 3 + n])
        assert (np.delete(out, slice(3, 3 + n)) == -1).all()
    widen(a, out, 3, n)
    for lanes in (out[:LANES], out[LANES : 2 * LANES]):
        assert np.array_equal(lanes, np.pad(a[3 : 3 + n], (0, LANES - n)))
    out[:] = -1
    total = swap_pairs(a, out, n)
    assert np.array_equal(out[: 2 * n].reshape(-1, 2), a[: 2 * n].reshape(-1, 2)[:, ::-1])
    assert (out[2 * n :] == -1).all()
    assert total == a[: 2 * n : 2].sum()


@kernel()
def whole_pairs(a, out, past):
    real, imaginary = v.load_pairs(a, 0)
    if past:
        v.stream_pairs(out, 0, real, -imaginary)
        v.stream(out, 32, real)
    else:
        v.store_pairs(out, 0, real, -imaginary)
        v.store(out, 32, real)


@pytest.mark.parametrize("past", [False, True])
def test_pairs_are_taken_apart_and_put_together(past):
    a = np.arange(32, dtype=np.float32)
    buffer = np.zeros(48 * 4 + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    out = buffer[start : start + 48 * 4].view(np.float32)
    whole_pairs(a, out, past)
    assert np.array_equal(out[:32].view(np.complex64), a.view(np.complex64).conj())
    assert np.array_equal(out[32:], a[::2])


@pytest.mark.parametrize(
    "array", [np.zeros(64), np.zeros((8, 8), np.float32), np.zeros(64, np.float32)[::2]], ids=["float64",
    "2-d", "strided"]
)  # fmt: skip
def test_other_arrays_are_refused_when_compiling(array):
    with pytest.raises(TypeError, match="contiguous 1-d float32 arrays"):
        copy_part(array, array, 0, 1)
