r"""Delta coding: a signal in several channels becomes events, one per level that a channel crosses.

Levels lie theta apart, half way around the first value of the channel: it starts in the middle of a cell and
reports each change of cell, up or down (the cell coder of `levels`). Between two frames the signal is a
straight line.

    token = 2 channel + (1 up, 0 down)
    reconstruction:  s^_c(t) = s_c(0) + theta_c (ups - downs up to t),     |s^ - s| <= theta / 2 at every
    frame

| symbol | meaning | shape | name |
|---|---|---|---|
| s | signal | (time, channel) | `frames` |
| theta | height of a level; usually 0.25 standard deviations | number or (channel,) | `threshold` |
| - | time from frame to frame, microseconds | number | `frame_period` |
| - | which level, which way | (event,) | `token` |
| t | when, in microseconds after the first frame | (event,) | `stamp` |

Source: derived (delta modulation, one bit a step of the quantiser).
"""
# mypy: disable-error-code="no-untyped-def, call-arg"
# Kernels are typed by Numba, at every call.

import math
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Real
from numpy.typing import NDArray

from eventbook.kernels.encoders.arguments import MOST_EVENTS, check_rising, column, whole
from eventbook.kernels.encoders.levels import FINENESS, crossing_stamp, next_cell
from eventbook.kernels.encoders.order import sort_by_time
from eventbook.kernels.machinery.compile import kernel

_TOKEN, _STAMP = 0, 1
_LONGEST = 1 << 62  # microseconds; a stamp, and the rounding of its fraction, stay whole numbers of 64 bits


class TokenStream(NamedTuple):
    """Events without a place: tokens and stamps in microseconds, both (event,) int64, sorted by stamp."""

    token: NDArray[np.int64]
    stamp: NDArray[np.int64]


@kernel()
def _walk(frames, thresholds, period, on_frame, out):
    """Number of events, written in order of channels; frames: (time, channel); out: (capacity, 2) int64."""
    total = 0
    for channel in range(frames.shape[1]):
        threshold = thresholds[channel]
        base = frames[0, channel]
        before = base
        count = 0
        for i in range(1, frames.shape[0]):
            now = frames[i, channel]
            begin = (i - 1) * period
            move = next_cell(now, base, count, threshold)
            while move != 0:
                count += move
                t = begin + period
                if not on_frame:
                    t = crossing_stamp(base + (count - 0.5 * move) * threshold, before, now, begin, period)
                if total < out.shape[0]:
                    out[total, 0], out[total, 1] = 2 * channel + (move + 1) // 2, t
                total += 1
                move = next_cell(now, base, count, threshold)
            before = now
    return total


def delta_events(
    frames: Real[np.ndarray, "time channel"],
    threshold: float | Float[np.ndarray, " channel"],
    frame_period: int,
    *,
    stamps: Literal["interpolated", "frame"] = "interpolated",
) -> TokenStream:
    """Encode a signal as level crossings.

    Parameters
    ----------
    frames
        Signal, (time, channel), finite.
    threshold
        Height of a level, for all channels or for each; at least four times the distance of neighbouring
        floats where the channel is largest. A channel that never moves is silent at any threshold.
    frame_period
        Microseconds from frame to frame, a whole number.
    stamps
        "interpolated": the crossing on the straight line between two frames, rounded up to the microsecond.
        "frame": the first frame at or after the crossing; all crossings of a frame then share a stamp.

    Returns
    -------
    TokenStream
        token = 2 * channel + (1 up, 0 down) and stamp, sorted by stamp, ties by channel. A frame has stamp
        index * frame_period, and crossings before it have a stamp at most that.

    Raises
    ------
    ValueError
        If the shape is another one, a value is not finite, a parameter makes no sense, levels are too close
        for floats to tell them apart, there would be more than 20,000,000 events (says how many), or stamps
        would pass 2^62.
    TypeError
        If frames or thresholds are no real numbers, or the period is not whole.

    Examples
    --------
    >>> import numpy as np
    >>> delta_events(np.array([[0.0], [1.0], [0.5]]), 0.5, 1_000)
    TokenStream(token=array([1, 1, 0]), stamp=array([ 250,  750, 1500]))
    """
    signal, thresholds, period, crossed = _checked(frames, threshold, frame_period, stamps)
    if not signal.size:
        return TokenStream(np.empty(0, np.int64), np.empty(0, np.int64))
    # A line of length l meets at most l / theta + 1 levels; one more for the rounding.
    capacity = int(crossed) + 2 * signal.size
    rows = np.empty((capacity, 2), np.int64)
    count = _walk(signal, thresholds, period, stamps == "frame", rows)
    assert count <= capacity
    sort_by_time(rows, np.empty_like(rows), count, _STAMP)
    return TokenStream(rows[:count, _TOKEN].copy(), rows[:count, _STAMP].copy())


