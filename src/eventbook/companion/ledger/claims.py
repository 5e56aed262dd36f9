"""Recorded values and what they say: reads values from executed notebooks and decides the ledger's rows."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_json
from ..notebooks.notebook_format import NotebookNode
from ..notebooks.pairs import INJECTED, read_notebook, tags
from ..project import Chapter, Project
from .ledger import GLUE, Claim, Ledger, Verdict, read_ledger


@dataclass(frozen=True)
class Recorded:
    """A value that a notebook recorded, and in which cell (from 1).

    `measured` is False for a value that the run took from the recorded full run.
    """

    value: Any
    notebook: str
    cell: int
    measured: bool = True


@dataclass(frozen=True)
class Row:
    """A claim with what was measured.

    Attributes
    ----------
    quick, full
        Recorded values, None where the profile has none.
    verdict
        From the quick value where there is one, else from the full one.
    notebook
        The notebook that records the row's value; None if not attempted.
    on_page
        True if the page of that notebook shows the value, and a link can point to it.
    """

    chapter: str
    claim: Claim
    quick: Any
    full: Any
    notebook: str | None
    on_page: bool

    @property
    def verdict(self) -> Verdict:
        return self.claim.verdict(self.full if self.quick is None else self.quick)

    def problem(self, profile: str) -> str | None:
        """Why the row is not as expected in a profile; None if it is.

        A row of the full profile without a recorded run is a problem, too: nothing vouches for it.
        """
        if not self.claim.in_profile(profile):
            return None
        value = self.quick if profile == "quick" else self.full
        key = self.claim.key
        if value is None:
            return f"{self.claim.id}: expected the value {key!r} in the {profile} profile, found none"
        if math.isnan(value):
            return f"{self.claim.id}: expected a number under {key!r} in the {profile} profile, found NaN"
        found = self.claim.verdict(value)
        if found is not self.claim.expected:
            return (
                f"{self.claim.id}: expected '{self.claim.expected}', got '{found}' in the {profile} profile: "
                f"{key} = {self.claim.shown(value)}, condition {self.claim.condition()}"
            )
        within = self.claim.measured_within
        if within is not None and not within[0] <= value <= within[1]:
            return (
                f"{self.claim.id}: differs as expected, but in the {profile} profile {key} = {value} "
                f"left [{within[0]}, {within[1]}]"
            )
        return None


def values_of(notebook: NotebookNode, name: str) -> dict[str, Recorded]:
    """Values recorded in a notebook's outputs, by key.

    Raises
    ------
    UserError
        If a key is recorded twice or a value is not a literal.
    """
    found: dict[str, Recorded] = {}
    cells = [cell for cell in notebook.cells if INJECTED not in tags(cell)]
    for number, cell in enumerate(cells, start=1):
        for output in cell.get("outputs", []):
            glued = output.get("metadata", {}).get("scrapbook", {})
            if "name" not in glued:
                continue
            key, data = glued["name"], output["data"]
            if key in found:
                raise UserError(f"{name}: {key!r} is recorded twice, in cells {found[key].cell} and {number}")
            if f"{GLUE}text/plain" in data:
                value = _literal(data[f"{GLUE}text/plain"], key, name)
                found[key] = Recorded(value, name, number, glued.get("measured", True))
    return found


def _literal(text: str, key: str, name: str) -> Any:
    """A recorded value: the repr of a Python number, or JSON."""
    if text in ("nan", "inf", "-inf"):
        return float(text)
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    raise UserError(f"{name}: expected a number or plain data under {key!r}, got {text[:60]!r}")


def collect_values(chapter: Chapter, folder: Path | None = None) -> dict[str, Recorded]:
    """Recorded values of all notebooks of a chapter, by key.

    Parameters
    ----------
    chapter
        The chapter or fork.
    folder
        Where the executed notebooks are; by default the pairs themselves (quick profile).

    Raises
    ------
    UserError
        If two notebooks record one key.
    """
    found: dict[str, Recorded] = {}
    for name in chapter.notebooks:
        path = (folder or chapter.folder) / f"{name}.ipynb"
        if not path.is_file():
            continue
        for key, recorded in values_of(read_notebook(path), name).items():
            if key in found:
                raise UserError(
                    f"{chapter.label}: {key!r} is recorded by {found[key].notebook} and by {name}"
                )
            found[key] = recorded
    return found


def measured_numbers(values: Mapping[str, Recorded]) -> dict[str, Any]:
    """Numbers and truth values that a run measured itself, by key: all that a variant has to say."""
    return {
        key: recorded.value
        for key, recorded in values.items()
        if recorded.measured and isinstance(recorded.value, bool | int | float)
    }


def evaluate(
    chapter: Chapter,
    ledger: Ledger,
    quick: Mapping[str, Recorded],
    full: Mapping[str, Any],
    full_notebooks: Mapping[str, str] | None = None,
) -> list[Row]:
    """The ledger's rows with their measured values.

    Raises
    ------
    UserError
        If a row's key holds something else than one number, which `eventbook.companion.notebook.keep` can.
    """
    rows = []
    for claim in ledger.claims:
        recorded = quick.get(claim.key or "")
        for value in (recorded.value if recorded else None, full.get(claim.key or "")):
            if value is not None and not isinstance(value, bool | int | float):
                raise UserError(
                    f"{chapter.label}: claim {claim.id} needs one number under {claim.key!r}, "
                    f"got {type(value).__name__}"
                )
        notebook = recorded.notebook if recorded else (full_notebooks or {}).get(claim.key or "")
        rows.append(
            Row(
                chapter=chapter.slug,
                claim=claim,
                quick=recorded.value
                if recorded and recorded.measured and claim.in_profile("quick")
                else None,
                full=full.get(claim.key or "") if claim.in_profile("full") else None,
                notebook=notebook,
                on_page=recorded is not None,
            )
        )
    return rows


def rows_of(chapter: Chapter) -> list[Row]:
    """The rows of a chapter, from its pairs and its recorded full run."""
    path = chapter.project.recorded(chapter.slug)
    record = read_json(path) if path.is_file() else {}
    values = {key: entry["value"] for key, entry in record.get("values", {}).items()}
    notebooks = {key: entry["notebook"] for key, entry in record.get("values", {}).items()}
    return evaluate(chapter, read_ledger(chapter.ledger_path), collect_values(chapter), values, notebooks)


def rows_by_chapter(project: Project) -> dict[str, list[Row]]:
    """The rows of every chapter of the book, by slug, in reading order."""
    return {chapter.slug: rows_of(chapter) for chapter in project.chapters()}


def problems_of(rows: Iterable[Row], profile: str) -> list[str]:
    """Rows that are not as expected in a profile, one line each."""
    return [f"{row.chapter}: {problem}" for row in rows if (problem := row.problem(profile))]
