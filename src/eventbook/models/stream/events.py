r"""STREAM over streams of events: the scanned coordinate is time.

    v_k = E[token_k]  (+ w log(1 + gap_k / unit) with the gap feature)
    blocks, then scores = V mean_k v_k + b over what is no padding

| symbol | meaning | shape | name |
|---|---|---|---|
| E | embedding; padding has a zero row of its own | (n_tokens, d_model) | `embedding` |
| gap | milliseconds since the event before | (batch, time) | `gap` |
| unit | milliseconds that count as 1 in the decay | number | `unit` |

Called like `eventbook.models.event_ssm.EventSSM`, so both train by the same code.

Source: Schoene et al., arXiv:2411.12603.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from eventbook.kernels.encoders import EventBatch, collate
from eventbook.kernels.encoders.arguments import whole
from eventbook.models.event_input import check_events
from eventbook.models.initialization import dense
from eventbook.models.stream.block import BlockState, StreamBlock

DYNAMICS = ("A_log", "D", "beta", "dt_bias", "own_step")  # of a block


@dataclass(frozen=True)
class StreamConfig:
    """Sizes and choices that both networks of STREAM share; see `StreamBlock`.

    `gap_feature` tells the network the gap as a number, whatever the step; `unit` is the distance that counts
    as 1 in the decay: milliseconds for events, a coordinate for points.
    """

    n_classes: int
    d_model: int = 32
    d_state: int = 8
    blocks: int = 2
    expand: int = 1
    step: str = "coordinate"
    discretization: str = "mamba"
    gap_feature: bool = False
    conv_width: int = 0
    rate_min: float = 0.5
    rate_max: float = 10.0
    unit: float = 100.0

    def __post_init__(self) -> None:
        for name in ("n_classes", "d_model", "blocks"):
            whole(getattr(self, name), name, 1)
        if not 0 < self.unit < float("inf"):
            raise ValueError(f"unit must be > 0, got {self.unit}")

    def build_blocks(self, generator: Generator | None) -> nn.ModuleList:
        """The blocks of a network; errors are those of `StreamBlock`."""
        return nn.ModuleList(
            StreamBlock(
                self.d_model,
                self.d_state,
                expand=self.expand,
                step=self.step,
                discretization=self.discretization,
                conv_width=self.conv_width,
                rate_min=self.rate_min,
                rate_max=self.rate_max,
                generator=generator,
            )
            for _ in range(self.blocks)
        )


class StreamEvents(nn.Module):
    """See the module.

    Parameters
    ----------
    n_tokens
        Size of the token map.
    config
        See `StreamConfig`.
    generator
        Source of the initial weights; torch's own if not given.

    Examples
    --------
    >>> model = StreamEvents(10, StreamConfig(3, d_model=8), generator=torch.Generator().manual_seed(0))
    >>> batch = model.collate([(np.array([4, 2, 9]), np.array([0, 1_500, 9_000]))])
    >>> model(batch.token, batch.gap, batch.lengths).shape
    torch.Size([1, 3])
    """

    def __init__(self, n_tokens: int, config: StreamConfig, *, generator: Generator | None = None) -> None:
        super().__init__()
        whole(n_tokens, "n_tokens", 1)
        self.n_tokens, self.config = n_tokens, config
        width = config.d_model
        self.embedding = nn.Parameter(torch.randn(n_tokens, width, generator=generator))
        if config.gap_feature:
            self.gap_weight = nn.Parameter(torch.randn(width, generator=generator))
        self.blocks = config.build_blocks(generator)
        self.readout = dense(width, config.n_classes, generator)

    def collate(self, streams: Sequence[tuple[NDArray[np.integer], NDArray[np.integer]]]) -> EventBatch:
        """Pad streams of (tokens, stamps in microseconds) to a batch."""
        return collate(streams, self.n_tokens)

    def parameter_groups(self, lr: float, ssm_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Two groups for an optimiser: what makes decays and steps is not decayed."""
        return parameter_groups(self, lr, ssm_lr, weight_decay)

    def encode(
        self,
        token: Int[Tensor, "batch time"],
        gap: Float[Tensor, "batch time"],
        carried: list[BlockState] | None = None,
    ) -> tuple[Float[Tensor, "batch time d_model"], list[BlockState]]:
        """Features of each event, and the state of each block after the last column.

        Parameters
        ----------
        token, gap
            Tokens (int64) and gaps in milliseconds, (batch, time), padded at the end with token n_tokens.
            Gaps of another precision are converted to that of the network.
        carried
            What an earlier call returned: the streams go on from there.

        Raises
        ------
        ValueError
            If shapes do not fit, a token or a gap is out of range (names the first), or `carried` is not of
            this network.
        TypeError
            If tokens are not int64, or gaps no floating-point numbers.
        """
        check_events(token, gap, rows=self.n_tokens + 1)
        return self._run(token, gap, carried)

    def _run(
        self, token: Tensor, gap: Tensor, carried: list[BlockState] | None
    ) -> tuple[Tensor, list[BlockState]]:
        """`encode` with events that were looked at."""
        if carried is not None and len(carried) != len(self.blocks):
            raise ValueError(f"carried must have {len(self.blocks)} states, one a block, got {len(carried)}")
        v = functional.embedding(token, functional.pad(self.embedding, (0, 0, 0, 1)))
        gap = gap.to(v.dtype) / self.config.unit
        if self.config.gap_feature:
            v = v + torch.log1p(gap)[..., None] * self.gap_weight
        states = []
        for number, block in enumerate(self.blocks):
            v, state = block(v, gap, None if carried is None else carried[number])
            states.append(state)
        return v, states

    def forward(
        self,
        token: Int[Tensor, "batch time"],
        gap: Float[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch n_classes"]:
        """Scores of each stream.

        Parameters
        ----------
        token, gap
            As in `encode`.
        lengths
            Events of each row that are no padding, at least 1; (batch,) integers.

        Raises
        ------
        ValueError, TypeError
            As `encode`, and if a length is out of range (names the first) or no integer.
        """
        check_events(token, gap, lengths, rows=self.n_tokens + 1, least=1)
        v, _ = self._run(token, gap, None)
        mask = (torch.arange(v.shape[1]) < lengths[:, None]).to(v.dtype)
        mean = torch.einsum("bt,btc->bc", mask / mask.sum(1, keepdim=True), v)
        return self.readout(mean)


def parameter_groups(model: nn.Module, lr: float, ssm_lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimiser: what makes decays and steps, undecayed, if there is any, and all else."""
    undecayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (undecayed if name.rpartition(".")[2] in DYNAMICS else others).append(parameter)
    slow = [{"params": undecayed, "lr": ssm_lr, "weight_decay": 0.0}] if undecayed else []
    return [*slow, {"params": others, "lr": lr, "weight_decay": weight_decay}]
