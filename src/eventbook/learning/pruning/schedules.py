r"""In one go or in several: the sparsities that a network passes through while it trains.

    s_k = s + (s_0 - s) (1 - k / n)^p          k = 1 .. n,     p = 1 linear, p = 3 cubic

| symbol | meaning | name |
|---|---|---|
| s | sparsity at the end | `sparsity` |
| s_0 | sparsity before | `initial` |
| n | how often weights are pruned; 1 is one shot | `times` |
| - | optimiser steps before the first, and between two of them | `begin`, `every` |

The cubic schedule prunes fast while there are many weights to choose from and slowly at the end.

Source: Zhu and Gupta 2017, arXiv:1710.01878, equation 1, for the cubic one.
"""

from collections.abc import Iterable
from typing import Any

from torch import nn

from eventbook.kernels.encoders.arguments import whole
from eventbook.learning.pruning.masks import Masks
from eventbook.learning.pruning.selection import check_sparsity, magnitude_masks
from eventbook.learning.pruning.weights import Prunable

POWERS = {"linear": 1, "cubic": 3}


def sparsities(
    sparsity: float, times: int = 1, shape: str = "cubic", initial: float = 0.0
) -> tuple[float, ...]:
    """The sparsity after each pruning; one shot if there is one.

    Raises
    ------
    ValueError
        If a sparsity is not in [0, 1], the last is below the first, `times` < 1, or the shape is none of
        "linear" and "cubic".

    Examples
    --------
    >>> sparsities(0.8)
    (0.8,)
    >>> [round(s, 4) for s in sparsities(0.8, 4, "cubic")]
    [0.4625, 0.7, 0.7875, 0.8]
    """
    check_sparsity(sparsity)
    check_sparsity(initial, "initial")
    if sparsity < initial:
        raise ValueError(f"sparsity must not be below initial, {initial}, got {sparsity}")
    if shape not in POWERS:
        raise ValueError(f"shape must be one of {', '.join(POWERS)}, got {shape!r}")
    n = whole(times, "times", 1)
    way = (sparsity + (initial - sparsity) * (1 - k / n) ** POWERS[shape] for k in range(1, n))
    return *way, sparsity


class GradualPruning:
    """Magnitude pruning while a network trains: what is gone stays gone, and more goes at each turn.

    Parameters
    ----------
    model, scope, weights
        As `magnitude_masks`.
    plan
        Sparsity at each turn, never falling: see `sparsities`.
    every, begin
        Calls of `step` between two turns, and before the first.

    Attributes
    ----------
    masks
        To be held by the optimiser: ``pruning.masks.hold(optimizer)``.
    steps
        Calls of `step` so far.

    Raises
    ------
    ValueError
        If the plan is empty, falls, or leaves [0, 1]; otherwise as `magnitude_masks`.

    Examples
    --------
    >>> gru = nn.GRU(8, 16)
    >>> pruning = GradualPruning(gru, sparsities(0.75, 3), every=10)
    >>> [pruning.step() for _ in range(30)].count(True), pruning.masks.sparsity()
    (3, 0.75)
    """

    def __init__(
        self,
        model: nn.Module,
        plan: Iterable[float],
        scope: str = "matrix",
        weights: Iterable[Prunable | str] | None = None,
        *,
        every: int = 1,
        begin: int = 0,
    ) -> None:
        self.plan = tuple(plan)
        if not self.plan:
            raise ValueError("plan must have a sparsity at least, got none")
        for at, sparsity in enumerate(self.plan):
            check_sparsity(sparsity, f"plan[{at}]")
            if at and sparsity < self.plan[at - 1]:
                raise ValueError(f"plan must not fall, got {sparsity} after {self.plan[at - 1]}")
        self.every, self.begin, self.steps = whole(every, "every", 1), whole(begin, "begin", 0), 0
        self._model, self._scope = model, scope
        self._weights = None if weights is None else tuple(weights)
        self.masks = Masks(model, magnitude_masks(model, 0.0, scope, self._weights))

    def step(self) -> bool:
        """To be called after each step of the optimiser; True if weights were pruned."""
        self.steps += 1
        turn, off = divmod(self.steps - self.begin, self.every)
        if off or not 1 <= turn <= len(self.plan):
            return False
        gone = dict(self.masks.items())
        self.masks.replace(
            magnitude_masks(self._model, self.plan[turn - 1], self._scope, self._weights, within=gone)
        )
        return True

    def state_dict(self) -> dict[str, Any]:
        """Steps and masks, and the plan that they belong to."""
        return {"steps": self.steps, "masks": self.masks.state_dict(), "plan": self._own_plan()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a run ended; ValueError if the state is of another pruning: then nothing changed."""
        if set(state_dict) != {"steps", "masks", "plan"}:
            found = ", ".join(map(str, state_dict))
            raise ValueError(f"state_dict must have steps, masks and plan, got {found}")
        if list(state_dict["plan"]) != self._own_plan():
            raise ValueError(
                f"state_dict must be of the plan {self._own_plan()}, got one of {state_dict['plan']}"
            )
        steps = whole(state_dict["steps"], "steps", 0)
        self.masks.load_state_dict(state_dict["masks"])
        self.steps = steps

    def _own_plan(self) -> list[Any]:
        """What decides about each turn."""
        return [*self.plan, self._scope, self.every, self.begin]
