r"""Proofs about indices: kernels read and write through them unchecked, so they are proved where they enter.

    check_index(index, potential)        K flat indices, strictly ascending in [0, potential)
    check_places(places, size)           any order, repetitions allowed, all in [0, size)
    check_vectors(theta=..., index=...)  vectors of one length
    changes_of(index)                    how often torch saw it changed
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

LARGEST = np.iinfo(np.int64).max


@kernel()
def _first_fall(index, potential):
    """Position of the first index that is not above the one before it and below `potential`; -1 if none.

    Relies on nothing: it finds out.
    """
    before = np.int64(-1)
    for k in range(index.size):
        if index[k] <= before or index[k] >= potential:
            return k
        before = index[k]
    return -1


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
    array = np.asarray(index)
    if array.ndim != 1 or array.dtype != np.int64:
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
    at = _first_fall(array, potential)
    if at >= 0:
        found = int(array[at])
        if 0 <= found < potential:
            raise ValueError(f"{name} must ascend, got {found} after {array[at - 1]} at position {at}")
        raise ValueError(f"{name} must be in 0..{potential - 1}, got {found} at position {at}")


def check_places(places: Any, size: int, name: str) -> None:
    """ValueError unless `places`, a vector of int64, are all in [0, size)."""
    array = int64_vector(places, name)
    at = _first_outside(array, size)
    if at >= 0:
        raise ValueError(f"{name} must be in 0..{size - 1}, got {array[at]} at position {at}")


def check_vectors(**arrays: Any) -> None:
    """ValueError unless all are vectors of one length, that of the first."""
    (first, one), *others = arrays.items()
    for name, array in arrays.items():
        if not hasattr(array, "shape"):
            raise ValueError(f"{name} must be an array, got {type(array).__name__}")
    if len(one.shape) != 1:
        raise ValueError(f"{first} must be a vector, got shape {tuple(one.shape)}")
    for name, other in others:
        if other.shape != one.shape:
            expected = f"one entry per entry of {first}, {one.shape[0]}"
            raise ValueError(f"{name} must have {expected}, got shape {tuple(other.shape)}")


def changes_of(*tensors: Tensor) -> int:
    """How often tensors were changed in place, all together; -1 if nobody counts.

    Tensors made under inference_mode have no count.
    """
    if any(t.is_inference() for t in tensors):
        return -1
    return sum(t._version for t in tensors)


class Proof:
    """Remembers that some tensors were proved, together with the bounds of the proof.

    A copy of it, deep or pickled, remembers nothing: what it will be asked about are other tensors.

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

    __slots__ = ("_bound", "_proved", "changes")

    def __init__(self) -> None:
        self._bound: int | None = None  # no proof
        self.changes = -1  # of all tensors, when they were proved
        self._proved: tuple[tuple[Tensor, int, int, int], ...] = ()

    def __reduce__(self) -> tuple[type["Proof"], tuple[()]]:
        return Proof, ()

    def remember(self, bound: int, *tensors: Tensor) -> None:
        """Note that these tensors, as they are now, have been proved to keep within the bound."""
        self.changes = changes_of(*tensors)
        self._bound = None
        if self.changes >= 0:
            self._bound = bound
            self._proved = tuple((t, t._version, t.data_ptr(), t.numel()) for t in tensors)

    def stands(self, bound: int, *tensors: Tensor) -> bool:
        """True if these are the tensors and the bound that were proved, and nothing was changed since."""
        if bound != self._bound:
            return False
        for tensor, (known, version, address, length) in zip(tensors, self._proved, strict=False):
            if (
                tensor is not known
                or tensor._version != version
                or tensor.data_ptr() != address
                or tensor.numel() != length
            ):
                return False
        return True
