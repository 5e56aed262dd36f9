r"""STREAM over point clouds: each axis is a time of its own.

    clouds sorted along x, y and z (`sorting`), each order a row of the batch
    v_i = mlp(x_i) + e_axis   (+ w log(1 + gap_i / unit) with the gap feature)
    blocks, then scores = V mean over points and axes + b

| symbol | meaning | shape | name |
|---|---|---|---|
| x | points | (batch, point, 3) | `points` |
| e | a vector that tells the orders apart | (axis, d_model) | `axis_vector` |
| gap | distance along the scanned axis, in units | (batch axis, point) | - |

Every point enters with all of its coordinates; the scanned one also drives the decay. The mean runs over
points, so a cloud may have any number of them.

Source: Schoene et al., arXiv:2411.12603.
"""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from eventbook.models.initialization import dense
from eventbook.models.stream.clouds import PointClassifier, clouds_of
from eventbook.models.stream.events import StreamConfig
from eventbook.models.stream.sorting import check_scan_axes, sort_along_axes

HIDDEN = 64  # of the point embedding


class StreamPoints(PointClassifier):
    """See the module.

    Parameters
    ----------
    config
        See `StreamConfig`; `unit` is a distance.
    scan_axes
        Which of the three axes are scanned.
    generator
        Source of the initial weights; torch's own if not given.

    Examples
    --------
    >>> model = StreamPoints(StreamConfig(5, unit=0.01), generator=torch.Generator().manual_seed(0))
    >>> model(torch.rand(2, 100, 3)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        config: StreamConfig,
        *,
        scan_axes: tuple[int, ...] = (0, 1, 2),
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_scan_axes(scan_axes, 3)
        self.config, self.scan_axes = config, tuple(scan_axes)
        width = config.d_model
        self.embed = nn.Sequential(dense(3, HIDDEN, generator), nn.GELU(), dense(HIDDEN, width, generator))
        self.axis_vector = nn.Parameter(0.1 * torch.randn(len(scan_axes), width, generator=generator))
        if config.gap_feature:
            self.gap_weight = nn.Parameter(torch.randn(width, generator=generator) * width**-0.5)
        self.blocks = config.build_blocks(generator)
        self.norm = nn.LayerNorm(width)
        self.readout = dense(width, config.n_classes, generator)

    def forward(self, points: Float[Tensor, "batch point 3"]) -> Float[Tensor, "batch n_classes"]:
        """Scores of each cloud; errors are those of `clouds_of`."""
        points = clouds_of(points, self.axis_vector)
        order, gap = sort_along_axes(points, self.scan_axes)
        batch, axes = order.shape[:2]
        features = self.embed(points)
        v = features[torch.arange(batch)[:, None, None], order] + self.axis_vector[:, None]
        gap = gap.flatten(0, 1) / self.config.unit
        v = v.flatten(0, 1)
        if self.config.gap_feature:
            v = v + torch.log1p(gap)[..., None] * self.gap_weight
        for block in self.blocks:
            v, _ = block(v, gap)
        return self.readout(self.norm(v.mean(1).view(batch, axes, -1).mean(1)))
