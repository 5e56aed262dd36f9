r"""Event-SSM: from the events of a stream to scores of classes.

    x_k = E[token_k]                              a row of the embedding; padding has none
    stages of layers, the first of each pools r events into one
    scores = V mean_k x_k + v                     over what is no padding; head "time" weighs by gap + 1e-6

| symbol | meaning | shape | name |
|---|---|---|---|
| E | embedding, a row for each token | (n_tokens, d_model) | `embedding` |
| r | stride of a stage; r^stages events make one output | number | `stride`, `total_stride` |
| V, v | read-out | (n_classes, width), (n_classes,) | `readout` |

Widths: stage 0 keeps d_model and d_state, each later one multiplies both by `expansion`. (In the released
code, from a third stage on, only the states go on growing. No published configuration has one.)

Source: Schoene et al., arXiv:2404.18508, and its released code.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from eventbook.kernels.encoders import EventBatch, collate
from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.encoders.collate import Alignment
from eventbook.kernels.encoders.pooling import LEAST_WEIGHT
from eventbook.models.event_input import check_layout, check_times
from eventbook.models.event_ssm.layer import EventSSMLayer
from eventbook.models.initialization import dense

HEADS = ("mean", "time")


@dataclass(frozen=True)
class EventSSMConfig:
    """All that makes an Event-SSM, in the paper's terms; defaults are those of a small network.

    Attributes
    ----------
    n_tokens, n_classes
        Size of the token map and number of classes.
    d_model, d_state, blocks, conj_sym
        Features H, states P, blocks of the initial HiPPO matrix, conjugate symmetry.
    stages, layers, stride, expansion
        Stages, layers in each, events pooled by the first layer of each, growth of widths between stages.
    pooling, kept
        "last", "average" or "time"; the member of a group whose state goes on, "last" or "first".
    discretization, alignment, constant_gap
        "async", "dirac" or "zoh"; "aligned" or "as_released"; milliseconds that replace every gap but the
        first, which takes the time away from the network and leaves it the order.
    norm, clip_eigs, dropout, head
        "layer" or "batch"; Re(lambda) <= -1e-4; probability; "mean" or "time".
    dt_min, dt_max
        Range of the initial steps.
    """

    n_tokens: int
    n_classes: int
    d_model: int = 64
    d_state: int = 64
    blocks: int = 8
    conj_sym: bool = True
    stages: int = 1
    layers: int = 3
    stride: int = 8
    expansion: int = 1
    pooling: str = "average"
    kept: str = "last"
    discretization: str = "async"
    alignment: Alignment = "aligned"
    constant_gap: float | None = None
    norm: str = "layer"
    clip_eigs: bool = False
    dropout: float = 0.0
    head: str = "mean"
    dt_min: float = 4e-3
    dt_max: float = 1e-1

    @property
    def total_stride(self) -> int:
        """Events that make one output."""
        return self.stride**self.stages


class Encoded(NamedTuple):
    """What the last layer says, and, if it is to be carried on, the state of each layer.

    values (batch, output, width), gap (batch, output) in milliseconds, lengths (batch,).
    """

    values: Float[Tensor, "batch output width"]
    gap: Float[Tensor, "batch output"]
    lengths: Int[Tensor, "batch"]
    state: list[Complex[Tensor, "batch state"]] | None


class EventSSM(nn.Module):
    """A classifier of event streams.

    Parameters
    ----------
    config
        See `EventSSMConfig`; `eventbook.models.event_ssm.released` has those of the released code.
    generator
        Source of the initial weights; torch's own if not given.

    Raises
    ------
    ValueError
        If a size is no positive number, a word unknown, or the sizes do not fit.
    TypeError
        If a size is no whole number.

    Notes
    -----
    torch.compile traces a network as one graph, which has no place for checks: there, lengths are taken as
    they are. Tokens and gaps are looked at inside the scan. With "zoh" the graph ends where they are.

    Examples
    --------
    >>> import numpy as np, torch
    >>> config = EventSSMConfig(n_tokens=10, n_classes=3, d_model=8, d_state=8, blocks=1, stride=2)
    >>> model = EventSSM(config, generator=torch.Generator().manual_seed(0))
    >>> streams = [(np.array([4, 2, 9]), np.array([0, 1_500, 9_000])), (np.array([7, 7]), np.array([5, 5]))]
    >>> batch = model.collate(streams)
    >>> model(batch.token, batch.gap, batch.lengths).shape
    torch.Size([2, 3])
    """

    def __init__(self, config: EventSSMConfig, *, generator: Generator | None = None) -> None:
        super().__init__()
        for name in ("n_tokens", "n_classes", "d_model", "stages", "layers", "stride", "expansion"):
            whole(getattr(config, name), name, 1)
        for name, known in (("head", HEADS), ("alignment", get_args(Alignment))):
            if getattr(config, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(config, name)!r}")
        for name in ("conj_sym", "clip_eigs"):
            if not isinstance(getattr(config, name), bool):
                raise TypeError(f"{name} must be True or False, got {getattr(config, name)!r}")
        if config.constant_gap is not None and not isinstance(config.constant_gap, int | float):
            raise TypeError(f"constant_gap must be a number or None, got {config.constant_gap!r}")
        if config.constant_gap is not None and not 0 <= config.constant_gap < float("inf"):
            raise ValueError(f"constant_gap must be >= 0 milliseconds, got {config.constant_gap}")
        self.config = config
        unit = torch.randn(config.n_tokens, config.d_model, dtype=torch.float64, generator=generator)
        self.embedding = nn.Parameter((unit * config.d_model**-0.5).to(torch.get_default_dtype()))
        layers, width = [], config.d_model
        for stage in range(config.stages):
            growth = config.expansion**stage
            for number in range(config.layers):
                layers.append(
                    EventSSMLayer(
                        width,
                        config.d_model * growth,
                        config.d_state * growth,
                        blocks=config.blocks,
                        conj_sym=config.conj_sym,
                        discretization=config.discretization,
                        stride=config.stride if number == 0 else 1,
                        pooling=config.pooling,
                        kept=config.kept,
                        norm=config.norm,
                        clip_eigs=config.clip_eigs,
                        dt_min=config.dt_min,
                        dt_max=config.dt_max,
                        dropout=config.dropout,
                        generator=generator,
                    )
                )
                width = config.d_model * growth
        self.layers = nn.ModuleList(layers)
        self.readout = dense(width, config.n_classes, generator)

    def collate(self, streams: Sequence[tuple[NDArray[np.integer], NDArray[np.integer]]]) -> EventBatch:
        """Pad streams of (tokens, stamps in microseconds) to a batch, with this network's gap alignment."""
        return collate(streams, self.config.n_tokens, alignment=self.config.alignment)

    def parameter_groups(self, lr: float, ssm_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Two groups for an optimiser, as released: B and lambda at `ssm_lr`, undecayed, and all others."""
        dynamics = [p for layer in self._layers() for p in (layer.B, layer.lam_real, layer.lam_imag)]
        known = set(map(id, dynamics))
        others = [p for p in self.parameters() if id(p) not in known]
        return [
            {"params": dynamics, "lr": ssm_lr, "weight_decay": 0.0},
            {"params": others, "lr": lr, "weight_decay": weight_decay},
        ]

    def _layers(self) -> Iterable[EventSSMLayer]:
        for layer in self.layers:
            assert isinstance(layer, EventSSMLayer)
            yield layer

    def encode(
        self,
        token: Int[Tensor, "batch time"],
        gap: Float[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"] | None = None,
        *,
        state: list[Complex[Tensor, "batch state"]] | None = None,
        carry: bool = False,
    ) -> Encoded:
        """Run embedding and layers.

        Parameters
        ----------
        token, gap
            Tokens (int64) and gaps in milliseconds, (batch, time), padded at the end with token n_tokens and
            gap 0. Gaps of another precision are converted to that of the network. The token n_tokens is a
            null event also before the end: time passes, nothing comes in.
        lengths
            Events of each row that are no padding; all of them if not given.
        state
            What an earlier call with `carry` returned: the streams go on from there.
        carry
            Return the state of each layer. Every length must then be a multiple of the total stride, or
            a group would be cut in two; `EventStream` takes events one by one.

        Raises
        ------
        ValueError
            If shapes do not fit, a token, a gap or a length is out of range (names the first one), `state` is
            not that of this network, or lengths are not whole groups although state is carried.
        TypeError
            If tokens are not int64, lengths no integers, or gaps no floating-point numbers.
        MemoryError
            If the batch does not fit into the machine's memory at once; the message says what to do.
        """
        return self._run(token, gap, self._lengths(token, gap, lengths), state, carry)

    def _run(
        self, token: Tensor, gap: Tensor, lengths: Tensor, state: list[Tensor] | None, carry: bool
    ) -> Encoded:
        """`encode` with lengths that were looked at."""
        if len(lengths) and not torch.compiler.is_compiling():  # what is padding in every row is left out
            longest = int(lengths.max())
            token, gap = token[:, :longest], gap[:, :longest]
        if state is not None and len(state) != len(self.layers):
            raise ValueError(f"state must have {len(self.layers)} tensors, one a layer, got {len(state)}")
        if carry and (bad := lengths % self.config.total_stride != 0).any():
            row = int(bad.int().argmax())
            raise ValueError(
                f"lengths[{row}] must be a multiple of {self.config.total_stride} events for state to be "
                f"carried, got {int(lengths[row])}"
            )
        gap = self.gaps(gap.to(self.embedding.dtype), begins=state is None)
        first, *rest = self._layers()
        initial: list[Tensor | None] = [None] * len(self.layers) if state is None else [*state]
        x = first.from_tokens(self.embedding, token, gap, lengths, initial[0])
        states = [x.state]
        for layer, h0 in zip(rest, initial[1:], strict=True):
            x = layer(x.values, x.gap, x.lengths, h0)
            states.append(x.state)
        return Encoded(x.values, x.gap, x.lengths, states if carry else None)

    def gaps(self, gap: Float[Tensor, "batch time"], *, begins: bool = True) -> Float[Tensor, "batch time"]:
        """The gaps that this network sees: as they are, or `constant_gap` instead of each.

        Where streams begin, the first one is 0 and stays it; where they go on, it is one as the others.

        Raises
        ------
        ValueError
            If a gap is out of range, although none will be seen; names the first one.
        """
        constant = self.config.constant_gap
        if constant is None:
            return gap
        check_times(gap)
        seen = torch.full_like(gap, constant)
        if begins:
            seen[:, :1] = 0
        return seen

    def forward(
        self,
        token: Int[Tensor, "batch time"],
        gap: Float[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch n_classes"]:
        """Scores of each stream; arguments and errors are those of `encode`.

        Raises
        ------
        ValueError
            Also if a stream has fewer events than make one output.
        """
        lengths = self._lengths(token, gap, lengths)
        if not torch.compiler.is_compiling() and (short := lengths < self.config.total_stride).any():
            row = int(short.int().argmax())
            raise ValueError(
                f"lengths[{row}] must be at least {self.config.total_stride}, the events that make one "
                f"output, got {int(lengths[row])}"
            )
        encoded = self._run(token, gap, lengths, state=None, carry=False)
        return self.readout(self.summary(encoded))

    def summary(self, encoded: Encoded) -> Float[Tensor, "batch width"]:
        """Mean over outputs that are no padding, or with head "time" their mean weighted by gap + 1e-6."""
        mask = torch.arange(encoded.gap.shape[1]) < encoded.lengths[:, None]
        weight = encoded.gap + LEAST_WEIGHT if self.config.head == "time" else torch.ones_like(encoded.gap)
        weight = torch.where(mask, weight, torch.zeros_like(weight))
        weight = weight / weight.sum(1, keepdim=True)
        # padding may hold anything finite: its weight is 0
        return torch.einsum("bt,btc->bc", weight, encoded.values)

    def _lengths(self, token: Tensor, gap: Tensor, lengths: Tensor | None) -> Tensor:
        """The lengths of rows of one shape that fit into memory; all of each row if not given."""
        sizes = check_layout(token, gap, lengths)
        if not torch.compiler.is_compiling():
            self._check_memory(sizes["batch"], sizes["time"])
        return torch.full((sizes["batch"],), sizes["time"]) if lengths is None else lengths

    def _check_memory(self, batch: int, time: int) -> None:
        """Refuse what cannot fit: states alone are 8 bytes times d_state an event, and three copies live."""
        states = self.config.d_state // (2 if self.config.conj_sym else 1)
        needed = 3 * 2 * self.embedding.element_size() * states * batch * time
        if needed > (memory := physical_memory()):
            raise MemoryError(
                f"a batch of {batch} x {time:,} events needs at least {needed / 1e9:.1f} GB at once, this "
                f"machine has {memory / 1e9:.1f}: pass it on in pieces, with `EventStream` or with `carry`"
            )


def physical_memory() -> float:
    """Bytes of memory of this machine; infinite where the system does not tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return float("inf")
