"""Encoders: from images, signals and sensors to events, and from events to what a network reads.

events       what an event is, and the checks that all encoders share
saccades     images -> events of three small eye movements (N-MNIST's protocol, simulated)
delta        signals in channels -> level crossings, and back
collate      ragged streams -> padded batch of tokens and gaps
pooling      r events -> one, gaps summed
frames       events -> counts by window, polarity and pixel
levels       the rule by which a changing signal emits events (used by saccades and delta)
order        stable sort by time (used by saccades and delta)
arguments    whole numbers, columns of integers, and how many events are too many
"""

from eventbook.kernels.encoders.collate import (
    EventBatch,
    collate,
    events_of_tokens,
    gaps_of,
    tokens_of,
)
from eventbook.kernels.encoders.delta import TokenStream, delta_events, reconstruct
from eventbook.kernels.encoders.events import EVENT, EventColumns, check_events
from eventbook.kernels.encoders.frames import event_frames
from eventbook.kernels.encoders.pooling import Pooled, pool_average, pool_last, pool_time
from eventbook.kernels.encoders.saccades import saccade_events, saccade_events_batch

__all__ = [
    "EVENT",
    "EventBatch",
    "EventColumns",
    "Pooled",
    "TokenStream",
    "check_events",
    "collate",
    "delta_events",
    "event_frames",
    "events_of_tokens",
    "gaps_of",
    "pool_average",
    "pool_last",
    "pool_time",
    "reconstruct",
    "saccade_events",
    "saccade_events_batch",
    "tokens_of",
]
