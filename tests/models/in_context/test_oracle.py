"""Gradient descent against torch's own gradients, and its limits against other packages."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from eventbook.models.in_context.oracle import (
    answers,
    best_eta,
    best_polynomial,
    descent_polynomial,
    gradient_descent,
    least_squares,
    losses_of_rates,
)
from eventbook.models.in_context.tasks import Tasks, half_square, vector_tasks

pytestmark = pytest.mark.usefixtures("double")


def some(count=5, **sizes):
    return vector_tasks(count, generator=torch.Generator().manual_seed(0), **sizes)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("normalise_by", ["context", "features"])
def test_steps_are_those_of_autograd(steps, normalise_by):
    tasks = some(context=7, features=4)
    divisor = {"context": 7, "features": 4}[normalise_by]
    W = torch.zeros(5, 4, 4, requires_grad=True)
    for _ in range(steps):
        loss = (W @ tasks.x.mT - tasks.y.mT).square().sum() / (2 * divisor)
        W = (W - 1.3 * torch.autograd.grad(loss, W)[0]).detach().requires_grad_()
    found = gradient_descent(tasks, 1.3, steps, normalise_by=normalise_by)
    assert (found - W).abs().max() < 1e-13


def test_weights_of_examples_are_those_of_the_loss():
    tasks, g = some(), torch.linspace(0.1, 1, 10)
    W = torch.zeros(5, 10, 10, requires_grad=True)
    loss = ((W @ tasks.x.mT - tasks.y.mT).square() * g).sum() / 20
    expected = -2.0 * torch.autograd.grad(loss, W)[0]
    assert (gradient_descent(tasks, 2.0, example_weight=g) - expected).abs().max() < 1e-13
    assert (gradient_descent(tasks, 2.0) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_polynomial_is_the_loop(steps):
    tasks = some(context=7, features=4)
    assert (descent_polynomial(tasks, 3.0, steps) - gradient_descent(tasks, 3.0, steps)).abs().max() < 1e-13
    assert (
        descent_polynomial(tasks, 3.0, steps) - gradient_descent(tasks, 3.0, steps + 1)
    ).abs().max() > 1e-3


@pytest.mark.parametrize(("context", "features"), [(20, 4), (4, 20)])
def test_many_steps_end_at_least_squares_of_smallest_norm(context, features):
    tasks = some(context=context, features=features)
    found = gradient_descent(tasks, 2.0, 20_000)
    expected = np.stack(
        [np.linalg.lstsq(x, y, rcond=None)[0].T for x, y in zip(tasks.x, tasks.y, strict=True)]
    )
    assert np.abs(found.numpy() - expected).max() < 1e-6
    assert np.abs(least_squares(tasks).numpy() - expected).max() < 1e-10


def test_least_squares_is_the_limit_of_ridge():
    tasks = some(count=1, context=20, features=4)
    ridge = Ridge(alpha=1e-10, fit_intercept=False).fit(tasks.x[0], tasks.y[0])
    assert np.abs(ridge.coef_ - least_squares(tasks)[0].numpy()).max() < 1e-7


def test_the_best_rate_is_the_lowest_of_a_scan():
    tasks = some(count=500)
    eta = best_eta(tasks)
    grid = torch.linspace(0.5, 1.5, 21) * eta
    losses = losses_of_rates(tasks, grid, 1)
    assert float(grid[losses.argmin()]) == pytest.approx(eta)
    assert float(losses.min()) == float(
        half_square(answers(gradient_descent(tasks, float(grid[10])), tasks), tasks.answer)
    )


def test_rates_of_their_own_are_a_polynomial():
    """Two steps at two rates have the coefficients eta_1 + eta_2 and -eta_1 eta_2, over N and N^2."""
    tasks, (first, second) = some(count=400), (9.0, 3.0)
    W = gradient_descent(tasks, first)
    error = tasks.x @ W.mT - tasks.y
    W = W - second / 10 * error.mT @ tasks.x
    S_yx, S_xx = tasks.y.mT @ tasks.x, tasks.x.mT @ tasks.x
    assert (
        W - S_yx @ ((first + second) / 10 * torch.eye(10) - first * second / 100 * S_xx)
    ).abs().max() < 1e-12
    loss, coefficients = best_polynomial(tasks, 2)
    assert coefficients.shape == (2,)
    assert loss <= float(half_square(answers(W, tasks), tasks.answer))
    assert loss <= float(losses_of_rates(tasks, torch.linspace(1, 12, 23), 2).min())
    one, (only,) = best_polynomial(tasks, 1)
    assert float(only) == pytest.approx(best_eta(tasks) / 10)
    assert best_polynomial(tasks, 3)[0] < loss < one


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: gradient_descent(t, 1.0, 0), ValueError, "steps must be >= 1, got 0"),
        (lambda t: gradient_descent(t, float("nan")), ValueError, "eta must be finite, got nan"),
        (lambda t: gradient_descent(t, 1.0, normalise_by="batch"), ValueError, "normalise_by must be one of"),
        (
            lambda t: gradient_descent(t, 1.0, example_weight=torch.ones(3)), ValueError,
            r"example_weight must be \(context,\) = \(10,\), got \(3,\)",
        ),
    ],
)  # fmt: skip
def test_bad_input_gets_one_clear_line(call, error, message):
    with pytest.raises(error, match=message):
        call(some())


def test_answers_are_products():
    tasks = Tasks(torch.zeros(1, 1, 2), torch.zeros(1, 1, 1), torch.tensor([[2.0, 3.0]]), torch.zeros(1, 1))
    assert answers(torch.tensor([[[5.0, 7.0]]]), tasks).tolist() == [[31.0]]
