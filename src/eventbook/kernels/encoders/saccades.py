r"""Saccade events: what an event camera sees of a still image when it makes three small eye movements.

The path of the gaze is an isosceles triangle, one side in a third of the duration, at constant speed:

    d(tau) along  A (-1/2, 1/2) -> A (0, -1/2) -> A (1/2, 1/2) -> A (-1/2, 1/2)

A pixel (x, y) of the sensor sees the image at (x - M + d_x, y - M + d_y), interpolated bilinearly on a black
surround, and reports the crossings of levels (see `levels`) of

    s = ln(epsilon + I),    I in 0..1.

| symbol | meaning | value or shape | name |
|---|---|---|---|
| I | image, uint8 0..255 or float 0..1 | (height, width) | `image` |
| M | rim of the sensor around the image: 28 x 28 is seen on 34 x 34 | 3 pixels | `MARGIN` |
| A | base and height of the triangle | 3 pixels | `AMPLITUDE` |
| epsilon | intensity of black: bounds the contrast, ln(1 + 1/epsilon) from black to white | 0.16 | `BLACK` |
| theta | change of s that makes an event | 0.25 | `threshold` |
| - | step of the simulation | 1,000 us | `STEP` |

The protocol, its three saccades of 100 ms, the sensor and the triangle are N-MNIST's. `BLACK` and `AMPLITUDE`
are ours, chosen so that MNIST gives about 3,300 events an image; the real camera's speed profile, noise and
blind time after an event are not simulated. These are real images and **simulated** events.

The kernel walks pixel by pixel, with time inside: most pixels of a digit never see anything but black and are
skipped whole, and the next levels are kept as intensities, so that a logarithm is taken where there is an
event and not at each step. Events then come out in raster order and are sorted by time once.

Source: Orchard, Jayawant, Cohen and Thakor, Frontiers in Neuroscience 9:437, 2015.
"""
# mypy: disable-error-code="no-untyped-def, call-arg"
# Kernels are typed by Numba, at every call.

import math
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, Real
from numpy.typing import NDArray

from eventbook.kernels.encoders.arguments import MOST_EVENTS, whole
from eventbook.kernels.encoders.events import EVENT, FIELDS, Events, events_of_rows
from eventbook.kernels.encoders.levels import FINENESS, crossing_stamp, next_move
from eventbook.kernels.encoders.order import sort_by_time
from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.random import derive, random_bits, uniform

MARGIN = 3
AMPLITUDE = 3.0
BLACK = 0.16
STEP = 1_000
CORNERS = AMPLITUDE * np.array([[-0.5, 0.5], [0.0, -0.5], [0.5, 0.5], [-0.5, 0.5]])  # (x, y)

_RIM = math.ceil(AMPLITUDE / 2) + 1  # black pixels around the sensor that interpolation may touch
_NOISE = 0x6E6F6973  # keeps this noise apart from other uses of the same seed
_T = FIELDS.index("t")
_MICRO = 1e6
_DOUBT = 1e-12  # relative; thousands of times the rounding of exp and log
_CONTRAST = math.log1p(1.0 / BLACK)  # from black to white
_FINEST = FINENESS * float(np.spacing(-math.log(BLACK)))  # where s is largest
_TURNS = 40  # there and back in each of the cells between pixels, of which the path crosses less than 20
_LONGEST = 1_000_000_000  # microseconds

Stamps = Literal["interpolated", "grid"]


@kernel(inline=True)
def _seen(padded, y, x, fy, fx):
    """Bilinear interpolation at (y + fy, x + fx)."""
    above = (1.0 - fx) * padded[y, x] + fx * padded[y, x + 1]
    below = (1.0 - fx) * padded[y + 1, x] + fx * padded[y + 1, x + 1]
    return (1.0 - fy) * above + fy * below


@kernel(inline=True)
def _changes(padded, y, x, reach):
    """Whether the pixel can ever see two different intensities."""
    for row in range(y, y + reach):
        for column in range(x, x + reach):
            if padded[row, column] != padded[y, x]:
                return True
    return False


@kernel(inline=True)
def _quiet(base, count, threshold):
    """Between these values of epsilon + I there is certainly no event; beyond, a logarithm decides."""
    level = base + count * threshold
    return np.exp(level - threshold) * (1.0 + _DOUBT), np.exp(level + threshold) * (1.0 - _DOUBT)


@kernel(inline=True)
def _write(out, at, x, y, t, p):
    # Beyond the capacity events are only counted: the caller then comes back with enough room.
    if at < out.shape[0]:
        out[at, 0], out[at, 1], out[at, 2], out[at, 3] = x, y, t, p


