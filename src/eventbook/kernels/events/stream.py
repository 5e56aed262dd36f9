r"""A product that is fed one input after the other, its weights and its memory prepared once.

    stream = ProductStream(matrix)
    y = stream.push(x)                 x @ matrix for one input, or for several in a row

`event_csr` and `event_matvec` look at their weights at every call, for anybody may have changed them, ask who
listens, and make a tensor of the result. Here the weights are a copy that nobody else can reach, proved once,
and NumPy arrays come and go, so that a call costs what its events cost and little more. There are no
gradients. A stream belongs to one thread.

| symbol | meaning | shape | name |
|---|---|---|---|
| x | activity, mostly zeros | (source,) or (time, source) | `x` |
| y | what the targets receive | (target,) or (time, target) | - |

Source: derived from `csr` and `matvec`, whose kernels it runs.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from eventbook.kernels.events import csr, matvec
from eventbook.kernels.events.counters import COLUMNS, Operations
from eventbook.kernels.events.csr_matrix import CSRBySource
from eventbook.kernels.machinery.aligned import aligned
from eventbook.kernels.machinery.tensors import FLOATING, axes, copy, same_dtype

Array = NDArray[Any]


def real_numbers(x: ArrayLike, dtype: np.dtype[Any]) -> Array:
    """Input as a kernel compiled for `dtype` reads it; TypeError if it is no real numbers."""
    given = np.asarray(x)
    if given.dtype is not dtype and given.dtype.kind not in "fiub":  # NumPy would cut or parse them
        raise TypeError(f"x must be real numbers, got {given.dtype}")
    return np.require(given, dtype, ["C", "A", "W"])


class ProductStream:
    """One matrix, ready for input after input; see the module.

    Parameters
    ----------
    matrix
        Weights as they are now, of float32 or float64: (source, target), or compressed by source.

    Raises
    ------
    ValueError
        If a tensor has another number of axes or is not on the CPU, or if a compressed matrix was changed in
        place so that it is none any more.
    TypeError
        If it is neither, or of another dtype.

    Examples
    --------
    >>> stream = ProductStream(torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 0.0]]))
    >>> stream.push([3.0, 0.0])
    array([3., 0., 3.], dtype=float32)
    >>> stream.push(np.eye(2)).shape, stream.operations().events
    ((2, 3), 3)
    """

    def __init__(self, matrix: Float[Tensor, "source target"] | CSRBySource) -> None:
        self._weights: tuple[Array, ...]
        if isinstance(matrix, CSRBySource):
            same_dtype(FLOATING, matrix=matrix.values)
            own = CSRBySource(copy(matrix.indptr), copy(matrix.indices), copy(matrix.values), matrix.targets)
            self.sources, self.targets = own.sources, own.targets
            self._kernel, self._weights = csr._forward, own.arrays()
        elif isinstance(matrix, Tensor):
            axes(matrix=(matrix, "source target"))
            if not matrix.is_cpu:
                raise ValueError(f"matrix must be on the CPU, where the kernels run, got {matrix.device}")
            same_dtype(FLOATING, matrix=matrix)
            self.sources, self.targets = matrix.shape
            self._kernel, self._weights = matvec._forward, (copy(matrix).numpy().reshape(-1),)
        else:
            raise TypeError(f"matrix must be a tensor or a CSRBySource, got {type(matrix).__name__}")
        self._dtype = self._weights[-1].dtype
        self._y = aligned.py_func(self.targets, self._dtype)[None]
        self._counts = np.zeros((1, COLUMNS), np.int64)

    def push(self, x: ArrayLike) -> Array:
        """Multiply one input, or several.

        Parameters
        ----------
        x
            (source,), or (time, source). Whatever is not 0 is an event, NaN included.

        Returns
        -------
        numpy.ndarray
            (target,), or (time, target), of the dtype of the weights.

        Raises
        ------
        ValueError
            If the shape is another one.
        TypeError
            If they are no real numbers.
        """
        given = real_numbers(x, self._dtype)
        if given.shape == (self.sources,):
            self._kernel(given[None], self._y, self._counts, *self._weights, False)
            return self._y[0].copy()
        if given.ndim != 2 or given.shape[1] != self.sources:
            raise ValueError(
                f"x must be (source,) or (time, source) with {self.sources} sources, got shape {given.shape}"
            )
        y = np.empty((len(given), self.targets), self._dtype)
        counts = np.zeros((len(given), COLUMNS), np.int64)
        self._kernel(given, y, counts, *self._weights, False)
        self._counts += counts.sum(0)
        return y

    def operations(self) -> Operations:
        """What was done since the start."""
        return Operations.of(torch.from_numpy(self._counts))
