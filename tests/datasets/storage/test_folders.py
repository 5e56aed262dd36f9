"""Folders that the manifest does not list: the user's first, then the originals; never half a set."""

import pytest

from eventbook.datasets import DataError
from eventbook.datasets.storage.folders import find_folder


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    return path.parent


@pytest.fixture
def user(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv("EVENTBOOK_DATA", str(folder))
    return folder


def test_the_user_comes_first_then_the_originals(project, user):
    original = put(project.root / "data" / "originals" / "Set" / "a.h5")
    found = find_folder("A set", ["Set"], "a*.h5")
    assert (found.folder, found.origin, found.shown) == (original, "original", "data/originals/Set")
    mine = put(user / "Set" / "a1.h5")
    found = find_folder("A set", ["Set"], "a*.h5")
    assert (found.folder, found.origin, found.shown) == (mine, "user", "$EVENTBOOK_DATA/Set")


def test_names_are_tried_in_order(project, user):
    second = put(user / "Second" / "a.h5")
    assert find_folder("A set", ["First", "Second"], "a.h5").folder == second
    first = put(user / "First" / "a.h5")
    assert find_folder("A set", ["First", "Second"], "a.h5").folder == first


def test_a_folder_without_the_files_does_not_count(project, user):
    put(user / "Set" / "b.h5")
    with pytest.raises(DataError) as error:
        find_folder("A set", ["Set"], "a*.h5")
    assert str(error.value) == (
        "A set: expected Set/a*.h5 below $EVENTBOOK_DATA, data/originals, the user's data folder; "
        "found none, and nothing is downloaded"
    )


def test_outside_a_checkout_the_data_folder_of_the_person_counts(outside):
    put(outside / "Set" / "a.h5")
    assert find_folder("A set", ["Set"], "a.h5").shown == "the user's data folder/Set"
