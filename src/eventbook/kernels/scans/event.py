r"""The scan of Event-SSM: a state that decays by the true time between two events.

    h_t = exp(lambda gap_t) h_{t-1} + b_t,      t = 1..L,   h_0 given

    s_t = g_t + v_{t+1},  s_L = g_L + g_last,   v_t = conj(a_t) s_t,   a_t = exp(lambda gap_t)
    dE/db_t = s_t,        dE/dh_0 = v_1,        r_t = v_t conj(h_{t-1})
    dE/dlambda = sum over batch and time of gap_t r_t
    dE/dgap_t  = sum over p of Re(conj(lambda_p) r_{t,p})

| symbol | meaning | shape | name |
|---|---|---|---|
| lambda | eigenvalues times the step size, Re <= 0 for a stable state | (state,) complex | `lam` |
| gap_t | time between element t - 1 and t, >= 0 | (batch, time) real | `gap` |
| b | input | (batch, time, state) complex | `b` |
| h_0, h_L | state before the first and after the last element | (batch, state) complex | `h0`, `last` |

The decay is formed in registers and never stored, neither for the forward nor for the backward pass: an array
of decays would be as large as input or output and would cost a third of all memory traffic, and more at the
backward. exp, sin and cos are the polynomials of `eventbook.kernels.machinery.elementary`; what remains is
the time it takes to read b and to write h.

Gains (Dirac, asynchronous, zero-order hold) multiply b beforehand, see `eventbook.kernels.scans.discretize`.

Source: Schöne et al. 2024 (Event-SSM), asynchronous discretisation; gradients derived.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

from typing import Any

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.elementary import exp2_turning, plus, times_conjugate, times_plus
from eventbook.kernels.machinery.tensors import (
    COMPLEX,
    array,
    axes,
    beyond_cache,
    copy,
    flat,
    fold_into_batch,
    forbid_second_backward,
    new,
    real_dtype,
    same_dtype,
)
from eventbook.kernels.machinery.threads import over_batch
from eventbook.kernels.machinery.vectors import (
    LANES,
    lane_sum,
    load,
    load_pairs,
    load_pairs_part,
    scratch,
    splat,
    store,
    store_pairs_part,
)
from eventbook.kernels.scans.constant import FLUSH
from eventbook.kernels.scans.linear import (
    linear_scan_reference,
    put_pairs,
    put_together,
    take_apart,
)

Eigenvalues = Complex[Tensor, "state"]
Gaps = Float[Tensor, "batch time"]
Events = Complex[Tensor, "batch time state"]
State = Complex[Tensor, "batch state"]

LONGEST_GAP = 2.0**100  # in units of 1 / lam; about 1e30, and the same number in both precisions
REAL_UNIT, IMAGINARY_UNIT = np.log(2.0), np.pi  # inside the kernels: doublings and half-turns


@kernel(inline=True)
def decay(real, imaginary, p, gap):
    """exp(lambda gap) for the 16 eigenvalues from p on, as (real, imaginary); see `padded_parts`."""
    return exp2_turning(load(real, p) * gap, load(imaginary, p) * gap)


@kernel()
def _forward(gap, b, row_of, h, last, real, imaginary, width, past_cache):
    """Scan complex64 rows, read as interleaved float32.

    gap, row_of: (batch, time); the input of element t is row row_of[row, t] of b (rows, 2 width), or, if
    row_of is empty, the next one of b[row] (batch, 2 time width). h: (batch, 2 time width); last: (batch,
    2 width), h_0 on entry. real, imaginary: (padded,), eigenvalues, padded to whole vectors.
    """
    whole, step = width // LANES * LANES, 2 * width
    n, looked_up = width - whole, row_of.size > 0
    state_real, state_imaginary = scratch(real.size), scratch(real.size)
    for row in range(gap.shape[0]):
        drive, out, end = b[0 if looked_up else row], h[row], last[row]
        take_apart(end, state_real, state_imaginary)
        for t in range(gap.shape[1]):
            at, since = t * step, gap[row, t]
            if looked_up:
                drive = b[row_of[row, t]]
            source = 0 if looked_up else at
            for p in range(0, whole, LANES):
                state = load(state_real, p), load(state_imaginary, p)
                state = times_plus(decay(real, imaginary, p, since), state, load_pairs(drive, source + 2 * p))
                store(state_real, p, state[0])
                store(state_imaginary, p, state[1])
                put_pairs(out, at + 2 * p, state, past_cache)
            if n > 0:
                state = load(state_real, whole), load(state_imaginary, whole)
                arriving = load_pairs_part(drive, source + 2 * whole, n)
                state = times_plus(decay(real, imaginary, whole, since), state, arriving)
                store(state_real, whole, state[0])
                store(state_imaginary, whole, state[1])
                store_pairs_part(out, at + 2 * whole, n, state[0], state[1])
        put_together(state_real, state_imaginary, end)


@kernel()
def _backward(
    gap, g, h, h0, carry, b_gradient, gap_gradient, lam_gradient, real, imaginary, width, past_cache
):
    """Walk down in time and in state; arrays as in `_forward`.

    carry: (batch, 2 width), g_last on entry, dE/dh_0 on return; gap_gradient: (batch, time); lam_gradient:
    (batch, 2, padded) float64, zero on entry.
    """
    whole, step = width // LANES * LANES, 2 * width
    n = width - whole
    falling_real, falling_imaginary = scratch(real.size), scratch(real.size)
    sum_real, sum_imaginary = scratch(real.size), scratch(real.size)
    for row in range(gap.shape[0]):
        arriving, states, first, end, outgoing = g[row], h[row], h0[row], carry[row], b_gradient[row]
        take_apart(end, falling_real, falling_imaginary)
        for t in range(gap.shape[1] - 1, -1, -1):
            at, since = t * step, gap[row, t]
            gap_real, gap_imaginary = splat(np.float32(0)), splat(np.float32(0))
            if n > 0:
                p = whole
                s = plus(
                    (load(falling_real, p), load(falling_imaginary, p)),
                    load_pairs_part(arriving, at + 2 * p, n),
                )
                store_pairs_part(outgoing, at + 2 * p, n, s[0], s[1])
                v = times_conjugate(s, decay(real, imaginary, p, since))
                before = (
                    load_pairs_part(states, at - step + 2 * p, n)
                    if t > 0
                    else load_pairs_part(first, 2 * p, n)
                )
                r = times_conjugate(v, before)
                store(falling_real, p, v[0])
                store(falling_imaginary, p, v[1])
                store(sum_real, p, load(sum_real, p) + since * r[0])
                store(sum_imaginary, p, load(sum_imaginary, p) + since * r[1])
                gap_real, gap_imaginary = (
                    gap_real + load(real, p) * r[0],
                    gap_imaginary + load(imaginary, p) * r[1],
                )
            for p in range(whole - LANES, -1, -LANES):
                s = plus(
                    (load(falling_real, p), load(falling_imaginary, p)), load_pairs(arriving, at + 2 * p)
                )
                put_pairs(outgoing, at + 2 * p, s, past_cache)
                v = times_conjugate(s, decay(real, imaginary, p, since))
                before = load_pairs(states, at - step + 2 * p) if t > 0 else load_pairs(first, 2 * p)
                r = times_conjugate(v, before)
                store(falling_real, p, v[0])
                store(falling_imaginary, p, v[1])
                store(sum_real, p, load(sum_real, p) + since * r[0])
                store(sum_imaginary, p, load(sum_imaginary, p) + since * r[1])
                gap_real, gap_imaginary = (
                    gap_real + load(real, p) * r[0],
                    gap_imaginary + load(imaginary, p) * r[1],
                )
            gap_gradient[row, t] = lane_sum(gap_real * REAL_UNIT + gap_imaginary * IMAGINARY_UNIT)
            if t % FLUSH == 0:
                for p in range(width):
                    lam_gradient[row, 0, p] += sum_real[p]
                    lam_gradient[row, 1, p] += sum_imaginary[p]
                    sum_real[p], sum_imaginary[p] = 0, 0
        put_together(falling_real, falling_imaginary, end)


# --- double precision: the same formulas in plain loops ----------------------------------------------------


@kernel()
def _forward_double(gap, b, row_of, h, last, lam):
    """As `_forward`; b: (batch, time, width), or (rows, width) if looked up; h: (batch, time, width)."""
    for row in range(gap.shape[0]):
        for t in range(gap.shape[1]):
            drive = b[0, row_of[row, t]] if row_of.size > 0 else b[row, t]
            for p in range(lam.size):
                last[row, p] = np.exp(lam[p] * gap[row, t]) * last[row, p] + drive[p]
                h[row, t, p] = last[row, p]


@kernel()
def _backward_double(gap, g, h, h0, carry, b_gradient, gap_gradient, lam_gradient, lam):
    """As `_backward`; g, h, b_gradient: (batch, time, width); lam_gradient: (batch, width)."""
    for row in range(gap.shape[0]):
        for t in range(gap.shape[1] - 1, -1, -1):
            to_gap = 0.0
            for p in range(lam.size):
                s = carry[row, p] + g[row, t, p]
                v = np.conj(np.exp(lam[p] * gap[row, t])) * s
                r = v * np.conj(h[row, t - 1, p] if t > 0 else h0[row, p])
                b_gradient[row, t, p], carry[row, p] = s, v
                lam_gradient[row, p] += gap[row, t] * r
                to_gap += (np.conj(lam[p]) * r).real
            gap_gradient[row, t] = to_gap


# --- torch -------------------------------------------------------------------------------------------------


@kernel()
def _first_bad_gap(gap):
    """Flat position of the first gap that is not in 0..LONGEST_GAP, or -1."""
    for i in range(gap.size):
        if not (gap[i] >= 0 and gap[i] <= LONGEST_GAP):
            return i
    return -1


def check_gaps(gap: NDArray[Any]) -> None:
    """ValueError that names the first gap which is negative, not a number, or without end.

    At an infinite gap the phase is lost, and with it, or with a decay of exactly 1, the state; the gradient
    would be gap times nothing. Up to `LONGEST_GAP` that product is far below rounding in single precision.
    """
    bad = _first_bad_gap(gap.reshape(-1))
    if bad >= 0:
        row, t = divmod(int(bad), gap.shape[1])
        came = f"got {gap[row, t]:g} at [{row}, {t}]"
        if gap[row, t] > LONGEST_GAP:
            raise ValueError(f"gap must be <= 2^100, {came}: to forget a state, begin a row of its own")
        raise ValueError(f"gap must be >= 0, {came}")


def check_tokens(token: NDArray[Any], rows: int) -> None:
    """ValueError that names the first token without a row in the table."""
    wrong = (token < 0) | (token >= rows)
    if wrong.any():
        row, t = np.argwhere(wrong)[0]
        raise ValueError(f"token must be in 0..{rows - 1}, got {token[row, t]} at [{row}, {t}]")


def padded_parts(lam: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Real parts in powers of two, imaginary parts in half-turns, each padded to whole vectors."""
    exact = lam.astype(np.complex128)
    real, imaginary = torch.zeros(2, -(-lam.size // LANES) * LANES, dtype=torch.float32).numpy()
    real[: lam.size], imaginary[: lam.size] = exact.real / REAL_UNIT, exact.imag / IMAGINARY_UNIT
    return real, imaginary


def _scan(
    lam: NDArray[Any], gap: NDArray[Any], b: NDArray[Any], row_of: NDArray[Any], h0: Tensor, threads: int
) -> tuple[Tensor, Tensor]:
    """Forward pass on b (batch, time, width), or on rows of b (1, rows, width) that `row_of` names."""
    check_gaps(gap)
    h, last = new((*gap.shape, lam.size), h0), copy(h0)
    out, end = h.numpy(), last.numpy()
    looked_up = row_of.size > 0
    rest: tuple[Any, ...]
    if h.dtype == torch.complex128:
        walk, rest = _forward_double, (lam,)
        drive, outputs = b, (out, end)
    else:
        walk, rest = _forward, (*padded_parts(lam), lam.size, beyond_cache(out))
        drive, outputs = (flat(b[0]) if looked_up else flat(b)), (flat(out), flat(end))
    if looked_up:  # every thread needs the whole table
        over_batch(
            lambda gap, row_of, *outs: walk(gap, drive, row_of, *outs, *rest),
            threads,
            (gap, row_of, *outputs),
        )
    else:
        over_batch(
            lambda gap, drive, *outs: walk(gap, drive, row_of, *outs, *rest), threads, (gap, drive, *outputs)
        )
    return h, last


NO_ROWS = np.empty((0, 0), np.int64)


@torch.library.custom_op("eventbook::event_scan", mutates_args=())
def _event_scan(lam: Tensor, gap: Tensor, b: Tensor, h0: Tensor, threads: int) -> tuple[Tensor, Tensor]:
    return _scan(array(lam), array(gap), array(b), NO_ROWS, h0, threads)


@_event_scan.register_fake
def _(lam: Tensor, gap: Tensor, b: Tensor, h0: Tensor, threads: int) -> tuple[Tensor, Tensor]:
    return b.new_empty(b.shape), h0.new_empty(h0.shape)


@torch.library.custom_op("eventbook::token_scan", mutates_args=())
def _token_scan(
    lam: Tensor, gap: Tensor, table: Tensor, token: Tensor, h0: Tensor, threads: int
) -> tuple[Tensor, Tensor]:
    row_of = array(token)
    check_tokens(row_of, table.shape[0])
    if row_of.size == 0:
        return new((*gap.shape, lam.shape[0]), h0), copy(h0)
    return _scan(array(lam), array(gap), array(table)[None], row_of, h0, threads)


@_token_scan.register_fake
def _(
    lam: Tensor, gap: Tensor, table: Tensor, token: Tensor, h0: Tensor, threads: int
) -> tuple[Tensor, Tensor]:
    return h0.new_empty(*gap.shape, lam.shape[0]), h0.new_empty(h0.shape)


@torch.library.custom_op("eventbook::event_scan_backward", mutates_args=())
def _event_scan_backward(
    h_gradient: Tensor, last_gradient: Tensor, lam: Tensor, gap: Tensor, h: Tensor, h0: Tensor, threads: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    eigenvalues, times_between = array(lam), array(gap)
    b_gradient, carry, gap_gradient = new(h.shape, h), copy(last_gradient), new(gap.shape, gap)
    big = (array(h_gradient), array(h), array(h0), carry.numpy(), b_gradient.numpy())
    batch, width = h0.shape
    sums: NDArray[Any]
    if h.dtype == torch.complex128:
        sums = np.zeros((batch, width), np.complex128)
        over_batch(_backward_double, threads, (times_between, *big, gap_gradient.numpy(), sums), eigenvalues)
        total = sums.sum(0)
    else:
        parts = padded_parts(eigenvalues)
        sums = np.zeros((batch, 2, parts[0].size))
        rows = (times_between, *map(flat, big), gap_gradient.numpy(), sums)
        over_batch(_backward, threads, rows, *parts, width, beyond_cache(big[-1]))
        total = sums[:, 0, :width].sum(0) + 1j * sums[:, 1, :width].sum(0)
    return torch.from_numpy(total).to(lam.dtype), gap_gradient, b_gradient, carry


@_event_scan_backward.register_fake
def _(
    h_gradient: Tensor, last_gradient: Tensor, lam: Tensor, gap: Tensor, h: Tensor, h0: Tensor, threads: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return lam.new_empty(lam.shape), gap.new_empty(gap.shape), h.new_empty(h.shape), h0.new_empty(h0.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    lam, gap, _, h0, ctx.threads = inputs
    ctx.save_for_backward(lam, gap, output[0], h0)


def _pull_back(ctx: Any, h_gradient: Tensor, last_gradient: Tensor) -> tuple[Tensor | None, ...]:
    return *_event_scan_backward(h_gradient, last_gradient, *ctx.saved_tensors, ctx.threads), None


def _keep_tokens(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    lam, gap, table, token, h0, ctx.threads = inputs
    ctx.save_for_backward(lam, gap, output[0], h0, token)
    ctx.rows = table.shape[0]


def _pull_back_tokens(ctx: Any, h_gradient: Tensor, last_gradient: Tensor) -> tuple[Tensor | None, ...]:
    *saved, token = ctx.saved_tensors
    to_lam, to_gap, to_b, to_h0 = _event_scan_backward(h_gradient, last_gradient, *saved, ctx.threads)
    to_table = to_b.new_zeros(ctx.rows, to_b.shape[2]).index_add(0, token.flatten(), to_b.flatten(0, 1))
    return to_lam, to_gap, to_table, None, to_h0, None


_event_scan.register_autograd(_pull_back, setup_context=_keep)
_token_scan.register_autograd(_pull_back_tokens, setup_context=_keep_tokens)
forbid_second_backward(_event_scan_backward, "event_scan")
fold_into_batch(_event_scan, (False, True, True, True, None))
fold_into_batch(_token_scan, (False, True, False, True, True, None))


def _check(lam: Tensor, gap: Tensor, width: str, **complex_tensors: Tensor | None) -> None:
    dtype = same_dtype(COMPLEX, lam=lam, **complex_tensors)
    if gap.dtype != real_dtype(dtype):
        raise TypeError(f"gap must be {real_dtype(dtype)}, the real part's dtype of lam, got {gap.dtype}")


def event_scan(
    lam: Eigenvalues, gap: Gaps, b: Events, h0: State | None = None, *, threads: int = 1
) -> tuple[Events, State]:
    """Run h_t = exp(lam gap_t) h_{t-1} + b_t over the events of a stream.

    Parameters
    ----------
    lam
        Eigenvalues times the step size, (state,), complex64 or complex128.
    gap
        Time since the element before, (batch, time), in 0..2^100, float32 or float64. The first one lies
        between `h0` and the first element; without a history it is 0 by convention. In the units of 1 / lam.
        In the padding it is 0, which leaves the state as it is. An infinite one is refused, in both
        precisions: a state that is to be forgotten ends its row.
    b
        Input, gain included, (batch, time, state).
    h0
        State before the first gap, (batch, state); zeros if not given.
    threads
        Threads over the batch.

    Returns
    -------
    h
        (batch, time, state), the state right after each element.
    last
        (batch, state), the state after the last one, or h0 if there is none.

    Raises
    ------
    ValueError
        If shapes do not fit, or a gap is negative, not a number or above 2^100; the message names the
        first.
    TypeError
        If dtypes differ or are not complex (`gap`: real) of one precision.

    Source: Schöne et al. 2024 (Event-SSM).
    """
    sizes = axes(
        b=(b, "batch time state"), lam=(lam, "state"), gap=(gap, "batch time"), h0=(h0, "batch state")
    )
    _check(lam, gap, "state", b=b, h0=h0)
    if h0 is None:
        h0 = b.new_zeros(sizes["batch"], sizes["state"])
    return _event_scan(lam, gap, b, h0, threads)


def token_scan(
    lam: Eigenvalues,
    gap: Gaps,
    table: Complex[Tensor, "tokens state"],
    token: Int[Tensor, "batch time"],
    h0: State | None = None,
    *,
    threads: int = 1,
) -> tuple[Events, State]:
    """`event_scan` on rows of a table: embedding, norm, input map and gain of each token, computed once.

    Parameters
    ----------
    lam, gap, h0, threads
        As `event_scan`.
    table
        Input of each token, (tokens, state).
    token
        Row of each event, (batch, time), int64.

    Returns
    -------
    h, last
        As `event_scan`.

    Raises
    ------
    ValueError
        As `event_scan`, and if a token has no row; the message names the first one.
    TypeError
        As `event_scan`, and if token is not int64.
    """
    sizes = axes(
        gap=(gap, "batch time"),
        token=(token, "batch time"),
        table=(table, "tokens state"),
        lam=(lam, "state"),
        h0=(h0, "batch state"),
    )
    _check(lam, gap, "state", table=table, h0=h0)
    if token.dtype != torch.int64:
        raise TypeError(f"token must be torch.int64, got {token.dtype}")
    if h0 is None:
        h0 = table.new_zeros(sizes["batch"], sizes["state"])
    return _token_scan(lam, gap, table, token, h0, threads)


def event_step(
    lam: Eigenvalues, gap: Float[Tensor, "batch"], b: Complex[Tensor, "batch state"], h: State
) -> State:
    """One event: exp(lam gap) h + b, the very numbers of `event_scan`.

    Parameters
    ----------
    lam : (state,), gap : (batch,), b and h : (batch, state)

    Returns
    -------
    (batch, state)
    """
    axes(b=(b, "batch state"), lam=(lam, "state"), gap=(gap, "batch"), h=(h, "batch state"))
    return event_scan(lam, gap[:, None], b[:, None], h)[1]


def event_scan_reference(
    lam: Eigenvalues, gap: Gaps, b: Events, h0: State | None = None
) -> tuple[Events, State]:
    """Readable twin of `event_scan`: forms the decays and runs the linear recurrence."""
    return linear_scan_reference(torch.exp(lam * gap[..., None]), b, h0)
