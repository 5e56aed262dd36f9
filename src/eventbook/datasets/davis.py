"""One recording of a real event camera: a DAVIS346, 78,830 events in 2.36 seconds.

=======  ====================================  =====================  =========================
symbol   meaning                               shape                  name
=======  ====================================  =====================  =========================
x, y     pixel, 0..345 and 0..259              (78,830,) int          ``events["x"]``, ``["y"]``
t        microseconds after the first event    (78,830,) int          ``events["t"]``
p        1 brighter, 0 darker                  (78,830,) int          ``events["p"]``
=======  ====================================  =====================  =========================

The dtype is that of tonic's NMNIST, (x, y, t, p), and of ``eventbook.kernels.encoders``. Stamps never fall;
one event in fifty has the stamp of the event before it.

Source: a test recording of the package aedat 2.3.0 (International Centre for Neuromorphic Systems).
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eventbook.datasets.storage.store import Source, read_dataset

EVENT = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])

WIDTH, HEIGHT = 346, 260  # of the sensor; the recording itself does not say


@dataclass(frozen=True, eq=False)
class EventRecording:
    """Events of a sensor, in order of time.

    Attributes
    ----------
    events : ndarray of dtype `EVENT`, shape (event,)
    width, height : int
        Pixels of the sensor.
    source : Source
    """

    events: NDArray[np.void]
    width: int
    height: int
    source: Source

    def __len__(self) -> int:
        return len(self.events)

    @property
    def duration(self) -> int:
        """Microseconds from the first event to the last."""
        return int(self.events["t"][-1] - self.events["t"][0])


def load_davis_recording() -> EventRecording:
    """Load the recording, all of it.

    Returns
    -------
    EventRecording
        ``events`` (78,830,) of dtype `EVENT`, ``width`` 346, ``height`` 260, ``source``.

    Raises
    ------
    DataError
        If the file is missing or not what the manifest pins.

    Examples
    --------
    >>> recording = load_davis_recording()
    >>> len(recording), recording.duration
    (78830, 2359945)
    """
    (content,), source = read_dataset("davis346", ["davis346/davis346_aedat.npz"])
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        events = np.empty(len(stored["dt"]), EVENT)
        events["t"] = np.cumsum(stored["dt"], dtype=np.int64)  # the first gap is 0
        for name in ("x", "y", "p"):
            events[name] = stored[name]
    return EventRecording(events, WIDTH, HEIGHT, source)
