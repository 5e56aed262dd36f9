"""Numba kernels, each beside a readable reference twin. Imports nothing else of the package."""

from eventbook.kernels.compile import kernel
from eventbook.kernels.random import connection_sign, signs_at
from eventbook.kernels.rewiring import (
    count_active,
    deep_r_step,
    deep_r_step_excluding_dropped,
    soft_deep_r_step,
    soft_deep_r_step_reflecting,
)
from eventbook.kernels.sparse import sparse_gradients, sparse_product, sparse_weight_gradient, to_lanes

__all__ = [
    "connection_sign",
    "count_active",
    "deep_r_step",
    "deep_r_step_excluding_dropped",
    "kernel",
    "signs_at",
    "soft_deep_r_step",
    "soft_deep_r_step_reflecting",
    "sparse_gradients",
    "sparse_product",
    "sparse_weight_gradient",
    "to_lanes",
]
