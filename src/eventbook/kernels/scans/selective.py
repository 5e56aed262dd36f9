r"""The selective scan of Mamba, and of STREAM, where a distance drives the decay of the state.

    x_t = exp(delta_a_t A) x_{t-1} + delta_t B_t u_t,       y_t = sum_n C_{t,n} x_{t,n} + D u_t
    (elementwise)

    s_t = C_t gy_t + exp(delta_a_{t+1} A) s_{t+1}                       gradient that reaches x_t
    dE/du       = sum_n s delta B + D gy            dE/dB_{t,n} = sum_d s delta u
    dE/ddelta   = sum_n s B u                       dE/dC_{t,n} = sum_d gy x
    dE/ddelta_a = sum_n s x_{t-1} a A               dE/dA_{d,n} = sum_{batch,t} s x_{t-1} a delta_a
    dE/dD       = sum_{batch,t} gy u                dE/dx_0     = a_1 s_1,           a = exp(delta_a A)

In Mamba delta_a is delta: the learned step decides both how much is forgotten and how much is taken in. In
STREAM delta_a is a distance, gap times a rate per channel (`coordinate_scan`), and delta stays learned.

| symbol | meaning | shape | name |
|---|---|---|---|
| u | input | (batch, time, channel) | `u` |
| delta | step of the input, > 0 | (batch, time, channel) | `delta` |
| delta_a | step of the state, >= 0 | (batch, time, channel) | `delta_a` |
| A | state matrix, negative | (channel, state) | `A` |
| B, C | input and output projections | (batch, time, state) | `B`, `C` |
| D | feed-through | (channel,) | `D` |
| z | gate: y silu(z) | (batch, time, channel) | `z` |
| x_0, x_L | state before the first and after the last element | (batch, channel, state) | `h0`, `last` |
| gap | distance to the element before | (batch, time) | `gap` |
| rate | its weight per channel | (channel,) | `rate` |

The loops, and why they are arranged as they are, are in `eventbook.kernels.scans.selective_kernels`.

Source: Gu and Dao 2023 (Mamba); Schöne et al. 2024 (STREAM). Gradients derived.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eventbook.kernels.machinery.tensors import (
    FLOATING,
    array,
    axes,
    copy,
    flat,
    fold_into_batch,
    new,
    same_dtype,
)
from eventbook.kernels.machinery.tensors import forbid_second_backward as forbid
from eventbook.kernels.machinery.threads import over_batch
from eventbook.kernels.machinery.vectors import LANES
from eventbook.kernels.scans import selective_kernels as loops
from eventbook.kernels.scans.event import check_gaps

Sequence = Float[Tensor, "batch time channel"]
Projection = Float[Tensor, "batch time state"]
State = Float[Tensor, "batch channel state"]

RULES = {"mamba": loops.MAMBA, "zoh": loops.ZOH, "bilinear": loops.BILINEAR}
_RULES = tuple(RULES)
_LOG2_E = float(np.log2(np.e))


# --- layout: 16 channels side by side ----------------------------------------------------------------------


def _blocks(channels: int) -> int:
    return -(-channels // LANES)


def _pack(x: Tensor, scale: float = 1) -> NDArray[Any]:
    """(batch, channel, state) -> (batch, blocks * state * 16), times a number; missing channels are zero."""
    batch, channels, states = x.shape
    size = _blocks(channels) * states * LANES
    packed = torch.zeros(batch, size, dtype=torch.float32).numpy()  # aligned to cache lines
    loops.pack(array(x), np.float32(scale), packed)
    return packed


def _unpack(packed: NDArray[Any], like: Tensor) -> Tensor:
    """The inverse of `_pack`, in the shape of `like`."""
    x = torch.empty(like.shape, dtype=like.dtype)
    loops.unpack(packed, x.numpy())
    return x


def _padded(x: Tensor) -> NDArray[Any]:
    padded = torch.zeros(_blocks(len(x)) * LANES, dtype=torch.float32).numpy()
    padded[: len(x)] = array(x)
    return padded


def _kept(u: Tensor, A: Tensor) -> int:
    """Numbers that the forward pass keeps for a batch row: a state for every chunk, in single precision."""
    chunks = (u.shape[1] + loops.CHUNK - 1) // loops.CHUNK
    return chunks * _blocks(u.shape[2]) * LANES * A.shape[1] if u.dtype == torch.float32 else 0


def _kind(delta_a: Tensor, rate: Tensor) -> tuple[int, ...]:
    return loops.RANK_ONE if rate.numel() else loops.GIVEN if delta_a.numel() else loops.OWN


def _rows(*tensors: Tensor) -> tuple[NDArray[Any], ...]:
    return tuple(flat(array(tensor)) for tensor in tensors)


def _step_double(delta: Tensor, delta_a: Tensor, gap: Tensor, rate: Tensor) -> Tensor:
    kind = _kind(delta_a, rate)
    if kind == loops.RANK_ONE:
        return gap[..., None] * rate
    return delta_a if kind == loops.GIVEN else delta


# --- operators: an argument that is not used is an empty tensor --------------------------------------------


@torch.library.custom_op("eventbook::selective_scan", mutates_args=())
def _selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor,
    delta_a: Tensor, gap: Tensor, rate: Tensor, h0: Tensor, rule: str, keep: bool, threads: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """y, last state, and (if `keep`) the states that the backward pass starts its chunks from."""
    if gap.numel():
        check_gaps(array(gap))
    batch, _, channels = u.shape
    if not h0.numel():  # there is no state: what is left is the feed-through
        return u * D, copy(h0), u.new_empty(batch, _kept(u, A) if keep else 0)
    states, y = A.shape[1], new(u.shape, u)
    if u.dtype == torch.float64:
        last = copy(h0)
        step = _step_double(delta, delta_a, gap, rate)
        given = tuple(array(x) for x in (u, delta, step, B, C))
        rest = (RULES[rule], array(A), array(D))
        over_batch(loops.forward_double, threads, (*given, y.numpy(), last.numpy()), *rest)
        return y, last, h0.new_empty(batch, 0)
    state = _pack(h0)
    kept = new((batch, _kept(u, A) if keep else 0), u)
    given = (*_rows(u, delta, _full(delta_a, batch)), _gaps(gap, batch), *_rows(B, C))
    results = (*_rows(y), state, *_rows(kept))
    over_batch(loops.forward, threads, given + results, *_rest(delta_a, rule, rate, A, D), channels, states)
    return y, _unpack(state, h0), kept


def _full(delta_a: Tensor, batch: int) -> Tensor:
    return delta_a if delta_a.numel() else delta_a.new_empty(batch, 0)


def _gaps(gap: Tensor, batch: int) -> NDArray[Any]:
    return array(gap) if gap.numel() else np.empty((batch, 0), np.float32)


def _rest(delta_a: Tensor, rule: str, rate: Tensor, A: Tensor, D: Tensor) -> tuple[Any, ...]:
    return _kind(delta_a, rate), RULES[rule], _padded(rate), _pack(A[None], _LOG2_E)[0], _padded(D)


@_selective_scan.register_fake
def _(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor,
    delta_a: Tensor, gap: Tensor, rate: Tensor, h0: Tensor, rule: str, keep: bool, threads: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    kept = _kept(u, A) if keep else 0
    return u.new_empty(u.shape), h0.new_empty(h0.shape), u.new_empty(u.shape[0], kept)


@torch.library.custom_op("eventbook::selective_scan_backward", mutates_args=())
def _selective_scan_backward(
    y_gradient: Tensor, last_gradient: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor, delta_a: Tensor, gap: Tensor, rate: Tensor, h0: Tensor, kept: Tensor, rule: str, threads: int,
) -> list[Tensor]:  # fmt: skip
    """Gradients to u, delta, A, B, C, D, delta_a, gap, rate, h0; empty where the input is."""
    if not h0.numel():
        zeros = map(torch.zeros_like, (delta, A, B, C))
        others = map(torch.zeros_like, (delta_a, gap, rate))
        return [y_gradient * D, *zeros, (y_gradient * u).sum((0, 1)), *others, copy(last_gradient)]
    if u.dtype == torch.float64:
        return _backward_double(
            y_gradient, last_gradient, u, delta, A, B, C, D, delta_a, gap, rate, h0, rule, threads
        )
    batch, _, channels = u.shape
    states = A.shape[1]
    to_u, to_delta, to_step, to_gap, to_b, to_c = (new(x.shape, x) for x in (u, delta, delta_a, gap, B, C))
    carry = _pack(last_gradient)
    packed, padded = carry.shape[1], _blocks(channels) * LANES
    sums = np.zeros((batch, packed + 2 * padded))
    rows = (
        *_rows(y_gradient, u, delta, _full(delta_a, batch)), _gaps(gap, batch), *_rows(B, C, kept), carry,
        *_rows(to_u, to_delta, _full(to_step, batch)), _gaps(to_gap, batch), *_rows(to_b, to_c), sums,
    )  # fmt: skip
    over_batch(loops.backward, threads, rows, *_rest(delta_a, rule, rate, A, D), channels, states)
    total = sums.sum(0).astype(np.float32)
    to_a, to_skip, to_rate = np.split(total, [packed, packed + padded])
    return [
        to_u, to_delta, _unpack(to_a[None], A[None])[0], to_b, to_c, torch.tensor(to_skip[:channels]),
        to_step, to_gap, torch.tensor(to_rate[: rate.numel()]), _unpack(carry, h0),
    ]  # fmt: skip


def _backward_double(
    y_gradient: Tensor, last_gradient: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor, delta_a: Tensor, gap: Tensor, rate: Tensor, h0: Tensor, rule: str, threads: int,
) -> list[Tensor]:  # fmt: skip
    step = _step_double(delta, delta_a, gap, rate)
    carry = copy(last_gradient)
    to_u, to_delta, to_step = (torch.empty(u.shape, dtype=u.dtype) for _ in range(3))
    to_b, to_c = torch.zeros(B.shape, dtype=u.dtype), torch.zeros(C.shape, dtype=u.dtype)
    to_a = torch.zeros(h0.shape, dtype=u.dtype)
    to_skip = torch.zeros(u.shape[0], u.shape[2], dtype=u.dtype)
    given = tuple(array(x) for x in (y_gradient, u, delta, step, B, C, h0))
    results = tuple(x.numpy() for x in (to_u, to_delta, to_step, to_b, to_c, to_a, to_skip))
    rest = (RULES[rule], array(A), array(D))
    over_batch(loops.backward_double, threads, (*given, carry.numpy(), *results), *rest)
    to_gap, to_rate, kind = gap.new_empty(gap.shape), rate.new_empty(rate.shape), _kind(delta_a, rate)
    if kind == loops.RANK_ONE:
        to_gap, to_rate = to_step @ rate, (gap[..., None] * to_step).sum((0, 1))
    if kind == loops.OWN:
        to_delta = to_delta + to_step
    to_step = to_step if kind == loops.GIVEN else delta_a.new_empty(delta_a.shape)
    return [to_u, to_delta, to_a.sum(0), to_b, to_c, to_skip.sum(0), to_step, to_gap, to_rate, carry]


@_selective_scan_backward.register_fake
def _(
    y_gradient: Tensor, last_gradient: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor, delta_a: Tensor, gap: Tensor, rate: Tensor, h0: Tensor, kept: Tensor, rule: str, threads: int,
) -> list[Tensor]:  # fmt: skip
    return [x.new_empty(x.shape) for x in (u, delta, A, B, C, D, delta_a, gap, rate, h0)]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.rule, _, ctx.threads = inputs
    ctx.save_for_backward(*tensors, output[2])


def _pull_back(ctx: Any, y_gradient: Tensor, last_gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    gradients = _selective_scan_backward(y_gradient, last_gradient, *ctx.saved_tensors, ctx.rule, ctx.threads)
    return *gradients, None, None, None


_selective_scan.register_autograd(_pull_back, setup_context=_keep)
forbid(_selective_scan_backward, "selective_scan")
fold_into_batch(
    _selective_scan, (True, True, False, True, True, False, True, True, False, True, None, None, None)
)


def _run(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, h0: Tensor | None,
    rule: str, threads: int,
    delta_a: Tensor | None = None, gap: Tensor | None = None, rate: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Check, fill in what was left out, scan."""
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
    sizes = axes(
        u=(u, "batch time channel"),
        delta=(delta, "batch time channel"),
        A=(A, "channel state"),
        B=(B, "batch time state"),
        C=(C, "batch time state"),
        D=(D, "channel"),
        delta_a=(delta_a, "batch time channel"),
        gap=(gap, "batch time"),
        rate=(rate, "channel"),
        h0=(h0, "batch channel state"),
    )
    same_dtype(FLOATING, u=u, delta=delta, A=A, B=B, C=C, D=D, delta_a=delta_a, gap=gap, rate=rate, h0=h0)
    D = u.new_zeros(sizes["channel"]) if D is None else D
    h0 = u.new_zeros(sizes["batch"], sizes["channel"], sizes["state"]) if h0 is None else h0
    none = u.new_empty(sizes["batch"], 0)
    given = (
        u, delta, A, B, C, D,
        none if delta_a is None else delta_a,
        none if gap is None else gap,
        u.new_empty(0) if rate is None else rate,
        h0,
    )  # fmt: skip
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in given)
    y, last, _ = _selective_scan(*given, rule, keep, threads)
    return y, last


