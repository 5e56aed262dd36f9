r"""The two recurrent baselines: layers of torch's LSTM or GRU, with DropConnect on their recurrent weights.

    y^l = layer_l(locked dropout(y^{l-1})),      R of a call in training: R m / (1 - p), m ~ Bernoulli(1 - p)

| symbol | meaning | shape | name |
|---|---|---|---|
| x | input | (batch, time, input) | `x` |
| R | recurrent weights | (gates * unit, unit) | `weight_hh_l0` of each layer |
| - | state: (h, c) of each LSTM, h of each GRU | (1, batch, unit) | `state` |

torch.nn.LSTM holds its layers' weights as one list, which cannot be exchanged for a call. The layers are
therefore modules of one layer each, whose function torch.lstm or torch.gru is called with other weights.

Source: Merity et al. 2018 for DropConnect; Jozefowicz et al. 2015 for the forget gate that begins at 1.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from eventbook.models.language_model.dropout import locked
from eventbook.models.sparsity.counting import products_of_layer
from eventbook.models.sparsity.products import Product

GatedState = Tensor | tuple[Tensor, Tensor]
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # read by name: a parametrized one is no parameter


class GatedStack(nn.Module):
    """See the module.

    Parameters
    ----------
    cell
        "lstm" or "gru".
    input_size, hidden_sizes
        Of the first layer's input, and of each layer.
    dropout, drop_connect
        Between layers, and of recurrent weights.
    generator
        Source of the initial weights, uniform in +-1/sqrt(units) as torch's own.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_sizes: Sequence[int],
        *,
        dropout: float = 0.0,
        drop_connect: float = 0.0,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.cell, self.dropout, self.drop_connect = cell, dropout, drop_connect
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        below = (input_size, *hidden_sizes)
        self.layers = nn.ModuleList(
            kind(i, h, batch_first=True) for i, h in zip(below, hidden_sizes, strict=False)
        )
        with torch.no_grad():
            for layer, size in zip(self.layers, hidden_sizes, strict=True):
                for weight in layer.parameters():
                    weight.uniform_(-(size**-0.5), size**-0.5, generator=generator)
                if cell == "lstm":  # gates i, f, g, o
                    layer.get_parameter("bias_ih_l0")[size : 2 * size] = 1
                    layer.get_parameter("bias_hh_l0")[size : 2 * size] = 0

    def forward(
        self, x: Float[Tensor, "batch time input"], state: Sequence[GatedState] | None = None
    ) -> tuple[tuple[Float[Tensor, "batch time unit"], ...], tuple[GatedState, ...]]:
        """What each layer says, and the state of each after the last step."""
        said: list[Tensor] = []
        ends: list[GatedState] = []
        for number, layer in enumerate(self.layers):
            if number and self.training:
                x = locked(x, self.dropout)
            w_ih, w_hh, *biases = (getattr(layer, f"{name}_l0") for name in WEIGHTS)
            kept = functional.dropout(w_hh, self.drop_connect, self.training and self.drop_connect > 0)
            weights = [w_ih, kept, *biases]
            begin = self.silent(number, len(x)) if state is None else state[number]
            if not x.shape[1]:  # torch refuses; nothing is said
                x = x.new_zeros(len(x), 0, w_hh.shape[1])
                ends.append(begin)
            elif isinstance(begin, Tensor):
                x, h = torch.gru(x, begin, weights, True, 1, 0.0, self.training, False, True)
                ends.append(h)
            else:
                x, h, c = torch.lstm(x, begin, weights, True, 1, 0.0, self.training, False, True)
                ends.append((h, c))
            said.append(x)
        return tuple(said), tuple(ends)

    def products(
        self,
        x: Float[Tensor, "batch time input"],
        state: Sequence[GatedState] | None,
        said: Sequence[Tensor],
        steps: Bool[Tensor, "batch time"],
    ) -> tuple[Product, ...]:
        """Two products a layer of a call without dropout; `steps` says where there is no padding."""
        found: list[Product] = []
        for number, (layer, y) in enumerate(zip(self.layers, said, strict=True)):
            begin = self.silent(number, len(x)) if state is None else state[number]
            first = begin[0] if isinstance(begin, Tensor) else begin[0][0]  # h, its axis of layers taken off
            assert isinstance(layer, nn.GRU | nn.LSTM)
            found += products_of_layer(f"layers.{number}.{{}}", layer, x, first, y, steps)
            x = y
        return tuple(found)

    def silent(self, number: int, batch: int) -> GatedState:
        """The state of a layer before the first word: zeros."""
        weight: Tensor = getattr(self.layers[number], "weight_hh_l0")  # noqa: B009 (mypy knows no name of it)
        h = weight.new_zeros(1, batch, weight.shape[1])
        return (h, h.clone()) if self.cell == "lstm" else h
