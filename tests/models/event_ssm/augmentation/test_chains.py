"""Whole chains: the released strengths, the order of the steps, what every stream keeps, bad strengths."""

import math
import re
from dataclasses import FrozenInstanceError, asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.datasets import load_davis_recording
from eventbook.kernels.encoders import EVENT, TokenStream, check_events, collate, delta_events, tokens_of
from eventbook.models.event_ssm.augmentation import chains
from eventbook.models.event_ssm.augmentation.chains import (
    DVS,
    SHD,
    SSC,
    ChannelAugmentation,
    PixelAugmentation,
)


def test_released_strengths():
    """Typed here once more, from configs/task of the released code."""
    table = [(s.time_jitter, s.channel_jitter, s.noise, s.drop, s.chunk, s.skew) for s in (SHD, SSC)]
    assert table == [(1, 0.55, 35, 0.1, 0.02, 1.2), (3, 1.0, 100, 0.1, 0.02, 1.05)]
    assert {s.rounding for s in (SHD, SSC)} == {"towards_zero"}
    assert (DVS.time_jitter, DVS.pixel_jitter, DVS.noise) == (5, 0.3, 0)
    assert (DVS.drop, DVS.chunk, DVS.skew, DVS.roll, DVS.rotate, DVS.scale) == (0.05, 0.02, 1.12, 32, 10, 1.2)
    chances = [value for s in (SHD, SSC, DVS) for name, value in asdict(s).items() if "probability" in name]
    assert chances == [0.3] * 6


# --- order -------------------------------------------------------------------------------------------------

DISTINCT_CHANNELS = ChannelAugmentation(0.11, 0.12, 1.3, 1.4, 1.5, 16, "towards_zero", 0.17)
CHANNEL_STEPS = [
    ("drop_events", (0.11,), {}),
    ("drop_chunk", (0.17, 0.12), {}),
    ("jitter_channels", (700, 1.3), {"rounding": "towards_zero", "kinds": 2}),
    ("skew_time", (1.4,), {}),
    ("jitter_time", (1.5,), {}),
    ("add_channel_noise", (700, 16), {}),
]
DISTINCT_PIXELS = PixelAugmentation(0.11, 0.12, 13, 1.4, 1.5, 1.6, 17, 18.0, 1.9, 0.21, 0.22, 0.23, 0.24)
PIXEL_STEPS = [
    ("drop_chunk", (0.21, 0.12), {}),
    ("drop_events", (0.11,), {}),
    ("add_pixel_noise", (5, 4, 13), {}),
    ("skew_time", (1.4,), {}),
    ("jitter_time", (1.5,), {}),
    ("jitter_pixels", (5, 4, 1.6), {}),
    ("roll", (5, 4, 0.22, 17), {}),
    ("rotate", (5, 4, 0.23, 18.0), {}),
    ("scale", (5, 4, 0.24, 1.9), {}),
]


@pytest.mark.parametrize(
    "strengths, stream, sensor, named, steps",
    [
        (DISTINCT_CHANNELS, ([1, 2], [3, 4]), (700,), {"kinds": 2}, CHANNEL_STEPS),
        (DISTINCT_PIXELS, np.zeros(3, EVENT), (5, 4), {}, PIXEL_STEPS),
    ],
    ids=["channels", "pixels"],
)
def test_steps_come_in_the_order_of_the_released_code(monkeypatch, strengths, stream, sensor, named, steps):
    """Each with the strength that belongs to it; the stream comes first and the generator last."""
    called, rng = [], np.random.default_rng(0)

    def watched(name, step):
        def call(stream, *arguments, **options):
            assert arguments[-1] is rng
            called.append((name, arguments[:-1], options))
            return step(stream, *arguments, **options)

        return call

    for name, _, _ in steps:
        monkeypatch.setattr(chains, name, watched(name, getattr(chains, name)))
    strengths(stream, *sensor, rng, **named)
    assert called == steps


def test_no_strength_changes_nothing():
    rng = np.random.default_rng(0)
    stream = TokenStream(np.arange(50), np.arange(50) * 7 - 100)
    nothing = ChannelAugmentation(0.0, 0.0, 0.0, 1.0, 0.0, 0)
    np.testing.assert_array_equal(nothing(stream, 50, rng), stream)
    events = np.zeros(50, EVENT)
    events["x"], events["t"], events["p"] = np.arange(50) % 7, stream.stamp, np.arange(50) % 2
    still = PixelAugmentation(0.0, 0.0, 0, 1.0, 0.0, 0.0, 0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    np.testing.assert_array_equal(still(events, 7, 3, rng), events)


# --- what every stream keeps -------------------------------------------------------------------------------

STRONG = ChannelAugmentation(0.3, 0.5, 2.0, 3.0, 30.0, 8, chunk_probability=0.8)
SHAKEN = PixelAugmentation(0.3, 0.5, 8, 3.0, 30.0, 2.0, 5, 180.0, 2.0, 0.8, 0.8, 0.8, 0.8)


@pytest.mark.parametrize("strengths", [SHD, SSC, STRONG], ids=["SHD", "SSC", "strong"])
@given(
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 60)), max_size=40),
    st.integers(0, 2**32),
    st.integers(-(10**12), 10**12),
)
@settings(max_examples=60, deadline=None)
def test_channels(strengths, pairs, seed, start):
    token = np.array([token for token, _ in pairs], np.int64)
    stamp = np.cumsum([gap for _, gap in pairs], dtype=np.int64)
    token.setflags(write=False)
    stamp.setflags(write=False)
    result = strengths((token, stamp), 20, np.random.default_rng(seed))
    collate([result], 20)  # sorted, every token in range
    assert result.token.dtype == result.stamp.dtype == np.int64
    assert len(token) or not len(result.token)
    assert (result.stamp >= stamp[:1].sum()).all()
    again = strengths((token, stamp), 20, np.random.default_rng(seed))
    np.testing.assert_array_equal(again, result)
    later = strengths((token, stamp + start), 20, np.random.default_rng(seed))
    np.testing.assert_array_equal(later.token, result.token)
    np.testing.assert_array_equal(later.stamp, result.stamp + start)


