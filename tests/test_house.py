"""Around the book: commands that exist, a lock that installs anywhere, scripts that stop at a fault."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml
from environments import required
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


# --- commands ----------------------------------------------------------------------------------------------


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))


def test_the_two_commands_of_the_readme_are_targets() -> None:
    section = README.partition("## Two commands")[2].partition("\n## ")[0]
    commands = re.findall(r"^make (\w+)", section, re.MULTILINE)
    assert commands == ["book", "test"]
    assert set(commands) <= targets()


def test_every_target_is_phony() -> None:
    """A file of that name would switch the target off."""
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert set(phony.split()) == targets()


def test_commands_in_the_text_exist() -> None:
    """What the pages tell to type after `make`."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "book").glob("*.md")]
    named = {
        target
        for page in pages
        for target in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named
    assert named <= targets()


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    inside = [link for link in links if not link.startswith("http")]
    assert inside
    assert [link for link in inside if not (ROOT / link).exists()] == []


def test_continuous_integration_runs_the_readme() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


# --- strictness --------------------------------------------------------------------------------------------


def first_command(script: str) -> str:
    lines = (line.strip() for line in script.splitlines())
    return next(line for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize(
    "script", [".ci/run", *(f"scripts/{p.name}" for p in (ROOT / "scripts").glob("*.sh"))]
)
def test_scripts_start_strict(script: str) -> None:
    text = (ROOT / script).read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert first_command(text) == "set -euo pipefail"


def test_the_makefile_is_strict() -> None:
    assert re.search(r"^SHELL := bash$", MAKEFILE, re.MULTILINE)
    assert re.search(r"^\.SHELLFLAGS := -euo pipefail -c$", MAKEFILE, re.MULTILINE)


# --- the lock ----------------------------------------------------------------------------------------------

PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([0-9][A-Za-z0-9.!]*)")


def misfits(lock: str) -> list[str]:
    """Lines of a lock that are no plain pin: local versions, files, addresses, options, ranges."""
    lines = [line for line in lock.splitlines() if line and not line.startswith("#")]
    return [line for line in lines if not PIN.fullmatch(line)]


def pins(lock: str) -> dict[str, Version]:
    return {canonicalize_name(name): Version(version) for name, version in PIN.findall(lock)}


def lacking(lock: str, requirements: list[str]) -> list[str]:
    """Requirements that a lock has no pin for, or one that does not satisfy them."""
    pinned = pins(lock)
    missing = []
    for text in requirements:
        wanted = Requirement(text)
        version = pinned.get(canonicalize_name(wanted.name))
        if version is None or version not in wanted.specifier:
            missing.append(text)
    return missing


LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_every_line_of_the_lock_is_a_pin() -> None:
    assert misfits(LOCK) == []
    assert len(pins(LOCK)) == len([line for line in LOCK.splitlines() if not line.startswith("#")])


def test_the_lock_satisfies_the_project_and_its_tools() -> None:
    assert lacking(LOCK, [str(wanted) for wanted in required("book", "dev")]) == []


def test_every_way_to_set_up_installs_the_lock_and_the_machinery() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert environment[-1] == {"pip": ["-r requirements.lock", "-e .[book]"]}  # conda, mamba, Binder
    recipe = MAKEFILE.partition("$(VENV)/.installed: requirements.lock pyproject.toml\n")[2]
    installs = re.findall(r"install (?:--[a-z-]+ )*(.*)", recipe)
    assert installs == ["-r requirements.lock", "'.[book,dev]'"]


def test_versions_that_must_be_so() -> None:
    assert pins(LOCK)["torch"] == Version("2.13.0")
    assert pins(LOCK)["jupyter-book"] < Version("2")


@pytest.mark.parametrize(
    "line",
    [
        "torch==2.13.0+cpu",
        "torch @ file:///wheels/torch.whl",
        "torch @ https://example.org/torch.whl",
        "torch>=2.6",
        "torch",
        "-e .",
        "--index-url https://example.org",
        "torch==2.13.0 --hash=sha256:00",
        "torch==2.*",
    ],
)
def test_a_line_that_is_no_pin_is_found(line: str) -> None:
    assert misfits(f"# made by hand\nnumpy==2.4.6\n{line}\n") == [line]


def test_a_requirement_that_the_lock_lacks_is_found() -> None:
    lock = "jupyter-book==1.0.4.post1\ntypes-PyYAML==6.0\nnumpy==1.26\n"
    wanted = ["jupyter_book>=1.0.4.post1,<2", "types-pyyaml", "numpy>=2.0", "torch>=2.6", "ruff"]
    assert lacking(lock, wanted) == ["numpy>=2.0", "torch>=2.6", "ruff"]


# --- the tree ----------------------------------------------------------------------------------------------

# someone's folder on someone's machine; temporary folders are nobody's
MACHINE_PATH = re.compile(r"(?<![\w.:/~}$-])/(?:home|root|Users|work|mnt)/\w[\w./-]*|\b[A-Z]:\\\\?Users\\")

SAMPLES = {"tests/test_house.py", "tests/pairs/test_pairs.py"}  # made up, to see them found


def files_of_the_tree() -> list[Path]:
    """Files that belong to the project: neither hidden (but for CI), nor built, nor a fork."""
    ignored = {
        line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.endswith("/")
    }
    ignored |= {"forks"}
    found = []
    for folder, names, files in os.walk(ROOT):
        inside = Path(folder).relative_to(ROOT).as_posix()
        names[:] = [
            name
            for name in names
            if name in (".ci", ".github")
            or not (
                name.startswith(".") or {name, f"{inside}/{name}"} & ignored or name.endswith(".egg-info")
            )
        ]
        found += [Path(folder, name) for name in files if name != ".git"]
    return found


def machine_paths(text: str) -> list[str]:
    return [match.group() for match in MACHINE_PATH.finditer(text)]


def test_no_path_of_a_machine_stands_in_the_tree() -> None:
    found = {}
    for path in files_of_the_tree():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # arrays and archives
        name = path.relative_to(ROOT).as_posix()
        if name not in SAMPLES and (places := machine_paths(text)):
            found[name] = places
    assert found == {}


def test_the_walk_sees_the_tree() -> None:
    seen = {path.relative_to(ROOT).as_posix() for path in files_of_the_tree()}
    assert {"README.md", ".ci/run", "src/eventbook/__init__.py", "tests/test_house.py"} <= seen
    assert not any(name.startswith(("_build/", ".venv/", ".git/", "book/_generated/")) for name in seen)


@pytest.mark.parametrize("text", ["cd /home/me/book", "'/root/x'", "(/Users/me)", r"C:\Users\me", "=/work/a"])
def test_a_path_of_a_machine_is_found(text: str) -> None:
    assert machine_paths(text)


@pytest.mark.parametrize(
    "text", ["https://x.org/home/me", "src/root/x", "~/work/a", "/tmp/x", "$ROOT/home/a"]
)
def test_other_paths_are_let_through(text: str) -> None:
    assert not machine_paths(text)
