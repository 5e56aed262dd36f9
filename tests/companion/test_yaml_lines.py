"""YAML as people type it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventbook.companion.errors import UserError
from eventbook.companion.yaml_lines import lines_of, load_yaml


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.yml"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("-2E+4", -2e4), (".5e1", 5.0), ("1.5", 1.5), ("1", 1), ("1e", "1e"), ("e3", "e3")],
)
def test_numbers_with_exponents_are_numbers(path: Path, text: str, value: Any) -> None:
    path.write_text(f"a: {text}\n")
    loaded = load_yaml(path)["a"]
    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "key 'a' comes twice"),
        ("a:\n  - x: 1\n    x: 2\n", 3, "key 'x' comes twice"),
        ("a: [1, 2\nb: 3\n", 2, ""),
        ("a: 1\n\tb: 2\n", 2, ""),
        ("? [1]\n: 2\n", 1, "unhashable"),
    ],
)
def test_a_fault_is_named_with_its_line(path: Path, text: str, line: int, said: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=f"file.yml:{line}: expected YAML, .*{said}"):
        load_yaml(path)


def test_a_missing_file_and_one_that_is_no_text_are_named(path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a file .*file\.yml, found none"):
        load_yaml(path)
    path.write_bytes(b"a: \xff")
    with pytest.raises(UserError, match=r"file\.yml: expected UTF-8"):
        load_yaml(path)


def test_lines_of_values(path: Path) -> None:
    path.write_text("a: 1\nb:\n  - c: 2\n    d: 3\n  - c: 4\n")
    lines = lines_of(path)
    assert lines[("a",)] == 1
    assert lines[("b", 0)] == 3
    assert lines[("b", 0, "d")] == 4
    assert lines[("b", 1, "c")] == 5
