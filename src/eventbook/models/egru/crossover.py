r"""Which way through a layer is faster at this activity: measured once per size, decided by a formula.

    a step, dense         d                                   whatever is silent, and in padding
    a step, by events     f (s + e activity + n need)         n = 0 without gradients

| symbol | meaning | name |
|---|---|---|
| d | seconds of a step in operations of torch | `dense` |
| s | seconds of a step by the kernels in which nothing happens | `silent` |
| e, n | seconds more if all units speak, and if a gradient can pass all | `event`, `need` |
| f | share of the steps of all rows that are no padding, in which kernels do nothing | `filled` |

The first four are properties of a machine, of its torch, and of a layer: sizes of batch and layer, place of
the reset gate, dtype, threads of the kernels and of torch. So they are measured for these at first use and
never at import; sizes that round to the same powers of two share them. What is measured is the recurrence,
with a silent first state and no reset, whatever the layer's is; the product with the input is left out.

A batch multiplies the work of the kernels, but torch reads its weights once for all rows: large batches of
active layers are where the dense way wins. The decision is a pure function. Both ways give the same numbers
up to rounding.

Source: derived; the same idea for single products in `eventbook.kernels.events.choice`.
"""

import math
import time
from collections.abc import Callable
from functools import cache
from statistics import median
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from eventbook.kernels.events import egru_sequence
from eventbook.kernels.events.egru_reference import egru_reference

PROBE = 8  # steps from which the activity of a sequence is taken
STEPS, REPEATS = 8, 5
LARGEST_BATCH, LARGEST_LAYER = 256, 2048  # sizes above are measured at these
ALL = 0.05  # beta of a window that holds every unit

Path = Literal["dense", "event"]


class PathCosts(NamedTuple):
    """Seconds of a step; see the module."""

    dense: float
    silent: float
    event: float
    need: float


def choose_path(costs: PathCosts, activity: float, need: float, filled: float = 1.0) -> Path:
    """The cheaper way, ties to the simpler one.

    Parameters
    ----------
    costs
        Of this machine and size, see `measure_paths`.
    activity, need
        Shares of units that speak and that a gradient can pass, in [0, 1], where there is no padding.
    filled
        Share of the steps of all rows that are no padding.

    Raises
    ------
    ValueError
        If one of the three is no share.

    Examples
    --------
    >>> choose_path(PathCosts(dense=3.0, silent=1.0, event=4.0, need=2.0), activity=0.1, need=0.3)
    'event'
    >>> choose_path(PathCosts(dense=3.0, silent=1.0, event=4.0, need=2.0), activity=0.4, need=0.5)
    'dense'
    """
    for name, share in (("activity", activity), ("need", need), ("filled", filled)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be a share in [0, 1], got {share}")
    by_events = filled * (costs.silent + costs.event * activity + costs.need * need)
    return "event" if by_events < costs.dense else "dense"


def measure_paths(
    batch: int,
    units: int,
    training: bool,
    *,
    reset_gate: str = "after",
    dtype: torch.dtype = torch.float32,
    threads: int = 1,
) -> PathCosts:
    """Costs of a layer on this machine, see the module; measured once, then kept in memory.

    Parameters
    ----------
    batch, units
        Rows and units; each stands for its class of sizes.
    training
        Whether the way back is measured too.
    reset_gate, dtype, threads
        Of the layer: "after" or "before", float32 or float64, threads of the kernels.
    """
    sizes = _class(batch, LARGEST_BATCH), _class(units, LARGEST_LAYER)
    return _measured(*sizes, bool(training), reset_gate, dtype, threads, torch.get_num_threads())


def _class(size: int, largest: int) -> int:
    return min(largest, 1 << round(math.log2(max(1, size))))


@cache
def _measured(
    batch: int, units: int, training: bool, gate: str, dtype: torch.dtype, threads: int, of_torch: int
) -> PathCosts:
    """`of_torch` is not read: with another number of torch's threads, it is another measurement."""
    generator = torch.Generator().manual_seed(0)
    like = torch.empty(0, dtype=dtype, device="cpu")  # whatever the defaults are

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        values = torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator) * scale
        return values.requires_grad_(training)

    projection, recurrent = normal(batch, STEPS, 3 * units), normal(units, 3 * units, scale=units**-0.5)
    bias, zeros = normal(3 * units, scale=0.0), like.new_zeros(batch, units)

    def seconds(way: Callable[[Tensor], Tensor], theta: float) -> float:
        threshold = like.new_full((units,), theta)

        def once() -> None:
            output = way(threshold)
            if training:
                torch.autograd.grad(output.sum(), (projection, recurrent, bias))

        with torch.set_grad_enabled(training):
            return _seconds(once) / STEPS

    def dense(threshold: Tensor) -> Tensor:
        return egru_reference(
            projection, recurrent, bias, threshold, zeros, zeros, reset="none", reset_gate=gate
        )[0]

    def by_events(support: float) -> Callable[[Tensor], Tensor]:
        def way(threshold: Tensor) -> Tensor:
            return egru_sequence(
                projection, recurrent, bias, threshold, reset="none", reset_gate=gate,
                surrogate_support=support, threads=threads,
            ).output  # fmt: skip

        return way

    never, always = 10.0, -10.0  # states are between -1 and 1
    silent = seconds(by_events(math.inf), never)
    reached = seconds(by_events(ALL), never) if training else silent
    spoken = seconds(by_events(ALL), always)
    return PathCosts(seconds(dense, always), silent, max(0.0, spoken - reached), max(0.0, reached - silent))


def _seconds(work: Callable[[], None]) -> float:
    """Median seconds; the first call, which compiles, is not counted."""
    work()
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return median(times)
