"""The first cell of a chapter in a kernel that does not know the package, as on Colab.

The address of the project leads to a copy of this checkout, the environment holds what a chapter needs but
not the package, and pip is a stand-in that writes down what it was asked for. Nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import jupytext
import nbformat
import pytest
from environments import ROOT, closure, make_environment, required
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

SOURCES = sorted((ROOT / "notebooks").glob("*/*.py"))
NAMES = [path.relative_to(ROOT / "notebooks").as_posix() for path in SOURCES]
WIDTH = 86  # of a page, in characters
ADDRESS = "https://github.com/eventbook/eventbook"

# instead of pip: notes the wish, and links what is wanted from the environment of the tests
PIP = """
import json, os, sys
from pathlib import Path
here = Path(__file__).parents[1]
asked = sys.argv[1:]
limits = Path(asked[asked.index("--constraint") + 1]).read_text().splitlines()
(here / "asked.json").write_text(json.dumps([asked, limits]))
for name, source in json.loads((here / "shelf.json").read_text()).items():
    (here / name).symlink_to(source)
"""


def code_cells(path: Path) -> list[str]:
    return [cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code"]


def test_the_first_cell_is_the_same_everywhere_but_for_the_chapter() -> None:
    texts = {
        path: code_cells(path)[0].replace(f"notebooks/{path.parent.name}", "notebooks/*") for path in SOURCES
    }
    assert len(set(texts.values())) == 1
    (text,) = set(texts.values())
    assert "notebooks/*" in text
    assert ADDRESS in text
    assert len(text.splitlines()) < 20
    assert all(len(line) <= WIDTH for line in text.splitlines())


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_the_book_hides_the_first_cell(path: Path) -> None:
    first = next(cell for cell in jupytext.read(path).cells if cell.cell_type == "code")
    assert first.metadata["tags"] == ["remove-cell"]


# --- in a kernel that does not know the package ------------------------------------------------------------


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the files of this checkout as they are, without the data."""
    folder = tmp_path_factory.mktemp("published") / "eventbook"
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in ("src", "scripts", "notebooks", "results"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, folder)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


@pytest.fixture
def colab(tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, whose kernels find the project at its address and nothing of it anywhere else."""
    for name in [name for name in os.environ if name.startswith(("EVENTBOOK_", "PYTHON"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{published.as_uri()}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", ADDRESS)
    folder = tmp_path / "content"
    folder.mkdir()
    return folder


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an environment with what chapters need, and a stand-in for pip."""
    chapter = closure(required("notebooks"))
    chapter.pop("eventbook", None)
    made = make_environment(tmp_path / "environment", chapter.values())
    pip = packages_of(made) / "pip"
    pip.mkdir()
    (pip / "__main__.py").write_text(PIP)
    return made


def packages_of(python: Path) -> Path:
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    return packages


def take_away(python: Path, name: str) -> None:
    """Put a package of one module onto the shelf, from where the stand-in for pip fetches it."""
    packages = packages_of(python)
    links = [*packages.glob(name), *packages.glob(f"{name}-*.dist-info")]
    assert len(links) == 2
    (packages / "shelf.json").write_text(json.dumps({link.name: str(link.readlink()) for link in links}))
    for link in links:
        link.unlink()


def run_cells(python: Path, folder: Path, *cells: str) -> NotebookNode:
    """Execute cells in one fresh kernel."""
    manager = KernelManager()
    manager.kernel_spec.argv[0] = str(python)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, km=manager, timeout=120, resources={"metadata": {"path": str(folder)}})
    return client.execute()


def imports_of(path: Path) -> str:
    """The first cell after the parameters: what the chapter imports."""
    return code_cells(path)[2]


def printed(notebook: NotebookNode) -> str:
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.outputs)


@pytest.mark.slow
def test_a_kernel_without_the_package_imports_every_chapter(python: Path, colab: Path) -> None:
    """One kernel for all: the first cell is the same everywhere, so it goes on into the other chapters."""
    home = colab / "eventbook-main"
    cells = [code_cells(SOURCES[0])[0], "import os; print(os.getcwd())"]
    for path in SOURCES:
        cells += [f"os.chdir({str(home / 'notebooks' / path.parent.name)!r})", imports_of(path)]
    done = run_cells(python, colab, *cells)
    assert printed(done).split()[0] == str(home / "notebooks" / SOURCES[0].parent.name)
    assert not (packages_of(python) / "asked.json").exists()  # nothing was missing


@pytest.mark.slow
def test_pip_is_asked_for_what_is_missing_and_keeps_the_rest(python: Path, colab: Path) -> None:
    take_away(python, "jaxtyping")
    run_cells(python, colab, code_cells(SOURCES[0])[0], imports_of(SOURCES[0]))
    asked, limits = json.loads((packages_of(python) / "asked.json").read_text())
    assert asked[:3] == ["install", "--quiet", "--constraint"]
    assert asked[4:] == ["jaxtyping>=0.2.36"]
    kept = dict(limit.split("==") for limit in limits)
    installed = {name: d.version for name, d in closure(required("notebooks")).items()}
    assert kept["torch"] == installed["torch"]
    assert kept["numpy"] == installed["numpy"]


@pytest.mark.slow
def test_a_second_run_and_a_restarted_kernel_start_from_what_is_there(python: Path, colab: Path) -> None:
    first = code_cells(SOURCES[0])[0]
    run_cells(python, colab, first, first, imports_of(SOURCES[0]))
    marker = colab / "eventbook-main" / "mine.txt"
    marker.touch()
    run_cells(python, colab, first, imports_of(SOURCES[0]))
    assert marker.exists()  # the clone of before
