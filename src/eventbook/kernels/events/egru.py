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
| T | steps of a row that are no padding | (batch,) | `lengths` |

Recurrent multiply-accumulates with y_0 = 0, counted by the kernels and exact, for each row of the batch:

    forward   3 H sum_{t=0}^{T-2} |events_t|             dense: 3 H^2 (T - 1)
    backward  3 H sum_{t=0}^{T-2} (|need_t| + |events_t|)    dense: twice that

Four resets, see `egru_reference`: "threshold" (the authors' code, the default), "value", "paper", "none". Two
places of the reset gate: "after" the recurrent product, as in torch.nn.GRU and above, or "before" it, as in
the paper: then g = tanh(p_g + (r y_{t-1}) R_g + b_r). The counts are the same: an event has two values, y and
r y, and the first meets 2 H weights of its row, the second H.

Source: `egru`, code form and paper form; sparse back-propagation derived there.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from eventbook.kernels.events.counters import Operations
from eventbook.kernels.events.egru_operator import egru, egru_backward
from eventbook.kernels.machinery.lengths import check_lengths
from eventbook.kernels.machinery.tensors import FLOATING, axes, same_dtype

RESETS = ("threshold", "value", "none", "paper")
GATES = ("after", "before")


class EGRURun(NamedTuple):
    """What a sequence gives. `output`, `state`, `carry` and `last_output` are differentiable."""

    output: Float[Tensor, "batch time unit"]  # y
    state: Float[Tensor, "batch time unit"]  # c, before the reset
    carry: Float[Tensor, "batch unit"]  # h after the last step of each row, for the next call
    last_output: Float[Tensor, "batch unit"]  # y of that step, for the next call
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


def check_form(reset: str, reset_gate: str, support: float, dampening: float) -> None:
    """ValueError if a word is none of those known or a number of the surrogate is out of range."""
    for name, word, known in (("reset", reset, RESETS), ("reset_gate", reset_gate, GATES)):
        if word not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {word!r}")
    if not support > 0:
        raise ValueError(f"surrogate_support must be > 0, got {support}")
    if not 0 <= dampening < math.inf:
        raise ValueError(f"surrogate_dampening must be >= 0 and finite, got {dampening}")


def checked(
    projection: Tensor,
    recurrent: Tensor | None,
    recurrent_bias: Tensor,
    threshold: Tensor,
    carry: Tensor | None,
    output: Tensor | None,
    lengths: Tensor | None,
    reset: str,
    reset_gate: str,
    support: float,
    dampening: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The initial states and the lengths, after complaints in the user's words.

    Without `recurrent`, which is then no dense matrix, whoever calls looks at it.
    """
    check_form(reset, reset_gate, support, dampening)
    sizes = axes(
        threshold=(threshold, "unit"),
        recurrent=(recurrent, "unit three_units"),
        recurrent_bias=(recurrent_bias, "three_units"),
        projection=(projection, "batch time three_units"),
        carry=(carry, "batch unit"),
        output=(output, "batch unit"),
        lengths=(lengths, "batch"),
    )
    if sizes["three_units"] != 3 * sizes["unit"]:
        name = "recurrent_bias" if recurrent is None else "recurrent"
        raise ValueError(
            f"{name} must have 3 columns per unit, blocks z, r, g: {3 * sizes['unit']}, "
            f"got {sizes['three_units']}"
        )
    same_dtype(
        FLOATING, projection=projection, recurrent=recurrent, recurrent_bias=recurrent_bias,
        threshold=threshold, carry=carry, output=output,
    )  # fmt: skip
    silent = projection.new_zeros(sizes["batch"], sizes["unit"])
    if lengths is None:
        steps = projection.new_full((sizes["batch"],), sizes["time"], dtype=torch.int64)
    else:
        check_lengths(lengths, sizes["time"])  # in a compiled graph the operator looks at them
        steps = lengths.to(torch.int64)
    return silent if carry is None else carry, silent if output is None else output, steps


def last_output(said: Tensor, steps: Tensor, first: Tensor) -> Tensor:
    """What was said in the last step of each row; y_0 for a row without steps."""
    if not said.shape[1]:
        return first
    at = (steps - 1).clamp(min=0)[:, None, None].expand(-1, 1, said.shape[2])
    return torch.where((steps > 0)[:, None], said.gather(1, at).squeeze(1), first)


def egru_sequence(
    projection: Float[Tensor, "batch time three_units"],
    recurrent: Float[Tensor, "unit three_units"],
    recurrent_bias: Float[Tensor, "three_units"],
    threshold: Float[Tensor, "unit"],
    carry: Float[Tensor, "batch unit"] | None = None,
    output: Float[Tensor, "batch unit"] | None = None,
    *,
    lengths: Int[Tensor, "batch"] | None = None,
    reset: str = "threshold",
    reset_gate: str = "after",
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
    lengths
        Steps of each row that are no padding, (batch,) integers; all if not given. Behind them outputs and
        states are 0, and nothing is computed.
    reset
        What an event takes from the state: "threshold", "value", "none" or "paper".
    reset_gate
        Where r acts: "after" the recurrent product, or "before" it.
    surrogate_support, surrogate_dampening
        beta > 0 (may be inf) and gamma >= 0, finite, of the surrogate derivative; they do not change the
        outputs.
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
        If shapes do not fit, a length is not in 0..time, a tensor is not on the CPU, or an option is none.
    TypeError
        If dtypes differ, or lengths are no integers.

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
    carry, output, steps = checked(
        projection, recurrent, recurrent_bias, threshold, carry, output, lengths, reset, reset_gate,
        surrogate_support, surrogate_dampening,
    )  # fmt: skip
    said, state, last, _, _, counts = egru(
        projection, recurrent, recurrent_bias, threshold, carry, output, steps, reset,
        reset_gate == "before", surrogate_support, surrogate_dampening, every_row, threads,
    )  # fmt: skip
    end = last_output(said, steps, output) if lengths is not None or not said.shape[1] else said[:, -1]
    return EGRURun(said, state, last, end, counts)


def egru_gradients(
    output_gradient: Float[Tensor, "batch time unit"],
    projection: Float[Tensor, "batch time three_units"],
    recurrent: Float[Tensor, "unit three_units"],
    recurrent_bias: Float[Tensor, "three_units"],
    threshold: Float[Tensor, "unit"],
    carry: Float[Tensor, "batch unit"] | None = None,
    output: Float[Tensor, "batch unit"] | None = None,
    *,
    lengths: Int[Tensor, "batch"] | None = None,
    reset: str = "threshold",
    reset_gate: str = "after",
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
        reads all rows once more and is computed, and counted, only if `output` is given; else it is 0. What
        arrives behind the length of a row is not looked at.

    Returns
    -------
    gradients
        Of projection, recurrent, recurrent_bias, threshold, carry and output.
    operations
        `needed` messages, `events` that updated a row, multiply-accumulates of both.
    """
    wanted = output is not None
    carry, output, steps = checked(
        projection, recurrent, recurrent_bias, threshold, carry, output, lengths, reset, reset_gate,
        surrogate_support, surrogate_dampening,
    )  # fmt: skip
    options = reset, reset_gate == "before", surrogate_support, surrogate_dampening, every_row
    with torch.no_grad():
        said, state, _, gates, cross, _ = egru(
            projection, recurrent, recurrent_bias, threshold, carry, output, steps, *options, threads
        )
        axes(state=(state, "batch time unit"), output_gradient=(output_gradient, "batch time unit"))
        same_dtype(FLOATING, projection=projection, output_gradient=output_gradient)
        *gradients, counts = egru_backward(
            output_gradient, None, None, recurrent, threshold, carry, output, said, state, gates, cross,
            steps, *options, True, wanted, threads,
        )  # fmt: skip
    return EGRUGradients(*gradients), Operations.of(counts)


def egru_need(
    state: Float[Tensor, "batch time unit"], threshold: Float[Tensor, "unit"], surrogate_support: float = 1.0
) -> Bool[Tensor, "batch time unit"]:
    """Units that a gradient can pass: those that fired, and those within 1/beta of their threshold."""
    distance = state.detach() - threshold.detach()
    return ~(distance <= 0) | (1 - surrogate_support * distance.abs() > 0)
