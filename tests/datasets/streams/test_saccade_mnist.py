"""Saccade-MNIST: the encoder's events over the right images, whatever the range, cached or not."""

import numpy as np
import pytest

from eventbook.datasets import DataError, load_mnist, load_saccade_mnist
from eventbook.datasets.streams import encoded_cache, saccade_mnist
from eventbook.kernels.encoders import saccade_events, tokens_of


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch, tmp_path):
    monkeypatch.setattr(saccade_mnist, "BLOCK", 8)
    monkeypatch.setenv("EVENTBOOK_CACHE", str(tmp_path))


def equal(a, b) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("token", "stamp", "lengths", "labels"))


@pytest.mark.parametrize(
    "split, first, images",
    [("train", 0, 0), ("train", 54_998, 54_998), ("valid", 0, 55_000), ("valid", 4_998, 59_998)],
)
def test_splits_are_ranges_of_the_training_images(split, first, images):
    streams = load_saccade_mnist(split, 2, first=first)
    training = load_mnist("train")
    assert streams.labels.tolist() == training.labels[images : images + 2].tolist()
    for image, (token, stamp) in zip(training.images[images : images + 2], streams, strict=True):
        events = saccade_events(image)
        np.testing.assert_array_equal(token, tokens_of(events, 34, 34))
        np.testing.assert_array_equal(stamp, events["t"])


def test_what_it_is():
    streams = load_saccade_mnist("test", 20)
    assert (streams.n_tokens, streams.sensor, streams.classes[7]) == (2_312, (34, 34), "seven")
    assert (streams.token.dtype, streams.stamp.dtype) == (np.int16, np.int32)
    assert 2_500 < streams.lengths.mean() < 4_000
    assert streams.source.made == "events simulated over the real images"


def test_any_range_is_the_same_piece():
    """Ranges begin and end inside blocks."""
    whole = load_saccade_mnist("test", 20)
    for first, count in ((0, 3), (5, 11), (8, 8), (19, 1)):
        assert equal(load_saccade_mnist("test", count, first=first), whole[first : first + count])


@pytest.mark.parametrize("saccades", [1, 2])
def test_the_first_saccades_are_the_beginnings(saccades):
    whole, early = load_saccade_mnist("test", 6), load_saccade_mnist("test", 6, saccades=saccades)
    for (token, stamp), (k, t) in zip(whole, early, strict=True):
        n = np.searchsorted(stamp, saccades * 100_000, "right")
        assert (token[:n].tolist(), stamp[:n].tolist()) == (k.tolist(), t.tolist())
        assert 0 < n < len(stamp)


def test_on_the_grid_nearly_all_stamps_are_shared():
    """Of the first 1,000 test images 91 % of the gaps are zero on the grid, and 12 % in microseconds."""
    coarse, fine = (load_saccade_mnist("test", 24, stamps=stamps) for stamps in ("grid", "interpolated"))
    assert not (coarse.stamp % 1_000).any()
    assert coarse.lengths.tolist() == fine.lengths.tolist()
    shared = {
        name: np.mean(np.concatenate([np.diff(stamp) == 0 for _, stamp in streams]))
        for name, streams in (("coarse", coarse), ("fine", fine))
    }
    assert shared["coarse"] > 0.85
    assert shared["fine"] < 0.2


def test_cached_and_fresh_are_equal(monkeypatch, tmp_path):
    fresh = load_saccade_mnist("test", 12)
    assert len(list(tmp_path.glob("streams/*.npz"))) == 2

    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("eventbook.kernels.encoders.saccades.saccade_events_batch", never)
    assert equal(load_saccade_mnist("test", 12), fresh)
    assert equal(load_saccade_mnist("test", 2, first=9), fresh[9:11])  # other ranges and saccades, same files
    load_saccade_mnist("test", 2, saccades=1)
    for other in ({"threshold": 0.3}, {"stamps": "grid"}, {"first": 16}):
        with pytest.raises(AssertionError, match="computed again"):
            load_saccade_mnist("test", 2, **other)


def test_a_broken_file_is_computed_again(tmp_path):
    fresh = load_saccade_mnist("test", 4)
    (path,) = tmp_path.glob("streams/*.npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert equal(load_saccade_mnist("test", 4), fresh)
    assert encoded_cache._read(path) is not None


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"split": "all"}, "split: expected 'train', 'valid' or 'test', got 'all'"),
        ({"split": "test", "count": 0}, "count: expected 1..10000 images from 0 on, got 0"),
        ({"split": "test", "count": 3, "first": 9_998}, "count: expected 1..2 images from 9998 on, got 3"),
        ({"split": "test", "count": 2.0}, "count: expected a whole number, got 2.0"),
        ({"split": "valid", "first": 5_000}, "first: expected 0..4999, got 5000"),
        ({"split": "test", "count": 1, "first": -1}, "first: expected 0..9999, got -1"),
        ({"split": "test", "count": 1, "saccades": 4}, "saccades: expected 1..3, got 4"),
        ({"split": "test", "count": 1, "saccades": "all"}, "saccades: expected a whole number, got 'all'"),
        ({"split": "test", "count": 1, "threshold": -1.0}, "threshold must be > 0 and finite, got -1.0"),
        (
            {"split": "test", "count": 1, "threshold": float("nan")},
            "threshold must be > 0 and finite, got nan",
        ),
        ({"split": "test", "count": 1, "threshold": "low"}, "threshold: expected a number, got 'low'"),
        ({"split": "test", "count": 1, "stamps": "frame"}, "stamps: expected 'interpolated' or 'grid'"),
    ],
)
def test_bad_arguments(arguments, said):
    with pytest.raises(DataError, match=said) as error:
        load_saccade_mnist(**arguments)
    assert "\n" not in str(error.value)
