"""What every network over events is given, and what it says when that is wrong.

| symbol | meaning | shape | name |
|---|---|---|---|
| token | row of an embedding | (batch, time) int64 | `token` |
| gap | milliseconds since the event before, 0..2^100 | (batch, time) | `gap` |
| n | events of a row that are no padding | (batch,) integers | `lengths` |

`collate` makes such batches; these functions look at those that came from somewhere else. Whether a batch is
one is a matter of shapes, dtypes and lengths (`check_layout`); whether a network can read it is one of values
too (`check_events`). A layer whose scan looks at its gaps anyway needs no more than the first.

While torch.compile traces, values are not looked at: a graph has no place to raise from.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eventbook.kernels.machinery.lengths import check_lengths
from eventbook.kernels.machinery.tensors import FLOATING, array, axes, same_dtype
from eventbook.kernels.scans.event import check_gaps, check_tokens


def check_layout(
    token: Int[Tensor, "batch time"],
    gap: Float[Tensor, "batch time"],
    lengths: Int[Tensor, "batch"] | None = None,
    *,
    least: int = 0,
) -> dict[str, int]:
    """Lengths of the axes "batch" and "time".

    Parameters
    ----------
    token, gap, lengths
        See the module; without lengths there is no padding.
    least
        Events that each row must have.

    Raises
    ------
    ValueError
        If shapes do not fit, or a length is not in least..time; names the first.
    TypeError
        If tokens are not int64, lengths no integers, or gaps no floating-point numbers.
    """
    sizes = axes(token=(token, "batch time"), gap=(gap, "batch time"), lengths=(lengths, "batch"))
    same_dtype(FLOATING, gap=gap)
    if token.dtype != torch.int64:
        raise TypeError(f"token must be int64, got {str(token.dtype).removeprefix('torch.')}")
    if lengths is not None:
        check_lengths(lengths, sizes["time"], least)
    return sizes


def check_rows(token: Int[Tensor, "batch time"], rows: int) -> None:
    """ValueError that names the first token which is no row of 0..rows-1."""
    if not torch.compiler.is_compiling():
        check_tokens(array(token), rows)


def check_times(gap: Float[Tensor, "batch time"]) -> None:
    """ValueError that names the first gap which is not in 0..2^100."""
    if not torch.compiler.is_compiling():
        check_gaps(array(gap))


def check_events(
    token: Int[Tensor, "batch time"],
    gap: Float[Tensor, "batch time"],
    lengths: Int[Tensor, "batch"] | None = None,
    *,
    rows: int,
    least: int = 0,
) -> dict[str, int]:
    """`check_layout`, and values: every token has one of `rows` rows, every gap is a time.

    Raises
    ------
    ValueError
        As `check_layout`, and if a token or a gap is out of range; names the first.
    TypeError
        As `check_layout`.

    Examples
    --------
    >>> check_events(torch.tensor([[4, 2]]), torch.tensor([[0.0, 1.5]]), rows=5)
    {'batch': 1, 'time': 2}
    >>> check_events(torch.tensor([[4, 5]]), torch.tensor([[0.0, 1.5]]), rows=5)
    Traceback (most recent call last):
    ValueError: token must be in 0..4, got 5 at [0, 1]
    """
    sizes = check_layout(token, gap, lengths, least=least)
    check_rows(token, rows)
    check_times(gap)
    return sizes
