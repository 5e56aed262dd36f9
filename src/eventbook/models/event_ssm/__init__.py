"""Event-SSM: diagonal state-space layers that integrate over the true gaps between events.

    from eventbook.models.event_ssm import EventSSM, EventSSMConfig, released

EventSSM, EventSSMConfig    a classifier of event streams
EventSSMLayer               one layer, for networks of your own
released, as_released       the configurations of the authors' code
"""

from eventbook.models.event_ssm.classifier import Encoded, EventSSM, EventSSMConfig
from eventbook.models.event_ssm.configurations import RELEASED, Released, as_released, released
from eventbook.models.event_ssm.layer import EventSSMLayer, Features

__all__ = [
    "RELEASED",
    "Encoded",
    "EventSSM",
    "EventSSMConfig",
    "EventSSMLayer",
    "Features",
    "Released",
    "as_released",
    "released",
]