# --- what chapters import ----------------------------------------------------------------------------------


def selective_scan(
    u: Sequence,
    delta: Sequence,
    A: Float[Tensor, "channel state"],
    B: Projection,
    C: Projection,
    D: Float[Tensor, "channel"] | None = None,
    *,
    z: Sequence | None = None,
    delta_softplus: bool = False,
    delta_a: Sequence | None = None,
    h0: State | None = None,
    rule: str = "mamba",
    threads: int = 1,
) -> tuple[Sequence, State]:
    """Run Mamba's selective scan over time.

    Parameters
    ----------
    u, delta
        Input and its step, (batch, time, channel); float32 or float64.
    A
        State matrix, (channel, state), negative for a stable state.
    B, C
        Projections, (batch, time, state).
    D
        Feed-through, (channel,); none by default.
    z
        Gate, (batch, time, channel): the output is multiplied by silu(z).
    delta_softplus
        Take softplus(delta) for the step.
    delta_a
        Step of the state, (batch, time, channel); delta (after the softplus) by default.
    h0
        State before the first element, (batch, channel, state); zeros by default.
    rule
        How the input is discretised: "mamba" (gain delta), "zoh" or "bilinear".
    threads
        Threads over the batch.

    Returns
    -------
    y
        (batch, time, channel).
    last
        State after the last element, (batch, channel, state).

    Raises
    ------
    ValueError
        If shapes do not fit or the rule is unknown.
    TypeError
        If dtypes differ.

    Source: Gu and Dao 2023 (Mamba); Schöne et al. 2024 (STREAM) for `delta_a`.
    """
    if delta_softplus:
        delta = functional.softplus(delta)
    y, last = _run(u, delta, A, B, C, D, h0, rule, threads, delta_a=delta_a)
    if z is None:
        return y, last
    axes(u=(u, "batch time channel"), z=(z, "batch time channel"))
    same_dtype(FLOATING, u=u, z=z)
    return y * functional.silu(z), last


