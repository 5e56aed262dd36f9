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
    with pytest.raises(ValueError, match=r"stamp\[1\] must not be earlier than 5, got 2"):
        reconstruct(TokenStream(ints([0, 1]), ints([5, 2])), np.zeros(3), 0.25, 1_000, 4)
