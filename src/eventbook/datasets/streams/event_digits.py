"""Spoken digits as events: each cepstral coefficient sends an event when it crosses a level.

    z = (x - mu) / sigma,    levels at z_0 + (k - 1/2) theta,    token = 2 c + (1 up, 0 down)

=========  ======================================================  =======================  ================
symbol     meaning                                                 shape                    name
=========  ======================================================  =======================  ================
x          mel-frequency cepstral coefficients                     (time, 13)
mu, sigma  mean and standard deviation over **training** frames    (13,)
theta      height of a level, in standard deviations               number                   ``threshold``
c          coefficient                                             0..12
-          from frame to frame, microseconds                       24,000                   `FRAME_PERIOD`
=========  ======================================================  =======================  ================

Real speech, **our encoding**: this is neither SHD nor made as SHD was. The stored file does not say how far
its frames are apart. Clips of 18 frames and 0.44 seconds on average make it about 24 ms, and the stamps are
no more exact than that.

Source: Jackson et al., Free Spoken Digit Dataset; delta coding as in ``eventbook.kernels.encoders.delta``.
"""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventbook.datasets.spoken_digits import load_spoken_digits
from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.streams.event_streams import EventStreams

FRAME_PERIOD = 24_000
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def load_event_digits(
    split: Literal["train", "valid", "test"],
    threshold: float = 0.25,
    stamps: Literal["interpolated", "frame"] = "interpolated",
) -> EventStreams:
    """Load the spoken digits as events, split 2,400 / 300 / 300 as `load_spoken_digits` does.

    The parts share their speakers: accuracies are **optimistic** about a new speaker, and must be called so.

    Parameters
    ----------
    split : "train", "valid" or "test"
    threshold : float
        Height of a level, in standard deviations of the training frames.
    stamps : "interpolated" or "frame"
        When a level is crossed: on the straight line between two frames, or at the frame after, where all
        crossings since the last frame share one stamp.

    Returns
    -------
    EventStreams
        26 tokens, int8; stamps after the first frame, int32.

    Raises
    ------
    DataError
        If an argument makes no sense, or the file is missing or not what the manifest pins.

    Examples
    --------
    >>> digits = load_event_digits("test")
    >>> len(digits), digits.n_tokens
    (300, 26)
    """
    from eventbook.kernels.encoders.delta import delta_events  # Numba is loaded only by who needs events

    clips = load_spoken_digits(split)
    training = (clips if split == "train" else load_spoken_digits("train")).frames.astype(np.float64)
    mean, deviation = training.mean(0), training.std(0)
    try:
        _check_crossings(clips.frames, mean, deviation, threshold)
        events = [
            delta_events((clip - mean) / deviation, threshold, FRAME_PERIOD, stamps=stamps)
            for clip in clips.clips()
        ]
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from error
    return EventStreams(
        token=np.concatenate([stream.token for stream in events]).astype(np.int8),
        stamp=np.concatenate([stream.stamp for stream in events]).astype(np.int32),
        lengths=np.array([len(stream.token) for stream in events]),
        labels=clips.labels,
        n_tokens=2 * training.shape[1],
        classes=DIGITS,
        sensor=None,
        source=replace(
            clips.source, made=f"delta-coded by us, a level every {threshold} standard deviations"
        ),
    )


def _check_crossings(
    frames: NDArray[Any], mean: NDArray[Any], deviation: NDArray[Any], threshold: float
) -> None:
    """ValueError if the set would make more events than the encoders write in one call."""
    from eventbook.kernels.encoders.arguments import MOST_EVENTS

    if not (isinstance(threshold, int | float) and threshold > 0):
        return  # the encoder says what is wrong with it
    ways = np.abs(np.diff((frames - mean) / deviation, axis=0)).sum()
    if ways / threshold > MOST_EVENTS:
        raise ValueError(
            f"threshold must be larger: the set makes about {ways / threshold:.3g} events, at most "
            f"{MOST_EVENTS:,} are encoded at once"
        )
