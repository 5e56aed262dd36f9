"""The event array: tonic's dtype, and one clear line about the first event that is wrong."""

import subprocess
import sys

import numpy as np
import pytest

from eventbook import datasets
from eventbook.datasets import load_davis_recording
from eventbook.kernels.encoders import EVENT, EventColumns, check_events


def some_events() -> np.ndarray:
    return np.array([(0, 0, 5, 1), (3, 1, 5, 0), (2, 1, 9, 1), (3, 0, 12, 0)], EVENT)


def test_dtype_is_that_of_tonic_and_of_the_data_room():
    tonic_datasets = pytest.importorskip("tonic.datasets")
    assert tonic_datasets.NMNIST.dtype == EVENT


def test_dtype_is_that_of_the_data_room():
    assert datasets.EVENT == EVENT


def test_good_events_pass():
    check_events(some_events(), 4, 2)
    check_events(some_events()[:0], 4, 2)
    check_events(some_events()[:1], 4, 2)
    check_events(EventColumns.of(some_events()), 4, 2)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("t", 4, r"events\[2\]\.t must be not earlier than the event before it \(5 us\), got 4"),
        ("x", 4, r"events\[2\]\.x must be on the sensor, 0\.\.3, got 4"),
        ("x", -1, r"events\[2\]\.x must be on the sensor, 0\.\.3, got -1"),
        ("y", 2, r"events\[2\]\.y must be on the sensor, 0\.\.1, got 2"),
        ("p", 2, r"events\[2\]\.p must be 0 or 1, got 2"),
        ("p", -1, r"events\[2\]\.p must be 0 or 1, got -1"),
    ],
)
def test_the_offending_event_is_named(field, value, message):
    events = some_events()
    events[field][2] = value
    with pytest.raises(ValueError, match=message) as error:
        check_events(events, 4, 2)
    assert "\n" not in str(error.value)


def test_the_first_of_several_faults_is_named():
    events = some_events()
    events["p"][3] = 7
    events["x"][1] = 9
    with pytest.raises(ValueError, match=r"events\[1\]\.x"):
        check_events(events, 4, 2)


def test_columns_are_checked_alike():
    columns = EventColumns.of(some_events())
    columns.t[3] = 1
    with pytest.raises(ValueError, match=r"events\[3\]\.t must be not earlier"):
        check_events(columns, 4, 2)


def test_layout_errors():
    with pytest.raises(TypeError, match=r"events must be an array of dtype \[\('x'.*got float64"):
        check_events(np.zeros(3), 4, 2)
    with pytest.raises(TypeError, match=r"events must be an array of dtype .* got list"):
        check_events([], 4, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"events must be \(event,\), got shape \(2, 2\)"):
        check_events(some_events().reshape(2, 2), 4, 2)
    with pytest.raises(ValueError, match="width and height must be >= 1, got 0 and 2"):
        check_events(some_events(), 0, 2)
    columns = EventColumns.of(some_events())
    with pytest.raises(TypeError, match="x must be an array of dtype uint16, got int64"):
        check_events(columns._replace(x=columns.x.astype(np.int64)), 4, 2)
    with pytest.raises(ValueError, match=r"p must be \(event,\) = \(4,\), got shape \(3,\)"):
        check_events(columns._replace(p=columns.p[:3]), 4, 2)
    with pytest.raises(ValueError, match=r"y must be contiguous, got strides \(4,\)"):
        check_events(columns._replace(y=np.zeros(8, np.uint16)[::2]), 4, 2)


def test_columns_and_back():
    events = load_davis_recording().events
    columns = EventColumns.of(events)
    assert sum(column.itemsize for column in columns) == 13
    assert EVENT.itemsize == 32
    np.testing.assert_array_equal(columns.events(), events)


def test_a_value_that_does_not_fit_a_column_is_named():
    events = some_events()
    events["x"][2] = 70_000
    with pytest.raises(ValueError, match=r"events\[2\]\.x must be in 0\.\.65535, got 70000"):
        EventColumns.of(events)
    events = some_events()
    events["p"][1] = -1
    with pytest.raises(ValueError, match=r"events\[1\]\.p must be in 0\.\.255, got -1"):
        EventColumns.of(events)


def test_the_room_of_kernels_imports_no_other_room():
    program = (
        "import sys, eventbook.kernels.encoders\n"
        "rooms = ('datasets', 'learning', 'companion', 'spinnaker')\n"
        "print([room for room in rooms if 'eventbook.' + room in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_sensor_is_of_whole_pixels():
    with pytest.raises(TypeError, match="width must be a whole number, got nan"):
        check_events(some_events(), float("nan"), 2)
    check_events(some_events(), np.int64(4), np.uint8(2))


def test_columns_of_other_lengths_are_no_events():
    columns = EventColumns.of(some_events())
    with pytest.raises(ValueError, match=r"y must be \(event,\) = \(4,\), got shape \(1,\)"):
        columns._replace(y=columns.y[:1]).events()
