"""The sort: by time, stable, at any number of digits."""

import numpy as np
import pytest

from eventbook.kernels.encoders.order import sort_by_time


@pytest.mark.parametrize("latest", [0, 1, 2_000, 2_048, 300_000, 2**22, 2**40, 2**62])
@pytest.mark.parametrize("count", [0, 1, 2, 1_000])
def test_stable_sort(latest, count):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 5, (count + 3, 4))
    rows[:, 2] = rng.integers(0, latest + 1, count + 3)
    expected = rows.copy()
    expected[:count] = rows[:count][np.argsort(rows[:count, 2], kind="stable")]
    sort_by_time(rows, np.empty_like(rows), count, 2)
    np.testing.assert_array_equal(rows, expected)  # the rest is left alone
