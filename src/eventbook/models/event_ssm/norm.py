r"""Normalisation over channels, or over the events of a batch, counted as often as they occur.

    layer   y = scale (x - mean_c x) / sqrt(var_c x + eps) + shift             for each event
    batch   y = scale (x - m) / sqrt(v + eps) + shift,   m = sum_i w_i x_i / sum_i w_i,   v likewise

| symbol | meaning | shape | name |
|---|---|---|---|
| x | values, a row an event or a token | (..., channel) | `x` |
| w | how often a row counts: 1 an event, 0 padding, a token as often as it occurs | (...) | `weight` |
| m, v | mean and variance; in evaluation running averages | (channel,) | `mean`, `variance` |

With weights, the statistics of a million events can be taken from a table of seven hundred tokens, and
padding changes nothing.

Source: the released code of arXiv:2404.18508 (batch norm for Speech Commands with momentum 0.95, layer norm
otherwise, eps 1e-6 as in its framework); weights are ours.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

EPSILON = 1e-6
MOMENTUM = 0.95  # share of the running average that a training step keeps


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` that accepts weights and does not need them."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPSILON)

    def forward(
        self, x: Float[Tensor, "*row channel"], weight: Float[Tensor, "*row"] | None = None
    ) -> Float[Tensor, "*row channel"]:
        return super().forward(x)


class BatchNorm(nn.Module):
    """Batch norm over weighted rows; see the module.

    Raises
    ------
    ValueError
        If no row counts in training: there would be no mean.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(
        self, x: Float[Tensor, "*row channel"], weight: Float[Tensor, "*row"] | None = None
    ) -> Float[Tensor, "*row channel"]:
        if not self.training:
            return self._scaled(x, self.mean, self.variance)
        rows = x.flatten(0, -2)
        share = x.new_ones(len(rows)) if weight is None else weight.flatten().to(x.dtype)
        if not torch.compiler.is_compiling() and not share.sum() > 0:
            raise ValueError("weight must count at least one row of a batch in training, got none")
        share = share / share.sum()
        mean = share @ rows
        variance = share @ (rows - mean).square()
        with torch.no_grad():
            self.mean.lerp_(mean, 1 - MOMENTUM)
            self.variance.lerp_(variance, 1 - MOMENTUM)
        return self._scaled(x, mean, variance)

    def _scaled(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        slope = self.weight * torch.rsqrt(variance + EPSILON)
        return x * slope + (self.bias - mean * slope)


NORMS = {"layer": LayerNorm, "batch": BatchNorm}
