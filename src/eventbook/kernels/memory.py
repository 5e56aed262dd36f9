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

import numpy as np
from numpy.typing import NDArray

LARGE_PAGE = 1 << 21
KEEP_BYTES = 1 << 30
_STAGGER = range(0, 16 * 4160, 4160)  # bytes: a small page and a cache line

# (memory, distance) by size; finalizers may run at any moment, even inside `take`, so there are no locks
# here, only single operations of deque, which are atomic
_free: defaultdict[int, deque[tuple[mmap.mmap, int]]] = defaultdict(deque)
_distances = cycle(_STAGGER)


def _map(size: int) -> mmap.mmap:
    length = size + LARGE_PAGE + _STAGGER.stop  # so that the start of a large page is inside
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, length)
    block = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block


def kept() -> int:
    """Bytes held for later use."""
    return sum(size * len(blocks) for size, blocks in list(_free.items()))


def release() -> None:
    """Give unused blocks to the operating system."""
    for blocks in list(_free.values()):
        blocks.clear()


def _give_back(size: int, block: tuple[mmap.mmap, int]) -> None:
    if kept() + size > KEEP_BYTES:  # sizes have changed, or there are many
        release()
    if size <= KEEP_BYTES:
        _free[size].append(block)


def take(size: int) -> NDArray[np.uint8]:
    """`size` bytes at a multiple of 64, with whatever their last user left in them."""
    rounded = -(-size // LARGE_PAGE) * LARGE_PAGE
    try:
        block = _free[rounded].pop()  # the one used last: it may still be in a cache
    except IndexError:
        block = _map(rounded), next(_distances)
    memory, distance = block
    whole = np.frombuffer(memory, np.uint8)
    start = -whole.ctypes.data % LARGE_PAGE + distance
    weakref.finalize(whole, _give_back, rounded, block).atexit = False
    return whole[start : start + size]
