"""Event frames: the same array as tonic's and as np.bincount's, in both layouts; the errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.datasets import load_davis_recording
from eventbook.kernels.encoders import EVENT, EventColumns, event_frames
from eventbook.kernels.encoders.frames import event_frames_reference, window_edges


def stream(count: int, width: int, height: int, span: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    events = np.empty(count, EVENT)
    events["x"], events["y"] = rng.integers(0, width, count), rng.integers(0, height, count)
    events["t"], events["p"] = np.sort(rng.integers(0, span, count)), rng.integers(0, 2, count)
    return events


sizes = st.fixed_dictionaries(
    {
        "count": st.integers(1, 3_000),
        "width": st.integers(1, 9),
        "height": st.integers(1, 9),
        "span": st.integers(1, 5_000),
        "seed": st.integers(0, 9),
    }
)
windows = st.one_of(
    st.integers(1, 40).map(lambda bins: {"bins": bins}),
    st.integers(1, 6_000).map(lambda window: {"window": window}),
)


@given(sizes, windows)
@settings(max_examples=120, deadline=None)
def test_both_layouts_equal_the_twin(size, chosen):
    events, sensor = stream(**size), (size["width"], size["height"])
    expected = event_frames_reference(events, *sensor, **chosen)
    for layout in (events, EventColumns.of(events)):
        frames = event_frames(layout, *sensor, **chosen)
        assert frames.dtype == np.int16
        np.testing.assert_array_equal(frames, expected)
    t = events["t"]
    bins = len(expected)
    window = chosen.get("window", (t[-1] - t[0]) // bins)
    inside = ((t >= t[0]) & (t < t[0] + bins * window)).sum()
    assert expected.sum() == inside
    for number, frame in enumerate(expected):
        begin = t[0] + number * window
        assert frame.sum() == ((t >= begin) & (t < begin + window)).sum()


@given(sizes, windows)
@settings(max_examples=60, deadline=None)
def test_equal_to_tonic(size, chosen):
    transforms = pytest.importorskip("tonic.transforms")
    events, sensor = stream(**size), (size["width"], size["height"])
    theirs = {"n_time_bins": chosen.get("bins"), "time_window": chosen.get("window")}
    expected = transforms.ToFrame(sensor_size=(*sensor, 2), **theirs)(events)
    frames = event_frames(events, *sensor, **chosen)
    assert frames.dtype == expected.dtype
    np.testing.assert_array_equal(frames, expected)


@pytest.mark.parametrize(
    "chosen, theirs", [({"bins": 7}, {"n_time_bins": 7}), ({"window": 50_000}, {"time_window": 50_000})]
)
def test_a_real_recording_equals_tonic(chosen, theirs):
    transforms = pytest.importorskip("tonic.transforms")
    recording = load_davis_recording()
    frames = event_frames(recording.events, 346, 260, **chosen)
    expected = transforms.ToFrame(sensor_size=(346, 260, 2), **theirs)(recording.events)
    np.testing.assert_array_equal(frames, expected)


SMALL = [(0, 0, 3, 0), (2, 1, 3, 1), (1, 0, 4, 1), (2, 1, 7, 1), (2, 1, 8, 1), (0, 1, 13, 0), (1, 1, 14, 0)]


# Output of tonic 1.7.0, `ToFrame(sensor_size=(3, 2, 2), n_time_bins=...)` or `time_window=...`, of SMALL: the
# shape and the entries that are not zero, (bin, polarity, y, x, count). Made with NumPy 2 under Python 3.11.
FROZEN = {
    "bins=2": ((2, 2, 2, 3), [(0, 0, 0, 0, 1), (0, 1, 0, 1, 1), (0, 1, 1, 2, 2), (1, 1, 1, 2, 1)]),
    "bins=3": ((3, 2, 2, 3), [(0, 0, 0, 0, 1), (0, 1, 0, 1, 1), (0, 1, 1, 2, 1), (1, 1, 1, 2, 2)]),
    "window=4": ((2, 2, 2, 3), [(0, 0, 0, 0, 1), (0, 1, 0, 1, 1), (0, 1, 1, 2, 1), (1, 1, 1, 2, 2)]),
    "window=5": ((2, 2, 2, 3), [(0, 0, 0, 0, 1), (0, 1, 0, 1, 1), (0, 1, 1, 2, 2), (1, 1, 1, 2, 1)]),
    "window=100": (
        (1, 2, 2, 3),
        [(0, 0, 0, 0, 1), (0, 0, 1, 0, 1), (0, 0, 1, 1, 1), (0, 1, 0, 1, 1), (0, 1, 1, 2, 3)],
    ),
}


@pytest.mark.parametrize("chosen", ["bins=2", "bins=3", "window=4", "window=5", "window=100"])
def test_frozen_output_of_tonic(chosen):
    name, _, number = chosen.partition("=")
    frames = event_frames(np.array(SMALL, EVENT), 3, 2, **{name: int(number)})
    shape, entries = FROZEN[chosen]
    expected = np.zeros(shape, np.int16)
    for *at, count in entries:
        expected[tuple(at)] = count
    np.testing.assert_array_equal(frames, expected)


def test_a_real_recording_in_both_layouts():
    recording = load_davis_recording()
    by_rows = event_frames(recording.events, 346, 260, window=33_000)
    by_columns = event_frames(EventColumns.of(recording.events), 346, 260, window=33_000)
    np.testing.assert_array_equal(by_rows, by_columns)
    assert by_rows.shape == (2_359_945 // 33_000, 2, 260, 346)
    inside = recording.events["t"] < 71 * 33_000
    assert by_rows.sum() == inside.sum()
    np.testing.assert_array_equal(
        by_rows.sum((0, 2, 3)), np.bincount(recording.events["p"][inside], minlength=2)
    )


def test_views_that_are_not_contiguous():
    events = stream(500, 5, 4, 900, 1)
    np.testing.assert_array_equal(
        event_frames(events[::2], 5, 4, bins=3), event_frames_reference(events[::2].copy(), 5, 4, bins=3)
    )


@pytest.mark.parametrize("to", [lambda events: events, EventColumns.of])
def test_small_streams(to):
    none, one = np.empty(0, EVENT), np.array([(1, 0, 5, 1)], EVENT)
    assert event_frames(to(none), 3, 2, bins=4).shape == (4, 2, 2, 3)
    assert event_frames(to(none), 3, 2, window=10).shape == (0, 2, 2, 3)
    assert event_frames(to(one), 3, 2, window=10).sum() == 1
    assert event_frames(to(one), 3, 2, bins=4).sum() == 0  # windows of no length, as in tonic
    same = np.repeat(one, 5)
    assert event_frames(to(same), 3, 2, window=1)[0, 1, 0, 1] == 5


@pytest.mark.parametrize("to", [lambda events: events, EventColumns.of])
@pytest.mark.parametrize(
    "field, value, message",
    [
        ("x", 5, r"events\[450\]\.x must be on the sensor, 0\.\.4, got 5"),
        ("y", 4, r"events\[450\]\.y must be on the sensor, 0\.\.3, got 4"),
        ("p", 2, r"events\[450\]\.p must be 0 or 1, got 2"),
        ("t", 0, r"events\[450\]\.t must be not earlier than the event before it"),
    ],
)
def test_the_offending_event_is_named(to, field, value, message):
    events = stream(500, 5, 4, 900, 1)
    events[field][450] = value
    with pytest.raises(ValueError, match=message):
        event_frames(to(events), 5, 4, bins=3)


def test_a_fault_outside_all_windows_is_found_too():
    events = stream(500, 5, 4, 900, 1)
    assert window_edges(events["t"], 3, None)[-1] < 500
    events["x"][499] = -1
    with pytest.raises(ValueError, match=r"events\[499\]\.x must be on the sensor, 0\.\.4, got -1"):
        event_frames(events, 5, 4, bins=3)


@pytest.mark.parametrize("to", [lambda events: events, EventColumns.of])
def test_a_count_beyond_int16_is_an_error(to):
    events = np.repeat(np.array([(1, 1, 5, 1)], EVENT), 40_000)
    assert event_frames(to(events[:32_767]), 3, 3, window=1).max() == 32_767
    with pytest.raises(ValueError, match="at most 32767 at a pixel in a window, got more"):
        event_frames(to(events[:32_768]), 3, 3, window=1)
    wrapped = np.repeat(events[:1], 65_536 + 7)  # comes round to 7
    with pytest.raises(ValueError, match="at most 32767"):
        event_frames(to(wrapped), 3, 3, window=1)


@pytest.mark.parametrize(
    "chosen, message",
    [
        ({}, "exactly one of bins and window must be given, got None and None"),
        ({"bins": 1, "window": 1}, "exactly one of bins and window must be given, got 1 and 1"),
        ({"bins": 0}, "bins or window must be >= 1, got 0"),
        ({"window": -3}, "bins or window must be >= 1, got -3"),
    ],
)
def test_parameters_that_make_no_sense(chosen, message):
    with pytest.raises(ValueError, match=message):
        event_frames(stream(10, 3, 3, 50, 0), 3, 3, **chosen)


def test_a_sensor_too_large_for_addresses():
    with pytest.raises(ValueError, match=r"less than 2\^31 pixels, got 65536 x 32768"):
        event_frames(np.empty(0, EVENT), 65_536, 32_768, bins=1)


@pytest.mark.parametrize("to", [lambda events: events, EventColumns.of])
@pytest.mark.parametrize(
    "chosen", [{"bins": 1}, {"bins": 3}, {"window": 2}, {"window": 10}, {"window": 10**6}]
)
@pytest.mark.parametrize(
    "stamps", [[12, 9, 5, 5], [100, 1, 2, 3], [5, 1, 9, 12], [5, 1_000, 9, 12], [0, 5, 9, 3], [3, 3, 3, 2]]
)
def test_unsorted_events_are_found_whatever_the_windows(to, chosen, stamps):
    """Windows are cut by the stamps themselves: unsorted ones make windows that leave events out."""
    events = stream(4, 3, 3, 9, 0)
    events["t"] = stamps
    at = 1 + int(np.argmax(np.diff(stamps) < 0))
    with pytest.raises(ValueError, match=rf"events\[{at}\]\.t must be not earlier than the event before it"):
        event_frames(to(events), 3, 3, **chosen)


@pytest.mark.parametrize("chosen", [{"bins": 1}, {"bins": 3}, {"window": 2}, {"window": 10**6}])
@pytest.mark.parametrize("at", range(4))
def test_unsorted_events_off_the_sensor_are_found_whatever_the_windows(chosen, at):
    events = stream(4, 3, 3, 9, 0)
    events["t"] = [100, 1, 2, 3]
    events["x"][at] = -1
    with pytest.raises(ValueError, match=r"events\[[01]\]\.[tx] must be"):
        event_frames(events, 3, 3, **chosen)


LEAST, MOST = -(2**63), 2**63 - 1


@pytest.mark.parametrize("to", [lambda events: events, EventColumns.of])
@pytest.mark.parametrize(
    "stamps, chosen, counts",
    [
        ([LEAST, 0, 1, MOST], {"bins": 2}, [1, 2]),
        ([LEAST, 0, 1, MOST], {"bins": 1}, [3]),
        ([LEAST, 0, 1, MOST], {"window": 2**63}, [1]),
        ([LEAST, 0, 1, MOST], {"window": 2**62}, [1, 0, 2]),
        ([LEAST, 0, 1, MOST], {"window": 2**70}, [4]),
        ([0, 2**62, 2**62, MOST], {"window": 2**62}, [1]),
        ([MOST] * 4, {"window": 5}, [4]),
        ([LEAST] * 4, {"window": 2**64}, [4]),
        ([MOST - 3, MOST - 2, MOST - 1, MOST], {"window": 1}, [1, 1, 1]),
    ],
)
def test_windows_at_the_ends_of_the_integers(to, stamps, chosen, counts):
    events = stream(4, 3, 3, 9, 0)
    events["t"] = stamps
    assert event_frames(to(events), 3, 3, **chosen).sum((1, 2, 3)).tolist() == counts


@pytest.mark.parametrize(
    "change, message",
    [
        ({"bins": 2.5}, r"bins must be a whole number, got 2\.5"),
        ({"bins": True}, "bins must be a whole number, got True"),
        ({"window": float("nan")}, "window must be a whole number, got nan"),
        ({"bins": "3"}, "bins must be a whole number, got '3'"),
        ({"width": 4.5, "bins": 1}, r"width must be a whole number, got 4\.5"),
        ({"height": float("nan"), "bins": 1}, "height must be a whole number, got nan"),
    ],
)
def test_numbers_that_are_not_whole(change, message):
    with pytest.raises(TypeError, match=message):
        event_frames(**{"events": stream(10, 3, 3, 50, 0), "width": 3, "height": 3} | change)
