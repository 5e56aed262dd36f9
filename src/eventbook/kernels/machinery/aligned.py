"""Arrays that begin at a cache line: a vector that lies across two lines costs twice."""
# mypy: disable-error-code="no-untyped-def, call-arg"
# Kernels are typed by Numba, at every call.

import numpy as np

from eventbook.kernels.machinery.compile import kernel

LINE = 64  # bytes


@kernel()
def aligned(n, dtype):
    """(n,) uninitialised elements, the first at a multiple of 64 bytes."""
    longer = np.empty(n + LINE, dtype)
    start = -longer.ctypes.data % LINE // longer.itemsize
    return longer[start : start + n]
