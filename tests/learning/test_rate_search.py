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
    assert found.rates == sorted(rates)
    assert found.figures == [figures[rates.index(rate)] for rate in found.rates]
    best = figures[rates.index(found.rate)]
    assert all(best >= other if highest else best <= other for other in figures)
    assert found.rates.index(found.rate) == found.figures.index(best)  # the lowest of equals


def test_low_and_high_are_opposite():
    """The control: what one way of looking takes is what the other would take last."""
    rates, trial = [0.1, 0.2, 0.4], {0.1: 7.0, 0.2: 5.0, 0.4: 9.0}.__getitem__
    assert find_rate(rates, trial) == (0.2, rates, [7.0, 5.0, 9.0])
    assert find_rate(rates, trial, highest=True) == (0.4, rates, [7.0, 5.0, 9.0])


def test_one_rate_is_not_tried():
    def never(rate: float) -> float:
        raise AssertionError(f"{rate} was tried")

    assert find_rate([0.1], never) == (0.1, [], [])
    with pytest.raises(AssertionError, match=r"0\.1 was tried"):
        find_rate([0.1, 0.2], never)


@pytest.mark.parametrize("highest", [False, True])
def test_a_rate_that_is_too_large_loses(highest: bool):
    def trial(rate: float) -> float:
        if rate > 1:
            raise FloatingPointError("gradient must be finite")
        return 3.0

    found = find_rate([10.0, 0.1, 20.0], trial, highest=highest)
    assert found == (0.1, [0.1, 10.0, 20.0], [3.0, None, None])
    assert told(found.figures) == "3.0, diverged, diverged"
    line = r"^trial must not diverge with every rate, got \[10\.0, 20\.0\]$"
    with pytest.raises(FloatingPointError, match=line):
        find_rate([10.0, 20.0], trial, highest=highest)


@pytest.mark.parametrize(
    ("valley", "most", "tried"),
    [
        (2.0, 9, [1, 2, 4]),  # inside: no more than was given
        (20.0, 9, [1, 2, 4, 8, 16, 32]),
        (0.3, 9, [0.125, 0.25, 0.5, 1, 2, 4]),
        (20.0, 5, [1, 2, 4, 8, 16]),
        (20.0, 0, [1, 2, 4]),
    ],
)
def test_the_search_goes_on_until_the_best_lies_inside(valley: float, most: int, tried: list[float]):
    def trial(rate: float) -> float:
        return abs(math.log(rate / valley))

    found = find_rate([4, 1, 2], trial, most=most)
    assert found.rates == tried
    assert found.rate == min(tried, key=trial)
    assert found == find_rate([1, 2, 4], lambda rate: -trial(rate), highest=True, most=most)._replace(
        figures=found.figures
    )


def test_a_rate_beyond_that_diverges_ends_the_search():
    def trial(rate: float) -> float:
        if rate > 5:
            raise FloatingPointError("gradient must be finite")
        return 1 / rate

    assert find_rate([1, 2], trial, most=9) == (4, [1, 2, 4, 8], [1.0, 0.5, 0.25, None])
    assert find_rate([16, 32], trial, most=9).rate == 4  # nothing but lower rates is left to try


@pytest.mark.parametrize("rates", [[], [0.0], [0.1, 0.1], [0.1, -0.1], [0.1, math.nan], [math.inf, 0.1]])
def test_rates_that_are_none_are_refused_before_any_trial(rates: list[float]):
    def never(rate: float) -> float:
        raise AssertionError(f"{rate} was tried")

    with pytest.raises(
        ValueError, match=r"^rates must be one or more, finite, > 0 and different, got \[.*\]$"
    ):
        find_rate(rates, never)


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_figures_that_are_none_are_refused(figure: float):
    line = rf"^trial must return a finite number, got {figure} for a rate of 0\.2$"
    with pytest.raises(ValueError, match=line):
        find_rate([0.1, 0.2, 0.4], {0.1: 1.0, 0.2: figure, 0.4: 2.0}.__getitem__)
