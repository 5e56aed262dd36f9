"""The search of a learning rate: the best of several, none for one, and figures that are none."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbook.learning.rate_search import find_rate, told

RATES = st.lists(st.floats(1e-6, 10, exclude_min=True), min_size=2, max_size=6, unique=True)


@given(RATES, st.data(), st.booleans())
def test_no_other_rate_did_better(rates: list[float], data: st.DataObject, highest: bool):
    figures = [data.draw(st.floats(-100, 100)) for _ in rates]
    asked = []

    def trial(rate: float) -> float:
        asked.append(rate)
        return figures[rates.index(rate)]

    found = find_rate(rates, trial, highest=highest)
    assert asked == rates  # each once, in order
    assert found.figures == figures
    best = figures[rates.index(found.rate)]
    assert all(best >= other if highest else best <= other for other in figures)
    assert rates.index(found.rate) == figures.index(best)  # the first of equals


def test_low_and_high_are_opposite():
    """The control: what one way of looking takes is what the other would take last."""
    rates, trial = [0.1, 0.2, 0.4], {0.1: 7.0, 0.2: 5.0, 0.4: 9.0}.__getitem__
    assert find_rate(rates, trial) == (0.2, [7.0, 5.0, 9.0])
    assert find_rate(rates, trial, highest=True) == (0.4, [7.0, 5.0, 9.0])


def test_one_rate_is_not_tried():
    def never(rate: float) -> float:
        raise AssertionError(f"{rate} was tried")

    assert find_rate([0.1], never) == (0.1, [])
    with pytest.raises(AssertionError, match=r"0\.1 was tried"):
        find_rate([0.1, 0.2], never)


@pytest.mark.parametrize("highest", [False, True])
def test_a_rate_that_is_too_large_loses(highest: bool):
    def trial(rate: float) -> float:
        if rate > 1:
            raise FloatingPointError("gradient must be finite")
        return 3.0

    found = find_rate([10.0, 0.1, 20.0], trial, highest=highest)
    assert found == (0.1, [None, 3.0, None])
    assert told(found.figures) == "diverged, 3.0, diverged"
    line = r"^trial must not diverge with every rate, \[10\.0, 20\.0\]: gradient must be finite$"
    with pytest.raises(FloatingPointError, match=line):
        find_rate([10.0, 20.0], trial, highest=highest)


@pytest.mark.parametrize("rates", [[], [0.0], [0.1, -0.1], [0.1, math.nan], [math.inf, 0.1]])
def test_rates_that_are_none_are_refused_before_any_trial(rates: list[float]):
    def never(rate: float) -> float:
        raise AssertionError(f"{rate} was tried")

    with pytest.raises(ValueError, match=r"^rates must be one or more, finite and > 0, got \[.*\]$"):
        find_rate(rates, never)


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_figures_that_are_none_are_refused(figure: float):
    line = rf"^trial must return a finite number, got {figure} for a rate of 0\.2$"
    with pytest.raises(ValueError, match=line):
        find_rate([0.1, 0.2, 0.4], {0.1: 1.0, 0.2: figure, 0.4: 2.0}.__getitem__)