def reconstruct(
    stream: TokenStream,
    first: Real[np.ndarray, " channel"],
    threshold: float | Float[np.ndarray, " channel"],
    frame_period: int,
    frames: int,
) -> Float[np.ndarray, "time channel"]:
    """Decode events: the level last reported by each channel, at each frame.

    Parameters
    ----------
    stream
        What `delta_events` returned.
    first
        First frame of the signal, (channel,).
    threshold, frame_period
        As given to `delta_events`.
    frames
        How many frames.

    Returns
    -------
    signal
        (time, channel) float64, within half a threshold of the encoded signal.

    Raises
    ------
    ValueError
        If a token belongs to no channel, or a stamp is negative or falls (names the first such event), or an
        argument is of another shape or range.
    TypeError
        If tokens, stamps, period or number of frames are no integers.
    """
    start = _real(first, "first")
    if start.ndim != 1:
        raise ValueError(f"first must be (channel,), got shape {start.shape}")
    _check_finite(start, "first")
    thresholds = _checked_thresholds(threshold, len(start))
    period, count = _checked_period(frame_period), whole(frames, "frames")
    if count < 0:
        raise ValueError(f"frames must be >= 0, got {count}")
    token = column(stream[0], "token")
    stamp = column(stream[1], "stamp", token)
    outside = (token < 0) | (token >= 2 * len(start))
    if outside.any():
        at = int(outside.argmax())
        raise ValueError(f"token[{at}] must be in 0..{2 * len(start) - 1}, got {token[at]}")
    check_rising(stamp, "stamp")
    if len(stamp) and stamp[0] < 0:
        raise ValueError(f"stamp[0] must be >= 0, got {stamp[0]}")
    moves = np.zeros((count, len(start)), np.int64)
    at_frame = -(-stamp // period)  # the first frame that knows of the event
    seen = at_frame < count
    np.add.at(moves, (at_frame[seen], token[seen] // 2), 2 * (token[seen] % 2) - 1)
    return start + moves.cumsum(axis=0) * thresholds


def delta_events_reference(
    frames: Real[np.ndarray, "time channel"],
    threshold: float | Float[np.ndarray, " channel"],
    frame_period: int,
    *,
    stamps: Literal["interpolated", "frame"] = "interpolated",
) -> TokenStream:
    """Readable twin of `delta_events`."""
    signal, thresholds, period, _ = _checked(frames, threshold, frame_period, stamps)
    found: list[tuple[int, int]] = []  # (stamp, token)
    for channel, (values, theta) in enumerate(zip(signal.T, thresholds, strict=True)):
        count = 0
        for i, (before, now) in enumerate(pairwise(values)):
            while not values[0] + (count - 0.5) * theta <= now < values[0] + (count + 0.5) * theta:
                move = 1 if now > before else -1
                count += move
                level = values[0] + (count - 0.5 * move) * theta
                way = (level - before) / (now - before) if stamps == "interpolated" else 1
                stamp = i * period + min(max(math.ceil(period * way), 1), period)
                found.append((stamp, 2 * channel + (move + 1) // 2))
    found.sort(key=lambda event: (event[0], event[1] // 2))
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return TokenStream(pairs[:, 1], pairs[:, 0])


def _checked(
    frames: Any, threshold: Any, frame_period: Any, stamps: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], int, float]:
    """Signal, thresholds by channel, period, and the way of the signal in thresholds."""
    signal = np.ascontiguousarray(_real(frames, "frames"))
    if np.ndim(frames) != 2:
        raise ValueError(f"frames must be (time, channel), got shape {np.shape(frames)}")
    _check_finite(signal, "frames")
    thresholds = _checked_thresholds(threshold, signal.shape[1])
    if stamps not in ("interpolated", "frame"):
        raise ValueError(f"stamps must be 'interpolated' or 'frame', got {stamps!r}")
    period, steps = _checked_period(frame_period), max(len(signal) - 1, 1)
    if steps * period > _LONGEST:
        raise ValueError(
            f"frame_period must be at most {_LONGEST // steps} us for {len(signal)} frames, got {period}"
        )
    thresholds = _checked_levels(signal, thresholds) if signal.size else thresholds
    with np.errstate(over="ignore"):
        crossed = float((np.abs(signal[1:] - signal[:-1]) / thresholds).sum())
    if not crossed <= MOST_EVENTS:
        raise ValueError(
            f"threshold must be larger: this signal makes about {crossed:.3g} events, at most "
            f"{MOST_EVENTS:,} are encoded in one call"
        )
    return signal, thresholds, period, crossed


def _checked_levels(signal: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds that floats resolve; a channel that never moves gets one that is out of its reach."""
    low, high = signal.min(0), signal.max(0)
    largest, moving = np.maximum(-low, high), low < high
    least = FINENESS * np.spacing(largest)
    blurred = moving & (thresholds < least)
    if blurred.any():
        at = int(blurred.argmax())
        raise ValueError(
            f"threshold must be at least {least[at]:.3g} for a channel that reaches {largest[at]:.6g}, where "
            f"floats cannot tell closer levels apart, got {thresholds[at]}"
        )
    return np.where(moving, thresholds, np.inf)


def _checked_period(frame_period: Any) -> int:
    period = whole(frame_period, "frame_period")
    if period < 1:
        raise ValueError(f"frame_period must be >= 1 us, got {period}")
    return period


def _real(values: Any, name: str) -> NDArray[np.float64]:
    given = np.asarray(values)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers, got {given.dtype}")
    return given.astype(np.float64, copy=False)


def _check_finite(values: NDArray[np.float64], name: str) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        at = np.unravel_index(int(bad.argmax()), bad.shape)
        place = ", ".join(str(int(index)) for index in at)
        raise ValueError(f"{name} must be finite, got {values[at]} at [{place}]")


def _checked_thresholds(threshold: Any, channels: int) -> NDArray[np.float64]:
    given = _real(threshold, "threshold")
    if given.shape not in ((), (channels,)):
        raise ValueError(f"threshold must be a number or (channel,) = ({channels},), got shape {given.shape}")
    bad = ~(np.isfinite(given) & (given > 0))
    if bad.any():
        raise ValueError(f"threshold must be > 0 and finite, got {given.ravel()[int(bad.argmax())]}")
    return np.broadcast_to(given, (channels,)).copy()
