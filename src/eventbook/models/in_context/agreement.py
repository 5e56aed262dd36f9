r"""How near a trained layer is to gradient descent: on its losses, its predictions and its sensitivities.

    G = d p / d x_q,     W_1 = eta/N sum y x^T             sensitivity of the layer, and of one step
    cosine       mean over tasks and outputs of  G_i . W_i / (|G_i| |W_i|)
    difference   mean over tasks and outputs of  |G_i - W_i|;       of |p - W_1 x_q| over tasks

| symbol | meaning | shape | name |
|---|---|---|---|
| G | sensitivities | (task, outputs, features) | `sensitivities` |

Everything is measured on the same tasks, the rate of the step included: a finite sample of tasks has a loss
of its own.

Source: released code of arXiv:2410.11687, whose names are "Model cos", "Model diff" and "Preds diff".
"""

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from eventbook.models.in_context.oracle import answers, best_eta, gradient_descent
from eventbook.models.in_context.tasks import Tasks, half_square

PART = 500  # tasks that are evaluated together


class Predictor(Protocol):
    """What is compared: a layer that answers to the last token."""

    def predict(self, tokens: Tensor) -> Tensor: ...


class Agreement(NamedTuple):
    """Losses of model and step, mean cosine, mean differences, and the rate of the step."""

    loss: float
    gd_loss: float
    cosine: float
    sensitivity_difference: float
    prediction_difference: float
    eta: float


def loss_of(model: Predictor, tasks: Tasks) -> float:
    """Half the mean squared error per output."""
    with torch.no_grad():
        return float(half_square(predictions_of(model, tasks), tasks.answer))


def predictions_of(model: Predictor, tasks: Tasks) -> Float[Tensor, "task features"]:
    """Predictions, some hundred tasks at a time."""
    with torch.no_grad():
        return torch.cat([model.predict(part) for part in tasks.tokens().split(PART)])


def sensitivities(model: Predictor, tasks: Tasks) -> Float[Tensor, "task outputs features"]:
    """d p / d x_q of the outputs that the tasks have."""
    found = []
    for part in tasks.tokens().split(PART):
        context, query = part[:, :-1], part[:, -1:].clone().requires_grad_()
        prediction = model.predict(torch.cat([context, query], 1))[:, -tasks.answer.shape[1] :]
        rows = [
            torch.autograd.grad(prediction[:, i].sum(), query, retain_graph=True)[0][:, 0]
            for i in range(prediction.shape[1])
        ]
        found.append(torch.stack(rows, 1).detach())
    return torch.cat(found)


def agreement(model: Predictor, tasks: Tasks, eta: float | None = None) -> Agreement:
    """Compare a model with one step of gradient descent on some tasks.

    Parameters
    ----------
    model
        A `GDLayer`, or whatever predicts from tokens.
    tasks
        What both are given.
    eta
        Rate of the step; the best on these tasks if not given.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    eta = best_eta(tasks) if eta is None else eta
    weight = gradient_descent(tasks, eta)
    expected, found = answers(weight, tasks), predictions_of(model, tasks)
    G = sensitivities(model, tasks)
    cosine = torch.nn.functional.cosine_similarity(G, weight, dim=2).mean()
    return Agreement(
        loss=float(half_square(found, tasks.answer)),
        gd_loss=float(half_square(expected, tasks.answer)),
        cosine=float(cosine),
        sensitivity_difference=float((G - weight).norm(dim=2).mean()),
        prediction_difference=float((found[:, -expected.shape[1] :] - expected).norm(dim=1).mean()),
        eta=eta,
    )
