r"""Gradient descent on one task, step by step, and where it ends: what a layer is held against.

    W_0 = 0,    W_k = W_{k-1} - eta/N sum_n g_n (W_{k-1} x_n - y_n) x_n^T
    W_K = eta/N S_yx sum_{k<K} (I - eta/N S_xx)^k          S_yx = sum y x^T,  S_xx = sum x x^T
    W_K = S_yx (c_0 I + c_1 S_xx + ... + c_{K-1} S_xx^(K-1))              if each step has a rate of its own
    K -> infinity: the solution of least squares with the smallest norm, if eta is small enough

| symbol | meaning | shape | name |
|---|---|---|---|
| W | weights of the implicit model | (task, outputs, features) | returned |
| eta | rate of a step | number | `eta` |
| g | weight of each example, 1 for plain gradient descent | (context,) | `example_weight` |

Source: textbook; the sum over k is derived.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from eventbook.kernels.encoders.arguments import whole
from eventbook.models.in_context.construction import step_scale
from eventbook.models.in_context.tasks import Tasks, half_square


def gradient_descent(
    tasks: Tasks,
    eta: float,
    steps: int = 1,
    *,
    normalise_by: str = "context",
    example_weight: Float[Tensor, "context"] | None = None,
) -> Float[Tensor, "task outputs features"]:
    """Weights after explicit steps from zero on the context of each task.

    Parameters
    ----------
    tasks
        Whose examples are learnt.
    eta, normalise_by
        Rate, divided by the context or, as released, by the features.
    steps
        How many.
    example_weight
        Of each example in the loss; ones if not given.

    Raises
    ------
    ValueError
        If shapes do not fit, steps are below 1, or as `step_scale`.
    """
    whole(steps, "steps", 1)
    x, y = tasks.x, tasks.y
    scale = step_scale(eta, x.shape[1], x.shape[2], normalise_by)
    g = x.new_ones(x.shape[1]) if example_weight is None else example_weight
    if g.shape != x.shape[1:2]:
        raise ValueError(f"example_weight must be (context,) = ({x.shape[1]},), got {tuple(g.shape)}")
    W = x.new_zeros(len(x), y.shape[2], x.shape[2])
    for _ in range(steps):
        error = x @ W.mT - y
        W = W - scale * (error * g[:, None]).mT @ x
    return W


def descent_polynomial(tasks: Tasks, eta: float, steps: int) -> Float[Tensor, "task outputs features"]:
    """The same weights as a polynomial of the two sums that a layer can hold."""
    scale = step_scale(eta, tasks.x.shape[1], tasks.x.shape[2])
    S_yx, S_xx = tasks.y.mT @ tasks.x, tasks.x.mT @ tasks.x
    shrink = torch.eye(S_xx.shape[1], dtype=S_xx.dtype) - scale * S_xx
    term, total = S_yx, torch.zeros_like(S_yx)
    for _ in range(whole(steps, "steps", 1)):
        total = total + term
        term = term @ shrink
    return scale * total


def least_squares(tasks: Tasks) -> Float[Tensor, "task outputs features"]:
    """Weights of least squares, of the smallest norm where the context leaves some open."""
    return (torch.linalg.pinv(tasks.x) @ tasks.y).mT


def answers(weight: Float[Tensor, "task outputs features"], tasks: Tasks) -> Float[Tensor, "task outputs"]:
    """What models of these weights answer to the queries."""
    return (weight @ tasks.query[:, :, None])[:, :, 0]


def best_eta(tasks: Tasks) -> float:
    """The rate of one step with the least loss on the queries of these very tasks.

    The prediction is linear in eta, so the loss is a parabola and nothing has to be scanned.
    """
    unit = answers(gradient_descent(tasks, 1.0), tasks)
    return float((unit * tasks.answer).sum() / unit.square().sum())


def losses_of_rates(tasks: Tasks, etas: Float[Tensor, "rate"], steps: int) -> Float[Tensor, "rate"]:
    """Loss of so many steps on the queries, for each of some rates."""
    found = [
        half_square(answers(gradient_descent(tasks, float(e), steps), tasks), tasks.answer) for e in etas
    ]
    return torch.stack(found)


def best_polynomial(tasks: Tasks, steps: int) -> tuple[float, Float[Tensor, "steps"]]:
    """The least loss on these queries if each of the steps has a rate of its own, and the coefficients.

    The prediction is linear in c_0, ..., c_{K-1}, so this is a least-squares problem. Rates that belong to
    the coefficients may be complex; a layer of 2K - 1 heads does not mind.
    """
    whole(steps, "steps", 1)
    S_yx, S_xx = tasks.y.mT @ tasks.x, tasks.x.mT @ tasks.x
    direction, columns = tasks.query[:, :, None], []
    for _ in range(steps):
        columns.append((S_yx @ direction).flatten())
        direction = S_xx @ direction
    basis, wanted = torch.stack(columns, 1).double(), tasks.answer.flatten().double()
    size = basis.norm(dim=0)  # powers of S_xx differ by orders of magnitude
    found = torch.linalg.lstsq(basis / size, wanted[:, None], driver="gelsd").solution[:, 0]
    loss = float((basis / size @ found - wanted).square().mean() / 2)
    return loss, found / size
