r"""Two ways to leave something out of a sequence of words, each the same for all steps.

    locked      y[b, t, i] = x[b, t, i] m[b, i] / (1 - p)        m ~ Bernoulli(1 - p)
    of words    vector of word v times m[v] / (1 - p)            m ~ Bernoulli(1 - p)

| symbol | meaning | shape | name |
|---|---|---|---|
| x | inputs or outputs of a layer | (batch, time, channel) | `x` |
| m | what stays | (batch, 1, channel), (word, 1) | - |
| p | chance to be left out | scalar | `chance` |

Source: Gal and Ghahramani 2016; Merity et al. 2018. The released code of arXiv:2206.06178 draws its
"variational" mask for every step anew and shares it over the batch.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def locked(x: Float[Tensor, "batch time channel"], chance: float) -> Float[Tensor, "batch time channel"]:
    """Leave components out of whole sequences; silence stays silence."""
    if not chance:
        return x
    mask = x.new_empty(len(x), 1, x.shape[2]).bernoulli_(1 - chance)
    return x * mask.div_(1 - chance)


def without_words(vectors: Float[Tensor, "word channel"], chance: float) -> Float[Tensor, "word channel"]:
    """Leave whole words out of a table of vectors."""
    if not chance:
        return vectors
    return vectors * torch.empty_like(vectors[:, :1]).bernoulli_(1 - chance).div_(1 - chance)
