r"""The short causal convolution of a Mamba block with its activation, each channel by itself.

    c_t = bias + sum_k w_k x_{t-K+1+k},   k = 0..K-1            y_t = silu(c_t) = c_t s(c_t)

    r_t = gy_t s(c_t) (1 + c_t (1 - s(c_t)))                     gradient that reaches c_t
    dE/dx_t = sum_j w_{K-1-j} r_{t+j},  dE/dw_k = sum_{batch,t} r_t x_{t-K+1+k},  dE/dbias = sum_{batch,t} r_t

| symbol | meaning | shape | name |
|---|---|---|---|
| x | input | (batch, time, channel) | `x` |
| w | weights; the last meets the element itself | (channel, K) | `weight` |
| bias | | (channel,) | `bias` |
| x_{1-K}..x_{-1} | inputs before the first | (batch, K - 1, channel) | `before` |
| s | logistic function | - | - |

As operations of torch this is a sum of K shifted copies, and going back each of them is a copy again, with
zeros around it: twenty passes through memory that the kernel does in two. Going back, c is computed once
more. Sums over time are taken in single precision over `FLUSH` elements and in double precision beyond.

Source: Gu and Dao 2023 (Mamba). Gradients derived.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.elementary import logistic
from eventbook.kernels.machinery.tensors import (
    FLOATING,
    array,
    axes,
    flat,
    fold_into_batch,
    forbid_second_backward,
    new,
    same_dtype,
)
from eventbook.kernels.machinery.threads import over_batch
from eventbook.kernels.machinery.vectors import LANES, load, load_first, scratch, splat, store, store_first

FLUSH = 64  # elements of time that are summed in single precision
_ONE = np.float32(1)
Sequence = Float[Tensor, "batch time channel"]


@kernel(inline=True)
def _sum(x, before, t, d, n, width, taps, padded, weights):
    """c_t of the 16 channels from d on; `x` and `before` are of one batch row."""
    total = load(weights, taps * padded + d)
    for k in range(taps):
        at = t - taps + 1 + k
        source = (
            load_first(x, at * width + d, n)
            if at >= 0
            else load_first(before, (at + taps - 1) * width + d, n)
        )
        total = total + source * load(weights, k * padded + d)
    return total


@kernel()
def _forward(x, before, y, weights, width, taps):
    """x, y: (batch, time * width); before: (batch, (taps - 1) * width); weights: (taps + 1) rows of whole
    blocks, the last one the bias."""
    padded = weights.size // (taps + 1)
    for row in range(x.shape[0]):
        now, earlier, out = x[row], before[row], y[row]
        for t in range(x.shape[1] // width):
            for d in range(0, width, LANES):
                n = min(LANES, width - d)
                c = _sum(now, earlier, t, d, n, width, taps, padded, weights)
                store_first(out, t * width + d, n, c * logistic(c))


@kernel()
def _backward(g, x, before, x_gradient, before_gradient, sums, weights, width, taps):
    """As `_forward`; sums: (batch, weights) in double precision, zero on entry, for weights and bias."""
    padded = weights.size // (taps + 1)
    reached = scratch(taps * padded)  # r of the last `taps` elements, in turns
    partial = scratch(weights.size)
    for row in range(x.shape[0]):
        now, earlier, arriving, total = x[row], before[row], g[row], sums[row]
        to_x, to_before = x_gradient[row], before_gradient[row]
        reached[:], partial[:] = 0, 0
        time = x.shape[1] // width
        for t in range(time - 1, -taps, -1):
            for d in range(0, width, LANES):
                n = min(LANES, width - d)
                r = splat(np.float32(0))
                if t >= 0:
                    c = _sum(now, earlier, t, d, n, width, taps, padded, weights)
                    s = logistic(c)
                    r = load_first(arriving, t * width + d, n) * s * (c * (_ONE - s) + _ONE)
                    for k in range(taps):
                        at, i = t - taps + 1 + k, k * padded + d
                        source = (
                            load_first(now, at * width + d, n)
                            if at >= 0
                            else load_first(earlier, (at + taps - 1) * width + d, n)
                        )
                        store(partial, i, load(partial, i) + r * source)
                    store(partial, taps * padded + d, load(partial, taps * padded + d) + r)
                store(reached, (t + taps) % taps * padded + d, r)
                falling = splat(np.float32(0))
                for j in range(taps):
                    i = (t + taps + j) % taps * padded + d
                    falling = falling + load(reached, i) * load(weights, (taps - 1 - j) * padded + d)
                if t >= 0:
                    store_first(to_x, t * width + d, n, falling)
                else:
                    store_first(to_before, (t + taps - 1) * width + d, n, falling)
            if t % FLUSH == 0 and t >= 0:
                for i in range(weights.size):
                    total[i] += partial[i]
                partial[:] = 0


def _packed(weight: Tensor, bias: Tensor) -> NDArray[Any]:
    """Weights of each tap and the bias, padded with zeros to whole blocks."""
    channels, taps = weight.shape
    padded = torch.zeros(taps + 1, -(-channels // LANES) * LANES)  # aligned to cache lines
    padded[:taps, :channels], padded[taps, :channels] = weight.T, bias
    return padded.view(-1).numpy()


@torch.library.custom_op("eventbook::causal_silu", mutates_args=())
def _causal_silu(x: Tensor, weight: Tensor, bias: Tensor, before: Tensor, threads: int) -> Tensor:
    y, (channels, taps) = new(x.shape, x), weight.shape
    if x.numel():
        rows = (*(flat(array(s)) for s in (x, before)), flat(y.numpy()))
        over_batch(_forward, threads, rows, _packed(weight, bias), channels, taps)
    return y


@_causal_silu.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, before: Tensor, threads: int) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("eventbook::causal_silu_backward", mutates_args=())
def _causal_silu_backward(
    y_gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor, before: Tensor, threads: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (channels, taps), packed = weight.shape, _packed(weight, bias)
    to_x, to_before = new(x.shape, x), new(before.shape, before)
    sums = np.zeros((len(x), packed.size))
    if x.numel():
        given = tuple(flat(array(s)) for s in (y_gradient, x, before))
        results = (flat(to_x.numpy()), flat(to_before.numpy()), sums)
        over_batch(_backward, threads, given + results, packed, channels, taps)
    else:
        to_before.zero_()
    total = torch.from_numpy(sums.sum(0).astype(np.float32)).view(taps + 1, -1)[:, :channels]
    return to_x, total[:taps].T.contiguous(), total[taps].clone(), to_before


@_causal_silu_backward.register_fake
def _(
    y_gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor, before: Tensor, threads: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return tuple(s.new_empty(s.shape) for s in (x, weight, bias, before))  # type: ignore[return-value]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.threads = inputs
    ctx.save_for_backward(*tensors)


def _pull_back(ctx: Any, y_gradient: Tensor) -> tuple[Tensor | None, ...]:
    return *_causal_silu_backward(y_gradient, *ctx.saved_tensors, ctx.threads), None


_causal_silu.register_autograd(_pull_back, setup_context=_keep)
forbid_second_backward(_causal_silu_backward, "causal_silu")
fold_into_batch(_causal_silu, (True, False, False, True, None))


def causal_silu(
    x: Sequence,
    weight: Float[Tensor, "channel taps"],
    bias: Float[Tensor, "channel"],
    before: Float[Tensor, "batch taps-1 channel"] | None = None,
    *,
    threads: int = 1,
) -> tuple[Sequence, Float[Tensor, "batch taps-1 channel"]]:
    """silu of the causal convolution of each channel.

    Parameters
    ----------
    x
        Input, (batch, time, channel); float32 or float64.
    weight, bias
        (channel, taps), taps >= 1, the last one for the element itself; (channel,).
    before
        Inputs before the first, (batch, taps - 1, channel); zeros if not given.
    threads
        Threads over the batch.

    Returns
    -------
    y
        (batch, time, channel).
    window
        The last taps - 1 inputs, which the next call takes for `before`.

    Raises
    ------
    ValueError
        If shapes do not fit.
    TypeError
        If dtypes differ.
    """
    sizes = axes(
        x=(x, "batch time channel"), weight=(weight, "channel taps"), bias=(bias, "channel")
    )  # fmt: skip
    taps = sizes["taps"]
    if taps < 1:
        raise ValueError(f"weight must be (channel, taps) with taps >= 1, got {tuple(weight.shape)}")
    shape = (sizes["batch"], taps - 1, sizes["channel"])
    before = x.new_zeros(shape) if before is None else before
    axes(before=(before, "batch taps-1 channel"))
    if tuple(before.shape) != shape:
        raise ValueError(f"before must be (batch, taps - 1, channel) = {shape}, got {tuple(before.shape)}")
    same_dtype(FLOATING, x=x, weight=weight, bias=bias, before=before)
    window = torch.cat([before, x[:, max(0, sizes["time"] - taps + 1) :]], 1)
    window = window[:, window.shape[1] - taps + 1 :]
    if x.dtype == torch.float64:
        return causal_silu_reference(x, weight, bias, before), window
    return _causal_silu(x, weight, bias, before, threads), window


def causal_silu_reference(x: Sequence, weight: Tensor, bias: Tensor, before: Tensor) -> Sequence:
    """Readable twin of `causal_silu`, differentiable by torch itself; it serves double precision."""
    longer, time = torch.cat([before, x], 1), x.shape[1]
    return functional.silu(bias + sum(longer[:, k : k + time] * weight[:, k] for k in range(weight.shape[1])))
