"""What the tests of scans share: random problems, gradients of everything, relative distances."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DOUBLE, SINGLE = (torch.float64, torch.complex128), (torch.float32, torch.complex64)
FROZEN = json.loads((Path(__file__).parent / "frozen_oracles.json").read_text(encoding="utf-8"))


def frozen(case: str) -> dict[str, Tensor]:
    """Arrays of another package's results, in double precision; see `provenance` in the file."""
    arrays = {}
    for name, stored in FROZEN[case].items():
        if name == "provenance":
            continue
        values = torch.tensor(stored["re"], dtype=torch.float64)
        if "im" in stored:
            values = torch.complex(values, torch.tensor(stored["im"], dtype=torch.float64))
        arrays[name] = values.reshape(stored["shape"])
    return arrays


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Normal numbers that single precision can hold, so that both precisions see the same problem."""
    generator = torch.Generator().manual_seed(seed + 7919 * sum(shape) + len(shape))
    single = torch.complex64 if dtype.is_complex else torch.float32
    return torch.randn(*shape, dtype=single, generator=generator).to(dtype)


def cast(tensor: Tensor, dtypes: tuple[torch.dtype, torch.dtype]) -> Tensor:
    """A leaf of the same values in another precision."""
    return tensor.detach().to(dtypes[tensor.is_complex()]).requires_grad_()


def outputs_and_gradients(
    function: Callable[..., tuple[Tensor, ...]], inputs: dict[str, Tensor], seed: int = 0
) -> dict[str, Tensor]:
    """All outputs, and the gradients of a random combination of them to all inputs."""
    outputs = function(**inputs)
    weights = [random(*out.shape, dtype=out.dtype, seed=seed + k) for k, out in enumerate(outputs)]
    loss = sum((out * weight).sum().real for out, weight in zip(outputs, weights, strict=True))
    gradients = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)
    found: dict[str, Tensor] = {f"output {k}": out for k, out in enumerate(outputs)}
    for (name, tensor), gradient in zip(inputs.items(), gradients, strict=True):
        found[f"gradient to {name}"] = torch.zeros_like(tensor) if gradient is None else gradient
    return found


def distance(found: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the largest expected value."""
    assert found.shape == expected.shape
    if not expected.numel():
        return 0.0
    with torch.no_grad():
        return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def largest_distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> tuple[float, str]:
    """The worst of all, with its name."""
    return max((distance(found[name], expected[name]), name) for name in expected)


def compare(
    kernel: Callable[..., Any], reference: Callable[..., Any], inputs: dict[str, Tensor], single: float
) -> None:
    """Kernel and twin agree to 1e-12 in double precision; single precision agrees to `single` with it."""
    double = {name: cast(tensor, DOUBLE) for name, tensor in inputs.items()}
    expected = outputs_and_gradients(reference, double)
    error, name = largest_distance(outputs_and_gradients(kernel, double), expected)
    assert error < 1e-12, name
    error, name = largest_distance(
        outputs_and_gradients(kernel, {key: cast(value, SINGLE) for key, value in inputs.items()}), expected
    )
    assert error < single, name
