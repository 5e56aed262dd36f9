r"""Event pooling as a layer sees it: which state of a group goes on, and what its other two paths become.

    states          the one at the group's `kept` member
    feed-through    mode last: that of the `kept` member;  average, time: the mean over the group
    and skip        (weights 1, or gap + 1e-6)
    gap'            the sum of the gaps of the group

The paths of vectors are `eventbook.kernels.encoders.pooling`; those of rows of a table, which are averaged
without being copied out first, stand here.

With gaps that end at their event (aligned), keep the last member: the summed gap is then the time between
kept events, at every stage. The released code has gaps that begin at their event and keeps the first member,
of the states in every mode; then the summed gap belongs to the group before.

Source: the released code of arXiv:2404.18508.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from eventbook.kernels.encoders.pooling import (
    LEAST_WEIGHT,
    Pooled,
    pool_average,
    pool_last,
    pool_time,
)
from eventbook.kernels.machinery.lengths import check_lengths
from eventbook.kernels.machinery.tensors import array, axes
from eventbook.kernels.scans.event import check_tokens

MODES = {"last": pool_last, "average": pool_average, "time": pool_time}
KEPT = ("last", "first")


def keep(
    x: Float[Tensor, "batch time channel"], stride: int, kept: str
) -> Float[Tensor, "batch group channel"]:
    """The kept member of each whole group, contiguous; complex numbers too."""
    start = stride - 1 if kept == "last" else 0
    whole = x.shape[1] // stride * stride
    return x[:, start:whole:stride].contiguous()


def pool_vectors(
    mode: str,
    kept: str,
    values: Float[Tensor, "batch time channel"],
    gap: Float[Tensor, "batch time"],
    stride: int,
    lengths: Int[Tensor, "batch"],
) -> Pooled:
    """Pool vectors by mode; errors are those of `pool_last`."""
    pooled = MODES[mode](values, gap, stride, lengths)
    if mode == "last" and kept == "first":
        return pooled._replace(values=keep(values, stride, kept))
    return pooled


def pool_rows(
    mode: str,
    kept: str,
    table: Float[Tensor, "row channel"],
    token: Int[Tensor, "batch time"],
    gap: Float[Tensor, "batch time"],
    stride: int,
    lengths: Int[Tensor, "batch"],
) -> Pooled:
    """`pool_vectors` of the rows that tokens name, without writing a row for each event.

    Raises
    ------
    ValueError
        If shapes do not fit, stride < 1, a token has no row, or a length is below 0 or above time; names the
        first.
    TypeError
        If tokens or lengths are no integers.
    """
    axes(token=(token, "batch time"), gap=(gap, "batch time"), lengths=(lengths, "batch"))
    if stride < 1:
        raise ValueError(f"stride must be >= 1, got {stride}")
    if token.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"token must be int64 or int32, got {str(token.dtype).removeprefix('torch.')}")
    batch, time = token.shape
    check_lengths(lengths, time)
    if not torch.compiler.is_compiling():
        check_tokens(array(token), len(table))
    groups = time // stride
    grouped = gap[:, : groups * stride].unflatten(1, (groups, stride))
    if mode == "last":
        values = functional.embedding(keep(token[..., None], stride, kept)[..., 0], table)
        return Pooled(values, grouped.sum(2), lengths // stride)
    bags = token[:, : groups * stride].reshape(batch * groups, stride)
    weights = torch.ones_like(grouped) if mode == "average" else grouped + LEAST_WEIGHT
    weights = weights / weights.sum(2, keepdim=True)
    summed = functional.embedding_bag(bags, table, mode="sum", per_sample_weights=weights.reshape(bags.shape))
    return Pooled(summed.view(batch, groups, table.shape[1]), grouped.sum(2), lengths // stride)
