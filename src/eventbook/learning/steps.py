"""A step of a training: gradients, their bound, and a refusal of those that are none.

    g <- g min(1, clip / |g|)          |g| the norm of all gradients together

Source: derived; the bound is torch's `clip_grad_norm_`.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_


def take_step(
    optimizer: torch.optim.Optimizer, loss: Tensor, parameters: Iterable[Parameter], clip: float, step: int
) -> None:
    """Go back from a loss and let the optimiser take its step.

    Parameters
    ----------
    optimizer
        Its gradients are cleared first.
    loss
        A scalar.
    parameters
        Those whose gradients are bounded together.
    clip
        The bound; 0 for none.
    step
        Its number, for the error.

    Raises
    ------
    FloatingPointError
        If the norm is not finite, as that of gradients through many steps may be while the loss is still a
        number. The step is not taken.
    """
    optimizer.zero_grad()
    loss.backward()
    norm = clip_grad_norm_(parameters, clip or math.inf)
    if not norm.isfinite():
        raise FloatingPointError(f"gradient must be finite, got a norm of {norm} at step {step}")
    optimizer.step()
