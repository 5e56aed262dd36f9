"""Event kernels: products and recurrences whose cost is what units say, forward and backward.

| function | what it computes |
|---|---|
| `event_matvec` | activity @ matrix, rows of nonzero activities only |
| `event_csr` | the same for a pruned matrix, compressed by source (`CSRBySource`) |
| `event_product` | either of them or torch's dense product, by a measured `Crossover` |
| `ProductStream` | one of the first two for input after input, its weights prepared once |
| `egru_sequence` | the event-based GRU, with event-sparse back-propagation through time |
| `egru_gradients` | its gradients, and what they cost |
| `egru_csr_sequence`, `egru_csr_gradients` | the same with a pruned recurrent matrix, compressed by source |
| `Operations` | events, needed rows, multiply-accumulates and bytes, counted by the kernels |
"""

from eventbook.kernels.events.choice import Crossover, Weights, choose, event_product, measure_crossover
from eventbook.kernels.events.counters import Operations
from eventbook.kernels.events.csr import CSRBySource, event_csr, event_csr_counted
from eventbook.kernels.events.egru import (
    EGRUGradients,
    EGRURun,
    egru_gradients,
    egru_need,
    egru_sequence,
)
from eventbook.kernels.events.egru_csr import egru_csr_gradients, egru_csr_sequence
from eventbook.kernels.events.matvec import event_matvec, event_matvec_counted
from eventbook.kernels.events.stream import ProductStream

__all__ = [
    "CSRBySource",
    "Crossover",
    "EGRUGradients",
    "EGRURun",
    "Operations",
    "ProductStream",
    "Weights",
    "choose",
    "egru_csr_gradients",
    "egru_csr_sequence",
    "egru_gradients",
    "egru_need",
    "egru_sequence",
    "event_csr",
    "event_csr_counted",
    "event_matvec",
    "event_matvec_counted",
    "event_product",
    "measure_crossover",
]
