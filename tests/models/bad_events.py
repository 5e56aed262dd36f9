"""Batches of events that no network may take, and the one line that each gets.

Of `TOKENS` tokens, two rows with `LENGTHS` events; a length may be one or any larger number of events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from eventbook.kernels.encoders import collate

TOKENS, LENGTHS = 7, (9, 4)


def spoilt(tensor: torch.Tensor, row: int, t: int, value: float) -> torch.Tensor:
    tensor = tensor.clone()
    tensor[row, t] = value
    return tensor


BAD_EVENTS = [  # argument, what is done to it, error, message
    ("token", lambda k: spoilt(k, 1, 2, -1), ValueError, r"token must be in 0..7, got -1 at \[1, 2\]"),
    ("token", lambda k: spoilt(k, 1, 2, 8), ValueError, r"token must be in 0..7, got 8 at \[1, 2\]"),
    ("token", lambda k: k.int(), TypeError, "token must be int64, got int32"),
    ("token", lambda k: k[0], ValueError, r"token must be \(batch, time\), got \(9,\)"),
    ("token", lambda k: k[0, 0], ValueError, r"token must be \(batch, time\), got \(\)"),
    ("gap", lambda g: spoilt(g, 1, 2, -0.5), ValueError, r"gap must be >= 0, got -0.5 at \[1, 2\]"),
    ("gap", lambda g: spoilt(g, 0, 3, np.nan), ValueError, r"gap must be >= 0, got nan at \[0, 3\]"),
    ("gap", lambda g: spoilt(g, 0, 3, np.inf), ValueError, r"gap must be <= 2\^100, got inf at \[0, 3\]"),
    ("gap", lambda g: g[:, 1:], ValueError, r"gap must be \(batch, time\) = \(2, 9\), got \(2, 8\)"),
    ("gap", lambda g: g.long(), TypeError, "gap must be float32 or float64, got int64"),
    ("gap", lambda g: g.numpy(), TypeError, "gap must be a tensor, got ndarray"),
    ("lengths", lambda n: n + 1, ValueError, r"lengths\[0\] must be in .\.\.9 \(time\), got 10"),
    ("lengths", lambda n: -n, ValueError, r"lengths\[0\] must be in .\.\.9 \(time\), got -9"),
    ("lengths", lambda n: n[:1], ValueError, r"lengths must be \(batch,\) = \(2,\), got \(1,\)"),
    ("lengths", lambda n: n.double(), TypeError, "lengths must be int64 or int32, got float64"),
]
# where a row without events has no scores
AND_EMPTY_ROWS = [
    *BAD_EVENTS,
    ("lengths", lambda n: n - 4, ValueError, r"lengths\[1\] must be in 1..9 \(time\), got 0"),
]


def good_events() -> dict[str, Any]:
    """A batch as keyword arguments."""
    rng = np.random.default_rng(0)
    streams = [(rng.integers(0, TOKENS, n), np.cumsum(rng.integers(0, 5_000, n))) for n in LENGTHS]
    batch = collate(streams, TOKENS)
    return {"token": batch.token, "gap": batch.gap, "lengths": batch.lengths}


def assert_refused(
    take: Callable[..., Any], name: str, change: Callable[[Any], Any], error: type[Exception], message: str
) -> None:
    """What takes events takes the good ones, and refuses the spoilt ones in one clear line."""
    good = good_events()
    take(**good)
    with pytest.raises(error, match=message) as caught:
        take(**{**good, name: change(good[name])})
    assert "\n" not in str(caught.value)
