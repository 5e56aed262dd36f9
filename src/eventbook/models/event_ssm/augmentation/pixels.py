r"""Steps of augmentation that move pixels: noise, jitter, and maps of the whole picture.

    (x, y)' = round(centre + M ((x, y) - centre)),     centre = ((width - 1) / 2, (height - 1) / 2)

| symbol | meaning | shape | name |
|---|---|---|---|
| - | events sorted in time, on the sensor | (event,) of dtype `EVENT` | `events` |
| M | rotation or enlargement | (2, 2) | `matrix` |

An event that is mapped off the sensor is removed. Time and polarity stay. What all steps keep stands in
`augmentations`. Errors: a strength out of range, and those of `check_events`.

Source: Schoene et al., arXiv:2404.18508, its released code (transform.py, dataloading.py) and tonic 1.7.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.random import Generator
from numpy.typing import NDArray

from eventbook.kernels.encoders import EVENT, check_events
from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.encoders.events import Events
from eventbook.models.event_ssm.augmentation.steps import noise_stamps
from eventbook.models.event_ssm.augmentation.streams import (
    at_stamps,
    check_probability,
    check_range,
    check_rng,
)

MOST_SCALE = 100.0


def add_pixel_noise(events: Events, width: int, height: int, most: int, rng: Generator) -> Events:
    """Add n ~ U{0..most} events of any pixel and polarity; otherwise as `add_channel_noise`."""
    check_events(events, width, height)
    stamps = noise_stamps(events["t"], most, rng)
    noise = np.empty(len(stamps), EVENT)
    noise["t"] = stamps
    for name, size in (("x", width), ("y", height), ("p", 2)):
        noise[name] = rng.integers(0, size, len(stamps))
    both = np.concatenate([events, noise])
    return at_stamps(both, both["t"])


def jitter_pixels(events: Events, width: int, height: int, variance: float, rng: Generator) -> Events:
    """Move each event by N(0, variance) along both axes; those pushed off the sensor are removed.

    The strength is a variance here, as released, and a standard deviation for channels. The released code
    rounds x + shift down, not the shift: half of all events move by a pixel or more towards smaller x, and
    the picture by half a pixel on average. To the nearest pixel the spread is about the same, 0.38
    pixels^2 at a variance of 0.3, and nothing drifts.
    """
    check_events(events, width, height)
    check_range(variance, "variance", 0.0, math.inf)
    check_rng(rng)
    shift = rng.normal(0.0, math.sqrt(variance), (2, len(events)))
    return _on_sensor(events, events["x"] + np.rint(shift[0]), events["y"] + np.rint(shift[1]), width, height)


def roll(events: Events, width: int, height: int, probability: float, pixels: int, rng: Generator) -> Events:
    """With a probability, move all events by one vector, U{-pixels..pixels} along each axis.

    Called a roll by the released code, but nothing comes back on the other side: events off the sensor are
    removed. The released vector is below `pixels`.
    """
    check_events(events, width, height)
    check_probability(probability, "probability")
    check_pixels(pixels, "pixels")
    check_rng(rng)
    if rng.random() >= probability:
        return events
    right, down = rng.integers(-pixels, pixels, 2, endpoint=True)
    return _on_sensor(events, events["x"] + right, events["y"] + down, width, height)


def rotate(
    events: Events, width: int, height: int, probability: float, degrees: float, rng: Generator
) -> Events:
    """With a probability, turn the picture about its centre by U(-degrees, degrees).

    The released code clips to the sensor's size, one past its end: tokens out of range. Here what leaves the
    sensor is removed, as everywhere.
    """
    check_events(events, width, height)
    check_probability(probability, "probability")
    check_range(degrees, "degrees", 0.0, 360.0)
    check_rng(rng)
    if rng.random() >= probability:
        return events
    angle = math.radians(rng.uniform(-degrees, degrees))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return _mapped(events, width, height, turn)


def scale(
    events: Events, width: int, height: int, probability: float, factor: float, rng: Generator
) -> Events:
    """With a probability, enlarge the picture about its centre by U(1/factor, factor)."""
    check_events(events, width, height)
    check_probability(probability, "probability")
    check_range(factor, "factor", 1.0, MOST_SCALE)
    check_rng(rng)
    if rng.random() >= probability:
        return events
    return _mapped(events, width, height, rng.uniform(1.0 / factor, factor) * np.eye(2))


def map_pixels(events: Events, width: int, height: int, matrix: Float[np.ndarray, "2 2"]) -> Events:
    """Map every (x, y) about the centre of the sensor, and round to the nearest pixel.

    The centre is that of the pixels, ((width - 1) / 2, (height - 1) / 2), so that half a turn is a
    permutation of them. The released code takes (width / 2, height / 2) and rounds down.

    Examples
    --------
    >>> import numpy as np
    >>> corner = np.array([(0, 0, 5, 1)], EVENT)
    >>> map_pixels(corner, 4, 3, -np.eye(2)).tolist()
    [(3, 2, 5, 1)]
    """
    check_events(events, width, height)
    entries = np.asarray(matrix, np.float64)
    if entries.shape != (2, 2) or not (np.abs(entries) <= MOST_SCALE).all():  # also refuses NaN
        raise ValueError(
            f"matrix must be (2, 2) with entries in -{MOST_SCALE:g}..{MOST_SCALE:g}, got {entries.tolist()}"
        )
    return _mapped(events, width, height, entries)


def check_pixels(value: int, name: str) -> None:
    """Accept a whole number of pixels by which nothing overflows."""
    if not 0 <= whole(value, name) < 1 << 31:
        raise ValueError(f"{name} must be in 0..2^31 - 1, got {value}")


def _mapped(events: Events, width: int, height: int, matrix: NDArray[np.float64]) -> Events:
    right, down = (width - 1) / 2, (height - 1) / 2
    x, y = events["x"] - right, events["y"] - down
    (a, b), (c, d) = matrix.tolist()
    return _on_sensor(events, np.rint(a * x + b * y + right), np.rint(c * x + d * y + down), width, height)


def _on_sensor(events: Events, x: NDArray[Any], y: NDArray[Any], width: int, height: int) -> Events:
    """The events at these places, integers of any dtype, without those off the sensor."""
    # Compared before they become integers: what is far off the sensor may be beyond them.
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    moved = events.compress(inside)  # a copy
    moved["x"], moved["y"] = x[inside], y[inside]
    return moved
