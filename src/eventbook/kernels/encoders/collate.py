r"""From streams of different lengths to one batch: tokens, gaps, lengths, mask.

    token = (y width + x) 2 + p,          a bijection of the pixels and polarities with 0..2 width height - 1
    aligned:      gap_0 = 0,  gap_k = t_k - t_{k-1}             the time that ends at event k
    as_released:  gap_k = t_{k+1} - t_k,  last event dropped    the time that begins at event k

| symbol | meaning | shape | name |
|---|---|---|---|
| token | row of an embedding; padding: row n_tokens, kept zero | (batch, time) int64 | `token` |
| t | time stamp in microseconds, never falling | (time,) integers | `stamp` |
| gap | milliseconds; 0 in the padding | (batch, time) float32 | `gap` |
| n | events of the stream | (batch,) int64 | `lengths` |
| - | true where there is an event | (batch, time) bool | `mask` |

Gaps are differences of integers, then converted: as float32, absolute stamps lose the microsecond after 16.8
s. The padding has a row of its own. The released code writes -1, which selects the last row of the table.

The pairing `as_released` is the aligned one on a stream in which each event carries the stamp of the next.

Source: Schoene et al., arXiv:2404.18508, and its released code. The token of its version 0.1,
x y + width height p, is no bijection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int64
from numpy.typing import NDArray
from torch import Tensor

from eventbook.kernels.encoders.arguments import check_rising, column, whole
from eventbook.kernels.encoders.events import EVENT, Events, check_events, check_sensor, require_event_dtype

Alignment = Literal["aligned", "as_released"]


@dataclass(frozen=True, eq=False)
class EventBatch:
    """A padded batch; see the module for shapes. `padding` is the token of the padding, n_tokens."""

    token: Int64[Tensor, "batch time"]
    gap: Float32[Tensor, "batch time"]
    lengths: Int64[Tensor, " batch"]
    mask: Bool[Tensor, "batch time"]
    padding: int

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """What a classifier of streams is called with: token, gap, lengths."""
        return self.token, self.gap, self.lengths


def tokens_of(events: Events, width: int, height: int) -> Int64[np.ndarray, " event"]:
    """token = (y width + x) 2 + p of checked events; errors are those of `check_events`."""
    require_event_dtype(events)
    check_events(events, width, height)
    return (events["y"] * width + events["x"]) * 2 + events["p"]


def events_of_tokens(
    tokens: Int[np.ndarray, " event"], stamps: Int[np.ndarray, " event"], width: int, height: int
) -> Events:
    """The events that have these tokens at these stamps: the inverse of `tokens_of`.

    Raises
    ------
    ValueError
        If a token is none of this sensor, or a stamp is earlier than the one before it; names the first one.
        If there are not as many stamps as tokens.
    TypeError
        If tokens or stamps are no integers.
    """
    check_sensor(width, height)
    number = column(tokens, "tokens")
    _check_tokens(number, 2 * width * height, "tokens")
    stamp = column(stamps, "stamps", number)
    check_rising(stamp, "stamps")
    events = np.empty(len(number), EVENT)
    pixel, events["p"] = np.divmod(number, 2)
    events["y"], events["x"] = np.divmod(pixel, width)
    events["t"] = stamp
    return events


def gaps_of(
    stamps: Int[np.ndarray, " event"], alignment: Alignment = "aligned"
) -> Float32[np.ndarray, " gap"]:
    """Gaps in milliseconds of stamps in microseconds.

    Parameters
    ----------
    stamps
        (event,) integers, never falling.
    alignment
        "aligned": the gap before each event, 0 for the first. "as_released": the gap after each event but
        the last, hence one gap less than events.

    Returns
    -------
    gap
        float32, (event,) or, as released, (event - 1,).

    Raises
    ------
    ValueError
        If a stamp is earlier than the one before it (names the first), or `alignment` is another word.
    TypeError
        If the stamps are no integers.
    """
    return _gaps(stamps, alignment, "stamps")


def _gaps(stamps: Any, alignment: str, name: str) -> NDArray[np.float32]:
    stamps = np.asarray(stamps)
    if stamps.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers (microseconds), got {stamps.dtype}")
    if stamps.ndim != 1:
        raise ValueError(f"{name} must be (event,), got shape {stamps.shape}")
    if alignment not in ("aligned", "as_released"):
        raise ValueError(f"alignment must be 'aligned' or 'as_released', got {alignment!r}")
    check_rising(stamps, name)
    # Differences of small integers overflow. Those of 64 bits wrap round; never negative, they are right when
    # read without a sign.
    wide = stamps.astype(np.int64 if stamps.dtype.kind == "i" else np.uint64, copy=False)
    following = (np.diff(wide).view(np.uint64) / 1_000).astype(np.float32)
    if alignment == "as_released" or not len(stamps):
        return following
    return np.concatenate([np.zeros(1, np.float32), following])


def _check_tokens(tokens: NDArray[np.integer], n_tokens: int, name: str) -> None:
    if tokens.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {tokens.dtype}")
    outside = (tokens < 0) | (tokens >= n_tokens)
    if outside.any():
        at = int(outside.argmax())
        raise ValueError(f"{name}[{at}] must be in 0..{n_tokens - 1}, got {tokens[at]}")


def collate(
    streams: Sequence[tuple[NDArray[np.integer], NDArray[np.integer]]],
    n_tokens: int,
    *,
    alignment: Alignment = "aligned",
    time: int | None = None,
) -> EventBatch:
    """Pad streams to one batch.

    Parameters
    ----------
    streams
        For each stream its tokens and its stamps in microseconds, both (event,) integers. Streams of similar
        length waste the least padding: sort a set by length before cutting it into batches.
    n_tokens
        Size of the token map; padding gets the token `n_tokens`.
    alignment
        As in `gaps_of`; "as_released" drops the last event of each stream.
    time
        Length of the batch; that of the longest stream if not given. No result depends on it.

    Returns
    -------
    EventBatch

    Raises
    ------
    ValueError
        If a stream is unsorted or has a token out of range (names stream and event), has not as many tokens
        as stamps, or is longer than `time`.
    TypeError
        If tokens or stamps are no integers.

    Examples
    --------
    >>> import numpy as np
    >>> batch = collate([(np.array([4, 2]), np.array([1000, 3500])), (np.array([0]), np.array([7]))], 5)
    >>> batch.token, batch.gap
    (tensor([[4, 2],
            [0, 5]]), tensor([[0.0000, 2.5000],
            [0.0000, 0.0000]]))
    """
    n_tokens = whole(n_tokens, "n_tokens")
    if n_tokens < 1:
        raise ValueError(f"n_tokens must be >= 1, got {n_tokens}")
    if n_tokens >= 1 << 63:
        raise ValueError(f"n_tokens must be below 2^63, got {n_tokens}")
    rows = []
    for number, (tokens, stamps) in enumerate(streams):
        tokens = np.asarray(tokens)
        if tokens.shape != np.shape(stamps):
            raise ValueError(
                f"streams[{number}] must have as many tokens as stamps, "
                f"got shapes {tokens.shape} and {np.shape(stamps)}"
            )
        gaps = _gaps(stamps, alignment, f"streams[{number}] stamps")
        _check_tokens(tokens, n_tokens, f"streams[{number}] tokens")
        rows.append((tokens[: len(gaps)], gaps))
    lengths = np.array([len(gaps) for _, gaps in rows], np.int64)
    longest = int(lengths.max(initial=0))
    time = longest if time is None else whole(time, "time")
    if time < longest:
        raise ValueError(f"time must be at least the longest stream, {longest}, got {time}")
    token = np.full((len(rows), time), n_tokens, np.int64)
    gap = np.zeros((len(rows), time), np.float32)
    for row, (tokens, gaps) in enumerate(rows):
        token[row, : len(gaps)], gap[row, : len(gaps)] = tokens, gaps
    mask = np.arange(time) < lengths[:, None]
    return EventBatch(
        token=torch.from_numpy(token),
        gap=torch.from_numpy(gap),
        lengths=torch.from_numpy(lengths),
        mask=torch.from_numpy(mask),
        padding=n_tokens,
    )
