"""Jobs: what a chapter plans, and when a job counts as done."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_project import edit

from eventbook.companion.errors import UserError
from eventbook.companion.execution.jobs import Job, all_jobs, plan, variant_name
from eventbook.companion.files import write_json
from eventbook.companion.project import Project


def test_a_quick_run_refreshes_pairs_and_others_do_not(tiny: Project) -> None:
    chapter = tiny.chapter("tiny")
    quick = plan(chapter)
    assert [job.pair for job in quick] == [str(chapter.pair("one")), str(chapter.pair("two"))]
    assert [job.parameters for job in quick] == [{}, {}]
    assert quick[0].path("ipynb") == tiny.build / "runs/quick/tiny/one.ipynb"
    for other in (plan(chapter, "full"), plan(chapter, overrides={"offset": 1})):
        assert all(job.pair is None for job in other)
        assert all(job.folder != quick[0].folder for job in other)
    assert [job.name for job in all_jobs(tiny)] == ["tiny/one", "tiny/two"]


def test_overrides_go_to_the_notebooks_that_declare_them(tiny: Project) -> None:
    one, two = plan(tiny.chapter("tiny"), "full", {"numerator": 2})
    assert one.parameters == {"numerator": 2.0}
    assert two.parameters == {"offset": 0}
    assert one.name == "tiny/one (numerator=2)"


def test_what_a_person_asks_for_goes_before_the_profile(tiny: Project) -> None:
    edit(tiny.root / "notebooks/tiny/full.yml", "offset: 0", "offset: 5\nsteps: 4")
    one, two = plan(tiny.chapter("tiny"), "full", {"offset": 1})
    assert (one.parameters, two.parameters) == ({"steps": 4}, {"offset": 1})


def test_variants_have_folders_of_their_own() -> None:
    names = [
        variant_name(p, o) for p in ("quick", "full") for o in ({}, {"a": 1}, {"a": 2}, {"a": 1, "b": 1})
    ]
    assert len(set(names)) == len(names)
    assert variant_name("quick", {"a": 1, "b": 2}) == variant_name("quick", {"b": 2, "a": 1})


def test_a_wrong_full_profile_is_named(tiny: Project) -> None:
    path = tiny.root / "notebooks/tiny/full.yml"
    path.write_text("ofset: 1\n")
    with pytest.raises(
        UserError, match="tiny, profile full: unknown parameter 'ofset'; valid parameters are one: "
    ):
        plan(tiny.chapter("tiny"), "full")
    path.write_text("- 1\n")
    with pytest.raises(UserError, match=r"full\.yml: expected a mapping of parameter: value, got list"):
        plan(tiny.chapter("tiny"), "full")
    path.unlink()
    with pytest.raises(UserError, match="expected the full profile of tiny"):
        plan(tiny.chapter("tiny"), "full")
    with pytest.raises(UserError, match="unknown profile 'slow'; expected one of quick, full"):
        plan(tiny.chapter("tiny"), "slow")


def test_done_is_a_result_with_the_same_stamp(tiny: Project) -> None:
    job = plan(tiny.chapter("tiny"))[1]
    assert not job.is_done()
    write_json(job.path("report.json"), {"stamp": job.stamp})
    assert not job.is_done(), "a report is no result"
    job.path("ipynb").write_text("{}")
    assert job.is_done()
    edit(tiny.root / "notebooks/tiny/two.py", "2 + 2", "2 + 3")
    assert not plan(tiny.chapter("tiny"))[1].is_done()
    for damage in ("", "[]", '{"stamp": '):
        job.path("report.json").write_text(damage)
        assert not job.is_done()


def test_jobs_are_read_back_and_written_only_when_they_change(tiny: Project, tmp_path: Path) -> None:
    job = plan(tiny.chapter("tiny"))[0]
    path = job.write()
    before = path.stat().st_mtime_ns
    assert Job.read(path) == job
    job.write()
    assert path.stat().st_mtime_ns == before
    for damage in ("{}", "[]", '{"label": 1}'):
        (tmp_path / "x.json").write_text(damage)
        with pytest.raises(UserError, match=r"x\.json: expected a job file"):
            Job.read(tmp_path / "x.json")
