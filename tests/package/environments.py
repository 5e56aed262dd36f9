"""Environments that hold exactly what some requirements ask for, made of links to what is installed here.

Nothing is downloaded and nothing copied, so an environment of the core or of a chapter takes a second; and
what was not asked for cannot be imported, because it is not there.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def required(*extras: str) -> list[Requirement]:
    """Requirements of the project with some of its extras, those of extras within extras too."""
    texts, pending = list(PROJECT["dependencies"]), list(extras)
    while pending:
        for text in PROJECT["optional-dependencies"][pending.pop()]:
            wanted = Requirement(text)
            if wanted.name == PROJECT["name"]:
                pending += wanted.extras
            else:
                texts.append(text)
    return [Requirement(text) for text in texts]


def closure(
    requirements: Iterable[Requirement], python: str | None = None
) -> dict[str, metadata.Distribution]:
    """Installed distributions that `requirements` reach, by canonical name.

    Parameters
    ----------
    python
        Version, as ``"3.13.0"``, for which markers are decided; this interpreter's when left out.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        If something that is asked for is not installed.
    """
    environment: Mapping[str, str] = default_environment()
    if python is not None:
        short = ".".join(python.split(".")[:2])
        environment = {**environment, "python_version": short, "python_full_version": python}
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    pending = [(wanted, "") for wanted in requirements]
    while pending:
        wanted, extra = pending.pop()
        if wanted.marker and not wanted.marker.evaluate({**environment, "extra": extra}):
            continue
        name = canonicalize_name(wanted.name)
        found[name] = found.get(name) or metadata.distribution(wanted.name)
        for wish in ("", *wanted.extras):
            if (name, wish) not in seen:
                seen.add((name, wish))
                pending += [(Requirement(text), wish) for text in found[name].requires or []]
    return found


def files_of(distribution: metadata.Distribution) -> list[Path]:
    """Files of a distribution, relative to the folder of the packages; those outside of it are left out."""
    rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
    return [Path(row[0]) for row in rows if not row[0].startswith(("..", "/"))]


@cache
def owners() -> dict[str, set[str]]:
    """Who has files under each name at the top of this environment's packages."""
    found: dict[str, set[str]] = {}
    for distribution in metadata.distributions():
        name = canonicalize_name(distribution.name)
        for file in files_of(distribution):
            found.setdefault(file.parts[0], set()).add(name)
    return found


def make_environment(folder: Path, distributions: Iterable[metadata.Distribution]) -> Path:
    """Create an environment whose packages are links to those of `distributions`; return its interpreter."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for distribution in distributions:
        # a folder of one owner is one link; one that several share, as sphinxcontrib, is linked file by file
        files = files_of(distribution)
        tops = {file: Path(file.parts[0]) for file in files}
        for part in {top if len(owners()[str(top)]) == 1 else file for file, top in tops.items()}:
            source = Path(str(distribution.locate_file(part))).absolute()
            if source.exists():
                link = packages / part
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)
    return folder / "bin" / "python"


def run(python: Path, *arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run an environment's Python as a stranger to the checkout would; data and cache are under `cwd`."""
    strange = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EVENTBOOK_", "PYTHON", "PIP_", "XDG_"))
    }
    return subprocess.run(
        [python, *arguments],
        cwd=cwd,
        env={
            **strange,
            "XDG_DATA_HOME": str(cwd / "share"),
            "EVENTBOOK_CACHE": str(cwd / "cache"),
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def build_wheel(folder: Path) -> Path:
    """Build the project's wheel with the build system that is installed here."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel
