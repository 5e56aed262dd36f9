r"""The linear scan with a decay that stays: h_t = a h_{t-1} + b_t.

    dE/da = sum over batch and time of s_t conj(h_{t-1})            the rest as in
    `eventbook.kernels.scans.linear`

With a = 1 it is a cumulative sum. The decay is read from the innermost cache, so memory sees b and h alone.

| symbol | meaning | shape | name |
|---|---|---|---|
| a | decay, real or complex | (state,) | `a` |
| b, h | input, state after each element | (batch, time, state) | `b`, `h` |
| h_0, h_L | state before the first and after the last element | (batch, state) | `h0`, `last` |

The sum for dE/da is taken in single precision over `FLUSH` elements of time and in double precision beyond,
row by row of the batch: it is the same at any number of threads, and exact enough for a million elements.

Source: derived.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

from typing import Any

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.tensors import (
    array,
    axes,
    beyond_cache,
    copy,
    flat,
    fold_into_batch,
    forbid_second_backward,
    new,
    same_dtype,
)
from eventbook.kernels.machinery.threads import over_batch
from eventbook.kernels.scans.linear import (
    Scan,
    State,
    forward_complex,
    forward_double,
    forward_real,
    linear_scan_reference,
)

FLUSH = 64  # elements of time that are summed in single precision


@kernel()
def _backward(g, h, h0, carry, b_gradient, a_gradient, a):
    """g, h, b_gradient: (batch, time, width); h0, carry: (batch, width); a_gradient: (batch, width) in double
    precision, zero on entry; a: (width,)."""
    width = a.size
    partial = np.zeros(width, g.dtype)
    for row in range(g.shape[0]):
        for t in range(g.shape[1] - 1, -1, -1):
            before = h[row, t - 1] if t > 0 else h0[row]
            arriving, outgoing, falling = g[row, t], b_gradient[row, t], carry[row]
            for p in range(width):
                s = falling[p] + arriving[p]
                outgoing[p] = s
                partial[p] += s * np.conj(before[p])
                falling[p] = np.conj(a[p]) * s
            if t % FLUSH == 0:
                for p in range(width):
                    a_gradient[row, p] += partial[p]
                    partial[p] = 0


@torch.library.custom_op("eventbook::constant_scan", mutates_args=())
def _constant_scan(a: Tensor, b: Tensor, h0: Tensor, threads: int) -> tuple[Tensor, Tensor]:
    h, last = new(b.shape, b), copy(h0)
    if not b.numel():
        return h, last
    drive, out, state = array(b), h.numpy(), last.numpy()
    rows = np.repeat(array(a)[None], b.shape[0], 0)
    if b.dtype in (torch.float64, torch.complex128):
        decay = np.broadcast_to(rows[:, None], drive.shape)
        over_batch(forward_double, threads, (decay, drive, out, state))
    else:
        walk = forward_complex if b.is_complex() else forward_real
        over_batch(
            walk, threads, tuple(map(flat, (rows, drive, out, state))), b.shape[2], 0, beyond_cache(out)
        )
    return h, last


@_constant_scan.register_fake
def _(a: Tensor, b: Tensor, h0: Tensor, threads: int) -> tuple[Tensor, Tensor]:
    return b.new_empty(b.shape), h0.new_empty(h0.shape)


@torch.library.custom_op("eventbook::constant_scan_backward", mutates_args=())
def _constant_scan_backward(
    h_gradient: Tensor, last_gradient: Tensor, a: Tensor, h: Tensor, h0: Tensor, threads: int
) -> tuple[Tensor, Tensor, Tensor]:
    b_gradient, carry = new(h.shape, h), copy(last_gradient)
    sums = np.zeros(h0.shape, np.complex128 if h.is_complex() else np.float64)
    given = (array(h_gradient), array(h), array(h0), carry.numpy(), b_gradient.numpy(), sums)
    over_batch(_backward, threads, given, array(a))
    return torch.from_numpy(sums.sum(0)).to(a.dtype), b_gradient, carry


@_constant_scan_backward.register_fake
def _(
    h_gradient: Tensor, last_gradient: Tensor, a: Tensor, h: Tensor, h0: Tensor, threads: int
) -> tuple[Tensor, Tensor, Tensor]:
    return a.new_empty(a.shape), h.new_empty(h.shape), h0.new_empty(h0.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    a, _, h0, ctx.threads = inputs
    ctx.save_for_backward(a, output[0], h0)


def _pull_back(ctx: Any, h_gradient: Tensor, last_gradient: Tensor) -> tuple[Tensor | None, ...]:
    return *_constant_scan_backward(h_gradient, last_gradient, *ctx.saved_tensors, ctx.threads), None


_constant_scan.register_autograd(_pull_back, setup_context=_keep)
forbid_second_backward(_constant_scan_backward, "constant_scan")
fold_into_batch(_constant_scan, (False, True, True, None))


def constant_scan(
    a: Float[Tensor, "state"] | Complex[Tensor, "state"],
    b: Scan,
    h0: State | None = None,
    *,
    threads: int = 1,
) -> tuple[Scan, State]:
    """Run h_t = a h_{t-1} + b_t over time.

    Parameters
    ----------
    a
        Decay, (state,); the dtype of b.
    b
        Input, (batch, time, state); float32, float64, complex64 or complex128.
    h0
        State before the first element, (batch, state); zeros if not given.
    threads
        Threads over the batch.

    Returns
    -------
    h, last
        As `linear_scan`.

    Raises
    ------
    ValueError, TypeError
        As `linear_scan`.
    """
    sizes = axes(b=(b, "batch time state"), a=(a, "state"), h0=(h0, "batch state"))
    same_dtype(b=b, a=a, h0=h0)
    if h0 is None:
        h0 = b.new_zeros(sizes["batch"], sizes["state"])
    return _constant_scan(a, b, h0, threads)


def constant_scan_reference(
    a: Float[Tensor, "state"] | Complex[Tensor, "state"], b: Scan, h0: State | None = None
) -> tuple[Scan, State]:
    """Readable twin of `constant_scan`, differentiable by torch itself."""
    return linear_scan_reference(a.expand_as(b), b, h0)
