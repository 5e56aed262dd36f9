"""Sparse layer kernels against their twins and scipy.sparse, over shapes, densities and batches."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.kernels.machinery.lanes import new_lanes
from eventbook.kernels.rewiring.products import (
    from_lanes,
    sparse_gradients,
    sparse_gradients_reference,
    sparse_product,
    sparse_product_reference,
    sparse_weight_gradient,
    to_lanes,
)


def problem(n_in, n_out, connections, batch, seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    index = np.sort(rng.choice(n_in * n_out, connections, replace=False)).astype(np.int64)
    weight = rng.standard_normal(connections).astype(dtype)
    x = rng.standard_normal((batch, n_in)).astype(dtype)
    g = rng.standard_normal((batch, n_out)).astype(dtype)
    return index, weight, x, g


def run(index, weight, x, g):
    lanes = to_lanes(x)
    y = np.full(g.shape, np.nan, x.dtype)
    dw, dw_alone, dx = np.full_like(weight, np.nan), np.full_like(weight, np.nan), np.full_like(x, np.nan)
    sparse_product(lanes, weight, index, y)
    sparse_gradients(g, lanes, weight, index, dw, dx)
    sparse_weight_gradient(g, lanes, index, dw_alone)
    np.testing.assert_array_equal(dw, dw_alone)
    return y, dw, dx


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_equals_twin_and_scipy(data):
    n_in, n_out = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    connections = data.draw(st.integers(0, n_in * n_out))
    batch = data.draw(st.sampled_from([0, 1, 2, 3, 10, 15, 16, 17, 33]))
    index, weight, x, g = problem(n_in, n_out, connections, batch, data.draw(st.integers(0, 1000)))
    y, dw, dx = run(index, weight, x, g)
    np.testing.assert_allclose(y, sparse_product_reference(x, weight, index, n_out), rtol=0, atol=1e-10)
    dw_twin, dx_twin = sparse_gradients_reference(g, x, weight, index)
    np.testing.assert_allclose(dw, dw_twin, rtol=0, atol=1e-10)
    np.testing.assert_allclose(dx, dx_twin, rtol=0, atol=1e-10)

    row, col = np.divmod(index, n_in)
    matrix = sp.csr_array((weight, (row, col)), shape=(n_out, n_in))
    np.testing.assert_allclose(y, (matrix @ x.T).T, rtol=0, atol=1e-10)
    np.testing.assert_allclose(dx, (matrix.T @ g.T).T, rtol=0, atol=1e-10)
    np.testing.assert_allclose(dw, (g.T @ x)[row, col], rtol=0, atol=1e-10)


@pytest.mark.parametrize("batch", [1, 10, 100])
def test_float32_is_float32_accurate(batch):
    index, weight, x, g = problem(784, 300, 2352, batch, 0, np.float32)
    exact = run(index, weight.astype(float), x.astype(float), g.astype(float))
    for single, double in zip(run(index, weight, x, g), exact, strict=True):
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, double, rtol=0, atol=2e-5)


def test_comparison_notices_one_wrong_connection():
    index, weight, x, g = problem(30, 20, 100, 10, 0)
    y, _, _ = run(index, weight, x, g)
    weight[50] = -weight[50]
    assert np.abs(y - sparse_product_reference(x, weight, index, 20)).max() > 1e-3


def test_padding_lanes_are_zero():
    lanes = to_lanes(np.ones((10, 3)))
    assert lanes.shape == (3, 16)
    assert lanes[:, :10].all()
    assert not lanes[:, 10:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [0, 1, 2, 15, 16, 17, 32, 100])
@pytest.mark.parametrize("n", [1, 15, 16, 33, 784])
def test_lanes_are_the_transpose_and_back(n, batch, dtype):
    x = np.random.default_rng(0).standard_normal((batch, n)).astype(dtype)
    lanes, back = to_lanes(x), np.full_like(x, np.nan)
    np.testing.assert_array_equal(lanes[:, :batch], x.T)
    from_lanes(lanes, back)
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_lanes_begin_at_a_cache_line(dtype):
    for n in range(1, 30):
        assert new_lanes(n, 16, np.empty(0, dtype)).ctypes.data % 64 == 0


def test_mixed_dtypes_are_refused():
    index, weight, x, g = problem(5, 4, 6, 3, 0)
    with pytest.raises(Exception, match="one dtype"):
        sparse_product(to_lanes(x), weight, index, g.astype(np.float32))


def test_memory_is_linear_in_connections_and_batch():
    n, connections = 200_000, 5_000  # the dense matrix would take 320 GB
    index, weight, x, g = problem(10, 10, 10, 2, 0)
    run(index, weight, x, g)
    rng = np.random.default_rng(0)
    index = np.unique(rng.integers(0, n * n, connections))
    weight, x, g = rng.standard_normal(index.size), rng.standard_normal((1, n)), rng.standard_normal((1, n))
    y, dw, dx = run(index, weight, x, g)
    row, col = np.divmod(index, n)
    np.testing.assert_allclose(dw, g[0, row] * x[0, col])
    np.testing.assert_allclose(y[0].sum(), (weight * x[0, col]).sum())
    np.testing.assert_allclose(dx[0].sum(), (weight * g[0, row]).sum())
    tracemalloc.start()
    run(index, weight, x, g)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 8 * (index.size + 4 * n)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda a: {**a, "x_lanes": a["x_lanes"][:, :5]},
            r"x_lanes must be \(any, 16\) of float",
        ),
        (lambda a: {**a, "x_lanes": np.ones((5, 32))}, r"x_lanes must be \(any, 16\)"),
        (lambda a: {**a, "y": np.ones((17, 4))}, r"x_lanes must be \(any, 32\)"),
        (lambda a: {**a, "y": np.ones((3, 2))}, r"index must be in 0\.\.9, got"),
        (lambda a: {**a, "y": np.ones(3)}, r"y must be \(any, any\)"),
        (lambda a: {**a, "weight": np.ones(5)}, "index must have one entry per entry of weight, 5"),
    ],
)
def test_lanes_outputs_and_weights_that_do_not_fit(change, message):
    index, weight, x, g = problem(5, 4, 6, 3, 0)
    arguments = {"x_lanes": to_lanes(x), "weight": weight, "index": index, "y": g}
    with pytest.raises(ValueError, match=message):
        sparse_product(**change(arguments))


def test_lanes_that_are_not_of_the_output():
    lanes = to_lanes(np.ones((3, 5)))
    for out in (np.ones((17, 5)), np.ones((3, 6)), np.ones(3), np.ones((3, 5), int)):
        with pytest.raises(ValueError, match=r"(lanes|out) must be"):
            from_lanes(lanes, out)
    with pytest.raises(ValueError, match=r"x must be \(any, any\) of float.*, got .* of complex128"):
        to_lanes(np.ones((3, 5), complex))


def test_a_gradient_of_the_input_that_has_another_shape():
    index, weight, x, g = problem(5, 4, 6, 3, 0)
    for shape in ((3, 6), (2, 5), (15,)):
        with pytest.raises(ValueError, match=r"x_gradient must be \(3, 5\)"):
            sparse_gradients(g, to_lanes(x), weight, index, np.ones(6), np.ones(shape))
