"""The event array: what a sensor sends, and the checks that every encoder shares.

An event is (x, y, t, p): the address of a pixel, a time stamp and the sign of the change. `EVENT` is the
structured dtype of tonic's NMNIST, so arrays pass between the two as they are. Its four fields are 64-bit
integers, 32 bytes an event: convenient, and what a processor waits for. `EventColumns` holds the same events
in 13 bytes, each field contiguous.

| symbol | meaning | range | dtype in `EVENT` | in `EventColumns` |
|---|---|---|---|---|
| x, y | column and row of the pixel | 0..width - 1, 0..height - 1 | int64 | uint16 |
| t | time stamp, microseconds, never falling | any | int64 | int64 |
| p | polarity: 1 brighter (ON), 0 darker (OFF) | 0, 1 | int64 | uint8 |

Source: Orchard et al., Frontiers in Neuroscience 9:437, 2015 (N-MNIST); dtype as in tonic 1.7.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventbook.kernels.encoders.arguments import whole

EVENT = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
FIELDS = ("x", "y", "t", "p")
COMPACT: dict[str, np.dtype[Any]] = {
    "x": np.dtype(np.uint16),
    "y": np.dtype(np.uint16),
    "t": np.dtype(np.int64),
    "p": np.dtype(np.uint8),
}

Events = NDArray[np.void]  # of dtype EVENT


class EventColumns(NamedTuple):
    """Events field by field: x and y uint16, t int64, p uint8, each (event,) and contiguous."""

    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    t: NDArray[np.int64]
    p: NDArray[np.uint8]

    @classmethod
    def of(cls, events: Events) -> "EventColumns":
        """The columns of a structured array.

        Raises
        ------
        TypeError
            If `events` is not of dtype `EVENT`.
        ValueError
            If a value does not fit into its column; names the first event that does not.
        """
        require_event_dtype(events)
        for name in ("x", "y", "p"):
            info = np.iinfo(COMPACT[name])
            outside = (events[name] < info.min) | (events[name] > info.max)
            if outside.any():
                at = int(outside.argmax())
                raise ValueError(f"events[{at}].{name} must be in 0..{info.max}, got {events[name][at]}")
        return cls(*(events[name].astype(COMPACT[name]) for name in FIELDS))

    def events(self) -> Events:
        """The same events as a structured array of dtype `EVENT`; errors are those of `check_layout`."""
        check_layout(self, 1, 1)
        result = np.empty(len(self.t), EVENT)
        for name in FIELDS:
            result[name] = getattr(self, name)
        return result


def check_events(events: Events | EventColumns, width: int, height: int) -> None:
    """Accept events that are sorted in time and lie on the sensor, and nothing else.

    Parameters
    ----------
    events
        Structured array (event,) of dtype `EVENT`, or columns.
    width, height
        Pixels of the sensor.

    Raises
    ------
    TypeError
        If the dtype is another one.
    ValueError
        If the array is not one-dimensional, the sensor has no pixel, or an event is earlier than the one
        before it, off the sensor, or of a polarity other than 0 and 1. Names the first such event.
    """
    check_layout(events, width, height)
    x, y, t, p = events if isinstance(events, EventColumns) else (events[name] for name in FIELDS)
    falls = np.zeros(len(t), bool)
    falls[1:] = t[1:] < t[:-1]
    faults = {
        "t": falls,
        "x": (x < 0) | (x >= width),
        "y": (y < 0) | (y >= height),
        "p": (p != 0) & (p != 1),
    }
    first = {name: int(fault.argmax()) for name, fault in faults.items() if fault.any()}
    if not first:
        return
    name = min(first, key=lambda name: first[name])
    at = first[name]
    expected = {
        "t": f"not earlier than the event before it ({t[at - 1]} us)",
        "x": f"on the sensor, 0..{width - 1}",
        "y": f"on the sensor, 0..{height - 1}",
        "p": "0 or 1",
    }[name]
    raise ValueError(f"events[{at}].{name} must be {expected}, got {dict(x=x, y=y, t=t, p=p)[name][at]}")


def rows_of(events: Events) -> NDArray[np.int64]:
    """A structured array as (event, 4) int64 without a copy if it is contiguous: what kernels read."""
    return np.ascontiguousarray(events).view(np.int64).reshape(-1, len(FIELDS))


def events_of_rows(rows: NDArray[np.int64]) -> Events:
    """The inverse of `rows_of`, again without a copy."""
    return np.ascontiguousarray(rows).view(EVENT).reshape(-1)


def check_layout(events: Events | EventColumns, width: int, height: int) -> None:
    """Accept the sensor, dtypes, shapes and strides; the part of `check_events` that looks at no value."""
    check_sensor(width, height)
    if not isinstance(events, EventColumns):
        require_event_dtype(events)
        return
    for name in FIELDS:
        column: Any = getattr(events, name)
        dtype = getattr(column, "dtype", type(column).__name__)
        if dtype != COMPACT[name]:
            raise TypeError(f"{name} must be an array of dtype {COMPACT[name]}, got {dtype}")
        if column.ndim != 1 or column.shape != events.t.shape:
            raise ValueError(f"{name} must be (event,) = {events.t.shape}, got shape {column.shape}")
        if not column.flags.c_contiguous:
            raise ValueError(f"{name} must be contiguous, got strides {column.strides}")


def check_sensor(width: int, height: int) -> None:
    """Accept whole numbers of pixels, at least one and not so many that tokens pass the integers."""
    if whole(width, "width") < 1 or whole(height, "height") < 1:
        raise ValueError(f"width and height must be >= 1, got {width} and {height}")
    if int(width) * int(height) >= 1 << 62:
        raise ValueError(f"width and height must make less than 2^62 pixels, got {width} x {height}")


def require_event_dtype(events: Any) -> None:
    """Accept a structured array (event,) of dtype `EVENT`, whatever its values."""
    dtype = getattr(events, "dtype", type(events).__name__)
    if dtype != EVENT:
        raise TypeError(f"events must be an array of dtype {EVENT}, got {dtype}")
    if events.ndim != 1:
        raise ValueError(f"events must be (event,), got shape {events.shape}")
