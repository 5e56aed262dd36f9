r"""A layer of the event-based GRU over a sequence, by one of two ways that give the same numbers.

    "dense"    operations of torch, step after step: every weight is read at every step; any dtype and device
    "event"    kernels that read the rows of units that spoke, and going back those that a gradient can pass
    "auto"     the cheaper one, by what was measured for this size and by how active the layer is

A compressed layer (`eventbook.models.egru.compressed`) is run by events over stored weights alone, and "auto"
is "event" for it: a row costs what it holds, nnz(row) in place of 3 H.

torch.compile traces all of them whole; "auto" is "event" there, for nothing can be measured in a graph.
Derivatives by torch.func (grad, jacrev, hessian, jvp) and second ones go through the dense path alone; "auto"
is "dense" in torch.func.

An input that is the output of a layer below is read by events, too, and its gradient is formed only where
that layer needs it (need: fired, or within 1/beta of theta): elsewhere it would be multiplied by zero.

Multiply-accumulates of the event path, counted by the kernels, with silence before the first step:

    recurrent   3 H sum over rows and steps but the last of |events|        back: 3 H (|need| + |events|)
    input       3 H sum over rows and steps of |events of the layer below|

| symbol | meaning | shape | name |
|---|---|---|---|
| y | what units say | (batch, time, unit) | `output` |
| c | state before the reset | (batch, time, unit) | `voltage` |
| h | state after it | (batch, time, unit) | `after_reset()` |
| o | event indicator, differentiable through its surrogate | (batch, time, unit) | `event()` |
| need | units a gradient can pass | (batch, time, unit) bool | `need()` |

Source: Subramoney et al., arXiv:2206.06178; sparse back-propagation derived in `eventbook.kernels.events`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor
from torch.nn import functional

from eventbook.kernels.events import Operations, egru_csr_sequence, egru_need, egru_sequence
from eventbook.kernels.events.csr import event_csr_counts
from eventbook.kernels.events.egru import last_output
from eventbook.kernels.events.egru_reference import egru_reference
from eventbook.kernels.events.matvec import event_matvec_counts
from eventbook.kernels.machinery.tensors import FLOATING
from eventbook.models.egru.cell import Dynamics, EGRUCell, EGRUState
from eventbook.models.egru.compressed import CompressedCell
from eventbook.models.egru.crossover import PROBE, choose_path, measure_paths

PATHS = ("auto", "dense", "event")


class LayerRun(NamedTuple):
    """What a layer did over a sequence, batch first. All tensors of floats are differentiable."""

    output: Float[Tensor, "batch time unit"]
    voltage: Float[Tensor, "batch time unit"]
    state: EGRUState
    threshold: Float[Tensor, "unit"]
    dynamics: Dynamics
    lengths: Int[Tensor, "batch"] | None
    recurrent_counts: Int64[Tensor, "batch column"] | None
    input_counts: Int64[Tensor, "row column"] | None

    @property
    def path(self) -> str:
        """ "event" or "dense"."""
        return "dense" if self.recurrent_counts is None else "event"

    def steps(self) -> Bool[Tensor, "batch time"]:
        """Where there is no padding."""
        batch, time, _ = self.output.shape
        if self.lengths is None:
            return torch.ones(batch, time, dtype=torch.bool, device=self.output.device)
        return torch.arange(time, device=self.output.device) < self.lengths[:, None]

    def event(self) -> Float[Tensor, "batch time unit"]:
        """1 where a unit spoke, else 0, also in padding."""
        return self.dynamics.event(self.voltage - self.threshold) * self.steps()[..., None]

    def after_reset(self) -> Float[Tensor, "batch time unit"]:
        """h of every step, 0 in padding."""
        if self.dynamics.reset == "threshold":
            return self.voltage - self.event() * self.threshold
        return self.voltage - self.output if self.dynamics.reset == "value" else self.voltage

    def need(self) -> Bool[Tensor, "batch time unit"]:
        """Units that a gradient can pass."""
        reached = egru_need(self.voltage, self.threshold, self.dynamics.surrogate_support)
        return reached & self.steps()[..., None]

    def activity(self) -> float:
        """Share of units and steps with an event; 0 of no steps at all."""
        return self._share((self.output != 0) & self.steps()[..., None])

    def need_share(self) -> float:
        """Share of units and steps that a gradient can pass; 0 of no steps at all."""
        return self._share(self.need())

    def operations(self) -> Operations | None:
        """What the recurrent product did, counted; None in the dense path, which counts nothing."""
        return None if self.recurrent_counts is None else Operations.of(self.recurrent_counts)

    def input_operations(self) -> Operations | None:
        """What the input product did, counted; None where it was dense."""
        return None if self.input_counts is None else Operations.of(self.input_counts)

    def _share(self, where: Tensor) -> float:
        total = int(self.steps().sum()) * self.output.shape[2]
        return int(where.sum()) / total if total else 0.0


def run_layer(
    cell: EGRUCell,
    input: Float[Tensor, "batch time input_size"],
    state: EGRUState,
    lengths: Int[Tensor, "batch"] | None = None,
    *,
    path: str = "event",
    events: bool = False,
    need: Bool[Tensor, "batch time input_size"] | None = None,
    drop_connect: float = 0.0,
    threads: int = 1,
) -> LayerRun:
    """Run one layer over a batch of sequences that were looked at.

    Parameters
    ----------
    cell
        Weights and options.
    input, state, lengths
        (batch, time, input_size), the state to begin from, and steps of each row that are no padding. Behind
        them the input must be numbers, best 0 (`without_padding`): gradients of weights multiply them by 0,
        and what is not 0 is read as an event.
    path
        "auto", "dense" or "event"; ValueError if it is none of them.
    events, need
        Whether the input is events, mostly zeros, to be read as such; where its gradient is wanted.
    drop_connect
        Chance that a recurrent weight is left out for the whole call; the others grow to make up for it.
    threads
        Of the kernels, over the batch.
    """
    if path not in PATHS:
        raise ValueError(f"path must be one of {', '.join(PATHS)}, got {path!r}")
    theta = cell.threshold()
    dynamics, bias = cell.dynamics, cell.recurrent_bias_or_zeros()
    if path == "auto":
        path = _cheaper(cell, input, state, lengths, theta, threads)
    if path == "dense":
        recurrent = functional.dropout(cell.recurrent_kernel, drop_connect, training=drop_connect > 0)
        y, c, h = egru_reference(
            cell.project(input), recurrent, bias, theta, *state, lengths=lengths, reset=dynamics.reset,
            reset_gate=dynamics.reset_gate, event=dynamics.event,
        )  # fmt: skip
        if lengths is not None or not y.shape[1]:
            steps = _all(input) if lengths is None else lengths
            said = last_output(y, steps, state.output)
        else:
            said = y[:, -1]
        return LayerRun(y, c, EGRUState(h, said), theta, dynamics, lengths, None, None)
    counts = None
    if events:
        batch, time, _ = input.shape
        wanted = None if need is None else need.flatten(0, 1)
        spoken = input.flatten(0, 1)
        if isinstance(cell, CompressedCell):
            product, counts = event_csr_counts(spoken, cell.rows("kernel"), need=wanted, threads=threads)
        else:
            product, counts = event_matvec_counts(spoken, cell.kernel, need=wanted, threads=threads)
        projection = product.unflatten(0, (batch, time))
        projection = projection if cell.bias is None else projection + cell.bias
    else:
        projection = cell.project(input)
    options = {"lengths": lengths, "threads": threads, **vars(dynamics)}
    if isinstance(cell, CompressedCell):
        rows = cell.rows("recurrent_kernel", drop_connect)
        run = egru_csr_sequence(projection, rows, bias, theta, *state, **options)
    else:
        recurrent = functional.dropout(cell.recurrent_kernel, drop_connect, training=drop_connect > 0)
        run = egru_sequence(projection, recurrent, bias, theta, *state, **options)
    end = EGRUState(run.carry, run.last_output)
    return LayerRun(run.output, run.state, end, theta, dynamics, lengths, run.counts, counts)


def _all(input: Tensor) -> Tensor:
    return torch.full((input.shape[0],), input.shape[1], device=input.device)


@torch.no_grad()
def _probe(
    cell: EGRUCell,
    input: Tensor,
    state: EGRUState,
    lengths: Tensor | None,
    theta: Tensor,
) -> tuple[float, float]:
    """Activity and share of need in the last of a few first steps, where there is no padding."""
    few = None if lengths is None else lengths.clamp(max=PROBE)
    begin = cell.project(input[:, :PROBE])
    run = egru_sequence(
        begin, cell.recurrent_kernel, cell.recurrent_bias_or_zeros(), theta, *state, lengths=few,
        **vars(cell.dynamics),
    )  # fmt: skip
    late = slice(begin.shape[1] // 2, None)  # states begin at 0, where little is said
    spoke = run.output != 0
    need = egru_need(run.state, theta, cell.dynamics.surrogate_support)
    if few is None:
        return float(spoke[:, late].double().mean()), float(need[:, late].double().mean())
    steps = torch.arange(begin.shape[1]) < few[:, None]
    at_last = steps.clone()
    at_last[:, : late.start] = False
    steps = at_last if at_last.any() else steps  # of short rows all
    if not steps.any():
        return 0.0, 0.0
    return float(spoke[steps].double().mean()), float(need[steps].double().mean())


def _cheaper(
    cell: EGRUCell,
    input: Tensor,
    state: EGRUState,
    lengths: Tensor | None,
    theta: Tensor,
    threads: int,
) -> str:
    """Which path to take: kernels run on the CPU in single or double precision, outside of torch.func."""
    if not input.is_cpu or input.dtype not in FLOATING:
        return "dense"
    if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
        return "dense"
    if torch.compiler.is_compiling() or not input.numel():  # nothing can be measured
        return "event"
    if isinstance(cell, CompressedCell):  # nothing was measured for what is left of its weights
        return "event"
    training = torch.is_grad_enabled() and cell.recurrent_kernel.requires_grad
    costs = measure_paths(
        len(input), cell.hidden_size, training, reset_gate=cell.dynamics.reset_gate, dtype=input.dtype,
        threads=threads,
    )  # fmt: skip
    filled = 1.0 if lengths is None else int(lengths.sum()) / (len(input) * input.shape[1])
    return choose_path(costs, *_probe(cell, input, state, lengths, theta), filled)
