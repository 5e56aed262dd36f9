"""Clouds to sequences: against NumPy's lexsort, whatever the order in which points are listed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.models.stream import sort_along_axes
from eventbook.models.stream.sorting import check_points, check_scan_axes


def cloud(n: int, seed: int = 0, axes: int = 3, levels: int = 0, batch: int = 2) -> torch.Tensor:
    """Points between -1 and 1; on a grid of so many levels if given, so that ties are the rule."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-1, 1, (batch, n, axes))
    return torch.from_numpy(np.round(values * levels) / levels if levels else values)


def by_lexsort(points: np.ndarray, axis: int) -> np.ndarray:
    """Order of one cloud: the last key of `lexsort` counts most."""
    count = points.shape[1]
    return np.lexsort([points[:, (axis + k) % count] for k in reversed(range(count))])


@given(
    n=st.integers(0, 40), axes=st.integers(1, 4), levels=st.integers(0, 3), seed=st.integers(0, 1000),
    data=st.data(),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_order_is_that_of_lexsort_and_gaps_are_differences(n, axes, levels, seed, data):
    scan_axes = tuple(data.draw(st.lists(st.integers(0, axes - 1), min_size=1, max_size=4)))
    points = cloud(n, seed, axes, levels)
    order, gap = sort_along_axes(points, scan_axes)
    assert order.shape == gap.shape == (2, len(scan_axes), n)
    assert order.dtype == torch.int64
    assert gap.dtype == points.dtype
    for b in range(2):
        for a, axis in enumerate(scan_axes):
            expected = by_lexsort(points[b].numpy(), axis)
            assert order[b, a].tolist() == expected.tolist()
            along = points[b, expected, axis].numpy()
            assert gap[b, a].tolist() == np.diff(along, prepend=along[:1]).tolist()
    assert (gap >= 0).all()
    assert (gap[..., :1] == 0).all()


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_sequences_do_not_tell_how_points_were_listed(levels):
    """On a grid of 3^3 places most of the 60 points are tied, and some are equal."""
    points = cloud(60, levels=levels)
    shuffled = points[:, torch.randperm(60, generator=torch.Generator().manual_seed(1))]
    found = []
    for listed in (points, shuffled):
        order, gap = sort_along_axes(listed)
        rows = torch.arange(2)[:, None, None]
        found.append((listed[rows, order], gap))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    if levels:  # negative control: along the axis alone, ties are listed as they came
        orders = [listed[..., 0].argsort(dim=1, stable=True) for listed in (points, shuffled)]
        rows = torch.arange(2)[:, None]
        assert not torch.equal(points[rows, orders[0]], shuffled[rows, orders[1]])


def test_equal_points_keep_their_order_and_zeros_of_either_sign_are_equal():
    points = torch.tensor([[[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0], [-0.0, 0.5]]])
    order, gap = sort_along_axes(points, (0,))
    assert order.tolist() == [[[3, 0, 1, 2]]]
    assert gap.abs().sum() == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_translation_leaves_order_and_gaps(axis):
    """By a whole number, of points that are multiples of 2^-10: no rounding."""
    points = torch.round(cloud(50) * 1024) / 1024
    shift = torch.zeros(3, dtype=points.dtype)
    shift[axis] = 3
    moved, still = sort_along_axes(points + shift), sort_along_axes(points)
    assert torch.equal(moved.order, still.order)
    assert torch.equal(moved.gap, still.gap)
    scaled = sort_along_axes(2 * points)  # negative control
    assert torch.equal(scaled.order, still.order)
    assert torch.equal(scaled.gap, 2 * still.gap)


def test_joints_of_copies_restart():
    """Copies are rows of their own; end to end without a restart, a gap would be negative."""
    points = cloud(30)
    order, gap = sort_along_axes(points)
    along = torch.stack([points[..., a].gather(1, order[:, a]) for a in range(3)], 1).flatten(1)
    assert (torch.diff(along) < 0).any()
    assert (gap.flatten(1) >= 0).all()


def test_gaps_are_differentiable():
    points = cloud(6, batch=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sort_along_axes(x).gap, points)


def with_one(value: float) -> torch.Tensor:
    points = cloud(5)
    points[1, 3, 2] = value
    return points


@pytest.mark.parametrize(
    ("points", "error", "message"),
    [
        (with_one(np.nan), ValueError, r"points must be finite, got nan at \[1, 3, 2\]"),
        (with_one(-np.inf), ValueError, r"points must be finite, got -inf at \[1, 3, 2\]"),
        (cloud(5)[0], ValueError, r"points must be \(batch, point, axis\), got \(5, 3\)"),
        (cloud(5).long(), TypeError, "points must be float32 or float64, got int64"),
        (cloud(5).half(), TypeError, "points must be float32 or float64, got float16"),
        (cloud(5).numpy(), (TypeError, ValueError), "points must be a tensor, got ndarray"),
    ],
)
def test_bad_points_get_one_clear_line(points, error, message):
    for check in (sort_along_axes, check_points):
        with pytest.raises(error, match=message) as caught:
            check(points)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scan_axes", "error", "message"),
    [
        ((), ValueError, r"scan_axes must be some of 0..2, got \(\)"),
        ((0, 3), ValueError, r"scan_axes must be some of 0..2, got \(0, 3\)"),
        ((-1,), ValueError, r"scan_axes must be some of 0..2, got \(-1,\)"),
        ((0.5,), TypeError, "scan_axes must be a whole number, got 0.5"),
    ],
)
def test_bad_axes_get_one_clear_line(scan_axes, error, message):
    with pytest.raises(error, match=message):
        sort_along_axes(cloud(5), scan_axes)
    with pytest.raises(error, match=message):
        check_scan_axes(scan_axes, 3)
