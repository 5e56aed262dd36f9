"""Recorded full results: only of a finished run that measured everything itself."""

from __future__ import annotations

import json

import pytest
from tiny_project import call, edit, eventbook, snapshot

from eventbook.companion.errors import UserError
from eventbook.companion.execution.jobs import plan
from eventbook.companion.ledger.records import record_full
from eventbook.companion.project import Project

FULL = ("run", "--profile", "full", "--engine", "papermill")


@pytest.mark.slow
def test_an_unfinished_full_run_is_not_recorded(executed: Project) -> None:
    chapter = executed.chapter("tiny")
    with pytest.raises(UserError, match="tiny: expected a finished full run of one, two, found none"):
        record_full(chapter)
    edit(executed.root / "notebooks/tiny/full.yml", "offset: 0", "offset: 9")  # raises
    done = eventbook(executed.root, *FULL, "--record")
    assert done.returncode == 1
    assert "recorded" not in done.stdout
    with pytest.raises(UserError, match="expected a finished full run of two, found none"):
        record_full(chapter)
    assert not executed.recorded("tiny").exists()


@pytest.mark.slow
def test_a_record_is_of_the_present_code(executed: Project) -> None:
    assert eventbook(executed.root, *FULL, "--record").returncode == 0
    record = json.loads(executed.recorded("tiny").read_text())
    assert record["values"]["total"] == {"value": 4, "notebook": "two", "cell": 3}
    assert record["values"]["curve"]["value"] == [1.0, 2.0]
    assert record["notebooks"]["two"]["parameters"] == {"offset": 0}
    stamps = {job.notebook: job.stamp for job in plan(executed.chapter("tiny"), "full")}
    assert {name: entry["stamp"] for name, entry in record["notebooks"].items()} == stamps
    edit(executed.root / "notebooks/tiny/two.py", "2 + 2 + offset", "2 + 3 + offset")
    before = executed.recorded("tiny").read_bytes()
    with pytest.raises(UserError, match="expected a finished full run of two, found none"):
        record_full(executed.chapter("tiny"))
    assert executed.recorded("tiny").read_bytes() == before


@pytest.mark.slow
def test_a_notebook_is_recorded_alone_and_the_others_stay(executed: Project) -> None:
    alone = eventbook(executed.root, *FULL, "--record", "tiny", "-n", "one")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    first = json.loads(executed.recorded("tiny").read_text())
    assert list(first["notebooks"]) == ["one"]
    assert {entry["notebook"] for entry in first["values"].values()} == {"one"}
    edit(executed.root / "notebooks/tiny/two.py", "2 + 2 + offset", "2 + 3 + offset")
    edit(executed.root / "notebooks/tiny/one.py", "2 * numerator]", "3 * numerator]")
    assert eventbook(executed.root, *FULL, "--record", "tiny", "--notebook", "two").returncode == 0
    both = json.loads(executed.recorded("tiny").read_text())
    assert list(both["notebooks"]) == ["one", "two"]
    assert both["notebooks"]["one"] == first["notebooks"]["one"]
    assert both["values"]["curve"] == first["values"]["curve"], "as it was recorded"
    assert both["values"]["total"]["value"] == 5


def test_notebooks_are_of_one_chapter(tiny: Project) -> None:
    unknown = call("run", "tiny", "-n", "three", "-n", "one")
    assert unknown.status == 2
    assert unknown.err == "error: tiny: expected notebooks of one, two, got three\n"


@pytest.mark.slow
def test_values_of_the_record_before_are_not_recorded_again(executed: Project) -> None:
    script = executed.root / "notebooks/tiny/two.py"
    script.write_text(script.read_text() + "record(measured=False, copied=8)\n")
    done = eventbook(executed.root, *FULL, "--record")
    assert done.returncode == 2
    assert done.stderr == (
        "error: tiny: expected a full run that measures every value, got copied from the record before; "
        "set the parameters that measure them in notebooks/tiny/full.yml\n"
    )
    assert not executed.recorded("tiny").exists()


def test_records_are_of_full_runs(tiny: Project) -> None:
    before = snapshot(tiny.root)
    for arguments in (("run", "--record"), (*FULL, "--record", "tiny", "-p", "offset=1")):
        refused = call(*arguments)
        assert refused.status == 2
        assert refused.err == "error: --record needs --profile full and no -p\n"
    assert snapshot(tiny.root) == before
