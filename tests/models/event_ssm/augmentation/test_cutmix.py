"""Event CutMix: claim E8 on 1,000 random pairs with its negative control, weights, labels, errors."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.kernels.encoders import EVENT, TokenStream
from eventbook.models.event_ssm.augmentation.cutmix import Mixed, cutmix_batch, cutmix_events

OF_B = 1_000_000  # added to the tokens of b: a token says where its event came from


def frozen(token, stamp) -> TokenStream:
    stream = TokenStream(np.asarray(token, np.int64), np.asarray(stamp, np.int64))
    for column in stream:
        column.setflags(write=False)
    return stream


def numbered(stamps, first: int = 0) -> TokenStream:
    """Event k has the token first + k."""
    return frozen(first + np.arange(len(stamps)), stamps)


def random_pair(rng: np.random.Generator) -> tuple[TokenStream, TokenStream]:
    """Up to 60 events each; coarse stamps in half of the pairs, so that many are simultaneous."""
    pair = []
    for first in (0, OF_B):
        latest = int(rng.choice([20, 100_000]))
        pair.append(numbered(np.sort(rng.integers(0, latest, rng.integers(0, 61))), first))
    return pair[0], pair[1]


def faults(a: TokenStream, b: TokenStream, mixed: Mixed, share: str = "count") -> set[str]:
    """Which parts of claim E8 a mixture breaks, read off its events one by one."""
    token, stamp = mixed.stream
    found = set()
    for number, time in zip(token.tolist(), stamp.tolist(), strict=True):
        source, k = (b, number - OF_B) if number >= OF_B else (a, number)
        if source.stamp[k] != time:
            found.add("an event has another stamp")
    if any(later < earlier for earlier, later in pairwise(stamp.tolist())):
        found.add("times fall")
    run = [number - OF_B for number in token.tolist() if number >= OF_B]
    if run != list(range(run[0], run[0] + len(run)) if run else []):
        found.add("the run has gaps")
    left = [number for number in token.tolist() if number < OF_B]
    span = (b.stamp[run[0]], b.stamp[run[-1]]) if run else (1, 0)
    outside = [k for k, time in enumerate(a.stamp.tolist()) if not span[0] <= time <= span[1]]
    if any(span[0] <= a.stamp[k] <= span[1] for k in left):
        found.add("an event of a in the run's span")
    if left != outside:
        found.add("not all of a outside the span")
    if len(token) != len(outside) + len(run):
        found.add("n_mixed is not n_a_kept + n_run")
    if share == "count" and mixed.weight != (len(run) / len(token) if run else 0.0):
        found.add("the weight is not n_run / n_mixed")
    if not 0.0 <= mixed.weight <= 1.0:
        found.add("the weight is outside 0..1")
    return found


# --- claim E8 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", ["count", "time"])
def test_claim_e8_on_a_thousand_pairs(share):
    rng = np.random.default_rng(8)
    broken, sizes = [], []
    for _ in range(1_000):
        a, b = random_pair(rng)
        mixed = cutmix_events(a, b, rng, share)
        broken.append(faults(a, b, mixed, share))
        sizes.append(int((mixed.stream.token >= OF_B).sum()))
    assert set.union(*broken) == set()
    assert max(sizes) > 50


def test_claim_e8_weights_sum_to_one():
    rng = np.random.default_rng(9)
    pairs = [stream for _ in range(500) for stream in random_pair(rng)]
    for share in ("count", "time"):
        streams, labels = cutmix_batch(pairs, rng.integers(0, 7, 1_000), 7, 1.0, rng, share)
        assert labels.dtype == np.float32
        assert len(streams) == len(labels) == 1_000
        assert (labels >= 0).all()
        np.testing.assert_array_equal(labels.sum(1), np.float32(1))


def without_deleting(a: TokenStream, b: TokenStream, k: int, s: int) -> Mixed:
    token = np.concatenate([a.token, b.token[s : s + k]])
    stamp = np.concatenate([a.stamp, b.stamp[s : s + k]])
    order = np.argsort(stamp, kind="stable")
    return Mixed(TokenStream(token[order], stamp[order]), k / len(token))


def without_sorting(a: TokenStream, b: TokenStream, k: int, s: int) -> Mixed:
    mixed = as_released(a, b, k, s)
    order = np.argsort(mixed.stream.token, kind="stable")
    return Mixed(TokenStream(mixed.stream.token[order], mixed.stream.stamp[order]), mixed.weight)


def weighed_by_b(a: TokenStream, b: TokenStream, k: int, s: int) -> Mixed:
    return Mixed(as_released(a, b, k, s).stream, k / len(b.stamp))


def without_the_ends(a: TokenStream, b: TokenStream, k: int, s: int) -> Mixed:
    inside = (a.stamp > b.stamp[s]) & (a.stamp < b.stamp[s + k - 1])
    return without_deleting(TokenStream(a.token[~inside], a.stamp[~inside]), b, k, s)


def as_released(a: TokenStream, b: TokenStream, k: int, s: int) -> Mixed:
    """Masks and a sort, as the released code has it."""
    inside = (a.stamp >= b.stamp[s]) & (a.stamp <= b.stamp[s + k - 1])
    return without_deleting(TokenStream(a.token[~inside], a.stamp[~inside]), b, k, s)


@pytest.mark.parametrize(
    "mix, fault",
    [
        (without_deleting, "an event of a in the run's span"),
        (without_the_ends, "an event of a in the run's span"),
        (without_sorting, "times fall"),
        (weighed_by_b, "the weight is not n_run / n_mixed"),
    ],
)
def test_claim_e8_can_fail(mix, fault):
    """Negative controls: one careless step each, found by the same reading."""
    rng = np.random.default_rng(8)
    broken = 0
    for _ in range(200):
        a, b = random_pair(rng)
        if len(b.stamp) < 2:
            continue
        k = int(rng.integers(1, len(b.stamp)))
        broken += fault in faults(a, b, mix(a, b, k, int(rng.integers(0, len(b.stamp) - k + 1))))
    assert broken > 30  # ends meet only where both streams are coarse, in a quarter of the pairs


# --- the run -----------------------------------------------------------------------------------------------

stamps = st.lists(st.integers(0, 15), max_size=15).map(sorted)


@given(stamps, stamps, st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_put_together_equals_masked_and_sorted(of_a, of_b, seed):
    a, b = numbered(of_a), numbered(of_b, OF_B)
    mixed = cutmix_events(a, b, np.random.default_rng(seed))
    assert faults(a, b, mixed) == set()
    run = mixed.stream.token[mixed.stream.token >= OF_B] - OF_B
    if len(run):
        expected = as_released(a, b, len(run), int(run[0]))
        np.testing.assert_array_equal(mixed.stream, expected.stream)
        assert mixed.weight == expected.weight


def test_sizes_and_places_are_uniform():
    rng, count, rounds = np.random.default_rng(10), 8, 20_000
    a, b = numbered([]), numbered(np.arange(count))
    sizes, last = np.zeros(count + 1), 0
    for _ in range(rounds):
        run = cutmix_events(a, b, rng).stream.token
        sizes[len(run)] += 1
        last += count - 1 in run
    assert sizes[0] == sizes[count] == 0
    share = 1 / (count - 1)
    for size in range(1, count):
        assert abs(sizes[size] / rounds - share) < 5 * math.sqrt(share / rounds)
    # The last event is in k of the n - k + 1 places that end there: one place each. As released: never.
    expected = np.mean([1 / (count - size + 1) for size in range(1, count)])
    assert abs(last / rounds - expected) < 5 * math.sqrt(expected / rounds)
    low = np.random.default_rng(0).integers(0, count - 3, 1_000)  # as released for k = 3
    assert low.max() + 3 - 1 < count - 1


def test_streams_that_are_short():
    rng = np.random.default_rng(11)
    none, one, many = numbered([]), numbered([5], OF_B), numbered([1, 5, 5, 9])
    mixed = cutmix_events(many, none, rng)
    np.testing.assert_array_equal(mixed.stream, many)
    assert mixed.weight == 0.0
    mixed = cutmix_events(many, one, rng)
    assert mixed.stream.token.tolist() == [0, OF_B, 3]
    assert mixed.weight == 1 / 3
    assert cutmix_events(none, one, rng).weight == 1.0
    mixed = cutmix_events(none, none, rng)
    assert len(mixed.stream.token) == 0
    assert mixed.weight == 0.0


def test_share_of_time():
    """b's run spans k - 1 of 10 steps, however many events it has; of count it would be more."""
    rng = np.random.default_rng(12)
    a, b = numbered(np.arange(11) * 100), numbered(np.arange(11) * 100, OF_B)
    for _ in range(50):
        mixed = cutmix_events(a, b, rng, "time")
        run = (mixed.stream.token >= OF_B).sum()
        assert mixed.weight == pytest.approx((run - 1) / 10)
    together = numbered([4, 4, 4], OF_B)
    weights = {cutmix_events(numbered([4]), together, rng, "time").weight for _ in range(20)}
    assert weights == {1.0}  # all is simultaneous: events are counted


