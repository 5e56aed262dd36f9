r"""The block of STREAM: a Mamba block whose state forgets with distance, not with a step it has guessed.

    x, z  = W_in norm(v)                                        two branches
    x     = silu(conv(x))                                       causal, depth-wise, width 4; or silu(x) alone
    p, B, C = W_x x                                             p: d_inner -> rank
    delta = softplus(W_dt p + b)                                step of the input, from what comes in
    decay   exp(gap rate A),  rate = softplus(beta)             step "coordinate": from where it is
            exp(delta A)                                        step "learned": Mamba
    h_i   = decay_i h_{i-1} + delta_i B_i x_i,    y_i = C_i h_i + D x_i
    v'    = v + W_out (y silu(z))

| symbol | meaning | shape | name |
|---|---|---|---|
| v, v' | features of elements | (batch, time, d_model) | `v` |
| gap | distance to the element before along the scanned coordinate, first one 0 | (batch, time) | `gap` |
| beta | rate of a channel before the softplus | (d_inner,) | `beta` |
| A | state matrix, -exp of what is stored; at first -1..-n | (d_inner, d_state) | `A_log` |
| delta | step of the input | (batch, time, d_inner) | - |
| B, C | projections of the input | (batch, time, d_state) | - |
| D | feed-through, 1 at first | (d_inner,) | `D` |

Discretisation of the input: "mamba" as above; "zoh" and "bilinear" as in `eventbook.kernels.scans.selective`;
"dirac" with gain 1; "async" with the zoh gain of a step that each channel has for itself (the earlier variant
of the released code, and Event-SSM's rule). With these two and step "coordinate" there is no delta: p has no
rows.

The released library leaves beta at the initial bias of a linear layer of `rank` inputs, so that the rates of
all channels are around softplus(0) = 0.69: within 0.40..1.11 for 32 features, closer for more. Ours are
spread log-uniformly over `rate_min`..`rate_max`, in units of 1 / gap.

Source: Schoene et al., arXiv:2411.12603; Gu and Dao 2023 (Mamba); lrnnx for details the paper leaves open.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.machinery.products import linear
from eventbook.kernels.machinery.tensors import FLOATING, axes, same_dtype
from eventbook.kernels.scans import causal_silu, coordinate_scan, selective_scan

STEPS = ("coordinate", "learned")
DISCRETIZATIONS = ("mamba", "zoh", "bilinear", "dirac", "async")
STEP_MIN, STEP_MAX = 1e-3, 1e-1  # initial steps of the input, as in Mamba


class BlockState(NamedTuple):
    """What a block carries: state (batch, d_inner, d_state), last inputs of the convolution."""

    state: Float[Tensor, "batch d_inner d_state"]
    window: Float[Tensor, "batch width d_inner"]


class StreamBlock(nn.Module):
    """See the module.

    Parameters
    ----------
    d_model, d_state, expand
        Features, states of a channel, and d_inner / d_model.
    step
        "coordinate" (STREAM) or "learned" (Mamba, which then has no beta).
    discretization
        "mamba", "zoh", "bilinear", "dirac" or "async".
    conv_width
        Elements that the convolution sees; 0 for none. It mixes neighbours by index, whatever their distance.
    rate_min, rate_max
        Range of the initial rates.
    generator
        Source of the initial weights; torch's own if not given.

    Raises
    ------
    ValueError
        If a word is none of those named, or a size or rate is not positive.
    TypeError
        If a size is no whole number.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int,
        *,
        expand: int = 1,
        step: str = "coordinate",
        discretization: str = "mamba",
        conv_width: int = 0,
        rate_min: float = 0.5,
        rate_max: float = 10.0,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        for name, word, known in (
            ("step", step, STEPS), ("discretization", discretization, DISCRETIZATIONS)
        ):  # fmt: skip
            if word not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {word!r}")
        for name, size in (("d_model", d_model), ("d_state", d_state), ("expand", expand)):
            whole(size, name, 1)
        whole(conv_width, "conv_width", 0)
        if not 0 < rate_min <= rate_max < math.inf:
            raise ValueError(
                f"rate_min and rate_max must be 0 < rate_min <= rate_max, got {rate_min} and {rate_max}"
            )
        # gains that are 1, or a step of each channel's own, and decays by distance: nothing is left to guess
        self.learns_step = step == "learned" or discretization not in ("dirac", "async")
        d_inner, rank = expand * d_model, -(-d_model // 16) if self.learns_step else 0
        self.step, self.discretization, self.conv_width = step, discretization, conv_width
        self.d_inner, self.d_state, self.rank = d_inner, d_state, rank

        def uniform(*shape: int, bound: float) -> nn.Parameter:
            unit = torch.rand(shape, dtype=torch.float64, generator=generator)
            return nn.Parameter(((2 * unit - 1) * bound).to(torch.get_default_dtype()))

        self.norm = nn.LayerNorm(d_model)
        self.in_proj = uniform(2 * d_inner, d_model, bound=d_model**-0.5)
        if conv_width:
            self.conv = uniform(d_inner, conv_width, bound=conv_width**-0.5)
            self.conv_bias = nn.Parameter(torch.zeros(d_inner))
        self.x_proj = uniform(rank + 2 * d_state, d_inner, bound=d_inner**-0.5)
        if self.learns_step:
            self.dt_proj = uniform(d_inner, rank, bound=rank**-0.5)
            self.dt_bias = nn.Parameter(log_uniform(d_inner, STEP_MIN, STEP_MAX, generator))
        if step == "coordinate":
            self.beta = nn.Parameter(log_uniform(d_inner, rate_min, rate_max, generator))
        if discretization == "async":
            self.own_step = nn.Parameter(log_uniform(d_inner, STEP_MIN, STEP_MAX, generator))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = uniform(d_model, d_inner, bound=d_inner**-0.5)

    @property
    def rate(self) -> Float[Tensor, "d_inner"]:
        """Rates of the channels, softplus(beta)."""
        return functional.softplus(self.beta)

    def forward(
        self,
        v: Float[Tensor, "batch time d_model"],
        gap: Float[Tensor, "batch time"],
        carried: BlockState | None = None,
    ) -> tuple[Float[Tensor, "batch time d_model"], BlockState]:
        """Run the block.

        Parameters
        ----------
        v, gap
            Features, and distances >= 0 along the scanned coordinate, padded at the
            end. With step "learned" the distances are not looked at.
        carried
            What an earlier call returned; the sequence goes on from there.

        Returns
        -------
        v', state
            State after the last column: carry it only between rows without padding.

        Raises
        ------
        ValueError
            If shapes do not fit, what is carried is not of this block, or a gap is
            negative, not a number or above 2^100; names the first.
        TypeError
            If dtypes are not that of the block.
        """
        self._check(v, gap, carried)
        return self._run(v, gap, carried)

    def _run(
        self, v: Tensor, gap: Tensor, carried: BlockState | None
    ) -> tuple[Tensor, BlockState]:  # fmt: skip
        """`forward` with arguments that were looked at."""
        normed, (to_x, to_z) = self.norm(v), self.in_proj.chunk(2)
        # two products: of a single one, the gradients would have to be put together
        x, z = linear(normed, to_x), linear(normed, to_z)
        x, window = self._convolved(x, None if carried is None else carried.window)
        sizes = (self.rank, self.d_state, self.d_state)
        p, B, C = linear(x, self.x_proj).split(sizes, dim=2)
        learned = x  # of its shape, if there is none
        if self.learns_step:
            learned = functional.softplus(linear(p, self.dt_proj) + self.dt_bias)
        h0 = None if carried is None else carried.state
        x, B, C = x.contiguous(), B.contiguous(), C.contiguous()
        y, state = self.scan(x, gap, learned, B, C, h0)
        out = linear(y * functional.silu(z), self.out_proj)
        return v + out, BlockState(state, window)

    def scan(
        self,
        x: Float[Tensor, "batch time d_inner"],
        gap: Float[Tensor, "batch time"],
        learned: Float[Tensor, "batch time d_inner"],
        B: Float[Tensor, "batch time d_state"],
        C: Float[Tensor, "batch time d_state"],
        h0: Float[Tensor, "batch d_inner d_state"] | None,
    ) -> tuple[Tensor, Tensor]:
        """y, (batch, time, d_inner), and the last state; a subclass may change it."""
        gain, rule = self._gain(learned)
        A = -torch.exp(self.A_log)
        if self.step == "coordinate":
            return coordinate_scan(
                x, gap, self.rate, gain, A, B, C, self.D, h0=h0, rule=rule
            )  # fmt: skip
        # the step of the decay is also that of the input, but for these two
        delta_a = learned if self.discretization in ("dirac", "async") else None
        return selective_scan(
            x, gain, A, B, C, self.D, delta_a=delta_a, h0=h0, rule=rule
        )  # fmt: skip

    def _check(self, v: Tensor, gap: Tensor, carried: BlockState | None) -> None:
        """Shapes and dtypes; values of gaps are looked at by the scan."""
        sizes = axes(v=(v, "batch time d_model"), gap=(gap, "batch time"))
        width = self.norm.normalized_shape[0]
        if sizes["d_model"] != width:
            raise ValueError(f"v must be (batch, time, d_model) with d_model {width}, got {tuple(v.shape)}")
        given = {"v": v, "gap": gap}
        if carried is not None:
            expected = {
                "state": (sizes["batch"], self.d_inner, self.d_state),
                "window": (sizes["batch"], max(self.conv_width - 1, 0), self.d_inner),
            }
            for name, shape in expected.items():
                if (came := tuple(getattr(carried, name).shape)) != shape:
                    raise ValueError(f"carried.{name} must be {shape}, got {came}")
            given |= {"carried.state": carried.state, "carried.window": carried.window}
        same_dtype(FLOATING, D=self.D, **given)

    def _gain(self, learned: Tensor) -> tuple[Tensor, str]:
        """Step of the input, and the kernel's rule for it."""
        if self.discretization == "dirac":
            return torch.ones_like(learned), "mamba"
        if self.discretization == "async":
            return functional.softplus(self.own_step).expand_as(learned).contiguous(), "zoh"
        return learned, self.discretization

    def _convolved(self, x: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """silu of the causal convolution, and the last inputs, which the next call needs."""
        if not self.conv_width:
            return functional.silu(x), x[:, :0]
        return causal_silu(x, self.conv, self.conv_bias, before)


def log_uniform(count: int, low: float, high: float, generator: Generator | None) -> Tensor:
    """Numbers whose softplus is log-uniform over low..high."""
    unit = torch.rand(count, dtype=torch.float64, generator=generator)
    values = torch.exp(math.log(low) + unit * (math.log(high) - math.log(low)))
    return (values + torch.log(-torch.expm1(-values))).to(torch.get_default_dtype())
