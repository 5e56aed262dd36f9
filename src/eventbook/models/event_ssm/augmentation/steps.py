r"""Steps of augmentation that need no picture: fewer events, another time, and channels.

    t' = t_0 + round(c (t - t_0)),  c ~ U(1/skew, skew)         skew
    t' = max(t_0, t + round(N(0, std^2))),  sorted              jitter in time
    channel' = channel + round(N(0, std^2)),  off the sensor: removed

| symbol | meaning | shape | name |
|---|---|---|---|
| t | time stamp, microseconds; t_0 the first | (event,) int64 | `stamp` |
| - | token = kinds channel + kind | (event,) int64 | `token` |
| c | one factor a stream | number | `skew` is its largest |

What all steps keep stands in `augmentations`. Errors: a strength out of range, a stream that is none.

Source: Schoene et al., arXiv:2404.18508, its released code (transform.py, dataloading.py) and tonic 1.7.
"""

import math
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from eventbook.kernels.encoders import TokenStream
from eventbook.kernels.encoders.arguments import whole
from eventbook.models.event_ssm.augmentation.streams import (
    MOST_STAMP,
    Stream,
    at_stamps,
    check_most,
    check_probability,
    check_range,
    check_rng,
    checked,
    kept,
    stamps_of,
)

Rounding = Literal["nearest", "towards_zero"]

MOST_SKEW = 100.0  # stamps span at most 2^53, their products stay integers of 64 bits


# --- fewer events ------------------------------------------------------------------------------------------


def drop_events(stream: Stream, probability: float, rng: Generator) -> Stream:
    """Leave out each event with this probability, independently of the others.

    tonic, and with it the released code, leaves out round(probability n) events, no more and no less.
    """
    given = checked(stream)
    check_probability(probability, "probability")
    check_rng(rng)
    return kept(given, rng.random(len(stamps_of(given))) >= probability)


def drop_chunk(stream: Stream, probability: float, largest: float, rng: Generator) -> Stream:
    """With a probability, leave out one run of neighbours.

    Parameters
    ----------
    stream
        Of channels or pixels.
    probability
        That anything is dropped.
    largest
        Share of the events: the run has 1..floor(largest n), uniformly, and any place. Where the floor is 0,
        nothing is dropped.

    Notes
    -----
    The released sizes are 1..floor(largest n) - 1, and fail where there is none (at 0.02, below 100 events);
    the released run never holds the last event.
    """
    given = checked(stream)
    check_probability(probability, "probability")
    check_probability(largest, "largest")
    check_rng(rng)
    count = len(stamps_of(given))
    most = int(largest * count)
    if rng.random() >= probability or not most:
        return given
    size = int(rng.integers(1, most, endpoint=True))
    start = int(rng.integers(0, count - size, endpoint=True))
    left = np.ones(count, bool)
    left[start : start + size] = False
    return kept(given, left)


# --- time --------------------------------------------------------------------------------------------------


def skew_time(stream: Stream, skew: float, rng: Generator) -> Stream:
    """Stretch the time since the first event by one factor, U(1/skew, skew).

    The factor is uniform, as released, so that its mean (skew + 1/skew) / 2 is above 1. The released code
    stretches the time since zero, which moves a slice of a long recording by seconds, and rounds down.
    """
    given = checked(stream)
    check_range(skew, "skew", 1.0, MOST_SKEW)
    check_rng(rng)
    stamps = stamps_of(given)
    factor = rng.uniform(1.0 / skew, skew)
    if not len(stamps):
        return given
    # Rounding is monotone: stamps that rise still do.
    return at_stamps(given, stamps[0] + np.rint((stamps - stamps[0]) * factor).astype(np.int64))


def jitter_time(stream: Stream, std: float, rng: Generator) -> Stream:
    """Move each event in time by N(0, std^2) microseconds, and sort.

    What would come before the first stamp of the stream is put there. The released code lets stamps become
    negative, and rounds towards zero: half a microsecond early on average.
    """
    given = checked(stream)
    check_range(std, "std", 0.0, MOST_STAMP)
    check_rng(rng)
    stamps = stamps_of(given)
    if not len(stamps):
        return given
    moved = stamps + np.rint(rng.normal(0.0, std, len(stamps))).astype(np.int64)
    return at_stamps(given, np.maximum(moved, stamps[0]))


