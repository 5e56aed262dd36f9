"""Scans: linear recurrences over time, with gradients, a carried state and a step for one element.

linear_scan, constant_scan        h_t = a_t h_{t-1} + b_t, the decay given for each element or once
event_scan, token_scan, event_step    the decay is exp(lambda gap), formed on the fly (Event-SSM)
selective_scan, selective_step    decay and input depend on the input (Mamba)
coordinate_scan                   the same, decaying with a distance (STREAM)
causal_silu                       the short convolution before it, with its activation
discretize                        decays and gains in readable form
"""

from eventbook.kernels.scans.causal import causal_silu
from eventbook.kernels.scans.constant import constant_scan
from eventbook.kernels.scans.discretize import discretize
from eventbook.kernels.scans.event import event_scan, event_step, token_scan
from eventbook.kernels.scans.linear import linear_scan
from eventbook.kernels.scans.selective import coordinate_scan, selective_scan, selective_step

__all__ = [
    "causal_silu",
    "constant_scan",
    "coordinate_scan",
    "discretize",
    "event_scan",
    "event_step",
    "linear_scan",
    "selective_scan",
    "selective_step",
    "token_scan",
]
