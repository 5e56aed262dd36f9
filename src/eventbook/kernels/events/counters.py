"""What a kernel did, counted where it happened: a row read, a multiply-accumulate, a byte of weights.

Kernels add to an integer array of shape (rows, 4), each thread to rows of its own, while they work. Nothing
here is derived from activities afterwards, so a kernel that touched a silent row would say so.

| column | meaning |
|---|---|
| events | sources whose row was read or updated because they sent a value |
| needed | sources whose row was read because a gradient may pass through them |
| multiply_accumulates | products that were added up |
| bytes_read | bytes of weights (and, for compressed rows, of their indices) |
"""

from typing import NamedTuple

import torch
from torch import Tensor

EVENTS, NEEDED, MACS, BYTES = range(4)
COLUMNS = 4


class Operations(NamedTuple):
    """Totals of one or several kernel calls."""

    events: int = 0
    needed: int = 0
    multiply_accumulates: int = 0
    bytes_read: int = 0

    @classmethod
    def of(cls, counts: Tensor) -> "Operations":
        """Sum the rows of the (..., 4) integers that a kernel wrote."""
        return cls(*(int(total) for total in counts.reshape(-1, COLUMNS).sum(0)))

    def plus(self, other: "Operations") -> "Operations":
        """Both together."""
        return Operations(*(a + b for a, b in zip(self, other, strict=True)))


def no_counts(rows: int) -> Tensor:
    """Zeros that a kernel adds to."""
    return torch.zeros(rows, COLUMNS, dtype=torch.int64)
