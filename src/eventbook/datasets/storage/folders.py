"""Folders of originals that the manifest does not list: nothing vouches for what a user put there.

Looked for below the directory in ``EVENTBOOK_DATA``, then below ``data/originals`` of a checkout, then below
the data folder of the person. Nothing is ever downloaded here.

Source: derived.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.manifest import checkout
from eventbook.datasets.storage.store import data_folder, originals_folder, user_folder


@dataclass(frozen=True)
class Place:
    """A folder of a user's files, whose name on a page is `shown`."""

    folder: Path
    origin: Literal["user", "original"]
    shown: str


def find_folder(title: str, names: Sequence[str], holds: str) -> Place:
    """The first folder of one of these names, in one of the places, that holds what is asked for.

    Parameters
    ----------
    title : str
        Of the set, for the error.
    names : sequence of str
        Paths below each place, tried in this order.
    holds : str
        Pattern, relative to the folder, of which at least one file is there.

    Raises
    ------
    DataError
        If there is none; says where it was expected.
    """
    places: list[tuple[Path, Literal["user", "original"], str]] = []
    if (user := user_folder()) is not None:
        places.append((user, "user", "$EVENTBOOK_DATA"))
    if (root := checkout()) is not None:
        places.append((originals_folder(root), "original", "data/originals"))
    places.append((data_folder(), "original", "the user's data folder"))
    for base, origin, shown in places:
        for name in names:
            if next((base / name).glob(holds), None) is not None:
                return Place(base / name, origin, f"{shown}/{name}")
    where = ", ".join(shown for _, _, shown in places)
    raise DataError(
        f"{title}: expected {names[0]}/{holds} below {where}; found none, and nothing is downloaded"
    )
