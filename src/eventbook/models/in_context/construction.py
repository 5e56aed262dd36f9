r"""One step of gradient descent as three operations of a state-space layer.

    W_1 = W_0 - eta dL/dW,    L = 1/(2N) sum_n |W x_n - y_n|^2,   W_0 = 0:      W_1 = eta/N sum_n y_n x_n^T

    X_t = [x_t; y_t; x_{t+1}]                       window of width 3, stride 2
    U_t = X_t^T A X_t,      A = e_1 e_2^T           outer product:   x_t y_t^T        window attention
    Z_t = D o Z_{t-1} + U_t^T,      D = 1           sum:             sum y x^T        diagonal accumulator
    o_t = X_t^T d,          d = e_3                 what comes next: x_{t+1}          output gate
    p_t = -(C Z_t) o_t,     C = -eta/N I            W_1 x_{t+1}                       prediction

| symbol | meaning | shape | name |
|---|---|---|---|
| X | windows | (batch, window, features, width) | `windows` |
| A | window attention, one matrix for each head | (head, width, width) | `attention` |
| U^T | products, y by x | (batch, window, head, features, features) | `products` |
| D | decay of the accumulator | (head, features, features) | `decay` |
| Z | accumulator | (batch, window, head, features, features) | `states` |
| C | output map | (head, features, features) | `C` |
| d | output gate | (width,) | `gate` |

The transpose of U is not cosmetic. The accumulator is multiplied by the query from the right, so that its
second index must be that of x. (The released loop gets it by stacking columns as rows.) Without it, A with
its indices exchanged, e_2 e_1^T, is the same predictor.

More steps take more heads over the same tokens. With a_k = -eta/N sum y x^T and b_k = -eta/N sum x x^T

    E_1 = a_1,      E_k = E_{k-1} + E_{k-1} b_k + a_k,      p = -E_K x_q

so K steps are 2K - 1 heads, in the order a_1, b_2, a_2, b_3, a_3...; b has A = e_1 e_1^T.

The released code divides by f, the size of a token, and not by N; both are 10 in its runs. With
`normalise_by` "features" the rate means what it means there: eta_released = eta f / N.

Source: Sushma et al., arXiv:2410.11687, version 1, construction and its extension to two steps; the general
K and decays below 1: derived.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.scans import constant_scan

NORMALISATIONS = ("context", "features")
WIDTH, STRIDE = 3, 2  # of the windows [x_t, y_t, x_{t+1}]


class Construction(NamedTuple):
    """Parameters of a layer that does gradient descent; shapes as in the module."""

    attention: Float[Tensor, "head width width"]
    decay: Float[Tensor, "head features features"]
    C: Float[Tensor, "head features features"]
    gate: Float[Tensor, "width"]


def windows_of(
    tokens: Float[Tensor, "batch time features"], width: int = WIDTH, stride: int = STRIDE
) -> Float[Tensor, "batch window features width"]:
    """Windows over time, the slots of a window last. What fits no whole window is left out."""
    if tokens.shape[1] < width:
        return tokens.new_empty(len(tokens), 0, tokens.shape[2], width)
    return tokens.unfold(1, width, stride)


def outer_products(
    windows: Float[Tensor, "batch window features width"],
    attention: Float[Tensor, "head width width"],
) -> Float[Tensor, "batch window head features features"]:
    """(X^T A X)^T of every window and head: for A = e_1 e_2^T the matrix y x^T."""
    X = windows.unsqueeze(2)
    return X @ (X @ attention).mT


def accumulate(
    products: Float[Tensor, "batch window head features features"],
    decay: Float[Tensor, "head features features"],
    before: Float[Tensor, "batch head features features"] | None = None,
) -> tuple[
    Float[Tensor, "batch window head features features"],
    Float[Tensor, "batch head features features"],
]:
    """Z_t = D o Z_{t-1} + U_t^T by the scan kernel; all states and the last one."""
    h0 = None if before is None else before.flatten(1)
    states, last = constant_scan(decay.flatten(), products.flatten(2), h0)
    one = products.shape[:1] + products.shape[2:]
    return states.view(products.shape), last.view(one)


def implicit_weight(
    states: Float[Tensor, "... head features features"],
    C: Float[Tensor, "head features features"],
) -> Float[Tensor, "... features features"]:
    """-E: weights of the implicit model after all steps, from all accumulators."""
    heads = C @ states
    E = heads[..., 0, :, :]
    for k in range(1, len(C), 2):
        E = E + E @ heads[..., k, :, :] + heads[..., k + 1, :, :]
    return -E


def predictions(
    weight: Float[Tensor, "... features features"],
    direction: Float[Tensor, "... features"],
) -> Float[Tensor, "... features"]:
    """The implicit model on what the gate has picked: -(C Z) o for one head."""
    return (weight @ direction.unsqueeze(-1)).squeeze(-1)


def construction(
    features: int,
    context: int,
    eta: float,
    *,
    gd_steps: int = 1,
    decay: float = 1.0,
    normalise_by: str = "context",
    dtype: torch.dtype | None = None,
) -> Construction:
    """The parameters that make a layer do gradient descent from zero.

    Parameters
    ----------
    features, context
        f and N.
    eta
        Rate of a step.
    gd_steps
        Steps K; the layer has 2K - 1 heads.
    decay
        Of the accumulator; below 1 older examples weigh less, by a factor for each step back.
    normalise_by
        "context" for eta/N, "features" for the released eta/f.
    dtype
        float32 or float64; torch's default if not given.

    Raises
    ------
    ValueError
        If a size is below 1, eta is not finite, decay is not in (0, 1], or the word is another.
    TypeError
        If a size is no whole number.
    """
    heads = 2 * whole(gd_steps, "gd_steps", 1) - 1
    scale = step_scale(eta, context, features, normalise_by)
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be in (0, 1], got {decay}")
    dtype = dtype or torch.get_default_dtype()
    attention = torch.zeros(heads, WIDTH, WIDTH, dtype=dtype)
    attention[0::2, 0, 1] = 1  # x y
    attention[1::2, 0, 0] = 1  # x x
    return Construction(
        attention,
        torch.full((heads, features, features), decay, dtype=dtype),
        (-scale * torch.eye(features, dtype=dtype)).repeat(heads, 1, 1),
        torch.tensor([0, 0, 1], dtype=dtype),
    )


def predict(
    tokens: Float[Tensor, "batch time features"], parameters: Construction
) -> Float[Tensor, "batch window features"]:
    """What a layer of these parameters predicts after each window, for the token that ends it."""
    windows = windows_of(tokens, len(parameters.gate))
    states, _ = accumulate(outer_products(windows, parameters.attention), parameters.decay)
    return predictions(implicit_weight(states, parameters.C), windows @ parameters.gate)


def step_scale(eta: float, context: int, features: int, normalise_by: str = "context") -> float:
    """The factor of sum y x^T in a step: eta/N, or eta/f as released; errors as `construction`."""
    sizes = {"context": whole(context, "context", 1), "features": whole(features, "features", 1)}
    if normalise_by not in NORMALISATIONS:
        raise ValueError(f"normalise_by must be one of {', '.join(NORMALISATIONS)}, got {normalise_by!r}")
    if not math.isfinite(eta):
        raise ValueError(f"eta must be finite, got {eta}")
    return eta / sizes[normalise_by]
