r"""The mean negative logarithm of words' probabilities, without a table of all scores.

    loss = -1/N sum_n log softmax(W h_n + b)[w_n]
    d loss / d scores_n = (softmax(W h_n + b) - one_hot(w_n)) / N

| symbol | meaning | shape | name |
|---|---|---|---|
| h | what is said before each word | (token, embedding) | `hidden` |
| W, b | vector and offset of each word | (word, embedding), (word,) | `weight`, `bias` |
| w | the words that came | (token,) int64 | `targets` |

With ten thousand words the scores of a batch take tens of megabytes, and most of a training step goes into
them. They are formed for `ROWS` tokens at a time, and so is their gradient, which is known as soon as the
scores are: going back only multiplies by a number. The sum is the same to rounding.

Source: derived.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from eventbook.kernels.machinery.products import linear

ROWS = 512  # tokens at a time: their scores stay in the caches with ten thousand words


def _scores(hidden: Tensor, weight: Tensor) -> Tensor:
    return linear(hidden.unsqueeze(0), weight).squeeze(0)


class _MeanLoss(torch.autograd.Function):
    """Loss and, where one is asked for, its gradients, in one walk."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        count = len(targets)
        total = torch.zeros((), dtype=hidden.dtype, device=hidden.device)
        if wanted:
            to_hidden, to_weight, to_bias = map(torch.zeros_like, (hidden, weight, bias))
            transposed = weight.T.contiguous()
        for first in range(0, count, ROWS):
            rows = slice(first, first + ROWS)
            some, theirs = hidden[rows], targets[rows, None]
            scores = _scores(some, weight).add_(bias)
            scores.sub_(scores.amax(1, keepdim=True))
            total -= scores.gather(1, theirs).sum()
            sums = scores.exp_().sum(1, keepdim=True)
            total += sums.log().sum()
            if wanted:
                scores.mul_(sums.mul_(count).reciprocal_())
                scores.scatter_add_(1, theirs, torch.full_like(theirs, -1 / count, dtype=scores.dtype))
                to_hidden[rows] = _scores(scores, transposed)
                to_weight.addmm_(scores.T, some)
                to_bias += scores.sum(0)
        if wanted:
            ctx.save_for_backward(hidden, weight, bias, to_hidden, to_weight, to_bias)
        return total / count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *_Gradients.apply(gradient, *ctx.saved_tensors), None


class _Gradients(torch.autograd.Function):
    """The gradients that are there already, which says that there is nothing behind them."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *saved: Tensor) -> tuple[Tensor, ...]:
        return tuple(gradient * to for to in saved[3:])

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor) -> None:
        raise RuntimeError("vocabulary_loss is differentiable once, got a backward pass through its gradient")


def vocabulary_loss(
    hidden: Float[Tensor, "token embedding"],
    weight: Float[Tensor, "word embedding"],
    bias: Float[Tensor, "word"],
    targets: Int64[Tensor, "token"],
) -> Float[Tensor, ""]:
    """Mean over tokens, in nats; differentiable once in the first three. Targets are the caller's to check.

    It is computed in the precision of `weight`, also where autocast is at work.

    Raises
    ------
    ValueError
        If there are no tokens.
    """
    if not len(targets):
        raise ValueError("targets must be a token at least, got none")
    with torch.autocast(hidden.device.type, enabled=False):
        loss: Tensor = _MeanLoss.apply(hidden.to(weight.dtype), weight, bias, targets)
    return loss


@torch.no_grad()
def vocabulary_losses(
    hidden: Float[Tensor, "token embedding"],
    weight: Float[Tensor, "word embedding"],
    bias: Float[Tensor, "word"],
    targets: Int64[Tensor, "token"],
) -> Float[Tensor, "token"]:
    """The same of each token, without gradients."""
    parts = []
    for first in range(0, len(targets), ROWS):
        scores = _scores(hidden[first : first + ROWS], weight).add_(bias)
        theirs = scores.gather(1, targets[first : first + ROWS, None]).squeeze(1)
        parts.append(scores.logsumexp(1) - theirs)
    return torch.cat(parts) if parts else hidden.new_empty(0)
