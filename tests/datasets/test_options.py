"""Options behind a door: passed on, or refused in a line that lists the valid ones."""

import pytest

from eventbook.datasets import DataError
from eventbook.datasets.options import call_with


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
