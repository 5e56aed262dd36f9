"""What of a network an optimiser's weight decay pulls on: matrices, and no offsets, thresholds or scales.

A matrix of which few entries are left may be stored as a vector of them. A module that does so says which of
its parameters these are, by name, in an attribute `matrix_entries`: they decay like the matrix.

Source: derived; the usual practice.
"""

from typing import Any

from torch import nn


def matrices_decay(model: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of what is trained, for an optimiser: matrices, which decay, and vectors, which do not.

    Entries of matrices that a module stores as a vector, as a compressed layer does, are with the matrices.

    Examples
    --------
    >>> [len(group["params"]) for group in matrices_decay(nn.Linear(3, 2), 1e-3, 0.1)]
    [1, 1]
    """
    entries = {
        id(module.get_parameter(name))
        for module in model.modules()
        for name in getattr(module, "matrix_entries", ())
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1 or id(p) in entries]
    vectors = [p for p in trained if p.ndim <= 1 and id(p) not in entries]
    return [
        {"params": matrices, "lr": lr, "weight_decay": weight_decay},
        {"params": vectors, "lr": lr, "weight_decay": 0.0},
    ]
