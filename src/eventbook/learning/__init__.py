"""Learning rules that a user would import for their own network."""

from eventbook.learning.rewiring.deep_r import (
    BudgetError,
    DeepR,
    GlobalDeepR,
    SoftDeepR,
    SoftSparseLinear,
    SparseLinear,
    other_parameters,
    sparsify,
)
from eventbook.learning.rewiring.sparse_linear import FreeSparseLinear

__all__ = [
    "BudgetError",
    "DeepR",
    "FreeSparseLinear",
    "GlobalDeepR",
    "SoftDeepR",
    "SoftSparseLinear",
    "SparseLinear",
    "other_parameters",
    "sparsify",
]
