"""What encoders are given: whole numbers, columns of integers, and how many events would be too many.

An encoder's kernel runs without Python's lock and cannot be interrupted, so that what it will do is bounded
before it begins.
"""

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_EVENTS = 20_000_000  # of one signal or image: some seconds, and some gigabytes of memory


def whole(value: Any, name: str, least: int | None = None) -> int:
    """The number as an int.

    Raises
    ------
    TypeError
        If it is none of Python's or NumPy's integers, or True or False, with which Python could count.
    ValueError
        If it is below `least`.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if least is not None and number < least:
        raise ValueError(f"{name} must be >= {least}, got {number}")
    return number


def column(values: Any, name: str, like: NDArray[Any] | None = None) -> NDArray[np.int64]:
    """Integers of any dtype, one for each event, as int64.

    Parameters
    ----------
    values
        (event,) integers.
    name
        Of the argument, for errors.
    like
        Another column that must be as long.

    Raises
    ------
    TypeError
        If they are no integers.
    ValueError
        If the shape is another one, or a value is 2^63 or above; names the first.
    """
    given = np.asarray(values)
    if not given.size:  # an empty list is float64 to NumPy
        given = given.astype(np.int64)
    if given.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {given.dtype}")
    expected = "" if like is None else f" = ({len(like)},)"
    if given.ndim != 1 or (like is not None and len(given) != len(like)):
        raise ValueError(f"{name} must be (event,){expected}, got shape {given.shape}")
    wide = given.astype(np.int64, copy=False)
    if given.dtype.kind == "u" and (wide < 0).any():
        at = int((wide < 0).argmax())
        raise ValueError(f"{name}[{at}] must be below 2^63, got {given[at]}")
    return wide


def check_rising(stamps: NDArray[Any], name: str) -> None:
    """ValueError that names the first stamp which is earlier than the one before it."""
    falls = stamps[1:] < stamps[:-1]  # compared, not subtracted: stamps may be unsigned
    if falls.any():
        at = int(falls.argmax()) + 1
        raise ValueError(f"{name}[{at}] must not be earlier than {stamps[at - 1]} us, got {stamps[at]} us")