# --- batches -----------------------------------------------------------------------------------------------


def test_each_stream_of_a_batch_meets_one_partner():
    rng = np.random.default_rng(13)
    streams = [numbered(np.sort(rng.integers(0, 1_000, 40)), 100 * number) for number in range(12)]
    classes = np.arange(12)
    mixed, labels = cutmix_batch(streams, classes, 12, 1.0, rng)
    partners = []
    for number, (stream, row) in enumerate(zip(mixed, labels, strict=True)):
        counts = np.bincount(stream.token // 100, minlength=12)
        np.testing.assert_allclose(row, counts / counts.sum(), atol=1e-7)
        others = set(np.flatnonzero(counts)) - {number}
        assert len(others) <= 1
        partners += others or {number}
    assert sorted(partners) == list(range(12))  # a permutation


def test_a_batch_is_mixed_with_the_probability():
    rng = np.random.default_rng(14)
    streams = [numbered(np.arange(9)), numbered(np.arange(9), OF_B)]
    mixed = 0
    for _ in range(3_000):
        result, labels = cutmix_batch(streams, np.array([0, 1]), 2, 0.3, rng)
        changed = any(not np.array_equal(one, given_) for one, given_ in zip(result, streams, strict=True))
        mixed += changed
        if not changed:
            np.testing.assert_array_equal(labels, np.eye(2))
    expected = 0.3 / 2  # of two streams, half of the permutations change nothing
    assert abs(mixed / 3_000 - expected) < 5 * math.sqrt(expected / 3_000)


def test_no_probability_leaves_a_batch_as_it_is():
    rng = np.random.default_rng(15)
    given_, labels = cutmix_batch([([1], [2]), ([], [])], [2, 0], 3, 0.0, rng)
    assert [stream.token.tolist() for stream in given_] == [[1], []]
    assert labels.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_partners_of_one_class_keep_it():
    rng = np.random.default_rng(16)
    streams = [numbered(np.sort(rng.integers(0, 99, 30))) for _ in range(20)]
    _, labels = cutmix_batch(streams, np.full(20, 3), 5, 1.0, rng)
    np.testing.assert_array_equal(labels, np.float32(np.eye(5)[np.full(20, 3)]))


def test_an_empty_batch():
    streams, labels = cutmix_batch([], [], 4, 1.0, np.random.default_rng(0))
    assert streams == []
    assert labels.shape == (0, 4)


def test_the_same_seed_gives_the_same_batch():
    rng = np.random.default_rng(17)
    streams = [numbered(np.sort(rng.integers(0, 99, 30))) for _ in range(6)]
    first, second = (cutmix_batch(streams, np.arange(6), 6, 0.5, np.random.default_rng(1)) for _ in range(2))
    for one, other in zip(first[0], second[0], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(first[1], second[1])


def test_slices_that_keep_the_stamps_of_a_recording_do_not_mix():
    """Nothing of a is replaced, and a gap of a minute is left; from zero, the two overlap."""
    a = numbered(np.arange(100) * 1_000)
    late = numbered(60_000_000 + np.arange(100) * 1_000, OF_B)
    rng = np.random.default_rng(18)
    stream, _ = cutmix_events(a, late, rng)
    assert (stream.token < OF_B).sum() == 100
    assert np.diff(stream.stamp).max() > 59_000_000
    stream, _ = cutmix_events(a, numbered(late.stamp - late.stamp[0], OF_B), rng)
    assert len(stream.stamp) == 100
    assert np.diff(stream.stamp).max() == 1_000


# --- errors ------------------------------------------------------------------------------------------------

GOOD = numbered([1, 2, 3])
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: cutmix_events(GOOD, ([1, 2], [4, 3]), RNG),
            ValueError,
            r"b stamp\[1\] must not be earlier than 4 us, got 3 us",
        ),
        (
            lambda: cutmix_events(([1], [2, 3]), GOOD, RNG),
            ValueError,
            r"a stamp must be \(event,\) = \(1,\), got shape \(2,\)",
        ),
        (
            lambda: cutmix_events(np.zeros(2, EVENT), GOOD, RNG),
            TypeError,
            r"a must be a pair \(token, stamp\), got an array of dtype EVENT: see tokens_of",
        ),
        (
            lambda: cutmix_events(GOOD, GOOD, RNG, "space"),
            ValueError,
            r"share must be 'count' or 'time', got 'space'",
        ),
        (lambda: cutmix_events(GOOD, GOOD, 3), TypeError, r"rng must be a numpy\.random\.Generator, got int"),
        (
            lambda: cutmix_batch([GOOD], [0], 2, 1.2, RNG),
            ValueError,
            r"probability must be in 0\.\.1, got 1\.2",
        ),
        (
            lambda: cutmix_batch([GOOD, GOOD], [0], 2, 0.5, RNG),
            ValueError,
            r"labels must be as many as streams, 2, got 1",
        ),
        (lambda: cutmix_batch([GOOD], [2], 2, 0.5, RNG), ValueError, r"labels\[0\] must be in 0\.\.1, got 2"),
        (lambda: cutmix_batch([GOOD], [0.5], 2, 0.5, RNG), TypeError, "labels must be integers, got float64"),
        (lambda: cutmix_batch([GOOD], [0], 0, 0.5, RNG), ValueError, "n_classes must be >= 1, got 0"),
        (
            lambda: cutmix_batch([GOOD, ([1, 1], [3, 2])], [0, 1], 2, 0.5, RNG),
            ValueError,
            r"streams\[1\] stamp\[1\] must not be earlier than 3 us, got 2 us",
        ),
        (
            lambda: cutmix_batch([GOOD], [0], 2, 0.5, RNG, "space"),
            ValueError,
            r"share must be 'count' or 'time', got 'space'",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
