r"""Training a language model on one long text: windows of random length, state carried between them.

    loss = -mean log p(next word) + strength sum_l (mean o^l - target)^2        o: events of layer l

| symbol | meaning | shape | name |
|---|---|---|---|
| w | the text, cut into pieces that are read at once | (batch, -1) | `tokens` |
| W_bar | mean of the weights after every step from `average_from` on, 0 where they are | as the weights | - |

Everything random is drawn anew from (seed, epoch, window), so that an interrupted run goes on from its
checkpoint as if nothing had happened.

Source: Merity et al. 2018 for averaging (there from when validation stalls); the released code of
arXiv:2206.06178 for the rest, which rescales the rate of one of its groups of parameters only.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from eventbook.kernels.encoders.arguments import whole
from eventbook.learning.checkpoints import digest, read_checkpoint, shapes, write_checkpoint
from eventbook.learning.language_modelling.recipe import LanguageTraining, course, total_steps
from eventbook.learning.rewiring.deep_r import sparse_connections
from eventbook.learning.steps import take_step
from eventbook.models.egru import EGRUState
from eventbook.models.egru.regularisation import activity_target
from eventbook.models.language_model import LanguageModel, carried_as_released, detached


class Stateful(Protocol):
    """What can be asked for its state and given it back."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object: ...


def train_language_model(
    model: LanguageModel,
    tokens: Int[np.ndarray, "token"] | Int[Tensor, "token"],
    recipe: LanguageTraining,
    *,
    looks: int = 1,
    watch: Callable[[], dict[str, float]] | None = None,
    begin: Callable[[torch.optim.Optimizer], object] | None = None,
    after_step: Callable[[], object] | None = None,
    along: Mapping[str, Stateful] | None = None,
    checkpoint: Path | str | None = None,
    save_every: int = 500,
) -> list[dict[str, float]]:
    """Train a model in place.

    Parameters
    ----------
    model
        What to train.
    tokens
        The text, (token,) integers: at least two words for each piece.
    recipe
        How.
    looks
        Entries of the history, evenly over the words of the run; the last at its end.
    watch
        Called at each with the model in the mode of evaluation; the numbers that it returns join the entry.
    begin
        Called with the optimiser before the first step of this call, as `Masks.hold`.
    after_step
        Called after every step of the optimiser, as `GradualPruning.step`.
    along
        What else changes on the way and must be there when an interrupted run goes on, by name: objects with
        `state_dict` and `load_state_dict`, as a `GradualPruning`. Their states enter the checkpoint and are
        given back to them before `begin` is called.
    checkpoint
        File from which an interrupted run goes on, bit for bit. It belongs to recipe, model and text; that
        `looks` and what is called are the same is the caller's care.
    save_every
        Steps between two writings of it; it is also written with every entry.

    Returns
    -------
    history
        For each look: "epoch", "tokens", "loss" (mean over the words since the last), and what `watch` said.

    Raises
    ------
    ValueError
        If the text is too short or has a word that the model does not know, a count is below 1, an activity
        term is asked for without an EGRU, a mean of weights for connections that are rewired, or the
        checkpoint is broken or of something else.
    TypeError
        If tokens are no integers, or `watch` returns no dict.
    FloatingPointError
        If the loss or its gradient is not finite; names the step, which is not taken. The last checkpoint
        stays.
    """
    whole(looks, "looks", 1)
    whole(save_every, "save_every", 1)
    if recipe.activity_strength and model.config.cell != "egru":
        raise ValueError(
            f"activity_strength must be 0 for a model of {model.config.cell}, which has no events"
        )
    text = _pieces(model, tokens, recipe.batch_size)
    if recipe.average_from < 1 and sparse_connections(model):
        raise ValueError("average_from must be 1 where connections are rewired, which have no mean")
    run = _Run(model, text, recipe, along or {})
    path = None if checkpoint is None else Path(checkpoint)
    about = run.about() if path else {}
    if path and (state := read_checkpoint(path, about, tuple(run.state()))):
        run.load(state)
    if begin:
        begin(run.optimizer)
    with torch.random.fork_rng(devices=[text.device] if text.is_cuda else []):
        while not run.finished:
            model.train()
            run.step()
            if after_step:
                after_step()
            look = run.due(looks)
            if look:
                run.look(watch)
            if path and (look or run.steps % save_every == 0):
                write_checkpoint(path, about, run.state())
    run.keep_average()
    model.eval()
    return run.history


