"""From a pruned network to one that stores and reads what is left of it.

    compress(model, masks)       an EGRU of `CompressedCell`s: the same function, the same call

Source: `sparse_language_models`, event kernel with sparse rows.
"""

import copy
from collections.abc import Mapping

from jaxtyping import Bool
from torch import Tensor

from eventbook.models.egru.compressed import KERNELS, compressed_cell
from eventbook.models.egru.network import EGRU, cells_of


def compress(model: EGRU, masks: Mapping[str, Bool[Tensor, "..."]] | None = None) -> EGRU:
    """A copy of a pruned network that stores what masks keep and runs on compressed rows.

    Parameters
    ----------
    model
        A network of plain cells, left as it is.
    masks
        By name of the parameter, "cells.0.kernel" and so on, as `eventbook.learning.pruning` makes them;
        those of biases are not looked at. What is not 0 is stored where there is none.

    Raises
    ------
    TypeError
        If it is no EGRU of plain cells, or a mask is not boolean.
    ValueError
        If a name is none of the network's parameters, or a mask has another shape.

    Examples
    --------
    >>> import torch
    >>> model = EGRU(3, 8, generator=torch.Generator().manual_seed(0))
    >>> keep = torch.rand(8, 24, generator=torch.Generator().manual_seed(1)) < 0.1
    >>> small = compress(model, {"cells.0.recurrent_kernel": keep})
    >>> small.cells[0].recurrent_kernel_values.shape[0] == int(keep.sum())
    True
    """
    if not isinstance(model, EGRU):
        raise TypeError(f"model must be an EGRU, got {type(model).__name__}")
    names = dict(model.named_parameters())
    for name in masks or {}:
        if name not in names:
            raise ValueError(f"masks must name parameters of the model, got {name!r}, which is none of them")
    made = copy.deepcopy(model)
    for number, cell in enumerate(cells_of(made)):
        own = {
            name: masks[f"cells.{number}.{name}"]
            for name in KERNELS
            if masks is not None and f"cells.{number}.{name}" in masks
        }
        made.cells[number] = compressed_cell(cell, own)
    return made
