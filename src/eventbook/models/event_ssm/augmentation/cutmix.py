r"""Event CutMix: a run of one stream takes the place of what another stream did at that time.

    run = events s .. s + k - 1 of b,     k ~ U{1..n_b - 1},  s ~ U{0..n_b - k}
    mixed = (a before t_first) + run + (a after t_last)
    count:  w = k / n_mixed              time:  w = (t_last - t_first) / (span of mixed)
    label = (1 - w) label_a + w label_b

| symbol | meaning | shape | name |
|---|---|---|---|
| a, b | streams of the same tokens and the same clock | (event,) each | `a`, `b` |
| t_first, t_last | stamps of the run's ends; a's events at either are deleted too | microseconds | - |
| w | weight of b's label | number in 0..1 | `weight` |

What is left of a lies before and after the run, so the mixed stream is sorted as it is put together. For
pixels mix tokens (`tokens_of`).

Streams share a clock that starts with each of them. Slices of a long recording that keep its stamps do not
overlap: nothing of a is deleted and a long gap is left between the two. The released code trains on such
slices of DVS128 Gesture; subtract a slice's first stamp before it is mixed.

Source: Schoene et al., arXiv:2404.18508, and its released code (transform.py).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Int
from numpy.random import Generator
from numpy.typing import NDArray

from eventbook.kernels.encoders import TokenStream
from eventbook.kernels.encoders.arguments import column, whole
from eventbook.models.event_ssm.augmentation.streams import check_probability, check_rng, checked

Share = Literal["count", "time"]


class Mixed(NamedTuple):
    """A mixed stream, and the weight of b's label in 0..1; that of a is the rest."""

    stream: TokenStream
    weight: float


def cutmix_events(a: TokenStream, b: TokenStream, rng: Generator, share: Share = "count") -> Mixed:
    """Put a random run of b into a.

    Parameters
    ----------
    a, b
        Pairs (token, stamp); plain pairs of integers will do. Neither is changed.
    rng
        Draws size and place of the run.
    share
        "count": the weight is b's share of the events. "time": the run's share of the time, 0 for a run
        without duration. Where all is simultaneous no time can be shared, and the events are counted.

    Returns
    -------
    Mixed
        An empty b leaves a as it is, at weight 0. Of a single event b the run is that event.

    Raises
    ------
    TypeError
        If a stream is no pair of integers, or `rng` is no generator.
    ValueError
        If a stamp falls (names stream and event), or `share` is another word.

    Notes
    -----
    The released variant "by time", which its code does not call, also draws the run in time: a window after
    zero, not after the first stamp, that may hold no event of b.

    Examples
    --------
    >>> import numpy as np
    >>> a = (np.array([1, 1, 1, 1]), np.array([0, 10, 20, 30]))
    >>> b = (np.array([2, 2, 2]), np.array([5, 10, 25]))
    >>> mixed = cutmix_events(a, b, np.random.default_rng(0))
    >>> mixed.stream.token, mixed.stream.stamp, mixed.weight
    (array([1, 2, 2, 1]), array([ 0, 10, 25, 30]), 0.5)
    """
    if share not in ("count", "time"):
        raise ValueError(f"share must be 'count' or 'time', got {share!r}")
    check_rng(rng)
    return _mixed(_checked_tokens(a, "a"), _checked_tokens(b, "b"), rng, share)


def cutmix_batch(
    streams: Sequence[TokenStream],
    labels: Int[np.ndarray, " batch"],
    n_classes: int,
    probability: float,
    rng: Generator,
    share: Share = "count",
) -> tuple[list[TokenStream], Float32[np.ndarray, "batch class"]]:
    """With a probability mix the whole batch, each stream with its partner of one random permutation.

    Parameters
    ----------
    streams
        Pairs (token, stamp), one for each of the batch.
    labels
        Classes, (batch,) integers in 0..n_classes - 1.
    probability
        That the batch is mixed; if not, streams come back as they are, with their labels.
    share
        As in `cutmix_events`.

    Returns
    -------
    streams
        One for each of the batch, of other lengths than before.
    labels
        (batch, class) float32; every row sums to 1, exactly. A stream may be its own partner, and the partner
        may be of its class.

    Raises
    ------
    TypeError, ValueError
        As `cutmix_events`; also if there are not as many labels as streams, or a label is no class.
    """
    check_probability(probability, "probability")
    if share not in ("count", "time"):
        raise ValueError(f"share must be 'count' or 'time', got {share!r}")
    check_rng(rng)
    given = [_checked_tokens(stream, f"streams[{number}]") for number, stream in enumerate(streams)]
    classes = _checked_labels(labels, len(given), n_classes)
    rows = np.arange(len(given))
    soft = np.zeros((len(given), n_classes), np.float32)
    if rng.random() >= probability:
        soft[rows, classes] = 1.0
        return given, soft
    partner = rng.permutation(len(given))
    mixed = [_mixed(a, given[other], rng, share) for a, other in zip(given, partner, strict=True)]
    weight = np.array([pair.weight for pair in mixed], np.float32)
    # float32(1 - w) + w rounds to 1 for every w in 0..1: the rest is at most half a unit in the last place.
    soft[rows, classes] = np.float32(1.0) - weight
    soft[rows, classes[partner]] += weight
    return [pair.stream for pair in mixed], soft


def _mixed(a: TokenStream, b: TokenStream, rng: Generator, share: Share) -> Mixed:
    count = len(b.stamp)
    if not count:
        return Mixed(a, 0.0)
    size = int(rng.integers(1, max(count - 1, 1), endpoint=True))
    # Any place. The released run begins below n_b - size, so that it never holds the last event of b.
    start = int(rng.integers(0, count - size, endpoint=True))
    run = TokenStream(b.token[start : start + size], b.stamp[start : start + size])
    before = int(np.searchsorted(a.stamp, run.stamp[0], "left"))
    after = int(np.searchsorted(a.stamp, run.stamp[-1], "right"))
    token = np.concatenate([a.token[:before], run.token, a.token[after:]])
    stamp = np.concatenate([a.stamp[:before], run.stamp, a.stamp[after:]])
    whole_time = int(stamp[-1] - stamp[0])
    if share == "time" and whole_time:
        weight = int(run.stamp[-1] - run.stamp[0]) / whole_time
    else:
        weight = size / len(stamp)
    return Mixed(TokenStream(token, stamp), weight)


def _checked_tokens(stream: TokenStream, name: str) -> TokenStream:
    given = checked(stream, name)
    if not isinstance(given, TokenStream):
        raise TypeError(f"{name} must be a pair (token, stamp), got an array of dtype EVENT: see tokens_of")
    return given


def _checked_labels(labels: NDArray[np.integer], batch: int, n_classes: int) -> NDArray[np.int64]:
    whole(n_classes, "n_classes", 1)
    classes = column(labels, "labels")
    if len(classes) != batch:
        raise ValueError(f"labels must be as many as streams, {batch}, got {len(classes)}")
    outside = (classes < 0) | (classes >= n_classes)
    if outside.any():
        at = int(outside.argmax())
        raise ValueError(f"labels[{at}] must be in 0..{n_classes - 1}, got {classes[at]}")
    return classes
