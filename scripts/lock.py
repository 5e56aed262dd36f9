"""Write requirements.lock: one pin for all that the book and its tools reach, good for all of `PYTHONS`.

pip resolves for the interpreter that runs it, so its answer may hold a release that an older or a newer
Python cannot install, and may lack what only another Python asks for. Both stand in the metadata of the
answer. Such a release is ruled out, what is lacking is asked for, and pip is asked again, until the answer
serves every Python.

Local version labels (such as torch's +cpu) are dropped, or the lock would install only where it was made.
"""

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
# every release of the lines that the lock serves; a line has had fewer than twenty
PYTHONS = [f"3.{line}.{release}" for line in (11, 12, 13) for release in range(20)]
ROUNDS = 30

Package = Mapping[str, Any]  # metadata: name, version, requires_python, requires_dist


def refusing(packages: Sequence[Package]) -> list[str]:
    """Constraints against the releases that one of the Pythons cannot install."""
    return [
        f"{package['name']}<{Version(package['version']).public}"
        for package in packages
        if not all(python in SpecifierSet(package.get("requires_python", "")) for python in PYTHONS)
    ]


def lacking(packages: Sequence[Package]) -> list[str]:
    """Requirements that hold under one of the Pythons alone and that no package meets."""
    held = {canonicalize_name(package["name"]) for package in packages}
    environments = [
        {**default_environment(), "python_version": python.rpartition(".")[0], "python_full_version": python}
        for python in PYTHONS
    ]
    missing = set()
    for package in packages:
        for wanted in map(Requirement, package.get("requires_dist", [])):
            if canonicalize_name(wanted.name) not in held and any(
                wanted.marker is None or wanted.marker.evaluate({**environment, "extra": ""})
                for environment in environments
            ):
                missing.add(f"{wanted.name}{wanted.specifier}")
    return sorted(missing)


def resolve(wanted: Sequence[str], constraints: Sequence[str]) -> list[Package]:
    """Ask pip what it would install for `wanted`; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        limits, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        limits.write_text("\n".join(constraints))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*pip, "--report", report, "--constraint", limits, *wanted], cwd=ROOT, check=True)
        return [item["metadata"] for item in json.loads(report.read_text())["install"]]


def resolve_for_all() -> list[Package]:
    """Ask again until the answer serves every Python."""
    wanted, constraints = ["torch==2.13.0", ".[book,dev]"], []
    for _ in range(ROUNDS):
        packages = resolve(wanted, constraints)
        refused, missing = refusing(packages), lacking(packages)
        if not refused and not missing:
            return packages
        print("again, with", ", ".join([*refused, *missing]), flush=True)
        constraints += refused
        wanted += missing
    sys.exit(f"expected pins for Python {PYTHONS[0]} to {PYTHONS[-1]} within {ROUNDS} rounds, found none")


def main() -> None:
    packages = [package for package in resolve_for_all() if package["name"] not in ("eventbook", "pip")]
    packages.sort(key=lambda package: package["name"].lower())
    by = f"made by 'make lock' with Python {platform.python_version()}"
    lines = [f"# Every transitive pin, good for Python 3.11, 3.12 and 3.13; {by}."]
    lines += [f"{package['name']}=={Version(package['version']).public}" for package in packages]
    lock = ROOT / "requirements.lock"
    new = lock.with_name("requirements.lock.new")
    new.write_text("\n".join([*lines, ""]))
    new.replace(lock)
    print(f"requirements.lock: {len(packages)} packages")


if __name__ == "__main__":
    main()
