"""The timing-only task: each bit is where it should be, and nowhere else."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from eventbook.datasets import DataError, EventStreams, timing_task
from eventbook.datasets.streams.timing_task import CLASSES

LOW, HIGH, SLOW = 0, 1, 2  # bits of a class


@pytest.fixture(scope="module")
def task() -> tuple[EventStreams, EventStreams]:
    return timing_task(1_024, seed=0), timing_task(512, seed=1)


def bit(streams: EventStreams, number: int) -> np.ndarray:
    return streams.labels >> number & 1


def counts(token: np.ndarray, stamp: np.ndarray) -> np.ndarray:
    """How often each channel: neither order nor time."""
    return np.bincount(token, minlength=64)


def order(token: np.ndarray, stamp: np.ndarray) -> np.ndarray:
    """How often each fourth channel comes in each sixteenth of the events: order without time."""
    at = np.arange(len(token)) / len(token)
    return np.histogram2d(at, token, bins=(16, 16), range=((0, 1), (0, 64)))[0].ravel()


def median_time(token: np.ndarray, stamp: np.ndarray) -> np.ndarray:
    """When half of the events have come: time without channels."""
    return np.array([np.median(stamp) / stamp[-1]])


def score(feature, task, number: int) -> float:
    """How often a forest finds a bit of the second set, having learnt on the first."""
    training, test = ([feature(*stream) for stream in streams] for streams in task)
    forest = RandomForestClassifier(100, random_state=0).fit(training, bit(task[0], number))
    return float(forest.score(test, bit(task[1], number)))


@pytest.mark.parametrize("number", [LOW, HIGH])
def test_directions_are_in_the_order_alone(task, number):
    assert score(order, task, number) > 0.99
    assert abs(score(counts, task, number) - 0.5) < 0.08
    assert abs(score(median_time, task, number) - 0.5) < 0.08


def test_the_timing_bit_is_in_the_times_alone(task):
    assert score(median_time, task, SLOW) > 0.99
    assert abs(score(counts, task, SLOW) - 0.5) < 0.08


def test_noise_leaks_some_of_the_timing_bit_into_the_order_and_nothing_else_does(task):
    silent = timing_task(1_024, seed=0, noise=0), timing_task(512, seed=1, noise=0)
    assert abs(score(order, silent, SLOW) - 0.5) < 0.08
    assert score(median_time, silent, SLOW) > 0.99
    assert 0.55 < score(order, task, SLOW) < 0.8  # 70 %, as the module says


def test_numbers_and_durations(task):
    streams, _ = task
    assert streams.lengths.min() >= 260
    assert streams.lengths.max() <= 343 + 29
    assert abs(streams.lengths.mean() - (301.5 + 14.5)) < 4
    last = np.array([stamp[-1] for _, stamp in streams])
    assert last.max() <= 650_000
    assert 340_000 < last.min() < 360_000
    assert abs(last.mean() - 500_000) < 10_000
    assert (streams.token.min(), streams.token.max()) == (0, 63)


def test_the_first_half_takes_its_share_of_the_time():
    """Without noise, about half of the events come in the first 35 or 65 % of the duration."""
    for token, stamp in (streams := timing_task(400, seed=3, noise=0)):
        assert len(token) == len(stamp)
    slow = bit(streams, SLOW).astype(bool)
    half = np.array([np.searchsorted(stamp, 0.5 * stamp[-1]) / len(stamp) for _, stamp in streams])
    # linear pieces: of a quick start, 0.5 + 0.5 (0.5 - 0.35) / 0.65 of the events come in half of the time
    assert half[~slow].mean() == pytest.approx(0.5 + 0.5 * 0.15 / 0.65, abs=0.01)
    assert half[slow].mean() == pytest.approx(0.5 * 0.5 / 0.65, abs=0.01)


def test_chirps_go_where_the_class_says():
    streams = timing_task(64, seed=5, noise=0)
    for (token, _), label in zip(streams, streams.labels, strict=True):
        for number, chirp in ((LOW, token[token < 31]), (HIGH, token[token >= 31])):
            n = len(chirp) // 4
            rises = chirp[-n:].mean() > chirp[:n].mean()
            assert rises != bool(label >> number & 1)
    assert CLASSES[0] == "low up, high up, quick first"
    assert CLASSES[5] == "low down, high up, slow first"


def test_the_same_seed_gives_the_same_streams_and_longer_sets_begin_alike():
    a, b, longer, other = timing_task(20, 7), timing_task(20, 7), timing_task(30, 7), timing_task(20, 8)
    for name in ("token", "stamp", "labels"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        np.testing.assert_array_equal(getattr(a, name), getattr(longer[:20], name))
    assert not np.array_equal(a.lengths, other.lengths)
    assert np.bincount(timing_task(80, 7).labels).tolist() == [10] * 8


def test_a_coarse_clock_moves_stamps_up_to_its_ticks_and_nothing_else():
    fine, coarse = timing_task(20, 7), timing_task(20, 7, grid=40_000)
    np.testing.assert_array_equal(fine.token, coarse.token)
    assert not (coarse.stamp % 40_000).any()
    late = coarse.stamp - fine.stamp
    assert late.min() >= 0
    assert late.max() < 40_000
    assert coarse.source.place == "seed 7, stamps by 40000 us"
    assert str(fine.source) == "Timing-only task: computed (seed 7, stamps by 1 us)"


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"count": 0}, "count: expected 1 or above, got 0"),
        ({"count": 1.5}, "count: expected a whole number, got 1.5"),
        ({"seed": -1}, "seed: expected 0 or above, got -1"),
        ({"grid": 0}, "grid: expected 1 or above, got 0"),
        ({"grid": 700_000}, "grid: expected at most 650000 us, the longest stream, got 700000"),
        ({"noise": -1}, "noise: expected 0 or above, got -1"),
    ],
)
def test_bad_arguments(arguments, said):
    with pytest.raises(DataError, match=said):
        timing_task(**({"count": 8, "seed": 0} | arguments))
