"""DEEP R samples the exact posterior; broken variants do not. Quadrature is checked against closed forms."""

import numpy as np
import pytest
from scipy import integrate, stats

from eventbook.learning.rewiring import posterior as po

PROBLEM = po.least_squares_problem(5, 8, 0.3, seed=0)
STEPS = 4_000_000


@pytest.fixture(scope="module")
def exact():
    return po.exact_configuration_probabilities(*PROBLEM, 2, 0.5, 1.0)


def test_quadrature_against_adaptive_integration(exact):
    hessian, linear, sign = PROBLEM

    def mass(i, j):
        chosen = [i, j]

        def density(a, b):
            w = sign[chosen] * np.array([a, b])
            energy = 0.5 * w @ hessian[np.ix_(chosen, chosen)] @ w - linear[chosen] @ w + 0.5 * (a + b)
            return np.exp(-energy)

        return integrate.dblquad(density, 0, 12, 0, 12, epsabs=1e-9)[0]

    ratio = mass(0, 1) / mass(2, 4)
    ours = exact[0][po.configuration_of((0, 1))] / exact[0][po.configuration_of((2, 4))]
    assert ours == pytest.approx(ratio, rel=1e-6)
    assert exact[0].sum() == pytest.approx(1)
    assert np.count_nonzero(exact[0]) == 10


def test_deep_r_samples_the_posterior(exact):
    chain = po.sample_deep_r(*PROBLEM, 2, 0.5, 1.0, learning_rate=1e-3, steps=STEPS)
    assert po.total_variation(exact[0], chain.probabilities) < 0.02
    assert np.abs(chain.mean_theta - exact[1]).max() < 0.04
    assert chain.bound_violations == 0


def test_excluding_the_dropped_changes_nothing_in_the_limit(exact):
    chain = po.sample_deep_r_excluding_dropped(*PROBLEM, 2, 0.5, 1.0, learning_rate=1e-3, steps=STEPS)
    assert po.total_variation(exact[0], chain.probabilities) < 0.02
    assert chain.bound_violations == 0


def test_negative_controls_fail(exact):
    biased = po.sample_biased_deep_r(*PROBLEM, 2, 0.5, 1.0, learning_rate=1e-3, steps=STEPS)
    assert po.total_variation(exact[0], biased.probabilities) > 0.05
    cold = po.sample_deep_r(*PROBLEM, 2, 0.5, 0.5, learning_rate=1e-3, steps=STEPS)
    assert po.total_variation(exact[0], cold.probabilities) > 0.05


def test_soft_deep_r_samples_all_patterns():
    problem = po.least_squares_problem(3, 8, 0.3, seed=0)
    probability, mean_theta = po.exact_pattern_probabilities(*problem, 0.7, 1.0, -1.5)
    assert np.count_nonzero(probability) == 8
    chain = po.sample_soft_deep_r(*problem, 0.7, 1.0, -1.5, learning_rate=1e-3, steps=2 * STEPS)
    assert po.total_variation(probability, chain.probabilities) < 0.02
    assert np.abs(chain.mean_theta - mean_theta).max() < 0.03
    wrong = po.exact_pattern_probabilities(*problem, 0.7, 1.0, -3.0)[0]
    assert po.total_variation(wrong, chain.probabilities) > 0.05


def test_one_connection_is_exponential():
    theta = po.reflected_langevin(2.0, 0.5, learning_rate=1e-4, samples=50_000, thin=2000)
    # the reflected walk is ahead of its limit by about half a noise step at the wall
    assert theta.mean() == pytest.approx(0.25, rel=0.03)
    assert stats.kstest(theta[::10], "expon", args=(0, 0.25)).pvalue > 1e-3
    assert stats.kstest(theta[::10], "expon", args=(0, 0.30)).pvalue < 1e-6


def test_clip_rule_holds_for_fine_steps_and_misses_for_the_authors_defaults():
    assert po.clip_rule_occupancy(0.1, 1e-5, 4e-4, steps=150_000) == pytest.approx(0.1, rel=0.1)
    assert 0.23 < po.clip_rule_occupancy(0.3, 1e-5, 1e-5) < 0.28


RATE = {"learning_rate": 1e-3, "steps": 100}
HARD = (po.sample_deep_r, po.sample_biased_deep_r, po.sample_deep_r_excluding_dropped)


@pytest.mark.parametrize("budget", [0, 6, -1, 10**6])
@pytest.mark.parametrize("sample", [*HARD, po.exact_configuration_probabilities])
def test_a_budget_must_be_possible(sample, budget):
    options = {} if sample is po.exact_configuration_probabilities else RATE
    with pytest.raises(ValueError, match=r"budget must be (between 1 and 5|at most M/2).*, got"):
        sample(*PROBLEM, budget, 0.5, 1.0, **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"burn_in": 1.0}, r"burn_in must be in \[0, 1\), a fraction of the steps, got 1.0"),
        ({"burn_in": 2}, "burn_in must be in"),
        ({"burn_in": -0.1}, "burn_in must be in"),
        ({"burn_in": float("nan")}, "burn_in must be in"),
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"steps": 1e3}, "steps must be an integer >= 1, got 1000.0"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0 and finite, got 0.0"),
        ({"learning_rate": -1e-3}, "learning_rate must be > 0 and finite"),
        ({"learning_rate": float("nan")}, "learning_rate must be > 0 and finite"),
        ({"seed": -1}, "seed must be an integer"),
    ],
)
@pytest.mark.parametrize("sample", [*HARD, po.sample_soft_deep_r])
def test_a_chain_must_have_something_to_record(sample, options, message):
    arguments = (0.5, 1.0, -1.0) if sample is po.sample_soft_deep_r else (2, 0.5, 1.0)
    with pytest.raises(ValueError, match=message):
        sample(*PROBLEM, *arguments, **{**RATE, **options})


