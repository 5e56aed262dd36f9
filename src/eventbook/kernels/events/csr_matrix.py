r"""A sparse (source, target) matrix whose stored weights lie in the order of sources.

| symbol | meaning | shape | name |
|---|---|---|---|
| w | stored weights, source by source | (stored,) | `values` |
| - | target of each stored weight, ascending within a source | (stored,), int32 | `indices` |
| - | first stored weight of each source, and their number at the end | (source + 1,), int64 | `indptr` |

An index of 32 bits makes a stored weight eight bytes in single precision. Products are in
`eventbook.kernels.events.csr`, which relies on what is checked here: kernels check nothing.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from eventbook.kernels.machinery.tensors import FLOATING, axes, same_dtype


@dataclass(frozen=True)
class CSRBySource:
    """A sparse (source, target) matrix, its stored weights in the order of sources.

    Build it with `from_dense`, `from_torch` or from its parts; each checks. `values` takes part in autograd.
    """

    indptr: Int64[Tensor, "source_and_one"]
    indices: Int32[Tensor, "stored"]
    values: Float[Tensor, "stored"]
    targets: int

    def __post_init__(self) -> None:
        indptr, indices = self.indptr, self.indices
        for name, part in (("indptr", indptr), ("indices", indices), ("values", self.values)):
            if part.ndim != 1 or part.device.type != "cpu":
                raise ValueError(
                    f"{name} must be a vector on the CPU, got {tuple(part.shape)} on {part.device}"
                )
        if (indptr.dtype, indices.dtype) != (torch.int64, torch.int32):
            raise TypeError(
                f"indptr must be int64 and indices int32, got {indptr.dtype} and {indices.dtype}".replace(
                    "torch.", ""
                )
            )
        same_dtype(FLOATING, values=self.values)
        stored = len(self.values)
        if len(indices) != stored:
            raise ValueError(f"indices must have one entry per value, {stored}, got {len(indices)}")
        if len(indptr) == 0 or int(indptr[0]) != 0 or int(indptr[-1]) != stored:
            ends = f"from {int(indptr[0])} to {int(indptr[-1])}" if len(indptr) else "an empty vector"
            raise ValueError(f"indptr must run from 0 to the number of values, {stored}, got {ends}")
        lengths = indptr.diff()
        if bool((lengths < 0).any()):
            raise ValueError(
                f"indptr must not fall, got a fall after source {int((lengths < 0).int().argmax())}"
            )
        outside = (indices < 0) | (indices >= self.targets)
        if bool(outside.any()):
            found = int(indices[outside.int().argmax()])
            raise ValueError(f"indices must be in 0..{self.targets - 1}, got {found}")
        row = torch.repeat_interleave(torch.arange(self.sources), lengths)
        unsorted = (indices.diff() <= 0) & (row.diff() == 0)
        if bool(unsorted.any()):
            at = int(unsorted.int().argmax())
            raise ValueError(
                f"indices must ascend within a source, got {int(indices[at])}, {int(indices[at + 1])} "
                f"in source {int(row[at])}"
            )

    @property
    def sources(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def density(self) -> float:
        """Stored weights as a share of all."""
        return len(self.values) / max(1, self.sources * self.targets)

    @classmethod
    def from_dense(
        cls, matrix: Float[Tensor, "source target"], mask: Bool[Tensor, "source target"] | None = None
    ) -> "CSRBySource":
        """Keep the entries of a mask, or the nonzero ones; gradients of the values reach `matrix`."""
        axes(matrix=(matrix, "source target"))
        if mask is None:
            mask = matrix != 0
        axes(matrix=(matrix, "source target"), mask=(mask, "source target"))
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be bool, got {str(mask.dtype).removeprefix('torch.')}")
        source, target = mask.nonzero(as_tuple=True)
        indptr = torch.zeros(len(matrix) + 1, dtype=torch.int64)
        indptr[1:] = mask.sum(1).cumsum(0)
        return cls(indptr, target.to(torch.int32), matrix[source, target], matrix.shape[1])

    @classmethod
    def from_torch(cls, matrix: Tensor) -> "CSRBySource":
        """From a torch CSR tensor (source, target); unsorted indices are refused."""
        if matrix.layout != torch.sparse_csr or matrix.ndim != 2:
            raise ValueError(f"matrix must be a CSR tensor (source, target), got {matrix.layout}")
        crow, col = matrix.crow_indices().to(torch.int64), matrix.col_indices()
        if len(col) and int(col.max()) > torch.iinfo(torch.int32).max:
            raise ValueError(f"indices must fit 32 bits, got {int(col.max())}")
        return cls(crow, col.to(torch.int32), matrix.values(), matrix.shape[1])

    def with_values(self, values: Float[Tensor, "stored"]) -> "CSRBySource":
        """The same connections with other weights."""
        return replace(self, values=values)

    def to_dense(self) -> Float[Tensor, "source target"]:
        """(source, target), pruned entries 0; differentiable."""
        row = torch.repeat_interleave(torch.arange(self.sources), self.indptr.diff())
        return self.values.new_zeros(self.sources, self.targets).index_put(
            (row, self.indices.long()), self.values
        )
