r"""Real inputs for the tasks: centred, of few features, and of the variance of U(-1/2, 1/2).

    raw       x = c (row - mean),               c such that tr S / f = 1/12
    whitened  x = S^(-1/2) (row - mean) / 12^(1/2),   S = 1/12 I

| symbol | meaning | shape | name |
|---|---|---|---|
| - | measurements, one a row | (row, features) | `rows` |
| S | covariance of the inputs | (features, features) | - |

With the same tr S the zero predictor has the same loss, f/24, whatever the data.

Source: derived.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.machinery.tensors import FLOATING, axes, same_dtype

VARIANCE = 1 / 12  # of U(-1/2, 1/2)


def principal_components(rows: Float[Tensor, "row features"], count: int) -> Float[Tensor, "row component"]:
    """The first components of centred rows, largest variance first, the largest loading of each positive.

    Raises
    ------
    ValueError
        If there are fewer rows or features than components, or one is not finite.
    """
    x = _centred(rows)
    if whole(count, "count", 1) > min(x.shape):
        raise ValueError(f"count must be at most {min(x.shape)}, got {count}")
    variances, basis = torch.linalg.eigh(x.mT @ x / len(x))
    basis = basis[:, variances.argsort(descending=True)[:count]]
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    return (x @ (basis * largest.sign())).to(rows.dtype)


def raw(rows: Float[Tensor, "row features"]) -> Float[Tensor, "row features"]:
    """Centred and scaled by one number; errors as `principal_components`."""
    x = _centred(rows)
    spread = x.square().mean()
    if not spread > 0:
        raise ValueError("rows must differ, got equal ones")
    return (x * (VARIANCE / spread).sqrt()).to(rows.dtype)


def whitened(rows: Float[Tensor, "row features"]) -> Float[Tensor, "row features"]:
    """Centred, with uncorrelated features of equal variance; errors as `principal_components`.

    Raises
    ------
    ValueError
        If a direction has no variance, too.
    """
    x = _centred(rows)
    variances, basis = torch.linalg.eigh(x.mT @ x / len(x))
    if not variances[0] > 1e-10 * variances[-1]:
        raise ValueError(f"rows must vary in every direction, got a variance of {float(variances[0]):.2g}")
    return (x @ (basis * (VARIANCE / variances).sqrt()) @ basis.mT).to(rows.dtype)


def _centred(rows: Tensor) -> Float[Tensor, "row features"]:
    """In double precision, less the mean."""
    axes(rows=(rows, "row features"))
    same_dtype(FLOATING, rows=rows)
    if not len(rows) or not rows.isfinite().all():
        raise ValueError(f"rows must be finite and at least one, got shape {tuple(rows.shape)}")
    x = rows.double()
    return x - x.mean(0)
