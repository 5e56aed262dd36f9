"""The wheel, and an environment that holds it and the core dependencies alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from environments import build_wheel, closure, make_environment, required


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and what it requires, and nothing else."""
    python = make_environment(tmp_path_factory.mktemp("core"), closure(required()).values())
    done = subprocess.run(
        [sys.executable, "-m", "pip", f"--python={python}", "install", "--no-index", "--quiet", wheel],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return python