@kernel()
def _levels_crossed(padded, gaze_at, part, threshold):
    """How far each pixel's s goes up and down, in thresholds, summed over pixels; arrays as in `_walk`."""
    total = 0.0
    for y in range(padded.shape[0] - 2 * _RIM):
        for x in range(padded.shape[1] - 2 * _RIM):
            if _changes(padded, y, x, 2 * _RIM):
                before = 0.0
                for i in range(gaze_at.shape[0]):
                    seen = _seen(padded, y + gaze_at[i, 1], x + gaze_at[i, 0], part[i, 1], part[i, 0])
                    now = np.log(BLACK + seen)
                    if i > 0:
                        total += abs(now - before) / threshold
                    before = now
    return total


@kernel()
def _walk(padded, whole, part, threshold, on_grid, noise_rate, key, out):
    """Events of one image in raster order of pixels.

    padded: (height + 2 rims, width + 2 rims) float64; whole, part: (steps + 1, 2), where the gaze is, (x, y);
    noise_rate: events per pixel and microsecond; out: (capacity, 4) int64. Returns the number of events.
    """
    reach = 2 * _RIM
    steps = whole.shape[0] - 1
    width = padded.shape[1] - 2 * _RIM
    total = 0
    for y in range(padded.shape[0] - 2 * _RIM):
        for x in range(width):
            if _changes(padded, y, x, reach):
                before = BLACK + _seen(padded, y + whole[0, 1], x + whole[0, 0], part[0, 1], part[0, 0])
                base = np.log(before)
                count = 0
                low, high = _quiet(base, count, threshold)
                for i in range(1, steps + 1):
                    now = BLACK + _seen(padded, y + whole[i, 1], x + whole[i, 0], part[i, 1], part[i, 0])
                    if not low < now < high:
                        begin = (i - 1) * STEP
                        move = next_move(np.log(now), base, count, threshold)
                        while move != 0:
                            count += move
                            t = begin + STEP
                            if not on_grid:
                                level = base + count * threshold
                                t = crossing_stamp(level, np.log(before), np.log(now), begin, STEP)
                            _write(out, total, x, y, t, (move + 1) // 2)
                            total += 1
                            move = next_move(np.log(now), base, count, threshold)
                        low, high = _quiet(base, count, threshold)
                    before = now
            if noise_rate > 0.0:
                own = derive(key, y * width + x)
                draw = 0
                t = -np.log(1.0 - uniform(own, draw)) / noise_rate
                while t < steps * STEP:
                    unit = STEP if on_grid else 1
                    stamp = max(1, int(np.ceil(t / unit))) * unit
                    _write(out, total, x, y, stamp, np.int64(random_bits(own, draw + 1) & np.uint64(1)))
                    total += 1
                    draw += 2
                    t += -np.log(1.0 - uniform(own, draw)) / noise_rate
    return total


def gaze(duration: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where the gaze is at each step: whole pixels counted from the rim, and the part of a pixel beyond.

    Returns
    -------
    whole, part
        (steps + 1, 2) int64 and float64 in [0, 1), columns x and y.
    """
    turns = 3.0 * np.arange(duration // STEP + 1) / (duration // STEP)
    side = np.minimum(turns.astype(np.int64), 2)
    at = CORNERS[side] + (turns - side)[:, None] * (CORNERS[side + 1] - CORNERS[side]) + _RIM
    whole = np.floor(at).astype(np.int64)
    return whole, at - whole


def saccade_events(
    image: Real[np.ndarray, "height width"],
    *,
    threshold: float = 0.25,
    stamps: Stamps = "interpolated",
    duration: int = 300_000,
    noise_rate: float = 0.0,
    seed: int | None = None,
) -> Events:
    """Simulate the events of three saccades over an image.

    Parameters
    ----------
    image
        (height, width), uint8 in 0..255 or floating point in 0..1.
    threshold
        Change of log intensity that makes an event, at least 8.9e-16, or floats cannot tell levels apart.
    stamps
        "interpolated": the crossing inside a step, by a straight line, rounded up to the microsecond.
        "grid": the end of the step; then nearly all events share their stamp with another one.
    duration
        Of the three saccades together, in microseconds; a multiple of the step of 1,000, at most 1,000 s.
        Shorter is faster, not less. The events with t <= duration / 3 belong to the first saccade.
    noise_rate
        Background events per pixel and second, a Poisson process with random polarity, independent of the
        image.
    seed
        Of the noise, in 0..2^64 - 1; required if, and only if, there is noise. The rest draws no random
        number.

    Returns
    -------
    events
        (event,) of dtype `EVENT`, sorted by time, ties in raster order; on a sensor of
        (height + 6) x (width + 6) pixels.

    Raises
    ------
    ValueError
        If the image is not two-dimensional or has a value that is not finite or outside its range, a
        parameter makes no sense, or there would be more than 20,000,000 events (says about how many).
    TypeError
        If the image is of another dtype, or a number is not whole.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((28, 28), np.uint8)
    >>> len(saccade_events(image))
    0
    >>> image[10:18, 10:18] = 255
    >>> events = saccade_events(image)
    >>> int(events["t"].min()) > 0, int(events["t"].max()) <= 300_000
    (True, True)
    """
    images = np.asarray(image)
    if images.ndim != 2:
        raise ValueError(f"image must be (height, width), got shape {images.shape}")
    return saccade_events_batch(
        images[None], threshold=threshold, stamps=stamps, duration=duration, noise_rate=noise_rate, seed=seed
    )[0]


def saccade_events_batch(
    images: Real[np.ndarray, "image height width"],
    *,
    threshold: float = 0.25,
    stamps: Stamps = "interpolated",
    duration: int = 300_000,
    noise_rate: float = 0.0,
    seed: int | None = None,
    first: int = 0,
) -> tuple[Events, Int[np.ndarray, " image_plus_1"]]:
    """Simulate the events of many images, as `saccade_events` does for one.

    Parameters
    ----------
    images
        (image, height, width), uint8 in 0..255 or floating point in 0..1.
    first
        Number of the first image in a larger set: its noise depends on the number, so that a set gives the
        same events in any division into batches.

    Other parameters and errors are those of `saccade_events`.

    Returns
    -------
    events
        (event,) of dtype `EVENT`, image after image.
    offsets
        (image + 1,) int64: image i has events[offsets[i]:offsets[i + 1]].
    """
    padded = _checked_images(images)
    _check_parameters(threshold, stamps, duration, noise_rate, seed, first)
    at, part = gaze(duration)
    _check_number_of_events(padded, at, part, threshold, noise_rate)
    capacity = 8 * padded.shape[1] * padded.shape[2]
    rows = np.empty((capacity, len(FIELDS)), np.int64)
    scratch = np.empty_like(rows)
    parts, offsets = [], np.zeros(len(padded) + 1, np.int64)
    for i, picture in enumerate(padded):
        key = noise_key(seed, first + i)
        given = (picture, at, part, float(threshold), stamps == "grid", noise_rate / _MICRO, key)
        count = _walk(*given, rows)
        if count > len(rows):
            rows = np.empty((count, len(FIELDS)), np.int64)
            scratch = np.empty_like(rows)
            _walk(*given, rows)
        sort_by_time(rows, scratch, count, _T)
        parts.append(rows[:count].copy())
        offsets[i + 1] = offsets[i] + count
    return events_of_rows(np.concatenate(parts)) if parts else np.empty(0, EVENT), offsets


def noise_key(seed: int | None, number: int) -> np.uint64:
    """Key of the noise of image `number`; nothing is drawn from it if there is no noise."""
    if seed is None:
        return np.uint64(0)
    # Called from Python, a kernel returns a plain int, and takes one only below 2^63.
    return np.uint64(derive(np.uint64(derive(np.uint64(seed), _NOISE)), number))


def _checked_images(images: NDArray[Any]) -> NDArray[np.float64]:
    """Intensities in 0..1, (image, height, width) with the sensor's margin and the rim in black."""
    images = np.asarray(images)
    if images.ndim != 3:
        raise ValueError(f"images must be (image, height, width), got shape {images.shape}")
    if images.dtype == np.uint8:
        intensity = images / 255.0
    elif images.dtype.kind == "f":
        intensity = images.astype(np.float64)
        bad = ~((intensity >= 0.0) & (intensity <= 1.0))  # also true of NaN
        if bad.any():
            at = np.unravel_index(int(bad.argmax()), bad.shape)
            place = ", ".join(str(int(index)) for index in at)
            raise ValueError(f"images must be finite and in 0..1, got {intensity[at]} at [{place}]")
    else:
        raise TypeError(f"images must be uint8 (0..255) or floating point (0..1), got {images.dtype}")
    around = MARGIN + _RIM
    return np.pad(intensity, ((0, 0), (around, around), (around, around)))


def _check_parameters(
    threshold: float, stamps: str, duration: int, noise_rate: float, seed: int | None, first: int
) -> None:
    if not (math.isfinite(threshold) and threshold > 0.0):
        raise ValueError(f"threshold must be > 0 and finite, got {threshold}")
    if threshold < _FINEST:
        raise ValueError(
            f"threshold must be at least {_FINEST:.3g}, or floats cannot tell levels apart, got {threshold}"
        )
    if stamps not in ("interpolated", "grid"):
        raise ValueError(f"stamps must be 'interpolated' or 'grid', got {stamps!r}")
    if whole(duration, "duration") > _LONGEST:
        raise ValueError(f"duration must be at most {_LONGEST:,} us, got {duration}")
    if duration < STEP or duration % STEP:
        raise ValueError(f"duration must be a positive multiple of {STEP} us, got {duration}")
    if not (math.isfinite(noise_rate) and noise_rate >= 0.0):
        raise ValueError(f"noise_rate must be >= 0 and finite, got {noise_rate}")
    if (noise_rate > 0.0) != (seed is not None):
        raise ValueError(f"seed must be given if, and only if, noise_rate > 0, got {seed} for {noise_rate}")
    if seed is not None and not 0 <= whole(seed, "seed") < 1 << 64:
        raise ValueError(f"seed must be in 0..2^64 - 1, got {seed}")
    if not 0 <= whole(first, "first") <= 1 << 62:
        raise ValueError(f"first must be in 0..2^62, got {first}")


def _check_number_of_events(
    padded: NDArray[np.float64],
    at: NDArray[np.int64],
    part: NDArray[np.float64],
    threshold: float,
    noise_rate: float,
) -> None:
    """ValueError if an image makes more than `MOST_EVENTS`; they are counted where there may be so many."""
    pixels = (padded.shape[1] - 2 * _RIM) * (padded.shape[2] - 2 * _RIM)
    noise = noise_rate / _MICRO * (len(at) - 1) * STEP * pixels
    if noise > MOST_EVENTS:
        raise ValueError(
            f"noise_rate must be smaller: it makes about {noise:.3g} events an image, at most "
            f"{MOST_EVENTS:,} are simulated, got {noise_rate}"
        )
    if pixels * _TURNS * _CONTRAST / threshold <= MOST_EVENTS:
        return
    for number, picture in enumerate(padded):
        events = _levels_crossed(picture, at, part, float(threshold))
        if events > MOST_EVENTS:
            raise ValueError(
                f"threshold must be larger: image {number} makes about {events:.3g} events, at most "
                f"{MOST_EVENTS:,} are simulated, got {threshold}"
            )


def saccade_events_reference(
    image: Real[np.ndarray, "height width"],
    *,
    threshold: float = 0.25,
    stamps: Stamps = "interpolated",
    duration: int = 300_000,
    noise_rate: float = 0.0,
    seed: int | None = None,
) -> Events:
    """Readable twin of `saccade_events`: all pixels of one step at a time, in NumPy."""
    padded, *_ = images = _checked_images(np.asarray(image)[None])
    _check_parameters(threshold, stamps, duration, noise_rate, seed, 0)
    gazes, part = gaze(duration)
    _check_number_of_events(images, gazes, part, threshold, noise_rate)
    height, width = (size - 2 * _RIM for size in padded.shape)
    found: list[tuple[int, int, int, int]] = []

    def log_intensity(i: int) -> NDArray[np.float64]:
        (column, row), (fx, fy) = gazes[i], part[i]
        window = padded[row : row + height + 1, column : column + width + 1]
        across = (1.0 - fx) * window[:, :-1] + fx * window[:, 1:]
        return np.log(BLACK + ((1.0 - fy) * across[:-1] + fy * across[1:]))

    base = before = log_intensity(0)
    count = np.zeros(base.shape, np.int64)
    for i in range(1, len(gazes)):
        now = log_intensity(i)
        while True:
            move = 1 * (now >= base + (count + 1) * threshold) - 1 * (now <= base + (count - 1) * threshold)
            y, x = np.nonzero(move)
            if not len(y):
                break
            count += move
            level = base[y, x] + count[y, x] * threshold
            way = np.ceil(STEP * ((level - before[y, x]) / (now[y, x] - before[y, x]))).astype(np.int64)
            if stamps == "grid":
                way[:] = STEP
            t = (i - 1) * STEP + np.clip(way, 1, STEP)
            found += zip(x.tolist(), y.tolist(), t.tolist(), ((move[y, x] + 1) // 2).tolist(), strict=True)
        before = now
    if noise_rate > 0.0:
        found += _noise_reference(height, width, stamps, duration, noise_rate / _MICRO, noise_key(seed, 0))
    # The sort is stable: of one pixel's events at one time, those of the image stay first and in order.
    return np.array(sorted(found, key=lambda event: (event[2], event[1], event[0])), EVENT)


def _noise_reference(
    height: int, width: int, stamps: Stamps, duration: int, rate: float, key: np.uint64
) -> list[tuple[int, int, int, int]]:
    found = []
    for pixel in range(height * width):
        own, draw, t = np.uint64(derive(key, pixel)), 0, 0.0
        while True:
            t -= math.log(1.0 - uniform(own, draw)) / rate
            if t >= duration:
                break
            unit = STEP if stamps == "grid" else 1
            stamp = max(1, math.ceil(t / unit)) * unit
            found.append((pixel % width, pixel // width, stamp, int(random_bits(own, draw + 1)) & 1))
            draw += 2
    return found
