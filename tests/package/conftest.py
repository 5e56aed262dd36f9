"""The wheel, and environments that hold it and what it requires."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from environments import build_wheel, closure, make_environment, required


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("dist"))


def install(wheel: Path, folder: Path, *extras: str) -> Path:
    """Make an environment with the wheel and what it requires, and nothing else; return its interpreter."""
    python = make_environment(folder, closure(required(*extras)).values())
    done = subprocess.run(
        [sys.executable, "-m", "pip", f"--python={python}", "install", "--no-index", "--quiet", wheel],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return python


@pytest.fixture(scope="session")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel with the core dependencies alone."""
    return install(wheel, tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="session")
def book(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel with the machinery of the book."""
    return install(wheel, tmp_path_factory.mktemp("book"), "book")
