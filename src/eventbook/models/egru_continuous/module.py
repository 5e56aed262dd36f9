r"""The event-based GRU in continuous time as a layer with parameters.

| symbol | meaning | shape | at first | name |
|---|---|---|---|---|
| W_in | outgoing weights, blocks u, r, z | (n_tokens, 3 unit) | N(0, weight_scale^2) | `kernel` |
| W | the same of units | (unit, 3 unit) | N(0, weight_scale^2) | `recurrent` |
| b | biases, blocks u, r, z | (3 unit,) | N(-2, .1^2), N(1, .1^2), N(0, .1^2) | `bias` |
| log theta | thresholds, positive whatever an optimiser does | (unit,) | log .5 | `log_threshold` |

Parameters and streams are float64: times of events are roots, and a gradient divides by slopes at them.

Source: `egru`, continuous time; first values as in `eventax` 0.1.0, where thresholds are constants.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn

from eventbook.kernels.encoders.arguments import whole
from eventbook.models.egru_continuous.arguments import options
from eventbook.models.egru_continuous.function import egru_continuous
from eventbook.models.egru_continuous.operator import ContinuousRun

BIAS_MEANS = (-2.0, 1.0, 0.0)  # u, r, z
BIAS_SCALE = 0.1


class EGRUContinuous(nn.Module):
    """See the module.

    Parameters
    ----------
    n_tokens, hidden_size
        Kinds of external events, and units.
    tau_s, tau_m, gate_of, reset, payload, step, max_events
        As for `egru_continuous`.
    threshold
        First threshold of all units.
    weight_scale
        Standard deviation of the first weights.
    generator
        Source of the first values; torch's own if not given.

    Raises
    ------
    ValueError
        If a size or a number is not positive, or a word is none of those known.
    TypeError
        If a size is no whole number.

    Examples
    --------
    >>> import torch
    >>> layer = EGRUContinuous(2, 5, threshold=0.05, generator=torch.Generator().manual_seed(3))
    >>> time = torch.linspace(0, 30, 7, dtype=torch.float64)
    >>> run = layer(time, torch.arange(7) % 2, duration=50.0)
    >>> run.integral.sum().backward()
    >>> layer.recurrent.grad.shape
    torch.Size([5, 15])
    """

    def __init__(
        self,
        n_tokens: int,
        hidden_size: int,
        *,
        tau_s: float = 5.0,
        tau_m: float = 20.0,
        gate_of: str = "target",
        reset: str = "zero",
        payload: str = "graded",
        threshold: float = 0.5,
        weight_scale: float = 1.0,
        step: float | None = None,
        max_events: int = 10_000,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        whole(n_tokens, "n_tokens", 1)
        whole(hidden_size, "hidden_size", 1)
        for name, number in (("threshold", threshold), ("weight_scale", weight_scale)):
            if not 0 < number < math.inf:
                raise ValueError(f"{name} must be > 0 and finite, got {number}")
        chosen = options(1.0, gate_of, reset, payload, tau_s, tau_m, step, max_events)._asdict()
        del chosen["duration"]
        self.options = chosen

        def normal(*shape: int, scale: float) -> Tensor:
            return scale * torch.randn(*shape, dtype=torch.float64, generator=generator)

        self.kernel = nn.Parameter(normal(n_tokens, 3 * hidden_size, scale=weight_scale))
        self.recurrent = nn.Parameter(normal(hidden_size, 3 * hidden_size, scale=weight_scale))
        means = torch.tensor(BIAS_MEANS, dtype=torch.float64).repeat_interleave(hidden_size)
        self.bias = nn.Parameter(means + normal(3 * hidden_size, scale=BIAS_SCALE))
        first = torch.full((hidden_size,), math.log(threshold), dtype=torch.float64)
        self.log_threshold = nn.Parameter(first)

    @property
    def threshold(self) -> Float[Tensor, "unit"]:
        """Thresholds, exp(log_threshold)."""
        return self.log_threshold.exp()

    def forward(
        self,
        time: Float[Tensor, "event"],
        token: Int64[Tensor, "event"],
        *,
        duration: float,
        asked: Float[Tensor, "asked"] | None = None,
        value: Float[Tensor, "event"] | None = None,
        state: Float[Tensor, "4 unit"] | None = None,
    ) -> ContinuousRun:
        """Run over one stream: `egru_continuous` with the layer's parameters and options.

        Its `time`, `unit` and `value` are what a next layer takes as `time`, `token` and `value`.
        """
        rest: dict[str, Any] = self.options
        return egru_continuous(
            time, token, self.kernel, self.recurrent, self.bias, self.threshold,
            duration=duration, asked=asked, value=value, state=state, **rest,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Sizes and options."""
        words = ", ".join(f"{name}={choice}" for name, choice in self.options.items())
        return f"{self.kernel.shape[0]}, {self.recurrent.shape[0]}, {words}"
