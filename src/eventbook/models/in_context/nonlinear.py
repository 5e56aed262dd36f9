r"""The layer between an embedding and a gate, for maps of one number that are not linear.

    s = a v + b                                     Dense(1 -> f) of every token
    h = GDLayer(s)                                  its prediction after the last window
    p = Dense(h * sigmoid(Dense(gelu(h))))          half_glu2, then f -> 1

| symbol | meaning | shape | name |
|---|---|---|---|
| v | tokens x_1, y_1, ..., x_q | (batch, time, 1) | `tokens` |
| s, h | embedded tokens, what the layer says | (batch, time, f), (batch, f) | - |
| p | prediction | (batch, 1) | returned |

An embedded number is affine in it, so that the accumulator holds sums of 1, x, y, x^2, x y and y^2 and no
others: the layer knows a task by its moments of second order, and the gate makes what it can of them.

Source: released code of arXiv:2410.11687.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from eventbook.models.in_context.layer import GDLayer


class NonlinearGD(nn.Module):
    """See the module.

    Parameters
    ----------
    features
        Size f of an embedded token.
    generator
        Source of the initial values; torch's own if not given.

    Raises
    ------
    ValueError, TypeError
        As `GDLayer`.
    """

    def __init__(self, features: int = 10, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.layer = GDLayer(features, generator=generator)

        def dense(inputs: int, outputs: int) -> nn.Linear:
            made = nn.Linear(inputs, outputs)
            with torch.no_grad():
                values = torch.randn(outputs, inputs, dtype=torch.float64, generator=generator)
                made.weight.copy_(values / math.sqrt(inputs))
                made.bias.zero_()
            return made

        self.embedding, self.glu, self.readout = (
            dense(1, features),
            dense(features, features),
            dense(features, 1),
        )

    def predict(self, tokens: Float[Tensor, "batch time 1"]) -> Float[Tensor, "batch 1"]:
        """The answer to the last token.

        Raises
        ------
        ValueError, TypeError
            If the tokens are not (batch, time, 1), or as `GDLayer.predict`.
        """
        if tokens.ndim != 3 or tokens.shape[2] != 1:
            raise ValueError(f"tokens must be (batch, time, 1), got {tuple(tokens.shape)}")
        h = self.layer.predict(self.embedding(tokens))
        return self.readout(h * torch.sigmoid(self.glu(functional.gelu(h))))

    def parameter_groups(self, lr: float, ssm_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """As `GDLayer.parameter_groups`, the dense layers with those that shrink."""
        first, recurrence = self.layer.parameter_groups(lr, ssm_lr, weight_decay)
        dense = [p for name, p in self.named_parameters() if not name.startswith("layer.")]
        return [{**first, "params": [*first["params"], *dense]}, recurrence]
