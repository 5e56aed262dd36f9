"""The compiled loops as a function of torch, and without autograd.

Symbols and names: `eventbook.models.egru_continuous.function`, which is what to call.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from eventbook.kernels.events.continuous.adjoint import run_back
from eventbook.kernels.events.continuous.forward import run
from eventbook.kernels.machinery.tensors import array, copy
from eventbook.models.egru_continuous.arguments import Arguments, Options


class ContinuousRun(NamedTuple):
    """What a stream gives. All but `unit` and `slope` are differentiable."""

    time: Float[Tensor, "event"]  # of internal events, milliseconds
    unit: Int64[Tensor, "event"]  # that fired
    value: Float[Tensor, "event"]  # that it sent
    slope: Float[Tensor, "event"]  # c_n'(t-), per millisecond: small where a gradient is about to break
    states: Float[Tensor, "asked 4 unit"]  # c, a_u, a_r, a_z at asked times
    last: Float[Tensor, "4 unit"]  # state at the end, for the next call
    integral: Float[Tensor, "unit"]  # of c, from 0 to the end


class ContinuousGradients(NamedTuple):
    """Gradients of what `egru_continuous` is differentiable in."""

    time: Float[Tensor, "event"]
    value: Float[Tensor, "event"]
    kernel: Float[Tensor, "token three_units"]
    recurrent: Float[Tensor, "unit three_units"]
    bias: Float[Tensor, "three_units"]
    threshold: Float[Tensor, "unit"]
    state: Float[Tensor, "4 unit"]


class Additions(NamedTuple):
    """Additions to gradients of weights, counted where they are made: 3 unit for each event."""

    external: int
    internal: int


class Record(NamedTuple):
    """What the way back needs of the way there; see `eventbook.kernels.events.continuous.forward`."""

    events: Any
    fired: Any
    began: Any
    lengths: Any
    marks: Any


def walk(arguments: Arguments, options: Options) -> tuple[ContinuousRun, Record]:
    """Run the loop.

    Raises
    ------
    RuntimeError
        If more than `max_events` units fire, or the state overflows.
    """
    last = copy(arguments.state)
    events, fired, states, integral, began, lengths, marks = run.kernel(
        array(arguments.time), array(arguments.value), array(arguments.token), array(arguments.asked),
        options.duration, array(arguments.kernel), array(arguments.recurrent),
        array(arguments.bias).reshape(3, -1), array(arguments.threshold), last.numpy(), *options.words(),
        options.tau_s, options.tau_m, options.step, options.max_events,
    )  # fmt: skip
    if len(fired) > options.max_events:
        raise RuntimeError(
            f"more than max_events = {options.max_events} events by {events[-1, 0]:.6g} ms of "
            f"{options.duration:.6g} ms: the network runs away, or max_events is too low"
        )
    if not np.isfinite(last.numpy()).all():
        raise RuntimeError("the state left the range of float64: weights or values are too large")
    # copies: whoever changes a result must not change the record
    time, value, slope = (torch.from_numpy(column.copy()) for column in events.T)
    unit, *rest = (torch.from_numpy(part) for part in (fired.copy(), states, integral))
    result = ContinuousRun(time, unit, value, slope, rest[0], last, rest[1])
    return result, Record(events, fired, began, lengths, marks)


def walk_back(
    arguments: Arguments, record: Record, options: Options, arriving: ContinuousRun, moving_times: bool
) -> tuple[ContinuousGradients, Additions]:
    """Run the adjoint over a record; `arriving` are gradients of the run's fields."""
    adjoint = copy(arriving.last)
    time, value, *gradients, additions = run_back.kernel(
        array(arguments.value), array(arguments.token), array(arguments.kernel), array(arguments.recurrent),
        array(arguments.bias).reshape(3, -1), *record, *options.words(), options.tau_s, options.tau_m,
        moving_times, array(arriving.time), array(arriving.value), array(arriving.states),
        array(arriving.integral), adjoint.numpy(),
    )  # fmt: skip
    kernel, recurrent, bias, threshold = map(torch.from_numpy, gradients)
    found = ContinuousGradients(
        torch.from_numpy(time), torch.from_numpy(value), kernel, recurrent, bias.flatten(), threshold, adjoint
    )
    return found, Additions(*map(int, additions))


class Run(torch.autograd.Function):
    """`walk` and `walk_back` between tensors; the arguments are those of `Arguments`, then the options."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> ContinuousRun:
        *tensors, options = given
        result, ctx.record = walk(Arguments(*tensors), options)
        ctx.options = options
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(result.unit, result.slope)
        return result

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor) -> tuple[Tensor | None, ...]:
        gradients = PullBack.apply(ctx.record, ctx.options, *ctx.saved_tensors, *arriving)
        found = dict(zip(ContinuousGradients._fields, gradients, strict=True))
        return *(found.get(name) for name in Arguments._fields), None


class PullBack(torch.autograd.Function):
    """`walk_back` between tensors, which says that there is nothing behind it."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> ContinuousGradients:
        record, options, *tensors = given
        arguments, arriving = tensors[: len(Arguments._fields)], tensors[len(Arguments._fields) :]
        return walk_back(Arguments(*arguments), record, options, ContinuousRun(*arriving), True)[0]

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor) -> None:
        raise RuntimeError("egru_continuous is differentiable once, got a backward pass through its gradient")
