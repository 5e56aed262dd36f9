"""Lengths of padded rows: how many elements of each are no padding, and rows without what stands there."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def check_lengths(lengths: Int[Tensor, "batch"], time: int, least: int = 0) -> Int[Tensor, "batch"]:
    """The lengths, if all are in least..time.

    While torch.compile traces there are no values to look at. Then an operator is put into the graph that
    looks at them whenever it runs; what is computed from the lengths that are returned comes after it. If
    nothing is, it falls away: a kernel that looks at its lengths itself needs no other.

    Raises
    ------
    ValueError
        If a length is out of range; names the first.
    TypeError
        If it is no tensor of integers.
    """
    if not isinstance(lengths, Tensor):
        raise TypeError(f"lengths must be a tensor, got {type(lengths).__name__}")
    if lengths.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"lengths must be int64 or int32, got {str(lengths.dtype).removeprefix('torch.')}")
    if lengths.is_meta:
        return lengths
    if torch.compiler.is_compiling():
        looked_at: Tensor = _look_at(lengths, time, least)
        return looked_at
    _refuse(lengths, time, least)
    return lengths


def _refuse(lengths: Tensor, time: int, least: int) -> None:
    bad = (lengths < least) | (lengths > time)
    if bad.any():
        row = int(bad.int().argmax())
        raise ValueError(f"lengths[{row}] must be in {least}..{time} (time), got {int(lengths[row])}")


@torch.library.custom_op("eventbook::lengths", mutates_args=())
def _look_at(lengths: Tensor, time: int, least: int) -> Tensor:
    _refuse(lengths, time, least)
    return lengths.clone()


@_look_at.register_fake
def _(lengths: Tensor, time: int, least: int) -> Tensor:
    return torch.empty_like(lengths)


def without_padding(
    values: Float[Tensor, "batch time channel"], lengths: Int[Tensor, "batch"]
) -> Float[Tensor, "batch time channel"]:
    """The values, 0 behind the length of each row whatever stood there; no gradient goes there.

    A product with a weight or a gradient of 0 would not do: 0 times NaN or inf is NaN.
    """
    here = torch.arange(values.shape[1], device=values.device) < lengths[:, None]
    return torch.where(here[..., None], values, 0)
