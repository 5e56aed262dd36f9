"""Labelled clouds of points in three dimensions, all of the same number of points.

=======  ========================================  ==============================  ============
symbol   meaning                                   shape                           name
=======  ========================================  ==============================  ============
p        coordinates in the unit box, -1..1        (cloud, point, 3) float32       ``points``
y        class, 0..C - 1                           (cloud,) int64                  ``labels``
-        clouds of one family are near-duplicates  (cloud,) str, or None           ``families``
-        name of each class                        C                               ``classes``
=======  ========================================  ==============================  ============

The order of the points of a cloud means nothing.

Source: derived.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.store import Source

ROUNDING = 1e-5  # by which float32 arithmetic may leave the box


@dataclass(frozen=True, eq=False)
class PointClouds:
    """Clouds with their classes, and where they came from.

    Attributes
    ----------
    points : Float32[ndarray, "cloud point 3"]
    labels : Int64[ndarray, "cloud"]
    families : ndarray of str, shape (cloud,), or None
        A split that is to mean something keeps families together; None where the set names none.
    classes : tuple of str
    source : Source

    Raises
    ------
    DataError
        If shapes disagree, a label is no class, or a point is not finite or outside the unit box; names the
        first such cloud.
    """

    points: Float32[np.ndarray, "cloud point 3"]
    labels: Int64[np.ndarray, " cloud"]
    families: NDArray[np.str_] | None
    classes: tuple[str, ...]
    source: Source

    def __post_init__(self) -> None:
        if self.points.ndim != 3 or self.points.shape[-1] != 3:
            raise DataError(f"points: expected (cloud, point, 3), got shape {self.points.shape}")
        for name, column in (("labels", self.labels), ("families", self.families)):
            if column is not None and column.shape != self.points.shape[:1]:
                raise DataError(
                    f"{name}: expected one for each of {len(self.points)} clouds, got {column.shape}"
                )
        wrong = (self.labels < 0) | (self.labels >= len(self.classes))
        if wrong.any():
            at = int(wrong.argmax())
            raise DataError(
                f"labels: expected 0..{len(self.classes) - 1}, got {self.labels[at]} for cloud {at}"
            )
        outside = ~(np.abs(self.points) <= 1 + ROUNDING).all((1, 2))  # also true of NaN
        if outside.any():
            raise DataError(f"points: expected finite ones in -1..1, got others in cloud {outside.argmax()}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: slice) -> "PointClouds":
        """A range of clouds, as views."""
        if not isinstance(chosen, slice):
            raise TypeError(f"index: expected a slice, got {chosen!r}; `take` takes numbers of clouds")
        families = None if self.families is None else self.families[chosen]
        return PointClouds(self.points[chosen], self.labels[chosen], families, self.classes, self.source)

    def take(self, clouds: NDArray[np.integer] | list[int]) -> "PointClouds":
        """The clouds of these numbers, in this order, copied.

        Raises
        ------
        TypeError
            If the numbers are no integers.
        IndexError
            If there is no such cloud.
        """
        at = np.asarray(clouds, dtype=np.int64 if len(clouds) == 0 else None)
        if at.dtype.kind not in "iu" or at.ndim != 1:
            raise TypeError(f"clouds: expected a list of whole numbers, got {at.dtype} of shape {at.shape}")
        if at.size and not (-len(self) <= at.min() and at.max() < len(self)):
            raise IndexError(f"clouds: expected numbers of {len(self)} clouds, got {at.min()}..{at.max()}")
        families = None if self.families is None else self.families[at]
        return PointClouds(self.points[at], self.labels[at], families, self.classes, self.source)


def to_unit_box(points: NDArray[np.floating]) -> Float32[np.ndarray, "cloud point 3"]:
    """Each cloud centred on its box and scaled so that its longest side is -1..1; one place becomes 0."""
    low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)
    half = (high - low).max(-1, keepdims=True) / 2
    return ((points - (low + high) / 2) / np.where(half > 0, half, 1)).astype(np.float32)
