"""scikit-learn's digits: known values, a fixed split, and refusal of other values."""

import numpy as np
import pytest
import sklearn.datasets

from eventbook.datasets import DataError, load_digits
from eventbook.datasets import digits as module


def test_the_two_parts_are_the_whole():
    train, test = load_digits("train"), load_digits("test")
    assert train.images.shape == (1400, 8, 8)
    assert test.images.shape == (397, 8, 8)
    bunch = sklearn.datasets.load_digits()

    def sorted_rows(images, labels):
        rows = np.column_stack([images.reshape(len(images), -1), labels])
        return rows[np.lexsort(rows.T)]

    ours = sorted_rows(
        np.concatenate([train.images, test.images]), np.concatenate([train.labels, test.labels])
    )
    np.testing.assert_array_equal(ours, sorted_rows(bunch.images, bunch.target))
    assert train.source.origin == "package"


def test_split_is_fixed_and_mixes_the_stored_order():
    test = load_digits("test")
    np.testing.assert_array_equal(test.images, load_digits("test").images)
    bunch = sklearn.datasets.load_digits()
    assert not np.array_equal(test.images, bunch.images[1400:])
    assert np.bincount(test.labels).min() > 25


def test_other_values_are_refused(monkeypatch):
    bunch = sklearn.datasets.load_digits()
    bunch.images[3, 4, 4] += 1
    monkeypatch.setattr(module, "load_from_sklearn", lambda: bunch)
    with pytest.raises(DataError, match="digits of scikit-learn: expected values with sha256"):
        load_digits("train")


def test_unknown_split():
    with pytest.raises(DataError, match="split: expected 'train' or 'test', got 'all'"):
        load_digits("all")  # type: ignore[arg-type]
