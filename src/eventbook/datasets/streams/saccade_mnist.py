"""Saccade-MNIST: what an event camera would see of MNIST in three small eye movements.

    token = (34 y + x) 2 + p,    2,312 tokens;    300 ms, 100 ms a saccade;    about 3,300 events an image

N-MNIST's protocol over real images, **simulated events**: see ``eventbook.kernels.encoders.saccades`` for
what a real camera adds. N-MNIST itself is the original ``"nmnist"`` of `load_event_original`.

==========  ==============================================  ========
split       images of MNIST                                 how many
==========  ==============================================  ========
``train``   the first of the training images                55,000
``valid``   the last of the training images                 5,000
``test``    the test images                                 10,000
==========  ==============================================  ========

Encoding takes about four milliseconds an image; blocks of 250 images are kept on disk (see `encoded_cache`).

Sources: LeCun et al. 1998 (MNIST); Orchard et al. 2015 (N-MNIST).
"""

import hashlib
import math
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eventbook.datasets.mnist import LabelledImages, load_mnist
from eventbook.datasets.options import whole
from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.streams.encoded_cache import cached
from eventbook.datasets.streams.event_digits import DIGITS
from eventbook.datasets.streams.event_streams import EventStreams

BLOCK = 250  # images in a file of the cache: a second of work, 5 MB
VALID = 5_000  # images at the end of the training set
SENSOR = (34, 34)
SACCADE = 100_000  # microseconds; an event at the end of a saccade belongs to it
SACCADES = 3

Stamps = Literal["interpolated", "grid"]


def load_saccade_mnist(
    split: Literal["train", "valid", "test"],
    count: int | None = None,
    saccades: int = 3,
    threshold: float = 0.25,
    stamps: Stamps = "interpolated",
    first: int = 0,
) -> EventStreams:
    """Load images of MNIST as the events of saccades.

    Parameters
    ----------
    split : "train", "valid" or "test"
        55,000, 5,000 or 10,000 images, in the published order.
    count : int, optional
        How many; all from `first` on by default.
    saccades : int
        1, 2 or 3: events of the first 100, 200 or 300 ms alone.
    threshold : float
        Change of log intensity that makes an event.
    stamps : "interpolated" or "grid"
        Inside the steps of the simulation, or at their ends every millisecond, where nearly all events share
        a stamp with another one.
    first : int
        The first image of the split.

    Returns
    -------
    EventStreams
        Tokens int16, stamps int32, ``sensor`` (34, 34).

    Raises
    ------
    DataError
        If an argument makes no sense, or the files are missing or not what the manifest pins.

    Examples
    --------
    >>> digits = load_saccade_mnist("test", 2, saccades=1)
    >>> len(digits), digits.n_tokens, digits.labels.tolist()
    (2, 2312, [7, 2])
    """
    saccades = whole(saccades, "saccades", 1, SACCADES)
    if stamps not in ("interpolated", "grid"):
        raise DataError(f"stamps: expected 'interpolated' or 'grid', got {stamps!r}")
    try:
        threshold = float(threshold)
    except (TypeError, ValueError):
        raise DataError(f"threshold: expected a number, got {threshold!r}") from None
    if not (math.isfinite(threshold) and threshold > 0):
        raise DataError(f"threshold must be > 0 and finite, got {threshold}")
    images = _images(split)
    chosen = _range(images, first, count)
    blocks = [
        _encoded(images.images[start : start + BLOCK], threshold, stamps)
        for start in range(chosen.start - chosen.start % BLOCK, chosen.stop, BLOCK)
    ]
    offset = chosen.start % BLOCK
    lengths = np.concatenate([block["lengths"] for block in blocks]).astype(np.int64)
    here = slice(lengths[:offset].sum(), lengths[: offset + len(chosen)].sum())
    lengths = lengths[offset : offset + len(chosen)]
    token, stamp = (np.concatenate([block[name] for block in blocks])[here] for name in ("token", "stamp"))
    if saccades < SACCADES:
        early = stamp <= saccades * SACCADE
        token, stamp = token[early], stamp[early]
        of = np.repeat(np.arange(len(lengths)), lengths)
        lengths = np.bincount(of[early], minlength=len(lengths))
    return EventStreams(
        token=token,
        stamp=stamp,
        lengths=lengths,
        labels=images.labels[chosen.start : chosen.stop],
        n_tokens=2 * SENSOR[0] * SENSOR[1],
        classes=DIGITS,
        sensor=SENSOR,
        source=replace(images.source, made="events simulated over the real images"),
    )


def _images(split: str) -> LabelledImages:
    if split == "test":
        return load_mnist("test")
    if split not in ("train", "valid"):
        raise DataError(f"split: expected 'train', 'valid' or 'test', got {split!r}")
    training = load_mnist("train")
    return training[:-VALID] if split == "train" else training[-VALID:]


def _range(images: LabelledImages, first: int, count: int | None) -> range:
    first = whole(first, "first", 0, len(images) - 1)
    count = len(images) - first if count is None else whole(count, "count")
    if not 1 <= count <= len(images) - first:
        raise DataError(f"count: expected 1..{len(images) - first} images from {first} on, got {count}")
    return range(first, first + count)


def _encoded(images: NDArray[np.uint8], threshold: float, stamps: Stamps) -> dict[str, NDArray[np.integer]]:
    """Tokens, stamps and lengths of a block of images, from the cache if it has them."""

    def compute() -> dict[str, NDArray[np.integer]]:
        from eventbook.kernels.encoders.collate import tokens_of  # Numba is loaded only by who encodes
        from eventbook.kernels.encoders.saccades import saccade_events_batch

        try:
            events, offsets = saccade_events_batch(images, threshold=threshold, stamps=stamps)
        except ValueError as error:
            raise DataError(str(error)) from error
        # a stamp of one image may precede the last of the image before it: tokens are made image by image
        tokens = [tokens_of(events[a:b], *SENSOR) for a, b in pairwise(offsets)]
        return {
            "token": np.concatenate(tokens).astype(np.int16),
            "stamp": events["t"].astype(np.int32),
            "lengths": np.diff(offsets).astype(np.int32),
        }

    key = {
        "encoder": "saccades",
        "threshold": threshold,
        "stamps": stamps,
        "images": hashlib.sha256(images.tobytes()).hexdigest(),
    }
    return cached("saccades", key, compute)
