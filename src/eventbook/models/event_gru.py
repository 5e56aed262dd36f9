r"""A gated recurrent network over tokens: the baseline that knows no time, or is told the gap as a number.

    x_k = E[token_k],  with the gap feature also  log(1 + gap_k)
    h_k = GRU(x_k, h_{k-1})                                        one step an event, whatever time passed
    scores = V mean_k h_k + v

| symbol | meaning | shape | name |
|---|---|---|---|
| E | embedding; padding has a zero row of its own | (n_tokens, d_model) | `embedding` |
| gap | milliseconds since the event before | (batch, time) | `gap` |
| h | state | (batch, hidden_size) | - |

Source: the baselines of the chapter on arXiv:2404.18508 (ours); Cho et al. 2014 for the GRU, which is
torch's.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from eventbook.kernels.encoders import EventBatch, collate
from eventbook.kernels.encoders.arguments import whole
from eventbook.models.event_input import check_events


class EventGRU(nn.Module):
    """See the module; called like `EventSSM`.

    Parameters
    ----------
    n_tokens, n_classes, d_model, hidden_size
        Sizes.
    gap_feature
        Append log(1 + gap) to what the GRU sees.

    Raises
    ------
    ValueError
        If a size is not positive.
    TypeError
        If a size is no whole number.
    """

    def __init__(
        self, n_tokens: int, n_classes: int, d_model: int, hidden_size: int, *, gap_feature: bool = False
    ) -> None:
        super().__init__()
        sizes = {"n_tokens": n_tokens, "n_classes": n_classes, "d_model": d_model, "hidden_size": hidden_size}
        for name, size in sizes.items():
            whole(size, name, 1)
        self.n_tokens, self.gap_feature = n_tokens, gap_feature
        self.embedding = nn.Parameter(torch.randn(n_tokens, d_model) * d_model**-0.5)
        self.gru = nn.GRU(d_model + gap_feature, hidden_size, batch_first=True)
        self.readout = nn.Linear(hidden_size, n_classes)

    def collate(self, streams: Sequence[tuple[NDArray[np.integer], NDArray[np.integer]]]) -> EventBatch:
        """Pad streams of (tokens, stamps in microseconds) to a batch."""
        return collate(streams, self.n_tokens)

    def parameter_groups(self, lr: float, ssm_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """One group: there are no state-space parameters."""
        return [{"params": list(self.parameters()), "lr": lr, "weight_decay": weight_decay}]

    @torch.compiler.disable  # torch does not trace its own GRU, and without a scan no one else looks at gaps
    def forward(
        self,
        token: Int[Tensor, "batch time"],
        gap: Float[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch n_classes"]:
        """Scores of each stream, padded with token n_tokens; a stream has at least one event.

        Raises
        ------
        ValueError
            If shapes do not fit, or a token, a gap or a length is out of range; names the first.
        TypeError
            If tokens are not int64, lengths no integers, or gaps no floating-point numbers.
        """
        check_events(token, gap, lengths, rows=self.n_tokens + 1, least=1)
        x = functional.embedding(token, functional.pad(self.embedding, (0, 0, 0, 1)))
        if self.gap_feature:
            x = torch.cat([x, torch.log1p(gap)[..., None].to(x.dtype)], 2)
        # Padding comes last and changes no state before it; packed sequences would take four times as long.
        mask = torch.arange(x.shape[1]) < lengths[:, None]
        states = self.gru(x)[0] * mask[..., None]
        return self.readout(states.sum(1) / lengths[:, None])
