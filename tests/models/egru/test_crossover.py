"""Which way is cheaper is a formula; its numbers are measured, once for each class of sizes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eventbook.models.egru import PathCosts, choose_path, crossover, measure_paths

shares = st.floats(0, 1)
costs = st.builds(PathCosts, *[st.floats(0, 10)] * 4)


@given(costs, shares, shares, shares)
def test_more_activity_or_need_never_makes_events_cheaper(costs, share, more, other):
    low, high = sorted((share, more))
    for pair in (lambda x: (x, other), lambda x: (other, x)):
        if choose_path(costs, *pair(high)) == "event":
            assert choose_path(costs, *pair(low)) == "event"


@given(costs, shares, shares)
def test_the_chosen_way_costs_no_more(costs, activity, need):
    by_events = costs.silent + costs.event * activity + costs.need * need
    cheaper = choose_path(costs, activity, need)
    assert (by_events if cheaper == "event" else costs.dense) == min(by_events, costs.dense)


def test_ties_go_to_the_simpler_way():
    assert choose_path(PathCosts(1.0, 1.0, 0.0, 0.0), 0.5, 0.5) == "dense"


@pytest.mark.parametrize("activity, need", [(1.1, 0.0), (0.0, -0.1), (math.nan, 0.0)])
def test_what_is_no_share_is_refused(activity, need):
    with pytest.raises(ValueError, match=r"(activity|need) must be a share in \[0, 1\], got"):
        choose_path(PathCosts(1.0, 1.0, 1.0, 1.0), activity, need)


@pytest.mark.parametrize("training", [False, True])
def test_costs_are_measured_once_for_sizes_of_a_class(training, monkeypatch):
    crossover._measured.cache_clear()
    found = measure_paths(2, 15, training)
    assert all(math.isfinite(seconds) and seconds >= 0 for seconds in found)
    assert found.dense > 0
    assert found.silent > 0
    monkeypatch.setattr(crossover, "egru_sequence", None)  # nothing is measured again
    assert measure_paths(2, 17, training) is found
    if not training:
        assert found.need == 0.0
    crossover._measured.cache_clear()


def test_measuring_disturbs_nothing():
    crossover._measured.cache_clear()
    state, enabled = torch.random.get_rng_state(), torch.is_grad_enabled()
    torch.set_default_dtype(torch.float64)
    try:
        measure_paths(1, 4, True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.is_grad_enabled() is enabled
    crossover._measured.cache_clear()
