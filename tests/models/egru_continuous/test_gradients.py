"""What the adjoint takes, and what it is without the term that moves times."""

import pytest
import torch
from continuous_streams import GROUPS, TOKENS, UNITS, VARIANTS, arriving, gradients, problem, relative

from eventbook.models.egru_continuous.function import egru_continuous
from eventbook.models.egru_continuous.gradients import egru_continuous_gradients


def both(p, **options):
    run = egru_continuous(**p, **options)
    return run, *egru_continuous_gradients(arriving(run), **p, **options)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(variant.values()))
def test_it_is_what_autograd_gives(variant):
    p = problem()
    _, found, _ = both(p, **variant)
    expected = gradients(egru_continuous, p, **variant)
    assert all(torch.equal(getattr(found, group), expected[group]) for group in GROUPS)


@pytest.mark.parametrize("step", [0.05, 2.0])
def test_weights_are_touched_three_times_per_unit_and_event_and_never_between(step):
    p = problem()
    run, _, additions = both(p, step=step)
    assert additions.internal == 3 * UNITS * len(run.time)
    assert additions.external == 3 * UNITS * len(p["time"])


def test_rows_of_what_was_silent_are_zero():
    p = problem()
    p["threshold"][2] = 10.0
    p["token"] = p["token"] % 2
    run, found, _ = both(p)
    assert 2 not in run.unit
    assert not found.recurrent[2].any()
    assert not found.kernel[TOKENS - 1].any()
    assert found.threshold[2] == 0
    assert found.recurrent[run.unit.unique()].any(1).all()
    assert found.kernel[: TOKENS - 1].any(1).all()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(variant.values()))
def test_without_moving_times_it_is_another_gradient(variant):
    p = problem()
    run, found, additions = both(p, **variant)
    fixed, same = egru_continuous_gradients(arriving(run), **p, **variant, moving_times=False)
    assert same == additions
    for group in ("kernel", "recurrent", "bias", "threshold", "state"):
        assert relative(getattr(fixed, group), getattr(found, group)) > 1e-2, group


def test_only_what_arrives_is_differentiated():
    p = problem()
    run = egru_continuous(**p)
    nothing, _ = egru_continuous_gradients({}, **p)
    assert not any(part.any() for part in nothing)
    times, _ = egru_continuous_gradients({"time": torch.ones_like(run.time)}, **p)
    last = int(torch.searchsorted(p["time"], run.time[-1]))
    assert not times.time[last:].any()  # what comes after the last event moves none
    assert times.time[:last].any()


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"unit": torch.zeros(12)}, ValueError, "arriving must be of time, .*, integral, got 'unit'"),
        ({"last": torch.zeros(3)}, ValueError, r"arriving\['last'\] must be \(4, 4\), got \(3,\)"),
        ({"integral": torch.zeros(4)}, TypeError, "integral must be float64, got float32"),
    ],
)  # fmt: skip
def test_what_arrives_is_looked_at(bad, error, message):
    with pytest.raises(error, match=message) as caught:
        egru_continuous_gradients(bad, **problem())
    assert "\n" not in str(caught.value)
