"""Clouds: chosen by range and by number, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eventbook.datasets import DataError, PointClouds, Source
from eventbook.datasets.points.point_clouds import to_unit_box

SOURCE = Source("none", "None", "computed", "a test")


def make(**changes) -> PointClouds:
    random = np.random.default_rng(0)
    given = {
        "points": random.uniform(-1, 1, (4, 5, 3)).astype(np.float32),
        "labels": np.array([0, 1, 1, 2]),
        "families": np.array(["a", "b", "b", "c"]),
        "classes": ("x", "y", "z"),
        "source": SOURCE,
    }
    return PointClouds(**(given | changes))


def test_ranges_and_numbers():
    clouds = make()
    assert len(clouds) == 4
    part, taken = clouds[1:3], clouds.take([3, -3, 3])
    assert part.families.tolist() == ["b", "b"]
    assert np.shares_memory(part.points, clouds.points)
    assert taken.labels.tolist() == [2, 1, 2]
    np.testing.assert_array_equal(taken.points, clouds.points[[3, 1, 3]])
    assert len(clouds.take([])) == 0
    assert make(families=None).take([0]).families is None
    assert make(families=None)[:2].families is None


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"points": np.zeros((4, 5, 2), np.float32)}, "points: expected \\(cloud, point, 3\\), got shape"),
        ({"labels": np.array([0, 1, 1])}, "labels: expected one for each of 4 clouds, got \\(3,\\)"),
        ({"families": np.array(["a"])}, "families: expected one for each of 4 clouds"),
        ({"labels": np.array([0, 1, 3, 2])}, "labels: expected 0..2, got 3 for cloud 2"),
        ({"labels": np.array([0, 1, 1, -1])}, "labels: expected 0..2, got -1 for cloud 3"),
    ],
)
def test_what_does_not_fit_is_named(changes, said):
    with pytest.raises(DataError, match=said) as error:
        make(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.1])
def test_points_outside_the_box(value):
    points = make().points.copy()
    points[2, 1, 1] = value
    with pytest.raises(DataError, match=r"points: expected finite ones in -1..1, got others in cloud 2"):
        make(points=points)


def test_wrong_numbers():
    with pytest.raises(IndexError, match="expected numbers of 4 clouds"):
        make().take([4])
    with pytest.raises(TypeError, match="expected a list of whole numbers"):
        make().take([0.5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="expected a slice, got 0"):
        make()[0]  # type: ignore[index]


@given(arrays(np.float32, (3, 6, 3), elements=st.floats(-100, 100, width=32)))
def test_the_unit_box(points):
    boxed = to_unit_box(points.astype(float))
    sides = boxed.max(1) - boxed.min(1)
    flat = (points.max(1) == points.min(1)).all(-1)
    assert np.abs(boxed).max() <= 1 + 1e-5
    np.testing.assert_allclose(sides.max(-1)[~flat], 2, atol=1e-5)
    assert not boxed[flat].any()
    np.testing.assert_allclose(boxed.max(1), -boxed.min(1), atol=1e-5)
