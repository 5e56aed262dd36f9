r"""One layer of linear self-attention, and the maps with which it does a step of gradient descent.

    e_n = [x_n; y_n],     e_q = [x_q; 0]
    out = sum_n (V e_n) (K e_n)^T (Q e_q)                            no softmax
    V = eta/N [0 I],   K = Q = [I 0]:      out = eta/N sum_n y_n x_n^T x_q

| symbol | meaning | shape | name |
|---|---|---|---|
| e | examples, input and output in one token | (task, context, features + outputs) | `paired` |
| Q, K, V | maps of query, key and value | (features or outputs, features + outputs) | `Maps` |

Where a transformer is handed pairs, the state-space layer makes them itself, out of neighbours in a window.

Source: von Oswald et al. 2023, Proposition 1, without the residual.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from eventbook.models.in_context.construction import step_scale
from eventbook.models.in_context.tasks import Tasks


class Maps(NamedTuple):
    """Q, K and V."""

    query: Float[Tensor, "features width"]
    key: Float[Tensor, "features width"]
    value: Float[Tensor, "outputs width"]


def linear_self_attention(
    paired: Float[Tensor, "task context width"],
    asked: Float[Tensor, "task width"],
    maps: Maps,
) -> Float[Tensor, "task outputs"]:
    """What the query token reads from the examples."""
    query = asked @ maps.query.mT
    keys, values = paired @ maps.key.mT, paired @ maps.value.mT
    scores = torch.einsum("tnk,tk->tn", keys, query)
    return torch.einsum("tn,tno->to", scores, values)


def paired_tokens(tasks: Tasks) -> tuple[Tensor, Tensor]:
    """Examples with input and output in one token, and the query with zeros for its answer."""
    asked = torch.cat([tasks.query, torch.zeros_like(tasks.answer)], 1)
    return torch.cat([tasks.x, tasks.y], 2), asked


def gradient_maps(features: int, outputs: int, context: int, eta: float) -> Maps:
    """Q, K and V of one step; errors as `step_scale`."""
    eye = torch.eye(features + outputs)
    scale = step_scale(eta, context, features)
    return Maps(eye[:features], eye[:features], scale * eye[features:])
