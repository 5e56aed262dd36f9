"""Steps without a picture: rates and spreads at fixed seeds, what they keep, what the released ones do."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.kernels.encoders import EVENT, TokenStream
from eventbook.models.event_ssm.augmentation.steps import (
    MOST_SKEW,
    add_channel_noise,
    drop_chunk,
    drop_events,
    jitter_channels,
    jitter_time,
    skew_time,
)
from eventbook.models.event_ssm.augmentation.streams import MOST_STAMP

N = 100_000
CHANNELS = 700


def numbered(count: int, gap: int = 10, start: int = 0) -> TokenStream:
    """Event k has token k, at start + k gap."""
    return TokenStream(np.arange(count), start + gap * np.arange(count))


def within(value: float, expected: float, deviation: float) -> None:
    """Five standard errors: one test in two million fails by chance, and the seeds are fixed."""
    assert abs(value - expected) < 5 * deviation, (value, expected, deviation)


def normal_above(x: float) -> float:
    return math.erfc(x / math.sqrt(2)) / 2


# --- fewer events ------------------------------------------------------------------------------------------


def test_events_are_dropped_at_the_rate_and_alone():
    stream = numbered(N)
    result = drop_events(stream, 0.1, np.random.default_rng(1))
    within(len(result.token) / N, 0.9, math.sqrt(0.09 / N))
    np.testing.assert_array_equal(result.stamp, stream.stamp[result.token])
    dropped = np.ones(N, bool)
    dropped[result.token] = False
    pairs = (dropped[1:] & dropped[:-1]).mean()  # independent: both of two neighbours with 0.1^2
    within(pairs, 0.01, math.sqrt(0.01 / N))


def test_the_number_of_dropped_events_varies():
    """tonic drops round(p n) events, always: no spread."""
    rng = np.random.default_rng(2)
    counts = [1_000 - len(drop_events(numbered(1_000), 0.1, rng).token) for _ in range(2_000)]
    within(np.var(counts), 90, 90 * math.sqrt(2 / 2_000))


def test_all_and_nothing():
    rng = np.random.default_rng(0)
    assert len(drop_events(numbered(50), 1.0, rng).token) == 0
    np.testing.assert_array_equal(drop_events(numbered(50), 0.0, rng), numbered(50))
    np.testing.assert_array_equal(drop_chunk(numbered(50), 0.0, 1.0, rng), numbered(50))


def test_chunks_are_runs_of_any_size_and_place():
    rng = np.random.default_rng(3)
    count, rounds = 20, 8_000
    sizes, first, last = np.zeros(count + 1), 0, 0
    for _ in range(rounds):
        left = drop_chunk(numbered(count), 1.0, 0.25, rng).token
        gone = np.setdiff1d(np.arange(count), left)
        sizes[len(gone)] += 1
        np.testing.assert_array_equal(np.diff(gone), 1)
        first += 0 in gone
        last += count - 1 in gone
    assert sizes[0] == 0
    assert not sizes[6:].any()
    for size in range(1, 6):
        within(sizes[size] / rounds, 0.2, math.sqrt(0.16 / rounds))
    edge = np.mean([1 / (count - size + 1) for size in range(1, 6)])
    within(first / rounds, edge, math.sqrt(edge / rounds))
    within(last / rounds, edge, math.sqrt(edge / rounds))  # 0 as released


def test_chunks_come_with_the_probability():
    rng = np.random.default_rng(4)
    hits = [len(drop_chunk(numbered(100), 0.3, 0.1, rng).token) < 100 for _ in range(5_000)]
    within(np.mean(hits), 0.3, math.sqrt(0.21 / 5_000))


@pytest.mark.parametrize("count, most", [(0, 0), (1, 0), (49, 0), (50, 1), (99, 1), (100, 2)])
def test_short_streams_lose_what_the_share_allows(count, most):
    rng = np.random.default_rng(5)
    lost = {count - len(drop_chunk(numbered(count), 1.0, 0.02, rng).token) for _ in range(200)}
    assert lost == (set(range(1, most + 1)) or {0})


def test_the_released_chunk_fails_below_a_hundred_events():
    """Negative control: its sizes are drawn below int(0.02 n)."""
    with pytest.raises(ValueError, match="low >= high"):
        np.random.RandomState(0).randint(1, 0.02 * 99)
    assert np.random.RandomState(0).randint(1, 0.02 * 100) == 1


# --- time --------------------------------------------------------------------------------------------------


def test_skew_is_one_factor_uniform_in_its_range():
    rng = np.random.default_rng(6)
    stream = numbered(3, 10**9, start=7)
    factors = []
    for _ in range(4_000):
        stamp = skew_time(stream, 1.2, rng).stamp
        assert stamp[0] == 7
        assert abs((stamp[2] - 7) - 2 * (stamp[1] - 7)) <= 1  # rounding
        factors.append((stamp[2] - 7) / (2 * 10**9))
    low, high = 1 / 1.2, 1.2
    assert low <= min(factors) < low + 0.001
    assert high - 0.001 < max(factors) <= high
    within(np.mean(factors), (low + high) / 2, (high - low) / math.sqrt(12 * 4_000))
    within(np.mean(np.array(factors) < 1), (1 - low) / (high - low), math.sqrt(0.25 / 4_000))


def test_skew_rounds_to_the_microsecond():
    stream = numbered(1_000, 7, start=-30)
    factor = np.random.default_rng(7).uniform(1 / 1.05, 1.05)
    stamp = skew_time(stream, 1.05, np.random.default_rng(7)).stamp
    assert np.abs(stamp + 30 - factor * (stream.stamp + 30)).max() <= 0.5
    assert stamp.dtype == np.int64


def test_skew_of_the_widest_stream_does_not_overflow():
    stream = TokenStream(np.array([0, 1]), np.array([-MOST_STAMP, MOST_STAMP]))
    for seed in range(20):
        stamp = skew_time(stream, MOST_SKEW, np.random.default_rng(seed)).stamp
        factor = np.random.default_rng(seed).uniform(1 / MOST_SKEW, MOST_SKEW)
        assert int(stamp[1]) == pytest.approx(-MOST_STAMP + 2 * MOST_STAMP * factor, rel=1e-12)


@pytest.mark.parametrize("std", [1.0, 3.0, 5.0])
def test_jitter_in_time_has_the_spread_and_no_drift(std):
    stream = numbered(N, gap=1_000)  # so far apart that none overtakes another
    shift = (jitter_time(stream, std, np.random.default_rng(8)).stamp - stream.stamp)[1:]
    variance = std**2 + 1 / 12  # rounding
    within(shift.mean(), 0.0, math.sqrt(variance / N))
    within(shift.var(), variance, 2 * variance / math.sqrt(2 * N))
    # Negative control: cast towards zero, as released, all come half a microsecond early.
    released = np.trunc(stream.stamp + np.random.default_rng(8).normal(0, std, N)) - stream.stamp
    within(released[1:].mean(), -0.5, math.sqrt(variance / N))


def test_jitter_sorts_anew_and_keeps_events_together():
    stream = numbered(2_000, gap=1, start=50)
    result = jitter_time(stream, 20.0, np.random.default_rng(9))
    assert (np.diff(result.stamp) >= 0).all()
    assert (np.diff(result.token) < 0).any()
    shift = np.rint(np.random.default_rng(9).normal(0, 20.0, 2_000)).astype(int)
    expected = sorted((max(50, 50 + k + shift[k]), k) for k in range(2_000))  # ties in order
    assert list(zip(result.stamp.tolist(), result.token.tolist(), strict=True)) == expected


def test_jitter_begins_no_earlier_than_the_stream():
    starts = [
        jitter_time(numbered(20, 2, start=3), 50.0, np.random.default_rng(s)).stamp[0] for s in range(50)
    ]
    assert min(starts) == 3
    np.testing.assert_array_equal(jitter_time(numbered(20), 0.0, np.random.default_rng(0)), numbered(20))


# --- channels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("std", [0.55, 1.0])
def test_jitter_of_channels_moves_as_many_as_it_should(std):
    stream = TokenStream(np.full(N, 350), np.arange(N))
    shift = jitter_channels(stream, CHANNELS, std, np.random.default_rng(10)).token - 350
    for far in (1, 2):
        share = 2 * normal_above((far - 0.5) / std)
        within((np.abs(shift) >= far).mean(), share, math.sqrt(share / N))
    within(shift.mean(), 0.0, std * 1.2 / math.sqrt(N))


@pytest.mark.parametrize("std, percent", [(0.55, 7), (1.0, 32)])
def test_the_released_rounding_moves_few(std, percent):
    stream = TokenStream(np.full(N, 350), np.arange(N))
    result = jitter_channels(stream, CHANNELS, std, np.random.default_rng(11), rounding="towards_zero")
    share = 2 * normal_above(1 / std)
    within((result.token != 350).mean(), share, math.sqrt(share / N))
    assert round(100 * share) == percent
    released = 350 + np.random.default_rng(11).normal(0, std, N).astype(np.int32)
    np.testing.assert_array_equal(result.token, released)


def test_what_leaves_the_channels_is_removed():
    stream = TokenStream(np.tile([0, 699], N // 2), np.arange(N))
    token, stamp = jitter_channels(stream, CHANNELS, 1.0, np.random.default_rng(12))
    assert token.min() == 0
    assert token.max() == 699
    gone = normal_above(0.5)
    within(len(token) / N, 1 - gone, math.sqrt(gone / N))
    assert (np.abs(token - stream.token[stamp]) < 10).all()  # none came back on the other side
    assert len(jitter_channels(stream, CHANNELS, 1e300, np.random.default_rng(0)).token) < 10


def test_kinds_of_a_channel_stay():
    stream = TokenStream(np.tile(np.arange(26), 1_000), np.arange(26_000))
    token, stamp = jitter_channels(stream, 26, 1.0, np.random.default_rng(13), kinds=2)
    before = stream.token[stamp]
    np.testing.assert_array_equal(token % 2, before % 2)
    moved = (token // 2 != before // 2)[(before >= 10) & (before < 16)]  # in the middle
    within(moved.mean(), 2 * normal_above(0.5), math.sqrt(0.25 / len(moved)))
    # Negative control: moved by tokens, an odd step turns up into down.
    token, stamp = jitter_channels(stream, 26, 1.0, np.random.default_rng(13))
    assert (token % 2 != stream.token[stamp] % 2).mean() > 0.3


def test_noise_has_the_count_the_places_and_the_times():
    rng = np.random.default_rng(14)
    stream = TokenStream(np.array([1_000, 1_000]), np.array([500, 10_500]))  # a token of its own
    counts, tokens, stamps = np.zeros(36), [], []
    for _ in range(4_000):
        token, stamp = add_channel_noise(stream, 1_001, 35, rng)
        assert (np.diff(stamp) >= 0).all()
        assert (token == 1_000).sum() >= 2
        counts[len(token) - 2] += 1
        inner = np.setdiff1d(np.arange(len(token)), [0, len(token) - 1])
        tokens.append(token[inner])
        stamps.append(stamp[inner])
    share = 1 / 36
    for count in range(36):  # 35 is among them, as released it is not
        within(counts[count] / 4_000, share, math.sqrt(share / 4_000))
    token, stamp = np.concatenate(tokens), np.concatenate(stamps)
    within(token.mean(), 500, 1_001 / math.sqrt(12 * len(token)))
    within(token.var(), 1_001**2 / 12, 1_001**2 / 12 / math.sqrt(len(token)))
    assert stamp.min() >= 500
    assert stamp.max() <= 10_500
    within(stamp.mean(), 5_500, 10_000 / math.sqrt(12 * len(stamp)))


def test_noise_of_an_empty_and_of_a_single_event():
    rng = np.random.default_rng(15)
    assert all(len(add_channel_noise(numbered(0), 5, 30, rng).token) == 0 for _ in range(20))
    result = add_channel_noise(TokenStream(np.array([3]), np.array([77])), 5, 30, rng)
    assert len(result.token) > 1
    assert set(result.stamp.tolist()) == {77}
    assert result.token[0] == 3  # the event stays before noise of its time


# --- all of them -------------------------------------------------------------------------------------------

STEPS = {
    "drop_events": lambda stream, rng: drop_events(stream, 0.3, rng),
    "drop_chunk": lambda stream, rng: drop_chunk(stream, 0.8, 0.5, rng),
    "skew_time": lambda stream, rng: skew_time(stream, 3.0, rng),
    "jitter_time": lambda stream, rng: jitter_time(stream, 40.0, rng),
    "jitter_channels": lambda stream, rng: jitter_channels(stream, 10, 2.0, rng),
    "add_channel_noise": lambda stream, rng: add_channel_noise(stream, 10, 8, rng),
}
BOTH_KINDS = ("drop_events", "drop_chunk", "skew_time", "jitter_time")


def frozen(stream):
    for column in (stream,) if isinstance(stream, np.ndarray) else stream:
        column.setflags(write=False)
    return stream


token_streams = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=12).map(
    lambda pairs: frozen(
        TokenStream(
            np.array([token for token, _ in pairs], np.int64),
            np.cumsum([gap for _, gap in pairs], dtype=np.int64),
        )
    )
)


@pytest.mark.parametrize("name", STEPS)
@given(token_streams, st.integers(0, 2**32), st.integers(-(10**12), 10**12))
@settings(max_examples=60, deadline=None)
def test_promises(name, stream, seed, start):
    """Sorted, in range, begins where it did, the argument untouched, and shifted with its stamps."""
    result = STEPS[name](stream, np.random.default_rng(seed))
    assert isinstance(result, TokenStream)
    assert result.token.shape == result.stamp.shape
    assert result.token.dtype == result.stamp.dtype == np.int64
    assert (np.diff(result.stamp) >= 0).all()
    assert ((result.token >= 0) & (result.token < 10)).all()
    if len(stream.token):
        assert (result.stamp >= stream.stamp[0]).all()
    else:
        assert not len(result.token)
    elsewhere = STEPS[name](TokenStream(stream.token, stream.stamp + start), np.random.default_rng(seed))
    np.testing.assert_array_equal(elsewhere.token, result.token)
    np.testing.assert_array_equal(elsewhere.stamp, result.stamp + start)


@pytest.mark.parametrize("name", BOTH_KINDS)
@given(token_streams, st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_events_fare_as_tokens_do(name, stream, seed):
    events = np.zeros(len(stream.token), EVENT)
    events["x"], events["t"] = stream.token, stream.stamp
    result = STEPS[name](frozen(events), np.random.default_rng(seed))
    expected = STEPS[name](stream, np.random.default_rng(seed))
    assert result.dtype == EVENT
    np.testing.assert_array_equal(result["x"], expected.token)
    np.testing.assert_array_equal(result["t"], expected.stamp)


GOOD = numbered(3)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: drop_events(GOOD, 1.5, RNG), ValueError, r"probability must be in 0\.\.1, got 1\.5"),
        (lambda: drop_events(GOOD, 0.5, 0), TypeError, r"rng must be a numpy\.random\.Generator, got int"),
        (lambda: drop_chunk(GOOD, 0.3, -0.1, RNG), ValueError, r"largest must be in 0\.\.1, got -0\.1"),
        (lambda: drop_chunk(GOOD, math.nan, 0.1, RNG), ValueError, r"probability must be in 0\.\.1, got nan"),
        (lambda: skew_time(GOOD, 0.9, RNG), ValueError, r"skew must be in 1\.\.100, got 0\.9"),
        (lambda: skew_time(GOOD, math.inf, RNG), ValueError, r"skew must be in 1\.\.100, got inf"),
        (lambda: jitter_time(GOOD, -1.0, RNG), ValueError, r"std must be in 0\.\.4\.5036e\+15, got -1\.0"),
        (
            lambda: jitter_time(([0, 0], [2, 1]), 1.0, RNG),
            ValueError,
            r"stream stamp\[1\] must not be earlier",
        ),
        (lambda: jitter_channels(GOOD, 3, -1.0, RNG), ValueError, r"std must be >= 0 and finite, got -1\.0"),
        (
            lambda: jitter_channels(GOOD, 2, 1.0, RNG),
            ValueError,
            r"stream token\[2\] must be in 0\.\.1, got 2",
        ),
        (lambda: jitter_channels(GOOD, 0, 1.0, RNG), ValueError, r"n_tokens must be in 1\.\.2\^52, got 0"),
        (
            lambda: jitter_channels(GOOD, 3.0, 1.0, RNG),
            TypeError,
            r"n_tokens must be a whole number, got 3\.0",
        ),
        (
            lambda: jitter_channels(GOOD, 3, 1.0, RNG, kinds=2),
            ValueError,
            r"kinds must be >= 1 and divide n_tokens = 3, got 2",
        ),
        (
            lambda: jitter_channels(GOOD, 3, 1.0, RNG, rounding="down"),
            ValueError,
            r"rounding must be 'nearest' or 'towards_zero', got 'down'",
        ),
        (
            lambda: jitter_channels(np.empty(0, EVENT), 3, 1.0, RNG),
            TypeError,
            r"stream must be a pair \(token, stamp\), got an array of dtype EVENT",
        ),
        (lambda: add_channel_noise(GOOD, 3, -1, RNG), ValueError, r"most must be in 0\.\.20,000,000, got -1"),
        (lambda: add_channel_noise(GOOD, 3, 0.5, RNG), TypeError, r"most must be a whole number, got 0\.5"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
