"""What the machine can do at most, measured in the same process as the kernels: memory and multiply-adds.

triad          z = x + s y            three streams of memory
multiply_add   v = v c + d            twelve chains in registers, two operations each per lane
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

import numpy as np

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.vectors import LANES, load, splat, store, stream

CHAINS = 12  # enough to hide the latency of a fused multiply-add on two ports
OPERATIONS_PER_TURN = CHAINS * LANES * 2


@kernel()
def triad(x, y, z, past_cache):
    """z = x + 3 y; x, y, z: (rows, n) float32, n a multiple of 16, z aligned to 64 bytes."""
    for row in range(x.shape[0]):
        a, b, out = x[row], y[row], z[row]
        if past_cache:
            for i in range(0, out.size, LANES):
                stream(out, i, load(a, i) + np.float32(3) * load(b, i))
        else:
            for i in range(0, out.size, LANES):
                store(out, i, load(a, i) + np.float32(3) * load(b, i))


@kernel()
def multiply_add(out, turns):
    """`turns` times 12 dependent chains of v = v c + d on 16 lanes; out: (rows, 16) float32."""
    c, d = splat(np.float32(0.999)), splat(np.float32(0.001))
    for row in range(out.shape[0]):
        v = load(out[row], 0)
        v0, v1, v2, v3, v4, v5 = v, v + d, v - d, v * c, v + c, v - c
        w0, w1, w2, w3, w4, w5 = v + v, v * d, d - v, c - v, c + d, c * d
        for _ in range(turns):
            v0, v1, v2 = v0 * c + d, v1 * c + d, v2 * c + d
            v3, v4, v5 = v3 * c + d, v4 * c + d, v5 * c + d
            w0, w1, w2 = w0 * c + d, w1 * c + d, w2 * c + d
            w3, w4, w5 = w3 * c + d, w4 * c + d, w5 * c + d
        store(out[row], 0, (v0 + v1 + v2 + v3 + v4 + v5) + (w0 + w1 + w2 + w3 + w4 + w5))
