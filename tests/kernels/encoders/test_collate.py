"""Batches: tokens that are a bijection, gaps from integers, padding that changes nothing; the errors."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.datasets import load_davis_recording
from eventbook.kernels.encoders import EVENT, collate, events_of_tokens, gaps_of, tokens_of


def every_event(width: int, height: int) -> np.ndarray:
    y, x, p = (axis.ravel() for axis in np.mgrid[0:height, 0:width, 0:2])
    events = np.zeros(x.size, EVENT)
    events["x"], events["y"], events["p"] = x, y, p
    return events


@pytest.mark.parametrize("width, height", [(1, 1), (5, 3), (34, 34), (128, 128)])
def test_tokens_are_a_bijection(width, height):
    events = every_event(width, height)
    tokens = tokens_of(events, width, height)
    np.testing.assert_array_equal(np.sort(tokens), np.arange(2 * width * height))
    np.testing.assert_array_equal(events_of_tokens(tokens, events["t"], width, height), events)


def test_the_first_released_map_collides():
    """Negative control: x y + width height p."""
    events = every_event(128, 128)
    released = events["x"] * events["y"] + 128 * 128 * events["p"]
    assert len(np.unique(released)) == 9_294 < 0.3 * len(events)


def test_round_trip_of_a_recording():
    recording = load_davis_recording()
    size = recording.width, recording.height
    tokens = tokens_of(recording.events, *size)
    np.testing.assert_array_equal(events_of_tokens(tokens, recording.events["t"], *size), recording.events)
    batch = collate([(tokens, recording.events["t"])], 2 * 346 * 260)
    assert batch.token.shape == (1, 78_830)
    total = batch.gap.double().sum().item()
    assert total == pytest.approx(2_359.945, rel=1e-6)  # milliseconds
    assert round(float((batch.gap[0, 1:] == 0).float().mean()), 4) == 0.0197


streams = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5_000)), max_size=12).map(
        lambda pairs: (
            np.array([token for token, _ in pairs], np.int64),
            np.cumsum([gap for _, gap in pairs], dtype=np.int64) + 10**12,
        )
    ),
    max_size=5,
)


@given(streams, st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_round_trip_whatever_the_padding(given_streams, extra):
    longest = max((len(tokens) for tokens, _ in given_streams), default=0)
    batch = collate(given_streams, 10, time=longest + extra)
    tight = collate(given_streams, 10)
    assert tight.token.shape == (len(given_streams), longest)
    assert torch.equal(batch.token[:, :longest], tight.token)
    assert torch.equal(batch.gap[:, :longest], tight.gap)
    assert torch.equal(batch.mask.sum(1), batch.lengths)
    assert (batch.token[~batch.mask] == batch.padding).all()
    assert batch.padding == 10
    assert not batch.gap[~batch.mask].any()
    assert (batch.token.dtype, batch.gap.dtype) == (torch.int64, torch.float32)
    assert (batch.lengths.dtype, batch.mask.dtype) == (torch.int64, torch.bool)
    for row, (tokens, stamps) in enumerate(given_streams):
        kept = batch.mask[row]
        np.testing.assert_array_equal(batch.token[row][kept].numpy(), tokens)
        back = np.cumsum(np.rint(batch.gap[row][kept].double().numpy() * 1_000)).astype(np.int64)
        if len(stamps):
            np.testing.assert_array_equal(back, stamps - stamps[0])


def test_a_pooled_mean_does_not_depend_on_padding():
    """The table has a row of zeros for the padding; a sum over time is the same at any length."""
    table = torch.randn(11, 3, dtype=torch.float64)
    table[10] = 0
    pair = [(np.array([1, 4, 9]), np.array([0, 5, 5])), (np.array([2]), np.array([3]))]
    results = [
        table[collate(pair, 10, time=time).token].sum(1) / torch.tensor([[3.0], [1.0]]) for time in (3, 64)
    ]
    assert torch.equal(results[0], results[1])


def test_a_classifier_is_called_with_tokens_gaps_and_lengths():
    batch = collate([(np.array([4, 2]), np.array([1000, 3500])), (np.array([0]), np.array([7]))], 5)
    assert len(batch.inputs) == 3
    assert all(a is b for a, b in zip(batch.inputs, (batch.token, batch.gap, batch.lengths), strict=True))


def test_gaps_end_at_their_event():
    stamps = np.array([7_000, 7_250, 7_250, 9_250])
    np.testing.assert_array_equal(gaps_of(stamps), np.float32([0, 0.25, 0, 2]))
    np.testing.assert_array_equal(gaps_of(stamps, "as_released"), np.float32([0.25, 0, 2]))


def test_as_released_is_aligned_with_the_next_stamp():
    stamps = np.sort(np.random.default_rng(0).integers(0, 10**6, 50))
    released = gaps_of(stamps, "as_released")
    shifted = gaps_of(stamps[1:])  # event k carries the stamp of event k + 1
    np.testing.assert_array_equal(released[1:], shifted[1:])


def test_released_batches_lack_the_last_event():
    stream = (np.array([4, 2, 3]), np.array([1_000, 3_500, 4_000]))
    batch = collate(
        [stream, (np.array([1]), np.array([5])), (stream[0][:0], stream[1][:0])], 5, alignment="as_released"
    )
    assert batch.lengths.tolist() == [2, 0, 0]
    assert batch.token.tolist() == [[4, 2], [5, 5], [5, 5]]
    assert batch.gap.tolist() == [[2.5, 0.5], [0.0, 0.0], [0.0, 0.0]]


def test_microseconds_survive_large_stamps():
    stamps = np.array([0, 1]) + 20_000_000_000
    assert gaps_of(stamps)[1] == np.float32(0.001)
    # Negative control: what float32 stamps would have made of it.
    assert np.diff((stamps / 1_000).astype(np.float32))[0] == 0.0


def test_unsigned_stamps():
    assert gaps_of(np.array([3, 5], np.uint32)).tolist() == [0.0, np.float32(0.002)]
    with pytest.raises(ValueError, match=r"stamps\[1\] must not be earlier than 5 us, got 3 us"):
        gaps_of(np.array([5, 3], np.uint32))


def test_no_streams_and_empty_streams():
    assert collate([], 3).token.shape == (0, 0)
    none = np.empty(0, np.int64)
    batch = collate([(none, none)], 3)
    assert batch.token.shape == batch.gap.shape == (1, 0)
    assert gaps_of(none).shape == gaps_of(none, "as_released").shape == (0,)


def test_errors():
    good = (np.array([0, 1]), np.array([3, 4]))
    with pytest.raises(ValueError, match=r"streams\[1\] stamps\[2\] must not be earlier than 9 us, got 8 us"):
        collate([good, (np.array([0, 0, 0]), np.array([1, 9, 8]))], 2)
    with pytest.raises(ValueError, match=r"streams\[1\] tokens\[0\] must be in 0\.\.1, got 2"):
        collate([good, (np.array([2, 0]), np.array([1, 9]))], 2)
    with pytest.raises(ValueError, match=r"streams\[0\] tokens\[1\] must be in 0\.\.1, got -1"):
        collate([(np.array([0, -1]), np.array([1, 9]))], 2)
    with pytest.raises(
        ValueError, match=r"streams\[0\] must have as many tokens as stamps.*\(1,\) and \(2,\)"
    ):
        collate([(np.array([0]), np.array([1, 9]))], 2)
    with pytest.raises(ValueError, match="time must be at least the longest stream, 2, got 1"):
        collate([good], 2, time=1)
    with pytest.raises(ValueError, match="n_tokens must be >= 1, got 0"):
        collate([good], 0)
    with pytest.raises(ValueError, match="alignment must be 'aligned' or 'as_released', got 'following'"):
        gaps_of(np.array([1, 2]), "following")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"stamps must be integers \(microseconds\), got float64"):
        gaps_of(np.array([1.0, 2.0]))
    with pytest.raises(TypeError, match=r"streams\[0\] tokens must be integers, got float64"):
        collate([(np.array([0.0]), np.array([1]))], 2)
    with pytest.raises(ValueError, match=r"tokens\[1\] must be in 0\.\.11, got 12"):
        events_of_tokens(np.array([0, 12]), np.array([0, 1]), 3, 2)
    with pytest.raises(ValueError, match=r"events\[0\]\.x must be on the sensor, 0\.\.2, got 3"):
        tokens_of(np.array([(3, 0, 0, 0)], EVENT), 3, 2)


INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_gaps_do_not_overflow_with_the_integers_of_the_stamps(dtype):
    info = np.iinfo(dtype)
    stamps = np.array([info.min, info.min, info.min // 2 + 1, info.max // 2, info.max], dtype)
    exact = np.float32([(int(b) - int(a)) / 1_000 for a, b in pairwise(stamps)])
    np.testing.assert_array_equal(gaps_of(stamps)[1:], exact)
    np.testing.assert_array_equal(gaps_of(stamps, "as_released"), exact)
    batch = collate([(np.zeros(5, dtype), stamps)], 1)
    np.testing.assert_array_equal(batch.gap[0, 1:].numpy(), exact)
    assert (batch.gap >= 0).all()


@given(st.sampled_from(INTEGERS), st.data())
@settings(max_examples=60, deadline=None)
def test_gaps_are_those_of_whole_numbers(dtype, data):
    info = np.iinfo(dtype)
    stamps = sorted(data.draw(st.lists(st.integers(int(info.min), int(info.max)), max_size=8)))
    exact = np.float32([(b - a) / 1_000 for a, b in pairwise(stamps)])
    np.testing.assert_array_equal(gaps_of(np.array(stamps, dtype), "as_released"), exact)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_events_of_tokens_in_any_integers(dtype):
    events = events_of_tokens(np.array([100, 7], dtype), np.array([100, 101], dtype), 10, 10)
    assert events.tolist() == [(0, 5, 100, 0), (3, 0, 101, 1)]


@pytest.mark.parametrize(
    "tokens, stamps, error, message",
    [
        ([1, 2], [1], ValueError, r"stamps must be \(event,\) = \(2,\), got shape \(1,\)"),
        ([1, 2], [1, 2, 3], ValueError, r"stamps must be \(event,\) = \(2,\), got shape \(3,\)"),
        ([[1]], [[1]], ValueError, r"tokens must be \(event,\), got shape \(1, 1\)"),
        ([1], [1.7], TypeError, "stamps must be integers, got float64"),
        ([1], np.array([2**63], np.uint64), ValueError, r"stamps\[0\] must be below 2\^63, got 9223372"),
        ([1, 2], [2, 1], ValueError, r"stamps\[1\] must not be earlier than 2 us, got 1 us"),
    ],
)  # fmt: skip
def test_events_of_tokens_that_are_none(tokens, stamps, error, message):
    with pytest.raises(error, match=message):
        events_of_tokens(tokens, stamps, 10, 10)


def test_sizes_beyond_the_integers_of_tokens():
    with pytest.raises(ValueError, match=r"width and height must make less than 2\^62 pixels"):
        tokens_of(np.array([(0, 0, 0, 0)], EVENT), 2**31, 2**31)
    with pytest.raises(ValueError, match=r"n_tokens must be below 2\^63, got 9223372036854775808"):
        collate([], 2**63)
    with pytest.raises(TypeError, match=r"n_tokens must be a whole number, got 2\.5"):
        collate([], 2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"time must be a whole number, got 2\.5"):
        collate([], 2, time=2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="events must be an array of dtype"):
        tokens_of([(0, 0, 0, 0)], 3, 3)  # type: ignore[arg-type]
