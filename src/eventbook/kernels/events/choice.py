r"""Which product is fastest at this activity and this density: measured once per size, decided by a formula.

    cost of the dense product      1                                  whatever is silent or pruned
    cost of rows of events         activity / a*
    cost of compressed rows        activity density / (a* d*)

a* is the activity at which rows of events cost as much as the dense product, d* the density at which
compressed rows cost as much as dense ones. Both are properties of a machine, of its torch and of a matrix
size, so they are measured at first use, in a second at most and never at import; sizes that round to the
same powers of two share them. The decision is a pure function of four numbers. All three ways give the same
product up to rounding.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from statistics import median
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from eventbook.kernels.events.csr import CSRBySource, event_csr
from eventbook.kernels.events.matvec import event_matvec
from eventbook.kernels.machinery.tensors import axes

Way = Literal["dense", "rows", "csr"]
LARGEST_CLASS = 4096  # sizes above are measured at this one: their weights are in memory as well
ACTIVITIES, DENSITIES = (0.02, 0.2), (0.02, 0.2)  # where lines are drawn through
INPUTS, REPEATS = 16, 5


class Crossover(NamedTuple):
    """Where two ways cost the same.

    `activity`: above it the dense product is faster than rows of events. `density`: above it dense rows are
    faster than compressed ones. 1 or more means never.
    """

    activity: float
    density: float


def choose(crossover: Crossover, activity: float, density: float = 1.0) -> Way:
    """The cheapest way, ties to the simpler one.

    Parameters
    ----------
    crossover
        Of this machine and size, see `measure_crossover`.
    activity
        Share of sources that speak, in [0, 1].
    density
        Share of weights that are stored, in [0, 1]; 1 if there is no compressed matrix.

    Examples
    --------
    >>> choose(Crossover(activity=0.5, density=0.1), activity=0.1)
    'rows'
    >>> choose(Crossover(activity=0.5, density=0.1), activity=0.1, density=0.05)
    'csr'
    >>> choose(Crossover(activity=0.5, density=0.1), activity=0.9)
    'dense'
    """
    for name, share in (("activity", activity), ("density", density)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be a share in [0, 1], got {share}")
    rows = activity / crossover.activity
    compressed = rows * density / crossover.density if density < 1 else math.inf
    if rows >= 1 and compressed >= 1:
        return "dense"
    return "csr" if compressed < rows else "rows"


def _size_class(length: int) -> int:
    return min(LARGEST_CLASS, 1 << round(math.log2(max(1, length))))


def measure_crossover(sources: int, targets: int) -> Crossover:
    """Crossover of this machine for a (sources, targets) matrix in float32 at batch 1, kept in memory."""
    return _measured(_size_class(sources), _size_class(targets))


@cache
def _measured(sources: int, targets: int) -> Crossover:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand(sources, targets, generator=generator)

    def inputs(activity: float) -> list[Tensor]:
        # A fixed active set would stay in the cache and flatter the events.
        drawn = torch.rand(INPUTS, 1, sources, generator=generator)
        return list(drawn * (drawn.flatten(1).argsort(1).argsort(1).unsqueeze(1) < round(activity * sources)))

    with torch.no_grad():
        weight = matrix.t().contiguous()
        dense = _seconds(lambda x: torch.nn.functional.linear(x, weight), inputs(1.0))
        rows = [_seconds(lambda x: event_matvec(x, matrix), inputs(a)) for a in ACTIVITIES]
        some = inputs(ACTIVITIES[1])
        compressed = []
        for density in DENSITIES:
            mask = torch.rand(sources, targets, generator=generator) < density
            pruned = CSRBySource.from_dense(matrix, mask)
            compressed.append(_seconds(partial(event_csr, matrix=pruned), some))
    return Crossover(
        _meets(ACTIVITIES, (rows[0], rows[1]), dense),
        _meets(DENSITIES, (compressed[0], compressed[1]), rows[1]),
    )


def _seconds(product: Callable[[Tensor], Tensor], inputs: list[Tensor]) -> float:
    """Median seconds per product; the first pass, which compiles, is not counted."""
    for x in inputs:
        product(x)
    passes = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        for x in inputs:
            product(x)
        passes.append(time.perf_counter() - begin)
    return median(passes) / len(inputs)


def _meets(at: tuple[float, float], seconds: tuple[float, float], level: float) -> float:
    """Where the line through two measurements reaches a level; a share that is positive in any case."""
    slope = (seconds[1] - seconds[0]) / (at[1] - at[0])
    if slope <= 0:  # too small a matrix for the cost to show
        return math.inf if seconds[1] < level else 1e-6
    return max(1e-6, at[0] + (level - seconds[0]) / slope)


@dataclass(frozen=True)
class Weights:
    """One matrix in the forms that the ways read: (source, target), and compressed by source if pruned."""

    dense: Float[Tensor, "source target"]
    compressed: CSRBySource | None = None

    def __post_init__(self) -> None:
        axes(dense=(self.dense, "source target"))
        if self.compressed is not None:
            shape = (self.compressed.sources, self.compressed.targets)
            if shape != tuple(self.dense.shape):
                raise ValueError(f"compressed must be {tuple(self.dense.shape)} like dense, got {shape}")


def event_product(
    activity: Float[Tensor, "batch source"], weights: Weights, crossover: Crossover | None = None
) -> Float[Tensor, "batch target"]:
    """activity @ weights by the way that is cheapest for the activity at hand.

    Parameters
    ----------
    activity
        (batch, source), float32 or float64.
    weights
        Forms of one matrix; gradients reach the form that was used.
    crossover
        Measured for this size if not given.

    Raises
    ------
    ValueError, TypeError
        As `event_matvec`.
    """
    axes(activity=(activity, "batch source"), dense=(weights.dense, "source target"))
    crossover = crossover or measure_crossover(*weights.dense.shape)
    share = float((activity.detach() != 0).float().mean()) if activity.numel() else 0.0
    density = 1.0 if weights.compressed is None else weights.compressed.density
    way = choose(crossover, share, density)
    if way == "dense":
        return activity @ weights.dense
    if way == "csr" and weights.compressed is not None:
        return event_csr(activity, weights.compressed)
    return event_matvec(activity, weights.dense)
