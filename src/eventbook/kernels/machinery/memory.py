"""Memory for large results, used again when the tensor that had it is gone.

The operating system hands out memory in pages, and the first touch of each page is a fault: at tens of
megabytes, more time passes there than in a kernel that is limited by memory. A training step asks for the
same sizes again and again, so blocks are kept, as torch keeps those of a GPU.

take(size)      a block as a NumPy array of bytes; it comes back by itself when nothing refers to it any more
kept()          bytes that are held for later
release()       give them to the operating system

Blocks ask for pages of 2 MiB where the system has them. They begin near the start of such a page, but not all
at the same distance from it: six arrays whose addresses agree in the lower bits compete for the same lines of
a cache when a kernel walks through them together, which costs a fifth of its speed. What lies unused never
exceeds `KEEP_BYTES`. A forked process has copies of the blocks, like of all other memory.
"""

import mmap
import weakref
from collections import defaultdict, deque
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LARGE_PAGE = 1 << 21
KEEP_BYTES = 1 << 30
_STAGGER = range(0, 16 * 4160, 4160)  # bytes: a small page and a cache line


class _Block(NamedTuple):
    """Memory of `size` bytes from `start` on."""

    memory: mmap.mmap
    start: int
    size: int


class _Loan(weakref.ref[NDArray[np.uint8]]):
    """Knows which block an array was given, and hears when the array is gone."""

    __slots__ = ("block",)
    block: _Block


# Callbacks may run at any moment, even inside `take`, so there are no locks here, only single operations of
# deque and dict, which are atomic.
_free: defaultdict[int, deque[_Block]] = defaultdict(deque)
_lent: dict[int, _Loan] = {}
_distances = cycle(_STAGGER)


def _map(size: int) -> _Block:
    length = size + LARGE_PAGE + _STAGGER.stop  # so that the start of a large page is inside
    if hasattr(mmap, "MAP_PRIVATE"):
        memory = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        memory = mmap.mmap(-1, length)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    address = np.frombuffer(memory, np.uint8).ctypes.data
    return _Block(memory, -address % LARGE_PAGE + next(_distances), size)


def kept() -> int:
    """Bytes held for later use."""
    return sum(size * len(blocks) for size, blocks in list(_free.items()))


def release() -> None:
    """Give unused blocks to the operating system."""
    for blocks in list(_free.values()):
        blocks.clear()


def _give_back(loan: Any) -> None:
    del _lent[id(loan)]
    block = loan.block
    if kept() + block.size > KEEP_BYTES:  # sizes have changed, or there are many
        release()
    if block.size <= KEEP_BYTES:
        _free[block.size].append(block)


def take(size: int) -> NDArray[np.uint8]:
    """`size` bytes at a multiple of 64, with whatever their last user left in them."""
    rounded = -(-size // LARGE_PAGE) * LARGE_PAGE
    try:
        block = _free[rounded].pop()  # the one used last: it may still be in a cache
    except IndexError:
        block = _map(rounded)
    whole = np.frombuffer(block.memory, np.uint8)
    loan = _Loan(whole, _give_back)
    loan.block = block
    _lent[id(loan)] = loan
    return whole[block.start : block.start + size]
