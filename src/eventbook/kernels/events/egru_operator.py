"""The kernels of the event-based GRU as operators of torch: registration, saved tensors, reductions.

`walk_up` and `walk_down` run the kernels over dense or compressed rows; the operators for the latter are in
`egru_csr_operator`.

Symbols and names: `eventbook.kernels.events.egru`, which checks arguments and is what to call.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from eventbook.kernels.events.counters import COLUMNS, EVENTS, no_counts
from eventbook.kernels.events.egru_backward import backward
from eventbook.kernels.events.egru_forward import forward
from eventbook.kernels.events.matvec import row_gradient
from eventbook.kernels.machinery.lengths import check_lengths
from eventbook.kernels.machinery.tensors import (
    array,
    copy,
    flat,
    fold_into_batch,
    forbid_second_backward,
    new,
)
from eventbook.kernels.machinery.threads import over_batch


def _removed(threshold: Tensor, reset: str) -> Any:
    return array(threshold if reset == "threshold" else torch.zeros_like(threshold))


def walk_up(
    projection: Tensor,
    rows_of_units: Any,
    recurrent_bias: Tensor,
    threshold: Tensor,
    carry: Tensor,
    output: Tensor,
    lengths: Tensor,
    reset: str,
    gated: bool,
    everything: bool,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Outputs, states, last carry, gates, q_g and counts; the rows of R are flat or `CompressedRows`."""
    batch, time, _ = projection.shape
    units = len(threshold)
    steps = array(lengths)
    if ((steps < 0) | (steps > time)).any():  # the kernel would write where nothing is its own
        check_lengths(lengths, time)
    said, state, cross = (new((batch, time, units), projection) for _ in range(3))
    gates, last, counts = new(projection.shape, projection), copy(carry), no_counts(batch)
    rows = (
        *(flat(array(x)) for x in (projection, said, state, gates, cross)),
        last.numpy(),
        array(output),
        steps,
        counts.numpy(),
    )
    over_batch(
        forward, threads, rows, rows_of_units, array(recurrent_bias), array(threshold),
        _removed(threshold, reset), reset == "value", reset == "paper", gated, everything,
    )  # fmt: skip
    return said, state, last, gates, cross, counts


