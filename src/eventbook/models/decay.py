"""What of a network an optimiser's weight decay pulls on: matrices, and no offsets, thresholds or scales.

Source: derived; the usual practice.
"""

from typing import Any

from torch import nn


def matrices_decay(model: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of what is trained, for an optimiser: matrices, which decay, and vectors, which do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "lr": lr, "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "lr": lr, "weight_decay": 0.0},
    ]
