"""Generated tables: claims, status, counts in the README."""

from __future__ import annotations

import pytest
from tiny_project import call, edit

from eventbook.companion.book.tables import (
    chapter_table,
    count,
    readme_table,
    readme_with_counts,
    status,
    write_tables,
)
from eventbook.companion.errors import UserError
from eventbook.companion.execution.jobs import all_jobs
from eventbook.companion.ledger.claims import rows_by_chapter, rows_of
from eventbook.companion.ledger.ledger import Verdict
from eventbook.companion.project import Project


@pytest.mark.slow
def test_a_chapters_table_links_each_verdict_to_its_cell(executed: Project) -> None:
    table = chapter_table(rows_of(executed.chapter("tiny")), "../notebooks/tiny/")
    rows = table.split("\n* - ")[1:]
    assert len(rows) == 6, "a header and five claims"
    assert '<a class="verdict-link" href="../notebooks/tiny/one.html#half">' in rows[1]
    assert "`in [0.49, 0.51]`" in rows[1]
    assert "Scale: three steps instead of a million" in rows[3]
    assert "three are enough here" in rows[4]
    assert "verdict-link" not in rows[5], "nothing measured it"
    assert "verdict-not-attempted" in rows[5]


@pytest.mark.slow
def test_counts(executed: Project) -> None:
    rows = rows_by_chapter(executed)
    assert count(rows["tiny"]) == {
        Verdict.REPRODUCED: 2,
        Verdict.TREND: 1,
        Verdict.DIFFERS: 1,
        Verdict.NOT_ATTEMPTED: 1,
    }
    table = readme_table(executed, rows)
    paper = "[Doe et al. 2020](https://arxiv.org/abs/2001.00001)"
    assert f"| [Tiny things](notebooks/tiny/index.md) | {paper} | 5 | 2 | 1 | 1 | 1 |" in table


@pytest.mark.slow
def test_counts_are_of_what_was_measured_not_of_what_was_expected(executed: Project) -> None:
    edit(executed.root / "notebooks/tiny/claims.yml", "threshold: 4", "threshold: 5")
    counts = count(rows_of(executed.chapter("tiny")))
    assert (counts[Verdict.REPRODUCED], counts[Verdict.DIFFERS]) == (1, 2)
    assert "| 5 | 1 | 1 | 2 | 1 |" in readme_with_counts(executed, rows_by_chapter(executed))


@pytest.mark.slow
def test_tables_of_the_same_state_are_the_same_files(executed: Project) -> None:
    folder = executed.root / "book/_generated"
    write_tables(executed, rows_by_chapter(executed), all_jobs(executed))
    names = {"claims_tiny.md", "claims_overview.md", "status.md"}
    assert {path.name for path in folder.iterdir()} == names
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_tables(executed, rows_by_chapter(executed), all_jobs(executed))
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.slow
def test_the_status_page_tells_stale_from_fresh_and_committed_from_run(executed: Project) -> None:
    assert "**stale**" not in status(executed, all_jobs(executed))
    assert "outputs as committed" not in status(executed, all_jobs(executed))
    all_jobs(executed)[0].path("report.json").unlink()
    assert status(executed, all_jobs(executed)).count("outputs as committed") == 1
    edit(executed.root / "notebooks/tiny/one.py", "steps * numerator / 6", "steps * numerator / 7")
    assert status(executed, all_jobs(executed)).count("**stale**") == 1


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("README.md", "<!-- chapters:end -->", "", r"README\.md: expected the markers"),
        ("book/references.bib", "doe2020", "roe2020", r"references\.bib: expected an entry 'doe2020'"),
        ("book/references.bib", "year={2020},", "", r"references\.bib: expected author and year"),
        ("book/references.bib", "eprint={2001.00001}}", "eprint={2001", r"references\.bib: expected BibTeX"),
    ],
)
def test_what_the_counts_need_and_lack_is_named(
    tiny: Project, path: str, old: str, new: str, said: str
) -> None:
    edit(tiny.root / path, old, new)
    with pytest.raises(UserError, match=said):
        readme_with_counts(tiny, rows_by_chapter(tiny))


@pytest.mark.slow
def test_check_notices_counts_that_are_not_current(executed: Project) -> None:
    readme = executed.root / "README.md"
    readme.write_text(readme_with_counts(executed, rows_by_chapter(executed)))
    assert call("check").status == 0
    edit(readme, "| 5 | 2 |", "| 5 | 3 |")
    red = call("check")
    assert red.status == 1
    assert red.out == "README.md: the table of chapters is not current; 'eventbook build' writes it\n"
