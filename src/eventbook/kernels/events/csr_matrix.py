r"""A sparse (source, target) matrix whose stored weights lie in the order of sources.

| symbol | meaning | shape | name |
|---|---|---|---|
| w | stored weights, source by source | (stored,) | `values` |
| - | target of each stored weight, ascending within a source | (stored,), int32 | `indices` |
| - | first stored weight of each source, and their number at the end | (source + 1,), int64 | `indptr` |

An index of 32 bits makes a stored weight eight bytes in single precision. Products are in
`eventbook.kernels.events.csr`, which relies on what is checked here: kernels check nothing.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Int64
from numpy.typing import NDArray
from torch import Tensor

from eventbook.kernels.machinery.indices import Proof
from eventbook.kernels.machinery.tensors import FLOATING, array, axes, same_dtype

MOST = torch.iinfo(torch.int32).max  # targets that an index can number


def prove(indptr: Tensor, indices: Tensor, targets: int) -> None:
    """ValueError unless kernels may read rows of `indices` by `indptr`, and targets by those."""
    stored = len(indices)
    if len(indptr) == 0 or int(indptr[0]) != 0 or int(indptr[-1]) != stored:
        ends = f"from {int(indptr[0])} to {int(indptr[-1])}" if len(indptr) else "an empty vector"
        raise ValueError(f"indptr must run from 0 to the number of values, {stored}, got {ends}")
    falls = indptr[1:] < indptr[:-1]  # a difference could wrap around
    if bool(falls.any()):
        raise ValueError(f"indptr must not fall, got a fall after source {int(falls.int().argmax())}")
    outside = (indices < 0) | (indices >= targets)
    if bool(outside.any()):
        found = int(indices[outside.int().argmax()])
        raise ValueError(f"indices must be in 0..{targets - 1}, got {found}")
    row = torch.repeat_interleave(torch.arange(len(indptr) - 1), indptr.diff())
    unsorted = (indices[1:] <= indices[:-1]) & (row.diff() == 0)
    if bool(unsorted.any()):
        at = int(unsorted.int().argmax())
        raise ValueError(
            f"indices must ascend within a source, got {int(indices[at])}, {int(indices[at + 1])} "
            f"in source {int(row[at])}"
        )


def unsigned(proved: Tensor) -> NDArray[np.uint32]:
    """Proved indices as kernels read them: an unsigned one needs no check for wrapping around."""
    return array(proved).view(np.uint32)


class _Views:
    """The arrays of a matrix, and how its tensors were when they were taken; a copy of it remembers nothing.

    The arrays hold the memory that they show, so another tensor cannot come to lie at the same address.
    """

    __slots__ = ("taken",)

    def __init__(self) -> None:
        self.taken: tuple[Any, Any] = (None, None)  # one attribute: threads see both or none

    def __reduce__(self) -> tuple[type["_Views"], tuple[()]]:
        return _Views, ()


@dataclass(frozen=True)
class CSRBySource:
    """A sparse (source, target) matrix, its stored weights in the order of sources.

    Build it with `from_dense`, `from_torch` or from its parts; each checks, and products check again what was
    changed in place since. `values` takes part in autograd.
    """

    indptr: Int64[Tensor, "source_and_one"]
    indices: Int32[Tensor, "stored"]
    values: Float[Tensor, "stored"]
    targets: int

    _proofs: tuple[Proof, Proof] = field(
        default_factory=lambda: (Proof(), Proof()), repr=False, compare=False
    )
    # a class as the factory would not be traced by torch.compile
    _views: _Views = field(default_factory=lambda: _Views(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, part in (("indptr", self.indptr), ("indices", self.indices), ("values", self.values)):
            if part.ndim != 1 or not part.is_cpu:
                raise ValueError(
                    f"{name} must be a vector on the CPU, got {tuple(part.shape)} on {part.device}"
                )
        if (self.indptr.dtype, self.indices.dtype) != (torch.int64, torch.int32):
            raise TypeError(
                f"indptr must be int64 and indices int32, got {self.indptr.dtype} and "
                f"{self.indices.dtype}".replace("torch.", "")
            )
        same_dtype(FLOATING, values=self.values)
        if not (isinstance(self.targets, int) and 0 <= self.targets <= MOST):
            raise ValueError(f"targets must be an integer in 0..{MOST}, got {self.targets}")
        if not torch.compiler.is_compiling():  # else products do, when they run
            self.prove()

    def prove(self) -> None:
        """Check the connections if they are new or were changed in place since the last time.

        Raises
        ------
        ValueError
            If `indptr` does not ascend from 0 to the number of values, or `indices` do not ascend within a
            source or leave 0..targets - 1.
        """
        stored = self.values.numel()
        if self.indices.numel() != stored or self.values.ndim != 1:
            raise ValueError(f"indices must have one entry per value, {stored}, got {self.indices.numel()}")
        bound = (self.targets, stored)
        of_indptr, of_indices = self._proofs
        if not (of_indptr.stands(bound, self.indptr) and of_indices.stands(bound, self.indices)):
            prove(self.indptr, self.indices, self.targets)
            of_indptr.remember(bound, self.indptr)
            of_indices.remember(bound, self.indices)

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[Any]]:
        """`indptr`, `indices` (unsigned) and `values` as kernels read them, proved.

        Views are taken once and remembered. They show what is written into the tensors; tensors that lie
        elsewhere since, or in another way, are looked at again. What cannot be viewed is copied, every time.

        Raises
        ------
        ValueError
            As `prove`.
        """
        self.prove()
        values, changes = self.values, self.changes
        now = (
            values.data_ptr(), values.dtype, values.numel(), values.is_contiguous(),
            self.indptr.data_ptr(), self.indices.data_ptr(), changes,
        )  # fmt: skip
        before, arrays = self._views.taken
        if before == now:
            return arrays
        tensors = self.indptr, self.indices, values.detach()
        arrays = array(self.indptr.detach()), unsigned(self.indices.detach()), array(values.detach())
        if changes >= 0 and all(a.ctypes.data == t.data_ptr() for a, t in zip(arrays, tensors, strict=True)):
            self._views.taken = now, arrays
        return arrays

    @property
    def changes(self) -> int:
        """Changes in place of `indptr` and `indices` up to the last proof; -1 if nobody counts them."""
        one, other = self._proofs
        return one.changes + other.changes if one.changes >= 0 and other.changes >= 0 else -1

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
        if len(col) and int(col.max()) > MOST:
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
