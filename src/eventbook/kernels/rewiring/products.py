r"""A linear layer over K connections: product, gradient to the K weights, gradient to the input.

    y[n, i]        = sum over connections k in row i of  w_k x[n, j_k]
    dE/dw_k        = sum over n of  dE/dy[n, i_k] x[n, j_k]
    dE/dx[n, j]    = sum over connections k in column j of  w_k dE/dy[n, i_k]

Connections are stored by ascending flat index i n_in + j, that is sorted by output row, so that row and
column follow from one walk without a division and without row pointers: after rewiring there is nothing to
keep in step. Inside, batches are turned to batch-last (feature, lane) with lanes padded to a multiple of
16; each connection is then one vector operation. Time O(batch (K + n_in + n_out)), memory O(K) plus that
batch scratch; no array of shape (n_out, n_in) exists, least of all a gradient.

| symbol | meaning | shape | name |
|---|---|---|---|
| x | input | (batch, n_in) | `x` |
| w_k | weight of connection k | (K,) | `weight` |
| (i_k, j_k) | output row and input column | (K,) int64 | `index` = i_k n_in + j_k, ascending |
| y | output | (batch, n_out) | `y` |

Source: derived. Products are the ordinary ones of a sparse matrix; the layout is ours.
"""
# mypy: disable-error-code="no-untyped-def, call-arg"
# Kernels are typed by Numba, at every call.

import numpy as np

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.doors import door, inside
from eventbook.kernels.machinery.lanes import LANES, add_scaled, dot, new_lanes, transpose_block
from eventbook.kernels.rewiring.checks import (
    check_batch,
    check_from_lanes,
    check_gradients,
    check_product,
    check_weight_gradient,
)


@kernel(inline=True)
def lanes_of(batch):
    """Lanes for a batch: one image stays one lane (streaming), everything else fills whole vectors."""
    return batch if batch < 2 else (batch + LANES - 1) // LANES * LANES


@kernel()
def _transpose(x, rows, columns, out):
    """out[j, i] = x[i, j] for i < rows, j < columns: blocks of 16 x 16 in registers, the rest one by one.

    Relies on arrays that are at least as large.
    """
    whole = columns // LANES * LANES
    for first in range(0, rows, LANES):
        last = min(first + LANES, rows)
        begin = 0
        if last - first == LANES:
            for j in range(0, whole, LANES):
                transpose_block(x, first, j, out)
            begin = whole
        for j in range(begin, columns):
            for i in range(first, last):
                out[j, i] = x[i, j]


@door(check_batch)
@kernel()
def to_lanes(x):
    """(batch, n) -> (n, lanes), missing lanes zero."""
    batch, n = x.shape
    width = lanes_of(batch)
    out = new_lanes(n, width, x)
    _transpose(x, batch, n, out)
    for i in range(n):
        for b in range(batch, width):
            out[i, b] = 0
    return out


@door(check_from_lanes)
@kernel()
def from_lanes(lanes, out):
    """(n, lanes) -> out (batch, n)."""
    batch, n = out.shape
    _transpose(lanes, n, batch, out)


@inside
@kernel()
def product_of_lanes(source, weight, index, out):
    """out (n_out, lanes) = W source, for source (n_in, lanes) and connections sorted by row.

    Relies on indices in [0, n_in n_out), ascending.
    """
    n_in = source.shape[0]
    out[:] = 0
    row, start = 0, 0
    for k in range(index.size):
        while index[k] >= start + n_in:
            row += 1
            start += n_in
        add_scaled(out, row, weight[k], source, index[k] - start)


@inside
@kernel()
def gradients_of_lanes(outgoing, source, weight, index, gradient, incoming):
    """gradient (K,) = dE/dw and incoming (n_in, lanes) = W^T outgoing, in one walk over the connections.

    Relies on indices in [0, n_in n_out), ascending.
    """
    n_in = source.shape[0]
    incoming[:] = 0
    row, start = 0, 0
    for k in range(index.size):
        while index[k] >= start + n_in:
            row += 1
            start += n_in
        col = index[k] - start
        gradient[k] = dot(outgoing, row, source, col)
        add_scaled(incoming, col, weight[k], outgoing, row)


@inside
@kernel()
def weight_gradient_of_lanes(outgoing, source, index, gradient):
    """gradient (K,) = dE/dw alone, where the input needs no gradient.

    Relies on indices in [0, n_in n_out), ascending.
    """
    n_in = source.shape[0]
    row, start = 0, 0
    for k in range(index.size):
        while index[k] >= start + n_in:
            row += 1
            start += n_in
        gradient[k] = dot(outgoing, row, source, index[k] - start)


@door(check_product)
@kernel()
def sparse_product(x_lanes, weight, index, y):
    """Write y = x W^T for connections sorted by row.

    Parameters
    ----------
    x_lanes : (n_in, lanes), from `to_lanes`
    weight : (K,), the dtype of x
    index : (K,) int64, ascending flat indices i n_in + j
    y : (batch, n_out), overwritten
    """
    y_lanes = new_lanes(y.shape[1], x_lanes.shape[1], y)
    product_of_lanes(x_lanes, weight, index, y_lanes)
    from_lanes(y_lanes, y)


@door(check_weight_gradient)
@kernel()
def sparse_weight_gradient(y_gradient, x_lanes, index, weight_gradient):
    """Write dE/dw of the K connections and of no other; y_gradient (batch, n_out), weight_gradient (K,)."""
    weight_gradient_of_lanes(to_lanes(y_gradient), x_lanes, index, weight_gradient)


@door(check_gradients)
@kernel()
def sparse_gradients(y_gradient, x_lanes, weight, index, weight_gradient, x_gradient):
    """Write dE/dw of the K connections (K,) and dE/dx (batch, n_in) in one walk over the connections."""
    x_gradient_lanes = new_lanes(*x_lanes.shape, x_lanes)
    gradients_of_lanes(to_lanes(y_gradient), x_lanes, weight, index, weight_gradient, x_gradient_lanes)
    from_lanes(x_gradient_lanes, x_gradient)


def sparse_product_reference(x, weight, index, n_out):
    """Readable twin of `sparse_product`: (batch, n_in) -> (batch, n_out)."""
    row, col = np.divmod(index, x.shape[1])
    y = np.zeros((x.shape[0], n_out), x.dtype)
    for k in range(index.size):
        y[:, row[k]] += weight[k] * x[:, col[k]]
    return y


def sparse_gradients_reference(y_gradient, x, weight, index):
    """Readable twin of `sparse_gradients`: returns dE/dw (K,) and dE/dx (batch, n_in)."""
    row, col = np.divmod(index, x.shape[1])
    weight_gradient = np.zeros_like(weight)
    x_gradient = np.zeros_like(x)
    for k in range(index.size):
        weight_gradient[k] = np.sum(y_gradient[:, row[k]] * x[:, col[k]])
        x_gradient[:, col[k]] += weight[k] * y_gradient[:, row[k]]
    return weight_gradient, x_gradient
