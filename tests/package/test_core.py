"""The wheel with the core dependencies alone: the library works, the book's machinery is not there.

What is not in the environment cannot be imported; so what passes here needs nothing of the extra ``book``.
"""

from __future__ import annotations

import ast
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from environments import ROOT, closure, required, run
from packaging.utils import canonicalize_name

CORE = {"kernels", "models", "learning", "spinnaker", "datasets"}

EXAMPLES = """
import doctest, importlib, pkgutil, sys
ran = 0
for room in sys.argv[1:]:
    package = importlib.import_module("eventbook." + room)
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith("__main__"):
            result = doctest.testmod(importlib.import_module(found.name))
            ran += result.attempted
            assert not result.failed, found.name
print(ran)
"""

WORK = """
import numpy as np
import torch
from eventbook.datasets import load_digits, load_state_of_the_union
from eventbook.kernels.encoders import delta_events
from eventbook.kernels.scans import linear_scan
from eventbook.learning import DeepR
from eventbook.learning.rewiring.mlp_classifier import accuracy, sparse_mlp, train
from eventbook.spinnaker import CORE_BYTES, pack

decay = torch.full((1, 5, 2), 0.5)
states, _ = linear_scan(decay, torch.ones(1, 5, 2))
print(states[0, -1].tolist())
data = {part: load_digits(part) for part in ("train", "test")}
x = {part: torch.from_numpy(d.images.reshape(len(d), -1).astype(np.float32)) / 16 for part, d in data.items()}
t = {part: torch.from_numpy(d.labels) for part, d in data.items()}
model = sparse_mlp([64, 32, 10], [0.2, 0.5])
train(model, DeepR(model, lr=0.1, l1=1e-5), x["train"], t["train"], batch_size=10, epochs=5)
print(accuracy(model, x["test"], t["test"]) > 0.8)
print(sum(len(pack(layer)) for layer in model if hasattr(layer, "theta")) < CORE_BYTES)
print(len(load_state_of_the_union().vocabulary))
"""


