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


# --- a kernel of another file ------------------------------------------------------------------------------

ELSEWHERE = """
from eventbook.kernels.machinery.compile import kernel

SCALE = {scale}


@kernel()
def scaled(x):
    return SCALE * x
"""
ASK = "from elsewhere import scaled; print(scaled(2.0), len(scaled.stats.cache_hits))"


def ask(folder: Path, cache: Path) -> tuple[float, int]:
    keep = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    out = subprocess.run(
        [sys.executable, "-B", "-c", ASK],
        env=keep | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    value, hits = out.stdout.split()
    return float(value), int(hits)


def test_a_constant_of_the_kernels_own_file_is_part_of_its_stamp(tmp_path):
    """The code of the function stays as it was; what it computes does not."""
    source, cache = tmp_path / "elsewhere.py", tmp_path / "cache"
    source.write_text(ELSEWHERE.format(scale=3.0))
    assert ask(tmp_path, cache) == (6.0, 0)
    assert ask(tmp_path, cache) == (6.0, 1)
    source.write_text(ELSEWHERE.format(scale=5.0))
    assert ask(tmp_path, cache) == (10.0, 0)
    assert ask(tmp_path, cache) == (10.0, 1)
    source.write_text(ELSEWHERE.format(scale=5.0) + "# a word\n")  # no word of a file is left out
    assert ask(tmp_path, cache) == (10.0, 0)


def test_a_file_that_is_younger_and_the_same_is_not_compiled_again(tmp_path):
    """A checkout gives files new times."""
    source, cache = tmp_path / "elsewhere.py", tmp_path / "cache"
    source.write_text(ELSEWHERE.format(scale=3.0))
    assert ask(tmp_path, cache) == (6.0, 0)
    os.utime(source, (2_000_000_000, 2_000_000_000))
    assert ask(tmp_path, cache) == (6.0, 1)


def test_two_checkouts_share_a_folder_and_nothing_else(tmp_path):
    """The same kernel at the same line of a file of the same name, with another constant."""
    cache = tmp_path / "cache"
    for name, scale in (("one", 3.0), ("other", 5.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "elsewhere.py").write_text(ELSEWHERE.format(scale=scale))
        assert ask(tmp_path / name, cache) == (2 * scale, 0)
    assert ask(tmp_path / "one", cache) == (6.0, 1)  # not overwritten by the other
    assert ask(tmp_path / "other", cache) == (10.0, 1)


def test_two_kernels_of_one_name_in_one_file_are_told_apart_by_their_line():
    locators = [compiling._SourcesLocator(function, __file__) for function in (lambda x: x, ask)]
    assert locators[0].get_disambiguator() != locators[1].get_disambiguator()


def test_division_by_zero_and_threads_are_as_promised():
    """NumPy's error model, and no lock held: a kernel that waits for another thread ends."""

    @compiling.kernel()
    def ratio(x):
        return 1 / x

    assert ratio(0.0) == float("inf")
    assert ratio.targetoptions["nogil"] is True
    assert ratio.targetoptions["error_model"] == "numpy"
    assert not ratio.targetoptions["fastmath"]


def test_a_digest_knows_where_names_and_contents_end(tmp_path):
    """Two pairs of files whose names and contents, put together, read the same."""
    files = [tmp_path / name for name in ("a", "ab", "c", "bc")]
    for file, text in zip(files, ("b", "", "x", "x"), strict=True):
        file.write_text(text)
    assert compiling._digest(files[0]) != compiling._digest(files[1])
    assert compiling._digest(files[2]) != compiling._digest(files[3])  # renamed
