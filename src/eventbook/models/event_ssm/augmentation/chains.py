r"""Augmentations of one stream of events: fewer events, later, elsewhere, and some that were never there.

    channels: drop events, drop a chunk, jitter channels, skew time, jitter time, add noise
    pixels:   drop a chunk, drop events, add noise, skew time, jitter time, jitter pixels, roll, rotate, scale

| step | what it does | strength |
|---|---|---|
| drop events | each is left out, independently | probability |
| drop chunk | with a probability, one run of 1..floor(largest n) of the n events | share of the events |
| jitter channels | channel + N(0, std^2), rounded | std, channels |
| skew time | t_0 + c (t - t_0), c ~ U(1/skew, skew), rounded | skew >= 1 |
| jitter time | t + N(0, std^2), rounded, not before t_0, sorted anew | std, microseconds |
| noise | n ~ U{0..most} events, uniform over the sensor and from t_0 to the last stamp | most, events |
| jitter pixels | x and y + N(0, variance), rounded | variance, pixels^2 |
| roll | with a probability, all by one vector, U{-pixels..pixels} along each axis | pixels |
| rotate | with a probability, about the sensor's centre by U(-degrees, degrees) | degrees |
| scale | with a probability, about the sensor's centre by U(1/factor, factor) | factor >= 1 |

t_0 is the first stamp. Every step keeps these promises:

- Stamps stay whole microseconds, never fall, and never begin before t_0. Shifted stamps give the same result,
  shifted: no step knows where a recording put its zero.
- An event that leaves the sensor is removed; what comes back has no token out of range.
- An empty stream stays empty. A single event passes through.
- The argument is left as it was. What is returned may share its memory where there was nothing to do.

The named strengths `SHD`, `SSC` and `DVS` are those of the released configurations. Where a step departs from
the released one, it says so.

Source: Schoene et al., arXiv:2404.18508, its released code (transform.py, dataloading.py, configs/task) and
tonic 1.7, whose steps that code calls.
"""

import math
from dataclasses import dataclass

from numpy.random import Generator

from eventbook.kernels.encoders import TokenStream
from eventbook.kernels.encoders.events import Events
from eventbook.models.event_ssm.augmentation.pixels import (
    MOST_SCALE,
    add_pixel_noise,
    check_pixels,
    jitter_pixels,
    map_pixels,
    roll,
    rotate,
    scale,
)
from eventbook.models.event_ssm.augmentation.steps import (
    MOST_SKEW,
    Rounding,
    add_channel_noise,
    check_rounding,
    drop_chunk,
    drop_events,
    jitter_channels,
    jitter_time,
    skew_time,
)
from eventbook.models.event_ssm.augmentation.streams import (
    MOST_STAMP,
    check_most,
    check_probability,
    check_range,
)

__all__ = [
    "DVS",
    "SHD",
    "SSC",
    "ChannelAugmentation",
    "PixelAugmentation",
    "add_channel_noise",
    "add_pixel_noise",
    "drop_chunk",
    "drop_events",
    "jitter_channels",
    "jitter_pixels",
    "jitter_time",
    "map_pixels",
    "roll",
    "rotate",
    "scale",
    "skew_time",
]


@dataclass(frozen=True)
class ChannelAugmentation:
    """Strengths of the chain for channels; a call applies it to one stream.

    Raises
    ------
    ValueError
        If a strength makes no sense; names the field.
    """

    drop: float
    chunk: float
    channel_jitter: float  # standard deviation
    skew: float
    time_jitter: float  # microseconds
    noise: int
    rounding: Rounding = "nearest"
    chunk_probability: float = 0.3

    def __post_init__(self) -> None:
        for name in ("drop", "chunk", "chunk_probability"):
            check_probability(getattr(self, name), name)
        check_range(self.channel_jitter, "channel_jitter", 0.0, math.inf)
        check_range(self.skew, "skew", 1.0, MOST_SKEW)
        check_range(self.time_jitter, "time_jitter", 0.0, MOST_STAMP)
        check_most(self.noise, "noise")
        check_rounding(self.rounding)

    def __call__(self, stream: TokenStream, n_tokens: int, rng: Generator, kinds: int = 1) -> TokenStream:
        """The augmented stream; n_tokens and kinds are those of `jitter_channels`."""
        stream = drop_events(stream, self.drop, rng)
        stream = drop_chunk(stream, self.chunk_probability, self.chunk, rng)
        stream = jitter_channels(
            stream, n_tokens, self.channel_jitter, rng, rounding=self.rounding, kinds=kinds
        )
        stream = skew_time(stream, self.skew, rng)
        stream = jitter_time(stream, self.time_jitter, rng)
        return add_channel_noise(stream, n_tokens, self.noise, rng)


@dataclass(frozen=True)
class PixelAugmentation:
    """Strengths of the chain for pixels; a call applies it to one stream. Errors as above."""

    drop: float
    chunk: float
    noise: int
    skew: float
    time_jitter: float  # microseconds
    pixel_jitter: float  # variance
    roll: int  # pixels
    rotate: float  # degrees
    scale: float
    chunk_probability: float = 0.3
    roll_probability: float = 0.3
    rotate_probability: float = 0.3
    scale_probability: float = 0.3

    def __post_init__(self) -> None:
        steps = ("chunk", "roll", "rotate", "scale")
        for name in ("drop", "chunk", *(f"{step}_probability" for step in steps)):
            check_probability(getattr(self, name), name)
        check_most(self.noise, "noise")
        check_range(self.skew, "skew", 1.0, MOST_SKEW)
        check_range(self.time_jitter, "time_jitter", 0.0, MOST_STAMP)
        check_range(self.pixel_jitter, "pixel_jitter", 0.0, math.inf)
        check_pixels(self.roll, "roll")
        check_range(self.rotate, "rotate", 0.0, 360.0)
        check_range(self.scale, "scale", 1.0, MOST_SCALE)

    def __call__(self, events: Events, width: int, height: int, rng: Generator) -> Events:
        """The augmented events."""
        events = drop_chunk(events, self.chunk_probability, self.chunk, rng)
        events = drop_events(events, self.drop, rng)
        events = add_pixel_noise(events, width, height, self.noise, rng)
        events = skew_time(events, self.skew, rng)
        events = jitter_time(events, self.time_jitter, rng)
        events = jitter_pixels(events, width, height, self.pixel_jitter, rng)
        events = roll(events, width, height, self.roll_probability, self.roll, rng)
        events = rotate(events, width, height, self.rotate_probability, self.rotate, rng)
        return scale(events, width, height, self.scale_probability, self.scale, rng)


# The channel jitter was chosen with a cast towards zero: to the nearest channel, 0.55 would move five times
# as many events. The strengths come with the rounding that they were chosen for.
SHD = ChannelAugmentation(
    drop=0.1, chunk=0.02, channel_jitter=0.55, skew=1.2, time_jitter=1.0, noise=35, rounding="towards_zero"
)
SSC = ChannelAugmentation(
    drop=0.1, chunk=0.02, channel_jitter=1.0, skew=1.05, time_jitter=3.0, noise=100, rounding="towards_zero"
)
DVS = PixelAugmentation(
    drop=0.05,
    chunk=0.02,
    noise=0,
    skew=1.12,
    time_jitter=5.0,
    pixel_jitter=0.3,
    roll=32,
    rotate=10.0,
    scale=1.2,
)
