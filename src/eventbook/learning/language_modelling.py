r"""Training a language model on one long text: windows of random length, state carried between them.

    loss   = -mean log p(next word) + strength sum_l (mean o^l - target)^2        o: events of layer l
    window ~ N(mean, 5) in 95 of 100 draws, else N(mean / 2, 5); five at least
    rate   = lr window / mean, times warm-up, times half a cosine from `decay_from` to the end

| symbol | meaning | shape | name |
|---|---|---|---|
| w | the text, cut into pieces that are read at once | (batch, -1) | `tokens` |
| - | share of the words of all epochs that are done | scalar | `share` |
| W_bar | mean of the weights after every step from `average_from` on | as the weights | - |

Everything random is drawn anew from (seed, epoch, window), so that an interrupted run goes on from its
checkpoint as if nothing had happened.

Source: Merity et al. 2018 for windows and averaging (there from when validation stalls); the released code of
arXiv:2206.06178 for the rest, which rescales the rate of one of its groups of parameters only.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from eventbook.kernels.encoders.arguments import whole
from eventbook.learning.checkpoints import read_checkpoint, shapes, write_checkpoint
from eventbook.models.egru import EGRUState
from eventbook.models.egru.regularisation import activity_target
from eventbook.models.language_model import LanguageModel, carried_as_released, detached

SPREAD, HALF, LEAST = 5.0, 0.05, 5  # of random windows: deviation, share of short ones, shortest


@dataclass(frozen=True)
class LanguageTraining:
    """A recipe.

    Attributes
    ----------
    epochs
        Passes over the text; a part of one will do.
    batch_size, window, random_windows
        Pieces that are read at once; words of each that gradients see, and whether that is a mean.
    carry_state
        False for what the released code does: of an EGRU, only its output goes from window to window.
    lr, warmup, decay_from, final_rate
        Largest learning rate; share of the run in which it rises, share after which it falls, and the share
        of it that is left at the end.
    weight_decay, beta1, beta2
        Of AdamW. The released EGRUs have beta1 = 0.
    clip
        Bound of the norm of all gradients together; 0 for none.
    average_from
        Share of the run after which the mean of the weights is kept, which the model has in the end; 1 for
        none.
    activity_target, activity_strength
        Of the term for each layer of an EGRU; 0 for none.
    seed
        Of windows and dropout; initial weights are the model's own.
    """

    epochs: float = 4.0
    batch_size: int = 32
    window: int = 64
    random_windows: bool = True
    carry_state: bool = True
    lr: float = 3e-3
    warmup: float = 0.02
    decay_from: float = 0.0
    final_rate: float = 0.02
    weight_decay: float = 0.02
    beta1: float = 0.0
    beta2: float = 0.999
    clip: float = 0.5
    average_from: float = 1.0
    activity_target: float = 0.2
    activity_strength: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"batch_size": 1, "window": 1, "seed": 0}.items():
            whole(getattr(self, name), name, least)
        for name in ("epochs", "lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be > 0 and finite, got {getattr(self, name)}")
        for name in ("weight_decay", "clip", "activity_strength"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be >= 0 and finite, got {getattr(self, name)}")
        for name in ("warmup", "decay_from", "final_rate", "average_from", "activity_target"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a share in [0, 1], got {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in 0..1, below 1, got {getattr(self, name)}")


_RELEASED = LanguageTraining(
    1000, 64, 70, carry_state=False, lr=1.2e-3, warmup=0.0, decay_from=0.7, final_rate=0.0, weight_decay=0.10,
    clip=0.1, seed=9612,
)  # fmt: skip
RELEASED: Mapping[str, LanguageTraining] = MappingProxyType({
    "ptb_v0.2": _RELEASED,
    "wikitext2_v0.2": replace(
        _RELEASED, epochs=800, batch_size=128, lr=1e-3, decay_from=0.5, weight_decay=0.12, seed=913420
    ),
})  # fmt: skip
"""Of the released code's version 0.2.0, for the models of these names in `models.language_model`."""


def train_language_model(
    model: LanguageModel,
    tokens: Int[np.ndarray, "token"] | Int[Tensor, "token"],
    recipe: LanguageTraining,
    *,
    looks: int = 1,
    watch: Callable[[], dict[str, float]] | None = None,
    begin: Callable[[torch.optim.Optimizer], object] | None = None,
    after_step: Callable[[], object] | None = None,
    checkpoint: Path | str | None = None,
    save_every: int = 500,
) -> list[dict[str, float]]:
    """Train a model in place, on whatever device it is.

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
    checkpoint
        File from which an interrupted run goes on, bit for bit. It belongs to recipe, model and text; that
        `looks` and what is called are the same, with what they remember, is the caller's care.
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
        term is asked for without an EGRU, or the checkpoint is broken or of something else.
    TypeError
        If tokens are no integers, or `watch` returns no dict.
    FloatingPointError
        If the loss is not finite; names the step. The step is not taken, and the last checkpoint stays.
    """
    whole(looks, "looks", 1)
    whole(save_every, "save_every", 1)
    if recipe.activity_strength and model.config.cell != "egru":
        raise ValueError(
            f"activity_strength must be 0 for a model of {model.config.cell}, which has no events"
        )
    text = _pieces(model, tokens, recipe.batch_size)
    run = _Run(model, text, recipe)
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


