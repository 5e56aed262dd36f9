"""What recorded values say about the ledger's rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from tiny_project import call, edit

from eventbook.companion.errors import UserError
from eventbook.companion.ledger.claims import (
    collect_values,
    measured_numbers,
    problems_of,
    rows_of,
    values_of,
)
from eventbook.companion.ledger.ledger import GLUE, Verdict
from eventbook.companion.notebooks.pairs import read_notebook
from eventbook.companion.project import Project


def recording(*values: tuple[str, str]) -> nbformat.NotebookNode:
    """A notebook whose cells record a value each, as text."""
    cells = []
    for key, text in values:
        cell = new_code_cell("record()")
        cell.outputs = [
            new_output(
                "display_data",
                data={f"{GLUE}text/plain": text},
                metadata={"scrapbook": {"name": key, "mime_prefix": GLUE}},
            )
        ]
        cells.append(cell)
    return new_notebook(cells=cells)


def put(project: Project, notebook: str, *values: tuple[str, str]) -> None:
    nbformat.write(recording(*values), project.chapter("tiny").pair(notebook))


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.5", 0.5), ("3", 3), ("True", True), ("[1, 2]", [1, 2]), ("-inf", float("-inf")), ("1e-05", 1e-5)],
)
def test_values_are_read(text: str, value: Any) -> None:
    found = values_of(recording(("a", "1"), ("b", text)), "one")
    assert found["b"].value == value
    assert (found["b"].notebook, found["b"].cell) == ("one", 2)


def test_a_key_recorded_twice_is_named() -> None:
    with pytest.raises(UserError, match="one: 'a' is recorded twice, in cells 1 and 2"):
        values_of(recording(("a", "1"), ("a", "1")), "one")


def test_a_key_of_two_notebooks_is_named(tiny: Project) -> None:
    put(tiny, "one", ("a", "1"))
    put(tiny, "two", ("a", "1"))
    with pytest.raises(UserError, match="tiny: 'a' is recorded by one and by two"):
        collect_values(tiny.chapter("tiny"))


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(UserError, match="one: expected a number or plain data under 'a'"):
        values_of(recording(("a", "np.float64(1.0)")), "one")


def test_a_claim_on_something_else_than_a_number_is_refused(tiny: Project) -> None:
    put(tiny, "one", ("half", "[1, 2]"))
    with pytest.raises(UserError, match="tiny: claim tiny-half needs one number under 'half', got list"):
        rows_of(tiny.chapter("tiny"))


def problems(project: Project, profile: str = "quick") -> list[str]:
    return problems_of(rows_of(Project.find().chapter("tiny")), profile)


def test_values_as_expected_are_no_problem_and_others_are(tiny: Project) -> None:
    put(tiny, "one", ("half", "0.5"), ("count", "3"))
    put(tiny, "two", ("total", "4"))
    assert problems(tiny) == []
    put(tiny, "two", ("total", "5"))
    assert problems(tiny) == [
        "tiny: tiny-total: expected 'reproduced', got 'differs' in the quick profile: "
        "total = 5, condition == 4"
    ]
    put(tiny, "two", ("total", "nan"))
    assert problems(tiny) == [
        "tiny: tiny-total: expected a number under 'total' in the quick profile, found NaN"
    ]
    put(tiny, "two")
    assert problems(tiny) == ["tiny: tiny-total: expected the value 'total' in the quick profile, found none"]


def test_a_claim_that_differs_fails_when_it_holds_and_when_it_drifts(tiny: Project) -> None:
    put(tiny, "two", ("total", "4"))
    put(tiny, "one", ("half", "0.5"), ("count", "10"))
    assert problems(tiny) == [
        "tiny: tiny-differs: expected 'differs', got 'reproduced' in the quick profile: "
        "count = 10, condition >= 10"
    ]
    put(tiny, "one", ("half", "0.5"), ("count", "5"))
    assert problems(tiny) == [
        "tiny: tiny-differs: differs as expected, but in the quick profile count = 5 left [2, 4]"
    ]


def test_rows_of_the_full_profile_need_a_recorded_run(tiny: Project) -> None:
    edit(
        tiny.root / "notebooks/tiny/claims.yml",
        "threshold: 4\n    profile: quick",
        "threshold: 4\n    profile: both",
    )
    put(tiny, "two", ("total", "4"))
    assert problems(tiny, "full") == [
        "tiny: tiny-total: expected the value 'total' in the full profile, found none"
    ]
    path = tiny.recorded("tiny")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"values": {"total": {"value": 4, "notebook": "two", "cell": 3}}}))
    assert problems(tiny, "full") == []
    assert rows_of(tiny.chapter("tiny"))[1].full == 4
    path.write_text(json.dumps({"values": {"total": {"value": 5, "notebook": "two", "cell": 3}}}))
    assert len(problems(tiny, "full")) == 1
    put(tiny, "two")
    assert rows_of(tiny.chapter("tiny"))[1].verdict is Verdict.DIFFERS, (
        "without a quick value the full one counts"
    )


def test_the_quick_value_decides_where_there_is_one(tiny: Project) -> None:
    both = ("threshold: 4\n    profile: quick", "threshold: 4\n    profile: both")
    edit(tiny.root / "notebooks/tiny/claims.yml", *both)
    path = tiny.recorded("tiny")
    path.parent.mkdir(parents=True)
    for quick, full, verdict in ((4, 5, Verdict.REPRODUCED), (5, 4, Verdict.DIFFERS)):
        put(tiny, "two", ("total", str(quick)))
        path.write_text(json.dumps({"values": {"total": {"value": full, "notebook": "two", "cell": 3}}}))
        row = rows_of(tiny.chapter("tiny"))[1]
        assert (row.quick, row.full, row.verdict) == (quick, full, verdict)


def test_a_value_that_was_not_measured_decides_nothing(tiny: Project) -> None:
    put(tiny, "two", ("total", "4"))
    notebook = read_notebook(tiny.chapter("tiny").pair("two"))
    notebook.cells[0].outputs[0].metadata.scrapbook["measured"] = False
    nbformat.write(notebook, tiny.chapter("tiny").pair("two"))
    values = collect_values(tiny.chapter("tiny"))
    assert (values["total"].value, values["total"].measured) == (4, False)
    assert measured_numbers(values) == {}
    assert rows_of(tiny.chapter("tiny"))[1].quick is None
    assert problems(tiny)[1] == (
        "tiny: tiny-total: expected the value 'total' in the quick profile, found none"
    )


def test_numbers_of_a_run_are_its_numbers_and_truth_values() -> None:
    found = values_of(recording(("a", "1"), ("b", "0.5"), ("c", "True"), ("d", "[1, 2]")), "one")
    assert measured_numbers(found) == {"a": 1, "b": 0.5, "c": True}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('relation: "=="', 'relation: "<"', "tiny-total: expected 'reproduced', got 'differs'"),
        (
            "expected: reproduced\n  - id: tiny-total",
            "expected: differs\n    reason: x\n  - id: tiny-total",
            "tiny-half",
        ),
        ("measured_within: [2, 4]", "measured_within: [0, 2]", "tiny-differs: differs as expected, but"),
        ("threshold: 10", "threshold: 1", "tiny-differs: expected 'differs', got 'reproduced'"),
        ("key: total", "key: totally", "tiny-total: expected the value 'totally'"),
    ],
)
def test_a_changed_ledger_turns_the_claims_red(executed: Project, old: str, new: str, said: str) -> None:
    assert call("claims").status == 0
    edit(executed.root / "notebooks/tiny/claims.yml", old, new)
    red = call("claims", "tiny")
    assert red.status == 1
    assert len(red.err.splitlines()) == 1
    assert said in red.err
    assert said in call("check").out


@pytest.mark.slow
def test_executed_notebooks_carry_their_values(executed: Project) -> None:
    chapter = executed.chapter("tiny")
    values = {key: recorded.value for key, recorded in collect_values(chapter).items()}
    assert values == {"half": 0.5, "count": 3, "curve": [1.0, 2.0], "total": 4}
    assert [row.verdict for row in rows_of(chapter)] == [
        Verdict.REPRODUCED,
        Verdict.REPRODUCED,
        Verdict.TREND,
        Verdict.DIFFERS,
        Verdict.NOT_ATTEMPTED,
    ]
    text = Path(chapter.pair("one")).read_text()
    assert "tiny-half: in [0.49, 0.51]" in text
    assert "verdict verdict-reproduced" in text
    assert read_notebook(chapter.pair("one")).metadata.eventbook.profile == "quick"


@pytest.mark.slow
def test_claims_as_json(executed: Project) -> None:
    rows = json.loads(call("claims", "--json").out)
    assert [row["id"] for row in rows][:2] == ["tiny-half", "tiny-total"]
    assert rows[0] == {
        "chapter": "tiny",
        "id": "tiny-half",
        "key": "half",
        "value": 0.5,
        "condition": "in [0.49, 0.51]",
        "verdict": "reproduced",
        "expected": "reproduced",
    }
