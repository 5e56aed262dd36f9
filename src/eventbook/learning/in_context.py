r"""Training on tasks that are drawn anew at every step, as layers that learn in their context are trained.

    draw 64 tasks;     passes times:  theta <- AdamW(theta, d/dtheta half squared error of the answers)
    rate of step n of S:   "constant" 1,     "cosine" min(1, (n + 1)/(S/10)) (1 + cos(pi n/S))/2

| symbol | meaning | shape | name |
|---|---|---|---|
| - | tasks of a step | `eventbook.models.in_context.Tasks` | `draw(count, generator)` |
| - | updates on one batch | number | `passes_per_batch` |

In the released code the loop over a batch walks through its three parts (inputs, targets, weights), so that
every batch is used three times; a warm-up and a cosine are computed and never applied. `RELEASED` does the
same; its steps are the 10,000 "epochs" of the README. `FAST` takes each batch once and larger steps. With the
schedule "cosine" the rates do rise and fall, over a tenth of the steps and over all of them.

A checkpoint is written every so many steps, and holds the random state: a run that was interrupted goes on as
if nothing had happened.

Source: released code of arXiv:2410.11687.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from eventbook.kernels.encoders.arguments import whole
from eventbook.learning.checkpoints import read_checkpoint, write_checkpoint
from eventbook.models.in_context.tasks import Tasks, half_square

Draw = Callable[[int, Generator], Tasks]
SCHEDULES = ("constant", "cosine")
WARM_UP = 0.1  # share of the steps


class InContextLearner(Protocol):
    """What can be trained: an `nn.Module` with these two."""

    def predict(self, tokens: Tensor) -> Tensor: ...

    def parameter_groups(self, lr: float, ssm_lr: float, weight_decay: float) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes
    ----------
    steps, batch_size, passes_per_batch
        Batches, tasks in each, updates on each.
    lr, ssm_lr, weight_decay, schedule
        Rate of attention, map and gate; of decays and steps; decay of AdamW on the former;
        "constant" or "cosine".
    seed
        Of the tasks; initial values are the model's own.
    """

    steps: int = 3_000
    batch_size: int = 64
    passes_per_batch: int = 1
    lr: float = 1e-3
    ssm_lr: float = 1e-3
    weight_decay: float = 0.05
    schedule: str = "constant"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"steps": 1, "batch_size": 1, "passes_per_batch": 1, "seed": 0}.items():
            whole(getattr(self, name), name, least)
        for name in ("lr", "ssm_lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and > 0, got {getattr(self, name)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be finite and >= 0, got {self.weight_decay}")


RELEASED = Recipe(steps=10_000, passes_per_batch=3, lr=2e-4, ssm_lr=1e-4)
FAST = Recipe()


def train_in_context(
    model: Any,
    draw: Draw,
    recipe: Recipe,
    *,
    every: int = 0,
    watch: Callable[[int], dict[str, float]] | None = None,
    checkpoint: Path | str | None = None,
) -> list[dict[str, float]]:
    """Train a model in place.

    Parameters
    ----------
    model
        An `InContextLearner`.
    draw
        Called with a number of tasks and a generator.
    recipe
        How.
    every
        Steps between two entries of the history; 0 for one entry, at the end.
    watch
        Called with the number of steps that are done; the numbers that it returns join the entry.
    checkpoint
        File that is written with every entry, whole or not at all, and from which an interrupted run goes
        on. That model, draw and watch are the same is the caller's care.

    Returns
    -------
    history
        Per entry: "step", "loss" (mean over the steps since the last), and what `watch` said.

    Raises
    ------
    ValueError
        If `every` is negative, or the checkpoint is broken or of another recipe.
    TypeError
        If the model is no `InContextLearner`.
    FloatingPointError
        If the loss is not finite; names the step.
    """
    for method in ("predict", "parameter_groups"):
        if not callable(getattr(model, method, None)):
            raise TypeError(f"model must have a method {method}, got {type(model).__name__}")
    whole(every, "every", 0)
    optimizer = torch.optim.AdamW(model.parameter_groups(recipe.lr, recipe.ssm_lr, recipe.weight_decay))
    rates = [group["lr"] for group in optimizer.param_groups]
    generator = Generator().manual_seed(recipe.seed)
    history: list[dict[str, float]] = []
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        _resume(path, model, optimizer, generator, history, recipe)
    done = int(history[-1]["step"]) if history else 0
    losses = []
    for step in range(done, recipe.steps):
        tasks = draw(recipe.batch_size, generator)
        tokens = tasks.tokens()
        for group, largest in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = largest * share_of_rate(recipe, step)
        for _ in range(recipe.passes_per_batch):
            loss = half_square(model.predict(tokens), tasks.answer)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise FloatingPointError(f"loss must be finite, got {losses[-1]} at step {step}")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step + 1 == recipe.steps or (every and (step + 1) % every == 0):
            said = watch(step + 1) if watch else {}
            history.append({"step": float(step + 1), "loss": sum(losses) / len(losses), **said})
            losses = []
            if path is not None:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                state |= {"history": history, "generator": generator.get_state()}
                write_checkpoint(path, {"recipe": asdict(recipe)}, state)
    return history


def share_of_rate(recipe: Recipe, step: int) -> float:
    """Factor of the rates at a step, counted from 0."""
    if recipe.schedule == "constant":
        return 1.0
    rising = min(1.0, (step + 1) / (WARM_UP * recipe.steps))
    return rising * (1 + math.cos(math.pi * step / recipe.steps)) / 2


def _resume(
    path: Path, model: Any, optimizer: Any, generator: Generator, history: list[Any], recipe: Recipe
) -> None:
    """Go on from a checkpoint, if there is one."""
    state = read_checkpoint(path, {"recipe": asdict(recipe)}, ("history", "model", "optimizer", "generator"))
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        history += state["history"]
