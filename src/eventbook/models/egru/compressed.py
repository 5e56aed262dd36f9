r"""A layer whose pruned weights are gone: kernels compressed by source, so that both kinds of zeros are free.

    `compression.compress`       an EGRU of such layers, the same function; called like any other

    step, by events    one row of stored weights per unit that spoke, instead of 3 H products
    gradient           at stored weights only: whatever the optimiser does, pruned ones stay pruned

| symbol | meaning | shape | name |
|---|---|---|---|
| W, R | stored weights, source by source | (stored,) each | `kernel_values`, `recurrent_kernel_values` |
| - | targets of each, ascending within a source | (stored,), int32 | `..._indices` |
| - | first stored weight of each source, and their number at the end | (source + 1,), int64 | `..._indptr` |

It is trained like any other, too, if an optimiser knows that the two vectors of stored weights are entries of
matrices: `matrix_entries` names them, and `eventbook.models.decay.matrices_decay` lets them decay.

`cell.kernel` and `cell.recurrent_kernel` are still there as dense matrices, made anew from the stored weights
when they are read: the dense path, whose gradients reach the stored weights too, and a dense input need them.

A state may have been made with other masks: the layer then stores as many weights as the state, where it has
them. An optimiser that knows the vectors from before has to be made anew, for they have another length.

Source: derived; `sparse_language_models`, event kernel with sparse rows.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from eventbook.kernels.events import CSRBySource
from eventbook.kernels.events.csr_matrix import prove
from eventbook.kernels.machinery.tensors import FLOATING
from eventbook.models.egru.cell import EGRUCell

KERNELS = ("kernel", "recurrent_kernel")
PARTS = ("indptr", "indices", "values")


class CompressedCell(EGRUCell):
    """The cell of a pruned network, made by `compressed_cell`; one step of it reads dense matrices.

    Parameters
    ----------
    cell
        What it is made from; its biases and thresholds are taken over as they are.
    masks
        (source, 3 H) booleans for "kernel" and "recurrent_kernel": which weights are stored.

    Attributes
    ----------
    matrix_entries
        Parameters that are vectors here and entries of matrices in the model.
    """

    matrix_entries: ClassVar[tuple[str, ...]] = tuple(f"{name}_values" for name in KERNELS)

    def __init__(self, cell: EGRUCell, masks: Mapping[str, Bool[Tensor, "source three_units"]]) -> None:
        nn.Module.__init__(self)
        self.input_size, self.hidden_size, self.dynamics = cell.input_size, cell.hidden_size, cell.dynamics
        self.bias, self.recurrent_bias, self.threshold = cell.bias, cell.recurrent_bias, cell.threshold
        self._known: dict[str, CSRBySource] = {}
        for name in KERNELS:
            dense, mask = getattr(cell, name), masks[name].cpu()
            matrix = CSRBySource.from_dense(mask.float(), mask)  # its values are of any dtype, unlike those
            self.register_buffer(f"{name}_indptr", matrix.indptr.to(dense.device))
            self.register_buffer(f"{name}_indices", matrix.indices.to(dense.device))
            values = dense.detach()[masks[name].to(dense.device)]
            values = nn.Parameter(values, requires_grad=dense.requires_grad)
            self.register_parameter(f"{name}_values", values)
            if dense.is_cpu and dense.dtype in FLOATING:
                self.rows(name)
        self.train(cell.training)

    @property
    def kernel(self) -> Float[Tensor, "source three_units"]:  # type: ignore[override]
        """W, pruned weights 0; differentiable."""
        return self._dense("kernel")

    @property
    def recurrent_kernel(self) -> Float[Tensor, "unit three_units"]:  # type: ignore[override]
        """R, pruned weights 0; differentiable."""
        return self._dense("recurrent_kernel")

    @property
    def like(self) -> Tensor:
        """A tensor of the dtype and device of the weights."""
        return self._parts("recurrent_kernel")[2]

    def rows(self, name: str = "recurrent_kernel", drop_connect: float = 0.0) -> CSRBySource:
        """A kernel as kernels of events read it, some of its stored weights left out and the others larger.

        Raises
        ------
        ValueError
            If its indices were spoilt, or are not on the CPU.
        TypeError
            If its values are neither float32 nor float64.
        """
        indptr, indices, values = self._parts(name)
        known = self._known.get(name)
        if known is None or known.indptr is not indptr or known.indices is not indices:
            known = CSRBySource(indptr, indices, values.detach(), 3 * self.hidden_size)
            self._known[name] = known
        return known.with_values(functional.dropout(values, drop_connect, training=drop_connect > 0))

    def judge(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Before a state is loaded: ValueError unless kernels could read rows by it."""
        super().judge(state_dict, prefix)
        for name in KERNELS:
            indptr, indices, values = (
                _given(state_dict, f"{prefix}{name}_{part}", own)
                for part, own in zip(PARTS, self._parts(name), strict=True)
            )
            own = self._parts(name)[0]
            if indptr.shape != own.shape:
                raise ValueError(
                    f"{prefix}{name}_indptr must be {tuple(own.shape)} like the sources, "
                    f"got {tuple(indptr.shape)}"
                )
            if indices.ndim != 1:
                raise ValueError(f"{prefix}{name}_indices must be (stored,), got {tuple(indices.shape)}")
            if values.shape != indices.shape:
                raise ValueError(
                    f"{prefix}{name}_values must be {tuple(indices.shape)} like the indices of the stored "
                    f"weights, got {tuple(values.shape)}"
                )
            if indptr.is_floating_point() or indices.is_floating_point():
                raise ValueError(f"{prefix}{name}_indptr and indices must be integers, got floats")
            try:
                prove(indptr.cpu(), indices.cpu(), 3 * self.hidden_size)
            except ValueError as complaint:
                raise ValueError(f"{prefix}{name}_{complaint}") from None

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        self.judge(state_dict, prefix)
        for name in KERNELS:
            _, indices, values = self._parts(name)
            stored = len(_given(state_dict, f"{prefix}{name}_indices", indices))
            if stored != len(indices):
                setattr(self, f"{name}_indices", indices.new_empty(stored))
                _resize(values, stored)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def density(self, name: str = "recurrent_kernel") -> float:
        """Stored weights of a kernel as a share of all."""
        indptr, indices, _ = self._parts(name)
        return len(indices) / ((len(indptr) - 1) * 3 * self.hidden_size)

    def _parts(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        indptr, indices, values = (getattr(self, f"{name}_{part}") for part in PARTS)
        return indptr, indices, values

    def _dense(self, name: str) -> Tensor:
        indptr, indices, values = self._parts(name)
        if values.is_cpu and values.dtype in FLOATING:
            return self.rows(name).to_dense()
        if values.is_cpu and not torch.compiler.is_compiling():  # no kernel that would do it
            prove(indptr, indices, 3 * self.hidden_size)
        sources = len(indptr) - 1
        row = torch.repeat_interleave(torch.arange(sources, device=values.device), indptr.diff())
        dense = values.new_zeros(sources, 3 * self.hidden_size)
        return dense.index_put((row, indices.long()), values)

    def extra_repr(self) -> str:
        densities = ", ".join(f"{name} density={self.density(name):.3g}" for name in KERNELS)
        return f"{super().extra_repr()}, {densities}"


def _given(state_dict: Mapping[str, Any], key: str, own: Tensor) -> Tensor:
    """What a state has of a tensor, or that tensor if it has none; ValueError if it is something else."""
    found = state_dict.get(key, own)
    if not isinstance(found, Tensor):
        raise ValueError(f"{key} must be a tensor, got {type(found).__name__}")
    return found


def _resize(parameter: Tensor, length: int) -> None:
    """Another length for a parameter, which stays the same object; its gradient is forgotten.

    Graphs of earlier steps keep alive what gathers the gradient, with the old length. Torch renews it on a
    change of dtype only, hence the detour.
    """
    data = parameter.detach()
    parameter.grad = None
    parameter.data = data.new_empty(0, dtype=torch.float16 if data.dtype != torch.float16 else torch.float32)
    parameter.data = data.new_empty(length)


def compressed_cell(
    cell: EGRUCell, masks: Mapping[str, Bool[Tensor, "source three_units"]] | None = None
) -> CompressedCell:
    """A cell that stores what masks keep, by default what is not 0; shares biases and thresholds.

    Parameters
    ----------
    cell
        Pruned or not.
    masks
        Of "kernel" and "recurrent_kernel", each (source, 3 H); a kernel without one stores what is not 0.

    Raises
    ------
    TypeError
        If it is no plain cell, or a mask is not boolean.
    ValueError
        If a mask has another name or shape.
    """
    if type(cell) is not EGRUCell:
        raise TypeError(f"cell must be a plain EGRUCell with dense parameters, got {type(cell).__name__}")
    kept = {}
    for name in masks or {}:
        if name not in KERNELS:
            raise ValueError(f"masks must be of {' and '.join(KERNELS)}, got {name!r}")
    for name in KERNELS:
        dense = getattr(cell, name).detach()
        mask = (masks or {}).get(name, dense != 0)
        if mask.dtype != torch.bool:
            raise TypeError(f"masks must be bool, got {str(mask.dtype).removeprefix('torch.')} for {name!r}")
        if mask.shape != dense.shape:
            raise ValueError(
                f"masks must be {tuple(dense.shape)} for {name!r}, (source, 3 units), got {tuple(mask.shape)}"
            )
        kept[name] = mask
    return CompressedCell(cell, kept)
