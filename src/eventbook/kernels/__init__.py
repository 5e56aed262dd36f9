"""Numba kernels, each beside a readable reference twin. Imports nothing else of the package."""

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.random import connection_sign, signs_at
from eventbook.kernels.rewiring.products import (
    sparse_gradients,
    sparse_product,
    sparse_weight_gradient,
    to_lanes,
)
from eventbook.kernels.rewiring.steps import (
    count_active,
    deep_r_step,
    deep_r_step_excluding_dropped,
    soft_deep_r_step,
    soft_deep_r_step_reflecting,
)

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
