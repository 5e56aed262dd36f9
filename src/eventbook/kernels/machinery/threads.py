"""Run a serial kernel on several threads, each with batch rows of its own.

Kernels release Python's global lock, so ordinary threads are enough: the kernel is the same machine code at
any thread count, results are the same bits, two Python threads may call kernels at once, and a forked
process (a data loader's worker) starts a pool of its own. A hand-over costs some 20 microseconds: below ten
times that one thread is faster, which is the default everywhere.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

_pools: dict[int, ThreadPoolExecutor] = {}
os.register_at_fork(after_in_child=_pools.clear)  # a child has none of its parent's threads


def _pool(workers: int) -> ThreadPoolExecutor:
    if workers not in _pools:
        _pools[workers] = ThreadPoolExecutor(workers, thread_name_prefix="eventbook-kernel")
    return _pools[workers]


def over_batch(kernel: Callable[..., Any], threads: int, rows: tuple[NDArray[Any], ...], *rest: Any) -> None:
    """Call ``kernel(*rows, *rest)``, on slices of the rows if `threads` > 1.

    Parameters
    ----------
    kernel
        Writes its results into arrays it is given and returns nothing.
    threads
        How many; the calling one counts. At most one per batch row is used.
    rows
        Arrays whose first axis is the batch; each thread gets the slice of its rows.
    rest
        Passed on to every call as they are.

    Raises
    ------
    ValueError
        If `threads` < 1.
    """
    if threads < 1:
        raise ValueError(f"threads must be >= 1, got {threads}")
    batch = rows[0].shape[0]
    parts = min(threads, batch)
    if parts <= 1:
        kernel(*rows, *rest)
        return
    cuts = [batch * part // parts for part in range(parts + 1)]
    slices = [tuple(array[first:last] for array in rows) for first, last in pairwise(cuts)]
    others = [_pool(parts - 1).submit(kernel, *own, *rest) for own in slices[1:]]
    kernel(*slices[0], *rest)
    for other in others:
        other.result()
