"""Every Python that the project promises can install the lock, and everybody is told the same ones."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from environments import PROJECT, ROOT, closure, required
from packaging.utils import canonicalize_name

PIN = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
LOCKED = PIN.findall((ROOT / "requirements.lock").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    """The script that makes the lock."""
    spec = importlib.util.spec_from_file_location("lock", ROOT / "scripts" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name: str, version: str, python: str = "", *requires: str) -> dict[str, object]:
    return {"name": name, "version": version, "requires_python": python, "requires_dist": list(requires)}


def test_every_pin_installs_on_every_python(lock: ModuleType) -> None:
    """By what the installed packages say themselves: the tests run in the locked environment."""
    installed = [metadata.distribution(name) for name in LOCKED]
    packages = [package(d.name, d.version, d.metadata["Requires-Python"] or "") for d in installed]
    assert lock.refusing(packages) == []


def test_the_pythons_reach_from_the_first_of_3_11(lock: ModuleType) -> None:
    assert lock.PYTHONS[0] == "3.11.0"
    assert {python.rpartition(".")[0] for python in lock.PYTHONS} == {"3.11", "3.12", "3.13"}
    assert "3.11.2" in lock.PYTHONS


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0"])
def test_every_python_finds_a_pin_for_all_it_needs(python: str) -> None:
    needed = set(closure(required("book", "dev"), python))
    assert needed - {canonicalize_name(name) for name in LOCKED} == set()


def test_a_release_that_a_python_cannot_install_is_ruled_out(lock: ModuleType) -> None:
    packages = [
        package("soupsieve", "4.1.2", ">=3.11.5"),
        package("old", "1.0+cpu", "<3.13"),
        package("hole", "2", "!=3.12.1"),
        package("good", "1", ">=3.8"),
        package("silent", "1"),
    ]
    assert lock.refusing(packages) == ["soupsieve<4.1.2", "old<1.0", "hole<2"]


def test_what_another_python_needs_is_asked_for(lock: ModuleType) -> None:
    asks = [
        'aiohttp>=3.9; python_version == "3.12"',
        'Held; python_version >= "3.12"',
        'tomli; python_version < "3.11"',
        'extra-only; extra == "more"',
    ]
    assert lock.lacking([package("papermill", "2.7", "", *asks), package("held", "1")]) == ["aiohttp>=3.9"]


# --- what people are told ----------------------------------------------------------------------------------


def test_the_classifiers_are_known_and_name_the_lines_of_the_lock(lock: ModuleType) -> None:
    from trove_classifiers import classifiers

    assert set(PROJECT["classifiers"]) <= classifiers
    named = {text.rpartition(" ")[2] for text in PROJECT["classifiers"] if "Python :: 3." in text}
    assert named == {python.rpartition(".")[0] for python in lock.PYTHONS}
    assert PROJECT["requires-python"] == ">=3.11"


@pytest.mark.parametrize("page", ["README.md", "book/how_to_rerun.md"])
def test_the_pages_name_the_same_pythons(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert re.findall(r"Python (3\.1\d[^`\n]*?) and `make`", text) == ["3.11, 3.12 or 3.13"]


@pytest.mark.parametrize(
    ("python", "good"),
    [((3, 10, 13), False), ((3, 11, 0), True), ((3, 13, 9), True), ((3, 14, 0), False)],
)
def test_make_refuses_other_pythons_in_one_line(python: tuple[int, ...], good: bool, tmp_path: Path) -> None:
    """The check of the Makefile, run by an interpreter that says it is another."""
    version = ".".join(map(str, python))
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nsys.version_info = {python}\nsys.version = '{version} x'\n"
    )
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (check,) = re.findall(r"\$\(PYTHON\) -c '(.*)'", makefile)
    done = subprocess.run(
        [sys.executable, "-c", check],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if good else 1)
    said = (
        ""
        if good
        else f"expected Python 3.11, 3.12 or 3.13, got {version}; set PYTHON, as in make PYTHON=python3.11\n"
    )
    assert done.stderr == said
