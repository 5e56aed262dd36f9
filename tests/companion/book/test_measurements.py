"""Benchmark results as tables and figures: every row, every goal, missing competitors by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventbook.companion.book.measurements import goals_table, table, write_measurements
from eventbook.companion.project import Project

RESULT: dict[str, Any] = {
    "title": "Tiny",
    "hardware": {"cpu": "a cpu", "cores": 2, "python": "3.11", "torch": "2", "numba": "1", "numpy": "2"},
    "rounds": 9,
    "seconds": 3.2,
    "cases": [
        {
            "kernel": "scan",
            "case": "(8, 4)",
            "threads": 2,
            "competitors": {
                "ours": {"microseconds": 12.0, "ratio": 1.0, "low": 1.0, "high": 1.0},
                "limit": {"microseconds": 11.0, "ratio": 0.91, "low": 0.8, "high": 1.0, "limit": True},
                "peer": {"microseconds": 60.0, "ratio": 5.0, "low": 4.0, "high": 6.5, "version": "1.2"},
                "gone": {"missing": "ImportError: <gone>"},
            },
            "goals": [
                {"against": "peer", "at_least": 8, "measured": 5.0, "met": False},
                {"against": "limit", "at_least": 0.88, "measured": 0.91, "met": True},
                {"against": "gone", "at_least": 3, "measured": None, "met": None},
            ],
        }
    ],
    "growth": [
        {
            "name": "scan",
            "x": [10, 100],
            "seconds": [1e-3, 1e-2],
            "exponent": 1.3,
            "expected": 1.0,
            "within": 0.1,
            "met": False,
        }
    ],
    "curves": [{"name": "cross", "label": "share", "x": [0.1, 1], "seconds": {"a": [1, 2], "b": [2, 1]}}],
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    (folder / "tiny.json").write_text(json.dumps(RESULT))
    return Project(tmp_path, tmp_path / "_build")


def test_a_missing_competitor_has_a_row_with_its_reason() -> None:
    text = table(RESULT)
    assert "missing" in text
    assert "ImportError: &lt;gone&gt;" in text
    assert "peer (1.2)" in text
    assert "a cpu, 2 cores" in text


def test_goals_are_counted_as_met_missed_or_open() -> None:
    text = goals_table({"tiny": RESULT})
    assert text.startswith("1 of 4 goals are met.")
    assert [text.count(f"goal-{mark}") for mark in ("met", "missed", "open")] == [1, 2, 1]
    assert "1 ± 0.1\n  - 1.30 <span" in text


def test_a_ratio_is_bounded_by_what_the_limit_would_reach() -> None:
    rows = goals_table({"tiny": RESULT}).removesuffix("::::\n").split("\n* -")[2:]
    cells = [[cell.strip() for cell in row.split("\n  -")] for row in rows]
    assert [row[4] for row in cells] == ["5.49", "", "", ""]
    assert [row[0] for row in cells] == ["scan, (8, 4), 2 threads", "", "", "cost of scan"]


def test_a_goal_that_turns_is_shown_so() -> None:
    turned = json.loads(json.dumps(RESULT))
    turned["cases"][0]["goals"][0]["met"] = True
    assert goals_table({"tiny": turned}).startswith("2 of 4 goals are met.")


def test_tables_and_figures_are_written_once(project: Project) -> None:
    write_measurements(project)
    folder = project.root / "book" / "_generated"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "measured_goals.md", "measured_tiny.md", "measured_tiny.digest",
        "measured_tiny_ratios.svg", "measured_tiny_growth.svg", "measured_tiny_curves.svg",
        "measured_tiny_ratios.dark.svg", "measured_tiny_growth.dark.svg", "measured_tiny_curves.dark.svg",
    }  # fmt: skip
    before = {name: (folder / name).stat().st_mtime_ns for name in names}
    write_measurements(project)
    assert {name: (folder / name).stat().st_mtime_ns for name in names} == before


def test_figures_follow_new_results(project: Project) -> None:
    write_measurements(project)
    drawn = project.root / "book" / "_generated" / "measured_tiny_ratios.svg"
    before = drawn.read_bytes()
    changed = json.loads(json.dumps(RESULT))
    changed["cases"][0]["competitors"]["peer"]["ratio"] = 6.0
    (project.root / "benchmarks" / "results" / "tiny.json").write_text(json.dumps(changed))
    write_measurements(project)
    assert drawn.read_bytes() != before


def test_without_results_nothing_is_written(tmp_path: Path) -> None:
    write_measurements(Project(tmp_path, tmp_path / "_build"))
    assert not (tmp_path / "book").exists()