def windows(recipe: LanguageTraining, epoch: int, steps: int) -> Iterator[tuple[int, int]]:
    """First step and length of each window of an epoch over pieces of so many predicted words."""
    rng = np.random.default_rng([recipe.seed, epoch])
    first = 0
    while first < steps:
        length = recipe.window
        if recipe.random_windows:
            mean = recipe.window / 2 if rng.random() < HALF else recipe.window
            length = max(LEAST, round(rng.normal(mean, SPREAD)))
        length = min(length, steps - first)
        yield first, length
        first += length


def rate(recipe: LanguageTraining, share: float) -> float:
    """Learning rate at a share of the run, for a window of the mean length."""
    rising = min(1.0, share / recipe.warmup) if recipe.warmup else 1.0
    way = max(0.0, share - recipe.decay_from) / max(1e-12, 1 - recipe.decay_from)
    falling = recipe.final_rate + (1 - recipe.final_rate) * (1 + math.cos(math.pi * way)) / 2
    return recipe.lr * rising * falling


class _Run:
    """A training and where it stands."""

    def __init__(self, model: LanguageModel, text: Tensor, recipe: LanguageTraining) -> None:
        self.model, self.text, self.recipe = model, text, recipe
        self.per_epoch = text.shape[1] - 1  # predicted words of a piece
        self.total = max(1, round(recipe.epochs * self.per_epoch))
        self.optimizer = torch.optim.AdamW(
            model.parameter_groups(recipe.lr, recipe.weight_decay), betas=(recipe.beta1, recipe.beta2)
        )
        self.history: list[dict[str, float]] = []
        self.done = self.steps = self.averaged = 0
        self.loss = self.since = 0.0  # sum of losses, and words, since the last look
        self.carried: Any = None
        self.average: dict[str, Tensor] = {}
        self._plan(0)

    @property
    def finished(self) -> bool:
        return self.done >= self.total

    def step(self) -> None:
        """One window."""
        recipe, epoch = self.recipe, self.done // self.per_epoch
        if self.planned != epoch:
            self._plan(epoch)
        first = self.done % self.per_epoch
        if not first:
            self.carried = None
        length = min(self.plan[first], self.total - self.done)
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
        self.optimizer.zero_grad()
        loss.backward()
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        now = rate(recipe, self.done / self.total) * length / recipe.window
        for group in self.optimizer.param_groups:
            group["lr"] = now
        self.optimizer.step()
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
        trained = self._exchange(self.average)
        self.model.eval()
        said = watch() if watch else {}
        self._exchange(trained)
        if not isinstance(said, dict):
            raise TypeError(f"watch must return numbers by name, got {type(said).__name__}")
        self.history.append({**entry, **{name: float(value) for name, value in said.items()}})

    def keep_average(self) -> None:
        """Give the model the mean of its weights, if one was kept."""
        self._exchange(self.average)

    def about(self) -> dict[str, dict[str, Any]]:
        """What a checkpoint belongs to."""
        digest = hashlib.sha256(self.text.cpu().numpy().tobytes()).hexdigest()
        return {
            "recipe": asdict(self.recipe), "model": asdict(self.model.config),
            "weights": shapes(self.model), "text": {"sha256": digest},
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        """All that changes in a run."""
        carried = None if self.carried is None else [_plain(its) for its in self.carried]
        return {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "history": self.history, "done": self.done, "steps": self.steps, "loss": self.loss,
            "since": self.since, "carried": carried, "average": self.average, "averaged": self.averaged,
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in ("history", "done", "steps", "loss", "since", "average", "averaged"):
            setattr(self, name, state[name])
        kind = EGRUState if self.model.config.cell == "egru" else None
        if state["carried"] is not None:
            self.carried = tuple(kind(*its) if kind else its for its in state["carried"])

    def _plan(self, epoch: int) -> None:
        self.planned = epoch
        self.plan = dict(windows(self.recipe, epoch, self.per_epoch))  # length by first step

    @torch.no_grad()
    def _add_to_average(self) -> None:
        self.averaged += 1
        for name, weight in self.model.named_parameters():
            if name in self.average:
                self.average[name].lerp_(weight, 1 / self.averaged)
            else:
                self.average[name] = weight.detach().clone()

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
