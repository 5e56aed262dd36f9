"""One stream of events, of channels or of pixels: what is accepted, and how a part of it is taken.

| kind | what it is | type |
|---|---|---|
| channels | tokens and stamps, both (event,) int64 | `TokenStream`, or a plain pair |
| pixels | (event,) of dtype `EVENT`: x, y, t, p | structured array |

Stamps are whole microseconds, never falling. They are held to 2^52 (143 years) on either side of zero: there
every whole number is a float64, and sums and products stay 64-bit integers. Stamps in nanoseconds since 1970
are found by that.
"""

import math
from numbers import Real
from typing import Any, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from eventbook.kernels.encoders import TokenStream
from eventbook.kernels.encoders.arguments import MOST_EVENTS, check_rising, column, whole
from eventbook.kernels.encoders.events import EVENT, Events, require_event_dtype

MOST_STAMP = 1 << 52  # microseconds

Stream = TypeVar("Stream", TokenStream, Events)


def checked(stream: Stream, name: str = "stream") -> Stream:
    """The stream, its columns as int64 if it is one of tokens.

    Raises
    ------
    TypeError
        If it is neither a pair (token, stamp) of integers nor an array of dtype `EVENT`.
    ValueError
        If a stamp falls or is beyond 2^52 (names the first), a token is negative, or shapes do not fit.
    """
    if isinstance(stream, np.ndarray) and stream.dtype == EVENT:
        require_event_dtype(stream)  # the shape
        _check_stamps(stream["t"], f"{name} t")
        return stream
    if not isinstance(stream, tuple | list) or len(stream) != 2:
        given = f"dtype {stream.dtype}" if isinstance(stream, np.ndarray) else type(stream).__name__
        raise TypeError(f"{name} must be a pair (token, stamp) or an array of dtype EVENT, got {given}")
    token = column(stream[0], f"{name} token")
    stamp = column(stream[1], f"{name} stamp", token)
    _check_stamps(stamp, f"{name} stamp")
    negative = token < 0
    if negative.any():
        at = int(negative.argmax())
        raise ValueError(f"{name} token[{at}] must be >= 0, got {token[at]}")
    return TokenStream(token, stamp)


def _check_stamps(stamps: NDArray[np.int64], name: str) -> None:
    check_rising(stamps, name)
    for at in (0, -1) if len(stamps) else ():  # they rise: the first and the last are the extremes
        if abs(int(stamps[at])) > MOST_STAMP:
            where = at % len(stamps)
            raise ValueError(f"{name}[{where}] must be within 2^52 us of zero, got {stamps[at]} us")


def stamps_of(stream: Stream) -> NDArray[np.int64]:
    """The stamps, without a copy."""
    return stream["t"] if isinstance(stream, np.ndarray) else stream.stamp


def kept(stream: Stream, mask: NDArray[np.bool_]) -> Stream:
    """A copy of the events where the mask is true."""
    # For events, `compress` and `take` are six and thirteen times as fast as brackets.
    if isinstance(stream, np.ndarray):
        return stream.compress(mask)
    return TokenStream(stream.token.compress(mask), stream.stamp.compress(mask))


def at_stamps(stream: Stream, stamps: NDArray[np.int64]) -> Stream:
    """A copy at other stamps, sorted by them; what is simultaneous keeps its order."""
    order = stamps.argsort(kind="stable")
    if isinstance(stream, np.ndarray):
        moved = stream.take(order)
        moved["t"] = stamps.take(order)
        return moved
    return TokenStream(stream.token.take(order), stamps.take(order))


# --- strengths ---------------------------------------------------------------------------------------------


def check_probability(value: float, name: str) -> None:
    """Accept 0..1."""
    check_range(value, name, 0.0, 1.0)


def check_range(value: Any, name: str, least: float, most: float) -> None:
    """Accept a finite number from `least` to `most`; TypeError if it is no real number."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (math.isfinite(value) and least <= float(value) <= most):
        expected = f">= {least:g} and finite" if math.isinf(most) else f"in {least:g}..{most:g}"
        raise ValueError(f"{name} must be {expected}, got {value}")


def check_most(value: int, name: str) -> None:
    """Accept a number of events to add."""
    if not 0 <= whole(value, name) <= MOST_EVENTS:
        raise ValueError(f"{name} must be in 0..{MOST_EVENTS:,}, got {value}")


def check_rng(rng: Generator) -> None:
    """Accept a generator of NumPy: not a seed, nor the module with its hidden state."""
    if not isinstance(rng, Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {type(rng).__name__}")
