"""ModelNet40 and ScanObjectNN in their true layouts, written here small."""

import numpy as np
import pytest

from eventbook.datasets import DataError, load_point_clouds, load_points

NAMES = [f"shape{i:02d}" for i in range(40)]


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py", reason="h5py reads the originals")


@pytest.fixture
def root(tmp_path, project, monkeypatch):
    monkeypatch.setenv("EVENTBOOK_DATA", str(tmp_path))
    return tmp_path


def write(h5py, path, clouds, labels, **more) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"] = clouds
        file["label"] = labels
        for name, values in more.items():
            file[name] = values


def some_clouds(n: int, points: int = 64) -> np.ndarray:
    random = np.random.default_rng(n)
    return (random.normal(0, 1, (n, points, 3)) * [3, 2, 1] + [5, 0, 0]).astype(np.float32)


@pytest.fixture
def modelnet40(h5py, root):
    """Two files of training shapes, one of test shapes, as PointNet's archive has them."""
    folder = root / "modelnet40_ply_hdf5_2048"
    labels = np.array([[0], [39], [7]], np.uint8)
    write(h5py, folder / "ply_data_train0.h5", some_clouds(3), labels, normal=some_clouds(3))
    write(h5py, folder / "ply_data_train1.h5", some_clouds(2), labels[1:], normal=some_clouds(2))
    write(h5py, folder / "ply_data_test0.h5", some_clouds(1), labels[2:], normal=some_clouds(1))
    (folder / "shape_names.txt").write_text("\n".join(NAMES) + "\n")
    return folder


def test_modelnet40(modelnet40):
    train, test = (load_point_clouds("modelnet40", split) for split in ("train", "test"))
    assert train.points.shape == (5, 64, 3)
    assert train.labels.tolist() == [0, 39, 7, 39, 7]
    assert test.labels.tolist() == [7]
    assert train.classes[39] == "shape39"
    assert train.families is None
    place = "$EVENTBOOK_DATA/modelnet40_ply_hdf5_2048"
    assert str(train.source) == f"ModelNet40: from the directory named by the user ({place}), not checked"


def test_clouds_are_brought_into_the_unit_box(modelnet40):
    points = load_point_clouds("modelnet40", "train").points
    raw = np.concatenate([some_clouds(3), some_clouds(2)])
    for cloud, original in zip(points, raw, strict=True):
        low, high = original.min(0), original.max(0)
        np.testing.assert_allclose(cloud, (original - (low + high) / 2) / ((high - low).max() / 2), atol=1e-6)


def test_some_points_of_each_cloud(modelnet40):
    whole = load_point_clouds("modelnet40", "train")
    some = load_points("modelnet40", "train", points=16, seed=3)
    assert some.points.shape == (5, 16, 3)
    again, other = (load_point_clouds("modelnet40", "train", points=16, seed=seed) for seed in (3, 4))
    np.testing.assert_array_equal(again.points, some.points)
    assert not np.array_equal(other.points, some.points)
    all_of_them = load_point_clouds("modelnet40", "train", points=64)
    np.testing.assert_array_equal(all_of_them.points, whole.points)
    for points in (0, 65):
        with pytest.raises(DataError, match=f"points: expected 1..64, got {points}"):
            load_point_clouds("modelnet40", "train", points=points)


@pytest.mark.parametrize("folder", ["h5_files", "ScanObjectNN", "ScanObjectNN/h5_files"])
@pytest.mark.parametrize(
    "variant, train, test",
    [
        ("OBJ_BG", "main_split/training_objectdataset.h5", "main_split/test_objectdataset.h5"),
        ("OBJ_ONLY", "main_split_nobg/training_objectdataset.h5", "main_split_nobg/test_objectdataset.h5"),
        (
            "PB_T50_RS",
            "main_split/training_objectdataset_augmentedrot_scale75.h5",
            "main_split/test_objectdataset_augmentedrot_scale75.h5",
        ),
    ],
)
def test_scanobjectnn(h5py, root, folder, variant, train, test):
    for split, file, n in (("train", train, 4), ("test", test, 2)):
        mask = np.zeros((n, 64), np.int32)
        write(h5py, root / folder / file, some_clouds(n), np.arange(n, dtype=np.int64) * 3, mask=mask)
        clouds = load_point_clouds("scanobjectnn", split, variant=variant)
        assert clouds.labels.tolist() == [3 * i for i in range(n)]
        assert (clouds.classes[0], clouds.classes[14]) == ("bag", "toilet")
        assert clouds.source.title == f"ScanObjectNN, {variant}"
        assert not clouds.source.checked


