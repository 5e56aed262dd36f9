"""Every row of every ledger, in every profile it names, as a case of its own.

A row that differs is a strict expected failure: that it begins to hold is a failure, too. The verdicts are
decided by `eventbook.companion.ledger.claims`; here stands only what pytest has to know.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventbook.companion.ledger.claims import Row, rows_by_chapter, rows_of
from eventbook.companion.ledger.ledger import Verdict
from eventbook.companion.project import Chapter, Project

ROOT = Path(__file__).parents[2]
ROWS = [row for rows in rows_by_chapter(Project(ROOT, ROOT / "_build")).values() for row in rows]
FLIPPED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}


def decided(rows: Iterable[Row]) -> list[tuple[Row, str]]:
    """Rows with a verdict, once for each profile that they name."""
    return [(row, profile) for row in rows for profile in ("quick", "full") if row.claim.in_profile(profile)]


def differs(row: Row) -> bool:
    return row.claim.expected is Verdict.DIFFERS


def value_of(row: Row, profile: str) -> float:
    """The recorded value; a missing one, or NaN, is never an expected failure."""
    value = row.quick if profile == "quick" else row.full
    if value is None or math.isnan(value):
        raise ValueError(
            f"{row.claim.id}: expected a number under {row.claim.key!r} ({profile}), got {value}"
        )
    return value


def check(row: Row, profile: str) -> None:
    """The claim holds for what was measured."""
    value = value_of(row, profile)
    assert row.claim.holds(value), f"{row.claim.key} = {value}, condition {row.claim.condition()}"


def name(row: Row, profile: str) -> str:
    return f"{row.chapter}-{row.claim.id}-{profile}"


def case(row: Row, profile: str) -> Any:
    expected = pytest.mark.xfail(strict=True, raises=AssertionError, reason=row.claim.reason)
    return pytest.param(row, profile, id=name(row, profile), marks=[expected] if differs(row) else [])


@pytest.mark.parametrize("row, profile", [case(*pair) for pair in decided(ROWS)])
def test_claim(row: Row, profile: str) -> None:
    check(row, profile)


BOUNDED = [(row, profile) for row, profile in decided(ROWS) if row.claim.measured_within is not None]


@pytest.mark.parametrize("row, profile", [pytest.param(*pair, id=name(*pair)) for pair in BOUNDED])
def test_what_differs_stays_where_it_was(row: Row, profile: str) -> None:
    low, high = row.claim.measured_within
    assert low <= value_of(row, profile) <= high


OPEN = [row for row in ROWS if row.claim.expected is Verdict.NOT_ATTEMPTED]


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{row.chapter}-{row.claim.id}") for row in OPEN])
def test_what_was_not_attempted_says_why(row: Row) -> None:
    assert row.verdict is Verdict.NOT_ATTEMPTED
    assert (row.claim.key, row.quick, row.full, row.notebook) == (None, None, None, None)
    assert row.claim.reason.strip()


def test_there_is_something_to_check() -> None:
    assert decided(ROWS)
    assert all(decided(row for row in ROWS if row.chapter == slug) for slug in {row.chapter for row in ROWS})


def test_the_command_line_agrees() -> None:
    """`eventbook check` complains about the rows that fail here, or that left their bounds, and no others."""
    complaints = {name(row, profile) for row, profile in decided(ROWS) if row.problem(profile)}
    failed = failed_cases(ROWS)
    assert failed <= complaints
    assert complaints - failed <= {name(*pair) for pair in BOUNDED}


# --- controls: the same cases over a copy that was tampered with -----------------------------------------


def failed_cases(rows: Iterable[Row]) -> set[str]:
    """Names of the cases that pytest would report as failed, strict expected failures included."""
    failed = set()
    for row, profile in decided(rows):
        try:
            check(row, profile)
            fails = False
        except AssertionError:
            fails = True
        except ValueError:
            fails = not differs(row)  # never what is expected
        if fails != differs(row):
            failed.add(name(row, profile))
    return failed


@pytest.fixture(params=[pytest.param(slug, id=slug) for slug in sorted({row.chapter for row in ROWS})])
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> Chapter:
    """A copy of a chapter with its outputs and its recorded full run."""
    slug = request.param
    shutil.copytree(ROOT / "notebooks" / slug, tmp_path / "notebooks" / slug)
    shutil.copy(ROOT / "_toc.yml", tmp_path)
    recorded = ROOT / "results" / "full" / f"{slug}.json"
    if recorded.is_file():
        (tmp_path / "results" / "full").mkdir(parents=True)
        shutil.copy(recorded, tmp_path / "results" / "full")
    return Chapter(slug, tmp_path / "notebooks" / slug, slug, Project(tmp_path, tmp_path / "_build"))


def test_a_swapped_relation_fails_its_cases_and_no_other(copied: Chapter) -> None:
    before, text = failed_cases(rows_of(copied)), copied.ledger_path.read_text(encoding="utf-8")
    tried = 0
    for place, row in enumerate(rows_of(copied)):
        if row.claim.relation not in FLIPPED:
            continue
        ledger = yaml.safe_load(text)
        ledger["claims"][place]["relation"] = FLIPPED[row.claim.relation]
        copied.ledger_path.write_text(yaml.safe_dump(ledger), encoding="utf-8")
        rows = rows_of(copied)
        assert failed_cases(rows) ^ before == {
            name(other, profile)
            for other, profile in decided([rows[place]])
            if (other.quick if profile == "quick" else other.full) is not None
        }
        tried += 1
    assert tried


def contrary(row: Row) -> float:
    """A value for which the claim says the opposite of what it says for the measured one."""
    holds = row.claim.holds(row.quick)
    threshold = row.claim.threshold
    edges = threshold if isinstance(threshold, tuple) else (threshold,)
    tried = [sum(edges) / len(edges), *(edge + step for edge in edges for step in (-1.0, 1.0))]
    return next(value for value in tried if row.claim.holds(value) != holds)


def overwrite(chapter: Chapter, row: Row, text: str) -> None:
    """Put another value into the output that records the row's."""
    path = chapter.pair(row.notebook)
    notebook = json.loads(path.read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    (own,) = [o for o in outputs if o.get("metadata", {}).get("scrapbook", {}).get("name") == row.claim.key]
    (mime,) = [mime for mime in own["data"] if mime.endswith("text/plain")]
    own["data"][mime] = text
    path.write_text(json.dumps(notebook), encoding="utf-8")


def test_a_changed_value_fails_its_cases_and_no_other(copied: Chapter) -> None:
    rows = rows_of(copied)
    before, tried = failed_cases(rows), 0
    for row in rows:
        if row.quick is None:
            continue
        path = copied.pair(row.notebook)
        original = path.read_bytes()
        sharing = [other for other in rows if other.claim.key == row.claim.key]
        for text in (repr(contrary(row)), "nan"):
            overwrite(copied, row, text)
            changed = failed_cases(rows_of(copied)) ^ before
            assert name(row, "quick") in changed
            assert changed <= {name(other, "quick") for other in sharing}
        path.write_bytes(original)
        tried += 1
    assert tried


def test_a_value_that_vanished_fails_also_where_the_row_differs(copied: Chapter) -> None:
    text = copied.ledger_path.read_text(encoding="utf-8")
    copied.ledger_path.write_text(text.replace(" key: ", " key: gone_"), encoding="utf-8")
    rows = rows_of(copied)
    assert failed_cases(rows) == {name(*pair) for pair in decided(rows)}