def _pieces(model: LanguageModel, tokens: Any, batch: int) -> Tensor:
    """The text in pieces one below the other, (batch, time), what is left over at the end cut off."""
    words = torch.as_tensor(tokens)
    if words.ndim != 1 or len(words) < 2 * batch:
        raise ValueError(
            f"tokens must be (token,) with two for each of {batch} pieces at least, got {tuple(words.shape)}"
        )
    words = model.checked(words[None], "tokens")[0]
    return words[: len(words) // batch * batch].view(batch, -1).to(model.embedding.device)


class _Run:
    """A training and where it stands."""

    def __init__(
        self, model: LanguageModel, text: Tensor, recipe: LanguageTraining, along: Mapping[str, Stateful]
    ) -> None:
        self.model, self.text, self.recipe, self.along = model, text, recipe, along
        self.per_epoch = text.shape[1] - 1  # predicted words of a piece
        self.total = total_steps(recipe, self.per_epoch)
        self.optimizer = torch.optim.AdamW(
            model.parameter_groups(recipe.lr, recipe.weight_decay), betas=(recipe.beta1, recipe.beta2)
        )
        self.history: list[dict[str, float]] = []
        self.done = self.steps = self.averaged = 0
        self.loss = self.since = 0.0  # sum of losses, and words, since the last look
        self.carried: Any = None
        self.average: dict[str, Tensor] = {}
        self.course = course(recipe, self.per_epoch)

    @property
    def finished(self) -> bool:
        return self.done >= self.total

    def step(self) -> None:
        """One window."""
        recipe, (epoch, first, length, now) = self.recipe, next(self.course)
        if not first:
            self.carried = None
        seed = np.random.SeedSequence([recipe.seed, epoch, first]).generate_state(1)[0]
        torch.manual_seed(int(seed))
        here = slice(first, first + length)
        targets = self.text[:, first + 1 : first + length + 1]
        loss, run = self.model.loss(self.text[:, here], targets, self.carried)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"loss must be finite, got {value} at step {self.steps}")
        if recipe.activity_strength:
            terms = [activity_target(layer, recipe.activity_target) for layer in run.layers]
            loss = loss + recipe.activity_strength * torch.stack(terms).sum()
        for group in self.optimizer.param_groups:
            group["lr"] = now
        take_step(self.optimizer, loss, self.model.parameters(), recipe.clip, self.steps)
        self.carried = detached(run.state if recipe.carry_state else carried_as_released(run.state))
        self.done, self.steps = self.done + length, self.steps + 1
        self.loss, self.since = self.loss + value * length, self.since + length
        if recipe.average_from < 1 and self.done >= recipe.average_from * self.total:
            self._add_to_average()

    def due(self, looks: int) -> bool:
        """Whether it is time for the next look."""
        return self.done >= self.total * (len(self.history) + 1) / looks

    def look(self, watch: Callable[[], dict[str, float]] | None) -> None:
        """Add an entry to the history."""
        entry = {
            "epoch": self.done / self.per_epoch,
            "tokens": float(self.done * len(self.text)),
            "loss": self.loss / self.since,
        }
        self.loss = self.since = 0.0
        trained = self._exchange(self._mean())
        self.model.eval()
        try:
            said = watch() if watch else {}
        finally:
            self._exchange(trained)
            self.model.train()
        if not isinstance(said, dict):
            raise TypeError(f"watch must return numbers by name, got {type(said).__name__}")
        self.history.append({**entry, **{name: float(value) for name, value in said.items()}})

    def keep_average(self) -> None:
        """Give the model the mean of its weights, if one was kept."""
        self._exchange(self._mean())

    def about(self) -> dict[str, dict[str, Any]]:
        """What a checkpoint belongs to."""
        return {
            "recipe": asdict(self.recipe), "model": asdict(self.model.config),
            "weights": shapes(self.model), "text": {"sha256": digest(self.text)},
            "along": {name: type(its).__name__ for name, its in self.along.items()},
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        """All that changes in a run."""
        carried = None if self.carried is None else [_plain(its) for its in self.carried]
        return {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "history": self.history, "done": self.done, "steps": self.steps, "loss": self.loss,
            "since": self.since, "carried": carried, "average": self.average, "averaged": self.averaged,
            "along": {name: its.state_dict() for name, its in self.along.items()},
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in ("history", "done", "steps", "loss", "since", "average", "averaged"):
            setattr(self, name, state[name])
        self.course = course(self.recipe, self.per_epoch, self.done)
        kind = EGRUState if self.model.config.cell == "egru" else None
        if state["carried"] is not None:
            self.carried = tuple(kind(*its) if kind else its for its in state["carried"])
        for name, its in self.along.items():
            its.load_state_dict(state["along"][name])

    @torch.no_grad()
    def _add_to_average(self) -> None:
        self.averaged += 1
        for name, weight in self.model.named_parameters():
            if name in self.average:
                self.average[name].lerp_(weight, 1 / self.averaged)
            else:
                self.average[name] = weight.detach().clone()

    def _mean(self) -> dict[str, Tensor]:
        """The mean of the weights, without those that are 0 by now: what was pruned on the way is gone."""
        now = dict(self.model.named_parameters())
        return {name: mean.masked_fill(now[name] == 0, 0) for name, mean in self.average.items()}

    @torch.no_grad()
    def _exchange(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put weights into the model; returns those that were there."""
        before = {}
        for name, weight in self.model.named_parameters():
            if name in weights:
                before[name] = weight.detach().clone()
                weight.copy_(weights[name])
        return before


def _plain(its: Any) -> Any:
    """The state of a layer without its name, which a checkpoint does not know."""
    return its if isinstance(its, Tensor) else tuple(its)