def out_of(python: Path, *arguments: str, cwd: Path, **variables: str) -> str:
    done = run(python, *arguments, cwd=cwd, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_carries_what_a_library_needs_and_no_more(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        about = archive.read("eventbook-0.1.0.dist-info/METADATA").decode()
        manifest = archive.read("eventbook/datasets/manifest.yml")
    assert manifest == (ROOT / "data" / "manifest.yml").read_bytes()
    assert {"eventbook/py.typed", "eventbook-0.1.0.dist-info/licenses/LICENSE"} <= names
    assert {name.split("/")[0] for name in names} == {"eventbook", "eventbook-0.1.0.dist-info"}
    assert "Classifier: Typing :: Typed\n" in about
    assert "License-Expression: MIT\n" in about
    assert wheel.stat().st_size < 1_000_000  # the data stay outside


def test_the_core_is_small() -> None:
    core, book = set(closure(required())), set(closure(required("book")))
    assert core < book
    assert len(core) <= 32
    tools = {"jupyter-book", "papermill", "snakemake", "typer", "rich", "matplotlib", "seaborn", "ipykernel"}
    assert tools <= book - core


@pytest.mark.slow
def test_kernels_learning_spinnaker_and_packaged_data_work(core: Path, tmp_path: Path) -> None:
    assert out_of(core, "-c", WORK, cwd=tmp_path).splitlines() == [
        "[1.9375, 1.9375]",
        "True",
        "True",
        "10002",
    ]


@pytest.mark.slow
def test_every_example_runs(core: Path, tmp_path: Path) -> None:
    """Also those of the sets that a checkout holds, from a directory that the user names."""
    for folder in ("mnist/MNIST", "fsdd", "davis346", "cad_parts"):
        (tmp_path / Path(folder).name).symlink_to(ROOT / "data" / folder)
    rooms = sorted(room for room in CORE if (ROOT / "src" / "eventbook" / room).is_dir())
    ran = out_of(core, "-c", EXAMPLES, *rooms, cwd=tmp_path, EVENTBOOK_DATA=str(tmp_path))
    assert int(ran) >= 40


@pytest.mark.slow
def test_nothing_of_the_book_can_be_imported(core: Path, tmp_path: Path) -> None:
    missing = set(closure(required("book"))) - set(closure(required()))
    asked = "from importlib import metadata; print(*(d.name for d in metadata.distributions()))"
    here = {canonicalize_name(name) for name in out_of(core, "-c", asked, cwd=tmp_path).split()}
    assert here & missing == set()
    assert here == {*closure(required()), "eventbook"}


@pytest.mark.slow
@pytest.mark.parametrize("command", [[], ["--help"], ["run"], ["doctor"]])
def test_the_program_says_which_extra_it_needs(core: Path, tmp_path: Path, command: list[str]) -> None:
    done = run(core, str(core.with_name("eventbook")), *command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: expected the package that holds typer, found none: this needs the machinery of the book, "
        "pip install 'eventbook[book]' ('eventbook data' works without it)\n"
    )


@pytest.mark.slow
def test_with_the_extra_the_doctor_looks_at_what_there_is(book: Path, tmp_path: Path) -> None:
    """Outside a checkout there are no chapters, and that is no fault."""
    said = out_of(book, str(book.with_name("eventbook")), "doctor", cwd=tmp_path)
    assert {line.split()[0] for line in said.splitlines()} == {"ok", "note"}
    assert "note     chapters: no checkout of the project here" in said
    assert "ok       data digits: package scikit-learn" in said
    assert "note     data mnist: MNIST/raw/" in said
    assert "run `eventbook data get mnist`" in said


@pytest.mark.slow
def test_data_commands_need_no_extra(core: Path, tmp_path: Path) -> None:
    eventbook = str(core.with_name("eventbook"))
    listed = out_of(core, eventbook, "data", "list", cwd=tmp_path)
    here = {line.split("\t")[0]: line.split("\t")[3] for line in listed.splitlines()}
    assert here == {
        **dict.fromkeys(["digits", "state_of_the_union"], "yes"),
        **dict.fromkeys(["mnist", "fashion_mnist", "spoken_digits", "davis346", "cad_parts"], "no"),
        **dict.fromkeys(["state_of_the_union_egru", "state_of_the_union_lstm"], "no"),
    }
    folder = tmp_path / "share" / "eventbook"
    row = next(line for line in listed.splitlines() if line.startswith("davis346"))
    assert row.endswith(f"nor in {folder}: run `eventbook data get davis346`")
    refused = run(core, eventbook, "data", "get", "davis346", cwd=tmp_path, https_proxy="http://127.0.0.1:9")
    assert (refused.returncode, refused.stdout) == (2, "")
    address = "https://github.com/eventbook/eventbook/raw/main/data/davis346/davis346_aedat.npz"
    assert refused.stderr.startswith(f"error: {address}: cannot be reached")
    assert refused.stderr.count("\n") == 1
    assert not list(folder.rglob("*.npz"))


# --- what is declared --------------------------------------------------------------------------------------


def imported(paths: list[Path]) -> dict[str, str]:
    """Top-level modules that files import, and a file that does."""
    found = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            found |= {name.split(".")[0]: path.name for name in names}
    return {name: path for name, path in found.items() if name not in {*sys.stdlib_module_names, "eventbook"}}


def undeclared(modules: dict[str, str], *extras: str) -> dict[str, str]:
    """Modules of packages that the project does not name among its requirements."""
    declared = {canonicalize_name(wanted.name) for wanted in required(*extras)}
    holders = metadata.packages_distributions()
    return {
        module: path
        for module, path in modules.items()
        if not declared & {canonicalize_name(name) for name in holders.get(module, [])}
    }


def sources(rooms: set[str]) -> list[Path]:
    package = ROOT / "src" / "eventbook"
    return [path for room in rooms for path in (package / room).rglob("*.py")]


def test_the_core_declares_what_it_imports_and_nothing_else() -> None:
    modules = imported(sources(CORE))
    assert undeclared(modules) == {}
    holders = metadata.packages_distributions()
    used = {canonicalize_name(name) for module in modules for name in holders[module]}
    assert {canonicalize_name(wanted.name) for wanted in required()} - used == set()


def test_the_book_declares_what_it_imports() -> None:
    assert undeclared(imported(sources({"companion"})), "book") == {}


def test_chapters_declare_what_their_cells_import() -> None:
    assert undeclared(imported(sorted((ROOT / "notebooks").rglob("*.py"))), "notebooks") == {}


def asked_for(paths: list[Path]) -> set[tuple[str, str]]:
    """Modules that files import only when used, with the extra that they name to the user."""
    calls = [
        node
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "extra_module"
    ]
    return {tuple(ast.literal_eval(argument) for argument in call.args) for call in calls}


def test_extras_declare_what_is_imported_on_use() -> None:
    """By the name of the package, which is that of the module: the packages need not be installed here."""
    asked = {(name.partition(".")[0], extra) for name, extra in asked_for(sources(CORE))}
    assert asked == {("h5py", "originals"), ("pyarrow", "originals"), ("tonic", "originals")}
    for module, extra in asked:
        assert module in {canonicalize_name(wanted.name) for wanted in required(extra)}
