"""The original event sets, from files that a user has: SHD, SSC, DVS128 Gesture and N-MNIST, read by tonic.

Folders are tonic's, below the directory in ``EVENTBOOK_DATA``, then below ``data/originals``. The archives
that tonic downloads need not be there: what was unpacked from them is enough. Nothing is ever downloaded from
here.

==========  ==========================================================  ==========================  ========
name        files                                                       token                       splits
==========  ==========================================================  ==========================  ========
``shd``     ``SHD/shd_train.h5``, ``shd_test.h5``                       channel, 700                two
``ssc``     ``SSC/ssc_train.h5``, ``ssc_valid.h5``, ``ssc_test.h5``     channel, 700                three
``dvs128``  ``DVSGesture/ibmGestureTrain/user01_led/0.npy``, ...        (128 y + x) 2 + p, 32,768   two
``nmnist``  ``NMNIST/Train/0/00002.bin``, ...                           (34 y + x) 2 + p, 2,312     two
==========  ==========================================================  ==========================  ========

Stamps are whole microseconds. Those of SHD and SSC are stored as half-precision seconds, of which neighbours
are 0.5 ms apart from half a second on; those of tonic's DVS128 Gesture are whole milliseconds. Where stamps
of a file fall, its events are sorted, ties left in order. Recordings of DVS128 Gesture come in the order of
users, lightings, classes.

Nothing vouches for the files of a user: the source says so.

Sources: Cramer et al. 2020 (SHD, SSC); Amir et al. 2017 (DVS128 Gesture); Orchard et al. 2015 (N-MNIST);
tonic 1.7.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventbook.datasets.options import whole
from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.extras import extra_module
from eventbook.datasets.storage.folders import find_folder
from eventbook.datasets.storage.store import Source
from eventbook.datasets.streams.event_streams import EventStreams


@dataclass(frozen=True)
class _Original:
    """How tonic knows a set.

    Attributes
    ----------
    title, kind
        For people, and the name of tonic's class, which is also that of its folder.
    files
        By split: files below that folder, as a pattern.
    sensor
        Width and height; None for channels.
    """

    title: str
    kind: str
    files: dict[str, str]
    sensor: tuple[int, int] | None

    @property
    def tokens(self) -> int:
        return COCHLEA if self.sensor is None else 2 * self.sensor[0] * self.sensor[1]


COCHLEA = 700  # channels of SHD and SSC
ORIGINALS = {
    "shd": _Original(
        "Spiking Heidelberg Digits", "SHD", {"train": "shd_train.h5", "test": "shd_test.h5"}, None
    ),
    "ssc": _Original(
        "Spiking Speech Commands",
        "SSC",
        {"train": "ssc_train.h5", "valid": "ssc_valid.h5", "test": "ssc_test.h5"},
        None,
    ),
    "dvs128": _Original(
        "DVS128 Gesture",
        "DVSGesture",
        {"train": "ibmGestureTrain/*/*.npy", "test": "ibmGestureTest/*/*.npy"},
        (128, 128),
    ),
    "nmnist": _Original("N-MNIST", "NMNIST", {"train": "Train/*/*.bin", "test": "Test/*/*.bin"}, (34, 34)),
}


def load_event_original(name: str, split: str, *, count: int | None = None, seed: int = 0) -> EventStreams:
    """Load an original event set from a user's files.

    Parameters
    ----------
    name : "shd", "ssc", "dvs128" or "nmnist"
    split : "train" or "test", and "valid" of SSC
        The authors of the others published no validation split: hold out a part of "train" yourself, or say
        that what you chose on the test split was chosen there.
    count : int, optional
        So many streams, drawn at random without replacement; all by default. The stored order stays.
    seed : int
        Of that draw.

    Returns
    -------
    EventStreams
        ``sensor`` is None for SHD and SSC; tokens and stamps int32.

    Raises
    ------
    DataError
        If there is no such set or split, the files are missing or cannot be read, or tonic is not installed.
    """
    if name not in ORIGINALS:
        raise DataError(f"name: expected one of {', '.join(ORIGINALS)}; got {name!r}")
    original = ORIGINALS[name]
    if split not in original.files:
        has = ", ".join(original.files)
        why = "; its authors published no validation split" if split == "valid" else ""
        raise DataError(f"split: {name} has {has}; got {split!r}{why}")
    place = find_folder(original.title, [original.kind], original.files[split])
    dataset = _opened(original, place.folder, split)
    order = _order(dataset) if name == "dvs128" else np.arange(len(dataset))
    chosen = order[_drawn(len(order), count, seed)]
    tokens, stamps, labels = [], [], []
    for at in chosen:
        try:
            events, label = dataset[int(at)]
        except (OSError, KeyError, ValueError, IndexError) as error:
            raise DataError(f"{place.folder}: stream {at} of {split} cannot be read: {error}") from error
        token, stamp = _tokens(events, original.sensor, f"{place.folder}: stream {at} of {split}")
        tokens.append(token)
        stamps.append(stamp)
        labels.append(int(label))
    return EventStreams(
        token=np.concatenate(tokens),
        stamp=np.concatenate(stamps),
        lengths=np.array([len(token) for token in tokens]),
        labels=np.array(labels),
        n_tokens=original.tokens,
        classes=_class_names(dataset.classes),
        sensor=original.sensor,
        source=Source(name, original.title, place.origin, place.shown, checked=False, made="read by tonic"),
    )


def _opened(original: _Original, folder: Path, split: str) -> Any:
    """Tonic's data set over a folder, in which it looks for no archive and from which it cannot download."""
    import numpy.lib.recfunctions  # noqa: F401  (tonic uses it without importing it)

    kind = getattr(extra_module("tonic.datasets", "originals"), original.kind)

    def download(self: Any) -> None:
        raise DataError(f"{folder}: {original.title} is not there, and nothing is downloaded")

    # tonic wants the archive beside what was unpacked, a certain number of files, and else downloads
    here = type(original.kind, (kind,), {"_check_exists": lambda self: True, "download": download})
    which = {"split": split} if original.kind == "SSC" else {"train": split == "train"}
    try:
        return here(str(folder.parent), **which)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{folder}: expected {original.title} as tonic stores it: {error}") from error


