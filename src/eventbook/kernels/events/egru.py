r"""The event-based GRU over a sequence: forward and backward cost what units say, not how many they are.

    p_t = x_t W + b (computed before)      q_t = y_{t-1} R + b_r         blocks z, r, g of 3 H each
    z = sig(p_z + q_z)    r = sig(p_r + q_r)    g = tanh(p_g + r q_g)
    c_t = z h_{t-1} + (1 - z) g    o_t = [c_t > theta]    y_t = o_t c_t    h_t = c_t - o_t theta

| symbol | meaning | shape | name |
|---|---|---|---|
| p | projected input | (batch, time, 3 unit) | `projection` |
| R | outgoing weights of each unit, column blocks z, r, g | (unit, 3 unit) | `recurrent` |
| b_r | recurrent bias | (3 unit,) | `recurrent_bias` |
| theta | threshold | (unit,) | `threshold` |
| y | what units say: 0, or the state that crossed the threshold | (batch, time, unit) | `output` |
| c | state before the reset | (batch, time, unit) | `state` |
| h | state after it; h_0 and h_T | (batch, unit) | `carry` |
| beta | inverse half-width of the surrogate derivative | scalar | `surrogate_support` |
| gamma | its height | scalar | `surrogate_dampening` |
| need | units a gradient can pass: fired, or within 1/beta of theta | (batch, time, unit) | `egru_need` |

Recurrent multiply-accumulates with y_0 = 0, counted by the kernels and exact:

    forward   3 H sum_{t=0}^{T-2} |events_t|             dense: 3 H^2 (T - 1)
    backward  3 H sum_{t=0}^{T-2} (|need_t| + |events_t|)    dense: twice that

Four resets, see `egru_reference`: "threshold" (the authors' code, the default), "value", "paper", "none".

Source: `egru`, code form (the reset gate after the recurrent product); sparse back-propagation derived there.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from eventbook.kernels.events.counters import Operations, no_counts
from eventbook.kernels.events.egru_backward import backward
from eventbook.kernels.events.egru_forward import forward
from eventbook.kernels.events.matvec import row_gradient
from eventbook.kernels.tensors import (
    FLOATING,
    array,
    axes,
    copy,
    flat,
    fold_into_batch,
    forbid_second_backward,
    new,
    same_dtype,
)
from eventbook.kernels.threads import over_batch

RESETS = ("threshold", "value", "none", "paper")


class EGRURun(NamedTuple):
    """What a sequence gives. `output`, `state`, `carry` and `last_output` are differentiable."""

    output: Float[Tensor, "batch time unit"]  # y
    state: Float[Tensor, "batch time unit"]  # c, before the reset
    carry: Float[Tensor, "batch unit"]  # h_T, for the next call
    last_output: Float[Tensor, "batch unit"]  # y_T, for the next call
    counts: Int64[Tensor, "batch column"]

    def operations(self) -> Operations:
        """What the forward pass did."""
        return Operations.of(self.counts)


class EGRUGradients(NamedTuple):
    """Gradients of a sequence, in the order of the arguments of `egru_sequence`."""

    projection: Float[Tensor, "batch time three_units"]
    recurrent: Float[Tensor, "unit three_units"]
    recurrent_bias: Float[Tensor, "three_units"]
    threshold: Float[Tensor, "unit"]
    carry: Float[Tensor, "batch unit"]
    output: Float[Tensor, "batch unit"]


def _removed(threshold: Tensor, reset: str) -> Any:
    return array(threshold if reset == "threshold" else torch.zeros_like(threshold))


# --- torch -------------------------------------------------------------------------------------------------


@torch.library.custom_op("eventbook::egru", mutates_args=())
def _egru(
    projection: Tensor,
    recurrent: Tensor,
    recurrent_bias: Tensor,
    threshold: Tensor,
    carry: Tensor,
    output: Tensor,
    reset: str,
    support: float,
    dampening: float,
    everything: bool,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, time, _ = projection.shape
    units = len(threshold)
    said, state, cross = (new((batch, time, units), projection) for _ in range(3))
    gates, last, counts = new(projection.shape, projection), copy(carry), no_counts(batch)
    rows = (
        *(flat(array(x)) for x in (projection, said, state, gates, cross)),
        last.numpy(),
        array(output),
        counts.numpy(),
    )
    over_batch(
        forward, threads, rows, array(recurrent).reshape(-1), array(recurrent_bias), array(threshold),
        _removed(threshold, reset), reset == "value", reset == "paper", everything,
    )  # fmt: skip
    return said, state, last, gates, cross, counts


@_egru.register_fake
def _(
    projection: Tensor,
    recurrent: Tensor,
    recurrent_bias: Tensor,
    threshold: Tensor,
    carry: Tensor,
    output: Tensor,
    reset: str,
    support: float,
    dampening: float,
    everything: bool,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, time, _ = projection.shape
    said, state, cross = (projection.new_empty(batch, time, threshold.shape[0]) for _ in range(3))
    counts = projection.new_empty(batch, 4, dtype=torch.int64)
    return said, state, carry.new_empty(carry.shape), projection.new_empty(projection.shape), cross, counts


@torch.library.custom_op("eventbook::egru_backward", mutates_args=())
def _egru_backward(
    output_gradient: Tensor | None,
    state_gradient: Tensor | None,
    carry_gradient: Tensor | None,
    recurrent: Tensor,
    threshold: Tensor,
    carry: Tensor,
    output: Tensor,
    said: Tensor,
    state: Tensor,
    gates: Tensor,
    cross: Tensor,
    reset: str,
    support: float,
    dampening: float,
    everything: bool,
    recurrent_wanted: bool,
    output_wanted: bool,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, time, units = said.shape
    zeros = torch.zeros_like(said) if output_gradient is None or state_gradient is None else said
    arriving = zeros if output_gradient is None else output_gradient
    external = zeros if state_gradient is None else state_gradient
    to_carry = torch.zeros_like(carry) if carry_gradient is None else copy(carry_gradient)
    to_projection, to_product = (new(gates.shape, gates) for _ in range(2))
    to_threshold, to_output = (torch.zeros(batch, units, dtype=said.dtype) for _ in range(2))
    counts = no_counts(batch)
    scalar = np.float32 if said.dtype == torch.float32 else np.float64
    rows = (
        *(flat(array(x)) for x in (arriving, external)),
        to_carry.numpy(),
        *(flat(array(x)) for x in (state, gates, cross)),
        array(carry),
        *(flat(x.numpy()) for x in (to_projection, to_product)),
        *(x.numpy() for x in (to_threshold, to_output, counts)),
    )
    over_batch(
        backward, threads, rows, array(recurrent).reshape(-1), array(threshold), _removed(threshold, reset),
        scalar(support), scalar(dampening), reset == "value", reset == "threshold", reset == "paper",
        everything, output_wanted,
    )  # fmt: skip
    if recurrent_wanted:
        before = torch.cat([output.unsqueeze(1), said], 1)[:, :time]
        falling = to_product
        if everything and not bool((output != 0).any()):  # nor does a dense path multiply with y_0 = 0
            before, falling = before[:, 1:], falling[:, 1:]
        to_recurrent, more = row_gradient(
            before.reshape(-1, units), falling.reshape(-1, 3 * units), everything, threads
        )
        counts = torch.cat([counts, more])
    else:
        to_recurrent = torch.zeros_like(recurrent, memory_format=torch.contiguous_format)
    # Sums over batch and time in ascending order, by one thread.
    to_bias = torch.from_numpy(np.add.reduce(to_product.numpy().reshape(batch * time, 3 * units), axis=0))
    to_threshold = torch.from_numpy(np.add.reduce(to_threshold.numpy(), axis=0))
    return to_projection, to_recurrent, to_bias, to_threshold, to_carry, to_output, counts.sum(0)


@_egru_backward.register_fake
def _(
    output_gradient: Tensor | None,
    state_gradient: Tensor | None,
    carry_gradient: Tensor | None,
    recurrent: Tensor,
    threshold: Tensor,
    carry: Tensor,
    output: Tensor,
    said: Tensor,
    state: Tensor,
    gates: Tensor,
    cross: Tensor,
    reset: str,
    support: float,
    dampening: float,
    everything: bool,
    recurrent_wanted: bool,
    output_wanted: bool,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        gates.new_empty(gates.shape),
        recurrent.new_empty(recurrent.shape),
        recurrent.new_empty(recurrent.shape[1]),
        threshold.new_empty(threshold.shape),
        carry.new_empty(carry.shape),
        carry.new_empty(carry.shape),
        said.new_empty(4, dtype=torch.int64),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, recurrent, _, threshold, carry, first, *ctx.options = inputs
    said, state, _, gates, cross, _ = output
    ctx.save_for_backward(recurrent, threshold, carry, first, said, state, gates, cross)
    ctx.set_materialize_grads(False)


def _pull_back(ctx: Any, said: Any, state: Any, last: Any, *_: Any) -> tuple[Tensor | None, ...]:
    reset, support, dampening, everything, threads = ctx.options
    wanted = ctx.needs_input_grad
    *gradients, _ = _egru_backward(
        said,
        state,
        last,
        *ctx.saved_tensors,
        reset,
        support,
        dampening,
        everything,
        wanted[1],
        wanted[5],
        threads,
    )
    return *gradients, None, None, None, None, None


_egru.register_autograd(_pull_back, setup_context=_keep)
forbid_second_backward(_egru_backward, "egru_sequence")
fold_into_batch(_egru, (True, False, False, False, True, True, None, None, None, None, None))
fold_into_batch(_egru_backward, (False,) * 11 + (None,) * 7)


def _checked(
    projection: Tensor,
    recurrent: Tensor,
    recurrent_bias: Tensor,
    threshold: Tensor,
    carry: Tensor | None,
    output: Tensor | None,
    reset: str,
    support: float,
    dampening: float,
) -> tuple[Tensor, Tensor]:
    """The initial states, after complaints in the user's words."""
    if reset not in RESETS:
        raise ValueError(f"reset must be one of {', '.join(RESETS)}, got {reset!r}")
    if not support > 0:
        raise ValueError(f"surrogate_support must be > 0, got {support}")
    if not dampening >= 0:
        raise ValueError(f"surrogate_dampening must be >= 0, got {dampening}")
    sizes = axes(
        threshold=(threshold, "unit"),
        recurrent=(recurrent, "unit three_units"),
        recurrent_bias=(recurrent_bias, "three_units"),
        projection=(projection, "batch time three_units"),
    )
    if sizes["three_units"] != 3 * sizes["unit"]:
        raise ValueError(
            f"recurrent must have 3 columns per unit, blocks z, r, g: {3 * sizes['unit']}, "
            f"got {sizes['three_units']}"
        )
    initial = [
        projection.new_zeros(sizes["batch"], sizes["unit"]) if x is None else x for x in (carry, output)
    ]
    same_dtype(
        FLOATING, projection=projection, recurrent=recurrent, recurrent_bias=recurrent_bias,
        threshold=threshold, carry=carry, output=output,
    )  # fmt: skip
    axes(
        projection=(projection, "batch time three_units"),
        threshold=(threshold, "unit"),
        carry=(initial[0], "batch unit"),
        output=(initial[1], "batch unit"),
    )
    return initial[0], initial[1]


