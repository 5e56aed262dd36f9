"""The event-based GRU over compressed rows as operators of torch; the kernels are those of dense rows.

Symbols and names: `eventbook.kernels.events.egru_csr`, which checks arguments and is what to call.
"""

from typing import Any

import torch
from torch import Tensor

from eventbook.kernels.events.compressed_rows import compressed_rows, value_gradient
from eventbook.kernels.events.counters import COLUMNS, EVENTS, no_counts
from eventbook.kernels.events.egru_operator import spoken_and_falling, walk_down, walk_up
from eventbook.kernels.machinery.tensors import array, fold_into_batch, forbid_second_backward
from eventbook.kernels.machinery.threads import over_batch


@torch.library.custom_op("eventbook::egru_csr", mutates_args=())
def egru_csr(
    projection: Tensor,
    values: Tensor,
    recurrent_bias: Tensor,
    threshold: Tensor,
    carry: Tensor,
    output: Tensor,
    lengths: Tensor,
    indptr: Tensor,
    indices: Tensor,
    changes: int,
    reset: str,
    gated: bool,
    support: float,
    dampening: float,
    everything: bool,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    rows = compressed_rows(indptr, indices, values, changes, 3 * len(threshold), 2 * len(threshold))
    return walk_up(
        projection, rows, recurrent_bias, threshold, carry, output, lengths, reset, gated, everything, threads
    )


@egru_csr.register_fake
def _(
    projection: Tensor,
    values: Tensor,
    recurrent_bias: Tensor,
    threshold: Tensor,
    carry: Tensor,
    output: Tensor,
    lengths: Tensor,
    indptr: Tensor,
    indices: Tensor,
    changes: int,
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


@torch.library.custom_op("eventbook::egru_csr_backward", mutates_args=())
def egru_csr_backward(
    output_gradient: Tensor | None,
    state_gradient: Tensor | None,
    carry_gradient: Tensor | None,
    values: Tensor,
    threshold: Tensor,
    carry: Tensor,
    output: Tensor,
    said: Tensor,
    state: Tensor,
    gates: Tensor,
    cross: Tensor,
    lengths: Tensor,
    indptr: Tensor,
    indices: Tensor,
    changes: int,
    reset: str,
    gated: bool,
    support: float,
    dampening: float,
    everything: bool,
    values_wanted: bool,
    output_wanted: bool,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    rows = compressed_rows(indptr, indices, values, changes, 3 * len(threshold), 2 * len(threshold))
    down = walk_down(
        output_gradient, state_gradient, carry_gradient, rows, threshold, carry, output, said, state, gates,
        cross, lengths, reset, gated, support, dampening, everything, output_wanted, threads,
    )  # fmt: skip
    counts, to_values = down.counts, torch.zeros_like(values, memory_format=torch.contiguous_format)
    if values_wanted:
        spoken, falling = spoken_and_falling(output, said, gates, down.product, lengths, gated, everything)
        begin, end = rows.begin[:-1], rows.begin[1:]
        ranges = [(begin, rows.cut), (rows.cut, end)] if gated else [(begin, end)]
        for number, (spoke, (first, last)) in enumerate(zip(spoken, ranges, strict=True)):
            more = no_counts(len(threshold))
            rows_of_sources = (array(spoke.t()), first, last, more.numpy())
            over_batch(
                value_gradient.kernel, threads, rows_of_sources, array(falling), rows.indices, everything,
                to_values.numpy(),
            )  # fmt: skip
            more[:, EVENTS] *= number == 0  # a unit that spoke, however many of its values were used
            counts = torch.cat([counts, more])
    to_bias, to_threshold = down.sums()
    return down.projection, to_values, to_bias, to_threshold, down.carry, down.output, counts.sum(0)


@egru_csr_backward.register_fake
def _(
    output_gradient: Tensor | None,
    state_gradient: Tensor | None,
    carry_gradient: Tensor | None,
    values: Tensor,
    threshold: Tensor,
    carry: Tensor,
    output: Tensor,
    said: Tensor,
    state: Tensor,
    gates: Tensor,
    cross: Tensor,
    lengths: Tensor,
    indptr: Tensor,
    indices: Tensor,
    changes: int,
    reset: str,
    gated: bool,
    support: float,
    dampening: float,
    everything: bool,
    values_wanted: bool,
    output_wanted: bool,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        gates.new_empty(gates.shape),
        values.new_empty(values.shape),
        gates.new_empty(gates.shape[2]),
        threshold.new_empty(threshold.shape),
        carry.new_empty(carry.shape),
        carry.new_empty(carry.shape),
        said.new_empty(COLUMNS, dtype=torch.int64),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, values, _, threshold, carry, first, lengths, indptr, indices, *ctx.options = inputs
    said, state, _, gates, cross, _ = output
    ctx.save_for_backward(
        values, threshold, carry, first, said, state, gates, cross, lengths, indptr, indices
    )
    ctx.set_materialize_grads(False)


def _pull_back(ctx: Any, said: Any, state: Any, last: Any, *_: Any) -> tuple[Tensor | None, ...]:
    *options, threads = ctx.options
    wanted = ctx.needs_input_grad
    *gradients, _ = egru_csr_backward(
        said, state, last, *ctx.saved_tensors, *options, wanted[1], wanted[5], threads
    )
    return *gradients, *[None] * 10


egru_csr.register_autograd(_pull_back, setup_context=_keep)
forbid_second_backward(egru_csr_backward, "egru_csr_sequence")
fold_into_batch(egru_csr, (True, False, False, False, True, True, True, False, False, *(None,) * 7))
fold_into_batch(egru_csr_backward, (False,) * 14 + (None,) * 9)
