"""Batches of clouds, what no classifier of clouds takes, and groups of parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eventbook.models.stream import StreamConfig, StreamPoints
from eventbook.models.stream.baselines import PointMamba, PointNet
from eventbook.models.stream.clouds import PointClassifier, clouds_of, collate_points

CONFIG = StreamConfig(2, d_model=4, d_state=2, blocks=1)


def clouds(n: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (2, n, 3)))


def test_clouds_are_stacked_in_single_precision():
    given = [np.arange(12.0).reshape(4, 3), np.ones((4, 3), np.int8)]
    batch = PointClassifier().collate(given)
    assert batch.points.dtype == torch.float32
    assert torch.equal(batch.points, torch.from_numpy(np.stack(given)).float())
    assert batch.inputs == (batch.points,)


def test_points_come_in_the_precision_of_the_weights():
    assert clouds_of(clouds(4), torch.ones(1)).dtype == torch.float32
    assert clouds_of(clouds(4).float(), torch.ones(1).double()).dtype == torch.float64


@pytest.mark.parametrize("make", [lambda: StreamPoints(CONFIG), lambda: PointNet(2, 4)])
def test_groups_are_those_that_there_are(make):
    """What makes decays and steps is a group of its own, of networks that have it."""
    made = make()
    *slow, others = made.parameter_groups(lr=0.1, ssm_lr=0.5, weight_decay=0.2)
    assert (others["lr"], others["weight_decay"]) == (0.1, 0.2)
    assert [(group["lr"], group["weight_decay"]) for group in slow] == [(0.5, 0.0)] * hasattr(made, "blocks")
    assert sum(len(group["params"]) for group in (*slow, others)) == len(list(made.parameters()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "clouds must be at least one, got none"),
        ([np.zeros((4, 3)), np.zeros((5, 3))],
         r"clouds\[1\] must be \(point, 3\) = \(4, 3\), got shape \(5, 3\)"),
        ([np.zeros((4, 2))], r"clouds\[0\] must be \(point, 3\) = \(4, 3\), got shape \(4, 2\)"),
        ([np.zeros(3)], r"clouds\[0\] must be \(point, 3\) = \(3, 3\), got shape \(3,\)"),
    ],
)  # fmt: skip
def test_clouds_that_cannot_be_stacked_are_named(given, message):
    for stack in (collate_points, PointClassifier().collate):
        with pytest.raises(ValueError, match=message) as caught:
            stack(given)
        assert "\n" not in str(caught.value)


def with_one(value: float) -> torch.Tensor:
    points = clouds(5)
    points[1, 3, 2] = value
    return points


@pytest.mark.parametrize(
    ("points", "error", "message"),
    [
        (with_one(np.nan), ValueError, r"points must be finite, got nan at \[1, 3, 2\]"),
        (with_one(np.inf), ValueError, r"points must be finite, got inf at \[1, 3, 2\]"),
        (clouds(5)[0], ValueError, r"points must be \(batch, point, axis\), got \(5, 3\)"),
        (clouds(5)[..., :2], ValueError, r"points must be \(batch, point, 3\), .*, got \(2, 5, 2\)"),
        (clouds(0), ValueError, r"points must be .* at least one a cloud, got \(2, 0, 3\)"),
        (clouds(5).long(), TypeError, "points must be float32 or float64, got int64"),
        (clouds(5).numpy(), TypeError, "points must be a tensor, got ndarray"),
    ],
)
def test_bad_points_get_one_clear_line(points, error, message):
    networks = (
        StreamPoints(CONFIG), PointMamba(CONFIG, patches=2, neighbours=2), PointNet(2, 4),
    )  # fmt: skip
    for use in (lambda given: clouds_of(given, torch.ones(1)), *networks):
        with pytest.raises(error, match=message) as caught:
            use(points)
        assert "\n" not in str(caught.value)
