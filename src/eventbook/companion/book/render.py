"""Render the book with Jupyter Book, and only if something it shows has changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from ..errors import UserError
from ..files import sha256
from ..project import Project

SHOWN = ("book", "notebooks", "results")
SUFFIXES = {".md", ".ipynb", ".bib", ".css", ".svg", ".png", ".js", ".yml", ".json"}


def render(project: Project) -> tuple[Path, bool]:
    """Render the book of a project.

    Returns
    -------
    tuple[Path, bool]
        ``index.html``, and whether it had to be rendered.

    Raises
    ------
    UserError
        If Jupyter Book is not version 1, or the build has a warning, or a page is missing. The book
        rendered before, if any, is left as it was.
    """
    html = project.build / "html"
    digest = book_digest(project)
    mark = html / ".eventbook"
    if mark.is_file() and mark.read_text(encoding="utf-8") == digest:
        return html / "index.html", False
    rendered = jupyter_book(project.root, project.build / "render", strict=True)
    if missing := [page for page in project.toc_pages if not (rendered / f"{page}.html").is_file()]:
        raise UserError(f"the book lacks pages of its table of contents: {', '.join(missing)}")
    (rendered / mark.name).write_text(digest, encoding="utf-8")
    publish(rendered, html)
    return html / "index.html", True


def jupyter_book(source: Path, output: Path, *, strict: bool) -> Path:
    """Build the book in `source` from nothing and return its HTML folder under `output`.

    Nothing is taken over from an earlier build: Sphinx warns about a page only when it reads it, so a
    second build over the first would find no fault, and pages that are gone would stay.

    Parameters
    ----------
    strict
        Warnings are errors, unknown references among them (``-n -W --keep-going``).

    Raises
    ------
    UserError
        With the warnings and errors of the build.
    """
    check_version()
    command = [
        sys.executable,
        "-c",
        "from jupyter_book.cli.main import main; main()",
        "build",
        str(source),
        "--path-output",
        str(output),
        "--quiet",
    ]
    if strict:
        command += ["-n", "-W", "--keep-going"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"}
    log = output / "build.log"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(command, env=environment, stdout=stream, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        telling = [
            line for line in lines if "WARNING" in line or "ERROR" in line or "rror:" in line
        ] or lines[-20:]
        raise UserError("\n".join([f"rendering failed (log: {log}):", *telling[:20]]))
    return output / "_build" / "html"


def check_version() -> None:
    """Version 2 of Jupyter Book ignores ``_config.yml``, exits 0 and builds nothing: refuse it."""
    try:
        version = metadata.version("jupyter-book")
    except metadata.PackageNotFoundError:
        raise UserError("expected jupyter-book 1.x, found none; install the lock with 'make'") from None
    if version.split(".")[0] != "1":
        raise UserError(f"expected jupyter-book 1.x, found {version}; install the lock with 'make'")


def publish(rendered: Path, target: Path) -> None:
    """Move a finished build to the place of the one before."""
    old = target.with_name(target.name + ".old")
    try:
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        rendered.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write the book to {target}: {error.strerror or error}") from error


def book_digest(project: Project) -> str:
    """sha256 over every file that the rendered book depends on."""
    return sha256(_contents(project))


def _contents(project: Project) -> Iterable[bytes | str]:
    files = [project.root / name for name in ("_config.yml", "_toc.yml", "requirements.lock")]
    for folder in SHOWN:
        files += sorted(path for path in (project.root / folder).rglob("*") if path.suffix in SUFFIXES)
    for path in files:
        inside = path.relative_to(project.root)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            yield inside.as_posix()
            yield path.read_bytes()
