r"""Perplexity of a text, and what a model spends on a word of it.

    perplexity = exp(-1/N sum_t log p(w_t | w_0 ... w_{t-1})),    t = 1 ... N

| symbol | meaning | name |
|---|---|---|
| N | words that are predicted: all but the first | `Evaluation.tokens` |
| a_l | share of units and steps with an event, of each layer | `activity` |
| - | share of units and steps that a gradient can pass, of each layer | `need` |
| - | share of abs(h - theta) > 1/beta after the reset, as the released code has it | `silent_as_released` |
| - | what went through each matrix of the recurrent layers | `products` |

The text is cut into `batch` pieces, one below the other, and each begins in silence: the words after a cut
are predicted from less than all of the past. With one piece the formula is exact.

Multiply-accumulates are those of something with something, weights that are 0 left out: `macs` is what a
machine that skips both kinds of zeros does for a word. The first layer reads word vectors, which are dense:
its input costs a product with every weight, events or not. Words and scores are not counted.

Source: Subramoney et al., arXiv:2206.06178, for the measures; the released code of it for its own.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from eventbook.kernels.encoders.arguments import whole
from eventbook.models.egru import LayerRun
from eventbook.models.language_model.network import LanguageModel, carried_as_released
from eventbook.models.language_model.vocabulary import vocabulary_losses
from eventbook.models.sparsity import Product, SynapticOperations


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of a text; tuples of shares are empty where there is no EGRU.

    `unit_activity` has, for each layer, the share of steps in which each unit spoke.
    """

    tokens: int
    loss: float
    activity: tuple[float, ...]
    need: tuple[float, ...]
    silent_as_released: tuple[float, ...]
    unit_activity: tuple[Tensor, ...]
    products: tuple[Product, ...]

    @property
    def perplexity(self) -> float:
        """exp of the mean loss."""
        return math.exp(self.loss)

    @property
    def operations(self) -> SynapticOperations:
        """Of all products."""
        return SynapticOperations.of(self.products)

    @property
    def macs(self) -> float:
        """Effective multiply-accumulates of the recurrent layers for a word."""
        return self.operations.per_token()["effective_macs"]

    @property
    def dense_macs(self) -> float:
        """The same with every unit and every weight."""
        return self.operations.per_token()["dense"]

    @property
    def mean_activity(self) -> float:
        """Share of all units and steps with an event; 1 where there is no EGRU."""
        if not self.unit_activity:
            return 1.0
        return float(torch.cat(self.unit_activity).mean())

    @property
    def backward_sparsity(self) -> float:
        """Share of all units and steps that no gradient can pass; 0 where there is no EGRU."""
        if not self.need:
            return 0.0
        sizes = [len(units) for units in self.unit_activity]
        return 1 - sum(n * size for n, size in zip(self.need, sizes, strict=True)) / sum(sizes)


@torch.no_grad()
def evaluate(
    model: LanguageModel,
    tokens: Int[np.ndarray, "token"] | Int[Tensor, "token"],
    *,
    batch: int = 32,
    window: int = 64,
    carry_state: bool = True,
) -> Evaluation:
    """Read a text and predict it on the way.

    Parameters
    ----------
    model
        In whatever mode; it is read in that of evaluation, and left as it was.
    tokens
        Words of a text, (token,) integers, two at least.
    batch
        Pieces that are read at once.
    window
        Words of each that a call is given. With `carry_state` it changes nothing but the rounding.
    carry_state
        False for what the released code does: of an EGRU, only its output goes from window to window.

    Raises
    ------
    ValueError
        If the text has fewer than two words or one that the model does not know, or a size is below 1.
    TypeError
        If tokens are no integers, or a size is no whole number.
    """
    whole(batch, "batch", 1)
    whole(window, "window", 1)
    words = torch.as_tensor(tokens)
    if words.ndim != 1 or len(words) < 2:
        raise ValueError(f"tokens must be (token,) with two at least, got {tuple(words.shape)}")
    words = model.checked(words[None], "tokens")[0]
    count = len(words) - 1
    batch = min(batch, count)
    steps = -(-count // batch)
    padded = torch.cat([words, words.new_zeros(batch * steps - count)])
    inputs = padded[: batch * steps].view(batch, steps)
    targets = padded[1 : batch * steps + 1].view(batch, steps)
    real = torch.arange(batch * steps).view(batch, steps) < count  # the last piece may be shorter
    training = model.training
    model.eval()
    total, state = 0.0, None
    tally = [_Tally(size) for size in model.config.hidden_sizes] if model.config.cell == "egru" else []
    products: tuple[Product, ...] = ()
    try:
        for first in range(0, steps, window):
            part = slice(first, first + window)
            here = real[:, part]
            run = model.run(inputs[:, part], state)
            losses = vocabulary_losses(
                run.hidden.flatten(0, 1), model.embedding, model.bias, targets[:, part].flatten()
            )
            total += float((losses.double() * here.flatten()).sum())
            for its, layer in zip(tally, run.layers, strict=True):
                its.add(layer, here)
            found = model.products(run, state, here)
            products = tuple(a.plus(b) for a, b in zip(products, found, strict=True)) if first else found
            state = run.state if carry_state else carried_as_released(run.state)
    finally:
        model.train(training)
    return Evaluation(
        count, total / count,
        tuple(float(its.events.sum()) / count / len(its.events) for its in tally),
        tuple(its.needed / count / len(its.events) for its in tally),
        tuple(its.silent / count / len(its.events) for its in tally),
        tuple((its.events / count).float() for its in tally),
        products,
    )  # fmt: skip


class _Tally:
    """Sums over a layer's steps."""

    def __init__(self, size: int) -> None:
        self.events = torch.zeros(size, dtype=torch.float64)
        self.needed = self.silent = 0

    def add(self, layer: LayerRun, real: Tensor) -> None:
        where = real[..., None]
        self.events += ((layer.output != 0) & where).sum((0, 1))
        self.needed += int((layer.need() & where).sum())
        far = (layer.after_reset() - layer.threshold).abs() > 1 / layer.dynamics.surrogate_support
        self.silent += int((far & where).sum())
