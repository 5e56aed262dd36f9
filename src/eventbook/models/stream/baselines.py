r"""Two other ways to read a point cloud, at the same size: a set of points, and a sequence of patches.

    PointNet     v_i = mlp(x_i),   scores = head(max_i v_i)                    no neighbours, no order
    PointMamba   centres by farthest-point sampling, the k points nearest to each as a patch;
                 token = mini-PointNet(patch) + mlp(centre), centres sorted along x, then y, then z, end to
                 end; Mamba blocks with learned steps, mean, head

| symbol | meaning | shape | name |
|---|---|---|---|
| x | points | (batch, point, 3) | `points` |
| - | centres of patches | (batch, patch) int64 | `farthest_points` |
| k | points of a patch | number | `neighbours` |

Both are of the structure of their papers and of our size, not their released networks: PointMamba's trunk has
twelve blocks of width 384. Convolution and inner width are those of the configuration; Mamba's are
`conv_width=4` and `expand=2`.

Sources: Qi et al. 2017 (PointNet); Liang et al., arXiv:2402.10739 (PointMamba, its axis-sorted first
version).
"""

from dataclasses import replace
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from eventbook.kernels.encoders.arguments import whole
from eventbook.models.initialization import dense
from eventbook.models.stream.clouds import PointClassifier, clouds_of
from eventbook.models.stream.events import StreamConfig
from eventbook.models.stream.sorting import check_points, sort_along_axes


class PointNet(PointClassifier):
    """One network for every point, the maximum over points, a head; see the module."""

    def __init__(self, n_classes: int, width: int, *, generator: Generator | None = None) -> None:
        super().__init__()
        for name, size, least in (("n_classes", n_classes, 1), ("width", width, 2)):
            whole(size, name, least)
        sizes = (3, width // 2, width, 2 * width)
        self.each = _perceptron(sizes, generator)
        self.head = nn.Sequential(
            nn.LayerNorm(2 * width),
            dense(2 * width, width, generator),
            nn.GELU(),
            dense(width, n_classes, generator),
        )

    def forward(self, points: Float[Tensor, "batch point 3"]) -> Float[Tensor, "batch n_classes"]:
        """Scores of each cloud; errors are those of `clouds_of`."""
        points = clouds_of(points, next(self.parameters()))
        return self.head(self.each(points).amax(1))


class PointMamba(PointClassifier):
    """Patches, sorted along three axes end to end, through Mamba blocks; see the module.

    Parameters
    ----------
    config
        Blocks and sizes; the step is "learned" and no gap is used, whatever it says.
    patches, neighbours
        Centres of a cloud, and points of a patch.
    """

    def __init__(
        self,
        config: StreamConfig,
        *,
        patches: int = 64,
        neighbours: int = 32,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("patches", patches), ("neighbours", neighbours)):
            whole(size, name, 1)
        config = replace(config, step="learned")
        self.config = config
        self.patches, self.neighbours = patches, neighbours
        width = config.d_model
        self.near = _perceptron((3, width, width), generator)
        self.far = _perceptron((2 * width, width, width), generator)
        self.place = _perceptron((3, width, width), generator)
        self.blocks = config.build_blocks(generator)
        self.norm = nn.LayerNorm(width)
        self.readout = dense(width, config.n_classes, generator)

    def forward(self, points: Float[Tensor, "batch point 3"]) -> Float[Tensor, "batch n_classes"]:
        """Scores of each cloud.

        Raises
        ------
        ValueError
            As `clouds_of`, and if a cloud has fewer points than a patch, or than there are patches.
        """
        points = clouds_of(points, self.readout.weight)
        count = points.shape[1]
        if count < max(self.patches, self.neighbours):
            raise ValueError(
                f"points must be at least {max(self.patches, self.neighbours)} a cloud, got {count}"
            )
        rows = torch.arange(len(points))[:, None]
        centres = points[rows, farthest_points(points, self.patches)]
        # not by matrix products, which lose the near distances to rounding far from the origin
        distance = torch.cdist(centres, points, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distance.topk(self.neighbours, largest=False).indices
        patch = points[rows[..., None], nearest] - centres[:, :, None]
        each = self.near(patch)
        together = each.amax(2, keepdim=True).expand_as(each)
        token = self.far(torch.cat([each, together], 3)).amax(2) + self.place(centres)
        order, gap = sort_along_axes(centres)
        v = token[rows[..., None], order].flatten(1, 2)
        for block in self.blocks:
            v, _ = block(v, gap.flatten(1, 2))
        return self.readout(self.norm(v.mean(1)))


def farthest_points(points: Float[Tensor, "batch point 3"], count: int) -> Int[Tensor, "batch count"]:
    """Indices of points that are far from each other: from the first, always the farthest from all chosen.

    Raises
    ------
    ValueError
        If a coordinate is not finite (names the first), or count is not in 1..point.
    """
    sizes = check_points(points)
    if not 1 <= whole(count, "count") <= sizes["point"]:
        raise ValueError(f"count must be in 1..{sizes['point']} (points of a cloud), got {count}")
    chosen = [torch.zeros(len(points), dtype=torch.int64)]
    rows = torch.arange(len(points))
    distance = torch.full(points.shape[:2], torch.inf, dtype=points.dtype)
    for _ in range(count - 1):
        last = points[rows, chosen[-1]][:, None]
        distance = torch.minimum(distance, (points - last).square().sum(2))
        chosen.append(distance.argmax(1))
    return torch.stack(chosen, 1)


def _perceptron(sizes: tuple[int, ...], generator: Generator | None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for d_in, d_out in pairwise(sizes):
        layers += [dense(d_in, d_out, generator), nn.GELU()]
    return nn.Sequential(*layers[:-1])
