"""Counter-based random numbers: distributions, independence, determinism; and that the tests can fail."""

import numpy as np
import pytest
from scipy import stats

from eventbook.kernels.machinery import random as r

N = 400_000
LEVEL = 1e-4  # seeds are fixed, so a pass stays a pass


def key(*numbers: int) -> np.uint64:
    k = np.uint64(7)
    for number in numbers:
        k = np.uint64(r.derive(k, number))
    return k


def normals(k: np.uint64, n: int = N) -> np.ndarray:
    out = np.empty(n)
    r.fill_normal(k, 0, out)
    return out


def bad_uniform(n: int) -> np.ndarray:
    """A weak generator, as negative control: a short linear congruence."""
    out, x = np.empty(n), 1
    for i in range(n):
        x = (1229 * x + 1) % 2048
        out[i] = x / 2048
    return out


@pytest.mark.parametrize("stream", [0, 1, 12345])
def test_normal_distribution(stream):
    x = normals(key(stream))
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs(np.mean(x**power) - expected) < 4.5 * np.sqrt(variance / N)
    assert stats.kstest(x, "norm").pvalue > LEVEL
    assert abs(np.mean(np.abs(x) > 3) - 2 * stats.norm.sf(3)) < 4.5 * np.sqrt(0.0027 / N)


def test_uniform_distribution_and_negative_control():
    u = np.empty(N)
    r.fill_uniform(key(3), 0, u)
    assert stats.kstest(u, "uniform").pvalue > LEVEL

    def pairs(x):  # serial test on pairs
        return stats.chisquare(np.histogram2d(x[:-1:2], x[1::2], 16, [[0, 1], [0, 1]])[0].ravel()).pvalue

    assert pairs(u) > LEVEL
    assert pairs(bad_uniform(40_000)) < 1e-12


@pytest.mark.parametrize("lag", [1, 2, 3, 64])
def test_serial_correlation(lag):
    x = normals(key(5))
    assert abs(np.mean(x[:-lag] * x[lag:])) < 4.5 / np.sqrt(N)
    y = x + 0.05 * np.roll(x, lag)  # negative control
    assert abs(np.mean(y[:-lag] * y[lag:])) > 4.5 / np.sqrt(N)


def test_cross_stream_correlation():
    table = np.stack([normals(key(layer, step), 50_000) for layer in range(5) for step in range(6)])
    correlation = np.corrcoef(table) - np.eye(30)
    assert np.abs(correlation).max() < 5 / np.sqrt(50_000)
    table[3] += 0.1 * table[4]  # negative control
    assert np.abs(np.corrcoef(table) - np.eye(30)).max() > 5 / np.sqrt(50_000)


def test_across_steps_of_one_connection():
    x = np.array([r.normal(np.uint64(r.derive(key(2), step)), 17) for step in range(50_000)])
    assert stats.kstest(x, "norm").pvalue > LEVEL
    assert abs(np.mean(x[1:] * x[:-1])) < 4.5 / np.sqrt(x.size)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 1000, 3 * 2**61])
def test_bounded_integers(n):
    out = np.empty(100_000, np.int64)
    r.fill_below(key(n), 0, n, out)
    assert out.min() >= 0
    assert out.max() < n
    cells = min(n, 12)
    counts = np.bincount((out * (cells / n)).astype(int).clip(max=cells - 1), minlength=cells)
    # for n = 3 * 2^61 a plain modulo of 64 bits would hit the lower third twice as often in part
    assert cells == 1 or n == 1000 or stats.chisquare(counts).pvalue > LEVEL
    if n == 1000:
        assert stats.chisquare(np.bincount(out, minlength=n)).pvalue > LEVEL


def test_modulo_would_be_biased():
    bits = np.empty(100_000, np.uint64)
    r.fill_bits(key(1), 0, bits)
    n = 3 * 2**61
    cells = ((bits % np.uint64(n)) // np.uint64(2**61)).astype(int)
    assert stats.chisquare(np.bincount(cells, minlength=3)).pvalue < 1e-12


def test_bit_balance_and_avalanche():
    bits = np.empty(100_000, np.uint64)
    r.fill_bits(key(9), 0, bits)
    ones = [(bits >> np.uint64(b) & np.uint64(1)).mean() for b in range(64)]
    assert max(abs(np.array(ones) - 0.5)) < 4.5 * 0.5 / np.sqrt(bits.size)
    flips = [bin(int(r.mix(i)) ^ int(r.mix(i ^ (1 << b)))).count("1") for i in range(200) for b in range(62)]
    assert abs(np.mean(flips) - 32) < 0.2


def test_signs_are_fair_and_fixed():
    index = np.arange(N)
    sign = np.empty(N)
    r.signs_at(11, index, sign)
    assert set(np.unique(sign)) == {-1.0, 1.0}
    assert abs(sign.mean()) < 4.5 / np.sqrt(N)
    assert abs(np.mean(sign[1:] * sign[:-1])) < 4.5 / np.sqrt(N)
    assert r.connection_sign(11, 123_456_789_012) == r.connection_sign(11, 123_456_789_012)
    other = np.empty(N)
    r.signs_at(12, index, other)
    assert abs(np.mean(sign * other)) < 4.5 / np.sqrt(N)


def test_number_depends_on_key_and_counter_alone():
    order = np.random.default_rng(0).permutation(1000)
    straight, shuffled = np.empty(1000), np.empty(1000)
    r.normals_at(key(4), np.arange(1000), straight)
    r.normals_at(key(4), order, shuffled)
    np.testing.assert_array_equal(shuffled, straight[order])
    tail = np.empty(100)
    r.fill_normal(key(4), 900, tail)
    np.testing.assert_array_equal(tail, straight[900:])
    np.testing.assert_array_equal([r.normal(key(4), k) for k in range(20)], straight[:20])


def test_series_against_libm():
    x = np.exp(np.linspace(np.log(2.0**-40), 0, 20_001))
    assert max(abs(r._log(v) - np.log(v)) for v in x) < 1e-12
    y = np.linspace(-1, 1, 20_001)
    assert max(abs(r._sin_quarter_turns(v) - np.sin(v * np.pi / 2)) for v in y) < 1e-12


@pytest.mark.parametrize("n", [0, -1, 2**63])
def test_an_integer_below_nothing(n):
    with pytest.raises(ValueError, match=r"n must be an integer in \[1, 2\^63\), got"):
        r.uniform_below(key(1), 0, n)
    with pytest.raises(ValueError, match=r"n must be an integer in \[1, 2\^63\), got"):
        r.fill_below(key(1), 0, n, np.empty(3, np.int64))
