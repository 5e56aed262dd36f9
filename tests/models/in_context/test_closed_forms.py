"""The loss of the best layer: forms against each other, against sums over every case, and Monte Carlo."""

import itertools
import math

import pytest
import torch

from eventbook.models.in_context.closed_forms import (
    Moments,
    best_decays,
    best_rate,
    effective_context,
    gains_of_decays,
    loss_at,
    loss_of_gains,
    moments_of,
    shifted_loss,
    uniform_best_rate,
    uniform_least_loss,
    uniform_loss,
    uniform_moments,
)
from eventbook.models.in_context.oracle import answers, best_eta, gradient_descent
from eventbook.models.in_context.tasks import half_square, tasks_of_rows, vector_tasks


def skewed_rows(count=6, features=2, seed=0):
    rows = torch.randn(count, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows = rows @ torch.tensor([[1.0, 0.7], [0.0, 0.3]], dtype=torch.float64)
    return rows - rows.mean(0)


def exact_loss(gains, rows):
    """Mean over every context and query of a small table; over w by hand: E (w.v)^2 = |v|^2."""
    total, count = 0.0, 0
    for drawn in itertools.product(range(len(rows)), repeat=len(gains) + 1):
        *context, query = rows[list(drawn)]
        v = sum((g * x * query).sum() * x for g, x in zip(gains, context, strict=True)) - query
        total, count = total + float(v @ v), count + 1
    return total / count / 2


def test_gains_of_any_kind_against_every_case():
    rows = skewed_rows()
    gains = torch.rand(3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = float(loss_of_gains(gains, moments_of(rows)))
    assert found == pytest.approx(exact_loss(gains, rows), rel=1e-12)
    assert found != pytest.approx(exact_loss(gains.flip(1), rows), rel=1e-3)  # negative control


def test_a_rate_is_equal_gains():
    moments = moments_of(skewed_rows(50))
    for eta in (0.0, 0.4, 2.0):
        gains = torch.full((7, 2), eta / 7, dtype=torch.float64)
        assert loss_at(eta, 7, moments) == pytest.approx(float(loss_of_gains(gains, moments)), rel=1e-12)
    eta = best_rate(7, moments)
    assert loss_at(eta, 7, moments) < min(loss_at(0.99 * eta, 7, moments), loss_at(1.01 * eta, 7, moments))


@pytest.mark.parametrize(("context", "features", "r"), [(10, 10, 1.0), (3, 7, 2.0), (20, 2, 0.5)])
def test_the_uniform_forms_are_the_general_one(context, features, r):
    moments = uniform_moments(features, r)
    eta = uniform_best_rate(context, features, r)
    assert eta == pytest.approx(best_rate(context, moments), rel=1e-12)
    for rate in (0.3 * eta, eta, 2 * eta):
        assert uniform_loss(rate, context, features, r) == pytest.approx(loss_at(rate, context, moments))
    assert uniform_least_loss(context, features, r) == pytest.approx(loss_at(eta, context, moments))


@pytest.mark.parametrize(
    ("context", "features", "expected"),
    [(10, 10, 0.20623), (10, 5, 0.0676), (10, 20, 0.5537), (5, 10, 0.2759), (10, 35, 1.133), (10, 50, 1.735)],
)
def test_values_that_were_derived_beforehand(context, features, expected):
    assert uniform_least_loss(context, features) == pytest.approx(expected, rel=5e-4)


@pytest.mark.parametrize(
    ("decay", "n_eff", "loss"),
    [(0.9956, 9.9987, None), (0.97, 9.925, None), (0.9, 9.18, 0.2152), (0.5, 2.99, 0.3192)],
)
def test_an_effective_context_replaces_the_context(decay, n_eff, loss):
    found = effective_context(decay, 10)
    assert found == pytest.approx(n_eff, rel=2e-3)
    closed = (1 - decay**10) * (1 + decay) / ((1 - decay) * (1 + decay**10))
    assert found == pytest.approx(closed, rel=1e-9)
    weight = decay ** torch.arange(10, dtype=torch.float64)
    eta = uniform_best_rate(found, 10)
    gains = (eta * weight / weight.sum())[:, None].expand(10, 10)
    assert float(loss_of_gains(gains, uniform_moments(10))) == pytest.approx(uniform_least_loss(found, 10))
    if loss:
        assert uniform_least_loss(found, 10) == pytest.approx(loss, rel=1e-3)


def test_decays_are_not_needed_where_features_are_alike():
    loss, decay = best_decays(10, uniform_moments(5))
    assert (decay - 1).abs().max() < 1e-4
    assert loss == pytest.approx(uniform_least_loss(10, 5), rel=1e-9)


def test_decays_precondition_where_features_differ():
    rows = torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moments = moments_of((rows - rows.mean(0)) * torch.tensor([1.0, 2.0], dtype=torch.float64))
    loss, decay = best_decays(6, moments)
    plain = loss_at(best_rate(6, moments), 6, moments)
    assert loss < 0.99 * plain
    eta = best_rate(6, moments)
    gains = gains_of_decays(torch.tensor(eta / 6), torch.ones(2, dtype=torch.float64), 6)
    assert float(loss_of_gains(gains, moments)) == pytest.approx(plain)
    for other in (decay * 1.01, decay * torch.tensor([1.01, 0.99])):  # no scale makes up for other decays
        scales = torch.linspace(0.2, 5, 400, dtype=torch.float64) * eta / 6
        assert min(float(loss_of_gains(gains_of_decays(s, other, 6), moments)) for s in scales) > loss


def test_gains_of_decays_are_powers():
    found = gains_of_decays(torch.tensor(2.0), torch.tensor([0.5, 3.0]), 3)
    assert found.tolist() == [[0.5, 18.0], [1.0, 6.0], [2.0, 2.0]]


def test_outside_the_range_of_training():
    assert shifted_loss(2.0, 1.0, 10, 10) == pytest.approx(8.40, rel=1e-3)
    assert shifted_loss(0.5, 1.0, 10, 10) == pytest.approx(0.0812, rel=1e-3)
    assert shifted_loss(1.0, 1.0, 10, 10) == pytest.approx(uniform_least_loss(10, 10))
    kappa = 10 / (18 + 9 / 5)
    closed = 9 * 10 * 1.7**2 / 24 * (1 - 2 * kappa * 1.7**2 + kappa * 1.7**4)
    assert shifted_loss(1.7, 3.0, 10, 10) == pytest.approx(closed)


def test_monte_carlo_agrees():
    tasks = vector_tasks(40_000, context=5, features=4, generator=torch.Generator().manual_seed(0))
    eta = uniform_best_rate(5, 4)
    assert best_eta(tasks) == pytest.approx(eta, rel=0.01)
    loss = half_square(answers(gradient_descent(tasks, eta), tasks), tasks.answer)
    assert float(loss) == pytest.approx(uniform_least_loss(5, 4), rel=0.01)
    assert float(loss) != pytest.approx(uniform_least_loss(6, 4), rel=0.01)  # negative control


def test_monte_carlo_agrees_for_a_covariance():
    rows = skewed_rows(200)
    moments = moments_of(rows)
    tasks = tasks_of_rows(40_000, rows, context=5, generator=torch.Generator().manual_seed(0))
    eta = best_rate(5, moments)
    loss = half_square(answers(gradient_descent(tasks, eta), tasks), tasks.answer)
    assert float(loss) == pytest.approx(loss_at(eta, 5, moments), rel=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: effective_context(0.0, 10), r"decay must be in \(0, 1\], got 0.0"),
        (lambda: effective_context(-0.1, 10), r"decay must be in \(0, 1\], got -0.1"),
        (lambda: effective_context(1.0, 0), "context must be >= 1, got 0"),
        (lambda: shifted_loss(math.nan, 1.0, 10, 10), "input_range must be finite and > 0, got nan"),
        (lambda: moments_of(torch.ones(5, 2) + torch.rand(5, 2)), "rows must be centred"),
        (lambda: moments_of(torch.full((5, 2), math.nan)), "rows must be finite"),
        (lambda: moments_of(torch.zeros(5)), r"rows must be \(row, features\), got \(5,\)"),
        (lambda: loss_of_gains(torch.ones(3, 4), uniform_moments(5)), r"second must be"),
        (lambda: uniform_moments(0), "features must be >= 1, got 0"),
        (lambda: uniform_moments(3, 0.0), "input_range must be finite and > 0, got 0.0"),
        (lambda: uniform_loss(1.0, 10, 10, 0.0), "input_range must be finite and > 0, got 0.0"),
        (lambda: uniform_best_rate(10, 0), "features must be finite and > 0, got 0"),
        (lambda: best_rate(5, Moments(torch.eye(3), torch.eye(4))), "fourth must be"),
        (lambda: loss_at(1.0, 0, uniform_moments(3)), "context must be >= 1, got 0"),
    ],
)
def test_bad_input_gets_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