@pytest.mark.parametrize("strengths", [DVS, SHAKEN], ids=["DVS", "shaken"])
@given(
    st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, 8), st.integers(0, 99), st.integers(0, 1)), max_size=40
    ),
    st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_pixels(strengths, rows, seed):
    events = np.array(rows, EVENT)
    events["t"].sort()
    events.setflags(write=False)
    result = strengths(events, 12, 9, np.random.default_rng(seed))
    check_events(result, 12, 9)
    collate([(tokens_of(result, 12, 9), result["t"])], 2 * 12 * 9)
    assert (result["t"] >= events["t"][:1].sum()).all()
    np.testing.assert_array_equal(strengths(events, 12, 9, np.random.default_rng(seed)), result)


def test_one_event_often_enough():
    """No draw makes a single event fail, and none makes it move off in time."""
    rng = np.random.default_rng(1)
    lengths = set()
    for _ in range(500):
        result = replace(SHD, noise=0)(([5], [1_000]), 700, rng)
        lengths.add(len(result.token))
        assert (result.stamp >= 1_000).all()
        assert (result.stamp < 1_010).all()
    assert lengths == {0, 1}


def test_a_recording_stays_a_recording():
    recording = load_davis_recording()
    size = recording.width, recording.height
    result = DVS(recording.events, *size, np.random.default_rng(2))
    check_events(result, *size)
    assert 0.5 < len(result) / len(recording.events) <= 0.96
    span = np.ptp(result["t"]) / np.ptp(recording.events["t"])
    assert 1 / 1.12 - 0.01 < span < 1.12 + 0.01


def test_levels_of_a_signal_keep_their_direction():
    """Two tokens a channel: with kinds = 2 an event moves to the same change of a neighbouring channel."""
    rising = np.linspace(0.0, 10.0, 40)[:, None] * np.ones(13)
    stream = delta_events(rising, 0.25, 24_000)
    assert set((stream.token % 2).tolist()) == {1}
    only_moved = replace(STRONG, noise=0)
    result = only_moved(stream, 26, np.random.default_rng(3), kinds=2)
    assert set((result.token % 2).tolist()) == {1}
    turned = only_moved(stream, 26, np.random.default_rng(3))
    assert (turned.token % 2 == 0).mean() > 0.2  # negative control


# --- bad strengths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strengths, field, value, error, message",
    [
        (SHD, "drop", -0.1, ValueError, "drop must be in 0..1, got -0.1"),
        (SHD, "chunk", 1.1, ValueError, "chunk must be in 0..1, got 1.1"),
        (SHD, "chunk_probability", 2, ValueError, "chunk_probability must be in 0..1, got 2"),
        (SHD, "channel_jitter", -1.0, ValueError, "channel_jitter must be >= 0 and finite, got -1.0"),
        (SHD, "skew", 0.8, ValueError, "skew must be in 1..100, got 0.8"),
        (SHD, "time_jitter", math.nan, ValueError, "time_jitter must be in 0..4.5036e+15, got nan"),
        (SHD, "noise", -1, ValueError, "noise must be in 0..20,000,000, got -1"),
        (SHD, "noise", 35.0, TypeError, "noise must be a whole number, got 35.0"),
        (SHD, "rounding", "up", ValueError, "rounding must be 'nearest' or 'towards_zero', got 'up'"),
        (DVS, "drop", "0.1", TypeError, "drop must be a number, got '0.1'"),
        (DVS, "roll_probability", -1, ValueError, "roll_probability must be in 0..1, got -1"),
        (DVS, "pixel_jitter", -0.3, ValueError, "pixel_jitter must be >= 0 and finite, got -0.3"),
        (DVS, "roll", -1, ValueError, "roll must be in 0..2^31 - 1, got -1"),
        (DVS, "rotate", 361.0, ValueError, "rotate must be in 0..360, got 361.0"),
        (DVS, "scale", 0.0, ValueError, "scale must be in 1..100, got 0.0"),
        (DVS, "skew", 0.99, ValueError, "skew must be in 1..100, got 0.99"),
        (DVS, "noise", -5, ValueError, "noise must be in 0..20,000,000, got -5"),
        (DVS, "time_jitter", -5, ValueError, "time_jitter must be in 0..4.5036e+15, got -5"),
    ],
)
def test_bad_strengths(strengths, field, value, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        replace(strengths, **{field: value})


def test_strengths_stay_as_they_are():
    with pytest.raises(FrozenInstanceError):
        SHD.drop = 0.5  # type: ignore[misc]


def test_bad_streams():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"stream stamp\[1\] must not be earlier than 4 us, got 3 us"):
        SHD(([1, 1], [4, 3]), 700, rng)
    with pytest.raises(ValueError, match=r"stream token\[0\] must be in 0\.\.699, got 700"):
        replace(SHD, drop=0.0)(([700], [4]), 700, rng)
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator, got int"):
        SHD(([1], [4]), 700, 0)
    with pytest.raises(ValueError, match=r"events\[0\]\.x must be on the sensor, 0\.\.3, got 4"):
        replace(DVS, drop=0.0)(np.array([(4, 0, 0, 0)], EVENT), 4, 4, rng)
