"""Fork a chapter: a copy with other defaults, executed, and compared with the original.

A fork is a folder ``forks/<name>`` of plain notebook pairs, the chapter's ledger, and ``fork.yml``, which
names the chapter and the changed parameters. It is run like a chapter; removing it removes every trace.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError
from ..execution.jobs import declared_parameters, plan, reuse_results
from ..files import write_atomically
from ..notebooks.pairs import read_source, tags
from ..notebooks.parameters import check_overrides, rewrite_defaults
from ..project import Chapter, Project
from ..yaml_lines import load_yaml

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def list_forks(project: Project) -> list[Chapter]:
    """All forks, by name."""
    folder = project.root / "forks"
    return [open_fork(project, path.parent.name) for path in sorted(folder.glob("[!.]*/fork.yml"))]


def open_fork(project: Project, name: str) -> Chapter:
    """A fork as a chapter.

    Raises
    ------
    UserError
        If there is none of this name; the message lists those that exist.
    """
    folder = project.root / "forks" / name
    if not (NAME.fullmatch(name) and (folder / "fork.yml").is_file()):
        known = sorted(path.parent.name for path in (project.root / "forks").glob("*/fork.yml"))
        raise UserError(f"unknown fork {name!r}; there are: {', '.join(known) or 'none'}")
    return Chapter(f"forks/{name}", folder, _chapter_of(folder), project)


def _chapter_of(folder: Path) -> str:
    """The chapter that a fork was made from, as its ``fork.yml`` says."""
    content = load_yaml(folder / "fork.yml")
    if not isinstance(content, dict) or not isinstance(content.get("chapter"), str):
        raise UserError(f"{folder / 'fork.yml'}: expected a mapping with the field 'chapter'")
    return str(content["chapter"])


def create_fork(project: Project, slug: str, name: str, overrides: Mapping[str, Any]) -> Chapter:
    """Copy a chapter to ``forks/<name>`` with new defaults. Nothing is left behind if anything is wrong.

    Raises
    ------
    UserError
        If the chapter or a parameter is unknown, a value has the wrong type, or the name is bad or taken.
    """
    chapter = project.chapter(slug)
    if not NAME.fullmatch(name):
        raise UserError(f"--name: expected lower-case letters, digits, - and _, got {name!r}")
    target = project.root / "forks" / name
    if target.exists():
        raise UserError(
            f"the fork {name!r} exists already; remove it with 'eventbook fork --remove {name}' "
            "or choose another name"
        )
    values = check_overrides(overrides, declared_parameters(chapter))
    partial = target.with_name(f".{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for path in sorted(chapter.folder.iterdir()):
            if path.is_file() and path.suffix not in (".ipynb", ".py") and path.name != "index.md":
                shutil.copy(path, partial / path.name)
        for notebook in chapter.notebooks:
            write_atomically(partial / f"{notebook}.py", _with_defaults(chapter, notebook, values[notebook]))
        content = {"chapter": slug, "parameters": dict(overrides)}
        write_atomically(partial / "fork.yml", yaml.safe_dump(content, sort_keys=False))
        partial.rename(target)
    except OSError as error:
        raise UserError(f"cannot write the fork {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        _remove_if_empty(target.parent)
    fork = open_fork(project, name)
    # a notebook that the changed parameters leave as it was need not run again
    reuse_results(plan(chapter), plan(fork))
    return fork


def _with_defaults(chapter: Chapter, notebook: str, values: Mapping[str, Any]) -> str:
    """The percent script with new defaults in its parameters cell and nothing else touched."""
    text = chapter.source(notebook).read_text(encoding="utf-8")
    for cell in read_source(chapter.source(notebook)).cells:
        if "parameters" in tags(cell) and values:
            if text.count(cell.source) != 1:
                raise UserError(
                    f"{chapter.source(notebook)}: expected the parameters cell to stand there once"
                )
            text = text.replace(cell.source, rewrite_defaults(cell.source, values))
    return text


def changed_parameters(project: Project, fork: Chapter) -> list[dict[str, Any]]:
    """Parameters whose default in the fork is not the original's: notebook, name, original, fork, comment.

    Read from the notebooks, so that edits after forking are seen.
    """
    original = declared_parameters(project.chapter(fork.slug))
    changes = []
    for notebook, parameters in declared_parameters(fork).items():
        for name, parameter in parameters.items():
            before = original.get(notebook, {}).get(name)
            if before is None or before.default != parameter.default:
                changes.append(
                    {
                        "notebook": notebook,
                        "name": name,
                        "original": before.default if before else None,
                        "fork": parameter.default,
                        "comment": parameter.comment,
                    }
                )
    return changes


def remove_fork(project: Project, name: str) -> None:
    """Delete a fork, its runs and its comparison page, and the folders that are empty then."""
    fork = open_fork(project, name)
    places = [fork.folder, project.build / "forks" / name, *(project.build / "runs").glob(f"*/forks/{name}")]
    for place in places:
        if place.exists():
            try:
                shutil.rmtree(place)
            except OSError as error:
                raise UserError(f"cannot remove {place}: {error.strerror or error}") from error
        _remove_if_empty(place.parent)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
