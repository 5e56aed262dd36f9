"""Options of loaders: whole numbers, and those that a door passes on to one of several loaders.

Wrong and unknown ones are a line that says what was expected.

Source: derived.
"""

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from eventbook.datasets.storage.errors import DataError

Loaded = TypeVar("Loaded")


def call_with(
    loader: Callable[..., Loaded], name: str, given: tuple[Any, ...], options: Mapping[str, Any]
) -> Loaded:
    """Call a loader with the options of a user.

    Parameters
    ----------
    loader : callable
        What to call.
    name : str
        Of the set, for the error.
    given : tuple
        The first arguments.
    options : mapping
        The rest, by name.

    Raises
    ------
    DataError
        If the loader has no such option.
    """
    known = list(inspect.signature(loader).parameters)[len(given) :]
    for option in options:
        if option not in known:
            listed = ", ".join(known) or "none"
            raise DataError(f"{option}: {name} has no such option; it has: {listed}")
    return loader(*given, **options)


def whole(value: Any, name: str, least: int | None = None, most: int | None = None) -> int:
    """The number as an int; DataError if it is not whole, or outside of least..most."""
    try:
        number = operator.index(value)
    except TypeError:
        raise DataError(f"{name}: expected a whole number, got {value!r}") from None
    if least is not None and most is not None and not least <= number <= most:
        raise DataError(f"{name}: expected {least}..{most}, got {number}")
    if least is not None and number < least:
        raise DataError(f"{name}: expected {least} or above, got {number}")
    return number
