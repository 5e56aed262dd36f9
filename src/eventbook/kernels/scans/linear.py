r"""The linear recurrence that every state-space model of this book is made of, and its gradient.

    h_t = a_t h_{t-1} + b_t,   t = 1..L,   h_0 given                              (elementwise)

    s_L = g_L + g_last,        s_t = g_t + conj(a_{t+1}) s_{t+1}                  (gradient that reaches h_t)
    dE/db_t = s_t,    dE/da_t = s_t conj(h_{t-1}),    dE/dh_0 = conj(a_1) s_1

| symbol | meaning | shape | name |
|---|---|---|---|
| a | decay, real or complex | (batch, time, state) or (state,) | `a` |
| b | input | (batch, time, state) | `b` |
| h_0 | state before the first element | (batch, state) | `h0` |
| h | state after each element | (batch, time, state) | `h` |
| h_L | state after the last one | (batch, state) | `last` |
| g, g_last | gradients that arrive at h and at h_L | as these | `h_gradient`, `last_gradient` |

Time is the outer loop and state the inner one, in vectors of 16: a recurrence cannot be vectorised along
itself, and a tree of partial products (an associative scan) moves log L times as much memory, which is what a
processor waits for here. The kernel reads a and b once and writes h once; the state of one batch row stays in
the innermost cache. Complex numbers are read as interleaved pairs of real ones. Outputs that are larger than
the caches are written past them. The backward pass walks down in time and in state, so that addresses fall
monotonically, which hardware prefetchers follow.

Source: derived. Gradients follow torch's convention for complex numbers, dE/dRe + i dE/dIm.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

from typing import Any

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.elementary import plus, times_conjugate, times_plus
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
from eventbook.kernels.machinery.vectors import (
    LANES,
    load,
    load_pairs,
    load_pairs_part,
    load_part,
    scratch,
    store,
    store_pairs,
    store_pairs_part,
    store_part,
    stream,
    stream_pairs,
)

Scan = Float[Tensor, "batch time state"] | Complex[Tensor, "batch time state"]
State = Float[Tensor, "batch state"] | Complex[Tensor, "batch state"]


# --- forward, single precision: one row per batch element, flat in (time, state) ---------------------------


@kernel(inline=True)
def put(out, i, v, past_cache):
    """Store a vector, past the caches or not."""
    if past_cache:
        stream(out, i, v)
    else:
        store(out, i, v)


@kernel(inline=True)
def put_pairs(out, i, pair, past_cache):
    """Store (real, imaginary) as interleaved pairs, past the caches or not."""
    if past_cache:
        stream_pairs(out, i, pair[0], pair[1])
    else:
        store_pairs(out, i, pair[0], pair[1])


@kernel()
def take_apart(pairs, real, imaginary):
    """Copy interleaved pairs (2 n,) to the first n real and imaginary parts."""
    for k in range(pairs.size // 2):
        real[k], imaginary[k] = pairs[2 * k], pairs[2 * k + 1]


@kernel()
def put_together(real, imaginary, pairs):
    """The inverse of `take_apart`."""
    for k in range(pairs.size // 2):
        pairs[2 * k], pairs[2 * k + 1] = real[k], imaginary[k]


@kernel()
def padded_zeros(width):
    """(padded,) float32 zeros for a state of this width, padded to whole vectors."""
    return scratch((width + LANES - 1) // LANES * LANES)


@kernel()
def forward_real(a, b, h, state, width, a_step, past_cache):
    """Scan single-precision rows.

    a: (batch, time * width), or (batch, width) with a_step = 0 if the decay is constant; b, h: (batch,
    time * width); state: (batch, width), h_0 on entry, h_L on return. a_step: from one decay to the next.
    """
    whole = width // LANES * LANES
    n = width - whole
    for row in range(b.shape[0]):
        decay, drive, out, carry = a[row], b[row], h[row], state[row]
        now = -a_step
        for at in range(0, out.size, width):
            now += a_step
            for p in range(0, whole, LANES):
                new = load(decay, now + p) * load(carry, p) + load(drive, at + p)
                store(carry, p, new)
                put(out, at + p, new, past_cache)
            if n > 0:
                old = load_part(decay, now + whole, n) * load_part(carry, whole, n)
                new = old + load_part(drive, at + whole, n)
                store_part(carry, whole, n, new)
                store_part(out, at + whole, n, new)


@kernel()
def forward_complex(a, b, h, state, width, a_step, past_cache):
    """As `forward_real` for complex64 read as interleaved float32; `width` counts complex numbers."""
    whole = width // LANES * LANES
    n, real, imaginary = width - whole, padded_zeros(width), padded_zeros(width)
    for row in range(b.shape[0]):
        decay, drive, out = a[row], b[row], h[row]
        take_apart(state[row], real, imaginary)
        now = -2 * a_step
        for at in range(0, out.size, 2 * width):
            now += 2 * a_step
            for p in range(0, whole, LANES):
                carry = load(real, p), load(imaginary, p)
                new = times_plus(load_pairs(decay, now + 2 * p), carry, load_pairs(drive, at + 2 * p))
                store(real, p, new[0])
                store(imaginary, p, new[1])
                put_pairs(out, at + 2 * p, new, past_cache)
            if n > 0:
                carry, here = (load(real, whole), load(imaginary, whole)), at + 2 * whole
                arriving = load_pairs_part(drive, here, n)
                new = times_plus(load_pairs_part(decay, now + 2 * whole, n), carry, arriving)
                store(real, whole, new[0])
                store(imaginary, whole, new[1])
                store_pairs_part(out, here, n, new[0], new[1])
        put_together(real, imaginary, state[row])


# --- backward, single precision ----------------------------------------------------------------------------


@kernel()
def _backward_real(g, a, h, h0, carry, a_gradient, b_gradient, width, past_cache):
    """carry: (batch, width), g_last on entry, dE/dh_0 on return; the others as in `forward_real`."""
    whole = width // LANES * LANES
    n = width - whole
    for row in range(g.shape[0]):
        arriving, decay, states, first, falling = g[row], a[row], h[row], h0[row], carry[row]
        to_a, to_b = a_gradient[row], b_gradient[row]
        for at in range(arriving.size - width, -1, -width):
            if n > 0:
                s = load_part(falling, whole, n) + load_part(arriving, at + whole, n)
                before = load_part(states, at - width + whole, n) if at > 0 else load_part(first, whole, n)
                store_part(to_b, at + whole, n, s)
                store_part(to_a, at + whole, n, s * before)
                store_part(falling, whole, n, load_part(decay, at + whole, n) * s)
            for p in range(whole - LANES, -1, -LANES):
                s = load(falling, p) + load(arriving, at + p)
                before = load(states, at - width + p) if at > 0 else load(first, p)
                put(to_b, at + p, s, past_cache)
                put(to_a, at + p, s * before, past_cache)
                store(falling, p, load(decay, at + p) * s)


@kernel()
def _backward_complex(g, a, h, h0, carry, a_gradient, b_gradient, width, past_cache):
    """As `_backward_real` for complex64 read as interleaved float32."""
    whole = width // LANES * LANES
    n, step, real, imaginary = width - whole, 2 * width, padded_zeros(width), padded_zeros(width)
    for row in range(g.shape[0]):
        arriving, decay, states, first = g[row], a[row], h[row], h0[row]
        to_a, to_b = a_gradient[row], b_gradient[row]
        take_apart(carry[row], real, imaginary)
        for at in range(arriving.size - step, -1, -step):
            if n > 0:
                here = at + 2 * whole
                s = plus((load(real, whole), load(imaginary, whole)), load_pairs_part(arriving, here, n))
                if at > 0:
                    before = load_pairs_part(states, here - step, n)
                else:
                    before = load_pairs_part(first, 2 * whole, n)
                up, down = times_conjugate(s, before), times_conjugate(s, load_pairs_part(decay, here, n))
                store_pairs_part(to_b, here, n, s[0], s[1])
                store_pairs_part(to_a, here, n, up[0], up[1])
                store(real, whole, down[0])
                store(imaginary, whole, down[1])
            for p in range(whole - LANES, -1, -LANES):
                here = at + 2 * p
                s = plus((load(real, p), load(imaginary, p)), load_pairs(arriving, here))
                before = load_pairs(states, here - step) if at > 0 else load_pairs(first, 2 * p)
                down = times_conjugate(s, load_pairs(decay, here))
                put_pairs(to_b, here, s, past_cache)
                put_pairs(to_a, here, times_conjugate(s, before), past_cache)
                store(real, p, down[0])
                store(imaginary, p, down[1])
        put_together(real, imaginary, carry[row])


# --- double precision: the same formulas in plain loops ----------------------------------------------------


@kernel()
def forward_double(a, b, h, state):
    """a, b, h: (batch, time, width) float64 or complex128; state: (batch, width)."""
    for row in range(b.shape[0]):
        for t in range(b.shape[1]):
            for p in range(b.shape[2]):
                state[row, p] = a[row, t, p] * state[row, p] + b[row, t, p]
                h[row, t, p] = state[row, p]


@kernel()
def _backward_double(g, a, h, h0, carry, a_gradient, b_gradient):
    for row in range(g.shape[0]):
        for t in range(g.shape[1] - 1, -1, -1):
            for p in range(g.shape[2]):
                s = carry[row, p] + g[row, t, p]
                before = h[row, t - 1, p] if t > 0 else h0[row, p]
                b_gradient[row, t, p] = s
                a_gradient[row, t, p] = s * np.conj(before)
                carry[row, p] = np.conj(a[row, t, p]) * s


# --- torch -------------------------------------------------------------------------------------------------


@torch.library.custom_op("eventbook::linear_scan", mutates_args=())
def _linear_scan(a: Tensor, b: Tensor, h0: Tensor, threads: int) -> tuple[Tensor, Tensor]:
    h, last = new(b.shape, b), copy(h0)
    if not b.numel():
        return h, last
    decay, drive, out, state = array(a), array(b), h.numpy(), last.numpy()
    if b.dtype in (torch.float64, torch.complex128):
        over_batch(forward_double, threads, (decay, drive, out, state))
    else:
        walk = forward_complex if b.is_complex() else forward_real
        rows = (flat(decay), flat(drive), flat(out), flat(state))
        over_batch(walk, threads, rows, b.shape[2], b.shape[2], beyond_cache(out))
    return h, last


@_linear_scan.register_fake
def _(a: Tensor, b: Tensor, h0: Tensor, threads: int) -> tuple[Tensor, Tensor]:
    return b.new_empty(b.shape), h0.new_empty(h0.shape)


@torch.library.custom_op("eventbook::linear_scan_backward", mutates_args=())
def _linear_scan_backward(
    h_gradient: Tensor, last_gradient: Tensor, a: Tensor, h: Tensor, h0: Tensor, threads: int
) -> tuple[Tensor, Tensor, Tensor]:
    a_gradient, b_gradient, carry = new(h.shape, h), new(h.shape, h), copy(last_gradient)
    if not h.numel():
        return a_gradient, b_gradient, carry
    given = (array(h_gradient), array(a), array(h), array(h0), carry.numpy())
    results = (a_gradient.numpy(), b_gradient.numpy())
    if h.dtype in (torch.float64, torch.complex128):
        over_batch(_backward_double, threads, given + results)
    else:
        walk = _backward_complex if h.is_complex() else _backward_real
        over_batch(walk, threads, tuple(map(flat, given + results)), h.shape[2], beyond_cache(results[0]))
    return a_gradient, b_gradient, carry


@_linear_scan_backward.register_fake
def _(
    h_gradient: Tensor, last_gradient: Tensor, a: Tensor, h: Tensor, h0: Tensor, threads: int
) -> tuple[Tensor, Tensor, Tensor]:
    return h.new_empty(h.shape), h.new_empty(h.shape), h0.new_empty(h0.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    a, _, h0, ctx.threads = inputs
    ctx.save_for_backward(a, output[0], h0)


def _pull_back(ctx: Any, h_gradient: Tensor, last_gradient: Tensor) -> tuple[Tensor | None, ...]:
    return *_linear_scan_backward(h_gradient, last_gradient, *ctx.saved_tensors, ctx.threads), None


_linear_scan.register_autograd(_pull_back, setup_context=_keep)
forbid_second_backward(_linear_scan_backward, "linear_scan")
fold_into_batch(_linear_scan, (True, True, True, None))
fold_into_batch(_linear_scan_backward, (True, True, True, True, True, None))


def linear_scan(a: Scan, b: Scan, h0: State | None = None, *, threads: int = 1) -> tuple[Scan, State]:
    """Run h_t = a_t h_{t-1} + b_t over time.

    Parameters
    ----------
    a, b
        Decay and input, (batch, time, state); float32, float64, complex64 or complex128, both alike. Time may
        be empty.
    h0
        State before the first element, (batch, state); zeros if not given.
    threads
        Threads over the batch.

    Returns
    -------
    h
        (batch, time, state), the state after each element.
    last
        (batch, state), the state after the last one, which is h0 if there is none. Hand it to the next call
        as its `h0` and the two calls together give what one would have given, gradients included.

    Raises
    ------
    ValueError
        If shapes do not fit, or a tensor is not on the CPU.
    TypeError
        If dtypes differ.

    Examples
    --------
    >>> import torch
    >>> h, last = linear_scan(torch.full((1, 3, 1), 0.5), torch.ones(1, 3, 1))
    >>> h.flatten()
    tensor([1.0000, 1.5000, 1.7500])
    """
    sizes = axes(b=(b, "batch time state"), a=(a, "batch time state"), h0=(h0, "batch state"))
    same_dtype(b=b, a=a, h0=h0)
    if h0 is None:
        h0 = b.new_zeros(sizes["batch"], sizes["state"])
    return _linear_scan(a, b, h0, threads)


def linear_scan_reference(a: Scan, b: Scan, h0: State | None = None) -> tuple[Scan, State]:
    """Readable twin of `linear_scan`, differentiable by torch itself."""
    state = torch.zeros_like(b[:, 0] if b.shape[1] else b.sum(1)) if h0 is None else h0
    states = []
    for t in range(b.shape[1]):
        state = a[:, t] * state + b[:, t]
        states.append(state)
    return (torch.stack(states, 1) if states else torch.empty_like(b)), state
