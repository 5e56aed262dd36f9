"""Labelled event streams of different lengths, stored end to end.

=======  ================================================  ======================  ===========
symbol   meaning                                           shape                   name
=======  ================================================  ======================  ===========
k        what happened: channel, or pixel and polarity     (event,) int            ``token``
t        when, microseconds; never falls within a stream   (event,) int            ``stamp``
n_i      events of stream i                                (stream,) int64         ``lengths``
y        class, 0..C - 1                                   (stream,) int64         ``labels``
-        how many tokens there are: 0 <= k < K             number                  ``n_tokens``
-        name of each class                                C                       ``classes``
=======  ================================================  ======================  ===========

Tokens and stamps may be of any integer type: 60,000 images of 3,300 events fit into 1.2 GB as int16 and
int32.

Source: derived.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from jaxtyping import Int, Int64
from numpy.typing import NDArray

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.store import Source

Stream = tuple[Int[np.ndarray, " event"], Int[np.ndarray, " event"]]  # tokens, stamps


@dataclass(frozen=True, eq=False)
class EventStreams:
    """Streams with their classes, and where they came from.

    ``streams[i]`` is the pair (token, stamp) of stream i, ``streams[a:b]`` are streams again; both are views.
    ``take`` picks streams by number.

    Attributes
    ----------
    token, stamp : Int[ndarray, "event"]
    lengths, labels : Int64[ndarray, "stream"]
    n_tokens : int
    classes : tuple of str
    sensor : (int, int) or None
        Width and height, where tokens are (y width + x) 2 + p; None where they are channels.
    source : Source

    Raises
    ------
    DataError
        If lengths do not add up, a label is no class, a token is out of range, or a stamp falls within a
        stream; names the first such stream and event.
    """

    token: Int[np.ndarray, " event"]
    stamp: Int[np.ndarray, " event"]
    lengths: Int64[np.ndarray, " stream"]
    labels: Int64[np.ndarray, " stream"]
    n_tokens: int
    classes: tuple[str, ...]
    sensor: tuple[int, int] | None
    source: Source
    _offsets: Int64[np.ndarray, " stream_plus_1"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("token", "stamp", "lengths", "labels"):
            column = getattr(self, name)
            if column.ndim != 1 or column.dtype.kind not in "iu":
                raise DataError(
                    f"{name}: expected a vector of integers, got {column.dtype} of {column.shape}"
                )
        if len(self.labels) != len(self.lengths):
            raise DataError(
                f"labels: expected one for each of {len(self.lengths)} streams, got {len(self.labels)}"
            )
        if (self.lengths < 0).any():
            at = int((self.lengths < 0).argmax())
            raise DataError(f"lengths: expected 0 or above, got {self.lengths[at]} for stream {at}")
        offsets = np.concatenate(([0], np.cumsum(self.lengths, dtype=np.int64)))
        if not offsets[-1] == len(self.token) == len(self.stamp):
            raise DataError(
                f"lengths: expected {len(self.token)} tokens and stamps in all, "
                f"got {offsets[-1]} for {len(self.token)} tokens and {len(self.stamp)} stamps"
            )
        object.__setattr__(self, "_offsets", offsets)
        if self.sensor is not None and self.n_tokens != 2 * self.sensor[0] * self.sensor[1]:
            raise DataError(f"n_tokens: expected 2 for each pixel of {self.sensor}, got {self.n_tokens}")
        self._check_labels()
        self._check_tokens()
        self._check_stamps()

    def _check_labels(self) -> None:
        wrong = (self.labels < 0) | (self.labels >= len(self.classes))
        if wrong.any():
            at = int(wrong.argmax())
            raise DataError(
                f"labels: expected 0..{len(self.classes) - 1}, got {self.labels[at]} for stream {at}"
            )

    def _check_tokens(self) -> None:
        wrong = (self.token < 0) | (self.token >= self.n_tokens)
        if wrong.any():
            at = int(wrong.argmax())
            raise DataError(
                f"token: expected 0..{self.n_tokens - 1}, got {self.token[at]} for {self._place(at)}"
            )

    def _check_stamps(self) -> None:
        falls = self.stamp[1:] < self.stamp[:-1]  # compared, not subtracted: stamps may be unsigned
        starts = self._offsets[1:-1]
        falls[starts[(starts > 0) & (starts < len(self.stamp))] - 1] = False  # another stream begins
        if falls.any():
            at = int(falls.argmax()) + 1
            raise DataError(
                f"stamp: expected one not before {self.stamp[at - 1]} us, got {self.stamp[at]} us "
                f"for {self._place(at)}"
            )

    def _place(self, at: int) -> str:
        """Stream and event of position `at`."""
        stream = int(np.searchsorted(self._offsets, at, "right")) - 1
        return f"stream {stream}, event {at - self._offsets[stream]}"

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Stream]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, chosen: int) -> Stream: ...
    @overload
    def __getitem__(self, chosen: slice) -> "EventStreams": ...
    def __getitem__(self, chosen: int | slice) -> "Stream | EventStreams":
        if isinstance(chosen, slice):
            first, last, step = chosen.indices(len(self))
            if step != 1:
                return self.take(np.arange(first, last, step))
            last = max(first, last)
            events = slice(self._offsets[first], self._offsets[last])
            return self._with(self.token[events], self.stamp[events], slice(first, last))
        if not isinstance(chosen, int | np.integer):
            raise TypeError(
                f"index: expected a number or a slice, got {chosen!r}; `take` takes a list of numbers"
            )
        if not -len(self) <= chosen < len(self):
            raise IndexError(f"index: expected one of {len(self)} streams, got {chosen}")
        at = int(chosen) % len(self)
        events = slice(self._offsets[at], self._offsets[at + 1])
        return self.token[events], self.stamp[events]

    def take(self, streams: NDArray[np.integer] | list[int]) -> "EventStreams":
        """The streams of these numbers, in this order, copied; a number may come twice.

        Raises
        ------
        TypeError
            If the numbers are no integers.
        IndexError
            If there is no such stream.
        """
        at = np.asarray(streams, dtype=np.int64 if len(streams) == 0 else None)
        if at.dtype.kind not in "iu" or at.ndim != 1:
            raise TypeError(f"streams: expected a list of whole numbers, got {at.dtype} of shape {at.shape}")
        if at.size and not (-len(self) <= at.min() and at.max() < len(self)):
            raise IndexError(f"streams: expected numbers of {len(self)} streams, got {at.min()}..{at.max()}")
        at = at % max(len(self), 1)
        lengths = self.lengths[at]
        # position of each event: where its stream begins, and how far into it
        into = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        events = np.repeat(self._offsets[at], lengths) + into
        return self._with(self.token[events], self.stamp[events], at)

    def _with(self, token: NDArray[Any], stamp: NDArray[Any], streams: Any) -> "EventStreams":
        return EventStreams(
            token,
            stamp,
            self.lengths[streams],
            self.labels[streams],
            self.n_tokens,
            self.classes,
            self.sensor,
            self.source,
        )
