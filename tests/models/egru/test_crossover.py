"""Which way is cheaper is a formula; its numbers are measured, once for each class of sizes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eventbook.kernels.events import egru_need
from eventbook.kernels.events.egru_reference import egru_reference
from eventbook.models.egru import PathCosts, choose_path, crossover, measure_paths

shares = st.floats(0, 1)
costs = st.builds(PathCosts, *[st.floats(0, 10)] * 4)


@given(costs, shares, shares, shares)
def test_more_activity_or_need_never_makes_events_cheaper(costs, share, more, other):
    low, high = sorted((share, more))
    for pair in (lambda x: (x, other), lambda x: (other, x)):
        if choose_path(costs, *pair(high)) == "event":
            assert choose_path(costs, *pair(low)) == "event"


@given(costs, shares, shares, shares)
def test_the_chosen_way_costs_no_more(costs, activity, need, filled):
    by_events = filled * (costs.silent + costs.event * activity + costs.need * need)
    cheaper = choose_path(costs, activity, need, filled)
    assert (by_events if cheaper == "event" else costs.dense) == min(by_events, costs.dense)
    assert choose_path(costs, activity, need) == choose_path(costs, activity, need, 1.0)


def test_ties_go_to_the_simpler_way():
    assert choose_path(PathCosts(1.0, 1.0, 0.0, 0.0), 0.5, 0.5) == "dense"


@pytest.mark.parametrize("shares", [(1.1, 0.0), (0.0, -0.1), (math.nan, 0.0), (0.0, 0.0, 2.0)])
def test_what_is_no_share_is_refused(shares):
    with pytest.raises(ValueError, match=r"(activity|need|filled) must be a share in \[0, 1\], got"):
        choose_path(PathCosts(1.0, 1.0, 1.0, 1.0), *shares)


KERNELS = crossover.egru_sequence
SECONDS = {"dense": 7.0, "silent": 1.0, "reached": 3.0, "spoken": 9.0}  # of a step


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("gate, dtype, threads", [("after", torch.float32, 1), ("before", torch.float64, 2)])
def test_each_cost_is_that_of_its_configuration(training, gate, dtype, threads, monkeypatch):
    """A clock that knows what it times: sizes, options, and what units do."""
    ran = []

    def sizes(projection, recurrent, bias, threshold):
        assert projection.shape == (4, crossover.STEPS, 3 * 16)
        assert recurrent.shape == (16, 3 * 16)
        assert {x.dtype for x in (projection, recurrent, bias, threshold)} == {dtype}
        assert all(x.requires_grad is training for x in (projection, recurrent, bias))
        assert torch.is_grad_enabled() is training

    def by_events(*tensors, surrogate_support, **options):
        sizes(*tensors)
        assert options == {"reset": "none", "reset_gate": gate, "threads": threads}
        run = KERNELS(*tensors, surrogate_support=surrogate_support, **options)
        spoke = (run.output != 0).double().mean().item()
        need = egru_need(run.state, tensors[3], surrogate_support).double().mean().item()
        ran.append({(0, 0): "silent", (0, 1): "reached", (1, 1): "spoken"}[spoke, need])
        return run

    def dense(*tensors, **options):
        sizes(*tensors[:4])
        assert options == {"reset": "none", "reset_gate": gate}
        assert not any(part.any() for part in tensors[4:])
        ran.append("dense")
        return egru_reference(*tensors, **options)

    def clock(work):
        ran.clear()
        work()
        (what,) = ran
        return SECONDS[what] * crossover.STEPS

    for name, patch in (("egru_sequence", by_events), ("egru_reference", dense), ("_seconds", clock)):
        monkeypatch.setattr(crossover, name, patch)
    crossover._measured.cache_clear()
    found = measure_paths(5, 15, training, reset_gate=gate, dtype=dtype, threads=threads)
    crossover._measured.cache_clear()
    need = 2.0 if training else 0.0
    assert found == PathCosts(dense=7.0, silent=1.0, event=8.0 - need, need=need)


def test_the_clock_is_the_median_of_calls_after_the_first(monkeypatch):
    ticks = iter([0.0, 1.0, 10.0, 12.0, 20.0, 29.0, 30.0, 33.0, 40.0, 40.5])
    monkeypatch.setattr(crossover.time, "perf_counter", lambda: next(ticks))
    calls = []
    assert crossover._seconds(lambda: calls.append(1)) == 2.0
    assert len(calls) == crossover.REPEATS + 1


def test_what_changes_the_answer_is_measured_apart(monkeypatch):
    asked = []
    monkeypatch.setattr(crossover, "_measured", lambda *key: asked.append(key))
    threads = torch.get_num_threads()
    measure_paths(1, 16, False)
    measure_paths(2, 16, False)
    measure_paths(10_000, 9000, True, reset_gate="before", dtype=torch.float64, threads=2)
    assert asked == [
        (1, 16, False, "after", torch.float32, 1, threads),
        (2, 16, False, "after", torch.float32, 1, threads),
        (256, 2048, True, "before", torch.float64, 2, threads),
    ]


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
