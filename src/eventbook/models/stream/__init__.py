"""STREAM: a selective state-space model whose state decays with the distance between elements.

    from eventbook.models.stream import StreamConfig, StreamEvents, StreamPoints

StreamEvents        a classifier of event streams: the distance is time
StreamPoints        a classifier of point clouds: each axis in turn
StreamBlock         one block, for networks of your own
sort_along_axes     clouds to sequences, without a trace of how their points were listed
baselines           PointNet and PointMamba at the same size
clouds              batches of clouds, and what their classifiers share
"""

from eventbook.models.stream.block import BlockState, StreamBlock
from eventbook.models.stream.events import StreamConfig, StreamEvents
from eventbook.models.stream.points import StreamPoints
from eventbook.models.stream.sorting import AxisSorted, sort_along_axes

__all__ = [
    "AxisSorted",
    "BlockState",
    "StreamBlock",
    "StreamConfig",
    "StreamEvents",
    "StreamPoints",
    "sort_along_axes",
]
