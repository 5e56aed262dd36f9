"""Weights of a network end to end, and a plan that says where those of each layer begin.

One compiled loop over layers cannot take a list of arrays of different sizes: it takes a few long ones. The
matrices of a network that `compress` made lie there as compressed rows, those of any other as they are.

| symbol | meaning | shape | name |
|---|---|---|---|
| b, b_r, theta | biases, thresholds, and what events take | (numbers,) | `Packed.vectors` |
| W, R | rows of all layers | (weights,), or `CompressedRows` | `Packed.matrices` |
| - | sizes of each layer, and places | (layers, `Field`) int64 | `Packed.plan` |

Source: derived.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eventbook.kernels.events.compressed_rows import CompressedRows, compressed_rows, end_to_end
from eventbook.kernels.events.csr_matrix import CSRBySource
from eventbook.kernels.machinery.aligned import aligned
from eventbook.kernels.machinery.tensors import array
from eventbook.models.egru.cell import EGRUCell
from eventbook.models.egru.compressed import CompressedCell

Array = NDArray[Any]


class Field(IntEnum):
    """Columns of the plan."""

    INPUTS = 0
    UNITS = 1
    KERNEL = 2  # matrices: positions, or sources of compressed rows
    RECURRENT = 3
    BIAS = 4  # vectors
    RECURRENT_BIAS = 5
    THRESHOLD = 6
    REMOVED = 7  # what an event takes from the state, unless that is its value
    CARRY = 8  # memory
    SPOKEN = 9


MATRICES = {Field.KERNEL: "kernel", Field.RECURRENT: "recurrent_kernel"}


class Packed(NamedTuple):
    """See the module."""

    vectors: Array
    matrices: Array | CompressedRows
    plan: NDArray[np.int64]


def packed(cells: Sequence[EGRUCell]) -> Packed:
    """Copies of the weights of layers; if one of them is compressed, all are."""
    pruned = any(isinstance(cell, CompressedCell) for cell in cells)
    plan = np.zeros((len(cells), len(Field)), np.int64)
    vectors, dense, rows = list[Array](), list[Array](), list[CompressedRows]()
    numbers = places = memory = 0
    for its, cell in zip(plan, cells, strict=True):
        units = cell.hidden_size
        its[Field.INPUTS], its[Field.UNITS] = cell.input_size, units
        its[Field.CARRY], its[Field.SPOKEN] = memory, memory + units
        memory += 2 * units
        for field, vector in _vectors(cell).items():
            its[field], numbers = numbers, numbers + vector.size
            vectors.append(vector)
        for field, name in MATRICES.items():
            its[field] = places
            if pruned:
                rows.append(_rows(cell, name))
                places += rows[-1].cut.size
            else:
                dense.append(array(getattr(cell, name)).reshape(-1))
                places += dense[-1].size
    return Packed(together(vectors), end_to_end(rows) if pruned else together(dense), plan)


def together(pieces: Sequence[Array]) -> Array:
    """One array of all, which begins at a cache line."""
    found = zeros(sum(piece.size for piece in pieces), pieces[0].dtype)
    np.concatenate(pieces, out=found)
    return found


def zeros(size: int, dtype: Any) -> Array:
    """(size,) zeros that begin at a cache line."""
    found: Array = aligned.py_func(size, dtype)
    found[:] = 0
    return found


def _vectors(cell: EGRUCell) -> dict[Field, Array]:
    theta = cell.threshold().detach()
    bias = torch.zeros(3 * cell.hidden_size, dtype=theta.dtype) if cell.bias is None else cell.bias
    return {
        Field.BIAS: array(bias),
        Field.RECURRENT_BIAS: array(cell.recurrent_bias_or_zeros()),
        Field.THRESHOLD: array(theta),
        Field.REMOVED: array(theta if cell.dynamics.reset == "threshold" else torch.zeros_like(theta)),
    }


def _rows(cell: EGRUCell, name: str) -> CompressedRows:
    if isinstance(cell, CompressedCell):
        matrix = cell.rows(name)
    else:
        matrix = CSRBySource.from_dense(getattr(cell, name).detach())
    return compressed_rows(
        matrix.indptr, matrix.indices, matrix.values.detach(), matrix.changes, matrix.targets,
        2 * cell.hidden_size,
    )  # fmt: skip
