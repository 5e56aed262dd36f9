"""Spoken digits as events: decoded, they are the frames again; scaled by the training part alone."""

import numpy as np
import pytest

from eventbook.datasets import DataError, EventStreams, load_event_digits, load_spoken_digits
from eventbook.datasets.streams.event_digits import FRAME_PERIOD
from eventbook.kernels.encoders import TokenStream, reconstruct

SPLITS = {"train": 2_400, "valid": 300, "test": 300}


@pytest.fixture(scope="module")
def parts() -> dict[str, EventStreams]:
    return {split: load_event_digits(split) for split in SPLITS}


def test_counts(parts):
    for split, count in SPLITS.items():
        assert len(parts[split]) == count
        assert parts[split].labels.tolist() == load_spoken_digits(split).labels.tolist()
        assert parts[split].n_tokens == 26
        assert parts[split].sensor is None
    # the mean that was found when the encoding was chosen is 376
    every = np.concatenate([part.lengths for part in parts.values()])
    assert round(float(every.mean()), 1) == 375.8
    assert (every.min(), every.max()) == (100, 1_700)
    assert round(float(parts["train"].lengths.mean()), 1) == 375.1


def test_events_say_what_the_frames_said(parts):
    """Within half a level at every frame, in standard deviations of the training frames."""
    training = load_spoken_digits("train").frames.astype(float)
    clips = load_spoken_digits("test")
    for clip, (token, stamp) in list(zip(clips.clips(), parts["test"], strict=True))[:40]:
        z = (clip - training.mean(0)) / training.std(0)
        again = reconstruct(TokenStream(token, stamp), z[0], 0.25, FRAME_PERIOD, len(z))
        assert np.abs(again - z).max() <= 0.125 * (1 + 1e-9)


def test_levels_are_scaled_by_the_training_part_in_all_parts(parts):
    """Scaled by its own frames, the test part would have other events."""
    from eventbook.kernels.encoders import delta_events

    clips = load_spoken_digits("test")
    own = clips.frames.astype(float)
    first = next(clips.clips())
    wrong = delta_events((first - own.mean(0)) / own.std(0), 0.25, FRAME_PERIOD)
    assert wrong.token.tolist() != parts["test"][0][0].tolist()


def test_stamps_of_frames_are_shared_and_interpolated_ones_are_not(parts):
    fine, coarse = parts["test"], load_event_digits("test", stamps="frame")
    assert fine.lengths.tolist() == coarse.lengths.tolist()
    assert not (coarse.stamp % FRAME_PERIOD).any()

    def shared(streams: EventStreams) -> float:
        return float(np.mean(np.concatenate([np.diff(stamp) == 0 for _, stamp in streams])))

    assert shared(fine) < 0.001
    assert shared(coarse) > 0.9
    # an interpolated crossing comes at most a frame before the frame that knows of it
    for (_, a), (_, b) in zip(fine, coarse, strict=True):
        late = np.sort(-(-a // FRAME_PERIOD) * FRAME_PERIOD)
        np.testing.assert_array_equal(late, b)


def test_a_lower_level_makes_more_events(parts):
    assert load_event_digits("test", threshold=0.125).lengths.sum() > 1.8 * parts["test"].lengths.sum()


def test_the_source_says_whose_encoding_it_is(parts):
    assert str(parts["train"].source) == (
        "Free Spoken Digit Dataset, as MFCC: vendored with the project (data/fsdd), sha256 checked; "
        "delta-coded by us, a level every 0.25 standard deviations"
    )


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"split": "validation"}, "split: expected 'train', 'valid' or 'test', got 'validation'"),
        ({"split": "test", "threshold": 0}, "threshold must be > 0"),
        ({"split": "test", "threshold": "high"}, "threshold must be real numbers"),
        ({"split": "test", "stamps": "grid"}, "stamps must be 'interpolated' or 'frame', got 'grid'"),
    ],
)
def test_bad_arguments(arguments, said):
    with pytest.raises(DataError, match=said) as error:
        load_event_digits(**arguments)
    assert "\n" not in str(error.value)


def test_too_fine_a_level_is_refused_before_anything_is_encoded() -> None:
    with pytest.raises(DataError, match=r"threshold must be larger: the set makes about .* events, at most"):
        load_event_digits("test", threshold=1e-5)
