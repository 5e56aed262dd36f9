"""The learning rate that is best in trials, of those that are given and, if it is at an edge, beyond.

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
    """The best rate, all that were tried in rising order, and what each came to.

    A figure is None where the training diverged; both lists are empty if there was nothing to choose.
    """

    rate: float
    rates: list[float]
    figures: list[float | None]


def find_rate(
    rates: Sequence[float], trial: Callable[[float], float], *, highest: bool = False, most: int = 0
) -> FoundRate:
    """Try learning rates and keep the best; of equals, the lowest.

    Parameters
    ----------
    rates
        One or more, finite and > 0, all different.
    trial
        Called with each rate if there are several; returns one number, or raises FloatingPointError where
        the training diverges.
    highest
        Whether the highest number is best; else it is the lowest.
    most
        While the best is the lowest or the highest of the rates, the next one beyond is tried, by the ratio
        of the two at that end, until there are so many.

    Raises
    ------
    ValueError
        If there is no rate, one is not finite and > 0 or stands there twice (before anything is tried), or a
        trial returns a number that is not finite.
    FloatingPointError
        If the training diverges with every rate.

    Examples
    --------
    >>> find_rate([1, 2], lambda rate: abs(rate - 5), most=5)
    FoundRate(rate=4.0, rates=[1, 2, 4.0, 8.0], figures=[4.0, 3.0, 1.0, 3.0])
    """
    rates = list(rates)
    if not rates or not all(0 < rate < math.inf for rate in rates) or len(set(rates)) < len(rates):
        raise ValueError(f"rates must be one or more, finite, > 0 and different, got {rates}")
    if len(rates) == 1:
        return FoundRate(rates[0], [], [])
    sign, figures = -1 if highest else 1, dict[float, float | None]()
    waiting = list(rates)
    while True:
        for rate in waiting:
            figures[rate] = _tried(rate, trial)
        tried = sorted(figures)
        left = {rate: sign * figure for rate in tried if (figure := figures[rate]) is not None}
        if not left and len(tried) >= most:
            raise FloatingPointError(f"trial must not diverge with every rate, got {tried}")
        best = min(left, key=lambda rate: left[rate]) if left else tried[0]
        if best not in (tried[0], tried[-1]) or len(tried) >= most:
            return FoundRate(best, tried, [figures[rate] for rate in tried])
        step = tried[0] / tried[1] if best == tried[0] else tried[-1] / tried[-2]
        waiting = [best * step]


def _tried(rate: float, trial: Callable[[float], float]) -> float | None:
    try:
        figure = float(trial(rate))
    except FloatingPointError:
        return None
    if not math.isfinite(figure):
        raise ValueError(f"trial must return a finite number, got {figure} for a rate of {rate}")
    return figure


def told(figures: Iterable[float | None], form: str = ".1f") -> str:
    """Figures of trials as a line of text.

    Examples
    --------
    >>> told([95.04, None])
    '95.0, diverged'
    """
    return ", ".join("diverged" if figure is None else format(figure, form) for figure in figures)
