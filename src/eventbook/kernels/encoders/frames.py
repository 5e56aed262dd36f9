r"""Event frames: counts of events by time window, polarity and pixel.

    frame[i, p, y, x] = number of events (x, y, t, p) with  t_0 + i w <= t < t_0 + (i + 1) w

t_0 is the first stamp. With `bins` given, w = (t_last - t_0) // bins; with `window` given, w is that and
there are as many frames as fit between the first and the last stamp, at least one. Events after the last
window belong to none, the very last event among them: these are tonic's rules, and the array is the same as
tonic's.

| symbol | meaning | shape | name |
|---|---|---|---|
| - | counts | (bin, 2, height, width) int16 | `frames` |
| w | window, microseconds | number | `window` |

Events are sorted, so windows are runs of events and no stamp is needed to place one; the kernel reads them
only to check. Each event is checked where it is counted. A count beyond int16 is an error (tonic's wraps
round).

The layout decides the speed: an event is 13 bytes in `EventColumns` and 32 in the structured array, and
contiguous fields give addresses by vectors. Columns take half to two thirds of the time;
`benchmarks/encoders.py` has both.

Source: tonic 1.7, `tonic.transforms.ToFrame` (slicing by time and by time bins, without overlap).
"""
# mypy: disable-error-code="no-untyped-def, call-arg"
# Kernels are typed by Numba, at every call.

from typing import Any

import numpy as np
from jaxtyping import Int16
from numpy.typing import NDArray

from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.encoders.events import EventColumns, Events, check_events, check_layout, rows_of
from eventbook.kernels.machinery.compile import kernel

MOST = np.iinfo(np.int16).max
BLOCK = 1024  # events whose addresses are computed together, as vectors, before any is counted


@kernel()
def _address(x, y, p, block, width, height):
    """Flat index in a frame of each event; whether all events are on the sensor and of a polarity."""
    outside = False
    for i in range(x.size):
        column, row, polarity = np.uint32(x[i]), np.uint32(y[i]), np.uint32(p[i])
        outside |= (column >= width) | (row >= height) | (polarity > np.uint32(1))
        block[i] = (polarity * height + row) * width + column
    return not outside


@kernel()
def _count_columns(x, y, t, p, edges, frames, width, height):
    """frames: (bin + 1, 2 * height * width) int16, written over; the last for events outside all windows.

    Returns 0, 1 if an event is not as it should be, 2 if a count left the range of int16.
    """
    falls = False
    for i in range(1, t.size):
        falls |= t[i] < t[i - 1]
    if falls:
        return 1
    signs = np.int16(0)
    block = np.empty(BLOCK, np.uint32)
    for number in range(edges.size - 1):
        frame = frames[number]
        for pixel in range(frame.size):  # here and not for all frames at once: it stays in the cache
            frame[pixel] = 0
        for first in range(edges[number], edges[number + 1], BLOCK):
            size = min(BLOCK, edges[number + 1] - first)
            if not _address(
                x[first : first + size],
                y[first : first + size],
                p[first : first + size],
                block,
                width,
                height,
            ):
                return 1
            for i in range(size):
                count = np.int16(frame[block[i]] + 1)
                frame[block[i]] = count
                signs |= count  # a count that wraps passes through the negative numbers
    return 2 if signs < 0 else 0


@kernel()
def _count_rows(events, edges, frames, width, height):
    """As `_count_columns` for events (event, 4) int64; blocks gain nothing where memory is the limit.

    Unsorted stamps give edges that fall or begin late: such windows would leave events out, unseen.
    """
    signs = np.int16(0)
    before = events[0, 2]
    if edges[0] != 0:
        return 1
    for number in range(edges.size - 1):
        if edges[number] > edges[number + 1]:
            return 1
        frame = frames[number]
        for pixel in range(frame.size):
            frame[pixel] = 0
        for i in range(edges[number], edges[number + 1]):
            column, row, now, polarity = events[i, 0], events[i, 1], events[i, 2], events[i, 3]
            inside = (np.uint64(column) < np.uint64(width)) & (np.uint64(row) < np.uint64(height))
            if not (inside & (np.uint64(polarity) <= np.uint64(1)) & (now >= before)):
                return 1
            before = now
            at = np.uint64((polarity * height + row) * width + column)
            count = np.int16(frame[at] + 1)
            frame[at] = count
            signs |= count
    return 2 if signs < 0 else 0


