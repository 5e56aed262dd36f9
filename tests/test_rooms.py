"""The walls of the house: which room may import which, and each test beside what it tests.

Rooms are listed from the ground up; a room imports from rooms below it and from nothing else of the package.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src"
PACKAGE = "eventbook"

# what each room of the package may import besides itself
ROOMS = {
    "kernels": set(),
    "datasets": {"kernels"},
    "models": {"kernels"},
    "learning": {"kernels", "models"},
    "spinnaker": {"kernels", "models", "learning"},
    "companion": set(),
}
# floors of a room, lowest first: each imports from itself and those below
FLOORS = {
    "kernels": [{"machinery"}, {"scans", "events", "encoders", "rewiring"}],
    "datasets": [
        {"storage"},
        {"options", "mnist", "spoken_digits", "davis", "weights"},
        {"digits", "streams", "points", "text"},
        {"__main__"},
    ],
    "companion": [
        {"errors"},
        {"files", "yaml_lines"},
        {"project"},
        {"notebooks"},
        {"execution"},
        {"ledger"},
        {"book"},
        {"variants", "notebook"},
        {"checks"},
        {"doctor"},
        {"cli"},
        {"__main__"},
    ],
}
# where the command line reaches the data sets, which stand apart from the companion
DOORS = {("companion.__main__", "datasets"), ("companion.cli", "datasets"), ("companion.doctor", "datasets")}


def imports_of(path: Path, sources: Path = SOURCES) -> set[str]:
    """Dotted names below the package that a file imports, wherever in the file."""
    parents = path.relative_to(sources).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(parents[: len(parents) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        found |= {name.partition(".")[2] for name in names if name.split(".")[0] == PACKAGE}
    return found - {""}


def wrong_ways(sources: Path = SOURCES) -> list[str]:
    """Imports that point upwards or into a room that is none of their business."""
    wrong = []
    for path in sorted((sources / PACKAGE).rglob("*.py")):
        module = ".".join(path.relative_to(sources / PACKAGE).with_suffix("").parts)
        room, _, inside = module.partition(".")
        if room == "__init__":
            continue
        for name in sorted(imports_of(path, sources)):
            other, _, deeper = name.partition(".")
            if other != room:
                if other in ROOMS and other not in ROOMS[room] and (module, other) not in DOORS:
                    wrong.append(f"{module} imports {name}")
            elif room in FLOORS and inside != "__init__":
                floors = FLOORS[room]
                own, its = (floor_of(floors, part.split(".")[0]) for part in (inside, deeper))
                same = inside.split(".")[0] == deeper.split(".")[0]
                if not same and (own is None or its is None or its >= own):
                    wrong.append(f"{module} imports {name}")
    return wrong


def floor_of(floors: list[set[str]], name: str) -> int | None:
    return next((number for number, floor in enumerate(floors) if name in floor), None)


def test_arrows_point_one_way() -> None:
    assert wrong_ways() == []


def test_every_room_is_on_the_plan() -> None:
    rooms = {path.name for path in (SOURCES / PACKAGE).iterdir() if (path / "__init__.py").is_file()}
    assert rooms <= set(ROOMS)
    for room, floors in FLOORS.items():
        here = {path.stem for path in (SOURCES / PACKAGE / room).iterdir() if path.name != "__init__.py"}
        assert here - {"__pycache__"} == set.union(*floors)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("kernels/machinery/lanes.py", "from eventbook.kernels.scans import event"),
        ("kernels/scans/event.py", "from eventbook.kernels.encoders.events import EVENT"),
        ("kernels/scans/event.py", "from eventbook.learning import DeepR"),
        ("companion/project.py", "from .notebooks.pairs import read_source"),
        ("companion/ledger/claims.py", "def f():\n    from ..book import tables"),
        ("companion/book/tables.py", "import eventbook.learning.rewiring"),
        ("datasets/mnist.py", "from eventbook.companion.files import write_json"),
        ("datasets/storage/store.py", "from eventbook.datasets.mnist import load_mnist"),
        ("datasets/points/sets.py", "from eventbook.datasets.streams.event_streams import EventStreams"),
        ("learning/rewiring/deep_r.py", "from ...datasets import load_mnist"),
    ],
)
def test_an_arrow_the_wrong_way_is_found(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    assert wrong_ways(tmp_path)


# tests of several files together, or of files by another name than their own
TOGETHER = {
    "datasets/test_build_cad_parts.py",
    "datasets/test_build_mnist.py",
    "datasets/test_data_commands.py",
    "datasets/test_independence.py",
    "datasets/test_train_language_models.py",
    "kernels/encoders/test_event_array.py",
    "kernels/machinery/test_any_input.py",
    "kernels/scans/test_scan_doors.py",
}


def test_tests_mirror_the_sources() -> None:
    """`tests/a/b/test_c.py` tests `src/eventbook/a/b/c.py`, or a room or a step of it by that name."""
    lost = []
    for room in ROOMS:
        for path in sorted((ROOT / "tests" / room).rglob("test_*.py")):
            inside = path.relative_to(ROOT / "tests")
            folder, name = SOURCES / PACKAGE / inside.parent, path.stem.removeprefix("test_")
            stems = {p.stem for p in folder.glob("*.py")} | {p.name for p in folder.iterdir() if p.is_dir()}
            if inside.as_posix() not in TOGETHER and not any(_about(name, stem) for stem in stems):
                lost.append(inside.as_posix())
    assert lost == []


def _about(test: str, stem: str) -> bool:
    return test == stem or test.endswith(f"_{stem}") or test.startswith(f"{stem}_")
