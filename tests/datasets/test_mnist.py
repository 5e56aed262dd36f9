"""MNIST as published: known shapes, known class counts, the validation split of Deep Rewiring."""

import numpy as np
import pytest

from eventbook.datasets import DataError, LabelledImages, load_mnist, tensorflow_validation_split
from eventbook.datasets.storage.manifest import checkout

# images per class 0..9, as everybody who counted the published files finds them
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.fixture(scope="module")
def training() -> LabelledImages:
    return load_mnist("train")


@pytest.fixture(scope="module")
def test_set() -> LabelledImages:
    return load_mnist("test")


def test_shapes_types_and_counts(training, test_set):
    assert training.images.shape == (60_000, 28, 28)
    assert test_set.images.shape == (10_000, 28, 28)
    assert training.images.dtype == np.uint8
    assert training.labels.dtype == np.int64
    assert np.bincount(training.labels).tolist() == TRAIN_COUNTS
    assert np.bincount(test_set.labels).tolist() == TEST_COUNTS


def test_pixel_statistics_are_the_well_known_ones(training):
    # the mean and standard deviation that every tutorial normalises with
    assert round(float(training.images.mean() / 255), 4) == 0.1307
    assert round(float(training.images.std() / 255), 4) == 0.3081


def test_arrays_may_be_written_to(test_set):
    assert test_set.images.flags.writeable
    assert test_set.labels.flags.writeable


def test_source_names_no_machine(training):
    assert training.source.origin == "vendored"
    assert str(training.source) == ("MNIST: vendored with the project (data/mnist/MNIST/raw), sha256 checked")
    assert str(checkout()) not in str(training.source)


def test_validation_split_holds_out_the_first_5000(training):
    train, validation = tensorflow_validation_split(training)
    assert (len(train), len(validation)) == (55_000, 5_000)
    np.testing.assert_array_equal(validation.labels, training.labels[:5_000])
    np.testing.assert_array_equal(train.images[0], training.images[5_000])
    np.testing.assert_array_equal(train.images[-1], training.images[-1])


def test_validation_split_refuses_another_set(test_set):
    with pytest.raises(DataError, match="expected all 60000 training images, got 10000"):
        tensorflow_validation_split(test_set)


def test_unknown_split_is_named():
    with pytest.raises(DataError, match="split: expected 'train' or 'test', got 'valid'"):
        load_mnist("valid")  # type: ignore[arg-type]


def test_labels_must_match_images(test_set):
    with pytest.raises(DataError, match="expected one per image"):
        LabelledImages(test_set.images[:3], test_set.labels[:2], test_set.source)


@pytest.mark.parametrize("split", ["train", "test"])
def test_reads_the_same_as_a_reader_written_apart(split, training, test_set):
    """A second opinion without our idx code: skip the fixed header sizes of the published files."""
    import gzip

    folder = checkout() / "data" / "mnist" / "MNIST" / "raw"
    prefix = {"train": "train", "test": "t10k"}[split]
    ours = {"train": training, "test": test_set}[split]
    with gzip.open(folder / f"{prefix}-images-idx3-ubyte.gz") as stream:
        pixels = np.frombuffer(stream.read()[16:], np.uint8)
    with gzip.open(folder / f"{prefix}-labels-idx1-ubyte.gz") as stream:
        labels = np.frombuffer(stream.read()[8:], np.uint8)
    np.testing.assert_array_equal(ours.images.ravel(), pixels)
    np.testing.assert_array_equal(ours.labels, labels)