def coordinate_scan(
    u: Sequence,
    gap: Float[Tensor, "batch time"],
    rate: Float[Tensor, "channel"],
    delta: Sequence,
    A: Float[Tensor, "channel state"],
    B: Projection,
    C: Projection,
    D: Float[Tensor, "channel"] | None = None,
    *,
    h0: State | None = None,
    rule: str = "mamba",
    threads: int = 1,
) -> tuple[Sequence, State]:
    """The selective scan of STREAM: the state decays with the distance between elements.

    As `selective_scan` with delta_a = gap x rate, which has rank one and is never stored.

    Parameters
    ----------
    gap
        Distance to the element before along the scanned coordinate, (batch, time), in 0..2^100.
    rate
        Its weight for each channel, (channel,), positive: softplus(beta) in the paper's terms.

    Returns
    -------
    y, last
        As `selective_scan`.

    Raises
    ------
    ValueError
        As `selective_scan`, and if a gap is negative, not a number or above 2^100; the message names the
        first.

    Source: Schöne et al. 2024 (STREAM).
    """
    return _run(u, delta, A, B, C, D, h0, rule, threads, gap=gap, rate=rate)


def selective_step(
    u: Float[Tensor, "batch channel"],
    delta: Float[Tensor, "batch channel"],
    A: Float[Tensor, "channel state"],
    B: Float[Tensor, "batch state"],
    C: Float[Tensor, "batch state"],
    h: State,
    D: Float[Tensor, "channel"] | None = None,
    *,
    delta_a: Float[Tensor, "batch channel"] | None = None,
    rule: str = "mamba",
) -> tuple[Float[Tensor, "batch channel"], State]:
    """One element, the very numbers of `selective_scan`: returns output (batch, channel) and state."""
    axes(u=(u, "batch channel"), delta=(delta, "batch channel"), B=(B, "batch state"), C=(C, "batch state"))
    step = None if delta_a is None else delta_a[:, None]
    y, last = selective_scan(
        u[:, None], delta[:, None], A, B[:, None], C[:, None], D, delta_a=step, h0=h, rule=rule
    )
    return y[:, 0], last


def selective_scan_reference(
    u: Sequence,
    delta: Sequence,
    A: Float[Tensor, "channel state"],
    B: Projection,
    C: Projection,
    D: Float[Tensor, "channel"] | None = None,
    *,
    delta_a: Sequence | None = None,
    h0: State | None = None,
    rule: str = "mamba",
) -> tuple[Sequence, State]:
    """Readable twin of `selective_scan`, differentiable by torch itself."""
    step = delta if delta_a is None else delta_a
    state = u.new_zeros(*u.shape[::2], A.shape[1]) if h0 is None else h0
    outputs = []
    for t in range(u.shape[1]):
        gain = delta[:, t, :, None]
        s, dt = step[:, t, :, None] * A, gain * A
        decay = torch.exp(s)
        if rule == "zoh":
            gain = torch.expm1(dt) / A
        elif rule == "bilinear":
            decay, gain = (1 + s / 2) / (1 - s / 2), gain / (1 - dt / 2)
        state = decay * state + gain * B[:, t, None] * u[:, t, :, None]
        y = (state * C[:, t, None]).sum(-1)
        outputs.append(y if D is None else y + D * u[:, t])
    return torch.stack(outputs, 1) if outputs else torch.empty_like(u), state
