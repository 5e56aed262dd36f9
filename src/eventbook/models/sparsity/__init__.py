"""What a network leaves out, in the terms of NeuroBench: silent units, missing weights, products.

| name | what it is |
|---|---|
| `measure_sparsity` | run an EGRU, a torch.nn.GRU or LSTM, and count |
| `ActivationSparsity`, `ConnectionSparsity`, `SynapticOperations` | the three terms |
| `Product` | one matrix: which sources spoke, and which of their weights are there |
| `dense_macs`, `modelled_macs` | what a stack costs, by formula |
| `split_of_ratio`, `noise_of_random_masks` | do the two sparsities multiply, and to what precision |
"""

from eventbook.models.sparsity.closed_forms import (
    dense_macs,
    modelled_macs,
    noise_of_random_masks,
    split_of_ratio,
)
from eventbook.models.sparsity.counting import Sparsity, measure_sparsity
from eventbook.models.sparsity.products import Product
from eventbook.models.sparsity.terms import ActivationSparsity, ConnectionSparsity, SynapticOperations

__all__ = [
    "ActivationSparsity",
    "ConnectionSparsity",
    "Product",
    "Sparsity",
    "SynapticOperations",
    "dense_macs",
    "measure_sparsity",
    "modelled_macs",
    "noise_of_random_masks",
    "split_of_ratio",
]
