"""EGRU: a gated recurrent network whose units speak only when their state crosses a threshold.

    from eventbook.models.egru import EGRU

EGRU                                    layers, called like torch.nn.GRU; `EGRU.run` says what they did
EGRUCell, EGRUState, Dynamics           one step, what it carries, the forms that it can have
EGRUStream                              a trained network, fed step by step
SigmoidThreshold, BetaThreshold,
FixedThreshold, Threshold               thresholds, trained or not
from_gru, to_gru                        the limit in which it is torch.nn.GRU
compress, CompressedCell                a pruned network that stores and reads what is left of it
readout                                 low-pass traces of events
regularisation                          terms that make it speak less
"""

from eventbook.models.egru.cell import Dynamics, EGRUCell, EGRUState
from eventbook.models.egru.compressed import CompressedCell, compressed_cell
from eventbook.models.egru.compression import compress
from eventbook.models.egru.conversion import from_gru, state_from_gru, state_to_gru, to_gru
from eventbook.models.egru.crossover import PathCosts, choose_path, measure_paths
from eventbook.models.egru.layers import LayerRun, run_layer
from eventbook.models.egru.network import EGRU, NetworkRun, detached
from eventbook.models.egru.readout import at_end, mean_over_time, trace
from eventbook.models.egru.streaming import EGRUStream
from eventbook.models.egru.thresholds import (
    BetaThreshold,
    FixedThreshold,
    SigmoidThreshold,
    Threshold,
)

__all__ = [
    "EGRU",
    "BetaThreshold",
    "CompressedCell",
    "Dynamics",
    "EGRUCell",
    "EGRUState",
    "EGRUStream",
    "FixedThreshold",
    "LayerRun",
    "NetworkRun",
    "PathCosts",
    "SigmoidThreshold",
    "Threshold",
    "at_end",
    "choose_path",
    "compress",
    "compressed_cell",
    "detached",
    "from_gru",
    "mean_over_time",
    "measure_paths",
    "run_layer",
    "state_from_gru",
    "state_to_gru",
    "to_gru",
    "trace",
]
