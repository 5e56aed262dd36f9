"""Stamps change with what outputs depend on, and with nothing else."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest
from tiny_project import REPOSITORY, edit

from eventbook.companion.execution.jobs import plan
from eventbook.companion.notebooks.stamps import package_sources
from eventbook.companion.project import Project
from eventbook.companion.yaml_lines import load_yaml

MODULES = {
    "__init__": "",
    "companion/__init__": "",
    "companion/notebook": "from .values import record\n",
    "companion/values": "record = 1\n",
    "companion/unused": "",
    "kernels/__init__": '"""A door."""\nfrom . import fast\nfrom .slow import crawl as creep\n'
    '__all__ = ["fast"]\n',
    "kernels/scan": "import eventbook.deep.inner\n",
    "kernels/fast": "",
    "kernels/slow": 'crawl = read("snails")\n',
    "deep/__init__": "depth = 3\n",
    "deep/inner": "import numpy\nfrom eventbook.kernels import creep\n",
}


@pytest.fixture
def package(tiny: Project) -> Path:
    folder = tiny.root / "src" / "eventbook"
    for name, text in MODULES.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def reached(package: Path, *cells: str) -> set[str]:
    return {path.relative_to(package).with_suffix("").as_posix() for path in package_sources(cells, package)}


def test_imports_are_followed(package: Path) -> None:
    assert reached(package, "from eventbook.companion.notebook import record") == {
        *("companion/notebook", "companion/values")
    }
    assert reached(package, "from eventbook.kernels.scan import scan") == {
        *("kernels/scan", "kernels/slow", "deep/__init__", "deep/inner")
    }
    assert reached(package, "import numpy, eventbook.kernels.slow as s") == {"kernels/slow"}
    assert reached(package, "from eventbook.companion import unused") == {"companion/unused"}
    assert reached(package, "from eventbook.deep import inner") == {
        *("deep/__init__", "deep/inner", "kernels/slow")
    }
    assert reached(package, "from eventbook.deep import depth") == {"deep/__init__"}
    assert reached(package, "import numpy") == set()


def test_doors_are_looked_through(package: Path) -> None:
    assert reached(package, "from eventbook.kernels import creep") == {"kernels/slow"}
    assert reached(package, "from eventbook.kernels import fast") == {"kernels/fast"}
    assert reached(package, "from eventbook.kernels import fast, creep") == {"kernels/fast", "kernels/slow"}
    assert reached(package, "from eventbook.kernels import unknown") == {"kernels/fast", "kernels/slow"}


@pytest.mark.parametrize(
    "cell",
    [
        "import eventbook.kernels",
        "import eventbook.kernels as k",
        "from eventbook import kernels",
        "from eventbook.kernels import *",
    ],
)
def test_a_room_as_a_whole_is_all_that_its_door_passes_on(package: Path, cell: str) -> None:
    assert reached(package, cell) == {"kernels/fast", "kernels/slow"}


@pytest.mark.parametrize(
    "line", ["def crawl(): pass", "speed = 3", "__speed__ = set_up()", "print()", "a.__b__ = 3"]
)
def test_an_init_that_does_something_is_no_door(package: Path, line: str) -> None:
    door = package / "kernels" / "__init__.py"
    assert "kernels/__init__" not in reached(package, "from eventbook.kernels import creep")
    door.write_text(door.read_text() + line + "\n")
    assert "kernels/__init__" in reached(package, "from eventbook.kernels import creep")
    assert "kernels/__init__" in reached(package, "import eventbook.kernels.slow")


@pytest.mark.parametrize(
    "cell",
    [
        "%matplotlib inline\nimport eventbook.kernels.slow",
        "if True:\n    %timeit 1\n    import eventbook.kernels.slow",
        "%%time\nimport eventbook.kernels.slow",
        "!ls\nimport eventbook.kernels.slow",
        "a = (7\n% 2)\nimport eventbook.kernels.slow",
        "def f():\n    import eventbook.kernels.slow",
    ],
)
def test_magics_do_not_hide_imports(package: Path, cell: str) -> None:
    assert "kernels/slow" in reached(package, cell)


def test_what_is_not_python_imports_nothing(package: Path) -> None:
    assert reached(package, "import eventbook.kernels.slow = 1") == set()
    assert reached(package, "%%bash\necho 'import' eventbook") == set()
    (package / "kernels" / "slow.py").write_text("this is not python")
    assert "kernels/slow" in reached(package, "import eventbook.kernels.slow")


def stamps(project: Project, profile: str = "quick") -> dict[str, str]:
    return {job.notebook: job.stamp for job in plan(Project.find().chapter("tiny"), profile)}


@pytest.mark.parametrize(
    ("path", "old", "new", "changed"),
    [
        ("notebooks/tiny/one.py", "steps * numerator / 6", "steps * numerator / 7", {"one"}),
        ("notebooks/tiny/one.py", "# # One", "# # First", set()),
        ("notebooks/tiny/one.py", "A line", "The line", set()),
        ("notebooks/tiny/claims.yml", "threshold: 4", "threshold: 5", {"one", "two"}),
        ("data/manifest.yml", "version: 1", "version: 2", {"one", "two"}),
        ("data/manifest.yml", "snails: 1", "snails: 2", {"one"}),
        ("data/manifest.yml", "dice: 6", "dice: 7", {"two"}),
        ("data/manifest.yml", "  stars: 9\n", "", set()),
        ("data/manifest.yml", "  stars: 9\n", "  stars: 9\n  moons: 1\n", set()),
        ("data/manifest.yml", "datasets:", "data sets:", {"one", "two"}),
        ("requirements.lock", "1.0", "1.1", {"one", "two"}),
        ("src/eventbook/companion/values.py", "1", "2", {"one", "two"}),
        ("src/eventbook/companion/unused.py", "", "# new\n", set()),
        ("src/eventbook/kernels/__init__.py", '["fast"]', '["fast", "creep"]', set()),
        ("src/eventbook/kernels/fast.py", "", "# new\n", set()),
        ("src/eventbook/kernels/slow.py", "read", "load", {"one"}),
        ("README.md", "# tiny", "# other", set()),
        ("_toc.yml", "tiny/two", "tiny/twice", set()),
    ],
)
def test_what_makes_a_notebook_stale(
    tiny: Project, package: Path, path: str, old: str, new: str, changed: set[str]
) -> None:
    (tiny.root / "data/manifest.yml").write_text(
        "version: 1\ndatasets:\n  snails: 1\n  dice: 6\n  stars: 9\n"
    )
    edit(tiny.root / "notebooks/tiny/one.py", "half = ", "from eventbook.kernels import creep\nhalf = ")
    edit(tiny.root / "notebooks/tiny/two.py", "record(total", 'fetch("dice")\nrecord(total')
    before = stamps(tiny)
    edit(tiny.root / path, old, new) if old else (tiny.root / path).write_text(new)
    after = stamps(tiny)
    assert {name for name in after if after[name] != before[name]} == changed


def test_recorded_results_belong_to_the_quick_profile(tiny: Project) -> None:
    quick, full = stamps(tiny), stamps(tiny, "full")
    assert all(quick[name] != full[name] for name in quick)
    path = tiny.recorded("tiny")
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert all(stamps(tiny)[name] != quick[name] for name in quick)
    assert stamps(tiny, "full") == full


def test_parameters_enter_and_file_times_do_not(tiny: Project) -> None:
    chapter = tiny.chapter("tiny")
    plain, other = plan(chapter), plan(chapter, overrides={"offset": 1})
    assert plain[0].stamp == other[0].stamp, "one has no such parameter"
    assert plain[1].stamp != other[1].stamp
    before = stamps(tiny)
    for item in tiny.root.rglob("*"):
        os.utime(item, (1, 1))
    assert stamps(tiny) == before


def test_loaders_name_their_data_sets_in_full() -> None:
    """Or a changed entry of the manifest would not reach the notebooks that use it."""
    package = REPOSITORY / "src" / "eventbook"
    modules = [
        path.relative_to(package.parent).with_suffix("") for path in package.glob("datasets/**/[!_]*.py")
    ]
    loaders = ["import " + ".".join(module.parts) for module in modules]
    words = {
        node.value
        for path in package_sources(loaders, package)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
    }
    names = set(load_yaml(REPOSITORY / "data" / "manifest.yml")["datasets"])
    assert names
    assert names <= words
