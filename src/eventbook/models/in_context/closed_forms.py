r"""The loss of in-context gradient descent in closed form: what the best layer can reach.

A task has w ~ N(0, I) and y = w^T x; the prediction is sum_n sum_j g_nj y_n x_nj x_qj, with gains g that are
eta/N for a plain step. The loss per output is half the mean squared error of the query. With

    S = E[x x^T],     M = E[|x|^2 x x^T]                                                (E x = 0)

    L(g) = 1/2 ( tr S - 2 sum_n g_n . diag(S^2) + sum_n g_n^T (S o M) g_n
                 + sum_{n != m} g_n^T (S o S^2) g_m )                                   any gains

    L(eta) = 1/2 ( tr S - 2 eta tr S^2 + eta^2/N ( tr(S M) + (N - 1) tr S^3 ) )         g = eta/N
    eta*   = N tr S^2 / ( tr(S M) + (N - 1) tr S^3 )

Independent entries of variance s and kurtosis k have S = s I and M = s^2 (f - 1 + k) I:

    L(eta) = f s/2 ( 1 - 2 eta s + eta^2 s^2 (N + f - 2 + k)/N )
    eta*   = N / ( s (N + f - 2 + k) ),        L* = f s/2 ( 1 - N/(N + f - 2 + k) )

Weights lambda^(N-n) of the examples count as a shorter context, at the best rate:

    N_eff = (sum w)^2 / sum w^2 = (1 - lambda^N)(1 + lambda) / ( (1 - lambda)(1 + lambda^N) )

A rate that is best at range 1, met by inputs of range r and maps of scale c, with q = N/(N + f - 2 + k):

    L(r, c) = c^2 f r^2/24 ( 1 - 2 q r^2 + q r^4 )

| symbol | meaning | shape | name |
|---|---|---|---|
| S, M | moments of the inputs | (features, features) | `Moments.second`, `Moments.fourth` |
| g | gain of each example and feature | (context, features) | `gains` |
| N, f | examples, features | number | `context`, `features` |

Source: derived. E[pred y_q] and E[pred^2] are averages over w, then over independent examples, then over x_q.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.machinery.tensors import FLOATING, axes, same_dtype

UNIFORM_KURTOSIS = 9 / 5


class Moments(NamedTuple):
    """S = E[x x^T] and M = E[|x|^2 x x^T] of centred inputs."""

    second: Float[Tensor, "features features"]
    fourth: Float[Tensor, "features features"]


def moments_of(rows: Float[Tensor, "row features"]) -> Moments:
    """Moments of a table of centred inputs, in double precision.

    Raises
    ------
    ValueError
        If there are no rows, one is not finite, or their mean is not zero: then the forms do not hold.
    """
    axes(rows=(rows, "row features"))
    same_dtype(FLOATING, rows=rows)
    x = rows.double()
    if not len(x) or not x.isfinite().all():
        raise ValueError(f"rows must be finite and at least one, got shape {tuple(rows.shape)}")
    off = float(x.mean(0).abs().max() / x.std())
    if not off < 1e-4:
        raise ValueError(f"rows must be centred, got a mean {off:.2g} standard deviations from zero")
    return Moments(x.mT @ x / len(x), (x * x.square().sum(1, keepdim=True)).mT @ x / len(x))


def uniform_moments(features: int, input_range: float = 1.0) -> Moments:
    """Moments of independent entries from U(-r/2, r/2).

    Raises
    ------
    ValueError
        If there are no features, or the range is not finite and > 0.
    """
    eye = torch.eye(whole(features, "features", 1), dtype=torch.float64)
    variance = _positive(input_range=input_range)[0] ** 2 / 12
    return Moments(variance * eye, variance**2 * (features - 1 + UNIFORM_KURTOSIS) * eye)


def loss_of_gains(
    gains: Float[Tensor, "context features"],
    moments: Moments,
) -> Float[Tensor, ""]:
    """L(g); differentiable in the gains. Shapes that do not fit are refused."""
    S, M = moments
    square = "features features"
    axes(gains=(gains, "context features"), second=(S, square), fourth=(M, square))
    S2, total = S @ S, gains.sum(0)
    # n = m, less what the next term has of it
    own = torch.einsum("nj,jk,nk", gains, S * M - S * S2, gains)
    all_pairs = total @ (S * S2) @ total
    return (S.trace() - 2 * total @ S2.diagonal() + own + all_pairs) / 2


def best_rate(context: int, moments: Moments) -> float:
    """eta* of one step on `context` examples; ValueError if shapes or the context do not fit."""
    S, M = moments
    axes(second=(S, "features features"), fourth=(M, "features features"))
    N = whole(context, "context", 1)
    return float(N * (S @ S).trace() / ((S @ M).trace() + (N - 1) * (S @ S @ S).trace()))


def loss_at(eta: float, context: int, moments: Moments) -> float:
    """L(eta) for any covariance; ValueError if shapes or the context do not fit."""
    S, M = moments
    axes(second=(S, "features features"), fourth=(M, "features features"))
    N = whole(context, "context", 1)
    square = ((S @ M).trace() + (N - 1) * (S @ S @ S).trace()) / N
    return float((S.trace() - 2 * eta * (S @ S).trace() + eta**2 * square) / 2)


def uniform_loss(eta: float, context: float, features: int, input_range: float = 1.0) -> float:
    """L(eta) for inputs from U(-r/2, r/2); the context may be an effective one.

    Raises
    ------
    ValueError
        If context, features or the range are not finite and > 0.
    """
    _positive(context=context, features=features, input_range=input_range)
    s = input_range**2 / 12
    square = (context + features - 2 + UNIFORM_KURTOSIS) / context
    return features * s / 2 * (1 - 2 * eta * s + eta**2 * s**2 * square)


def uniform_best_rate(context: float, features: int, input_range: float = 1.0) -> float:
    """eta* for inputs from U(-r/2, r/2); errors as `uniform_loss`."""
    _positive(context=context, features=features, input_range=input_range)
    return context / (input_range**2 / 12 * (context + features - 2 + UNIFORM_KURTOSIS))


def uniform_least_loss(context: float, features: int, input_range: float = 1.0) -> float:
    """L* for inputs from U(-r/2, r/2).

    Examples
    --------
    >>> f"{uniform_least_loss(10, 10):.4f}", f"{uniform_best_rate(10, 10):.2f}"
    ('0.2062', '6.06')
    """
    return uniform_loss(uniform_best_rate(context, features, input_range), context, features, input_range)


def effective_context(decay: float, context: int) -> float:
    """N_eff of examples that are weighted by powers of a decay.

    Raises
    ------
    ValueError
        If the decay is not in (0, 1], or the context is below 1.
    """
    whole(context, "context", 1)
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be in (0, 1], got {decay}")
    weight = decay ** torch.arange(context, dtype=torch.float64)
    return float(weight.sum().square() / weight.square().sum())


def shifted_loss(
    input_range: float, weight_scale: float, context: int, features: int, trained_range: float = 1.0
) -> float:
    """L(r, c) at the rate that is best for inputs of `trained_range`.

    Raises
    ------
    ValueError
        If a range is not finite and > 0.
    """
    _positive(input_range=input_range, trained_range=trained_range)
    eta = uniform_best_rate(context, features, trained_range)
    return weight_scale**2 * uniform_loss(eta, context, features, input_range)


def gains_of_decays(
    scale: Float[Tensor, ""], decay: Float[Tensor, "features"], context: int
) -> Float[Tensor, "context features"]:
    """g_nj = scale decay_j^(N-n): each column of the accumulator decays by itself."""
    age = torch.arange(context - 1, -1, -1, dtype=decay.dtype)
    return scale * decay ** age[:, None]


def best_decays(context: int, moments: Moments) -> tuple[float, Float[Tensor, "features"]]:
    """The least loss that decays of columns allow, and these decays, which may be above 1.

    A column that decays sums less of its feature, and one that grows more: to a gradient step it is a rate of
    its own, paid for with fewer effective examples. Found numerically from the plain step.
    """
    eta = best_rate(context, moments)
    scale = torch.tensor(eta / context, dtype=torch.float64, requires_grad=True)
    rate = torch.zeros(len(moments.second), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [scale, rate], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of_gains(gains_of_decays(scale, rate.exp(), context), moments)
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(closure().detach()), rate.detach().exp()


def _positive(**values: float) -> list[float]:
    """The values; ValueError that names the first which is not finite and > 0."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be finite and > 0, got {value}")
    return list(values.values())
