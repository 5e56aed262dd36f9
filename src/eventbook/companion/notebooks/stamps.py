"""Stamps: one sha256 over everything the outputs of a notebook depend on.

    stamp = sha256(code cells, package sources the code imports, profile and parameters, data sets they name,
                   lock [, in the quick profile: ledger, recorded full results])

Package sources enter through the imports: a notebook depends on the modules of ``eventbook`` that its
code reaches, directly or through other modules, and on nothing else. A door, an ``__init__`` that only passes
names on, is looked through: who imports `load_mnist` from a room depends on the module that defines it, and a
new name in the door changes nothing. Of the data manifest enter the entries whose names stand as words in the
code that is reached. File times never enter.
"""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import sha256
from ..project import Chapter
from ..yaml_lines import load_yaml
from .notebook_format import NotebookNode

PACKAGE = "eventbook"

# (module, name): `from module import name`; without a name, `import module` or `from module import *`
Import = tuple[str, str | None]


def stamp(chapter: Chapter, notebook: NotebookNode, profile: str, parameters: Mapping[str, Any]) -> str:
    """Hex digest of everything that the outputs of `notebook` depend on.

    Parameters
    ----------
    chapter
        The chapter (or fork) that holds the notebook.
    notebook
        The source as read by `eventbook.companion.notebooks.pairs.read_source`.
    profile
        ``quick`` or ``full``.
    parameters
        The overrides that will be injected.
    """
    root = chapter.project.root
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    shared = [root / "requirements.lock"]
    if profile == "quick":
        # what quick outputs show: verdicts, and the recorded full run; a full run only yields values
        shared += [chapter.ledger_path, chapter.project.recorded(chapter.slug)]
    package = root / "src" / PACKAGE
    sources = package_sources(code, package)
    words = frozenset().union(
        *(_words(_tree(cell)) for cell in code), *(_read(path, package).words for path in sources)
    )
    return sha256(
        [
            *code,
            profile,
            json.dumps(parameters, sort_keys=True),
            *(part for path in sources for part in (path.relative_to(root).as_posix(), path.read_bytes())),
            manifest_entries(root / "data" / "manifest.yml", words),
            *(path.read_bytes() if path.is_file() else b"" for path in shared),
        ]
    )


def manifest_entries(path: Path, words: Container[str]) -> str:
    """The data manifest without the data sets that none of `words` names, as JSON; empty without a manifest.

    A manifest that is none is a matter for its readers: here its text enters whole.
    """
    if not path.is_file():
        return ""
    try:
        manifest = load_yaml(path)
        entries = {name: entry for name, entry in manifest["datasets"].items() if name in words}
        return json.dumps({**manifest, "datasets": entries}, sort_keys=True, default=str)
    except (UserError, TypeError, KeyError, AttributeError):
        return path.read_text(encoding="utf-8", errors="replace")


def package_sources(cells: Iterable[str], package: Path) -> list[Path]:
    """Files of the package that code cells reach through their imports, doors left out, sorted."""
    pending = [item for cell in cells for item in _imported(_tree(cell), ())]
    seen: set[Import] = set()
    found: set[Path] = set()
    while pending:
        item = pending.pop()
        if item not in seen:
            seen.add(item)
            files, further = _follow(*item, package)
            pending += further
            for path in files:
                if path not in found:
                    found.add(path)
                    pending += _read(path, package).imports
    return sorted(found)


def _follow(module: str, name: str | None, package: Path) -> tuple[list[Path], list[Import]]:
    """What one import executes besides doors, and the imports that a door passes it on to."""
    parts = module.split(".")
    chain = [_file(parts[:depth], package) for depth in range(1, len(parts) + 1)]
    files = [path for path in chain if path is not None and not _read(path, package).is_door]
    if (last := chain[-1]) is None:
        return files, []  # there is no such module; its kernel will say so
    inside: list[Import] = []
    if name is not None and _file([*parts, name], package) is not None:
        inside = [(f"{module}.{name}", None)]
    source = _read(last, package)
    if not source.is_door:
        return files, inside
    origin = source.passes.get(name or "")
    if origin is not None and origin != (module, name):
        return files, [origin]
    # a room as a whole can be asked for any of its names
    return files, inside or list(source.imports)


def _file(parts: Sequence[str], package: Path) -> Path | None:
    """The file of a dotted name, or None."""
    path = package.parent.joinpath(*parts)
    return next((p for p in (path / "__init__.py", path.with_suffix(".py")) if p.is_file()), None)


@dataclass(frozen=True)
class _Source:
    """What stands in a file of the package.

    Attributes
    ----------
    imports
        What it imports from the package, wherever in the file.
    words
        Its strings, of which some name data sets.
    is_door
        True for an ``__init__`` that only passes names on.
    passes
        Where the names of a door come from.
    """

    imports: tuple[Import, ...] = ()
    words: frozenset[str] = frozenset()
    is_door: bool = False
    passes: Mapping[str, Import] = field(default_factory=dict)


def _read(path: Path, package: Path) -> _Source:
    return _parsed(path, package, path.stat().st_mtime_ns)


@functools.cache
def _parsed(path: Path, package: Path, changed: int) -> _Source:
    """One file; `changed` only keys the cache within a process."""
    parents = path.relative_to(package.parent).parts[:-1]
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return _Source()  # a notebook that imports it will fail and say so
    is_door = path.name == "__init__.py" and all(map(_passes_on, tree.body))
    passes = {
        alias.asname or alias.name: (base, alias.name)
        for node in tree.body
        if is_door and isinstance(node, ast.ImportFrom) and (base := _base(node, parents))
        for alias in node.names
    }
    return _Source(tuple(_imported(tree, parents)), _words(tree), is_door, passes)


def _passes_on(node: ast.stmt) -> bool:
    """True for what a door is made of: text, imports, and constants such as ``__all__``."""
    if isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        constant = all(isinstance(part, ast.Constant | ast.List | ast.Load) for part in ast.walk(node.value))
        return constant and len(names) == len(node.targets) and all(n.startswith("__") for n in names)
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return text or isinstance(node, ast.Import | ast.ImportFrom)


def _tree(cell: str) -> ast.Module:
    """Syntax tree of a cell, magics translated; empty if it is not Python, which its kernel will say."""
    if cell.startswith("%%"):  # such as %%time: the lines below are code
        cell = cell.partition("\n")[2]
    try:
        return ast.parse(cell)
    except (SyntaxError, ValueError):
        from IPython.core.inputtransformer2 import TransformerManager
    try:
        return ast.parse(TransformerManager().transform_cell(cell))
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _words(tree: ast.Module) -> frozenset[str]:
    return frozenset(
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _imported(tree: ast.Module, parents: Sequence[str]) -> Iterator[Import]:
    """Imports from the package, relative ones resolved against the folders `parents`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if alias.name.split(".")[0] == PACKAGE)
        elif isinstance(node, ast.ImportFrom) and (base := _base(node, parents)):
            yield from ((base, None if alias.name == "*" else alias.name) for alias in node.names)


def _base(node: ast.ImportFrom, parents: Sequence[str]) -> str:
    """The module that a ``from ... import`` names, or nothing if it is none of the package."""
    base = list(parents[: len(parents) - node.level + 1]) if node.level else []
    base += node.module.split(".") if node.module else []
    return ".".join(base) if base and base[0] == PACKAGE else ""
