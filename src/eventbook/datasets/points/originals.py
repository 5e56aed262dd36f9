"""ModelNet40 and ScanObjectNN, from the HDF5 files that everybody uses, which a user supplies.

Folders are looked for below the directory in ``EVENTBOOK_DATA``, then below ``data/originals``:

=================  =======================================================================================
``modelnet40``     ``modelnet40_ply_hdf5_2048/ply_data_train*.h5``, ``ply_data_test*.h5``, ``shape_names.txt``
``scanobjectnn``   ``h5_files/`` or ``ScanObjectNN/`` or ``ScanObjectNN/h5_files/``, and in it by variant
``OBJ_BG``         ``main_split/{training,test}_objectdataset.h5``
``OBJ_ONLY``       ``main_split_nobg/{training,test}_objectdataset.h5``
``PB_T50_RS``      ``main_split/{training,test}_objectdataset_augmentedrot_scale75.h5``
=================  =======================================================================================

A file holds ``data`` (N, 2048, 3) and ``label`` (N,) or (N, 1). Neither set is vendored or fetched, and
neither is in the manifest, so that nothing vouches for the files of a user: the source says so.

Clouds are brought into the unit box here, as all of ours are; PointMamba scales by the farthest point
instead. Neither set has a validation split.

Sources: Wu et al. 2015 (ModelNet40; the sampled points are those of PointNet, Qi et al. 2017); Uy et al. 2019
(ScanObjectNN).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventbook.datasets.points.point_clouds import PointClouds, to_unit_box
from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.extras import extra_module
from eventbook.datasets.storage.folders import Place, find_folder
from eventbook.datasets.storage.store import Source

MODELNET40_FOLDERS = ("modelnet40_ply_hdf5_2048", "ModelNet40/modelnet40_ply_hdf5_2048", "ModelNet40")
SCANOBJECTNN_FOLDERS = ("ScanObjectNN/h5_files", "ScanObjectNN", "h5_files")
SCANOBJECTNN_FILES = {
    "OBJ_BG": "main_split/{}_objectdataset.h5",
    "OBJ_ONLY": "main_split_nobg/{}_objectdataset.h5",
    "PB_T50_RS": "main_split/{}_objectdataset_augmentedrot_scale75.h5",
}
SCANOBJECTNN_CLASSES = (
    "bag",
    "bin",
    "box",
    "cabinet",
    "chair",
    "desk",
    "display",
    "door",
    "shelf",
    "table",
    "bed",
    "pillow",
    "sink",
    "sofa",
    "toilet",
)

Variant = Literal["OBJ_BG", "OBJ_ONLY", "PB_T50_RS"]


def load_point_clouds(
    name: Literal["modelnet40", "scanobjectnn"],
    split: Literal["train", "test"],
    *,
    points: int | None = None,
    variant: Variant | None = None,
    seed: int = 0,
) -> PointClouds:
    """Load the point clouds of an original from a user's HDF5 files.

    Parameters
    ----------
    name : "modelnet40" or "scanobjectnn"
    split : "train" or "test"
    points : int, optional
        So many points of each cloud, drawn at random without replacement; all 2,048 by default.
    variant : "OBJ_BG", "OBJ_ONLY" or "PB_T50_RS", optional
        Of ScanObjectNN: with background, without, or the hardest, moved, rotated and scaled; "PB_T50_RS" by
        default. ModelNet40 has none.
    seed : int
        Of the draw of points.

    Returns
    -------
    PointClouds
        Without families, which neither set names.

    Raises
    ------
    DataError
        If an argument makes no sense, the files are missing or not as described, or h5py is not installed.
    """
    if name not in ("modelnet40", "scanobjectnn"):
        raise DataError(f"name: expected 'modelnet40' or 'scanobjectnn', got {name!r}")
    if split not in ("train", "test"):
        raise DataError(f"split: {name} has 'train' and 'test' and no other, got {split!r}")
    if name == "modelnet40":
        if variant is not None:
            raise DataError(f"variant: modelnet40 has none, got {variant!r}")
        place = find_folder("ModelNet40", MODELNET40_FOLDERS, f"ply_data_{split}*.h5")
        paths = sorted(place.folder.glob(f"ply_data_{split}*.h5"))
        classes = _modelnet40_classes(place)
        title = "ModelNet40"
    else:
        variant = variant or "PB_T50_RS"
        if variant not in SCANOBJECTNN_FILES:
            raise DataError(f"variant: expected one of {', '.join(SCANOBJECTNN_FILES)}, got {variant!r}")
        file = SCANOBJECTNN_FILES[variant].format("training" if split == "train" else "test")
        place = find_folder("ScanObjectNN", SCANOBJECTNN_FOLDERS, file)
        paths = [place.folder / file]
        classes = SCANOBJECTNN_CLASSES
        title = f"ScanObjectNN, {variant}"
    clouds, labels = _read(paths)
    if labels.size and labels.max() >= len(classes):
        raise DataError(f"{paths[0]}: expected labels below {len(classes)}, got {labels.max()}")
    source = Source(name, title, place.origin, place.shown, checked=False)
    return PointClouds(to_unit_box(_drawn(clouds, points, seed)), labels, None, classes, source)


def _modelnet40_classes(place: Place) -> tuple[str, ...]:
    path = place.folder / "shape_names.txt"
    try:
        names = tuple(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if len(names) != 40:
        raise DataError(f"{path}: expected the names of 40 classes, got {len(names)}")
    return names


def _read(paths: Sequence[Path]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points (cloud, point, 3) and labels (cloud,) of files, one after the other."""
    h5py = extra_module("h5py", "originals")
    clouds: list[NDArray[Any]] = []
    labels: list[NDArray[np.int64]] = []
    for path in paths:
        try:
            with h5py.File(path, "r") as file:
                data, label = np.asarray(file["data"][()], np.float32), np.asarray(file["label"][()])
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"{path}: expected an HDF5 file with data and label: {error}") from error
        if data.ndim != 3 or data.shape[-1] != 3 or label.size != len(data) or label.dtype.kind not in "iu":
            raise DataError(
                f"{path}: expected data (N, point, 3) and N whole labels, got {data.shape} and {label.shape} "
                f"of {label.dtype}"
            )
        if not np.isfinite(data).all():
            raise DataError(f"{path}: expected finite points, got others")
        if clouds and data.shape[1] != clouds[0].shape[1]:
            raise DataError(f"{path}: expected {clouds[0].shape[1]} points a cloud, got {data.shape[1]}")
        clouds.append(data)
        labels.append(label.reshape(-1).astype(np.int64))
    return np.concatenate(clouds), np.concatenate(labels)


def _drawn(clouds: NDArray[np.float32], points: int | None, seed: int) -> NDArray[np.float32]:
    """Some points of each cloud; the order of those kept stays."""
    if points is None:
        return clouds
    if not 1 <= points <= clouds.shape[1]:
        raise DataError(f"points: expected 1..{clouds.shape[1]}, got {points}")
    random = np.random.default_rng(seed)
    kept = np.empty((len(clouds), points, 3), np.float32)
    for row, cloud in zip(kept, clouds, strict=True):
        row[:] = cloud[np.sort(random.choice(len(cloud), points, replace=False))]
    return kept
