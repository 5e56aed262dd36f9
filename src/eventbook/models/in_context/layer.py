r"""A state-space layer that can do gradient descent on what it reads, with everything in it to be trained.

    X_t = [s_t; ...; s_{t+w-1}]                      windows over the tokens, w = 3, stride 2
    U_t = X_t^T A X_t                                window attention, no softmax
    Z_t = exp(Lambda exp(log_step)) o Z_{t-1} + U_t^T
    o_t = X_t^T d
    p_t = -(C Z_t) o_t                               one head; more: `construction.implicit_weight`

| symbol | meaning | shape | name |
|---|---|---|---|
| s | tokens x_1, y_1, x_2, y_2, ... | (batch, time, features) | `tokens` |
| A | window attention of each head | (heads, width, width) | `window_attention` |
| Lambda | rate of each state | (heads, features, features) | `Lambda` |
| log_step | logarithm of the step of a row of states | (heads, features) | `log_step` |
| C | output map | (heads, features, features) | `C` |
| d | output gate | (width,) | `gate` |
| Z | accumulators, y by x | (batch, heads, features, features) | `Carried.accumulator` |

With the parameters of `construction` it is K steps of gradient descent to rounding; `GDLayer.constructed`
sets them. Fresh layers begin as the released ones, or with another output map:

    A ~ N(0, 0.1^2),   Lambda = -1/2,   log_step ~ U(log 1e-3, log 0.1),   d ~ N(0, 1)
    C    "lecun_normal" of variance 1/f^2,    "trunc_standard_normal" of variance 1/f

(The released C has a third axis of two, and the fan of its lecun is taken over the first two: hence 1/f^2.)

Three parts can be left out to see whether they are needed. Without attention, U_t = 1 (a^T X_t^T), linear in
the window; without the gate, o_t = 1; and windows of width 2 do not reach the next x.

Source: Sushma et al., arXiv:2410.11687, version 1, and its released code. The heads of K > 2 and the form
for pieces are ours.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.machinery.tensors import FLOATING, axes, same_dtype
from eventbook.models.event_ssm.initialization import log_steps
from eventbook.models.in_context.construction import (
    STRIDE,
    WIDTH,
    accumulate,
    construction,
    implicit_weight,
    outer_products,
    predictions,
    windows_of,
)
from eventbook.models.initialization import truncated_normal

OUTPUT_MAPS = ("lecun_normal", "trunc_standard_normal")
STEP_MIN, STEP_MAX = 1e-3, 0.1
ATTENTION_STD, RATE = 0.1, -0.5


class Carried(NamedTuple):
    """What a layer carries from one piece to the next: sums, and tokens of the window that is not full."""

    accumulator: Float[Tensor, "batch heads features features"]
    rest: Float[Tensor, "batch left features"]


class GDLayer(nn.Module):
    """See the module.

    Parameters
    ----------
    features
        Size f of a token.
    gd_steps
        Steps K that the layer could do: it has 2K - 1 heads.
    width, stride
        Of the windows.
    attention, gate
        False leaves the part out.
    output_map
        Initial law of C: "lecun_normal" (released) or "trunc_standard_normal".
    generator
        Source of the initial values; torch's own if not given.

    Raises
    ------
    ValueError
        If a size is below 1, windows leave tokens out, or the word is none of those named.
    TypeError
        If a size is no whole number.

    Examples
    --------
    One step of gradient descent on two examples of y = 2 x, at x = 3:

    >>> layer = GDLayer.constructed(features=1, context=2, eta=1.0)
    >>> layer.predict(torch.tensor([[[0.5], [1.0], [1.0], [2.0], [3.0]]]))
    tensor([[3.7500]], grad_fn=<SqueezeBackward1>)
    """

    def __init__(
        self,
        features: int,
        *,
        gd_steps: int = 1,
        width: int = WIDTH,
        stride: int = STRIDE,
        attention: bool = True,
        gate: bool = True,
        output_map: str = "lecun_normal",
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("features", features), ("width", width), ("stride", stride)):
            whole(size, name, 1)
        if stride > width:
            raise ValueError(f"stride must be at most width = {width}, got {stride}")
        heads = 2 * whole(gd_steps, "gd_steps", 1) - 1
        if output_map not in OUTPUT_MAPS:
            raise ValueError(f"output_map must be one of {', '.join(OUTPUT_MAPS)}, got {output_map!r}")
        self.features, self.heads, self.width, self.stride = features, heads, width, stride
        self.attends, self.gated = attention, gate

        def parameter(values: Tensor) -> nn.Parameter:
            return nn.Parameter(values.to(torch.get_default_dtype()))

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, dtype=torch.float64, generator=generator)

        slots = (width, width) if attention else (width,)
        self.window_attention = parameter(ATTENTION_STD * normal(heads, *slots))
        self.Lambda = parameter(torch.full((heads, features, features), RATE))
        self.log_step = parameter(
            log_steps(heads * features, STEP_MIN, STEP_MAX, generator).view(heads, features)
        )
        variance = 1 / features**2 if output_map == "lecun_normal" else 1 / features
        self.C = parameter(
            truncated_normal(heads, features, features, variance=variance, generator=generator)
        )
        if gate:
            self.gate = parameter(normal(width))

    @classmethod
    def constructed(
        cls,
        features: int,
        context: int,
        eta: float,
        *,
        gd_steps: int = 1,
        decay: float = 1.0,
        normalise_by: str = "context",
    ) -> "GDLayer":
        """A layer that does gradient descent; parameters and errors as `construction`."""
        parts = construction(
            features, context, eta, gd_steps=gd_steps, decay=decay, normalise_by=normalise_by
        )
        layer = cls(features, gd_steps=gd_steps, generator=Generator().manual_seed(0))
        with torch.no_grad():
            layer.window_attention.copy_(parts.attention)
            layer.log_step.zero_()  # steps of one: Lambda is the logarithm of the decay
            layer.Lambda.fill_(math.log(decay))
            layer.C.copy_(parts.C)
            layer.gate.copy_(parts.gate)
        return layer

    @property
    def decay(self) -> Float[Tensor, "heads features features"]:
        """exp(Lambda step), the decay of each state in one window."""
        return torch.exp(self.Lambda * torch.exp(self.log_step)[:, :, None])

    def forward(
        self, tokens: Float[Tensor, "batch time features"], carried: Carried | None = None
    ) -> tuple[Float[Tensor, "batch window features"], Carried]:
        """Predict after each window what its last token leads to.

        Parameters
        ----------
        tokens
            x_1, y_1, x_2, ...; float32 or float64 as the parameters.
        carried
            What an earlier call returned; the sequence goes on from there, cut wherever it was.

        Returns
        -------
        predictions
            One for each window that these tokens complete, maybe none. With windows of three, the t-th is
            the answer to x_{t+1} after t examples.
        carried
            For the next call.

        Raises
        ------
        ValueError
            If shapes do not fit, or a token is not finite; names the first.
        TypeError
            If dtypes are not that of the layer.
        """
        windows, before, rest = self._read(tokens, carried)
        states, last = accumulate(self._products(windows), self.decay, before)
        answers = predictions(implicit_weight(states, self.C), self._direction(windows))
        return answers, Carried(last, rest)

    def predict(self, tokens: Float[Tensor, "batch time features"]) -> Float[Tensor, "batch features"]:
        """The prediction after the last window alone, which is all that a task asks for.

        Raises
        ------
        ValueError, TypeError
            As `forward`, and if the tokens are fewer than a window.
        """
        windows, _, _ = self._read(tokens, None)
        if not windows.shape[1]:
            raise ValueError(f"tokens must be at least {self.width} in time, got {tokens.shape[1]}")
        _, last = accumulate(self._products(windows), self.decay)
        return predictions(implicit_weight(last, self.C), self._direction(windows[:, -1]))

    def product_of_parts(self) -> Float[Tensor, "features features"]:
        """A_12 d_3 C of the first head: of a layer that does a step, -eta/N I, though no part is fixed."""
        if not self.attends or not self.gated or self.width != WIDTH:
            raise ValueError("product_of_parts is of layers with attention, gate and windows of width 3")
        return (self.window_attention[0, 0, 1] * self.gate[2] * self.C[0]).detach()

    def parameter_groups(self, lr: float, ssm_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for AdamW: those of the recurrence learn at their own rate and do not shrink."""
        recurrence = [self.Lambda, self.log_step]
        others = [p for name, p in self.named_parameters() if name not in ("Lambda", "log_step")]
        return [
            {"params": others, "lr": lr, "weight_decay": weight_decay},
            {"params": recurrence, "lr": ssm_lr, "weight_decay": 0.0},
        ]

    def _read(self, tokens: Tensor, carried: Carried | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """Windows that are complete, the accumulator before them, and the tokens that are left over."""
        sizes = axes(tokens=(tokens, "batch time features"))
        if sizes["features"] != self.features:
            raise ValueError(
                f"tokens must be (batch, time, features) with features {self.features}, "
                f"got {tuple(tokens.shape)}"
            )
        given = {"tokens": tokens}
        before = None
        if carried is not None:
            before = carried.accumulator
            expected = (sizes["batch"], self.heads, self.features, self.features)
            if before.shape != expected:
                raise ValueError(f"carried.accumulator must be {expected}, got {tuple(before.shape)}")
            if carried.rest.shape[::2] != (sizes["batch"], self.features):
                raise ValueError(
                    f"carried.rest must be (batch, left, features) = "
                    f"({sizes['batch']}, left, {self.features}), got {tuple(carried.rest.shape)}"
                )
            given |= {"carried.accumulator": before, "carried.rest": carried.rest}
        same_dtype(FLOATING, C=self.C, **given)
        if not tokens.isfinite().all():
            row, at = (~tokens.isfinite()).any(2).nonzero()[0].tolist()
            raise ValueError(f"tokens must be finite, got one that is not at [{row}, {at}]")
        if carried is not None:
            tokens = torch.cat([carried.rest, tokens], 1)
        windows = windows_of(tokens, self.width, self.stride)
        return windows, before, tokens[:, windows.shape[1] * self.stride :]

    def _products(self, windows: Tensor) -> Tensor:
        """U^T, (batch, window, heads, features, features)."""
        if self.attends:
            return outer_products(windows, self.window_attention)
        linear = windows @ self.window_attention.mT  # (batch, window, features, heads)
        return linear.movedim(3, 2).unsqueeze(4).expand(-1, -1, -1, -1, self.features)

    def _direction(self, windows: Tensor) -> Tensor:
        """o, (..., features)."""
        if self.gated:
            return windows @ self.gate
        return torch.ones_like(windows[..., 0])