def egru_sequence(
    projection: Float[Tensor, "batch time three_units"],
    recurrent: Float[Tensor, "unit three_units"],
    recurrent_bias: Float[Tensor, "three_units"],
    threshold: Float[Tensor, "unit"],
    carry: Float[Tensor, "batch unit"] | None = None,
    output: Float[Tensor, "batch unit"] | None = None,
    *,
    reset: str = "threshold",
    surrogate_support: float = 1.0,
    surrogate_dampening: float = 0.7,
    every_row: bool = False,
    threads: int = 1,
) -> EGRURun:
    """Run the event-based GRU over a sequence of projected inputs.

    Parameters
    ----------
    projection
        x W + b, (batch, time, 3 unit), float32 or float64. Time may be empty.
    recurrent, recurrent_bias, threshold
        Row of outgoing weights per unit, (unit, 3 unit); (3 unit,); (unit,).
    carry, output
        h_0 and y_0, (batch, unit); zeros if not given. To go on where a run ended, give its `carry` and
        `last_output`: two windows then equal one long run, gradients included.
    reset
        What an event takes from the state: "threshold", "value", "none" or "paper".
    surrogate_support, surrogate_dampening
        beta > 0 (may be inf) and gamma >= 0 of the surrogate derivative; they do not change the outputs.
    every_row
        Read the rows of silent units as well, in both directions: the dense recurrence by the same code, for
        honest comparisons.
    threads
        Threads over the batch, in the gradient of `recurrent` over its rows. Bits do not depend on it.

    Returns
    -------
    EGRURun
        Outputs, states before the reset, last states, and counts of what was done.

    Raises
    ------
    ValueError
        If shapes do not fit, a tensor is not on the CPU, or an option is none.
    TypeError
        If dtypes differ.

    Examples
    --------
    >>> import torch
    >>> p = torch.tensor([0.0, 0.0, 5.0]).expand(1, 4, 3)
    >>> run = egru_sequence(p, torch.zeros(1, 3), torch.zeros(3), torch.tensor([0.8]))
    >>> run.output.flatten()
    tensor([0.0000, 0.0000, 0.8749, 0.0000])
    >>> run.operations().events
    1
    """
    carry, output = _checked(
        projection, recurrent, recurrent_bias, threshold, carry, output, reset, surrogate_support,
        surrogate_dampening,
    )  # fmt: skip
    said, state, last, _, _, counts = _egru(
        projection, recurrent, recurrent_bias, threshold, carry, output, reset,
        surrogate_support, surrogate_dampening, every_row, threads,
    )  # fmt: skip
    return EGRURun(said, state, last, said[:, -1] if said.shape[1] else output, counts)


