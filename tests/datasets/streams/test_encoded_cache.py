"""The cache: equal to computing, keyed by all that matters, never a broken file, harmless without a disk."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from eventbook.datasets.streams import encoded_cache
from eventbook.datasets.streams.encoded_cache import cache_folder, cached, digest, encoder_sources


class Recipe:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> dict[str, np.ndarray]:
        def compute() -> dict[str, np.ndarray]:
            self.asked += 1
            return {"token": np.arange(5, dtype=np.int16), "stamp": np.arange(5) ** 2}

        return cached("some", {"threshold": 0.25}, compute)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EVENTBOOK_CACHE", str(tmp_path / "cache"))


def same(found) -> bool:
    return (
        found["token"].dtype == np.int16
        and found["token"].tolist() == [0, 1, 2, 3, 4]
        and found["stamp"].tolist() == [0, 1, 4, 9, 16]
    )


def test_computed_once():
    recipe = Recipe()
    assert same(recipe())
    assert same(recipe())
    assert recipe.asked == 1
    (path,) = cache_folder().iterdir()  # nothing temporary is left
    assert path.name.startswith("some-")


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "longer", "another format", "checksum"])
def test_a_broken_file_is_never_used_and_is_replaced(damage):
    recipe = Recipe()
    recipe()
    (path,) = cache_folder().iterdir()
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[:-7],
            "changed": whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:],
            "empty": b"",
            "longer": whole + b"\0",
            "another format": b"PK" + whole[2:],
            "checksum": whole[:25] + bytes([whole[25] ^ 1]) + whole[26:],
        }[damage]
    )
    assert same(recipe())
    assert recipe.asked == 2
    assert path.read_bytes() == whole
    assert same(recipe())
    assert recipe.asked == 2


def compute() -> dict[str, np.ndarray]:
    return {}


def test_whatever_decides_changes_the_key(monkeypatch):
    keys = [
        {"threshold": 0.25, "stamps": "grid", "images": "ab"},
        {"threshold": 0.3, "stamps": "grid", "images": "ab"},
        {"threshold": 0.25, "stamps": "interpolated", "images": "ab"},
        {"threshold": 0.25, "stamps": "grid", "images": "ac"},
    ]
    found = [digest(key, compute) for key in keys]
    assert digest(dict(reversed(keys[0].items())), compute) == found[0]
    monkeypatch.setattr(encoded_cache, "encoder_sources", lambda: "another encoder")
    found.append(digest(keys[0], compute))
    monkeypatch.undo()
    monkeypatch.setattr(encoded_cache.metadata, "version", lambda package: "0.0")
    found.append(digest(keys[0], compute))
    assert len(set(found)) == len(found)


def test_a_changed_loader_changes_the_key(tmp_path):
    found = []
    for text in ("def compute(): return 1\n", "def compute(): return 2\n"):
        path = tmp_path / "loader.py"
        path.write_text(text)
        scope: dict = {}
        exec(compile(text, str(path), "exec"), scope)
        found.append(digest({}, scope["compute"]))
    assert found[0] != found[1]


def test_the_sources_of_the_encoders_enter(monkeypatch, tmp_path):
    """One byte of a file changes the hash, and so does its name."""
    hashes = []
    for name, text in (("a.py", "1"), ("a.py", "2"), ("b.py", "1")):
        room = tmp_path / f"room{len(hashes)}"
        room.mkdir()
        (room / "__init__.py").touch()
        (room / name).write_text(text)
        spec = type("Spec", (), {"origin": str(room / "__init__.py")})
        monkeypatch.setattr(encoded_cache, "find_spec", lambda _, spec=spec: spec)
        hashes.append(encoder_sources.__wrapped__())
    assert len(set(hashes)) == 3
    monkeypatch.undo()
    assert encoder_sources() == encoder_sources.__wrapped__()


@pytest.mark.parametrize("obstacle", ["a file in the place of the folder", "no permission"])
def test_without_a_folder_it_is_computed(obstacle, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    if obstacle == "no permission":
        folder.mkdir()

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(encoded_cache.tempfile, "mkstemp", refuse)
    else:
        folder.write_text("a file")
    recipe = Recipe()
    assert same(recipe())
    assert same(recipe())
    assert recipe.asked == 2


def test_a_full_disk_leaves_nothing_behind(monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert same(Recipe()())
    assert list(cache_folder().iterdir()) == []


def test_errors_of_the_computation_pass_through():
    def fail() -> dict[str, np.ndarray]:
        raise ValueError("threshold must be larger")

    with pytest.raises(ValueError, match="threshold must be larger"):
        cached("some", {}, fail)
    assert not cache_folder().exists()


def _many(folder: str, barrier, results) -> None:
    os.environ["EVENTBOOK_CACHE"] = folder
    barrier.wait()
    results.put(all(same(Recipe()()) for _ in range(20)))


def test_two_processes_at_once(tmp_path):
    spawn = multiprocessing.get_context("fork")
    barrier, results = spawn.Barrier(2), spawn.Queue()
    workers = [
        spawn.Process(target=_many, args=(str(tmp_path / "cache"), barrier, results)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=60) for _ in workers] == [True, True]
    for worker in workers:
        worker.join()
    assert len(list((tmp_path / "cache" / "streams").iterdir())) == 1


def test_where_it_is(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache" / "streams"
    monkeypatch.setenv("EVENTBOOK_CACHE", "")
    monkeypatch.setattr(encoded_cache, "user_cache_path", lambda name, **_: tmp_path / "home" / name)
    assert cache_folder() == tmp_path / "home" / "eventbook" / "streams"
