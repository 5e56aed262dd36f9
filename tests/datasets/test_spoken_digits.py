"""Spoken digits: three disjoint stratified parts that make up the file, ragged and padded alike."""

import numpy as np
import pytest

from eventbook.datasets import DataError, SpokenDigits, load_spoken_digits
from eventbook.datasets.storage.manifest import checkout


@pytest.fixture(scope="module")
def parts() -> dict[str, SpokenDigits]:
    return {split: load_spoken_digits(split) for split in ("train", "valid", "test")}


def test_parts_are_stratified(parts):
    for split, per_digit in {"train": 240, "valid": 30, "test": 30}.items():
        assert np.bincount(parts[split].labels).tolist() == [per_digit] * 10
    assert parts["train"].source.place == "data/fsdd"


def test_parts_are_disjoint_and_make_up_the_file(parts):
    clips = [clip.tobytes() for part in parts.values() for clip in part.clips()]
    stored = np.load(checkout() / "data" / "fsdd" / "digits.npz")
    ends = np.cumsum(stored["lengths"])
    whole = {clip.tobytes() for clip in np.split(stored["X"], ends[:-1])}
    assert len(clips) == len(set(clips)) == len(whole) == 3_000
    assert set(clips) == whole


def test_a_clip_keeps_its_label(parts):
    stored = np.load(checkout() / "data" / "fsdd" / "digits.npz")
    label_of = dict(
        zip(
            (clip.tobytes() for clip in np.split(stored["X"], np.cumsum(stored["lengths"])[:-1])),
            stored["y"].tolist(),
            strict=True,
        )
    )
    for part in parts.values():
        assert [label_of[clip.tobytes()] for clip in part.clips()] == part.labels.tolist()


def test_padding_adds_zeros_only(parts):
    test = parts["test"]
    padded = test.padded()
    assert padded.shape == (300, 92, 13)
    for row, clip in zip(padded, test.clips(), strict=True):
        np.testing.assert_array_equal(row[: len(clip)], clip)
        assert not row[len(clip) :].any()
    assert {part.lengths.max() for part in parts.values()} <= set(range(93))


def test_padding_never_cuts(parts):
    with pytest.raises(DataError, match="length: expected at least the longest clip"):
        parts["train"].padded(20)


def test_lengths_must_add_up(parts):
    test = parts["test"]
    with pytest.raises(DataError, match="lengths: expected one per label"):
        SpokenDigits(test.frames[:-1], test.lengths, test.labels, test.source)


def test_unknown_split():
    with pytest.raises(DataError, match="got 'validation'"):
        load_spoken_digits("validation")  # type: ignore[arg-type]