# --- channels ----------------------------------------------------------------------------------------------


def jitter_channels(
    stream: TokenStream,
    n_tokens: int,
    std: float,
    rng: Generator,
    *,
    rounding: Rounding = "nearest",
    kinds: int = 1,
) -> TokenStream:
    """Move each event along the channels by N(0, std^2); those pushed off the sensor are removed.

    Parameters
    ----------
    stream
        Tokens in 0..n_tokens - 1, and stamps.
    n_tokens
        Size of the token map.
    std
        In channels. The released argument is called `var`, and used as a standard deviation.
    rounding
        "nearest", or "towards_zero" as released: there only what moves by a whole channel moves at all.
    kinds
        Tokens of one channel: token = kinds channel + kind, as 2 channel + (up or down) of `delta_events`.
        The kind stays.

    Examples
    --------
    How many of 100,000 events move at the released strength of SHD, in per cent: the cast takes most of them.

    >>> import numpy as np
    >>> stream = (np.full(100_000, 350), np.arange(100_000))
    >>> for rounding in ("nearest", "towards_zero"):
    ...     token, _ = jitter_channels(stream, 700, 0.55, np.random.default_rng(0), rounding=rounding)
    ...     print(rounding, round(100 * float((token != 350).mean())))
    nearest 36
    towards_zero 7
    """
    given = _checked_channels(stream, n_tokens, kinds)
    check_range(std, "std", 0.0, math.inf)
    check_rng(rng)
    check_rounding(rounding)
    shift = rng.normal(0.0, std, len(given.token))
    moved = given.token + kinds * (np.rint(shift) if rounding == "nearest" else np.trunc(shift))
    # Compared as floats: what is far off the sensor may be beyond the integers.
    inside = (moved >= 0) & (moved < n_tokens)
    return TokenStream(moved[inside].astype(np.int64), given.stamp[inside])


def add_channel_noise(stream: TokenStream, n_tokens: int, most: int, rng: Generator) -> TokenStream:
    """Add n ~ U{0..most} events of any token, at whole microseconds from the first to the last stamp.

    An empty stream has no such time and gets none. The released n is in 0..most - 1.
    """
    given = _checked_channels(stream, n_tokens, 1)
    noise = noise_stamps(given.stamp, most, rng)
    token = np.concatenate([given.token, rng.integers(0, n_tokens, len(noise))])
    stamp = np.concatenate([given.stamp, noise])
    return at_stamps(TokenStream(token, stamp), stamp)


def noise_stamps(stamps: NDArray[np.int64], most: int, rng: Generator) -> NDArray[np.int64]:
    """Stamps of n ~ U{0..most} noise events, none for a stream without events."""
    check_most(most, "most")
    check_rng(rng)
    count = int(rng.integers(0, most, endpoint=True))
    if not len(stamps):
        return np.empty(0, np.int64)
    return rng.integers(stamps[0], stamps[-1], count, endpoint=True)


def check_rounding(rounding: str) -> None:
    """Accept the two words."""
    if rounding not in ("nearest", "towards_zero"):
        raise ValueError(f"rounding must be 'nearest' or 'towards_zero', got {rounding!r}")


def _checked_channels(stream: TokenStream, n_tokens: int, kinds: int) -> TokenStream:
    """A stream of tokens below n_tokens."""
    given = checked(stream)
    if not isinstance(given, TokenStream):
        raise TypeError("stream must be a pair (token, stamp), got an array of dtype EVENT")
    if not 1 <= whole(n_tokens, "n_tokens") <= MOST_STAMP:  # so that every token is a float64
        raise ValueError(f"n_tokens must be in 1..2^52, got {n_tokens}")
    if whole(kinds, "kinds") < 1 or n_tokens % kinds:
        raise ValueError(f"kinds must be >= 1 and divide n_tokens = {n_tokens}, got {kinds}")
    outside = given.token >= n_tokens
    if outside.any():
        at = int(outside.argmax())
        raise ValueError(f"stream token[{at}] must be in 0..{n_tokens - 1}, got {given.token[at]}")
    return given
