r"""An EGRU that is fed step by step, as one compiled loop over steps and layers, and carries its state.

    stream = EGRUStream(model)
    y = stream.push(x)                 what the last layer says to one input, or to several in a row

    for each step:  for each layer:   p = b + sum of rows of W of inputs that are not 0
                                      q = b_r + sum of rows of R of units that spoke
                                      z, r, g, c, y, h elementwise;   y is the input of the next layer

A step costs what units say: 3 H products for each unit of the layer that spoke the step before, and for each
of the layer below that spoke in this one; of a network that `compress` made, a product for each weight that
is left of their rows. Weights lie end to end, so that a call hands over a few arrays and takes as long as its
arithmetic; a call through torch would take longer than a small layer does.

| symbol | meaning | shape | name |
|---|---|---|---|
| x | input of one step, or of several | (input_size,) or (time, input_size) | `x` |
| y | what the last layer says | (hidden_size,) or (time, hidden_size) | - |
| - | weights end to end, and a plan of them | see `packing` | `vectors`, `matrices`, `plan` |
| h, y | of each layer, end to end | (2 units of all layers,) | `memory` |

Source: derived from `layers`; the offline model is its oracle.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from eventbook.kernels.events.counters import BYTES, COLUMNS, EVENTS, MACS, Operations
from eventbook.kernels.events.egru_forward import advance, receive
from eventbook.kernels.events.rows import add_rows, bytes_each, find, part
from eventbook.kernels.events.stream import real_numbers
from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.doors import inside
from eventbook.kernels.machinery.tensors import FLOATING, array, same_dtype
from eventbook.models.egru.cell import EGRUState
from eventbook.models.egru.network import EGRU, cells_of, check_states
from eventbook.models.egru.packing import Field, packed, zeros

Array = NDArray[Any]


INPUT, INSIDE = 0, 1  # which product was counted


@inside
@kernel()
def run(x, output, vectors, matrices, plan, memory, scratch, chosen, counts, by_value, outside, gated):
    """Take some steps.

    x: (time, inputs); output: (time, units of the last layer); scratch: (7, 3 x widest); chosen: room for a
    number an input or unit; counts: (2, layers, `COLUMNS`), to which is added. `memory` goes on from call to
    call. Relies on a plan that fits weights and memory.
    """
    each = bytes_each(matrices)
    value, gates, cross, said, state = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    for t in range(x.shape[0]):
        coming = x[t]
        for layer in range(plan.shape[0]):
            inputs, units = plan[layer, Field.INPUTS], plan[layer, Field.UNITS]
            width = 3 * units
            p, q, scaled = scratch[5][:width], scratch[6][:width], cross[units : 2 * units]
            bias, more = plan[layer, Field.BIAS], plan[layer, Field.RECURRENT_BIAS]
            p[:] = vectors[bias : bias + width]
            q[:] = vectors[more : more + width]
            events = find(coming, 0, inputs, False, chosen, value)
            rows = part(matrices, plan[layer, Field.KERNEL], inputs, width)
            done = add_rows(rows, chosen, value, events, p)
            counts[INPUT, layer, EVENTS] += events
            counts[INPUT, layer, MACS] += done
            counts[INPUT, layer, BYTES] += done * each
            at = plan[layer, Field.SPOKEN]
            previous = memory[at : at + units]
            events = find(previous, 0, units, False, chosen, value)
            rows = part(matrices, plan[layer, Field.RECURRENT], units, width)
            done = receive(p, 0, rows, previous, events, chosen, value, gated, q, scaled)
            counts[INSIDE, layer, EVENTS] += events
            counts[INSIDE, layer, MACS] += done
            counts[INSIDE, layer, BYTES] += done * each
            at, theta = plan[layer, Field.CARRY], plan[layer, Field.THRESHOLD]
            less = plan[layer, Field.REMOVED]
            advance(
                p, 0, q, memory[at : at + units], previous, vectors[theta : theta + units],
                vectors[less : less + units], by_value, outside, gated, said, state, gates, cross,
            )  # fmt: skip
            coming = previous
        output[t, :] = coming


class EGRUStream:
    """A stream of inputs through a trained network; see the module.

    The weights are copied when the stream is made, in the state of evaluation: nothing is dropped. Networks
    of float32 and of float64 keep their precision.

    Parameters
    ----------
    model
        The network, on the CPU; one that `compress` made stays compressed.

    Raises
    ------
    TypeError
        If it is no EGRU, or its weights are of another precision or of several.
    ValueError
        If a weight is not finite.

    Attributes
    ----------
    steps
        How many came in since the start.

    Examples
    --------
    >>> model = EGRU(3, 8, 2, generator=torch.Generator().manual_seed(0))
    >>> stream = EGRUStream(model)
    >>> stream.push([1.0, 0.0, -1.0]).shape
    (8,)
    >>> stream.push(np.ones((5, 3))).shape, stream.steps
    ((5, 8), 6)
    """

    def __init__(self, model: EGRU) -> None:
        if not isinstance(model, EGRU):
            raise TypeError(f"model must be an EGRU, got {type(model).__name__}")
        cells = cells_of(model)
        self._dtype = same_dtype(FLOATING, model=cells[0].like)
        thresholds = {f"cells.{number}.threshold": cell.threshold() for number, cell in enumerate(cells)}
        for name, weight in {**model.state_dict(), **thresholds}.items():
            if weight.is_floating_point() and weight.dtype != self._dtype:
                raise TypeError(
                    f"model must have weights of one dtype, {self._dtype}, got {weight.dtype} in {name}"
                )
            always = "threshold" in name and (weight == -torch.inf).all()
            if not weight.isfinite().all() and not always:
                raise ValueError(f"model must have finite weights, got others in {name}")
        first = cells[0].dynamics
        self._options = first.reset == "value", first.reset == "paper", first.reset_gate == "before"
        self._vectors, self._matrices, self._plan = packed(cells)
        self.input_size, self.hidden_sizes = model.input_size, model.hidden_sizes
        widest = max(self.input_size, *self.hidden_sizes)
        self._scratch = zeros(7 * 3 * widest, self._vectors.dtype).reshape(7, -1)
        self._chosen = np.zeros(widest, np.int64)
        self.reset()

    def reset(self, state: Sequence[EGRUState] | None = None) -> None:
        """Begin anew, from silence or from the state of a network at batch 1.

        Raises
        ------
        ValueError
            If the state is not of this network and one sequence, or not finite, for it would never be again.
        TypeError
            If it is no state of layers, or of another dtype than the weights. The stream is then as it was
            before.
        """
        memory = zeros(2 * sum(self.hidden_sizes), self._vectors.dtype)
        if state is not None:
            check_states(state, len(self.hidden_sizes))
            for number, (row, its) in enumerate(zip(self._plan, state, strict=True)):
                units = int(row[Field.UNITS])
                places = Field.CARRY, Field.SPOKEN
                for name, place, tensor in zip(EGRUState._fields, places, its, strict=True):
                    if tuple(tensor.shape) not in ((units,), (1, units)):
                        raise ValueError(
                            f"state[{number}].{name} must be (1, {units}) or ({units},), "
                            f"got {tuple(tensor.shape)}"
                        )
                    if tensor.dtype != self._dtype:
                        raise TypeError(
                            f"state[{number}].{name} must have the dtype of the weights, {self._dtype}, "
                            f"got {tensor.dtype}"
                        )
                    if not tensor.isfinite().all():
                        raise ValueError(f"state[{number}].{name} must be finite, got nan or inf")
                    memory[row[place] : row[place] + units] = array(tensor).reshape(-1)
        self._memory = memory
        self._counts = np.zeros((2, len(self._plan), COLUMNS), np.int64)
        self.steps = 0

    def push(self, x: ArrayLike) -> Array:
        """Take one step or several.

        Parameters
        ----------
        x
            (input_size,), or (time, input_size).

        Returns
        -------
        numpy.ndarray
            What the last layer says, (hidden_size,) or (time, hidden_size), of the dtype of the weights.

        Raises
        ------
        ValueError
            If the shape is another one.
        TypeError
            If they are no real numbers. The stream is then as it was before.
        """
        given = real_numbers(x, self._vectors.dtype)
        if given.ndim not in (1, 2) or given.shape[-1] != self.input_size:
            raise ValueError(
                f"x must be (input_size,) or (time, input_size) with input_size {self.input_size}, "
                f"got shape {given.shape}"
            )
        steps = given if given.ndim == 2 else given[None]
        output = np.empty((len(steps), self.hidden_sizes[-1]), given.dtype)
        run.kernel(
            steps, output, self._vectors, self._matrices, self._plan, self._memory, self._scratch,
            self._chosen, self._counts, *self._options,
        )  # fmt: skip
        self.steps += len(steps)
        return output if given.ndim == 2 else output[0]

    def state(self) -> tuple[EGRUState, ...]:
        """The state of each layer, (1, unit) each, as a network takes it."""
        parts = ([int(row[field]) for field in (Field.CARRY, Field.SPOKEN)] for row in self._plan)
        return tuple(
            EGRUState(*(self._part(at, units) for at in places))
            for places, units in zip(parts, self.hidden_sizes, strict=True)
        )

    def operations(self, layer: int) -> Operations:
        """What the recurrent product of a layer did since the start."""
        return Operations.of(torch.from_numpy(self._counts[INSIDE, layer]))

    def input_operations(self, layer: int) -> Operations:
        """What the input product of a layer did since the start."""
        return Operations.of(torch.from_numpy(self._counts[INPUT, layer]))

    def _part(self, at: int, units: int) -> Float[Tensor, "1 unit"]:
        return torch.from_numpy(self._memory[at : at + units].copy())[None]
