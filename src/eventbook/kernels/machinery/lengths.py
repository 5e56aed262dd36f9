"""Lengths of padded rows: how many elements of each are no padding."""

import torch
from torch import Tensor


def check_lengths(lengths: Tensor, time: int, least: int = 0) -> None:
    """ValueError that names the first length which is not in least..time; TypeError if they are no integers.

    While torch.compile traces, values are not looked at: a graph has no place to raise from.
    """
    if lengths.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"lengths must be int64 or int32, got {str(lengths.dtype).removeprefix('torch.')}")
    if torch.compiler.is_compiling() or lengths.is_meta:
        return
    bad = (lengths < least) | (lengths > time)
    if bad.any():
        row = int(bad.int().argmax())
        raise ValueError(f"lengths[{row}] must be in {least}..{time} (time), got {int(lengths[row])}")
