"""What is a stream, what is none, and how a part of it is taken; strengths that make no sense."""

import math

import numpy as np
import pytest

from eventbook.kernels.encoders import EVENT, TokenStream
from eventbook.models.event_ssm.augmentation.streams import (
    MOST_STAMP,
    at_stamps,
    check_most,
    check_probability,
    check_range,
    check_rng,
    checked,
    kept,
)

EVENTS = np.array([(0, 1, 5, 0), (2, 1, 5, 1), (1, 0, 9, 1)], EVENT)
TOKENS = TokenStream(np.array([4, 7, 2]), np.array([5, 5, 9]))


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64])
def test_tokens_of_any_integers_become_int64(dtype):
    stream = checked((TOKENS.token.astype(dtype), list(TOKENS.stamp)))
    assert isinstance(stream, TokenStream)
    assert {column.dtype for column in stream} == {np.dtype(np.int64)}
    np.testing.assert_array_equal(stream, TOKENS)


def test_events_are_taken_as_they_are():
    assert checked(EVENTS) is EVENTS


def test_no_events():
    assert [len(column) for column in checked(([], []))] == [0, 0]
    assert len(checked(EVENTS[:0])) == 0


def test_a_mask_keeps():
    mask = np.array([True, False, True])
    np.testing.assert_array_equal(kept(EVENTS, mask), EVENTS[mask])
    assert kept(TOKENS, mask).token.tolist() == [4, 2]
    assert kept(TOKENS, mask).stamp.tolist() == [5, 9]


def test_other_stamps_sort_and_ties_keep_their_order():
    stamps = np.array([8, 3, 3])
    assert at_stamps(TOKENS, stamps).token.tolist() == [7, 2, 4]
    moved = at_stamps(EVENTS, stamps)
    assert moved.tolist() == [(2, 1, 3, 1), (1, 0, 3, 1), (0, 1, 8, 0)]
    assert EVENTS["t"].tolist() == [5, 5, 9]


@pytest.mark.parametrize(
    "stream, error, message",
    [
        (
            np.zeros((2, 3), np.int64),
            TypeError,
            r"stream must be a pair \(token, stamp\) or an array of dtype EVENT, got dtype int64",
        ),
        (7, TypeError, r"stream must be a pair .* got int"),
        (([1], [2], [3]), TypeError, r"stream must be a pair .* got tuple"),
        (([1.0], [2]), TypeError, "stream token must be integers, got float64"),
        (([1], [2.5]), TypeError, "stream stamp must be integers, got float64"),
        (([1, 2], [3]), ValueError, r"stream stamp must be \(event,\) = \(2,\), got shape \(1,\)"),
        (([1, -2], [3, 4]), ValueError, r"stream token\[1\] must be >= 0, got -2"),
        (([1, 2], [4, 3]), ValueError, r"stream stamp\[1\] must not be earlier than 4 us, got 3 us"),
        (([1], [MOST_STAMP + 1]), ValueError, r"stream stamp\[0\] must be within 2\^52 us of zero"),
        (([1, 2], [0, 1_700_000_000 * 10**9]), ValueError, r"stream stamp\[1\] must be within 2\^52 us"),
        (EVENTS[::-1], ValueError, r"stream t\[1\] must not be earlier than 9 us, got 5 us"),
        (EVENTS.reshape(1, 3), ValueError, r"events must be \(event,\), got shape \(1, 3\)"),
    ],
)
def test_what_is_no_stream(stream, error, message):
    with pytest.raises(error, match=message) as caught:
        checked(stream)
    assert "\n" not in str(caught.value)


def test_the_ends_of_time_are_taken():
    assert checked(([0, 0], [-MOST_STAMP, MOST_STAMP])).stamp.tolist() == [-MOST_STAMP, MOST_STAMP]


def test_strengths():
    check_probability(0, "p")
    check_probability(np.float32(1.0), "p")
    check_range(2.0, "std", 0.0, math.inf)
    check_most(np.int32(3), "n")
    check_rng(np.random.default_rng(0))
    for value in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=rf"p must be in 0\.\.1, got {value}"):
            check_probability(value, "p")
    for value in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=rf"std must be >= 0 and finite, got {value}"):
            check_range(value, "std", 0.0, math.inf)
    for value in ("0.1", None, np.zeros(2), 1j):
        with pytest.raises(TypeError, match="p must be a number, got"):
            check_probability(value, "p")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"n must be in 0\.\.20,000,000, got -1"):
        check_most(-1, "n")
    with pytest.raises(TypeError, match=r"n must be a whole number, got 1\.5"):
        check_most(1.5, "n")  # type: ignore[arg-type]
    for rng, name in ((0, "int"), (np.random, "module"), (np.random.RandomState(0), "RandomState")):
        with pytest.raises(TypeError, match=rf"rng must be a numpy\.random\.Generator, got {name}"):
            check_rng(rng)  # type: ignore[arg-type]
