r"""The event-based GRU over pruned rows: both kinds of zeros, silent units and missing weights, cost nothing.

    q_t = b_r + sum over i with y_{t-1,i} != 0, over the stored (i, j):  y_{t-1,i} R_ij
    dy_{t-1,i} = external + sum over the stored j of row i: R_ij dq_t,j          i in need_{t-1}
    dR_p += y_{t-1,i} dq_t,j                                                     p = (i, j) stored

Everything else is `egru_sequence`, by the same kernels: the same numbers as the dense recurrence whose pruned
weights are 0, forward and back. Multiply-accumulates with y_0 = 0, counted and exact, for a row of the batch:

    forward   sum_{t=0}^{T-2} sum over events_t of nnz(row)
    backward  sum_{t=0}^{T-2} sum over need_t and over events_t of nnz(row)

Gradients arise at stored weights only, so that pruned ones stay pruned under any optimiser.

| symbol | meaning | shape | name |
|---|---|---|---|
| R | stored outgoing weights of each unit, blocks z, r, g | (unit, 3 unit), compressed | `recurrent` |

Others: `eventbook.kernels.events.egru`. Rows pay below a tenth or so of the weights, where scattering single
products beats adding whole rows: `eventbook.kernels.events.choice`.

Source: derived; `sparse_language_models`, event kernel with sparse rows.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eventbook.kernels.events.counters import Operations
from eventbook.kernels.events.csr_matrix import CSRBySource
from eventbook.kernels.events.egru import EGRUGradients, EGRURun, checked, last_output
from eventbook.kernels.events.egru_csr_operator import egru_csr, egru_csr_backward
from eventbook.kernels.machinery.tensors import FLOATING, axes, same_dtype


def _checked(
    projection: Tensor,
    recurrent: CSRBySource,
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
    if not isinstance(recurrent, CSRBySource):
        raise TypeError(f"recurrent must be a CSRBySource, got {type(recurrent).__name__}")
    if not torch.compiler.is_compiling():  # else the operator does, when it runs
        recurrent.prove()
    units = axes(threshold=(threshold, "unit"))["unit"]
    if (recurrent.sources, recurrent.targets) != (units, 3 * units):
        raise ValueError(
            f"recurrent must be (unit, 3 unit) = ({units}, {3 * units}), blocks z, r, g, "
            f"got ({recurrent.sources}, {recurrent.targets})"
        )
    same_dtype(FLOATING, projection=projection, recurrent=recurrent.values)
    return checked(
        projection, None, recurrent_bias, threshold, carry, output, lengths, reset, reset_gate, support,
        dampening,
    )  # fmt: skip


def egru_csr_sequence(
    projection: Float[Tensor, "batch time three_units"],
    recurrent: CSRBySource,
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
    """Run the event-based GRU over a sequence of projected inputs, with a pruned recurrent matrix.

    Parameters
    ----------
    recurrent
        (unit, 3 unit), compressed by source; gradients reach its `values`. A pruned weight is no weight: 0
        times NaN is not computed.
    projection, recurrent_bias, threshold, carry, output
        As `egru_sequence`, like all options. With `every_row` the rows of silent units are read as well, but
        of their weights, too, the stored ones alone.

    Returns
    -------
    EGRURun
        Outputs, states before the reset, last states, and counts of what was done.

    Raises
    ------
    ValueError
        If shapes do not fit, indices of the matrix were spoilt in place, a length is not in 0..time, a tensor
        is not on the CPU, or an option is none.
    TypeError
        If dtypes differ, lengths are no integers, or the matrix is another object.

    Examples
    --------
    >>> import torch
    >>> matrix = CSRBySource.from_dense(torch.tensor([[0.0, 0.0, -9.0]]))
    >>> p = torch.tensor([0.0, 0.0, 5.0]).expand(1, 4, 3)
    >>> run = egru_csr_sequence(p, matrix, torch.zeros(3), torch.tensor([0.8]))
    >>> run.output.flatten()
    tensor([0.0000, 0.0000, 0.8749, 0.0000])
    >>> run.operations().multiply_accumulates
    1
    """
    carry, output, steps = _checked(
        projection, recurrent, recurrent_bias, threshold, carry, output, lengths, reset, reset_gate,
        surrogate_support, surrogate_dampening,
    )  # fmt: skip
    said, state, last, _, _, counts = egru_csr(
        projection, recurrent.values, recurrent_bias, threshold, carry, output, steps, recurrent.indptr,
        recurrent.indices, recurrent.changes, reset, reset_gate == "before", surrogate_support,
        surrogate_dampening, every_row, threads,
    )  # fmt: skip
    end = last_output(said, steps, output) if lengths is not None or not said.shape[1] else said[:, -1]
    return EGRURun(said, state, last, end, counts)


def egru_csr_gradients(
    output_gradient: Float[Tensor, "batch time unit"],
    projection: Float[Tensor, "batch time three_units"],
    recurrent: CSRBySource,
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
    """Gradients without autograd, and what the backward pass did; arguments as `egru_csr_sequence`.

    Returns
    -------
    gradients
        As `egru_gradients`, that of `recurrent` being (stored,): of its values.
    operations
        `needed` messages, `events` that updated a row, multiply-accumulates of both.
    """
    wanted = output is not None
    carry, output, steps = _checked(
        projection, recurrent, recurrent_bias, threshold, carry, output, lengths, reset, reset_gate,
        surrogate_support, surrogate_dampening,
    )  # fmt: skip
    options = reset, reset_gate == "before", surrogate_support, surrogate_dampening, every_row
    with torch.no_grad():
        said, state, _, gates, cross, _ = egru_csr(
            projection, recurrent.values, recurrent_bias, threshold, carry, output, steps, recurrent.indptr,
            recurrent.indices, recurrent.changes, *options, threads,
        )  # fmt: skip
        axes(state=(state, "batch time unit"), output_gradient=(output_gradient, "batch time unit"))
        same_dtype(FLOATING, projection=projection, output_gradient=output_gradient)
        *gradients, counts = egru_csr_backward(
            output_gradient, None, None, recurrent.values, threshold, carry, output, said, state, gates,
            cross, steps, recurrent.indptr, recurrent.indices, recurrent.changes, *options, True, wanted,
            threads,
        )  # fmt: skip
    return EGRUGradients(*gradients), Operations.of(counts)