def test_one_recorded_step_is_enough():
    chain = po.sample_deep_r(*PROBLEM, 2, 0.5, 1.0, learning_rate=1e-3, steps=100, burn_in=0.99)
    assert chain.counts.sum() == 1
    assert np.isfinite(chain.probabilities).all()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda h, b, s: (h[:4], b, s), r"hessian must be \(5, 5\)"),
        (lambda h, b, s: (h, b, s[:4]), r"hessian must be \(5, 5\) and sign \(5,\)"),
        (lambda h, b, s: (h, b[None], s), r"linear must be a vector of 1 to 24 numbers, got shape \(1, 5\)"),
        (lambda h, b, s: (h[:0, :0], b[:0], s[:0]), "linear must be a vector of 1 to 24"),
        (lambda h, b, s: (np.eye(40), np.ones(40), np.ones(40)), "linear must be a vector of 1 to 24"),
        (lambda h, b, s: (h * np.nan, b, s), "hessian and linear must be finite"),
        (lambda h, b, s: (h, b * np.inf, s), "hessian and linear must be finite"),
        (lambda h, b, s: (h + np.eye(5, k=1), b, s), "hessian must be symmetric"),
        (lambda h, b, s: (h, b, s * 2), "sign must be -1 or 1"),
    ],
)
def test_problems_that_are_none(change, message):
    problem = change(*PROBLEM)
    with pytest.raises(ValueError, match=message):
        po.exact_configuration_probabilities(*problem, 2, 0.5, 1.0)
    with pytest.raises(ValueError, match=message):
        po.exact_pattern_probabilities(*problem, 0.5, 1.0, -1.0)
    with pytest.raises(ValueError, match=message):
        po.sample_deep_r(*problem, 2, 0.5, 1.0, **RATE)
    with pytest.raises(ValueError, match=message):
        po.sample_soft_deep_r(*problem, 0.5, 1.0, -1.0, **RATE)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: po.sample_deep_r(*PROBLEM, 2, 0.5, 0.0, **RATE), "temperature must be > 0 and finite"),
        (lambda: po.sample_deep_r(*PROBLEM, 2, 0.5, np.inf, **RATE), "temperature must be > 0 and finite"),
        (lambda: po.sample_deep_r(*PROBLEM, 2, np.nan, 1.0, **RATE), "l1 must be finite, got nan"),
        (lambda: po.sample_deep_r_excluding_dropped(*PROBLEM, 3, 0.5, 1.0, **RATE), "at most M/2"),
        (lambda: po.sample_soft_deep_r(*PROBLEM, 0.5, 1.0, 0.0, **RATE), "theta_min must be < 0, got 0.0"),
        (lambda: po.sample_soft_deep_r(*PROBLEM, 0.5, 1.0, -np.inf, **RATE), "theta_min must be < 0"),
        (lambda: po.exact_pattern_probabilities(*PROBLEM, 0.5, 1.0, 1.0), "theta_min must be < 0, got 1.0"),
        (lambda: po.reflected_langevin(0.0, 1.0, learning_rate=1e-3, samples=5), "l1 must be > 0 and finite"),
        (lambda: po.reflected_langevin(1.0, -1.0, learning_rate=1e-3, samples=5), "temperature must be > 0"),
        (lambda: po.reflected_langevin(1.0, 1.0, learning_rate=0.0, samples=5), "learning_rate must be > 0"),
        (lambda: po.reflected_langevin(1.0, 1.0, learning_rate=0.1, samples=0), "samples must be an integer"),
        (lambda: po.reflected_langevin(1.0, 1.0, learning_rate=0.1, samples=5, thin=0), "thin must be an"),
        (lambda: po.clip_rule_occupancy(1.0, 1e-5, 1e-5), "connectivity must be in"),
        (lambda: po.clip_rule_occupancy(0.1, 0.0, 1e-5), "l1 must be > 0"),
        (lambda: po.clip_rule_occupancy(0.1, 1e-5, -1e-5), "gdnoise must be > 0"),
        (lambda: po.clip_rule_occupancy(0.1, 1e-5, 1e-5, connections=0), "connections must be an integer"),
        (lambda: po.clip_rule_occupancy(0.1, 1e-5, 1e-5, burn_in=1.0), "burn_in must be in"),
        (lambda: po.clip_rule_occupancy(0.1, 1e-5, 1e-5, steps=0), "steps must be an integer"),
        (lambda: po.clip_rule_exact(0.0, 1.0), "connectivity must be in"),
        (lambda: po.clip_rule_exact(0.1, np.inf), "step_ratio > 0"),
        (lambda: po.clip_rule_exact(0.1, 1.0, cells_per_step=0), "cells_per_step must be an integer"),
        (lambda: po.clip_rule_exact(0.1, 1e-9), "the grid must have at most 100000 cells"),
        (lambda: po.clip_rule_exact(1e-9, 1.0), "the grid must have at most 100000 cells"),
        (
            lambda: po.total_variation(np.ones(3), np.ones(1)),
            r"q must have the shape of p, \(3,\), got \(1,\)",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("l1, temperature", [(0.5, 1000.0), (0.5, 1e-3), (-50.0, 1.0), (1e6, 1.0)])
def test_a_law_that_the_quadrature_cannot_hold_is_refused(l1, temperature):
    """Cut off at its end, beyond the largest number, or between its nodes."""
    problem = po.least_squares_problem(5, rows=8, noise=0.3, seed=52)
    with pytest.raises(ValueError, match="must give a law that lies within theta < 12"):
        po.exact_configuration_probabilities(*problem, 2, l1, temperature)
