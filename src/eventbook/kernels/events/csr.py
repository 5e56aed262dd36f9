r"""Two kinds of zeros in one product: silent sources, whose row is skipped, and pruned weights, never stored.

    y_j     = sum over i with x_i != 0, over the stored (i, j):  x_i w_ij
    dE/dx_i = sum over the stored j of row i:                    w_ij g_j        i in need (all without it)
    dE/dw_p = sum_b x_i g_j                                      p = (i, j) stored, b in which i spoke

| symbol | meaning | shape | name |
|---|---|---|---|
| x | activity, mostly zeros | (batch, source) | `activity` |
| w | stored weights, source by source | (stored,) | `values` |
| - | target of each stored weight, ascending within a source | (stored,), int32 | `indices` |
| - | first stored weight of each source, and their number at the end | (source + 1,), int64 | `indptr` |

Rows belong to sources: compressed by target, as libraries do for matrix times vector, a silent source could
not be skipped, for its weights are scattered over all rows. The price is that the products are scattered over
y, one by one. That pays if few weights are left; `choice` measures where.

Gradients arise at stored weights only, so pruned ones stay pruned. A thread owns a range of sources for dE/dw
and walks the batch in ascending order: any thread count gives the same bits.

Where nobody listens (`machinery.listeners`) the kernel is called past the operator, on arrays that a proved
matrix remembers: the same kernel, hence the same bits.

Source: derived; `sparse_language_models`, rows with pruned entries.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, unreachable, var-annotated"
# Kernels are typed by Numba, at every call.

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from eventbook.kernels.events.compressed_rows import gathered_dot, scatter, value_gradient
from eventbook.kernels.events.counters import BYTES, COLUMNS, EVENTS, MACS, NEEDED, Operations, no_counts
from eventbook.kernels.events.csr_matrix import CSRBySource, prove, unsigned
from eventbook.kernels.events.matvec import check_mask
from eventbook.kernels.events.rows import find
from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.listeners import nobody_listens
from eventbook.kernels.machinery.tensors import (
    FLOATING,
    array,
    axes,
    fold_into_batch,
    forbid_second_backward,
    same_dtype,
)
from eventbook.kernels.machinery.threads import over_batch

_NO = np.uint32(0)  # offset of targets

# --- kernels: the same code in both precisions -------------------------------------------------------------


@kernel()
def _forward(activity, y, counts, indptr, indices, values, everything):
    """activity: (batch, source); y: (batch, target); indices: uint32, which needs no check for wrapping.

    Adds to `counts`, (batch, `COLUMNS`), unless they are None. Relies on a matrix that was proved, as the
    other kernels of this file do.
    """
    sources, entry = activity.shape[1], values.itemsize + indices.itemsize
    index, value = np.empty(sources, np.int64), np.empty(sources, activity.dtype)
    for row in range(activity.shape[0]):
        events, out, done = find(activity[row], 0, sources, everything, index, value), y[row], 0
        out[:] = 0
        for e in range(events):
            source = index[e]
            done += scatter(out, indices, values, indptr[source], indptr[source + 1], _NO, value[e])
        if counts is not None:
            counts[row, EVENTS] += events
            counts[row, MACS] += done
            counts[row, BYTES] += done * entry


@kernel()
def _messages(gradient, need, to_activity, counts, indptr, indices, values):
    """gradient: (batch, target); need, to_activity: (batch, source). Relies on a proved matrix."""
    entry = values.itemsize + indices.itemsize
    for row in range(need.shape[0]):
        g, out = gradient[row], to_activity[row]
        needed, done = 0, 0
        for i in range(out.size):
            out[i] = 0
            if need[row, i]:
                out[i] = gathered_dot(g, indices, values, indptr[i], indptr[i + 1], _NO)
                needed += 1
                done += indptr[i + 1] - indptr[i]
        counts[row, NEEDED] += needed
        counts[row, MACS] += done
        counts[row, BYTES] += done * entry


# --- torch -------------------------------------------------------------------------------------------------


@torch.library.custom_op("eventbook::event_csr", mutates_args=())
def _event_csr(
    activity: Tensor,
    values: Tensor,
    need: Tensor | None,
    indptr: Tensor,
    indices: Tensor,
    targets: int,
    changes: int,
    everything: bool,
    threads: int,
) -> tuple[Tensor, Tensor]:
    # Changed in place since the proof? A compiled graph calls past the door.
    if changes < 0 or indptr._version + indices._version != changes:
        prove(indptr, indices, targets)
    y, counts = activity.new_empty(activity.shape[0], targets), no_counts(activity.shape[0])
    rows = (array(activity), y.numpy(), counts.numpy())
    over_batch(_forward, threads, rows, array(indptr), unsigned(indices), array(values), everything)
    return y, counts


@_event_csr.register_fake
def _(
    activity: Tensor,
    values: Tensor,
    need: Tensor | None,
    indptr: Tensor,
    indices: Tensor,
    targets: int,
    changes: int,
    everything: bool,
    threads: int,
) -> tuple[Tensor, Tensor]:
    batch = activity.shape[0]
    return activity.new_empty(batch, targets), activity.new_empty(batch, COLUMNS, dtype=torch.int64)


@torch.library.custom_op("eventbook::event_csr_messages", mutates_args=())
def _event_csr_messages(
    gradient: Tensor, need: Tensor, values: Tensor, indptr: Tensor, indices: Tensor, threads: int
) -> tuple[Tensor, Tensor]:
    to_activity, counts = gradient.new_empty(need.shape), no_counts(need.shape[0])
    rows = (array(gradient), array(need), to_activity.numpy(), counts.numpy())
    over_batch(_messages, threads, rows, array(indptr), unsigned(indices), array(values))
    return to_activity, counts


@_event_csr_messages.register_fake
def _(
    gradient: Tensor, need: Tensor, values: Tensor, indptr: Tensor, indices: Tensor, threads: int
) -> tuple[Tensor, Tensor]:
    return gradient.new_empty(need.shape), gradient.new_empty(need.shape[0], COLUMNS, dtype=torch.int64)


@torch.library.custom_op("eventbook::event_csr_value_gradient", mutates_args=())
def _event_csr_value_gradient(
    activity: Tensor, gradient: Tensor, indptr: Tensor, indices: Tensor, threads: int
) -> tuple[Tensor, Tensor]:
    to_values, counts = activity.new_zeros(len(indices)), no_counts(activity.shape[1])
    bounds = array(indptr)
    rows = (array(activity.t()), bounds[:-1], bounds[1:], counts.numpy())
    over_batch(
        value_gradient.kernel, threads, rows, array(gradient), unsigned(indices), False, to_values.numpy()
    )
    return to_values, counts


@_event_csr_value_gradient.register_fake
def _(
    activity: Tensor, gradient: Tensor, indptr: Tensor, indices: Tensor, threads: int
) -> tuple[Tensor, Tensor]:
    counts = activity.new_empty(activity.shape[1], COLUMNS, dtype=torch.int64)
    return activity.new_empty(indices.shape), counts


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    activity, values, need, indptr, indices, _, _, _, ctx.threads = inputs
    ctx.save_for_backward(activity, values, need, indptr, indices)


def _pull_back(ctx: Any, gradient: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    activity, values, need, indptr, indices = ctx.saved_tensors
    to_activity = to_values = None
    if ctx.needs_input_grad[0]:
        if need is None:
            need = torch.ones_like(activity, dtype=torch.bool)
        to_activity, _ = _event_csr_messages(gradient, need, values, indptr, indices, ctx.threads)
    if ctx.needs_input_grad[1]:
        to_values, _ = _event_csr_value_gradient(activity, gradient, indptr, indices, ctx.threads)
    return to_activity, to_values, *[None] * 7


_event_csr.register_autograd(_pull_back, setup_context=_keep)
forbid_second_backward(_event_csr_messages, "event_csr")
forbid_second_backward(_event_csr_value_gradient, "event_csr")
fold_into_batch(_event_csr, (True, False, True, False, False, None, None, None, None))
fold_into_batch(_event_csr_messages, (True, True, False, False, False, None))
fold_into_batch(_event_csr_value_gradient, (False, False, False, False, None))


def event_csr(
    activity: Float[Tensor, "batch source"],
    matrix: CSRBySource,
    *,
    need: Bool[Tensor, "batch source"] | None = None,
    threads: int = 1,
) -> Float[Tensor, "batch target"]:
    """activity @ matrix for a matrix compressed by source, rows of events only.

    Parameters
    ----------
    activity
        (batch, source), float32 or float64, mostly zeros. Whatever is not 0 is an event, NaN included.
    matrix
        Stored weights, of the dtype of `activity`. A pruned weight is no weight: 0 times NaN is not computed.
    need
        (batch, source): where the gradient of `activity` is wanted; it is 0 elsewhere. Complete without it.
    threads
        Threads over the batch, in the gradient of the values over sources.

    Returns
    -------
    y
        (batch, target).

    Raises
    ------
    ValueError
        If shapes do not fit, a tensor is not on the CPU, or `threads` < 1.
    TypeError
        If dtypes differ, `need` is not boolean or `matrix` is of another kind.

    Examples
    --------
    >>> import torch
    >>> matrix = CSRBySource.from_dense(torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 0.0]]))
    >>> event_csr(torch.tensor([[3.0, 0.0]]), matrix)
    tensor([[3., 0., 3.]])
    """
    if need is None and _fits(activity, matrix, threads):
        return _past_torch(activity, matrix, None, False)
    return _checked(activity, matrix, need, False, threads)[0]


def event_csr_counts(
    activity: Float[Tensor, "batch source"],
    matrix: CSRBySource,
    *,
    need: Bool[Tensor, "batch source"] | None = None,
    threads: int = 1,
) -> tuple[Float[Tensor, "batch target"], Int64[Tensor, "batch column"]]:
    """As `event_csr`, with the counts of each row of the batch as the kernel wrote them."""
    return _checked(activity, matrix, need, False, threads)


def event_csr_counted(
    activity: Float[Tensor, "batch source"],
    matrix: CSRBySource,
    *,
    every_row: bool = False,
    threads: int = 1,
) -> tuple[Float[Tensor, "batch target"], Operations]:
    """As `event_csr`, with what it cost; with `every_row` silent sources are read as well."""
    if _fits(activity, matrix, threads):
        counts = no_counts(len(activity))
        y = _past_torch(activity, matrix, counts.numpy(), every_row)
    else:
        y, counts = _checked(activity, matrix, None, every_row, threads)
    return y, Operations.of(counts)


def _fits(activity: Tensor, matrix: CSRBySource, threads: int) -> bool:
    """True if nobody listens and all is as it should be; whatever is wrong, `_checked` says."""
    return (
        type(matrix) is CSRBySource
        and nobody_listens(activity, matrix.values)
        and activity.dim() == 2
        and activity.shape[1] == matrix.sources
        and activity.dtype in FLOATING
        and activity.dtype is matrix.values.dtype
        and activity.is_cpu
        and activity.layout is torch.strided
        and type(threads) is int
        and threads == 1
    )


def _past_torch(activity: Tensor, matrix: CSRBySource, counts: Any, everything: bool) -> Tensor:
    """The product without the operator."""
    indptr, indices, values = matrix.arrays()
    y = activity.new_empty(activity.shape[0], matrix.targets)
    _forward(array(activity), y.numpy(), counts, indptr, indices, values, everything)
    return y


def _checked(
    activity: Tensor, matrix: CSRBySource, need: Tensor | None, everything: bool, threads: int
) -> tuple[Tensor, Tensor]:
    if not isinstance(matrix, CSRBySource):
        raise TypeError(f"matrix must be a CSRBySource, got {type(matrix).__name__}")
    if not torch.compiler.is_compiling():  # else the operator does, when it runs
        matrix.prove()
    if axes(activity=(activity, "batch source"), need=(need, "batch source"))["source"] != matrix.sources:
        raise ValueError(
            f"activity must have one column per source of matrix, {matrix.sources}, got {activity.shape[1]}"
        )
    same_dtype(FLOATING, activity=activity, values=matrix.values)
    check_mask(need)
    return _event_csr(
        activity, matrix.values, need, matrix.indptr, matrix.indices, matrix.targets, matrix.changes,
        everything, threads,
    )  # fmt: skip


def event_csr_reference(
    activity: Float[Tensor, "batch source"], matrix: CSRBySource
) -> Float[Tensor, "batch target"]:
    """Readable twin of `event_csr`, differentiable by torch itself (the full gradient)."""
    row = torch.repeat_interleave(torch.arange(matrix.sources), matrix.indptr.diff())
    products = activity[:, row] * matrix.values
    return activity.new_zeros(len(activity), matrix.targets).index_add(1, matrix.indices.long(), products)
