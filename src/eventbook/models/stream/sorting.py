r"""From a set of points to sequences: sorted along each axis, with the distances between neighbours.

    order_a   sorts points by (x_a, then the other axes in turn)
    gap_{a,0} = 0,   gap_{a,i} = x_{a,order(i)} - x_{a,order(i-1)} >= 0

| symbol | meaning | shape | name |
|---|---|---|---|
| x | points | (batch, point, axis) | `points` |
| order | of each axis | (batch, axis, point) int64 | `order` |
| gap | distances along the scanned axis | (batch, axis, point) | `gap` |

The copies of a cloud are rows of a batch of their own, so that no gap leads from the end of one to the start
of the next. Placed end to end, as in one released port, that gap is negative: the decay exceeds one and the
state grows.

Ties are broken by the other axes, in turn. Points that are equal in all of them may be exchanged without a
trace, hence the sequences do not depend on the order in which a cloud lists its points. On a grid, ties are
the rule.

Source: Schoene et al., arXiv:2411.12603; PointMamba (arXiv:2402.10739) for the sorting along axes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.machinery.tensors import FLOATING, axes, same_dtype


class AxisSorted(NamedTuple):
    """Sequences of each axis: order and gap, (batch, axis, point)."""

    order: Int[Tensor, "batch axis point"]
    gap: Float[Tensor, "batch axis point"]


def sort_along_axes(
    points: Float[Tensor, "batch point axis"], scan_axes: tuple[int, ...] = (0, 1, 2)
) -> AxisSorted:
    """Sort each cloud along each of some axes.

    Parameters
    ----------
    points
        (batch, point, axis), finite; float32 or float64.
    scan_axes
        Which axes to sort along.

    Raises
    ------
    ValueError
        If a coordinate is not finite (names the first), an axis does not exist, or there is none.
    TypeError
        If points are no floating-point numbers, or an axis is no whole number.

    Examples
    --------
    >>> cloud = torch.tensor([[[0.5, 0.0], [0.0, 1.0], [0.5, -1.0]]])
    >>> sort_along_axes(cloud, (0,))
    AxisSorted(order=tensor([[[1, 2, 0]]]), gap=tensor([[[0.0000, 0.5000, 0.0000]]]))
    """
    sizes = check_points(points)
    check_scan_axes(scan_axes, sizes["axis"])
    orders = []
    for axis in scan_axes:
        order = torch.arange(sizes["point"]).expand(sizes["batch"], -1)
        # the least important key first; each sort keeps the order of the one before
        for key in [*((axis + k) % sizes["axis"] for k in range(sizes["axis"] - 1, 0, -1)), axis]:
            values = points[..., key].gather(1, order)
            order = order.gather(1, values.argsort(dim=1, stable=True))
        orders.append(order)
    order = torch.stack(orders, 1)
    along = points[..., list(scan_axes)].mT.gather(2, order)
    gap = torch.diff(along, dim=2, prepend=along[..., :1])
    return AxisSorted(order, gap)


def check_points(points: Float[Tensor, "batch point axis"]) -> dict[str, int]:
    """Lengths of the axes; ValueError that names the first coordinate which is not finite."""
    sizes = axes(points=(points, "batch point axis"))
    same_dtype(FLOATING, points=points)
    wrong = ~torch.isfinite(points)
    if wrong.any():
        at = tuple(int(i) for i in wrong.nonzero()[0])
        raise ValueError(f"points must be finite, got {points[at]} at {list(at)}")
    return sizes


def check_scan_axes(scan_axes: tuple[int, ...], count: int) -> None:
    """ValueError if there are none, or one is not in 0..count-1; TypeError if one is no whole number."""
    if not scan_axes or not all(0 <= whole(axis, "scan_axes") < count for axis in scan_axes):
        raise ValueError(f"scan_axes must be some of 0..{count - 1}, got {scan_axes}")
