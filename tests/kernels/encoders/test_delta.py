"""Delta coding: equal to the twin, decodable to within a threshold, sorted; the errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eventbook.datasets import load_spoken_digits
from eventbook.kernels.encoders import TokenStream, delta_events, reconstruct
from eventbook.kernels.encoders.delta import delta_events_reference

PERIOD = 24_000  # microseconds from frame to frame of the spoken digits

signals = st.tuples(st.integers(1, 12), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-20, 20, width=32))
)


@given(signals, st.floats(0.07, 3.0), st.integers(1, 10_000), st.sampled_from(["interpolated", "frame"]))
@settings(max_examples=150, deadline=None)
def test_properties(signal, threshold, period, stamps):
    stream = delta_events(signal, threshold, period, stamps=stamps)
    twin = delta_events_reference(signal, threshold, period, stamps=stamps)
    np.testing.assert_array_equal(stream.token, twin.token)
    np.testing.assert_array_equal(stream.stamp, twin.stamp)
    assert (np.diff(stream.stamp) >= 0).all()
    if len(stream.token):
        assert stream.stamp[0] >= 1
        assert stream.stamp[-1] <= (len(signal) - 1) * period
        assert stream.token.max() < 2 * signal.shape[1]
    decoded = reconstruct(stream, signal[0], threshold, period, len(signal))
    assert np.abs(decoded - signal).max() <= 0.5 * threshold * (1 + 1e-9)
    # ups minus downs is the level in the end
    moves = np.bincount(stream.token // 2, 2.0 * (stream.token % 2) - 1, minlength=signal.shape[1])
    np.testing.assert_allclose(decoded[-1], signal[0] + moves * threshold, atol=1e-9)


def test_spoken_digits():
    """26 channels and some hundred events a digit; measured: mean 380.7 over the test part."""
    training, test = load_spoken_digits("train"), load_spoken_digits("test")
    threshold = 0.25 * training.frames.std(0, dtype=np.float64)
    streams = [delta_events(clip, threshold, PERIOD) for clip in test.clips()]
    lengths = np.array([len(stream.token) for stream in streams])
    assert 378 < lengths.mean() < 383
    assert max(stream.token.max() for stream in streams) == 25
    for clip, stream in zip(test.clips(), streams, strict=True):
        twin = delta_events_reference(clip, threshold, PERIOD)
        np.testing.assert_array_equal(stream.token, twin.token)
        np.testing.assert_array_equal(stream.stamp, twin.stamp)
        decoded = reconstruct(stream, clip[0], threshold, PERIOD, len(clip))
        assert (np.abs(decoded - clip) <= 0.5 * threshold * (1 + 1e-9)).all()
    interpolated = np.concatenate([np.diff(stream.stamp) for stream in streams])
    on_frame = np.concatenate(
        [np.diff(delta_events(clip, threshold, PERIOD, stamps="frame").stamp) for clip in test.clips()]
    )
    assert (interpolated == 0).mean() < 0.01
    assert (on_frame == 0).mean() > 0.9


def test_a_reconstruction_without_one_event_is_off():
    """Negative control: every event counts."""
    signal = np.array([[0.0], [1.0], [1.0], [-1.0]])
    stream = delta_events(signal, 0.3, 100)
    fewer = TokenStream(stream.token[1:], stream.stamp[1:])
    assert np.abs(reconstruct(stream, signal[0], 0.3, 100, 4) - signal).max() <= 0.15 + 1e-12
    assert np.abs(reconstruct(fewer, signal[0], 0.3, 100, 4) - signal).max() > 0.15 + 1e-2


def test_several_crossings_in_one_interval():
    stream = delta_events(np.array([[0.0, 0.0], [1.0, -0.5]]), 0.25, 1_000)
    # levels at 0.125, 0.375, 0.625, 0.875 and at -0.125, -0.375
    assert stream.stamp.tolist() == [125, 250, 375, 625, 750, 875]
    assert stream.token.tolist() == [1, 2, 1, 1, 2, 1]


def test_there_and_back_is_two_events():
    stream = delta_events(np.array([[0.0], [0.5], [0.0]]), 0.5, 1_000)
    assert stream.token.tolist() == [1, 0]
    assert stream.stamp.tolist() == [500, 1_500]


@pytest.mark.parametrize("encode", [delta_events, delta_events_reference])
def test_a_level_touched_on_a_frame_is_crossed_after_it(encode):
    """-1/2 is still in the middle cell: the event happens when the signal leaves it, not before."""
    stream = encode(np.array([[0.0], [-0.5], [-1.0], [-0.5], [0.0]]), 1.0, 100)
    assert (stream.token.tolist(), stream.stamp.tolist()) == ([0, 1], [101, 300])


def test_thresholds_by_channel():
    signal = np.array([[0.0, 0.0], [1.0, 1.0]])
    stream = delta_events(signal, np.array([0.5, 1.0]), 1_000)
    assert np.bincount(stream.token, minlength=4).tolist() == [0, 2, 0, 1]


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (4, 0), (5, 3)])
def test_constant_and_empty_signals_are_silent(shape):
    stream = delta_events(np.ones(shape), 0.25, 1_000)
    assert (stream.token.shape, stream.stamp.shape) == ((0,), (0,))
    assert stream.token.dtype == stream.stamp.dtype == np.int64


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frames": np.zeros(3)}, r"frames must be \(time, channel\), got shape \(3,\)"),
        ({"frames": np.array([[0.0], [np.nan]])}, r"frames must be finite, got nan at \[1, 0\]"),
        ({"threshold": 0.0}, r"threshold must be > 0 and finite, got 0\.0"),
        ({"threshold": np.array([1.0, -1.0, 1.0])}, r"threshold must be > 0 and finite, got -1\.0"),
        ({"threshold": np.ones(2)}, r"threshold must be a number or \(channel,\) = \(3,\), got shape \(2,\)"),
        ({"frame_period": 0}, "frame_period must be >= 1 us, got 0"),
        ({"stamps": "grid"}, "stamps must be 'interpolated' or 'frame', got 'grid'"),
    ],
)
def test_errors(change, message):
    arguments = {"frames": np.zeros((4, 3)), "threshold": 0.25, "frame_period": 1_000} | change
    with pytest.raises(ValueError, match=message):
        delta_events(**arguments)


def test_errors_of_the_decoder():
    ints = np.array
    with pytest.raises(ValueError, match=r"token\[1\] must be in 0\.\.5, got 6"):
        reconstruct(TokenStream(ints([0, 6]), ints([1, 2])), np.zeros(3), 0.25, 1_000, 4)
    with pytest.raises(ValueError, match=r"stamp\[1\] must not be earlier than 5 us, got 2 us"):
        reconstruct(TokenStream(ints([0, 1]), ints([5, 2])), np.zeros(3), 0.25, 1_000, 4)


# --- what would not end, or not be told apart --------------------------------------------------------------


@pytest.mark.parametrize("encode", [delta_events, delta_events_reference])
@pytest.mark.parametrize("threshold, count", [(1e-9, "1.5e\\+09"), (1e-14, "1.5e\\+14")])
def test_too_many_events_are_counted_beforehand(encode, threshold, count):
    signal = np.array([[0.0], [1.0], [0.5]])
    with pytest.raises(
        ValueError, match=rf"threshold must be larger: .* about {count} events, at most 20,000,000"
    ):
        encode(signal, threshold, 1_000)


@pytest.mark.parametrize("encode", [delta_events, delta_events_reference])
@pytest.mark.parametrize(
    "signal, threshold",
    [
        ([1.0, 2.0, 1.5], 1e-300),
        ([1.0, 2.0, 1.5], 1e-17),
        ([1e17, 1e17 + 16, 1e17], 1.0),
        ([2.0**62, 2.0**62 + 1024, 0.0], 0.5),
        ([1.0, 1 + 2.0**-52, 1.0], 2.0**-52),
        ([-1e16, 2.0, 0.0], 1.0),
    ],
)
def test_levels_that_floats_cannot_tell_apart_are_refused(encode, signal, threshold):
    with pytest.raises(
        ValueError, match=r"threshold must be at least .* for a channel that reaches"
    ) as caught:
        encode(np.array(signal)[:, None], threshold, 1_000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value, threshold", [(1e16, 0.5), (1e17, 1.0), (1.1, 1e-300), (0.0, 5e-324)])
def test_a_constant_signal_is_silent_at_any_threshold(value, threshold):
    signal = np.full((3, 2), value)
    assert len(delta_events(signal, threshold, 100).token) == 0
    assert len(delta_events_reference(signal, threshold, 100).token) == 0
    signal[:, 1] = [0, 1, 0]  # a channel that moves beside one that does not
    assert delta_events(signal, np.array([threshold, 1.0]), 100).token.tolist() == [3, 2]


def test_the_finest_levels_are_still_right():
    signal = np.random.default_rng(0).standard_normal((200, 2)).cumsum(0) * 2.0**-30 + 1_000.0
    threshold = 4 * np.spacing(1_000.0)
    stream = delta_events(signal, threshold * 64, 100)
    decoded = reconstruct(stream, signal[0], threshold * 64, 100, 200)
    assert np.abs(decoded - signal).max() <= threshold * 32 * (1 + 1 / 64)
    few = signal[:1] + threshold * np.array([[0.0], [3.0], [-2.0], [0.5]])
    for levels in (delta_events(few, threshold, 100), delta_events_reference(few, threshold, 100)):
        assert 2 * 9 <= len(levels.token) <= 2 * 13


def test_signals_too_far_apart_for_a_difference():
    with pytest.raises(ValueError, match=r"threshold must be larger: .* about inf events"):
        delta_events(np.array([[1.7e308], [-1.7e308]]), 1e307, 100)


@pytest.mark.parametrize("encode", [delta_events, delta_events_reference])
@pytest.mark.parametrize("period", [2**61 + 1, 2**62, 2**63, 10**30])
def test_stamps_beyond_the_integers_are_refused(encode, period):
    with pytest.raises(ValueError, match=r"frame_period must be at most 2305843009213693952 us for 3 frames"):
        encode(np.array([[0.0], [1.0], [0.5]]), 0.5, period)


def test_the_longest_stamps_are_right():
    stream = delta_events(np.array([[0.0], [1.0], [0.0]]), 1.0, 2**61)
    assert stream.stamp.tolist() == [2**60, 2**61 + 2**60 + 1 - 1]
    on_frame = delta_events(np.array([[0.0], [1.0], [0.0]]), 1.0, 2**61, stamps="frame")
    assert on_frame.stamp.tolist() == [2**61, 2**62]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frames": np.zeros((4, 3), complex)}, "frames must be real numbers, got complex128"),
        ({"frames": np.full((4, 3), "a")}, "frames must be real numbers, got <U1"),
        ({"frame_period": 1.5}, r"frame_period must be a whole number, got 1\.5"),
        ({"frame_period": float("nan")}, "frame_period must be a whole number, got nan"),
        ({"threshold": 1j}, "threshold must be real numbers, got complex128"),
    ],
)
def test_what_is_no_real_number(change, message):
    arguments = {"frames": np.zeros((4, 3)), "threshold": 0.25, "frame_period": 1_000} | change
    with pytest.raises(TypeError, match=message):
        delta_events(**arguments)


# --- the decoder -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.uint32, np.int64, np.uint64])
def test_the_decoder_reads_any_integers(dtype):
    stream = TokenStream(np.array([0, 1, 0, 0], dtype), np.array([1, 50, 99, 120], dtype))
    decoded = reconstruct(stream, np.zeros(1), 1.0, 60, 4)
    assert decoded.ravel().tolist() == [0.0, 0.0, -2.0, -2.0]


def test_an_event_on_a_frame_counts_there_and_one_after_the_last_does_not():
    stream = TokenStream(np.array([1, 1, 1]), np.array([10, 11, 31]))
    assert reconstruct(stream, np.zeros(1), 1.0, 10, 4).ravel().tolist() == [0.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"stamp": [-5, 3]}, ValueError, r"stamp\[0\] must be >= 0, got -5"),
        ({"stamp": [-1_000, -999]}, ValueError, r"stamp\[0\] must be >= 0, got -1000"),
        ({"stamp": [1.5, 2.0]}, TypeError, "stamp must be integers, got float64"),
        ({"token": [1.0, 0.0]}, TypeError, "token must be integers, got float64"),
        ({"stamp": [1]}, ValueError, r"stamp must be \(event,\) = \(2,\), got shape \(1,\)"),
        ({"first": 0.0}, ValueError, r"first must be \(channel,\), got shape \(\)"),
        ({"first": np.zeros((2, 2))}, ValueError, r"first must be \(channel,\), got shape \(2, 2\)"),
        ({"first": np.array([np.nan])}, ValueError, r"first must be finite, got nan at \[0\]"),
        ({"frame_period": 0}, ValueError, "frame_period must be >= 1 us, got 0"),
        ({"frame_period": -3}, ValueError, "frame_period must be >= 1 us, got -3"),
        ({"frames": -4}, ValueError, "frames must be >= 0, got -4"),
        ({"frames": 2.5}, TypeError, r"frames must be a whole number, got 2\.5"),
    ],
)
def test_what_the_decoder_refuses(change, error, message):
    given = {"token": [1, 0], "stamp": [1, 2], "first": np.zeros(1), "frame_period": 1, "frames": 4} | change
    stream = TokenStream(np.array(given.pop("token")), np.array(given.pop("stamp")))
    with pytest.raises(error, match=message):
        reconstruct(stream, threshold=0.5, **given)
