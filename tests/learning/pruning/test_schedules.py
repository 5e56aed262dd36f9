"""Sparsities on their way, and a pruning that follows them while a network trains."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from eventbook.learning.pruning.schedules import GradualPruning, sparsities
from eventbook.learning.pruning.selection import magnitude_masks


@given(st.floats(0, 1), st.integers(1, 50), st.sampled_from(["linear", "cubic"]), st.floats(0, 1))
def test_plans_rise_to_their_end(sparsity, times, shape, initial):
    low, high = sorted((sparsity, initial))
    plan = sparsities(high, times, shape, low)
    assert len(plan) == times
    assert plan[-1] == high
    assert all(a <= b + 1e-15 for a, b in pairwise((low, *plan)))


def test_the_cubic_plan_is_the_equation_of_the_paper():
    s_i, s_f, n, dt, t0 = 0.1, 0.9, 5, 100, 1000
    for k, found in enumerate(sparsities(s_f, n, "cubic", s_i), start=1):
        t = t0 + k * dt
        assert found == pytest.approx(s_f + (s_i - s_f) * (1 - (t - t0) / (n * dt)) ** 3, abs=1e-15)
    assert sparsities(0.8, 4, "linear") == pytest.approx((0.2, 0.4, 0.6, 0.8))


def test_one_shot_is_magnitude_pruning():
    torch.manual_seed(0)
    gru = nn.GRU(5, 8)
    expected = magnitude_masks(gru, 0.8)
    pruning = GradualPruning(gru, sparsities(0.8))
    assert pruning.masks.sparsity() == 0
    assert pruning.step()
    assert not pruning.step()
    assert all(torch.equal(mask, expected[name]) for name, mask in pruning.masks.items())


def test_turns_come_when_they_are_due_and_masks_shrink():
    torch.manual_seed(0)
    gru = nn.GRU(5, 8)
    optimizer = torch.optim.AdamW(gru.parameters(), 1e-2)
    pruning = GradualPruning(gru, sparsities(0.75, 3), "global", every=4, begin=2)
    pruning.masks.hold(optimizer)
    turns, before = [], pruning.masks.state_dict()
    for step in range(1, 20):
        optimizer.zero_grad()
        gru(torch.randn(4, 2, 5))[0].square().sum().backward()
        optimizer.step()
        if pruning.step():
            turns.append(step)
            now = pruning.masks.state_dict()
            assert all(bool((~now[name] | before[name]).all()) for name in now)
            before = now
        for name, mask in pruning.masks.items():
            assert int(gru.get_parameter(name).count_nonzero()) == int(mask.sum())
    assert turns == [6, 10, 14]
    assert pruning.masks.sparsity() == 0.75


def test_an_interrupted_pruning_goes_on():
    torch.manual_seed(0)
    gru, other = nn.GRU(5, 8), nn.GRU(5, 8)
    pruning, resumed = (GradualPruning(net, sparsities(0.75, 3), every=2) for net in (gru, other))
    for _ in range(3):
        pruning.step()
    other.load_state_dict(gru.state_dict())
    resumed.load_state_dict(pruning.state_dict())
    for _ in range(3):
        assert pruning.step() == resumed.step()
    assert all(torch.equal(mask, resumed.masks[name]) for name, mask in pruning.masks.items())
    with pytest.raises(ValueError, match="state_dict must have steps, masks and plan, got steps"):
        resumed.load_state_dict({"steps": 1})
    another = GradualPruning(nn.GRU(5, 8), [0.2], every=2)
    with pytest.raises(ValueError, match=r"state_dict must be of the plan .0\.2, 'matrix', 2, 0., got"):
        another.load_state_dict(pruning.state_dict())
    assert (another.steps, another.masks.sparsity()) == (0, 0)


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ((1.2,), r"sparsity must be in \[0, 1\], got 1.2"),
        ((0.5, 2, "cubic", -0.5), r"initial must be in \[0, 1\], got -0.5"),
        ((0.2, 2, "cubic", 0.5), "sparsity must not be below initial, 0.5, got 0.2"),
        ((0.2, 0), "times must be >= 1, got 0"),
        ((0.2, 2, "square"), "shape must be one of linear, cubic, got 'square'"),
    ],
)
def test_plans_that_are_none_are_refused(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        sparsities(*arguments)


@pytest.mark.parametrize(
    "plan, options, complaint",
    [
        ((), {}, "plan must have a sparsity at least, got none"),
        ((0.5, 0.4), {}, "plan must not fall, got 0.4 after 0.5"),
        ((0.5, 2.0), {}, r"plan\[1\] must be in \[0, 1\], got 2.0"),
        ((0.5,), {"every": 0}, "every must be >= 1, got 0"),
        ((0.5,), {"begin": -1}, "begin must be >= 0, got -1"),
    ],
)
def test_bad_arguments_are_refused(plan, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        GradualPruning(nn.GRU(3, 4), plan, **options)
