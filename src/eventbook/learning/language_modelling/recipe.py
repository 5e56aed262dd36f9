"""How a language model is trained: a recipe, random windows of its text, the learning rate on the way.

    window ~ N(mean, 5) in 95 of 100 draws, else N(mean / 2, 5); five at least
    rate   = lr window / mean, times warm-up, times half a cosine from `decay_from` to the end

| symbol | meaning | shape | name |
|---|---|---|---|
| mean | words of a window | scalar | `window` |
| - | share of the words of all epochs that are done | scalar | `share` |

Source: Merity et al. 2018 for windows; the released code of arXiv:2206.06178 for the rest.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from eventbook.kernels.encoders.arguments import whole

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
        if self.random_windows and self.window < LEAST:
            raise ValueError(f"window must be >= {LEAST} where windows are random, got {self.window}")
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


class Window(NamedTuple):
    """Words that one step of the optimiser sees: `length` of each piece from `first` on, in an epoch."""

    epoch: int
    first: int
    length: int
    rate: float


def total_steps(recipe: LanguageTraining, steps: int) -> int:
    """Predicted words of a piece in the whole run, over pieces of so many."""
    return max(1, round(recipe.epochs * steps))


def course(recipe: LanguageTraining, steps: int, done: int = 0) -> Iterator[Window]:
    """All steps of a run over pieces of so many predicted words, from where it stands; the last is cut short.

    Examples
    --------
    >>> recipe = LanguageTraining(epochs=1.5, window=64, random_windows=False)
    >>> [window.length for window in course(recipe, 100)]
    [64, 36, 50]
    """
    total = total_steps(recipe, steps)
    while done < total:
        epoch, begin = divmod(done, steps)
        for first, length in windows(recipe, epoch, steps):
            if first < begin:
                continue
            length = min(length, total - done)
            yield Window(epoch, first, length, rate(recipe, done / total) * length / recipe.window)
            done += length
            if done == total:
                return
