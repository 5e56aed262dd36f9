"""The parameters cell: read, overridden, rewritten."""

from __future__ import annotations

import ast
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbook.companion.errors import UserError
from eventbook.companion.notebooks.parameters import (
    Parameter,
    check_overrides,
    disagreements,
    label,
    parse_assignments,
    read_parameters,
    rewrite_defaults,
    shown,
    split_values,
    typed_overrides,
)

# built once: all of Unicode takes seconds
LETTERS = string.printable + "éµ°\u2028\N{SNOWMAN}"
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(10**12), 10**12),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "str": st.text(LETTERS, max_size=12),
}
VALUES |= {f"list[{name}]": st.lists(values, max_size=4) for name, values in VALUES.items()}
NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=6).map(lambda text: f"p_{text}")
COMMENTS = st.text(string.ascii_letters + " é°µ", min_size=1, max_size=20).filter(str.strip)


@st.composite
def cells(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A parameters cell, with lines of comment between, and new values for some of its parameters."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    lines, values = [], {}
    for name in names:
        kind = draw(st.sampled_from(sorted(VALUES)))
        if draw(st.booleans()):
            lines.append(f"# about {name}")
        lines.append(f"{name}: {kind} = {draw(VALUES[kind])!r}  # {draw(COMMENTS).strip()}")
        if draw(st.booleans()):
            values[name] = draw(VALUES[kind])
    return "\n".join(lines), values


@given(cells())
def test_rewritten_defaults_are_read_back(case: tuple[str, dict[str, Any]]) -> None:
    source, values = case
    before, rewritten = read_parameters(source, "here"), rewrite_defaults(source, values)
    after = read_parameters(rewritten, "here")
    assert list(after) == list(before)
    for name, parameter in after.items():
        assert parameter.default == values.get(name, before[name].default)
        assert (parameter.type, parameter.comment) == (before[name].type, before[name].comment)
    for old, new in zip(source.split("\n"), rewritten.split("\n"), strict=True):
        if old.partition(":")[0] not in values:
            assert new == old


@given(cells())
def test_values_travel_through_the_command_line(case: tuple[str, dict[str, Any]]) -> None:
    source, values = case
    declared = {"n": read_parameters(source, "here")}
    texts = {name: repr(value) for name, value in values.items()}
    assert typed_overrides(texts, declared) == values
    assert check_overrides(values, declared)["n"] == values


def test_rewriting_a_default_over_several_lines_keeps_what_surrounds_it() -> None:
    source = "a: list[int] = [\n    1,\n    2,\n]  # several\n# after\nb: str = 'é'  # µ is kept"
    rewritten = rewrite_defaults(source, {"a": [3], "b": "x"})
    assert rewritten == "a: list[int] = [3]  # several\n# after\nb: str = 'x'  # µ is kept"


@pytest.mark.parametrize(
    "line",
    [
        "a = 1  # untyped",
        "a: int = 1",
        "a: int = 1  #",
        "a: int = 1 + f()  # no literal",
        "a: int  # no default",
        "a: dict = {}  # no such type",
        "a: int = 1; b: int = 2  # two",
        "import os  # no parameter",
    ],
)
def test_a_line_of_another_form_is_refused_and_shown(line: str) -> None:
    with pytest.raises(UserError, match="expected 'name: type = literal  # comment'") as refusal:
        read_parameters(line, "notebooks/x/y.py")
    assert str(refusal.value).startswith("notebooks/x/y.py: ")
    assert repr(line) in str(refusal.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("a: int = 1.5  # not whole", "here: parameter a: expected int, got 1.5"),
        ("a: int = True  # no number", "here: parameter a: expected int, got True"),
        ("a: int = 1  # once\na: int = 2  # again", "here: parameter a is declared twice"),
        ("a: int = = 1  # typo", "here: expected Python in the parameters cell"),
        ("a: list[int] = [1, 'x']  # mixed", r"here: parameter a\[1\]: expected int, got 'x'"),
    ],
)
def test_a_wrong_default_is_refused(source: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_parameters(source, "here")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("float", "1", 1.0),
        ("float", "1e-3", 0.001),
        ("int", "-2", -2),
        ("bool", "true", True),
        ("bool", "False", False),
        ("str", "007", "007"),
        ("str", "1e-3", "1e-3"),
        ("str", "True", "True"),
        ("str", "'two words'", "two words"),
        ("str", "a,b", "a,b"),
        ("list[int]", "[1, 2]", [1, 2]),
        ("list[int]", "1,2", [1, 2]),
        ("list[int]", "[]", []),
        ("list[str]", "[a, 'b,c']", ["a", "b,c"]),
        ("list[float]", "[1, 2.5]", [1.0, 2.5]),
    ],
)
def test_text_is_read_by_the_declared_type(kind: str, text: str, value: Any) -> None:
    parsed = Parameter("p", kind, None, "").parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("int", "1.0"),
        ("int", "true"),
        ("int", "many"),
        ("float", "1e400"),
        ("float", "nan"),
        ("float", "1/3"),
        ("float", "9" * 400),
        ("bool", "1"),
        ("bool", "yes"),
        ("list[int]", "[1, x]"),
    ],
)
def test_text_of_another_type_is_refused(kind: str, text: str) -> None:
    with pytest.raises(UserError, match=r"parameter p.*: expected"):
        Parameter("p", kind, None, "").parse(text)


def test_an_unknown_name_lists_the_valid_ones() -> None:
    declared = {"one": {"a": Parameter("a", "int", 1, "x")}, "two": {}}
    with pytest.raises(UserError) as refusal:
        check_overrides({"b": 1}, declared)
    assert str(refusal.value) == "unknown parameter 'b'; valid parameters are one: a (int); two: none"


def test_a_name_that_two_notebooks_declare_holds_for_both() -> None:
    declared = {name: {"a": Parameter("a", "float", 1.0, "x")} for name in ("one", "two")}
    assert check_overrides({"a": 2}, declared) == {"one": {"a": 2.0}, "two": {"a": 2.0}}


def test_a_name_is_one_quantity() -> None:
    def two(type_: str, default: Any) -> list[str]:
        one = {"a": Parameter("a", "float", 1.0, "x"), "b": Parameter("b", "int", 1, "x")}
        return disagreements({"one": one, "two": {"a": Parameter("a", type_, default, "y")}})

    assert two("float", 1.0) == []
    assert two("float", 2.0) == [
        "parameter a: expected one quantity, one has float = 1.0 and two has float = 2.0"
    ]
    assert two("list[float]", [1.0]) == [
        "parameter a: expected one quantity, one has float = 1.0 and two has list[float] = [1.0]"
    ]


@pytest.mark.parametrize("items", [["a"], ["=1"], ["a=1", "a=2"]])
def test_assignments_of_another_form_are_refused(items: list[str]) -> None:
    with pytest.raises(UserError):
        parse_assignments(items)


def test_an_assignment_may_hold_equals_signs() -> None:
    assert parse_assignments(["a=b=c"]) == {"a": "b=c"}


def test_values_are_split_outside_of_brackets_and_quotes() -> None:
    assert split_values("0, 1e-4, [1, 2], 'a,b',") == ["0", "1e-4", "[1, 2]", "'a,b'"]
    assert split_values(r"'\'\"', ''") == [r"'\'\"'", "''"]
    assert split_values(r"'a\\', 'b'") == [r"'a\\'", "'b'"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_shown_values_are_told_apart(value: float) -> None:
    assert ast.literal_eval(shown(value)) == value


def test_labels_are_sorted() -> None:
    assert label({"b": 1, "a": 0.5}) == "a=0.5,b=1"
