r"""Proofs about indices: kernels read and write through them unchecked, so they are proved where they enter.

    check_index(index, potential)        K flat indices, strictly ascending in [0, potential)
    check_places(places, size)           any order, repetitions allowed, all in [0, size)
    check_vectors(theta=..., index=...)  vectors of one length
    Proof                                remembers that tensors were proved, until one of them changes

A proof costs a walk over the indices, once: at construction, when a state is loaded, and after a change.
Torch counts the in-place changes of a tensor, which makes a change cheap to notice. It does not count what is
written through `tensor.data`, a NumPy view or another process; whoever writes there has to call
`torch.autograd.graph.increment_version`.
"""
# mypy: disable-error-code="no-untyped-def"
# Kernels are typed by Numba, at every call.

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eventbook.kernels.machinery.compile import kernel

INT64 = np.dtype(np.int64)
LARGEST = int(np.iinfo(np.int64).max)


@kernel()
def _ascends(index):
    """True if every index is above the one before it; all are looked at, which is vector code.

    Relies on nothing: it finds out.
    """
    falls = False
    for k in range(1, index.size):
        falls |= index[k] <= index[k - 1]
    return not falls


@kernel()
def _first_outside(places, size):
    """Position of the first entry outside [0, size); -1 if none. Relies on nothing: it finds out."""
    for k in range(places.size):
        if places[k] < 0 or places[k] >= size:
            return k
    return -1


def int64_vector(index: Any, name: str) -> NDArray[np.int64]:
    """The int64 vector as a NumPy array; ValueError if it is something else."""
    if isinstance(index, Tensor):
        if not index.is_cpu:
            raise ValueError(f"{name} must be on the CPU, where the kernels run, got {index.device}")
        index = index.detach().numpy()
    array: NDArray[np.int64] = np.asarray(index)
    if array.ndim != 1 or array.dtype != INT64:
        raise ValueError(f"{name} must be a vector of int64, got shape {array.shape} of {array.dtype}")
    return array


def check_index(index: Any, potential: int = LARGEST, name: str = "index") -> None:
    """Prove flat indices.

    Parameters
    ----------
    index
        (K,) int64, NumPy or torch.
    potential
        Bound of the indices, M; the largest integer if the caller knows none.

    Raises
    ------
    ValueError
        Unless they are strictly ascending and in [0, potential).

    Examples
    --------
    >>> check_index(np.array([0, 3, 3]), 10)
    Traceback (most recent call last):
    ValueError: index must ascend, got 3 after 3 at position 2
    """
    array = int64_vector(index, name)
    if not 0 <= potential <= LARGEST:
        raise ValueError(f"potential must be in 0..{LARGEST}, got {potential}")
    if array.size == 0 or (array[0] >= 0 and array[-1] < potential and _ascends(array)):
        return
    fallen = np.flatnonzero(array[1:] <= array[:-1]) + 1
    outside = np.flatnonzero((array < 0) | (array >= potential))
    if outside.size and (fallen.size == 0 or outside[0] <= fallen[0]):
        at = outside[0]
        raise ValueError(f"{name} must be in 0..{potential - 1}, got {array[at]} at position {at}")
    at = fallen[0]
    raise ValueError(f"{name} must ascend, got {array[at]} after {array[at - 1]} at position {at}")


def check_places(places: Any, size: int, name: str) -> None:
    """ValueError unless `places`, a vector of int64, are all in [0, size)."""
    array = int64_vector(places, name)
    at = _first_outside(array, size)
    if at >= 0:
        raise ValueError(f"{name} must be in 0..{size - 1}, got {array[at]} at position {at}")


def check_vectors(**arrays: Any) -> None:
    """ValueError unless all are vectors of one length, that of the first."""
    first, expected = "", None
    for name, array in arrays.items():
        shape = getattr(array, "shape", None)
        if expected is None:
            if shape is None or len(shape) != 1:
                found = type(array).__name__ if shape is None else f"shape {tuple(shape)}"
                raise ValueError(f"{name} must be a vector, got {found}")
            first, expected = name, shape
        elif shape != expected:
            found = type(array).__name__ if shape is None else f"shape {tuple(shape)}"
            raise ValueError(f"{name} must have one entry per entry of {first}, {expected[0]}, got {found}")


class Proof:
    """Remembers that a tensor was proved, together with the bound of the proof.

    A copy of it, deep or pickled, remembers nothing: what it will be asked about is another tensor.

    Attributes
    ----------
    changes
        How often torch had seen the tensor changed in place when it was proved; -1 if nobody counts, as for
        a tensor made under inference_mode, whose proof never stands.

    Examples
    --------
    >>> import torch
    >>> proof, index = Proof(), torch.tensor([1, 2])
    >>> proof.remember(10, index)
    >>> proof.stands(10, index)
    True
    >>> index[0] = 99
    >>> proof.stands(10, index)
    False
    """

    __slots__ = ("_address", "_bound", "_tensor", "changes")

    def __init__(self) -> None:
        self._tensor: Tensor | None = None  # no proof
        self._bound: Any = None
        self._address, self.changes = 0, -1

    def __reduce__(self) -> tuple[type["Proof"], tuple[()]]:
        return Proof, ()

    def remember(self, bound: Any, tensor: Tensor) -> None:
        """Note that this tensor, as it is now, has been proved to keep within the bound."""
        if tensor.is_inference():
            self._tensor, self.changes = None, -1
        else:
            self._tensor, self._bound = tensor, bound
            self._address, self.changes = tensor.data_ptr(), tensor._version

    def stands(self, bound: Any, tensor: Tensor) -> bool:
        """True if this is the tensor and the bound that were proved, and nothing was changed since."""
        return (
            tensor is self._tensor
            and tensor._version == self.changes
            and bound == self._bound
            and tensor.data_ptr() == self._address
        )
