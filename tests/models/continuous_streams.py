"""A small network in continuous time with a stream, a loss of all it gives, and central differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

UNITS, TOKENS = 4, 3
GROUPS = ("time", "value", "kernel", "recurrent", "bias", "threshold", "state")
VARIANTS = [
    {"gate_of": gate, "payload": payload, "reset": reset}
    for gate, payload, reset in itertools.product(
        ("target", "source"), ("graded", "unit"), ("zero", "threshold")
    )
]
WEIGHTS = {"states": 1.0, "last": 1.0, "integral": 0.1, "time": 0.1, "value": 1.0}  # of parts of the loss


def problem(seed: int = 80, events: int = 14, duration: float = 60.0) -> dict[str, Any]:
    """Arguments. With this seed every unit fires, 11 to 14 times in all, in every variant, .09 ms apart.

    Events of all kinds and asked times: where two change places a difference means nothing.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    time = torch.rand(events, generator=generator, dtype=torch.float64) * 0.8 * duration
    token = torch.randint(TOKENS, (events,), generator=generator)
    drive = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).repeat_interleave(UNITS)
    kernel, recurrent = normal(TOKENS, 3 * UNITS) + drive, normal(UNITS, 3 * UNITS, scale=0.5)
    bias = normal(3 * UNITS, scale=0.3)
    threshold = 0.1 + 0.15 * torch.rand(UNITS, generator=generator, dtype=torch.float64)
    state = normal(4, UNITS, scale=0.05)
    state[0] = torch.minimum(state[0], 0.9 * threshold)
    return {
        "time": time.sort().values,
        "token": token,
        "kernel": kernel,
        "recurrent": recurrent,
        "bias": bias,
        "threshold": threshold,
        "state": state,
        "value": 1 + normal(events, scale=0.2),
        "duration": duration,
        "asked": torch.tensor([0.0, 7.5, 33.0, duration], dtype=torch.float64),
    }


def arriving(run: Any) -> dict[str, Tensor]:
    """Gradients of the loss by every part of a run."""
    generator = torch.Generator().manual_seed(5)
    return {
        name: scale * torch.randn(getattr(run, name).shape, generator=generator, dtype=torch.float64)
        for name, scale in WEIGHTS.items()
    }


def loss(run: Any) -> Tensor:
    return torch.stack([(weight * getattr(run, name)).sum() for name, weight in arriving(run).items()]).sum()


def gradients(function: Callable[..., Any], arguments: dict[str, Any], **options: Any) -> dict[str, Tensor]:
    """Gradients of the loss by every group, by autograd."""
    mine = {k: v.clone().requires_grad_() if k in GROUPS else v for k, v in arguments.items()}
    loss(function(**mine, **options)).backward()
    return {name: mine[name].grad for name in GROUPS}


def differences(
    function: Callable[..., Any], arguments: dict[str, Any], group: str, width: float = 1e-5, **options: Any
) -> Tensor:
    """Central differences of the loss by every member of a group, of fourth order."""
    units = function(**arguments, **options).unit

    def moved(at: int, by: float) -> float:
        values = arguments[group].clone()
        values.view(-1)[at] += by
        run = function(**{**arguments, group: values}, **options)
        assert torch.equal(run.unit, units)  # a difference across another sequence of events means nothing
        return loss(run).item()

    found = [
        (8 * (moved(k, width) - moved(k, -width)) - (moved(k, 2 * width) - moved(k, -2 * width)))
        / (12 * width)
        for k in range(arguments[group].numel())
    ]
    return torch.tensor(found, dtype=torch.float64).view_as(arguments[group])


def relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()
