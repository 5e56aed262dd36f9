r"""What every classifier of point clouds shares: batches, checks, and groups of parameters.

| symbol | meaning | shape | name |
|---|---|---|---|
| x | points | (batch, point, 3) | `points` |

A batch is clouds of one number of points, stacked: there is no padding.

Source: derived.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from eventbook.models.stream.events import parameter_groups
from eventbook.models.stream.sorting import check_points


class PointBatch(NamedTuple):
    """Clouds of one number of points, (batch, point, 3) float32."""

    points: Float[Tensor, "batch point 3"]

    @property
    def inputs(self) -> tuple[Tensor]:
        """What a classifier of clouds is called with."""
        return (self.points,)


def collate_points(clouds: Sequence[Float[np.ndarray, "point 3"]]) -> PointBatch:
    """Stack clouds to a batch.

    Raises
    ------
    ValueError
        If there are none, or a cloud is not (point, 3) or has another number of points than the first; names
        it.
    """
    if not len(clouds):
        raise ValueError("clouds must be at least one, got none")
    for number, cloud in enumerate(clouds):
        if np.shape(cloud) != (len(clouds[0]), 3):
            raise ValueError(
                f"clouds[{number}] must be (point, 3) = ({len(clouds[0])}, 3), got shape {np.shape(cloud)}"
            )
    return PointBatch(torch.from_numpy(np.stack(clouds).astype(np.float32)))


def clouds_of(points: Float[Tensor, "batch point 3"], like: Tensor) -> Float[Tensor, "batch point 3"]:
    """Points in the precision of some weights.

    Raises
    ------
    ValueError
        If they are not (batch, point, 3) with at least one point, or not finite (names the first).
    TypeError
        If they are no floating-point numbers.
    """
    sizes = check_points(points)
    if sizes["axis"] != 3 or not sizes["point"]:
        raise ValueError(f"points must be (batch, point, 3), at least one a cloud, got {tuple(points.shape)}")
    return points.to(like.dtype)


class PointClassifier(nn.Module):
    """What `eventbook.learning.classification.train` asks of a model, but for the scores."""

    def collate(self, clouds: Sequence[Float[np.ndarray, "point 3"]]) -> PointBatch:
        """Stack clouds, all of one number of points, to a batch."""
        return collate_points(clouds)

    def parameter_groups(self, lr: float, ssm_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for an optimiser: what makes decays and steps, if there is any, is not decayed."""
        return parameter_groups(self, lr, ssm_lr, weight_decay)
