"""Streams end to end: what goes in comes out, by number, by range, by list; and what is refused."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbook.datasets import DataError, EventStreams, Source
from eventbook.kernels.encoders import collate

SOURCE = Source("none", "None", "computed", "a test")


def make(**changes) -> EventStreams:
    """Three streams of 2, 0 and 3 events over 5 channels."""
    given = {
        "token": np.array([0, 4, 1, 1, 2], np.int8),
        "stamp": np.array([5, 9, 0, 0, 7], np.int32),
        "lengths": np.array([2, 0, 3]),
        "labels": np.array([1, 0, 1]),
        "n_tokens": 5,
        "classes": ("a", "b"),
        "sensor": None,
        "source": SOURCE,
    }
    return EventStreams(**(given | changes))


def lists(streams: EventStreams) -> list[tuple[list[int], list[int]]]:
    return [(token.tolist(), stamp.tolist()) for token, stamp in streams]


@st.composite
def some_streams(draw) -> tuple[EventStreams, list[tuple[list[int], list[int]]]]:
    parts = draw(st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 99)), max_size=6), max_size=7))
    pairs = [([k for k, _ in part], sorted(t for _, t in part)) for part in parts]
    flat = [np.array([v for pair in pairs for v in pair[i]], t) for i, t in enumerate((np.int16, np.uint32))]
    streams = EventStreams(
        *flat,
        np.array([len(part) for part in parts], int),
        np.arange(len(parts)) % 3,
        7,
        ("a", "b", "c"),
        None,
        SOURCE,
    )
    return streams, pairs


@given(some_streams(), st.data())
def test_it_is_a_list_of_pairs(case, data):
    """Numbers, ranges and lists of numbers do what they do to a list."""
    streams, pairs = case
    assert len(streams) == len(pairs)
    assert lists(streams) == pairs
    at = st.integers(-len(pairs) - 2, len(pairs) + 2)
    chosen = slice(
        data.draw(st.none() | at), data.draw(st.none() | at), data.draw(st.sampled_from([None, 1, 2, -1]))
    )
    assert lists(streams[chosen]) == pairs[chosen]
    assert streams[chosen].labels.tolist() == streams.labels.tolist()[chosen]
    if pairs:
        numbers = data.draw(st.lists(st.integers(-len(pairs), len(pairs) - 1)))
        taken = streams.take(numbers)
        assert lists(taken) == [pairs[i] for i in numbers]
        assert taken.labels.tolist() == [int(streams.labels[i]) for i in numbers]
        one = data.draw(st.integers(-len(pairs), len(pairs) - 1))
        assert tuple(column.tolist() for column in streams[one]) == pairs[one]


def test_types_are_kept_and_ranges_are_views():
    streams = make()
    assert [column.dtype for column in streams[0]] == [np.int8, np.int32]
    assert np.shares_memory(streams[1:].token, streams.token)
    assert np.shares_memory(streams[2][1], streams.stamp)
    assert not np.shares_memory(streams.take([2]).token, streams.token)


def test_streams_go_into_a_batch():
    """What the chapters do with them."""
    streams = make()
    batch = collate([streams[0], streams[2]], streams.n_tokens)
    assert batch.token.shape == (2, 3)
    assert batch.gap[0, 1] == np.float32(0.004)


def test_a_stamp_may_fall_from_one_stream_to_the_next_but_not_within():
    assert make().stamp[2] < make().stamp[1]
    with pytest.raises(DataError) as error:
        make(stamp=np.array([5, 9, 3, 7, 6]))
    assert str(error.value) == "stamp: expected one not before 7 us, got 6 us for stream 2, event 2"
    with pytest.raises(DataError, match="for stream 0, event 1"):
        make(stamp=np.array([9, 5, 0, 0, 7], np.uint8))  # the difference of which is large


@pytest.mark.parametrize("lengths", [[0, 0, 5], [5, 0, 0], [0, 5, 0]])
def test_empty_streams_at_the_ends_hide_no_fall(lengths):
    with pytest.raises(DataError, match=r"stamp: .* event 2"):
        make(lengths=np.array(lengths))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"token": np.array([0, 5, 1, 1, 2])}, "token: expected 0..4, got 5 for stream 0, event 1"),
        ({"token": np.array([0, 4, 1, -1, 2])}, "token: expected 0..4, got -1 for stream 2, event 1"),
        ({"labels": np.array([1, 2, 1])}, "labels: expected 0..1, got 2 for stream 1"),
        ({"labels": np.array([1, 0, -1])}, "labels: expected 0..1, got -1 for stream 2"),
        ({"labels": np.array([1, 0])}, "labels: expected one for each of 3 streams, got 2"),
        (
            {"lengths": np.array([2, 0, 2])},
            "lengths: expected 5 tokens and stamps in all, got 4 for 5 tokens",
        ),
        ({"lengths": np.array([3, -1, 3])}, "lengths: expected 0 or above, got -1 for stream 1"),
        ({"stamp": np.array([5, 9, 0, 0])}, "lengths: expected 5 tokens and stamps in all"),
        ({"stamp": np.array([5.0, 9, 0, 0, 1])}, "stamp: expected a vector of integers, got float64"),
        ({"token": np.zeros((5, 1), int)}, "token: expected a vector of integers, got int64 of \\(5, 1\\)"),
        ({"sensor": (2, 2)}, "n_tokens: expected 2 for each pixel of \\(2, 2\\), got 5"),
    ],
)
def test_what_does_not_fit_is_named(changes, said):
    with pytest.raises(DataError, match=said) as error:
        make(**changes)
    assert "\n" not in str(error.value)


def test_wrong_numbers():
    streams = make()
    for wrong in (3, -4):
        with pytest.raises(IndexError, match=f"expected one of 3 streams, got {wrong}"):
            streams[wrong]
        with pytest.raises(IndexError, match="expected numbers of 3 streams"):
            streams.take([0, wrong])
    with pytest.raises(TypeError, match="`take` takes a list"):
        streams[[0, 1]]  # type: ignore[index]
    for wrong in ([0.0], np.array([True, False, True]), np.zeros((1, 1), int)):
        with pytest.raises(TypeError, match="expected a list of whole numbers"):
            streams.take(wrong)  # type: ignore[arg-type]


def test_none_is_a_set_too():
    empty = make().take([])
    assert (len(empty), list(empty), empty.n_tokens) == (0, [], 5)


def test_offsets_are_where_streams_begin():
    streams = make()
    ends = np.cumsum(streams.lengths)
    assert [len(streams[i][0]) for i in range(3)] == [b - a for a, b in pairwise([0, *ends])]
