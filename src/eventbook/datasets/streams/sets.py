"""One door to all sets of event streams, so that a notebook needs a single parameter to run on an original.

Source: derived.
"""

from typing import Any

from eventbook.datasets.options import call_with
from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.streams.event_digits import load_event_digits
from eventbook.datasets.streams.event_originals import ORIGINALS, load_event_original
from eventbook.datasets.streams.event_streams import EventStreams
from eventbook.datasets.streams.saccade_mnist import load_saccade_mnist

STREAM_SETS = ("spoken_digits", "saccade_mnist", *ORIGINALS)


def load_event_streams(name: str, split: str, **options: Any) -> EventStreams:
    """Load a set of event streams by its name.

    Parameters
    ----------
    name : str
        One of `STREAM_SETS`: ``"spoken_digits"`` and ``"saccade_mnist"``, which are encoded here, or an
        original that a user supplies: ``"shd"``, ``"ssc"``, ``"dvs128"``, ``"nmnist"``.
    split : str
        As the set has them.
    **options
        Of `load_event_digits`, `load_saccade_mnist` or `load_event_original`.

    Raises
    ------
    DataError
        If there is no such set, it has no such split or option (lists those it has), or it cannot be read.

    Examples
    --------
    >>> load_event_streams("spoken_digits", "test", threshold=0.5).n_tokens
    26
    """
    if name == "spoken_digits":
        return call_with(load_event_digits, name, (split,), options)
    if name == "saccade_mnist":
        return call_with(load_saccade_mnist, name, (split,), options)
    if name in ORIGINALS:
        return call_with(load_event_original, name, (name, split), options)
    raise DataError(f"name: expected one of {', '.join(STREAM_SETS)}; got {name!r}")