def _order(dataset: Any) -> NDArray[np.int64]:
    """Recordings of DVS128 Gesture by user, lighting and class: tonic takes files as they are listed."""
    return np.lexsort((dataset.targets, dataset.lighting, dataset.users))


def _drawn(total: int, count: int | None, seed: int) -> NDArray[np.int64]:
    if count is None:
        return np.arange(total)
    count, seed = whole(count, "count", 1, total), whole(seed, "seed", 0)
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False))


def _tokens(
    events: NDArray[np.void], sensor: tuple[int, int] | None, where: str
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Tokens and stamps of tonic's structured events, in order of time."""
    stamp = events["t"].astype(np.int64)
    if (stamp[1:] < stamp[:-1]).any():
        order = np.argsort(stamp, kind="stable")
        events, stamp = events[order], stamp[order]
    if stamp.size and not (stamp[0] >= 0 and stamp[-1] <= np.iinfo(np.int32).max):
        raise DataError(f"{where}: expected stamps in 0..2^31 us, got {stamp[0]}..{stamp[-1]}")
    x = events["x"].astype(np.int64)
    width, height = sensor or (COCHLEA, 1)
    y = events["y"].astype(np.int64) if sensor else np.zeros_like(x)
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    if outside.any():
        at = int(outside.argmax())
        raise DataError(
            f"{where}: expected events on {width} x {height}, got ({x[at]}, {y[at]}) for event {at}"
        )
    token = (y * width + x) * 2 + events["p"].astype(np.int64) if sensor else x
    return token.astype(np.int32), stamp.astype(np.int32)


def _class_names(names: Iterable[Any]) -> tuple[str, ...]:
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
