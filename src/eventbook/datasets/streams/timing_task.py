r"""The timing-only task: two chirps over 64 channels, and a bit that is in the gaps and nowhere else.

A class is three bits: which way a low chirp goes, which way a high chirp goes, and whether the stream is
quick first or slow first. For each stream of duration T, with q_1 < ... < q_m uniform in 0..1,

    channel = 2 + 26 d  (low)  or  34 + 26 d  (high),    d = q or 1 - q by the chirp's bit,    + N(0, 1.5)
    stamp   = T w(q),    w linear from (0, 0) over (1/2, h) to (1, 1)

The first half of the chirps takes the share h of the duration. Taken without their stamps, the chirps say
nothing about h: q does not depend on it. Then a few events of noise are added at uniform times and channels.
They are denser, by index, in the slow half, and that leaks some of the bit to who looks at order alone: a
random forest that is told how often each channel comes in each sixteenth of the events gets the bit right for
70 % of the streams, where a guess gets 50 %. With ``noise=0`` nothing leaks.

=========  ===============================================  ==========================  ===============
symbol     meaning                                          value                       name
=========  ===============================================  ==========================  ===============
T          duration, milliseconds                           uniform in 350..650         `DURATION`
m          events of both chirps, each event by lot         260..343                    `EVENTS`
-          events of noise                                  0..29                       ``noise``
h          share of the duration of the first half          0.35 (quick) or 0.65        `QUICK`, `SLOW`
-          standard deviation of the channel                1.5, then 0..63             `SPREAD`
-          class = low + 2 high + 4 slow                    0..7                        ``labels``
=========  ===============================================  ==========================  ===============

Source: derived.
"""

import numpy as np
from numpy.typing import NDArray

from eventbook.datasets.options import whole
from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.store import Source
from eventbook.datasets.streams.event_streams import EventStreams

CHANNELS = 64
LOW, HIGH, SPAN = 2.0, 34.0, 26.0  # where each chirp begins, and how far it goes
SPREAD = 1.5
DURATION = (350_000.0, 650_000.0)  # microseconds
EVENTS = (260, 343)
NOISE = 29
QUICK, SLOW = 0.35, 0.65
CLASSES = tuple(
    f"low {low}, high {high}, {pace} first"
    for pace in ("quick", "slow")
    for high in ("up", "down")
    for low in ("up", "down")
)

_LABELS, _STREAM = 0, 1  # keep the draws of labels and of streams apart


def timing_task(count: int, seed: int, *, grid: int = 1, noise: int = NOISE) -> EventStreams:
    """Draw streams of the timing-only task.

    Parameters
    ----------
    count : int
        How many. Of every eight in a row, each class has one; the first streams of a longer set are the same.
    seed : int
        0 or above. Different seeds give independent sets: one for training, another for tests.
    grid : int
        Stamps are rounded up to multiples of so many microseconds, as by a clock that ticks that often.
        Events of a tick keep their order.

    noise : int
        At most so many events of noise a stream, 0 or above.

    Returns
    -------
    EventStreams
        64 tokens, int8; stamps int32, in 0..650,000 before rounding; ``classes`` in words.

    Raises
    ------
    DataError
        If a number makes no sense.

    Examples
    --------
    >>> streams = timing_task(16, seed=0)
    >>> sorted(streams.labels.tolist()) == sorted(2 * list(range(8)))
    True
    """
    count, seed = whole(count, "count", 1), whole(seed, "seed", 0)
    grid, noise = whole(grid, "grid", 1), whole(noise, "noise", 0)
    if grid > DURATION[1]:
        raise DataError(f"grid: expected at most {DURATION[1]:.0f} us, the longest stream, got {grid}")
    eights = -(-count // len(CLASSES))
    blocks = [np.random.default_rng((seed, _LABELS, i)).permutation(len(CLASSES)) for i in range(eights)]
    labels = np.concatenate(blocks)[:count].astype(np.int64)
    streams = [
        _stream(int(label), noise, np.random.default_rng((seed, _STREAM, i)))
        for i, label in enumerate(labels)
    ]
    stamp = np.concatenate([stamp for _, stamp in streams])
    return EventStreams(
        token=np.concatenate([token for token, _ in streams]).astype(np.int8),
        stamp=(-(-stamp // grid) * grid).astype(np.int32),
        lengths=np.array([len(token) for token, _ in streams]),
        labels=labels,
        n_tokens=CHANNELS,
        classes=CLASSES,
        sensor=None,
        source=Source("timing_task", "Timing-only task", "computed", f"seed {seed}, stamps by {grid} us"),
    )


def _stream(
    label: int, noise: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens and stamps of one stream, in order of time."""
    low_down, high_down, slow = label & 1, label >> 1 & 1, label >> 2
    duration = random.uniform(*DURATION)
    q = np.sort(random.random(random.integers(*EVENTS, endpoint=True)))
    is_high = random.random(len(q)) < 0.5
    d = np.where(np.where(is_high, high_down, low_down), 1 - q, q)
    channel = np.where(is_high, HIGH, LOW) + SPAN * d + random.normal(0, SPREAD, len(q))
    half = SLOW if slow else QUICK
    warped = np.where(q < 0.5, 2 * q * half, half + (2 * q - 1) * (1 - half))
    n_noise = random.integers(0, noise, endpoint=True)
    token = np.concatenate(
        [np.clip(np.rint(channel), 0, CHANNELS - 1), random.integers(0, CHANNELS, n_noise)]
    )
    time = duration * np.concatenate([warped, random.random(n_noise)])
    order = np.argsort(time, kind="stable")
    return token[order].astype(np.int64), np.ceil(time[order]).astype(np.int64)
