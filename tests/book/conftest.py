"""The rendered book, for all tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventbook.companion.book.render import render
from eventbook.companion.book.tables import write_tables
from eventbook.companion.execution.jobs import all_jobs
from eventbook.companion.ledger.claims import rows_by_chapter
from eventbook.companion.project import Project

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def html() -> Path:
    """The book in ``_build/html``, rendered if it is not current; nothing is executed."""
    project = Project(ROOT, ROOT / "_build")
    write_tables(project, rows_by_chapter(project), all_jobs(project))
    index, _ = render(project)
    return index.parent
