"""Options that a door passes on to one of several loaders: unknown ones are a line that lists the valid ones.

Source: derived.
"""

import inspect
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
