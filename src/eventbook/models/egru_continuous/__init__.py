"""The event-based GRU in continuous time, with its exact event-based adjoint.

    from eventbook.models.egru_continuous import EGRUContinuous, egru_continuous

EGRUContinuous                a layer with parameters
egru_continuous               a stream of events in, events, states and an integral out; differentiable
egru_continuous_gradients     its gradients without autograd, and what they took
egru_continuous_reference     the same written for reading, differentiable step by step

The loops are compiled in `eventbook.kernels.events.continuous`: flow, crossing, jump, forward, adjoint.
"""

from eventbook.models.egru_continuous.function import egru_continuous
from eventbook.models.egru_continuous.gradients import egru_continuous_gradients
from eventbook.models.egru_continuous.module import EGRUContinuous
from eventbook.models.egru_continuous.operator import Additions, ContinuousGradients, ContinuousRun
from eventbook.models.egru_continuous.reference import egru_continuous_reference

__all__ = [
    "Additions",
    "ContinuousGradients",
    "ContinuousRun",
    "EGRUContinuous",
    "egru_continuous",
    "egru_continuous_gradients",
    "egru_continuous_reference",
]
