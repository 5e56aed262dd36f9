"""The ledger: every valid row is read as it was written, every broken field is refused on its line."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_project import LEDGER

from eventbook.companion.errors import UserError
from eventbook.companion.ledger.ledger import Claim, Verdict, read_ledger

NUMBERS = st.integers(-1000, 1000) | st.floats(-1e6, 1e6)
WORDS = st.text(string.ascii_letters + " ,;'\"é", min_size=1, max_size=20).filter(str.strip)
PAIRS = st.tuples(NUMBERS, NUMBERS).filter(lambda pair: pair[0] < pair[1]).map(list)
SINGLE = ("==", "<", "<=", ">", ">=")
FLIPPED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """A valid row with every field that its verdict may have."""
    kind = draw(st.sampled_from(["exact", "numeric", "trend", "qualitative"]))
    scale = draw(st.sampled_from(["", "a tenth of the steps"]))
    smaller = bool(scale) or kind in ("trend", "qualitative")
    expected = draw(
        st.sampled_from(["trend reproduced" if smaller else "reproduced", "differs", "not attempted"])
    )
    row = {
        # a letter first: YAML reads 0e-0 as a number
        "id": draw(st.from_regex(r"[a-z][a-z0-9]{0,3}(-[a-z0-9]{1,4}){1,2}", fullmatch=True)),
        "statement": draw(WORDS).strip(),
        "where": draw(WORDS).strip(),
        "kind": kind,
        "paper_value": draw(st.sampled_from(["", "0.5", "96.2%"])),
        "source": draw(WORDS).strip(),
        "scale": scale,
        "profile": draw(st.sampled_from(["quick", "full", "both"])),
        "expected": expected,
        "format": draw(st.sampled_from([".4g", ".1%", ".2f"])),
    }
    if expected != "not attempted":
        row["key"] = draw(st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True))
        row["relation"] = draw(st.sampled_from([*SINGLE, "in"]))
        row["threshold"] = draw(PAIRS if row["relation"] == "in" else NUMBERS)
    if expected in ("differs", "not attempted"):
        row["reason"] = draw(WORDS).strip()
    if expected == "differs":
        row["measured_within"] = draw(PAIRS)
    return row


BROKEN: dict[str, list[Any]] = {
    "id": ["", "Upper-case", "nodash", "two--dashes", "-a", 3, None, ["a-b"]],
    "statement": ["", "  ", 1, None],
    "where": ["", None],
    "kind": ["precise", "", None, 1],
    "paper_value": [0.5, None, ["0.5"]],
    "source": ["", None],
    "key": ["Upper", "a-b", "1a", "", 1],
    "relation": ["=", "=<", "not", 1],
    "threshold": [
        "0.5",
        "many",
        [1],
        [1, 2, 3],
        [2, 1],
        [1, 1],
        ["1", 2],
        float("nan"),
        float("inf"),
        {"a": 1},
    ],
    "scale": [1, None],
    "profile": ["slow", "", None],
    "expected": ["Reproduced", "true", "", None, True],
    "reason": [1, None],
    "measured_within": [1, [1], [2, 1], ["a", "b"], [True, False], [0, float("nan")]],
    "format": [".x", "%d", 4, None],
    "treshold": [4],
    "paper-value": ["0.5"],
}
DECIDED_BY_ROW = {"format"}  # a whole row is wrong: a specification that cannot print a number


def write(folder: str, content: list[dict[str, Any]]) -> Path:
    path = Path(folder) / "claims.yml"
    # four spaces of indentation for fields, so that the line of each can be told by eye and by `line_of`
    text = "paper: doe2020\nclaims:\n"
    for row in content:
        fields = [f"{name}: {dump(value)}" for name, value in row.items()]
        text += "  - " + "\n    ".join(fields) + "\n"
    path.write_text(text, encoding="utf-8")
    return path


def dump(value: Any) -> str:
    return str(yaml.safe_dump([value], default_flow_style=True, width=10_000)).strip()[1:-1]


def line_of(path: Path, row: int, field: str) -> int:
    """Line of a field of a row, counted in the text and not by the code under test."""
    found = -1
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        found += line.startswith("  - ")
        if found == row and line[4:].startswith(f"{field}:"):
            return number
    raise AssertionError(field)


@settings(max_examples=40)
@given(st.lists(rows(), min_size=1, max_size=3, unique_by=lambda row: row["id"]))
def test_valid_rows_are_read_as_written(content: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = read_ledger(write(folder, content))
    assert ledger.paper == "doe2020"
    for row, claim in zip(content, ledger.claims, strict=True):
        for field, value in row.items():
            found = getattr(claim, field)
            assert (list(found) if isinstance(value, list) else found) == value


@given(st.lists(rows(), min_size=2, max_size=2, unique_by=lambda row: row["id"]), st.data())
def test_a_single_broken_field_is_refused_on_its_line(
    content: list[dict[str, Any]], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, 1))
    field = data.draw(st.sampled_from(sorted(BROKEN)))
    value = data.draw(st.sampled_from(BROKEN[field]))
    content[index][field] = value
    with tempfile.TemporaryDirectory() as folder:
        path = write(folder, content)
        with pytest.raises(UserError) as refusal:
            read_ledger(path)
        place = "id" if field in DECIDED_BY_ROW and isinstance(value, str) else field
        lines = str(refusal.value).splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith(f"{path}:{line_of(path, index, place)}: claims[{index}]")
        if place == field:
            assert f".{field}: " in lines[0]


@settings(max_examples=20)
@given(rows(), st.sampled_from(["id", "statement", "where", "kind", "source", "expected"]))
def test_a_missing_field_is_named(row: dict[str, Any], field: str) -> None:
    del row[field]
    with tempfile.TemporaryDirectory() as folder:
        path = write(folder, [row])
        with pytest.raises(UserError) as refusal:
            read_ledger(path)
        assert str(refusal.value) == f"{path}:3: claims[0]: expected a field '{field}', found none"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"key": None},
            "expected key, relation and threshold for a claim that is differs, got relation, threshold",
        ),
        ({"reason": ""}, "expected a reason for a claim that is differs"),
        (
            {"expected": "not attempted"},
            "expected none of key, relation, threshold for a claim that is not attempted",
        ),
        ({"expected": "reproduced"}, "measured_within belongs to claims that differ"),
        ({"relation": "in"}, "expected a pair"),
        ({"threshold": [1, 2]}, "expected a pair"),
        ({"threshold": True}, "expected relation '==' with a truth value"),
        ({"expected": "reproduced", "measured_within": None, "scale": "small"}, "at most 'trend reproduced'"),
        (
            {"expected": "trend reproduced", "measured_within": None},
            "is 'reproduced', not 'trend reproduced'",
        ),
    ],
)
def test_fields_that_do_not_go_together(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    row = {
        "id": "a-b",
        "statement": "s",
        "where": "w",
        "kind": "numeric",
        "source": "s",
        "key": "k",
        "relation": ">",
        "threshold": 1,
        "expected": "differs",
        "reason": "r",
        "measured_within": [0, 1],
    }
    assert read_ledger(write(str(tmp_path), [row])).claims[0].id == "a-b"
    with pytest.raises(UserError, match=said):
        read_ledger(write(str(tmp_path), [{**row, **change}]))


def place(path: Path, text: str) -> int:
    """Line of a text in a file."""
    return next(i for i, line in enumerate(path.read_text().splitlines(), start=1) if text in line)


def test_several_faults_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "claims.yml"
    path.write_text(
        LEDGER.replace("kind: exact", "kind: sharp").replace("threshold: 0\n", "treshold: 0\n"),
        encoding="utf-8",
    )
    with pytest.raises(UserError) as refusal:
        read_ledger(path)
    lines = str(refusal.value).splitlines()
    assert lines[0].startswith(f"{path}:{place(path, 'kind: sharp')}: claims[1].kind: ")
    assert lines[1].startswith(f"{path}:{place(path, 'treshold: 0')}: claims[2].treshold: ")
    assert "kind: expected 'exact', 'numeric', 'trend' or 'qualitative', got 'sharp'" in lines[0]
    assert "claims[2].treshold: unknown field" in lines[1]


def test_duplicate_ids_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "claims.yml"
    text = LEDGER.replace("tiny-total", "tiny-half").replace("tiny-differs", "tiny-half")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refusal:
        read_ledger(path)
    second, third = place(path, "statement: The sum") - 1, place(path, "statement: There are many") - 1
    assert str(refusal.value).splitlines() == [
        f"{path}:{second}: claims[1].id: 'tiny-half' is taken by the row on line 3",
        f"{path}:{third}: claims[3].id: 'tiny-half' is taken by the row on line 3",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: file: expected a mapping of fields, got None"),
        ("- a\n", "1: file: expected a mapping of fields, got ['a']"),
        ("paper: x\nclaims: []\n", "2: claims: List should have at least 1 item"),
        ("paper: x\nclaims:\n  - a\n", "3: claims[0]: expected a mapping of fields, got 'a'"),
        ("paper: x\nclaims: {a: 1}\n", "2: claims: expected a valid list"),
        ("claims:\n", "1: file: expected a field 'paper', found none"),
        ("paper: x\npaper: y\n", "2: expected YAML, key 'paper' comes twice"),
        ("paper: [x\nclaims: y\n", "2: expected YAML"),
    ],
)
def test_files_of_another_shape_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "claims.yml"
    path.write_text(text)
    with pytest.raises(UserError) as refusal:
        read_ledger(path)
    assert str(refusal.value).startswith(f"{path}:{said}")


def claim(relation: str, threshold: Any, **more: Any) -> Claim:
    fields = {"id": "a-b", "statement": "s", "where": "w", "kind": "numeric", "source": "s", "key": "k"}
    return Claim.model_validate(
        {**fields, "relation": relation, "threshold": threshold, "expected": "reproduced", **more}
    )


@given(st.sampled_from(sorted(FLIPPED)), NUMBERS, NUMBERS)
def test_a_flipped_relation_flips_the_verdict(relation: str, threshold: float, value: float) -> None:
    verdicts = {claim(sign, threshold).verdict(value) for sign in (relation, FLIPPED[relation])}
    assert verdicts == {Verdict.REPRODUCED, Verdict.DIFFERS}


@given(st.sampled_from(sorted(FLIPPED)), NUMBERS, NUMBERS, st.floats(0, 1e6))
def test_relations_are_monotone(relation: str, threshold: float, value: float, step: float) -> None:
    further = value + step if relation.startswith(">") else value - step
    judged = claim(relation, threshold)
    assert not judged.holds(value) or judged.holds(further)


@given(PAIRS, NUMBERS)
def test_an_interval_is_both_of_its_ends(pair: list[float], value: float) -> None:
    inside = claim("in", pair).holds(value)
    assert inside == (claim(">=", pair[0]).holds(value) and claim("<=", pair[1]).holds(value))


@given(rows(), NUMBERS)
def test_a_smaller_scale_is_never_a_reproduction(row: dict[str, Any], value: float) -> None:
    judged = Claim.model_validate(row)
    verdict = judged.verdict(value)
    if judged.scale or judged.kind in ("trend", "qualitative"):
        assert verdict is not Verdict.REPRODUCED
    else:
        assert verdict is not Verdict.TREND
    assert judged.verdict(None) is Verdict.NOT_ATTEMPTED


@pytest.mark.parametrize(
    ("format_", "value", "shown"),
    [
        (".4g", 0.123456, "0.1235"),
        (".1%", 0.1234, "12.3%"),
        (".4g", True, "yes"),
        (".4g", 12345, "12,345"),
        (".4g", 3, "3"),
        (".1%", 1, "100.0%"),
        (".4g", None, ""),
    ],
)
def test_values_are_shown_by_the_rows_format(format_: str, value: Any, shown: str) -> None:
    assert claim("<", 1, format=format_).shown(value) == shown


def test_conditions_are_shown_like_values() -> None:
    assert claim("in", [0.1, 0.2], format=".0%").condition() == "in [10%, 20%]"
    assert claim(">=", 0.5).condition() == ">= 0.5"
    assert claim("==", True).condition() == "== yes"
