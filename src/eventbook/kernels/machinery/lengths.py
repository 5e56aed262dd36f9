"""Lengths of padded rows: how many elements of each are no padding, and rows without what stands there."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def check_lengths(lengths: Tensor, time: int, least: int = 0) -> None:
    """ValueError that names the first length not in least..time; TypeError if it is no tensor of integers.

    While torch.compile traces, values are not looked at: a graph has no place to raise from.
    """
    if not isinstance(lengths, Tensor):
        raise TypeError(f"lengths must be a tensor, got {type(lengths).__name__}")
    if lengths.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"lengths must be int64 or int32, got {str(lengths.dtype).removeprefix('torch.')}")
    if torch.compiler.is_compiling() or lengths.is_meta:
        return
    bad = (lengths < least) | (lengths > time)
    if bad.any():
        row = int(bad.int().argmax())
        raise ValueError(f"lengths[{row}] must be in {least}..{time} (time), got {int(lengths[row])}")


def without_padding(
    values: Float[Tensor, "batch time channel"], lengths: Int[Tensor, "batch"]
) -> Float[Tensor, "batch time channel"]:
    """The values, 0 behind the length of each row whatever stood there; no gradient goes there.

    A product with a weight or a gradient of 0 would not do: 0 times NaN or inf is NaN.
    """
    here = torch.arange(values.shape[1], device=values.device) < lengths[:, None]
    return torch.where(here[..., None], values, 0)
