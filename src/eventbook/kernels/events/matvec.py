r"""A matrix-vector product that reads the rows of events only, and its gradient.

    y_j = sum_i x_i R[i, j]                 over the i with x_i != 0
    dE/dx_i = sum_j R[i, j] g_j             over the i in need (all, if no need is given)
    dE/dR[i, j] = sum_b x_i g_j             rows with an event; the others are exactly 0

| symbol | meaning | shape | name |
|---|---|---|---|
| x | activity, mostly zeros | (batch, source) | `activity` |
| R | outgoing weights of each source | (source, target) | `matrix` |
| y | what the targets receive | (batch, target) | `y` |
| g | gradient that arrives at y | (batch, target) | `gradient` |
| need | sources whose gradient matters | (batch, source), bool | `need` |

Silence is not the same in both directions. A silent source adds nothing to y, but its gradient is in general
not 0: the loss would change if it spoke. So the full gradient reads all of R. Whoever knows that the gradient
at some sources will be multiplied by zero (a unit far from its threshold) says so with `need`; the gradient
is then exact there and 0 elsewhere.

The gradient of R needs no second kernel: row i is the sum of the g of those batch elements in which i spoke,
which is the same product with (activity transposed, g) in place of (activity, R). Each row is summed by one
thread over the batch in ascending order, so any thread count gives the same bits.

Where nobody listens (`machinery.listeners`) the kernel is called past the operator: the same kernel, hence
the same bits.

Source: derived; the event-driven product of `egru` and `sparse_language_models`.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, unreachable, var-annotated"
# Kernels are typed by Numba, at every call.

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from eventbook.kernels.events.counters import BYTES, COLUMNS, EVENTS, MACS, NEEDED, Operations, no_counts
from eventbook.kernels.events.rows import add_rows, dot_rows, find
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


@kernel()
def _forward(activity, y, counts, matrix, everything):
    """activity: (batch, source); y: (batch, target); matrix: flat.

    Adds to `counts`, (batch, `COLUMNS`), unless they are None.
    """
    sources = activity.shape[1]
    index, value = np.empty(sources, np.int64), np.empty(sources, activity.dtype)
    for row in range(activity.shape[0]):
        events = find(activity[row], 0, sources, everything, index, value)
        out = y[row]
        out[:] = 0
        done = add_rows(matrix, index, value, events, out)
        if counts is not None:
            counts[row, EVENTS] += events
            counts[row, MACS] += done
            counts[row, BYTES] += done * matrix.itemsize


@kernel()
def _messages(gradient, need, to_activity, counts, matrix):
    """gradient: (batch, target); need, to_activity: (batch, source); matrix: flat."""
    sources = need.shape[1]
    index, value = np.empty(sources, np.int64), np.empty(sources, need.dtype)
    for row in range(need.shape[0]):
        needed = find(need[row], 0, sources, False, index, value)
        out = to_activity[row]
        out[:] = 0
        done = dot_rows(matrix, index, needed, gradient[row], out)
        counts[row, NEEDED] += needed
        counts[row, MACS] += done
        counts[row, BYTES] += done * matrix.itemsize


@kernel()
def _row_gradient(spoken, to_matrix, counts, gradient, everything):
    """spoken: (source, batch), the activity transposed; to_matrix: (source, target); gradient: flat."""
    batch = spoken.shape[1]
    index, value = np.empty(batch, np.int64), np.empty(batch, spoken.dtype)
    for source in range(spoken.shape[0]):
        events = find(spoken[source], 0, batch, everything, index, value)
        if events:
            counts[source, EVENTS] += events
            counts[source, MACS] += add_rows(gradient, index, value, events, to_matrix[source])


def row_gradient(activity: Tensor, gradient: Tensor, everything: bool, threads: int) -> tuple[Tensor, Tensor]:
    """Sum over the batch of outer(activity, gradient), rows of events only, and what was counted."""
    to_matrix = activity.new_zeros(activity.shape[1], gradient.shape[1])
    counts = no_counts(activity.shape[1])
    rows = (array(activity.t()), to_matrix.numpy(), counts.numpy())
    over_batch(_row_gradient, threads, rows, array(gradient).reshape(-1), everything)
    return to_matrix, counts


# --- torch -------------------------------------------------------------------------------------------------


@torch.library.custom_op("eventbook::event_matvec", mutates_args=())
def _event_matvec(
    activity: Tensor, matrix: Tensor, need: Tensor | None, everything: bool, threads: int
) -> tuple[Tensor, Tensor]:
    y, counts = activity.new_empty(activity.shape[0], matrix.shape[1]), no_counts(activity.shape[0])
    rows = (array(activity), y.numpy(), counts.numpy())
    over_batch(_forward, threads, rows, array(matrix).reshape(-1), everything)
    return y, counts


@_event_matvec.register_fake
def _(
    activity: Tensor, matrix: Tensor, need: Tensor | None, everything: bool, threads: int
) -> tuple[Tensor, Tensor]:
    batch = activity.shape[0]
    return activity.new_empty(batch, matrix.shape[1]), activity.new_empty(batch, COLUMNS, dtype=torch.int64)


@torch.library.custom_op("eventbook::event_matvec_messages", mutates_args=())
def _event_matvec_messages(
    gradient: Tensor, need: Tensor, matrix: Tensor, threads: int
) -> tuple[Tensor, Tensor]:
    to_activity, counts = gradient.new_empty(need.shape), no_counts(need.shape[0])
    rows = (array(gradient), array(need), to_activity.numpy(), counts.numpy())
    over_batch(_messages, threads, rows, array(matrix).reshape(-1))
    return to_activity, counts


@_event_matvec_messages.register_fake
def _(gradient: Tensor, need: Tensor, matrix: Tensor, threads: int) -> tuple[Tensor, Tensor]:
    return gradient.new_empty(need.shape), gradient.new_empty(need.shape[0], COLUMNS, dtype=torch.int64)


@torch.library.custom_op("eventbook::event_matvec_row_gradient", mutates_args=())
def _event_matvec_row_gradient(
    activity: Tensor, gradient: Tensor, everything: bool, threads: int
) -> tuple[Tensor, Tensor]:
    return row_gradient(activity, gradient, everything, threads)


@_event_matvec_row_gradient.register_fake
def _(activity: Tensor, gradient: Tensor, everything: bool, threads: int) -> tuple[Tensor, Tensor]:
    sources = activity.shape[1]
    return activity.new_empty(sources, gradient.shape[1]), activity.new_empty(
        sources, COLUMNS, dtype=torch.int64
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    activity, matrix, need, ctx.everything, ctx.threads = inputs
    ctx.save_for_backward(activity, matrix, need)


def _pull_back(ctx: Any, gradient: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    activity, matrix, need = ctx.saved_tensors
    to_activity = to_matrix = None
    if ctx.needs_input_grad[0]:
        if need is None:
            need = torch.ones_like(activity, dtype=torch.bool)
        to_activity, _ = _event_matvec_messages(gradient, need, matrix, ctx.threads)
    if ctx.needs_input_grad[1]:
        to_matrix, _ = _event_matvec_row_gradient(activity, gradient, ctx.everything, ctx.threads)
    return to_activity, to_matrix, None, None, None


_event_matvec.register_autograd(_pull_back, setup_context=_keep)
forbid_second_backward(_event_matvec_messages, "event_matvec")
forbid_second_backward(_event_matvec_row_gradient, "event_matvec")
fold_into_batch(_event_matvec, (True, False, True, None, None))
fold_into_batch(_event_matvec_messages, (True, True, False, None))
fold_into_batch(_event_matvec_row_gradient, (False, False, None, None))


def check_mask(need: Tensor | None) -> None:
    """TypeError if `need` is given and not boolean."""
    if need is not None and need.dtype != torch.bool:
        raise TypeError(f"need must be bool, got {str(need.dtype).removeprefix('torch.')}")


def event_matvec(
    activity: Float[Tensor, "batch source"],
    matrix: Float[Tensor, "source target"],
    *,
    need: Bool[Tensor, "batch source"] | None = None,
    threads: int = 1,
) -> Float[Tensor, "batch target"]:
    """activity @ matrix, reading the rows of nonzero activities only.

    Parameters
    ----------
    activity
        (batch, source), float32 or float64, mostly zeros. Whatever is not 0 is an event, NaN included.
    matrix
        (source, target), row = outgoing weights of a source; the dtype of `activity`.
    need
        (batch, source): where the gradient of `activity` is wanted; it is 0 elsewhere. Without it the
        gradient is complete, which reads every row. Does not change the gradient of `matrix`.
    threads
        Threads over the batch, in the gradient of `matrix` over its rows. Bits do not depend on it.

    Returns
    -------
    y
        (batch, target).

    Raises
    ------
    ValueError
        If shapes do not fit, a tensor is not on the CPU, or `threads` < 1.
    TypeError
        If dtypes differ or `need` is not boolean.

    Examples
    --------
    >>> import torch
    >>> event_matvec(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]]))
    tensor([[2., 4., 6.]])
    """
    if need is None and _fits(activity, matrix, threads):
        return _past_torch(activity, matrix, None, False)
    return event_matvec_counts(activity, matrix, need=need, threads=threads)[0]


def event_matvec_counts(
    activity: Float[Tensor, "batch source"],
    matrix: Float[Tensor, "source target"],
    *,
    need: Bool[Tensor, "batch source"] | None = None,
    threads: int = 1,
) -> tuple[Float[Tensor, "batch target"], Int64[Tensor, "batch column"]]:
    """As `event_matvec`, with the counts of `Operations.of`, which torch can trace."""
    axes(activity=(activity, "batch source"), matrix=(matrix, "source target"), need=(need, "batch source"))
    same_dtype(FLOATING, activity=activity, matrix=matrix)
    check_mask(need)
    return _event_matvec(activity, matrix, need, False, threads)


def event_matvec_counted(
    activity: Float[Tensor, "batch source"],
    matrix: Float[Tensor, "source target"],
    *,
    every_row: bool = False,
    threads: int = 1,
) -> tuple[Float[Tensor, "batch target"], Operations]:
    """As `event_matvec`, with what it cost.

    Parameters
    ----------
    activity, matrix, threads
        As there.
    every_row
        Read the rows of silent sources as well: the dense product by the same code, for honest comparisons.
    """
    if _fits(activity, matrix, threads):
        counts = no_counts(len(activity))
        return _past_torch(activity, matrix, counts.numpy(), every_row), Operations.of(counts)
    axes(activity=(activity, "batch source"), matrix=(matrix, "source target"))
    same_dtype(FLOATING, activity=activity, matrix=matrix)
    y, counts = _event_matvec(activity, matrix, None, every_row, threads)
    return y, Operations.of(counts)


def _fits(activity: Tensor, matrix: Tensor, threads: int) -> bool:
    """True if nobody listens and all is as it should be; whatever is wrong, the other way says."""
    return (
        nobody_listens(activity, matrix)
        and activity.dim() == matrix.dim() == 2
        and activity.shape[1] == matrix.shape[0]
        and activity.dtype in FLOATING
        and activity.dtype is matrix.dtype
        and activity.is_cpu
        and matrix.is_cpu
        and activity.layout is matrix.layout is torch.strided
        and type(threads) is int
        and threads == 1
    )


def _past_torch(activity: Tensor, matrix: Tensor, counts: Any, everything: bool) -> Tensor:
    """The product without the operator."""
    y = activity.new_empty(activity.shape[0], matrix.shape[1])
    _forward(array(activity), y.numpy(), counts, array(matrix).reshape(-1), everything)
    return y


def event_matvec_reference(
    activity: Float[Tensor, "batch source"], matrix: Float[Tensor, "source target"]
) -> Float[Tensor, "batch target"]:
    """Readable twin of `event_matvec`, differentiable by torch itself (the full gradient)."""
    return (activity.unsqueeze(2) * matrix).sum(1)
