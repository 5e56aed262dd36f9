r"""The products of `rows` for a matrix whose rows hold stored weights alone: what was pruned is never read.

    add_rows      y_j += sum_e v_e sum over stored (i_e, j) of w             sum_e nnz(row i_e) products
    dot_rows      m_i  = sum over stored (i, j) of w g_j, i in a list        sum_i nnz(row i)
    add_columns, dot_columns     the same with the columns before `cut`, or with those from it on

| symbol | meaning | shape | name |
|---|---|---|---|
| - | first stored weight of each source, and their number at the end | (source + 1,), int64 | `begin` |
| - | first stored weight of each source whose target is in the last part | (source,), int64 | `cut` |
| - | target of each stored weight, ascending within a source | (stored,), uint32 | `indices` |
| w | stored weights, source by source | (stored,) | `values` |

A kernel that is given these names and a `CompressedRows` where it expects a flat matrix is compiled for it:
the recurrence of the event-based GRU is one text for dense and for pruned rows. Its kernels ask for two parts
of a row, columns 0 : 2 H and 2 H : 3 H, so that one cut is enough; `stride` has no meaning here.

Each element of y receives its terms in ascending order of events, as from dense rows.

Source: derived; `sparse_language_models`, event kernel with sparse rows.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, unreachable, var-annotated"
# Kernels are typed by Numba, at every call.

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray
from torch import Tensor

from eventbook.kernels.events.counters import EVENTS, MACS
from eventbook.kernels.events.csr_matrix import prove, unsigned
from eventbook.kernels.events.rows import add_columns, add_rows, bytes_each, dot_columns, dot_rows, part
from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.doors import inside
from eventbook.kernels.machinery.tensors import array


class CompressedRows(NamedTuple):
    """A proved matrix as kernels take it."""

    begin: NDArray[np.int64]
    cut: NDArray[np.int64]
    indices: NDArray[np.uint32]
    values: NDArray[Any]


@kernel()
def _find_cuts(begin, indices, column, cut):
    """Relies on a proved matrix, and on room for one number a source in `cut`."""
    for source in range(cut.size):
        low, high = begin[source], begin[source + 1]
        while low < high:
            middle = (low + high) // 2
            if indices[middle] < column:
                low = middle + 1
            else:
                high = middle
        cut[source] = low


def compressed_rows(
    indptr: Tensor, indices: Tensor, values: Tensor, changes: int, targets: int, column: int
) -> CompressedRows:
    """Rows of a matrix, cut before a column; ValueError if it was not proved and is no good.

    Parameters
    ----------
    indptr, indices, values, targets
        Parts of a `CSRBySource`.
    changes
        Of the matrix when it was proved; -1 if nobody counts. A compiled graph calls past the door.
    column
        First of the last part.
    """
    if changes < 0 or indptr._version + indices._version != changes:
        prove(indptr, indices, targets)
    begin, targets_of = array(indptr), unsigned(indices)
    cut = np.empty(begin.size - 1, np.int64)
    _find_cuts(begin, targets_of, column, cut)
    return CompressedRows(begin, cut, targets_of, array(values))


def end_to_end(matrices: Sequence[CompressedRows]) -> CompressedRows:
    """Rows of several matrices as those of one, of which `part` takes each."""
    before = np.cumsum([0, *(its.values.size for its in matrices)])
    begins = [its.begin[:-1] + first for its, first in zip(matrices, before, strict=False)]
    cuts = [its.cut + first for its, first in zip(matrices, before, strict=False)]
    return CompressedRows(
        np.concatenate([*begins, before[-1:]]), np.concatenate(cuts),
        np.concatenate([its.indices for its in matrices]), np.concatenate([its.values for its in matrices]),
    )  # fmt: skip


@inside
@kernel(inline=True)
def scatter(out, indices, values, first, last, offset, v):
    """out[indices[p] - offset] += v values[p].

    Places are unsigned: a signed one is compared with 0 at every use. Reading four targets before they are
    written was slower by a tenth. Relies on a proved matrix. Returns how many they were.
    """
    for p in range(np.uint64(first), np.uint64(last)):
        out[indices[p] - offset] += v * values[p]
    return last - first


@inside
@kernel(fastmath=frozenset({"reassoc", "contract"}), inline=True)
def gathered_dot(vector, indices, values, first, last, offset):
    """Sum of values[p] vector[indices[p] - offset], in the order that suits the machine.

    Relies on a proved matrix.
    """
    total = values.dtype.type(0)
    for p in range(first, last):
        total += values[p] * vector[indices[p] - offset]
    return total


@inside
@kernel()
def value_gradient(spoken, first, last, counts, gradient, indices, everything, to_values):
    """to_values[p] += sum over the batch of x_i g_j for the stored (i, j) = p, first[i] <= p < last[i].

    spoken: (source, batch); first, last: (source,); gradient: (batch, target). With `everything` silent
    sources are walked, too. Relies on a proved matrix.
    """
    for source in range(spoken.shape[0]):
        events, done = 0, 0
        for row in range(spoken.shape[1]):
            x = spoken[source, row]
            if everything or x != 0:
                g = gradient[row]
                events += 1
                for p in range(first[source], last[source]):
                    to_values[p] += x * g[indices[p]]
                done += last[source] - first[source]
        counts[source, EVENTS] += events
        counts[source, MACS] += done


@kernel()
def _add(first, last, indices, values, offset, index, value, count, out):
    """Relies on a proved matrix and on events that `find` wrote."""
    done = 0
    for e in range(count):
        source = index[e]
        done += scatter(out, indices, values, first[source], last[source], offset, value[e])
    return done


@kernel()
def _dot(first, last, indices, values, offset, index, count, vector, out):
    """Relies on a proved matrix and on sources that exist."""
    done = 0
    for e in range(count):
        source = index[e]
        out[source] = gathered_dot(vector, indices, values, first[source], last[source], offset)
        done += last[source] - first[source]
    return done


@overload(add_rows)
def _add_rows(matrix, index, value, count, out):
    if not isinstance(matrix, types.BaseTuple):
        return None
    zero = np.uint32(0)
    return lambda matrix, index, value, count, out: _add(
        matrix.begin[:-1], matrix.begin[1:], matrix.indices, matrix.values, zero, index, value, count, out
    )


@overload(dot_rows)
def _dot_rows(matrix, index, count, vector, out):
    if not isinstance(matrix, types.BaseTuple):
        return None
    zero = np.uint32(0)
    return lambda matrix, index, count, vector, out: _dot(
        matrix.begin[:-1], matrix.begin[1:], matrix.indices, matrix.values, zero, index, count, vector, out
    )


@overload(add_columns)
def _add_columns(matrix, stride, start, index, value, count, out):
    if not isinstance(matrix, types.BaseTuple):
        return None

    def run(matrix, stride, start, index, value, count, out):
        first = matrix.cut if start else matrix.begin[:-1]
        last = matrix.begin[1:] if start else matrix.cut
        return _add(first, last, matrix.indices, matrix.values, np.uint32(start), index, value, count, out)

    return run


@overload(dot_columns)
def _dot_columns(matrix, stride, start, index, count, vector, out):
    if not isinstance(matrix, types.BaseTuple):
        return None

    def run(matrix, stride, start, index, count, vector, out):
        first = matrix.cut if start else matrix.begin[:-1]
        last = matrix.begin[1:] if start else matrix.cut
        return _dot(first, last, matrix.indices, matrix.values, np.uint32(start), index, count, vector, out)

    return run


@overload(bytes_each)
def _bytes_each(matrix):
    if not isinstance(matrix, types.BaseTuple):
        return None
    return lambda matrix: matrix.values.itemsize + matrix.indices.itemsize


@overload(part)
def _part(matrices, at, sources, width):
    if not isinstance(matrices, types.BaseTuple):
        return None

    def run(matrices, at, sources, width):
        begin, cut = matrices.begin[at : at + sources + 1], matrices.cut[at : at + sources]
        return CompressedRows(begin, cut, matrices.indices, matrices.values)

    return run
