"""The DEEP R step: equality with its twin, invariants, uniform lottery, and controls that must fail."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eventbook.kernels.rewiring import steps as rw


def start(potential, budget, seed):
    rng = np.random.default_rng(seed)
    index = np.sort(rng.choice(potential, budget, replace=False)).astype(np.int64)
    return rng, np.abs(rng.standard_normal(budget)) * 0.1, index


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.floats(0, 1), st.integers(0, 10_000), st.sampled_from([0.0, 0.05, 1.0]))
def test_step_equals_twin_and_keeps_invariants(potential, density, seed, noise):
    budget = max(1, round(density * potential))
    rng, theta, index = start(potential, budget, seed)
    for step in range(5):
        gradient = rng.standard_normal(budget)
        rates = (potential, seed, 3, step, 0.1, 0.01, noise)
        theta_twin, index_twin, n_twin = rw.deep_r_step_reference(theta, index, gradient, *rates)
        before = dict(zip(index.tolist(), theta.tolist(), strict=True))
        n = rw.deep_r_step(theta, index, gradient, *rates)
        assert n == n_twin
        np.testing.assert_array_equal(index, index_twin)
        np.testing.assert_allclose(theta, theta_twin, rtol=0, atol=1e-12)
        assert rw.count_active(theta, index, potential) == budget
        fresh = [k for k in range(budget) if index[k] not in before]
        assert not theta[fresh].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_noise_is_plain_descent(dtype):
    rng, theta, index = start(1000, 50, 0)
    theta = theta.astype(dtype) + 1
    gradient = rng.standard_normal(50).astype(dtype)
    expected = theta - 0.1 * (gradient + 0.01)
    assert rw.deep_r_step(theta, index, gradient, 1000, 0, 0, 0, 0.1, 0.01, 0.0) == 0
    np.testing.assert_allclose(theta, expected, rtol=1e-6)


def test_noise_has_the_variance_of_the_temperature():
    lr, gdnoise = 0.5, 1e-5
    temperature = lr * gdnoise**2 / 2
    assert temperature == pytest.approx(2.5e-11, rel=1e-12)
    theta = np.ones(200_000)
    noise = np.sqrt(2 * lr * temperature)
    rw.update_active(theta, np.zeros_like(theta), np.arange(theta.size), 1, 0, 0, lr, 0.0, noise)
    assert np.std(theta - 1) == pytest.approx(lr * gdnoise, rel=4.5 / np.sqrt(2 * theta.size))


def test_waiting_connections_do_not_move():
    theta = np.array([0.5, -0.1, 0.0])
    rw.update_active(theta, np.ones(3), np.arange(3), 0, 0, 0, 0.1, 0.0, 0.0)
    np.testing.assert_allclose(theta, [0.4, -0.1, -0.1])


def test_not_a_number_is_not_rewired_away():
    theta, index = np.array([1.0, np.nan, -1.0]), np.arange(3)
    assert rw.rewire(theta, index, 100, 0, 0, 0) == 1
    assert rw.count_active(theta, index, 100) == 2


@pytest.mark.parametrize(
    "index, answer", [([0, 1, 5], 3), ([0, 1, 1], -1), ([1, 0, 2], -1), ([0, 1, 10], -1), ([-1, 0, 1], -1)]
)
def test_count_active_sees_corrupt_indices(index, answer):
    assert rw.count_active(np.zeros(3), np.array(index), 10) == answer


# ---- the lottery ----

POTENTIAL, KEPT = 30, [0, 3, 4, 5, 11, 28, 29]


def lottery_counts(rewire, dropped, draws=20_000):
    """How often each connection is drawn when `dropped` leave."""
    counts = np.zeros(POTENTIAL, int)
    taken = np.sort(np.array(KEPT + dropped))
    for step in range(draws):
        index = taken.copy()
        theta = np.where(np.isin(index, dropped), -1.0, 1.0)
        rewire(theta, index, POTENTIAL, 5, 0, step)
        counts[index[theta == 0]] += 1
    return counts


@pytest.mark.parametrize("dropped", [[7], [1, 2, 27], [1, 6, 7, 8, 9, 10]])
def test_lottery_is_uniform_over_the_dormant(dropped):
    counts = lottery_counts(rw.rewire, dropped)
    dormant = np.setdiff1d(np.arange(POTENTIAL), KEPT)
    assert counts.sum() == counts[dormant].sum() == 20_000 * len(dropped)
    # n draws without replacement vary less than n independent ones, so this p value is conservative
    assert stats.chisquare(counts[dormant]).pvalue > 1e-4


def test_excluding_lottery_is_uniform_over_the_others():
    counts = lottery_counts(rw.rewire_excluding_dropped, [1, 2, 27])
    others = np.setdiff1d(np.arange(POTENTIAL), [*KEPT, 1, 2, 27])
    assert counts[others].sum() == 60_000
    assert stats.chisquare(counts[others]).pvalue > 1e-4


def test_chi_square_notices_a_biased_lottery():
    def biased(theta, index, potential, seed, stream, step):
        kept = rw.drop_negative(theta, index)
        first = np.arange(theta.size - kept)
        if step % 20 == 0:  # wrong in one draw of twenty
            rw.ranks_to_dormant(first, index[:kept])
            rw.insert_at_zero(theta, index, kept, first)
        else:
            key = np.uint64(rw.step_key(seed, stream, step, 1))
            rw.refill(theta, index, kept, potential, key)

    counts = lottery_counts(biased, [7])
    dormant = np.setdiff1d(np.arange(POTENTIAL), KEPT)
    assert stats.chisquare(counts[dormant]).pvalue < 1e-12


def test_all_pairs_are_equally_likely():
    counts = np.zeros((8, 8), int)
    for step in range(20_000):
        ranks = np.empty(2, np.int64)
        rw.distinct_ranks(2, 8, np.uint64(rw.step_key(1, 0, step, 1)), ranks)
        counts[ranks[0], ranks[1]] += 1
    upper = counts[np.triu_indices(8, 1)]
    assert upper.sum() == 20_000
    assert stats.chisquare(upper).pvalue > 1e-4


@settings(deadline=None)
@given(st.integers(1, 2000), st.floats(0, 1), st.integers(0, 10**6))
def test_ranks_equal_floyd(size, share, key):
    n = round(share * size)
    ranks = np.empty(n, np.int64)
    rw.distinct_ranks(n, size, np.uint64(key), ranks)
    np.testing.assert_array_equal(ranks, rw.distinct_ranks_reference(n, size, np.uint64(key)))
    assert np.unique(ranks).size == n


def test_budget_of_a_trillion_potential_connections():
    """A 10^6 x 10^6 layer with 10^4 connections: only O(K) can run at all."""
    potential, budget = 10**12, 10_000
    theta, index = np.full(budget, -1.0), np.empty(budget, np.int64)
    rw.distinct_ranks(budget, potential, np.uint64(1), index)
    assert rw.rewire(theta, index, potential, 0, 0, 0) == budget
    assert rw.count_active(theta, index, potential) == budget
    assert stats.kstest(index / potential, "uniform").pvalue > 1e-4


# ---- global budget ----


def test_layers_are_drawn_by_score_and_room():
    score, room = np.array([1.0, 2.0, 7.0]), np.array([10**6, 10**6, 10**6])
    counts = rw.draw_layers(100_000, score, room, 0, 0, 0)
    assert counts.sum() == 100_000
    assert stats.chisquare(counts, score * 10_000).pvalue > 1e-4
    assert stats.chisquare(counts, np.full(3, 100_000 / 3)).pvalue < 1e-12
    np.testing.assert_array_equal(rw.draw_layers(12, score, np.array([5, 6, 1]), 0, 0, 0), [5, 6, 1])


def test_the_score_of_a_full_layer_goes_to_nobody():
    score, room = np.array([5.0, 1.0, 1.0]), np.array([0, 10**6, 10**6])
    counts = rw.draw_layers(20_000, score, room, 0, 0, 0)
    assert counts[0] == 0
    assert stats.binomtest(int(counts[1]), 20_000, 0.5).pvalue > 1e-4


# ---- soft rule ----


def test_soft_step_equals_twin():
    rng = np.random.default_rng(0)
    theta = rng.standard_normal(500)
    for step in range(20):
        gradient = rng.standard_normal(500)
        rates = (4, 1, step, 0.1, 0.01, 0.2, -0.7)
        twin = rw.soft_deep_r_step_reference(theta, gradient, *rates)
        rw.soft_deep_r_step(theta, gradient, *rates)
        np.testing.assert_allclose(theta, twin, rtol=0, atol=1e-12)
        assert theta.min() >= -0.7


def test_soft_gradient_acts_on_active_connections_only():
    theta = np.array([0.5, -0.5, 0.0])
    rw.soft_deep_r_step(theta, np.ones(3), 0, 0, 0, 0.1, 0.0, 0.0, -2.0)
    np.testing.assert_allclose(theta, [0.4, -0.5, 0.0])


def test_reflection_stays_above_the_wall():
    theta = np.full(10_000, -0.9)
    rw.soft_deep_r_step_reflecting(theta, np.zeros(10_000), 0, 0, 0, 0.1, 0.0, 0.2, -1.0)
    assert theta.min() > -1.0
    assert (theta == -1.0).sum() == 0


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_waiting_connection_moves_neither_by_gradient_nor_by_noise(noise):
    theta = np.array([0.5, -0.1, 0.0, -2.0])
    rw.update_active(theta, np.ones(4), np.arange(4), 0, 0, 0, 0.1, 0.2, noise)
    assert theta[[1, 3]].tolist() == [-0.1, -2.0]
    assert (theta[[0, 2]] != [0.5, 0.0]).all()


@pytest.mark.parametrize("rewire", [rw.rewire, rw.rewire_excluding_dropped])
def test_a_connection_at_zero_stays(rewire):
    """Zero is where connections are born: they count as active."""
    theta, index = np.array([0.0, 1.0, 0.0, -0.0]), np.array([2, 5, 6, 9])
    assert rewire(theta, index, 10, 0, 0, 0) == 0
    assert index.tolist() == [2, 5, 6, 9]
    assert rw.drop_negative(theta, index) == 4


def test_kept_connections_keep_their_order_and_values():
    theta, index = np.array([0.1, -1.0, 0.3, -2.0, 0.5]), np.array([1, 4, 6, 7, 9])
    assert rw.drop_negative(theta, index) == 3
    assert theta[:3].tolist() == [0.1, 0.3, 0.5]
    assert index[:3].tolist() == [1, 6, 9]
    values, index = np.array([0.1, -1.0, 0.3, -2.0, 0.5]), np.array([1, 4, 6, 7, 9])
    assert rw.keep_where(np.array([False, True, True, False, True]), values, index) == 3
    assert values[:3].tolist() == [-1.0, 0.3, 0.5]
    assert index[:3].tolist() == [4, 6, 9]


def test_reflection_is_that_of_a_mirror_at_the_wall_and_drifts_as_the_clipped_rule_does():
    start, gradient = np.array([0.4, -0.3, -0.9, 0.05]), np.array([1.0, 1.0, 1.0, 30.0])
    mirrored, clipped, free = start.copy(), start.copy(), start.copy()
    rates = (3, 0, 0, 0.1, 0.2, 0.5)
    rw.soft_deep_r_step_reflecting(mirrored, gradient, *rates, -1.0)
    rw.soft_deep_r_step(clipped, gradient, *rates, -1.0)
    rw.soft_deep_r_step(free, gradient, *rates, -1e9)
    assert (free < -1).any()
    np.testing.assert_allclose(mirrored, np.where(free < -1, -2 - free, free))
    np.testing.assert_allclose(clipped, np.maximum(free, -1))


KEY, ROOM = np.uint64(0), np.array([3, 4])


def ones():
    return np.ones(3)


def first():
    return np.arange(3)


def places(n):
    return np.empty(n, np.int64)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: rw.distinct_ranks(6, 5, KEY, places(9)), "n must be between 0 and 5"),
        (lambda: rw.distinct_ranks(6, 50, KEY, places(5)), "and 5, the length"),
        (lambda: rw.distinct_ranks(-1, 5, KEY, places(9)), "n must be between 0 and 5"),
        (lambda: rw.rewire(ones(), first(), 2, 0, 0, 0), r"index must be in 0\.\.1, got 2"),
        (lambda: rw.rewire(ones(), first(), -2, 0, 0, 0), "potential must be in 0"),
        (lambda: rw.rewire(np.ones(3, int), np.arange(3), 9, 0, 0, 0), "theta must be float32 or float64"),
        (lambda: rw.rewire([1.0], [0], 9, 0, 0, 0), "theta must be a vector, got list"),
        (lambda: rw.rewire_excluding_dropped(ones(), first(), 5, 0, 0, 0), "potential / 2 = 2 connections"),
        (lambda: rw.refill(ones(), first(), 2, 2, KEY), "theta.size must be between 0 and 2"),
        (lambda: rw.refill(ones(), first(), 4, 9, KEY), "kept must be between 0 and 3"),
        (lambda: rw.refill(ones(), first(), -1, 9, KEY), "kept must be between 0 and 3"),
        (lambda: rw.insert_at_zero(ones(), first(), 2, np.array([4, 5])), "kept must be between 0 and 1"),
        (lambda: rw.insert_at_zero(ones(), first(), 2, np.array([1])), r"new must be .* not kept, got \[1\]"),
        (lambda: rw.keep_where(np.array([2, 0, 1]), ones(), first()), "keep must be bool, got int64"),
        (lambda: rw.draw_layers(8, np.ones(2), ROOM, 0, 0, 0), "n must be between 0 and 7, the room"),
        (lambda: rw.draw_layers(1, np.ones(2), np.array([3, -1]), 0, 0, 0), "room must be in 0"),
        (lambda: rw.draw_layers(1, np.ones(3), ROOM, 0, 0, 0), "room must have one entry per"),
        (lambda: rw.draw_layers(1, np.array([1, np.nan]), ROOM, 0, 0, 0), "score must be finite"),
        (lambda: rw.soft_deep_r_step(np.ones(3), np.ones(2), 0, 0, 0, 0.1, 0.0, 0.0, -1.0), "gradient must"),
    ],
)
def test_what_would_never_end_or_leave_its_arrays_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
