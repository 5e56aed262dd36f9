"""Loaders for real data, each file checked against ``data/manifest.yml``.

Arrays are NumPy's; nothing here imports torch. The kernels that encode data as events, and Numba with them,
are loaded by who asks for such events.
"""

from eventbook.datasets.davis import EVENT, EventRecording, load_davis_recording
from eventbook.datasets.digits import load_digits
from eventbook.datasets.mnist import (
    FASHION_CLASSES,
    LabelledImages,
    load_fashion_mnist,
    load_mnist,
    tensorflow_validation_split,
)
from eventbook.datasets.points.cad_parts import load_cad_parts
from eventbook.datasets.points.originals import load_point_clouds
from eventbook.datasets.points.point_clouds import PointClouds
from eventbook.datasets.points.sets import POINT_SETS, load_points
from eventbook.datasets.spoken_digits import SpokenDigits, load_spoken_digits
from eventbook.datasets.storage.download import fetch
from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.store import DatasetInfo, FileStatus, Source, list_datasets, verify
from eventbook.datasets.storage.unpacking import unpack
from eventbook.datasets.streams.event_digits import load_event_digits
from eventbook.datasets.streams.event_originals import load_event_original
from eventbook.datasets.streams.event_streams import EventStreams
from eventbook.datasets.streams.saccade_mnist import load_saccade_mnist
from eventbook.datasets.streams.sets import STREAM_SETS, load_event_streams
from eventbook.datasets.streams.timing_task import timing_task
from eventbook.datasets.text.corpus import Corpus
from eventbook.datasets.text.originals import load_text_original
from eventbook.datasets.text.sets import TEXTS, load_text
from eventbook.datasets.text.state_of_the_union import load_state_of_the_union
from eventbook.datasets.weights import load_weights, weight_sets

__all__ = [
    "EVENT",
    "FASHION_CLASSES",
    "POINT_SETS",
    "STREAM_SETS",
    "TEXTS",
    "Corpus",
    "DataError",
    "DatasetInfo",
    "EventRecording",
    "EventStreams",
    "FileStatus",
    "LabelledImages",
    "PointClouds",
    "Source",
    "SpokenDigits",
    "fetch",
    "list_datasets",
    "load_cad_parts",
    "load_davis_recording",
    "load_digits",
    "load_event_digits",
    "load_event_original",
    "load_event_streams",
    "load_fashion_mnist",
    "load_mnist",
    "load_point_clouds",
    "load_points",
    "load_saccade_mnist",
    "load_spoken_digits",
    "load_state_of_the_union",
    "load_text",
    "load_text_original",
    "load_weights",
    "tensorflow_validation_split",
    "timing_task",
    "unpack",
    "verify",
    "weight_sets",
]
