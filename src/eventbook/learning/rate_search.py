"""The learning rate that is best in trials, of those that are given.

| meaning | name |
|---|---|
| learning rates, each > 0 | `rates` |
| a rate -> how well it did, such as perplexity on validation words, or a share that is right | `trial` |

With one rate there is nothing to choose, and nothing is tried. A rate with which the training diverges loses.

Source: derived.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple


class FoundRate(NamedTuple):
    """The best rate, and what every rate came to, in the order given.

    None stands for a training that diverged; empty if there was nothing to try.
    """

    rate: float
    figures: list[float | None]


def find_rate(rates: Sequence[float], trial: Callable[[float], float], *, highest: bool = False) -> FoundRate:
    """Try learning rates and keep the best, the first of equals.

    Parameters
    ----------
    rates
        One or more, finite and > 0.
    trial
        Called with each rate if there are several; returns one number, or raises FloatingPointError where
        the training diverges.
    highest
        Whether the highest number is best; else it is the lowest.

    Raises
    ------
    ValueError
        If there is no rate, one is not finite and > 0 (before anything is tried), or a trial returns a
        number that is not finite.
    FloatingPointError
        If the training diverges with every rate.

    Examples
    --------
    >>> find_rate([1, 2, 4], lambda rate: abs(rate - 3))
    FoundRate(rate=2, figures=[2.0, 1.0, 1.0])
    """
    rates = list(rates)
    if not rates or not all(0 < rate < math.inf for rate in rates):
        raise ValueError(f"rates must be one or more, finite and > 0, got {rates}")
    if len(rates) == 1:
        return FoundRate(rates[0], [])
    figures: list[float | None] = []
    diverged: FloatingPointError | None = None
    for rate in rates:
        try:
            figure = float(trial(rate))
        except FloatingPointError as error:
            diverged = error
            figures.append(None)
            continue
        if not math.isfinite(figure):
            raise ValueError(f"trial must return a finite number, got {figure} for a rate of {rate}")
        figures.append(figure)
    tried = [(figure, rate) for figure, rate in zip(figures, rates, strict=True) if figure is not None]
    if not tried:
        raise FloatingPointError(f"trial must not diverge with every rate, {rates}: {diverged}") from diverged
    best = (max if highest else min)(figure for figure, _ in tried)
    return FoundRate(next(rate for figure, rate in tried if figure == best), figures)


def told(figures: Iterable[float | None], form: str = ".1f") -> str:
    """Figures of trials as a line of text.

    Examples
    --------
    >>> told([95.04, None])
    '95.0, diverged'
    """
    return ", ".join("diverged" if figure is None else format(figure, form) for figure in figures)
