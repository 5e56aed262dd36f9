"""EGRU: a gated recurrent network whose units speak only when their state crosses a threshold.

    from eventbook.models.egru import EGRUCell

EGRUCell, EGRUState, Dynamics           one step, what it carries, the forms that it can have
SigmoidThreshold, BetaThreshold,
FixedThreshold, Threshold               thresholds, trained or not
"""

from eventbook.models.egru.cell import Dynamics, EGRUCell, EGRUState
from eventbook.models.egru.thresholds import (
    BetaThreshold,
    FixedThreshold,
    SigmoidThreshold,
    Threshold,
)

__all__ = [
    "BetaThreshold",
    "Dynamics",
    "EGRUCell",
    "EGRUState",
    "FixedThreshold",
    "SigmoidThreshold",
    "Threshold",
]
