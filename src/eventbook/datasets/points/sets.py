"""One door to all sets of point clouds, so that a notebook needs a single parameter to run on another.

Source: derived.
"""

from typing import Any

from eventbook.datasets.options import call_with
from eventbook.datasets.points.cad_parts import load_cad_parts
from eventbook.datasets.points.originals import load_point_clouds
from eventbook.datasets.points.point_clouds import PointClouds
from eventbook.datasets.storage.errors import DataError

POINT_SETS = ("cad_parts", "modelnet40", "scanobjectnn")


def load_points(name: str, split: str, **options: Any) -> PointClouds:
    """Load a set of point clouds by its name.

    Parameters
    ----------
    name : str
        One of `POINT_SETS`: ``"cad_parts"``, which is here, or an original that a user supplies.
    split : str
        As the set has them.
    **options
        Of `load_cad_parts` or of `load_point_clouds`.

    Raises
    ------
    DataError
        If there is no such set, it has no such split or option (lists those it has), or it cannot be read.

    Examples
    --------
    >>> len(load_points("cad_parts", "train", by="random"))
    1199
    """
    if name == "cad_parts":
        return call_with(load_cad_parts, name, (split,), options)
    if name in POINT_SETS:
        return call_with(load_point_clouds, name, (name, split), options)
    raise DataError(f"name: expected one of {', '.join(POINT_SETS)}; got {name!r}")
