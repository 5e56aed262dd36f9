"""Projects to attack: unexecuted ones, copies of one that was executed, of one that was rendered."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import settings
from tiny_project import BY_HAND, LIGHT, TINY, copy_project, environment, eventbook, write_project

from eventbook.companion.project import Project

# how long an example takes says nothing here
settings.register_profile("eventbook", deadline=None)
settings.load_profile("eventbook")


def _enter(root: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(root)
    for name in ("EVENTBOOK_ROOT", "EVENTBOOK_BUILD"):
        monkeypatch.delenv(name, raising=False)
    return Project.find()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The tiny project, unexecuted; the working directory is its root."""
    return _enter(write_project(tmp_path / "tiny", TINY), monkeypatch)


@pytest.fixture
def light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The light project, unexecuted; the working directory is its root."""
    return _enter(write_project(tmp_path / "light", LIGHT), monkeypatch)


@pytest.fixture(scope="session")
def executed_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project, executed once for the whole session; copy it, never change it."""
    root = write_project(tmp_path_factory.mktemp("executed") / "tiny", TINY)
    done = eventbook(root, "run", "--engine", "papermill")
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture
def executed(executed_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the executed project, free to be changed, with nothing to run in it."""
    return _enter(copy_project(executed_tree, tmp_path / "tiny"), monkeypatch)


@pytest.fixture(scope="session")
def rendered_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project with its book, made by Snakemake called by hand; copy it, never change it."""
    root = write_project(tmp_path_factory.mktemp("rendered") / "tiny", TINY)
    done = subprocess.run(BY_HAND, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture
def rendered(rendered_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the rendered project, with nothing to run or render in it."""
    return _enter(copy_project(rendered_tree, tmp_path / "tiny"), monkeypatch)
