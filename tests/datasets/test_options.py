"""Options behind a door: passed on, or refused in a line that lists the valid ones."""

import numpy as np
import pytest

from eventbook.datasets import DataError
from eventbook.datasets.options import call_with, whole


def loader(name: str, split: str, *, depth: int = 1, width: int = 2) -> tuple:
    return name, split, depth, width


def bare(split: str) -> str:
    return split


def test_options_reach_the_loader():
    assert call_with(loader, "set", ("a", "train"), {"width": 5}) == ("a", "train", 1, 5)


@pytest.mark.parametrize("option", ["with", "name", "split"])
def test_an_unknown_option_lists_the_known_ones(option):
    with pytest.raises(DataError) as error:
        call_with(loader, "set", ("a", "train"), {option: 5})
    assert str(error.value) == f"{option}: set has no such option; it has: depth, width"


def test_no_options_at_all():
    with pytest.raises(DataError, match="it has: none"):
        call_with(bare, "set", ("train",), {"depth": 1})


@pytest.mark.parametrize(
    ("value", "bounds", "line"),
    [
        (1.0, (), "count: expected a whole number, got 1.0"),
        ("1", (0,), "count: expected a whole number, got '1'"),
        (-1, (0,), "count: expected 0 or above, got -1"),
        (4, (0, 3), "count: expected 0..3, got 4"),
        (-1, (0, 3), "count: expected 0..3, got -1"),
    ],
)
def test_a_whole_number_or_a_line(value, bounds, line):
    with pytest.raises(DataError) as error:
        whole(value, "count", *bounds)
    assert str(error.value) == line


def test_numpys_integers_are_whole():
    assert [whole(np.int64(n), "count", 0, 3) for n in range(4)] == [0, 1, 2, 3]
    assert whole(-5, "count") == -5
