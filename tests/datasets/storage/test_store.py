"""The order of places, and the checks: corrupt, missing and truncated files of a user are refused."""

import gzip
import hashlib
import shutil

import pytest

from eventbook.datasets import DataError, load_fashion_mnist, load_mnist, verify
from eventbook.datasets.storage.manifest import checkout, read_manifest
from eventbook.datasets.storage.store import read_dataset

TEST_FILES = ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    """A user's own copy of MNIST's test files, in the upstream layout."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in TEST_FILES:
        shutil.copy(checkout() / "data" / "mnist" / "MNIST" / "raw" / name, folder / name)
    monkeypatch.setenv("EVENTBOOK_DATA", str(tmp_path))
    return folder


def test_the_user_comes_first(user_folder):
    loaded = load_mnist("test")
    assert loaded.source.origin == "user"
    assert str(loaded.source) == (
        "MNIST: from the directory named by the user ($EVENTBOOK_DATA/MNIST/raw), sha256 checked"
    )


def test_unpacked_and_repacked_files_are_as_good(user_folder):
    images, labels = (user_folder / name for name in TEST_FILES)
    images.with_suffix("").write_bytes(gzip.decompress(images.read_bytes()))
    images.unlink()
    repacked = gzip.compress(gzip.decompress(labels.read_bytes()), compresslevel=1)
    assert repacked != labels.read_bytes()
    labels.write_bytes(repacked)
    loaded = load_mnist("test")
    assert loaded.source.origin == "user"
    assert loaded.labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_what_the_user_does_not_hold_is_taken_from_the_project(user_folder):
    assert load_mnist("train").source.origin == "vendored"


def test_one_corrupt_byte_is_found(user_folder):
    images = user_folder / TEST_FILES[0]
    raw = bytearray(gzip.decompress(images.read_bytes()))
    raw[5_000_000] ^= 1
    images.write_bytes(gzip.compress(bytes(raw), compresslevel=1))
    with pytest.raises(DataError) as error:
        load_mnist("test")
    message = str(error.value)
    pinned = {file.path: file for file in read_manifest()["mnist"].files}[f"MNIST/raw/{TEST_FILES[0]}"]
    assert str(images) in message
    assert f"expected sha256 {pinned.raw_sha256}" in message
    assert f"found {hashlib.sha256(raw).hexdigest()}" in message
    assert "not used" in message
    assert "\n" not in message
    states = {row.path: row.state for row in verify(["mnist"])}
    assert states[f"MNIST/raw/{TEST_FILES[0]}"] == "corrupt"
    assert states[f"MNIST/raw/{TEST_FILES[1]}"] == "ok"


def test_a_truncated_archive_is_found(user_folder):
    images = user_folder / TEST_FILES[0]
    images.write_bytes(images.read_bytes()[:-1000])
    with pytest.raises(DataError, match="expected a complete gzip archive") as error:
        load_mnist("test")
    assert str(images) in str(error.value)


@pytest.mark.parametrize("change", ["shorter", "longer"])
def test_a_file_of_another_length_is_found(user_folder, change):
    labels = user_folder / TEST_FILES[1]
    raw = gzip.decompress(labels.read_bytes())
    labels.write_bytes(gzip.compress(raw[:-1] if change == "shorter" else raw + b"\0"))
    with pytest.raises(DataError, match="not used"):
        load_mnist("test")


def test_no_archive_at_all(user_folder):
    (user_folder / TEST_FILES[0]).write_bytes(b"<html>moved</html>")
    with pytest.raises(DataError, match="expected a complete gzip archive"):
        load_mnist("test")


def test_a_part_of_a_set_is_not_completed_from_elsewhere(user_folder):
    (user_folder / TEST_FILES[1]).unlink()
    with pytest.raises(DataError, match=r"only a part of mnist: MNIST/raw/t10k-labels-idx1-ubyte\.gz is"):
        load_mnist("test")


def test_a_wrong_user_directory_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("EVENTBOOK_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"EVENTBOOK_DATA: expected a directory, got '.*nowhere'"):
        load_mnist("test")


def test_a_missing_file_says_how_to_get_it(project):
    with pytest.raises(DataError, match="run `eventbook data get numbers`"):
        read_dataset("numbers", [project.path])
    with pytest.raises(DataError, match="paths: expected files that the manifest lists for numbers, got 'x'"):
        read_dataset("numbers", ["x"])


def test_fashion_mnist_reads_the_same_format_or_says_how_to_get_it(user_folder):
    folder = user_folder.parents[1] / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name in TEST_FILES:  # digits in the place of clothes
        shutil.copy(user_folder / name, folder / name)
    with pytest.raises(DataError, match="expected sha256 5b4141f0"):
        load_fashion_mnist("test")
