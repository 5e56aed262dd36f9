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


def test_errors():
    hessian, linear, sign = PROBLEM
    with pytest.raises(ValueError, match=r"hessian must be \(5, 5\)"):
        po.exact_configuration_probabilities(hessian[:4], linear, sign, 2, 0.5, 1.0)
    with pytest.raises(ValueError, match="temperature must be > 0"):
        po.sample_deep_r(*PROBLEM, 2, 0.5, 0.0, learning_rate=1e-3, steps=10)
    with pytest.raises(ValueError, match="at most M/2"):
        po.sample_deep_r_excluding_dropped(*PROBLEM, 3, 0.5, 1.0, learning_rate=1e-3, steps=10)
    with pytest.raises(ValueError, match="theta_min must be < 0"):
        po.sample_soft_deep_r(*PROBLEM, 0.5, 1.0, 0.0, learning_rate=1e-3, steps=10)
    with pytest.raises(ValueError, match="connectivity must be in"):
        po.clip_rule_occupancy(1.0, 1e-5, 1e-5)
