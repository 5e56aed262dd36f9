r"""One layer of Event-SSM: a bank of leaky complex oscillators, driven by events at the times they happen.

    u   = norm(x)
    h_k = exp(lambda s gap_k) h_{k-1} + g_k B u_k      gain g: dirac, async or zoh
    y   = c Re(C h) + D u                              c = 2 with conjugate symmetry, else 1
    z   = y sigmoid(W gelu(y) + w)
    x'  = skip(x) + z

| symbol | meaning | shape | name |
|---|---|---|---|
| x, x' | features of events | (batch, time, d_in), (batch, time / stride, d_out) | `x` |
| gap | time since the event before, milliseconds | (batch, time) | `gap` |
| lambda | eigenvalues, stored as two real vectors | (state,) | `lam_real`, `lam_imag` |
| s | step, exp of what is stored | (state,) | `log_step` |
| g | gain: 1, (exp(lambda s) - 1) / lambda or (exp(lambda s gap) - 1) / lambda | (state,) | `gain` |
| B, C | input and output map, (real, imaginary) last | (state, d_in, 2), (d_out, state, 2) | `B`, `C` |
| D | feed-through: diagonal, or a matrix where the width changes | (d_out,), (d_out, d_in) | `D` |
| W, w | gate | (d_out, d_out), (d_out,) | `gate` |
| r | stride of the pooling after the scan; the first layer of a stage has one above 1 | number | `stride` |

The scan sees every event; pooling comes after it (see `pooling`). Dropout acts after the gelu and on z, on
whole channels: one mask for all events of a stream.

The first layer of a network sees tokens, and everything it does to an event before the scan depends on the
token alone. So it computes norm, input map and gain once for each row of the embedding and scans over tokens
(`from_tokens`); nothing of the size (batch, time, d_in) is ever made.

Source: Schoene et al., arXiv:2404.18508, and its released code; layer as in Smith et al. 2023 (S5).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.encoders.pooling import Pooled
from eventbook.kernels.machinery.lengths import check_lengths
from eventbook.kernels.machinery.tensors import FLOATING, axes, same_dtype
from eventbook.kernels.scans import discretize, event_scan, linear_scan, token_scan
from eventbook.kernels.scans.discretize import MODES as DISCRETIZATIONS
from eventbook.kernels.scans.discretize import held
from eventbook.models.event_input import check_layout, check_rows, check_times
from eventbook.models.event_ssm.initialization import (
    input_map,
    log_steps,
    output_map,
    spectrum,
)
from eventbook.models.event_ssm.norm import NORMS, BatchNorm
from eventbook.models.event_ssm.pooling import KEPT, MODES, keep, pool_rows, pool_vectors
from eventbook.models.initialization import dense

SLOWEST = 1e-4  # clip_eigs: no eigenvalue decays more slowly than this


class Features(NamedTuple):
    """What goes from layer to layer, and the state right after the last event.

    values (batch, time, channel), gap (batch, time), lengths (batch,), state (batch, state) complex.
    """

    values: Float[Tensor, "batch time channel"]
    gap: Float[Tensor, "batch time"]
    lengths: Int[Tensor, "batch"]
    state: Complex[Tensor, "batch state"]


class EventSSMLayer(nn.Module):
    """See the module.

    Parameters
    ----------
    d_in, d_out
        Features of an event before and after.
    d_state
        States P; with `conj_sym` half as many complex numbers are stored.
    blocks
        Blocks of the initial HiPPO matrix.
    discretization
        "async", "dirac" or "zoh".
    stride, pooling, kept
        Events in a group, "last", "average" or "time", and the group's member whose state goes on.
    norm
        "layer" or "batch".
    clip_eigs
        Keep Re(lambda) at or below -1e-4.
    generator
        Source of the initial weights; torch's own if not given.

    Raises
    ------
    ValueError
        If a word is none of those named, a size is no positive number, or the sizes do not fit.
    TypeError
        If a size is no whole number.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        d_state: int,
        *,
        blocks: int = 1,
        conj_sym: bool = True,
        discretization: str = "async",
        stride: int = 1,
        pooling: str = "average",
        kept: str = "last",
        norm: str = "layer",
        clip_eigs: bool = False,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        dropout: float = 0.0,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        for name, word, known in (
            ("discretization", discretization, DISCRETIZATIONS),
            ("pooling", pooling, MODES),
            ("kept", kept, KEPT),
            ("norm", norm, NORMS),
        ):
            if word not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {word!r}")
        for name, size in (("d_in", d_in), ("d_out", d_out), ("stride", stride)):
            whole(size, name, 1)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in 0..1, below 1, got {dropout}")
        self.d_in, self.d_out, self.d_state = d_in, d_out, d_state
        self.conj_sym, self.discretization, self.clip_eigs = conj_sym, discretization, clip_eigs
        self.stride, self.pooling, self.kept, self.dropout = stride, pooling, kept, dropout
        self.norm = NORMS[norm](d_in)
        eigenvalues, basis = spectrum(d_state, blocks, conj_sym)
        states = len(eigenvalues)

        def parameter(values: Tensor) -> nn.Parameter:
            return nn.Parameter(values.to(torch.get_default_dtype()))

        self.lam_real, self.lam_imag = parameter(eigenvalues.real), parameter(eigenvalues.imag)
        self.log_step = parameter(log_steps(states, dt_min, dt_max, generator))
        self.B = parameter(torch.view_as_real(input_map(basis, d_in, generator)))
        self.C = parameter(torch.view_as_real(output_map(basis, d_out, generator)))
        if d_in == d_out:
            self.D = parameter(torch.randn(d_in, dtype=torch.float64, generator=generator))
        else:  # glorot
            spread = math.sqrt(2 / (d_in + d_out))
            self.D = parameter(spread * torch.randn(d_out, d_in, dtype=torch.float64, generator=generator))
        self.gate = dense(d_out, d_out, generator)
        self.skip = dense(d_in, d_out, generator) if d_in != d_out else nn.Identity()

    # --- parts ---------------------------------------------------------------------------------------------

    @property
    def lam(self) -> Complex[Tensor, "state"]:
        """Eigenvalues lambda."""
        real = self.lam_real.clamp(max=-SLOWEST) if self.clip_eigs else self.lam_real
        return torch.complex(real, self.lam_imag)

    @property
    def step(self) -> Float[Tensor, "state"]:
        """Steps s."""
        return torch.exp(self.log_step)

    def gain(self) -> Complex[Tensor, "state"]:
        """Gain of every event, (state,); of "zoh" the part that no gap changes, 1 / lambda."""
        lam = self.lam
        if self.discretization == "dirac":
            return torch.ones_like(lam)
        return held(lam, self.step) if self.discretization == "async" else 1 / lam

    def input_matrix(self) -> Float[Tensor, "d_in 2*state"]:
        """Gain and input map as one real matrix: u @ matrix is g B u, real and imaginary parts in turn."""
        B = torch.view_as_complex(self.B)
        if self.discretization != "zoh":  # there the gain differs from event to event
            B = self.gain()[:, None] * B
        return torch.view_as_real(B).permute(1, 0, 2).flatten(1)

    def output_matrix(self) -> Float[Tensor, "2*state d_out"]:
        """c Re(C h) as a real matrix, for h with real and imaginary parts in turn."""
        signs = self.C.new_tensor([2.0, -2.0] if self.conj_sym else [1.0, -1.0])
        return (self.C * signs).permute(1, 2, 0).flatten(0, 1)

    def _drop(self, x: Tensor) -> Tensor:
        """Dropout of whole channels."""
        if not self.training or self.dropout == 0:
            return x
        return x * functional.dropout(x.new_ones(len(x), 1, x.shape[2]), self.dropout)

    def _out(self, states: Tensor, through: Tensor, skipped: Tensor) -> Tensor:
        """From pooled states, feed-through and skip path (..., channel) to the features of the next layer."""
        y = torch.view_as_real(states).flatten(-2) @ self.output_matrix()
        y = y + (through * self.D if self.D.ndim == 1 else through @ self.D.mT)
        gate = self.gate(self._drop(functional.gelu(y, approximate="tanh")))
        return self.skip(skipped) + self._drop(y * torch.sigmoid(gate))

    def scan(
        self,
        driven: Tensor,
        gap: Tensor,
        h0: Tensor | None,
    ) -> Complex[Tensor, "batch time state"]:
        """States after each event, from B u with its gain, which "zoh" adds here."""
        if self.discretization != "zoh":
            return event_scan(self.lam * self.step, gap, driven, h0)[0]
        decay, gain = discretize("zoh", self.lam, self.step, gap)
        return linear_scan(decay, gain * driven, h0)[0]

    # --- sequences -----------------------------------------------------------------------------------------

    def forward(
        self,
        x: Float[Tensor, "batch time d_in"],
        gap: Float[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        h0: Complex[Tensor, "batch state"] | None = None,
    ) -> Features:
        """Run the layer over vectors.

        Parameters
        ----------
        x, gap
            Features and gaps (milliseconds) of events, padded at the end; one dtype, that of the weights.
        lengths
            Events of each row that are no padding.
        h0
            State before the first gap, (batch, state); zeros if not given.

        Returns
        -------
        Features
            Of groups, if stride > 1. Groups from the new lengths on hold padding. `state` is the one after
            the last event of each row.

        Raises
        ------
        ValueError
            If shapes do not fit, or a gap or a length is out of range; names the first.
        TypeError
            If dtypes differ, or lengths are no integers.
        """
        axes(
            B=(self.B, "state d_in part"),
            x=(x, "batch time d_in"),
            gap=(gap, "batch time"),
            lengths=(lengths, "batch"),
            h0=(h0, "batch state"),
        )
        same_dtype(FLOATING, B=self.B, x=x, gap=gap)
        check_lengths(lengths, x.shape[1])
        self._check_times(gap)
        weight = (torch.arange(x.shape[1]) < lengths[:, None]).to(x.dtype)
        u = self.norm(x, weight)
        driven = torch.view_as_complex((u @ self.input_matrix()).unflatten(-1, (-1, 2)))
        states = self.scan(driven, gap, h0)
        if self.stride == 1:
            return Features(self._out(states, u, x), gap, lengths, after(states, lengths, h0))
        through = pool_vectors(self.pooling, self.kept, u, gap, self.stride, lengths)
        skipped = pool_vectors(self.pooling, self.kept, x, gap, self.stride, lengths)
        return self._pooled(states, through, skipped.values, after(states, lengths, h0))

    def from_tokens(
        self,
        rows: Float[Tensor, "tokens d_in"],
        token: Int[Tensor, "batch time"],
        gap: Float[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        h0: Complex[Tensor, "batch state"] | None = None,
    ) -> Features:
        """The same over tokens, each a row of an embedding; the token `tokens` is padding, a null event.

        Raises
        ------
        ValueError, TypeError
            As `forward`; also if a token has no row (names the first one), or tokens are not int64.
        """
        axes(
            B=(self.B, "state d_in part"),
            rows=(rows, "tokens d_in"),
            token=(token, "batch time"),
            gap=(gap, "batch time"),
            h0=(h0, "batch state"),
        )
        same_dtype(FLOATING, B=self.B, rows=rows, gap=gap)
        tokens, d_in = rows.shape
        check_layout(token, gap, lengths)
        check_rows(token, tokens + 1)
        self._check_times(gap)
        valid = torch.arange(token.shape[1]) < lengths[:, None]
        counts = torch.bincount(token[valid], minlength=tokens + 1)[:tokens] if self.training else None
        u = self.norm(rows, counts)
        driven = functional.pad(u @ self.input_matrix(), (0, 0, 0, 1))
        table = torch.view_as_complex(driven.unflatten(-1, (-1, 2)))
        if self.discretization == "zoh":
            states = self.scan(table[token], gap, h0)
        else:
            states = token_scan(self.lam * self.step, gap, table, token, h0)[0]
        both = functional.pad(torch.cat([u, rows], 1), (0, 0, 0, 1))
        pooled = pool_rows(self.pooling, self.kept, both, token, gap, self.stride, lengths)
        through, skipped = pooled.values.split(d_in, dim=2)
        return self._pooled(states, pooled._replace(values=through), skipped, after(states, lengths, h0))

    def _check_times(self, gap: Tensor) -> None:
        """Look at gaps before a batch norm counts their events; without one, the scan is soon enough."""
        if self.training and isinstance(self.norm, BatchNorm):
            check_times(gap)

    def _pooled(self, states: Tensor, through: Pooled, skipped: Tensor, last: Tensor) -> Features:
        assert through.lengths is not None
        values = self._out(keep(states, self.stride, self.kept), through.values, skipped)
        return Features(values, through.gap, through.lengths, last)


def after(states: Tensor, lengths: Tensor, h0: Tensor | None) -> Complex[Tensor, "batch state"]:
    """The state after the last event of each row; of an empty row h0."""
    batch, time, width = states.shape
    start = states.new_zeros(batch, width) if h0 is None else h0
    if time == 0:
        return start
    last = states[torch.arange(batch), (lengths - 1).clamp(min=0)]
    return torch.where((lengths > 0)[:, None], last, start)
