r"""Linear maps as the networks of this package begin.

    W ~ N(0, 1 / d_in) cut at two standard deviations, of that variance after the cut,   b = 0

| symbol | meaning | shape | name |
|---|---|---|---|
| W, b | weights and bias | (d_out, d_in), (d_out,) | `dense` |

Everything random comes from the generator that is given, and is drawn in double precision: a network of
either precision begins at the same weights.

Source: LeCun et al. 1998 for the variance; the cut as in the framework of the released code of
arXiv:2404.18508.
"""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

_TRUNCATED = 0.87962566103423978  # standard deviation of a normal variable cut at two of its own


def truncated_normal(*shape: int, variance: float, generator: Generator | None) -> Float[Tensor, "..."]:
    """Normal numbers cut at two standard deviations, of this variance after the cut, float64."""
    values = torch.empty(shape, dtype=torch.float64)
    torch.nn.init.trunc_normal_(values, a=-2.0, b=2.0, generator=generator)
    return values * (math.sqrt(variance) / _TRUNCATED)


def dense(d_in: int, d_out: int, generator: Generator | None) -> nn.Linear:
    """A linear map with weights of variance 1/d_in, cut at two standard deviations, and no bias at first."""
    # torch's own initialisation would draw from its own generator
    layer = nn.utils.skip_init(nn.Linear, d_in, d_out, device=torch.get_default_device())
    with torch.no_grad():
        layer.weight.copy_(truncated_normal(d_out, d_in, variance=1 / d_in, generator=generator))
        layer.bias.zero_()
    return layer
