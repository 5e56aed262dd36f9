"""Small books outside the book: the page that compares a fork, the page that shows a sweep.

Each is staged as a Jupyter Book of its own with the look of the book, its glossary and its bibliography,
and rendered under ``_build``. The notebooks keep their place in the tree, so their links keep working.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ..notebooks.notebook_format import NotebookNode
from ..project import Project
from ..yaml_lines import load_yaml
from .dark import twins
from .render import jupyter_book, publish

SHARED = ("book/glossary", "book/bibliography")


def stage_and_render(
    project: Project,
    target: Path,
    title: str,
    pages: Mapping[str, str],
    notebooks: Mapping[str, Path],
    images: Mapping[str, bytes],
) -> Path:
    """Render a small book.

    Parameters
    ----------
    target
        Folder of the result; the pages go to ``target/html``.
    title
        Title of the small book.
    pages
        MyST text by page name; the first is the opening page.
    notebooks
        Executed notebooks by page name.
    images
        Files by path in the staged tree.

    Returns
    -------
    Path
        The opening page as HTML.
    """
    source = target / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    shutil.copytree(project.root / "book" / "_static", source / "book" / "_static", dirs_exist_ok=True)
    shutil.copy(project.root / "book" / "references.bib", source / "book" / "references.bib")
    shared = [page for page in SHARED if (project.root / f"{page}.md").is_file()]
    for page in shared:
        shutil.copy(project.root / f"{page}.md", source / f"{page}.md")
    for page, text in pages.items():
        path = source / f"{page}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for page, path in notebooks.items():
        (source / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, source / f"{page}.ipynb")
    for name, data in images.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    root, *rest = pages
    contents: dict[str, Any] = {"format": "jb-book", "root": root}
    if files := [{"file": page} for page in [*rest, *notebooks, *shared]]:
        contents["chapters"] = files
    (source / "_toc.yml").write_text(yaml.safe_dump(contents, sort_keys=False), encoding="utf-8")
    config = load_yaml(project.root / "_config.yml")
    config["title"] = title
    # the images of a small book are static files, whatever the book itself does with such
    sphinx = config.setdefault("sphinx", {}).setdefault("config", {})
    if "book/_static" not in sphinx.setdefault("html_static_path", []):
        sphinx["html_static_path"].append("book/_static")
    for key in ("launch_buttons", "repository"):
        config.pop(key, None)
    html = config.get("html", {})
    for key in list(html):
        if key.startswith("use_"):
            del html[key]
    (source / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    publish(jupyter_book(source, target / "render", strict=False), target / "html")
    return target / "html" / f"{root}.html"


class Drawn(NamedTuple):
    """A figure of an executed notebook: caption, PNG, and its twin for the dark mode if it has one."""

    caption: str
    image: bytes
    twin: bytes | None


def figures(notebook: NotebookNode) -> dict[str, Drawn]:
    """Figures of an executed notebook by name (or by cell number where unnamed)."""
    found = {}
    dark = twins(notebook)
    for number, cell in enumerate(notebook.cells, start=1):
        meta = cell.metadata.get("mystnb", {}).get("figure", {})
        images = [o["data"]["image/png"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
        for index, image in enumerate(images):
            name = meta.get("name", f"cell-{number}") + (f"-{index + 1}" if index else "")
            data = base64.b64decode(image)
            twin = dark.get(hashlib.sha256(data).hexdigest())
            found[name] = Drawn(" ".join(meta.get("caption", "").split()), data, twin)
    return found


def list_table(header: list[str], rows: list[list[str]], css: str) -> str:
    """A MyST list-table."""
    lines = ["::::{list-table}", f":class: {css}", ":header-rows: 1", ""]
    for row in [header, *rows]:
        lines += [
            f"{'*' if i == 0 else ' '} - {' '.join(text.split())}".rstrip() for i, text in enumerate(row)
        ]
    return "\n".join([*lines, "::::", ""])