def event_frames(
    events: Events | EventColumns,
    width: int,
    height: int,
    *,
    bins: int | None = None,
    window: int | None = None,
) -> Int16[np.ndarray, "bin polarity height width"]:
    """Count events by window, polarity and pixel.

    Parameters
    ----------
    events
        Structured array (event,) of dtype `EVENT`, or `EventColumns`, which is faster.
    width, height
        Pixels of the sensor.
    bins, window
        Exactly one of the two: the number of windows, or their length in microseconds.

    Returns
    -------
    frames
        (bin, 2, height, width) int16; no frame for no events, where tonic fails, unless `bins` says how many.

    Raises
    ------
    ValueError
        If an event is unsorted, off the sensor or of no polarity (names the first), not exactly one of bins
        and window is given or it is below 1, or a pixel has more than 32,767 events in a window.
    TypeError
        If the dtype is another one, or a number is not whole.
    """
    if (bins is None) == (window is None):
        raise ValueError(f"exactly one of bins and window must be given, got {bins} and {window}")
    if bins is not None:
        bins = whole(bins, "bins")
    if window is not None:
        window = whole(window, "window")
    if (bins or window or 0) < 1:
        raise ValueError(f"bins or window must be >= 1, got {bins if window is None else window}")
    check_layout(events, width, height)
    if 2 * int(width) * int(height) >= 1 << 32:
        raise ValueError(f"width and height must make less than 2^31 pixels, got {width} x {height}")
    t = events.t if isinstance(events, EventColumns) else events["t"]
    if not len(t):
        return np.zeros((bins or 0, 2, height, width), np.int16)
    edges = window_edges(t, bins, window)
    # One frame more, for what lies outside all windows: it is checked like the rest, then left out.
    flat = np.empty((len(edges), 2 * height * width), np.int16)
    ends = np.append(edges, len(t))
    if isinstance(events, EventColumns):
        fault = _count_columns(*events, ends, flat, np.uint32(width), np.uint32(height))
    else:
        fault = _count_rows(rows_of(events), ends, flat, width, height)
    if fault == 1:
        check_events(events, width, height)
    if fault == 2:
        raise ValueError(f"events must be at most {MOST} at a pixel in a window, got more: use more windows")
    return flat[:-1].reshape(-1, 2, height, width)


def window_edges(t: NDArray[np.integer[Any]], bins: int | None, window: int | None) -> NDArray[np.int64]:
    """Index of the first event of each window, and of the first event after the last window."""
    start = int(t[0])
    span = int(t[-1]) - start
    if bins is None:
        assert window is not None
        if window > span:  # its end may be beyond the integers
            return np.array([0, len(t)])
        bins = span // window
    else:
        window = span // bins
    # Offsets may pass 2^63 where the stamps that are compared do not: without a sign both are right.
    offsets = np.arange(bins + 1, dtype=np.uint64) * np.uint64(window % 2**64)
    return np.searchsorted(t, (offsets + np.uint64(start % 2**64)).view(np.int64)).astype(np.int64)


def event_frames_reference(
    events: Events, width: int, height: int, *, bins: int | None = None, window: int | None = None
) -> Int16[np.ndarray, "bin polarity height width"]:
    """Readable twin of `event_frames`: one flat index an event, counted by `np.bincount`."""
    edges = window_edges(events["t"], bins, window)
    kept = events[edges[0] : edges[-1]]
    number = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    at = ((number * 2 + kept["p"]) * height + kept["y"]) * width + kept["x"]
    shape = (len(edges) - 1, 2, height, width)
    return np.bincount(at, minlength=int(np.prod(shape))).astype(np.int16).reshape(shape)
