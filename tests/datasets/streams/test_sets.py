"""The door to event streams: the loader's result, and one line for a wrong name or option."""

import numpy as np
import pytest

from eventbook.datasets import DataError, load_event_digits, load_event_streams, load_saccade_mnist


@pytest.mark.parametrize(
    "name, options, loader",
    [
        ("spoken_digits", {"threshold": 0.5, "stamps": "frame"}, load_event_digits),
        ("saccade_mnist", {"count": 3, "saccades": 1, "first": 4}, load_saccade_mnist),
    ],
)
def test_it_is_the_loader(name, options, loader):
    through, direct = load_event_streams(name, "test", **options), loader("test", **options)
    for column in ("token", "stamp", "lengths", "labels"):
        np.testing.assert_array_equal(getattr(through, column), getattr(direct, column))
    assert through.source == direct.source


@pytest.mark.parametrize(
    "name, options, said",
    [
        (
            "spoken",
            {},
            "name: expected one of spoken_digits, saccade_mnist, shd, ssc, dvs128, nmnist; got 'spoken'",
        ),
        ("spoken_digits", {"count": 3}, "count: spoken_digits has no such option; it has: threshold, stamps"),
        ("shd", {"threshold": 0.1}, "threshold: shd has no such option; it has: count, seed"),
    ],
)
def test_a_wrong_name_or_option_is_one_line(name, options, said):
    with pytest.raises(DataError) as error:
        load_event_streams(name, "train", **options)
    assert str(error.value) == said
