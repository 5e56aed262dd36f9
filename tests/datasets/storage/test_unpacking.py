"""Unpacked MNIST: where torchvision looks for it, and, where torchvision is installed, read by it."""

import shutil

import numpy as np
import pytest

from eventbook.datasets import DataError, load_mnist, unpack
from eventbook.datasets.storage.manifest import checkout, read_manifest

NAMES = [f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the vendored MNIST, so that the repository is not written to."""
    data = checkout() / "data"
    (tmp_path / "data").mkdir()
    shutil.copy(data / "manifest.yml", tmp_path / "data")
    shutil.copytree(data / "mnist", tmp_path / "data" / "mnist", ignore=shutil.ignore_patterns("*-ubyte"))
    monkeypatch.setenv("EVENTBOOK_ROOT", str(tmp_path))
    return tmp_path / "data" / "mnist"


def test_unpacked_files_lie_beside_the_packed_ones(copy):
    raw = copy / "MNIST" / "raw"
    assert unpack("mnist") == [raw / name for name in NAMES]
    assert sorted(path.name for path in raw.iterdir()) == sorted([*NAMES, *(f"{name}.gz" for name in NAMES)])
    sizes = [file.raw_bytes for file in read_manifest()["mnist"].files]
    assert [(raw / name).stat().st_size for name in NAMES] == sizes
    for name in NAMES:  # and they serve instead of the packed ones
        (raw / f"{name}.gz").unlink()
    assert load_mnist("test").labels[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.parametrize("split", ["train", "test"])
def test_torchvision_reads_the_same(copy, split):
    try:
        from torchvision import datasets as torchvision_datasets
    except (
        ImportError,
        RuntimeError,
    ) as error:  # RuntimeError: built for another torch than the installed one
        pytest.skip(f"torchvision cannot be imported: {error}")
    unpack("mnist")
    theirs = torchvision_datasets.MNIST(copy, train=split == "train", download=False)
    ours = load_mnist(split)
    np.testing.assert_array_equal(theirs.data.numpy(), ours.images)
    np.testing.assert_array_equal(theirs.targets.numpy(), ours.labels)


def test_nothing_to_unpack():
    with pytest.raises(DataError, match=r"spoken_digits: has no \.gz file to unpack"):
        unpack("spoken_digits")
