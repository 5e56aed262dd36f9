r"""From graded events to a signal: a low-pass trace, and what is read from a sequence at its end.

    tr_t = d tr_{t-1} + (1 - d) y_t                        d = 0.9

| symbol | meaning | shape | name |
|---|---|---|---|
| y | what units say | (batch, time, unit) | `output` |
| tr | trace; tr_0 | (batch, time, unit); (batch, unit) | `trace`; `initial` |
| d | decay | number in [0, 1) | `decay` |

A unit that spoke k steps ago still counts with weight 0.1 0.9^k, so that gradients reach events which nothing
follows: d tr_t / d y_s = (1 - d) d^(t - s). The released code reads the trace at the last step for images
read pixel by pixel and its mean over all steps for gestures.

Source: the released code of arXiv:2206.06178; the scan of `eventbook.kernels.scans`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eventbook.kernels.machinery.lengths import check_lengths, without_padding
from eventbook.kernels.machinery.tensors import FLOATING, axes, same_dtype
from eventbook.kernels.scans import constant_scan

DECAY = 0.9


def trace(
    output: Float[Tensor, "batch time unit"],
    initial: Float[Tensor, "batch unit"] | None = None,
    *,
    decay: float = DECAY,
) -> tuple[Float[Tensor, "batch time unit"], Float[Tensor, "batch unit"]]:
    """The trace after every step, and after the last.

    Parameters
    ----------
    output
        y, float32 or float64.
    initial
        What an earlier call returned last; zeros if not given.
    decay
        d, at least 0 and below 1.

    Raises
    ------
    ValueError
        If shapes do not fit or the decay is out of range.
    TypeError
        If dtypes differ.

    Examples
    --------
    >>> trace(torch.tensor([[[1.0], [0.0]]]))[0].flatten()
    tensor([0.1000, 0.0900])
    """
    sizes = axes(output=(output, "batch time unit"), initial=(initial, "batch unit"))
    same_dtype(FLOATING, output=output, initial=initial)
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
    return constant_scan(output.new_full((sizes["unit"],), decay), (1 - decay) * output, initial)


def at_end(
    values: Float[Tensor, "batch time unit"], lengths: Int[Tensor, "batch"] | None = None
) -> Float[Tensor, "batch unit"]:
    """Values of the last step of each row that is no padding.

    Raises
    ------
    ValueError
        If shapes do not fit or a row has no step; names the first.
    TypeError
        If lengths are no integers.
    """
    lengths = _lengths(values, lengths)
    return values.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, values.shape[2])).squeeze(1)


def mean_over_time(
    values: Float[Tensor, "batch time unit"], lengths: Int[Tensor, "batch"] | None = None
) -> Float[Tensor, "batch unit"]:
    """Mean over the steps of each row that are no padding, whatever stands there; errors as `at_end`."""
    padded, lengths = lengths is not None, _lengths(values, lengths)
    if padded:
        values = without_padding(values, lengths)
    here = torch.arange(values.shape[1], device=values.device) < lengths[:, None]
    return torch.einsum("bt,btu->bu", here.to(values.dtype) / lengths[:, None].to(values.dtype), values)


def _lengths(values: Tensor, lengths: Tensor | None) -> Tensor:
    sizes = axes(values=(values, "batch time unit"), lengths=(lengths, "batch"))
    if lengths is None:
        lengths = torch.full((sizes["batch"],), sizes["time"])
    return check_lengths(lengths, sizes["time"], 1).to(torch.int64)
