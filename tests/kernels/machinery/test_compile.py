"""The cache of compiled kernels: follows the sources, respects the user's folder, is never required."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from eventbook.kernels.machinery import compile as compiling

PROGRAM = """
from eventbook.kernels.machinery.random import uniform
from eventbook.kernels.machinery.compile import cache_folder
print(uniform(1, 2), len(uniform.stats.cache_hits), uniform._cache is not None, type(uniform._cache).__name__)
"""


def run(**environment: str) -> list[str]:
    keep = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=keep | environment, capture_output=True, text=True, check=True
    )
    return out.stdout.split()


def test_second_process_loads_what_the_first_compiled(tmp_path):
    first = run(XDG_CACHE_HOME=str(tmp_path))
    second = run(XDG_CACHE_HOME=str(tmp_path))
    assert first[0] == second[0]
    assert (first[1], second[1]) == ("0", "1")
    assert [p.name for p in tmp_path.iterdir()] == ["eventbook"]


def test_user_folder_is_respected(tmp_path):
    run(NUMBA_CACHE_DIR=str(tmp_path))
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"numba-{compiling.kernel_sources_digest()[:16]}"
    assert any(folder.iterdir())


def test_kernels_work_where_nothing_can_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    result = run(XDG_CACHE_HOME=str(blocked))
    assert result[0] == run(XDG_CACHE_HOME=str(tmp_path / "fine"))[0]
    assert result[3] == "NullCache"


def test_folder_changes_with_any_source(tmp_path):
    a, b = tmp_path / "a.py", tmp_path / "b.py"
    a.write_text("x = 1")
    b.write_text("y = 1")
    before = compiling._digest(a, b)
    assert compiling._digest(a, b) == before
    b.write_text("y = 2")
    assert compiling._digest(a, b) != before


def test_digest_covers_every_kernel_file():
    folder = Path(compiling.__file__).parents[1]
    files = sorted(folder.rglob("*.py"))
    assert any(file.parent != folder for file in files)
    assert compiling.kernel_sources_digest() == compiling._digest(*files)


def test_other_packages_keep_numba_as_it_was():
    @numba.njit(cache=False)
    def elsewhere(x):
        return 1 / x

    with pytest.raises(ZeroDivisionError):
        elsewhere(0)
    assert not hasattr(numba.config, "CACHE_LOCATOR_CLASSES") or not numba.config.CACHE_LOCATOR_CLASSES
