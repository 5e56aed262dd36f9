"""Sweeps: one parameter, several values, a curve for each claim."""

from __future__ import annotations

import csv
import re

import pytest
from tiny_project import call, edit, eventbook, snapshot

from eventbook.companion.errors import UserError
from eventbook.companion.notebooks.parameters import parse_assignments
from eventbook.companion.project import Project
from eventbook.companion.variants.sweeps import plan_sweep


def planned(
    project: Project, *assignments: str, profile: str = "quick"
) -> list[list[tuple[str, dict[str, object]]]]:
    sweep = plan_sweep(project.chapter("tiny"), parse_assignments(assignments), profile)
    return [[(job.notebook, job.parameters) for job in jobs] for jobs in sweep.jobs]


def test_only_the_notebooks_that_declare_the_parameter_run(tiny: Project) -> None:
    assert planned(tiny, "offset=0,1") == [[("two", {})], [("two", {"offset": 1})]]
    assert planned(tiny, "numerator=1,2e0", "steps=4") == [
        [("one", {"steps": 4})],
        [("one", {"steps": 4, "numerator": 2.0})],
    ]


def test_values_of_every_type(tiny: Project) -> None:
    chapter = tiny.chapter("tiny")
    assert plan_sweep(chapter, {"name": "a, 007, 1e-3"}).values == ["a", "007", "1e-3"]
    assert plan_sweep(chapter, {"flags": "[1], [1, 2], []"}).values == [[1], [1, 2], []]


def test_in_the_full_profile_the_default_is_the_profiles(tiny: Project) -> None:
    edit(tiny.root / "notebooks/tiny/full.yml", "offset: 0", "offset: 5")
    assert planned(tiny, "offset=0,5", profile="full") == [[("two", {"offset": 0})], [("two", {"offset": 5})]]
    zero, five = plan_sweep(tiny.chapter("tiny"), {"offset": "0,5"}, "full").jobs
    assert zero[0].variant != "full"
    assert five[0].variant == "full", "what the profile has anyway"


def test_a_value_is_the_default_only_if_it_is_everywhere(tiny: Project) -> None:
    edit(tiny.root / "notebooks/tiny/two.py", "# added to the sum\n", "# sum\nsteps: int = 5  # steps\n")
    three, five = planned(tiny, "steps=3,5")
    assert three == [("one", {"steps": 3}), ("two", {"steps": 3})]
    assert five == [("one", {"steps": 5}), ("two", {"steps": 5})]


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (["offset=1"], r"expected one parameter with several values, .* got 0 \(none\)"),
        (["offset=1,2", "steps=1,2"], r"got 2 \(offset, steps\)"),
        (["ofset=1,2"], "unknown parameter 'ofset'; valid parameters are"),
        (["offset=1,x"], "parameter offset: expected int, got 'x'"),
        (["offset=1,1"], "parameter offset: expected different values, got 1, 1"),
        (["numerator=1,1.0"], "parameter numerator: expected different values, got 1, 1"),
        (["offset=1,2", "steps=x"], "parameter steps: expected int, got 'x'"),
    ],
)
def test_what_is_no_sweep_is_refused(tiny: Project, assignments: list[str], said: str) -> None:
    before = snapshot(tiny.root)
    with pytest.raises(UserError, match=said):
        planned(tiny, *assignments)
    assert call("sweep", "tiny", *(f"-p{item}" for item in assignments)).status == 2
    assert snapshot(tiny.root) == before


# what the full run said, shown by a notebook that measures it in one variant only
COPIED = """\
  - id: tiny-copied
    statement: Eight is eight.
    where: derived
    kind: exact
    source: derived
    key: copied
    relation: "=="
    threshold: 8
    profile: full
    expected: reproduced
"""


@pytest.mark.slow
def test_a_sweep_gives_a_table_a_plot_and_names_what_failed(executed: Project) -> None:
    with (executed.root / "notebooks/tiny/claims.yml").open("a") as ledger:
        ledger.write(COPIED)
    script = executed.root / "notebooks/tiny/two.py"
    script.write_text(script.read_text() + "record(measured=offset == 1, copied=8)\n")
    assert eventbook(executed.root, "run", "--engine", "papermill").returncode == 0
    before = snapshot(executed.root, "_build")
    done = eventbook(executed.root, "sweep", "tiny", "-p", "offset=0,1,9", "--engine", "papermill")
    assert done.returncode == 1
    assert "tiny/two (offset=9): cell 3 raised AssertionError" in done.stdout
    assert "tiny/two (offset=0)" not in done.stdout, "the default has run already"
    folder = executed.build / "sweeps/tiny-offset"
    with (folder / "results.csv").open() as stream:
        assert list(csv.reader(stream)) == [
            ["offset", "claim", "key", "value", "holds"],
            ["0", "tiny-total", "total", "4", "True"],
            ["1", "tiny-total", "total", "5", "False"],
            ["1", "tiny-copied", "copied", "8", "True"],
        ]
    page = (folder / "html/index.html").read_text()
    assert "No result for offset = 9: the run failed." in page
    assert "tiny-half" not in page, "a claim of a notebook that was not swept"
    (row,) = re.findall(r"<tr[^>]*>(?:(?!</tr>).)*tiny-copied.*?</tr>", page, re.DOTALL)
    assert row.count("verdict-reproduced") == 1, "a recorded full result is no result at the swept value"
    assert (folder / "html/_static/sweep.png").read_bytes().startswith(b"\x89PNG")
    assert snapshot(executed.root, "_build") == before
