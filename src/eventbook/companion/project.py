"""Where things are: the project's folders, its chapters, and the paths of their runs.

A *chapter* is a folder of notebook pairs with a ledger. Chapters of the book live in ``notebooks/<slug>``,
forks of them in ``forks/<name>``; both are handled by the same code, told apart by their `label`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import UserError
from .yaml_lines import load_yaml


@dataclass(frozen=True)
class Chapter:
    """A folder of notebook pairs.

    Attributes
    ----------
    label
        Path under ``_build/runs/<variant>/``: the slug for a chapter, ``forks/<name>`` for a fork.
    folder
        The folder that holds ``<notebook>.py``, ``<notebook>.ipynb`` and ``claims.yml``.
    slug
        The chapter of the book; for a fork, the chapter it was made from.
    """

    label: str
    folder: Path
    slug: str
    project: Project

    @cached_property
    def notebooks(self) -> list[str]:
        """Names of the notebooks, in the order of the book's table of contents, then by name."""
        names = sorted(path.stem for path in self.folder.glob("[!.]*.py"))
        if not names:
            raise UserError(f"{self.folder}: expected notebooks (<name>.py in percent format), found none")
        order = self.project.toc_pages
        place = {
            name: order.index(page) for name in names if (page := f"notebooks/{self.slug}/{name}") in order
        }
        return sorted(names, key=lambda name: (place.get(name, len(order)), name))

    @property
    def ledger_path(self) -> Path:
        return self.folder / "claims.yml"

    @property
    def is_fork(self) -> bool:
        return self.label != self.slug

    @cached_property
    def title(self) -> str:
        """First heading of the chapter's opening page, or the label."""
        page = self.folder / "index.md"
        if page.is_file():
            for line in page.read_text(encoding="utf-8").splitlines():
                if line.startswith("# "):
                    return line[2:].strip()
        return self.label

    def source(self, notebook: str) -> Path:
        return self.folder / f"{notebook}.py"

    def pair(self, notebook: str) -> Path:
        return self.folder / f"{notebook}.ipynb"


@dataclass(frozen=True)
class Project:
    """The project's root and its build folder."""

    root: Path
    build: Path

    @classmethod
    def find(cls) -> Project:
        """The project around the working directory, or the one EVENTBOOK_ROOT names.

        Raises
        ------
        UserError
            If no folder upwards from the working directory holds ``_config.yml`` and ``notebooks/``.
        """
        named = os.environ.get("EVENTBOOK_ROOT")
        candidates = [Path(named)] if named else [Path.cwd(), *Path.cwd().parents, Path(__file__).parents[3]]
        for folder in candidates:
            if (folder / "_config.yml").is_file() and (folder / "notebooks").is_dir():
                root = folder.resolve()
                build = Path(os.environ.get("EVENTBOOK_BUILD") or root / "_build").absolute()
                return cls(root, build)
        place = f"EVENTBOOK_ROOT={named}" if named else f"or above {candidates[0]}"
        raise UserError(
            f"expected a folder with _config.yml and notebooks/ at {place}, found none; "
            "change into the project or set EVENTBOOK_ROOT"
        )

    @cached_property
    def toc_pages(self) -> list[str]:
        """Pages of the table of contents, in reading order, without suffix."""
        pages: list[str] = []

        def walk(node: Any) -> None:
            if isinstance(node, dict):
                pages.extend(str(node[key]) for key in ("root", "file") if key in node)
                for value in node.values():
                    walk(value)
            elif isinstance(node, list):
                for item in node:
                    walk(item)

        walk(load_yaml(self.root / "_toc.yml"))
        return pages

    def chapters(self) -> list[Chapter]:
        """The book's chapters, in reading order."""
        folders = [path for path in (self.root / "notebooks").iterdir() if (path / "claims.yml").is_file()]
        first = {
            page.split("/")[1]: i
            for i, page in reversed(list(enumerate(self.toc_pages)))
            if page.startswith("notebooks/")
        }
        folders.sort(key=lambda path: (first.get(path.name, len(first) + len(self.toc_pages)), path.name))
        return [Chapter(path.name, path, path.name, self) for path in folders]

    def chapter(self, slug: str) -> Chapter:
        """One chapter by its slug; an unknown slug lists the known ones."""
        known = self.chapters()
        for chapter in known:
            if chapter.slug == slug:
                return chapter
        raise UserError(
            f"unknown chapter {slug!r}; the book has: {', '.join(c.slug for c in known) or 'none'}"
        )

    def runs(self, variant: str, label: str) -> Path:
        """Folder of executed notebooks: ``_build/runs/<variant>/<label>``."""
        return self.build / "runs" / variant / label

    def recorded(self, slug: str) -> Path:
        """File of recorded full-profile results."""
        return self.root / "results" / "full" / f"{slug}.json"

    def shown(self, path: Path) -> str:
        """`path` as a person would type it: relative to the root where possible."""
        return os.path.relpath(path, self.root) if path.is_relative_to(self.root) else str(path)
