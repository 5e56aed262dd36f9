r"""Event pooling: r events become one, and time is kept.

Group g holds the events g r .. g r + r - 1. What remains of n events are floor(n / r): a partial last group
is dropped, never averaged with padding.

    gap'_g = sum_i gap_{g r + i}                                            (all three)
    last:     v'_g = v_{g r + r - 1}
    average:  v'_g = (1/r) sum_i v_{g r + i}
    time:     v'_g = sum_i w_i v_{g r + i} / sum_i w_i,    w_i = gap_{g r + i} + 1e-6

| symbol | meaning | shape | name |
|---|---|---|---|
| v | values | (batch, time, channel) | `values` |
| gap | time from the event before, milliseconds; 0 for the first | (batch, time) | `gap` |
| r | events in a group | number | `stride` |
| n | events of a row that are no padding | (batch,) | `lengths` |

`last` keeps the LAST member. With gaps that end at their event, the summed gap is then exactly the time
between two kept events, at every stage. The released code keeps the first member with gaps that begin at
their event: the sum belongs to the group before.

These are views and sums of torch: nothing of the size of the input is copied, gradients of both arguments,
of any order, are torch's own.

Source: Schoene et al., arXiv:2404.18508, and its released code (whose mode "last" takes the first member).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eventbook.kernels.machinery.lengths import check_lengths
from eventbook.kernels.machinery.tensors import FLOATING, axes, same_dtype

LEAST_WEIGHT = 1e-6  # milliseconds; keeps the mean of simultaneous events defined


class Pooled(NamedTuple):
    """Values (batch, time // stride, channel), gaps (batch, time // stride) and lengths // stride."""

    values: Float[Tensor, "batch group channel"]
    gap: Float[Tensor, "batch group"]
    lengths: Int[Tensor, " batch"] | None


def pool_last(
    values: Float[Tensor, "batch time channel"],
    gap: Float[Tensor, "batch time"],
    stride: int,
    lengths: Int[Tensor, " batch"] | None = None,
) -> Pooled:
    """Keep the last event of each group.

    Parameters
    ----------
    values, gap
        (batch, time, channel) and (batch, time), both float32 or both float64.
    stride
        Events in a group, at least 1.
    lengths
        Events of each row that are no padding, (batch,) integers.

    Returns
    -------
    Pooled
        Groups from lengths // stride on hold padding and are to be masked.

    Raises
    ------
    ValueError
        If shapes do not fit, stride < 1, or a length is below 0 or above time.
    TypeError
        If dtypes differ.
    """
    grouped, gaps, shorter = _groups(values, gap, stride, lengths)
    return Pooled(grouped[:, :, -1], gaps.sum(2), shorter)


def pool_average(
    values: Float[Tensor, "batch time channel"],
    gap: Float[Tensor, "batch time"],
    stride: int,
    lengths: Int[Tensor, " batch"] | None = None,
) -> Pooled:
    """The mean of each group; otherwise as `pool_last`."""
    grouped, gaps, shorter = _groups(values, gap, stride, lengths)
    return Pooled(grouped.mean(2), gaps.sum(2), shorter)


def pool_time(
    values: Float[Tensor, "batch time channel"],
    gap: Float[Tensor, "batch time"],
    stride: int,
    lengths: Int[Tensor, " batch"] | None = None,
) -> Pooled:
    """The mean of each group, each event weighted by its gap + 1e-6; otherwise as `pool_last`."""
    grouped, gaps, shorter = _groups(values, gap, stride, lengths)
    weights = gaps + LEAST_WEIGHT
    # A product of a row and a matrix: the weighted values are never written.
    summed = torch.einsum("bgi,bgic->bgc", weights, grouped)
    return Pooled(summed / weights.sum(2, keepdim=True), gaps.sum(2), shorter)


def _groups(
    values: Tensor, gap: Tensor, stride: int, lengths: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Views (batch, group, member, channel) and (batch, group, member) of the whole groups."""
    sizes = axes(values=(values, "batch time channel"), gap=(gap, "batch time"))
    same_dtype(FLOATING, values=values, gap=gap)
    if stride < 1:
        raise ValueError(f"stride must be >= 1, got {stride}")
    if lengths is not None:
        axes(values=(values, "batch time channel"), lengths=(lengths, "batch"))
        check_lengths(lengths, sizes["time"])
    count = sizes["time"] // stride
    kept = count * stride
    shorter = None if lengths is None else lengths // stride
    return (
        values[:, :kept].unflatten(1, (count, stride)),
        gap[:, :kept].unflatten(1, (count, stride)),
        shorter,
    )


def pool_reference(
    mode: str, values: Float[Tensor, "time channel"], gap: Float[Tensor, " time"], stride: int
) -> tuple[Float[Tensor, "group channel"], Float[Tensor, " group"]]:
    """Readable twin for one row, event by event; `mode` is "last", "average" or "time"."""
    pooled, gaps = values.new_zeros(len(gap) // stride, values.shape[1]), gap.new_zeros(len(gap) // stride)
    for g in range(len(gaps)):
        weight = 0.0
        for k in range(g * stride, (g + 1) * stride):
            w = {"last": float(k % stride == stride - 1), "average": 1.0, "time": float(gap[k]) + 1e-6}[mode]
            pooled[g] += w * values[k]
            weight += w
            gaps[g] += gap[k]
        pooled[g] /= weight
    return pooled, gaps