def egru_gradients(
    output_gradient: Float[Tensor, "batch time unit"],
    projection: Float[Tensor, "batch time three_units"],
    recurrent: Float[Tensor, "unit three_units"],
    recurrent_bias: Float[Tensor, "three_units"],
    threshold: Float[Tensor, "unit"],
    carry: Float[Tensor, "batch unit"] | None = None,
    output: Float[Tensor, "batch unit"] | None = None,
    *,
    reset: str = "threshold",
    surrogate_support: float = 1.0,
    surrogate_dampening: float = 0.7,
    every_row: bool = False,
    threads: int = 1,
) -> tuple[EGRUGradients, Operations]:
    """Gradients without autograd, and what the backward pass did: messages and updated rows of `recurrent`.

    Parameters
    ----------
    output_gradient
        dE/dy, (batch, time, unit). The other arguments are those of `egru_sequence`. The gradient of y_0
        reads all rows once more and is computed, and counted, only if `output` is given; else it is 0.

    Returns
    -------
    gradients
        Of projection, recurrent, recurrent_bias, threshold, carry and output.
    operations
        `needed` messages, `events` that updated a row, multiply-accumulates of both.
    """
    wanted = output is not None
    carry, output = _checked(
        projection, recurrent, recurrent_bias, threshold, carry, output, reset, surrogate_support,
        surrogate_dampening,
    )  # fmt: skip
    surrogate = surrogate_support, surrogate_dampening
    with torch.no_grad():
        said, state, _, gates, cross, _ = _egru(
            projection, recurrent, recurrent_bias, threshold, carry, output, reset, *surrogate, every_row,
            threads,
        )  # fmt: skip
        axes(state=(state, "batch time unit"), output_gradient=(output_gradient, "batch time unit"))
        same_dtype(FLOATING, projection=projection, output_gradient=output_gradient)
        *gradients, counts = _egru_backward(
            output_gradient, None, None, recurrent, threshold, carry, output, said, state, gates, cross,
            reset, *surrogate, every_row, True, wanted, threads,
        )  # fmt: skip
    return EGRUGradients(*gradients), Operations.of(counts)


def egru_need(
    state: Float[Tensor, "batch time unit"], threshold: Float[Tensor, "unit"], surrogate_support: float = 1.0
) -> Bool[Tensor, "batch time unit"]:
    """Units that a gradient can pass: those that fired, and those within 1/beta of their threshold."""
    distance = state.detach() - threshold.detach()
    return ~(distance <= 0) | (1 - surrogate_support * distance.abs() > 0)
