"""What the tests of Event-SSM share: the network written from its equations, random networks and streams.

The network here is Python numbers, one event after another, and shares nothing with the package but the names
of the weights.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from eventbook.models.event_ssm import EventSSM, EventSSMConfig

Stream = tuple[np.ndarray, np.ndarray]


# --- the equations -----------------------------------------------------------------------------------------


class Output(NamedTuple):
    """What comes after a whole group: number of the event, last layer, its gap, scores so far."""

    event: int
    values: list[float]
    gap: float
    scores: list[float]


def times(matrix: Any, vector: list[Any]) -> list[Any]:
    return [sum(float(a) * x for a, x in zip(row, vector, strict=True)) for row in matrix]


class Layer:
    """One layer with its state, and the events of the group that is not full."""

    def __init__(self, weights: dict[str, Any], config: EventSSMConfig, stride: int) -> None:
        self.w, self.config, self.stride = weights, config, stride
        self.h = [0j] * len(weights["log_step"])
        self.group: list[Any] = []

    def normalised(self, x: list[float]) -> list[float]:
        scale, shift = self.w["norm.weight"], self.w["norm.bias"]
        if self.config.norm == "layer":
            mean = sum(x) / len(x)
            variance = sum((v - mean) ** 2 for v in x) / len(x)
            return [
                g * (v - mean) / math.sqrt(variance + 1e-6) + b
                for v, g, b in zip(x, scale, shift, strict=True)
            ]
        averages = zip(x, scale, shift, self.w["norm.mean"], self.w["norm.variance"], strict=True)
        return [g * (v - m) / math.sqrt(s + 1e-6) + b for v, g, b, m, s in averages]

    def take(self, x: list[float], gap: float) -> tuple[list[float], float] | None:
        """One event: what the next layer gets, if a group is full now."""
        u = self.normalised(x)
        for p, (re, im, log_step) in enumerate(
            zip(self.w["lam_real"], self.w["lam_imag"], self.w["log_step"], strict=True)
        ):
            lam = complex(min(re, -1e-4) if self.config.clip_eigs else re, im)
            s = math.exp(log_step)
            a = cmath.exp(lam * s * gap)
            g = {"dirac": 1, "async": (cmath.exp(lam * s) - 1) / lam, "zoh": (a - 1) / lam}
            drive = sum(complex(*b) * v for b, v in zip(self.w["B"][p], u, strict=True))
            self.h[p] = a * self.h[p] + g[self.config.discretization] * drive
        self.group.append((u, x, gap, list(self.h)))
        if len(self.group) < self.stride:
            return None
        group, self.group = self.group, []
        member = 0 if self.config.kept == "first" else self.stride - 1
        weight = {
            "last": [float(i == member) for i in range(self.stride)],
            "average": [1.0] * self.stride,
            "time": [since + 1e-6 for _, _, since, _ in group],
        }[self.config.pooling]
        through, skipped = (
            [
                sum(w * event[part][i] for w, event in zip(weight, group, strict=True)) / sum(weight)
                for i in range(len(x))
            ]
            for part in (0, 1)
        )
        return self.out(group[member][3], through, skipped), sum(event[2] for event in group)

    def out(self, h: list[complex], through: list[float], skipped: list[float]) -> list[float]:
        c = 2 if self.config.conj_sym else 1
        D = self.w["D"]
        forward = [d * v for d, v in zip(D, through, strict=True)] if D.ndim == 1 else times(D, through)
        y = [
            c * sum(complex(*pair) * state for pair, state in zip(row, h, strict=True)).real + f
            for row, f in zip(self.w["C"], forward, strict=True)
        ]
        gelu = [0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in y]
        gate = [v + b for v, b in zip(times(self.w["gate.weight"], gelu), self.w["gate.bias"], strict=True)]
        if "skip.weight" in self.w:
            dense = times(self.w["skip.weight"], skipped)
            skipped = [v + b for v, b in zip(dense, self.w["skip.bias"], strict=True)]
        return [v + z / (1 + math.exp(-e)) for v, z, e in zip(skipped, y, gate, strict=True)]


def seen_gaps(config: EventSSMConfig, stamps: Any) -> list[float]:
    """Milliseconds that the network sees, each a float32; of as_released one less than stamps."""
    stamps = [int(stamp) for stamp in stamps]
    between = [float(np.float32((b - a) / 1000)) for a, b in pairwise(stamps)]
    gaps = between if config.alignment == "as_released" else ([0.0] if stamps else []) + between
    if config.constant_gap is not None:
        gaps = [0.0 if k == 0 else config.constant_gap for k in range(len(gaps))]
    return gaps


def event_by_event(model: EventSSM, tokens: Any, stamps: Any) -> list[Output]:
    """All outputs of the network in evaluation over one stream."""
    weights = {name: w.double().numpy() for name, w in model.state_dict().items()}
    config = model.config
    layers = []
    for number in range(config.stages * config.layers):
        start = f"layers.{number}."
        own = {name.removeprefix(start): w for name, w in weights.items() if name.startswith(start)}
        layers.append(Layer(own, config, config.stride if number % config.layers == 0 else 1))
    total, mass, found = [0.0] * len(weights["readout.weight"][0]), 0.0, []
    for k, gap in enumerate(seen_gaps(config, stamps)):
        x, since = [float(v) for v in weights["embedding"][tokens[k]]], gap
        for layer in layers:
            event = layer.take(x, since)
            if event is None:
                break
            x, since = event
        else:
            weight = since + 1e-6 if config.head == "time" else 1.0
            total, mass = [s + weight * v for s, v in zip(total, x, strict=True)], mass + weight
            mean = [s / mass for s in total]
            scores = [
                v + b
                for v, b in zip(times(weights["readout.weight"], mean), weights["readout.bias"], strict=True)
            ]
            found.append(Output(k, x, since, scores))
    return found


# --- networks and streams ----------------------------------------------------------------------------------

SMALL = EventSSMConfig(
    n_tokens=7, n_classes=3, d_model=5, d_state=8, blocks=2, stages=2, layers=1, stride=2, dt_min=0.05,
    dt_max=0.9,
)  # fmt: skip


def network(config: EventSSMConfig = SMALL, seed: int = 0, dtype: torch.dtype = torch.float64) -> EventSSM:
    """A network in evaluation in which no weight is trivial and no eigenvalue the same."""
    generator = torch.Generator().manual_seed(seed)
    model = EventSSM(config, generator=generator).to(torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
            parameter += 0.1 * noise
        for name, buffer in model.named_buffers():
            noise = torch.randn(buffer.shape, dtype=torch.float64, generator=generator)
            buffer += noise.abs() if name.endswith("variance") else 0.3 * noise
        model.embedding *= 2
    return model.to(dtype).eval()


def varied(**changes: Any) -> EventSSM:
    """A random network like `SMALL`, but for these fields."""
    return network(replace(SMALL, **changes))


def stream(n: int, seed: int = 0, n_tokens: int = SMALL.n_tokens) -> Stream:
    """n events of some milliseconds' distance; a third of them simultaneous with the one before."""
    rng = np.random.default_rng([n, seed])
    gaps = rng.integers(1, 6_000, n) * (rng.random(n) > 1 / 3)
    return rng.integers(0, n_tokens, n), 1_000_000 + np.cumsum(gaps)


def scores(model: EventSSM, streams: list[Stream]) -> Tensor:
    with torch.no_grad():
        batch = model.collate(streams)
        return model(batch.token, batch.gap, batch.lengths)


def relative(found: Any, expected: Any) -> float:
    """Largest difference relative to the largest expected value."""
    found, expected = (
        x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x) for x in (found, expected)
    )
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())
