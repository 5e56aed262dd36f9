"""Event-SSM: diagonal state-space layers that integrate over the true gaps between events.

    from eventbook.models.event_ssm import EventSSM, EventSSMConfig, released

EventSSM, EventSSMConfig    a classifier of event streams
EventSSMLayer               one layer, for networks of your own
EventStream                 a trained network, fed event by event
released, as_released       the configurations of the authors' code
augmentation                chains of augmentations, event CutMix
"""

from eventbook.models.event_ssm.classifier import Encoded, EventSSM, EventSSMConfig
from eventbook.models.event_ssm.configurations import RELEASED, Released, as_released, released
from eventbook.models.event_ssm.layer import EventSSMLayer, Features
from eventbook.models.event_ssm.streaming import EventStream, StreamOutput

__all__ = [
    "RELEASED",
    "Encoded",
    "EventSSM",
    "EventSSMConfig",
    "EventSSMLayer",
    "EventStream",
    "Features",
    "Released",
    "StreamOutput",
    "as_released",
    "released",
]