@torch.library.custom_op("eventbook::egru", mutates_args=())
def egru(
    projection: Tensor,
    recurrent: Tensor,
    recurrent_bias: Tensor,
    threshold: Tensor,
    carry: Tensor,
    output: Tensor,
    lengths: Tensor,
    reset: str,
    gated: bool,
    support: float,
    dampening: float,
    everything: bool,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return walk_up(
        projection, array(recurrent).reshape(-1), recurrent_bias, threshold, carry, output, lengths, reset,
        gated, everything, threads,
    )  # fmt: skip


@egru.register_fake
def _(
    projection: Tensor,
    recurrent: Tensor,
    recurrent_bias: Tensor,
    threshold: Tensor,
    carry: Tensor,
    output: Tensor,
    lengths: Tensor,
    reset: str,
    gated: bool,
    support: float,
    dampening: float,
    everything: bool,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, time, _ = projection.shape
    said, state, cross = (projection.new_empty(batch, time, threshold.shape[0]) for _ in range(3))
    counts = projection.new_empty(batch, COLUMNS, dtype=torch.int64)
    return said, state, carry.new_empty(carry.shape), projection.new_empty(projection.shape), cross, counts


class Down(NamedTuple):
    """What the way down gives; `product` is the gradient of q, `threshold` still a row for each batch row."""

    projection: Tensor
    product: Tensor
    threshold: Tensor
    carry: Tensor
    output: Tensor
    counts: Tensor

    def sums(self) -> tuple[Tensor, Tensor]:
        """Gradients of b_r and theta: sums over batch and time in ascending order, by one thread."""
        product = self.product.numpy()
        batch, time, width = product.shape
        to_bias = np.add.reduce(product.reshape(batch * time, width), axis=0)
        return torch.from_numpy(to_bias), torch.from_numpy(np.add.reduce(self.threshold.numpy(), axis=0))


def walk_down(
    output_gradient: Tensor | None,
    state_gradient: Tensor | None,
    carry_gradient: Tensor | None,
    rows_of_units: Any,
    threshold: Tensor,
    carry: Tensor,
    output: Tensor,
    said: Tensor,
    state: Tensor,
    gates: Tensor,
    cross: Tensor,
    lengths: Tensor,
    reset: str,
    gated: bool,
    support: float,
    dampening: float,
    everything: bool,
    output_wanted: bool,
    threads: int,
) -> Down:
    """Gradients but that of R; its rows are flat or `CompressedRows`."""
    batch, _, units = said.shape
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
        array(output),
        array(lengths),
        *(flat(x.numpy()) for x in (to_projection, to_product)),
        *(x.numpy() for x in (to_threshold, to_output, counts)),
    )
    over_batch(
        backward, threads, rows, rows_of_units, array(threshold), _removed(threshold, reset),
        scalar(support), scalar(dampening), reset == "value", reset == "threshold", reset == "paper",
        gated, everything, output_wanted,
    )  # fmt: skip
    return Down(to_projection, to_product, to_threshold, to_carry, to_output, counts)


def spoken_and_falling(
    output: Tensor, said: Tensor, gates: Tensor, to_product: Tensor, lengths: Tensor, gated: bool,
    everything: bool,
) -> tuple[list[Tensor], Tensor]:  # fmt: skip
    """What R was multiplied with, and the gradient of the product, each (batch * time, ...).

    With gated values it was multiplied with two things: y for z and r, then r y for g.
    """
    time, units = said.shape[1:]
    before = torch.cat([output.unsqueeze(1), said], 1)[:, :time]
    if bool((lengths < time).any()):  # nothing receives what the last step of a shorter row said
        before = torch.where((torch.arange(time) < lengths[:, None])[..., None], before, 0)
    spoken = [before, before * gates[..., units : 2 * units]] if gated else [before]
    if everything and not bool((output != 0).any()):  # nor does a dense path multiply with y_0 = 0
        spoken, to_product = [spoke[:, 1:] for spoke in spoken], to_product[:, 1:]
    return [spoke.flatten(0, 1) for spoke in spoken], to_product.flatten(0, 1)


@torch.library.custom_op("eventbook::egru_backward", mutates_args=())
def egru_backward(
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
    lengths: Tensor,
    reset: str,
    gated: bool,
    support: float,
    dampening: float,
    everything: bool,
    recurrent_wanted: bool,
    output_wanted: bool,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    down = walk_down(
        output_gradient, state_gradient, carry_gradient, array(recurrent).reshape(-1), threshold, carry,
        output, said, state, gates, cross, lengths, reset, gated, support, dampening, everything,
        output_wanted, threads,
    )  # fmt: skip
    counts = down.counts
    if recurrent_wanted:
        spoken, falling = spoken_and_falling(output, said, gates, down.product, lengths, gated, everything)
        columns = falling.tensor_split([2 * len(threshold)], 1) if gated else (falling,)
        pairs = zip(spoken, columns, strict=True)
        found = [row_gradient(spoke, part, everything, threads) for spoke, part in pairs]
        to_recurrent = torch.cat([gradient for gradient, _ in found], 1) if gated else found[0][0]
        for number, (_, more) in enumerate(found):
            more[:, EVENTS] *= number == 0  # a unit that spoke, however many of its values were used
            counts = torch.cat([counts, more])
    else:
        to_recurrent = torch.zeros_like(recurrent, memory_format=torch.contiguous_format)
    to_bias, to_threshold = down.sums()
    return down.projection, to_recurrent, to_bias, to_threshold, down.carry, down.output, counts.sum(0)


@egru_backward.register_fake
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
    lengths: Tensor,
    reset: str,
    gated: bool,
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
        said.new_empty(COLUMNS, dtype=torch.int64),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, recurrent, _, threshold, carry, first, lengths, *ctx.options = inputs
    said, state, _, gates, cross, _ = output
    ctx.save_for_backward(recurrent, threshold, carry, first, said, state, gates, cross, lengths)
    ctx.set_materialize_grads(False)


def _pull_back(ctx: Any, said: Any, state: Any, last: Any, *_: Any) -> tuple[Tensor | None, ...]:
    *options, threads = ctx.options
    wanted = ctx.needs_input_grad
    *gradients, _ = egru_backward(
        said,
        state,
        last,
        *ctx.saved_tensors,
        *options,
        wanted[1],
        wanted[5],
        threads,
    )
    return *gradients, *[None] * 7


egru.register_autograd(_pull_back, setup_context=_keep)
forbid_second_backward(egru_backward, "egru_sequence")
fold_into_batch(egru, (True, False, False, False, True, True, True, *(None,) * 6))
fold_into_batch(egru_backward, (False,) * 12 + (None,) * 8)
