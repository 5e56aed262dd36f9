"""The learning rate that is best in a short trial, of those that are given.

| meaning | name |
|---|---|
| learning rates, each > 0 | `rates` |
| a rate -> how well it did, such as perplexity on validation words, or a share that is right | `trial` |

With one rate there is nothing to choose, and nothing is tried.

Source: derived.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple


class FoundRate(NamedTuple):
    """The best rate, and what every rate came to, in the order given; empty if there was nothing to try."""

    rate: float
    figures: list[float]


def find_rate(rates: Sequence[float], trial: Callable[[float], float], *, highest: bool = False) -> FoundRate:
    """Try learning rates and keep the best, the first of equals.

    Parameters
    ----------
    rates
        One or more, finite and > 0.
    trial
        Called with each rate if there are several; returns one number, infinite where a rate is too large.
    highest
        Whether the highest number is best; else it is the lowest.

    Raises
    ------
    ValueError
        If there is no rate, one is not finite and > 0 (before anything is tried), a trial returns NaN, or
        none returns a finite number.

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
    figures = []
    for rate in rates:
        figures.append(float(trial(rate)))
        if math.isnan(figures[-1]):
            raise ValueError(f"trial must return a number, got nan for a rate of {rate}")
    best = (max if highest else min)(figures)
    if math.isinf(best):
        raise ValueError(f"trial must return a finite number for one rate at least, got {figures}")
    return FoundRate(rates[figures.index(best)], figures)
