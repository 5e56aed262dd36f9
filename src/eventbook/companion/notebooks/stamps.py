"""Stamps: one sha256 over everything the outputs of a notebook depend on.

    stamp = sha256(code cells, package sources the code imports, profile and parameters, data manifest, lock
                   [, in the quick profile: ledger, recorded full results])

Package sources enter through the imports: a notebook depends on the modules of ``eventbook`` that its
code reaches, directly or through other modules, and on nothing else. File times never enter.
"""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..files import sha256
from ..project import Chapter
from .notebook_format import NotebookNode

PACKAGE = "eventbook"


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
    shared = [root / "data" / "manifest.yml", root / "requirements.lock"]
    if profile == "quick":
        # what quick outputs show: verdicts, and the recorded full run; a full run only yields values
        shared += [chapter.ledger_path, chapter.project.recorded(chapter.slug)]
    sources = package_sources(code, root / "src" / PACKAGE)
    return sha256(
        [
            *code,
            profile,
            json.dumps(parameters, sort_keys=True),
            *(part for path in sources for part in (path.relative_to(root).as_posix(), path.read_bytes())),
            *(path.read_bytes() if path.is_file() else b"" for path in shared),
        ]
    )


def package_sources(cells: Iterable[str], package: Path) -> list[Path]:
    """Files of the package that code cells reach through their imports, sorted."""
    pending = [module for cell in cells for module in _imported(_tree(cell), ())]
    found: set[Path] = set()
    while pending:
        for path in _files(pending.pop(), package):
            if path not in found:
                found.add(path)
                pending.extend(_imports_of(path, package, path.stat().st_mtime_ns))
    return sorted(found)


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


@functools.cache
def _imports_of(path: Path, package: Path, changed: int) -> tuple[str, ...]:
    """Imported modules of one file; `changed` only keys the cache within a process."""
    inside = path.relative_to(package.parent).with_suffix("").parts
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return ()  # a notebook that imports it will fail and say so
    return tuple(_imported(tree, inside[:-1]))


def _imported(tree: ast.Module, parents: tuple[str, ...]) -> Iterable[str]:
    """Dotted names under the package that a module imports, relative imports resolved against `parents`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE)
        elif isinstance(node, ast.ImportFrom):
            base = list(parents[: len(parents) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            if base and base[0] == PACKAGE:
                yield ".".join(base)
                yield from (".".join([*base, alias.name]) for alias in node.names)


def _files(module: str, package: Path) -> Iterable[Path]:
    """The file of a dotted name and the ``__init__`` files above it; nothing for a name inside a module."""
    folder = package.parent
    for part in module.split("."):
        folder = folder / part
        if (folder / "__init__.py").is_file():
            yield folder / "__init__.py"
        elif folder.with_suffix(".py").is_file():
            yield folder.with_suffix(".py")