def test_the_hardest_variant_is_the_default(h5py, root):
    path = root / "h5_files" / "main_split" / "test_objectdataset_augmentedrot_scale75.h5"
    write(h5py, path, some_clouds(2), np.array([1, 2]))
    assert len(load_point_clouds("scanobjectnn", "test")) == 2
    with pytest.raises(
        DataError, match=r"expected ScanObjectNN/h5_files/main_split/test_objectdataset.h5 below"
    ):
        load_point_clouds("scanobjectnn", "test", variant="OBJ_BG")


@pytest.mark.parametrize(
    "clouds, labels, said",
    [
        (some_clouds(2)[..., :2], np.array([0, 1]), "expected data \\(N, point, 3\\) and N whole labels"),
        (some_clouds(2), np.array([0]), "and N whole labels, got \\(2, 64, 3\\) and \\(1,\\)"),
        (some_clouds(2), np.array([0.0, 1.0]), "of float64"),
        (some_clouds(2) * np.nan, np.array([0, 1]), "expected finite points"),
        (some_clouds(2), np.array([0, 40]), "expected labels below 40, got 40"),
    ],
)
def test_a_file_of_another_kind_is_named(h5py, modelnet40, clouds, labels, said):
    path = modelnet40 / "ply_data_test0.h5"
    path.unlink()
    write(h5py, path, clouds, labels)
    with pytest.raises(DataError, match=said) as error:
        load_point_clouds("modelnet40", "test")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_of_other_numbers_of_points(h5py, modelnet40):
    write(h5py, modelnet40 / "ply_data_train2.h5", some_clouds(1, 32), np.array([[0]]))
    with pytest.raises(DataError, match=r"ply_data_train2.h5: expected 64 points a cloud, got 32"):
        load_point_clouds("modelnet40", "train")


def test_broken_files(h5py, modelnet40):
    (modelnet40 / "ply_data_test0.h5").write_bytes(b"<html>moved</html>")
    with pytest.raises(DataError, match=r"ply_data_test0.h5: expected an HDF5 file with data and label"):
        load_point_clouds("modelnet40", "test")
    with h5py.File(modelnet40 / "ply_data_test0.h5", "w") as file:
        file["other"] = 1
    with pytest.raises(DataError, match="expected an HDF5 file with data and label"):
        load_point_clouds("modelnet40", "test")
    (modelnet40 / "shape_names.txt").write_text("chair\n")
    with pytest.raises(DataError, match="expected the names of 40 classes, got 1"):
        load_point_clouds("modelnet40", "train")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("shapenet", "train"), "name: expected 'modelnet40' or 'scanobjectnn', got 'shapenet'"),
        (("modelnet40", "valid"), "split: modelnet40 has 'train' and 'test' and no other, got 'valid'"),
        (("modelnet40", "train"), r"ModelNet40: expected modelnet40_ply_hdf5_2048/ply_data_train\*.h5 below"),
    ],
)
def test_bad_arguments_and_missing_files(root, arguments, said):
    with pytest.raises(DataError, match=said):
        load_point_clouds(*arguments)


def test_variants(root):
    with pytest.raises(DataError, match="variant: modelnet40 has none, got 'OBJ_BG'"):
        load_point_clouds("modelnet40", "train", variant="OBJ_BG")
    with pytest.raises(DataError, match="variant: expected one of OBJ_BG, OBJ_ONLY, PB_T50_RS, got 'T25'"):
        load_point_clouds("scanobjectnn", "train", variant="T25")  # type: ignore[arg-type]


def test_without_h5py_the_extra_is_named(root, monkeypatch):
    folder = root / "modelnet40_ply_hdf5_2048"
    folder.mkdir()
    (folder / "ply_data_test0.h5").touch()
    (folder / "shape_names.txt").write_text("\n".join(NAMES))

    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'h5py'", name="h5py")

    monkeypatch.setattr("eventbook.datasets.storage.extras.import_module", missing)
    with pytest.raises(DataError, match=r"holds h5py, found none: pip install 'eventbook\[originals\]'"):
        load_point_clouds("modelnet40", "test")
