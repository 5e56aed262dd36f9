"""The event-based GRU as a network: a step at a time, and a step of training, beside torch.nn.GRU.

python benchmarks/egru.py [path of the JSON]

Thresholds are set by bisection, so that networks have the activity that a case names. Streams take one input
a call and carry their state; inputs rotate, so that weights of active units do not stay in the nearest cache
only because they are always the same. Outputs of all ways of ours must agree before any is timed.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn

from eventbook.models.egru import EGRU, EGRUStream
from harness import Case, Goal, Work, curve, main

INPUTS, STEPS = 128, 64
GRU = "torch.nn.GRU"
STEP = "ours, a call of the network a step"
EVENT, DENSE, AUTO = "ours, by events", "ours, dense", "ours, auto"
PEERS = {GRU: "torch"}


@dataclass
class Setting:
    """A network at a chosen activity, torch's of the same sizes, and inputs (batch, time, input)."""

    model: EGRU
    gru: nn.GRU
    x: Tensor
    activity: float

    @classmethod
    def of(cls, units: int, layers: int, activity: float, batch: int = 1, steps: int = STEPS) -> "Setting":
        chance = torch.Generator().manual_seed(0)
        x = 1.5 * torch.randn(batch, steps, INPUTS, generator=chance)
        torch.manual_seed(0)
        gru = nn.GRU(INPUTS, units, layers, batch_first=True)

        def network(theta: float) -> EGRU:
            chance.manual_seed(1)
            return EGRU(INPUTS, units, layers, batch_first=True, threshold=theta, generator=chance)

        low, high, found = 1e-3, 3.0, 0.0
        with torch.no_grad():
            for _ in range(12):  # the threshold that gives this activity
                theta = (low + high) / 2
                runs = network(theta).run(x[:1]).layers
                found = sum(run.activity() for run in runs) / len(runs)
                low, high = (theta, high) if found > activity else (low, theta)
        return cls(network(theta), gru, x, found)

    def by(self, path: str) -> EGRU:
        """The network, to go this way."""
        model = copy.deepcopy(self.model)
        model.path = path
        return model


def agree(name: str, found: Tensor, expected: Tensor) -> None:
    """Stop if outputs differ by more than single precision explains."""
    apart = float((found - expected).abs().max() / expected.abs().max())
    if not apart < 1e-4:
        raise SystemExit(f"{name} must agree to 1e-4 before it is timed, differs by {apart:.1e}")


def without_gradients(work: Callable[[Any], object], inputs: list[Any]) -> Work:
    turn = cycle(inputs)

    def once() -> None:
        with torch.inference_mode():
            work(next(turn))

    return once


def carrying(step: Callable[[Tensor, Any], tuple[Tensor, Any]]) -> Callable[[Tensor], Tensor]:
    """A network of torch, one step a call, its state carried from call to call."""
    state: list[Any] = [None]

    def one(x: Tensor) -> Tensor:
        y, state[0] = step(x, state[0])
        return y

    return one


@torch.inference_mode()
def stream(units: int, layers: int, activity: float, goals: list[Goal]) -> Case:
    setting = Setting.of(units, layers, activity)
    made = EGRUStream(setting.model)
    agree("the stream", torch.from_numpy(made.push(setting.x[0])), setting.model(setting.x)[0][0])
    rows = list(setting.x[0].numpy())
    steps = list(setting.x.split(1, 1))
    return Case(
        f"EGRU, a step a call, {layers} x {units}, batch 1",
        f"{setting.activity:.0%} active",
        {
            "ours": without_gradients(made.push, rows),
            STEP: without_gradients(carrying(setting.model), steps),
            GRU: without_gradients(carrying(setting.gru), steps),
        },
        goals,
        PEERS,
        per_call=1,
        unit="steps",
    )


def training(units: int, batch: int, activity: float, goals: list[Goal]) -> Case:
    """Loss and gradients of all weights."""
    setting = Setting.of(units, 1, activity, batch)
    expected = setting.by("dense")(setting.x)[0].detach()

    def of_module(module: nn.Module) -> Work:
        weights = [p for p in module.parameters() if p.requires_grad]
        return lambda: torch.autograd.grad(module(setting.x)[0].square().sum(), weights)

    def of_path(path: str) -> Work:
        model = setting.by(path)
        agree(path, model(setting.x)[0].detach(), expected)
        return of_module(model)

    works = {"ours": of_path("event"), DENSE: of_path("dense"), AUTO: of_path("auto")}
    return Case(
        f"EGRU, loss and gradients, {units} units, {STEPS} steps",
        f"batch {batch}, {setting.activity:.0%} active",
        {**works, GRU: of_module(setting.gru)},
        goals,
        PEERS,
        per_call=batch * STEPS,
        unit="steps",
    )


def cases() -> Iterator[Case]:
    faster = [Goal(GRU, 1)]
    for units, layers in ((128, 1), (512, 2), (1344, 1)):
        for activity in (0.05, 0.3):
            yield stream(units, layers, activity, faster)
    yield training(256, 1, 0.2, [])
    yield training(256, 32, 0.2, [])


def crossovers() -> Iterator[dict[str, Any]]:
    torch.set_num_threads(1)

    def by_batch(batch: float) -> dict[str, Work]:
        """Forward alone, at the activity of the paper's language models."""
        setting = Setting.of(256, 1, 0.2, int(batch), 16)
        return {
            name: without_gradients(setting.by(path), [setting.x])
            for name, path in ((EVENT, "event"), (DENSE, "dense"))
        }

    yield curve("256 units, 20 % active", "sequences in a batch", [1, 4, 16, 64], by_batch)


if __name__ == "__main__":
    main(__file__, "EGRU", cases, lambda: (), crossovers)
