"""Pruning: fewer weights or fewer units, and masks that hold while what is left is trained.

weights      which weights, and the parts of them in which as many go
selection    masks by magnitude or at random, exact in count
masks        masks that an optimiser cannot undo
schedules    one shot or several, linear or cubic
units        whole units of an EGRU, by how often they speak
rewired      Deep Rewiring on the same kernels, at the same count
decay        weight decay in e-folds
"""

from eventbook.learning.pruning.decay import DecayMeter, efolds, shrinkage
from eventbook.learning.pruning.masks import Masks, prune
from eventbook.learning.pruning.rewired import connection_masks, rewire, settle
from eventbook.learning.pruning.schedules import GradualPruning, sparsities
from eventbook.learning.pruning.selection import magnitude_masks, random_masks
from eventbook.learning.pruning.units import UnitPruning, prune_units, unit_activity
from eventbook.learning.pruning.weights import SCOPES, Prunable, recurrent_weights

__all__ = [
    "SCOPES",
    "DecayMeter",
    "GradualPruning",
    "Masks",
    "Prunable",
    "UnitPruning",
    "connection_masks",
    "efolds",
    "magnitude_masks",
    "prune",
    "prune_units",
    "random_masks",
    "recurrent_weights",
    "rewire",
    "settle",
    "shrinkage",
    "sparsities",
    "unit_activity",
]
