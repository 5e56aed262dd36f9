"""The doctor says what is wrong and what to do."""

from __future__ import annotations

import pytest
from tiny_project import call, edit

from eventbook.companion import doctor
from eventbook.companion.doctor import examine, project_here
from eventbook.companion.errors import UserError
from eventbook.companion.project import Project


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data sets are those of the package and have tests of their own."""
    monkeypatch.setattr(doctor, "_data", lambda: iter(()))


def found(project: Project) -> dict[str, tuple[str, str, str]]:
    return {f.subject: (f.state, f.text, f.remedy) for f in examine(project)}


def test_stale_chapters_and_another_lock_are_named_with_a_remedy(tiny: Project) -> None:
    findings = found(tiny)
    assert findings["python"][0] == "ok"
    assert findings["lock"] == (
        "note",
        "installed otherwise: nothing none (lock 1.0)",
        "pip install -r requirements.lock",
    )
    state, text, _ = findings["notebooks/tiny/one.ipynb"]
    assert state == "problem"
    assert "run 'eventbook run tiny'" in text
    sick = call("doctor")
    assert sick.status == 1
    assert "problem  notebooks/tiny/one.ipynb: expected the pair of one.py" in sick.out
    assert "\x1b" not in sick.out


def test_a_broken_project_is_a_finding_and_no_crash(tiny: Project) -> None:
    edit(tiny.root / "_toc.yml", "root: ", "root: [")
    (tiny.root / "requirements.lock").unlink()
    sick = call("doctor")
    assert sick.status == 1
    assert "_toc.yml:3" in sick.out
    assert "requirements.lock is missing" in sick.out


def test_a_build_folder_that_cannot_be_written(tiny: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTBOOK_BUILD", "README.md")
    state, text, remedy = found(Project.find())["build folder"]
    assert state == "problem"
    assert "cannot write" in text
    assert "EVENTBOOK_BUILD" in remedy


def test_missing_snakemake_is_a_note(tiny: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert found(tiny)["snakemake"][0] == "note"


def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an installed package, with no checkout around."""

    def nothing() -> Project:
        raise UserError("expected a folder with _config.yml and notebooks/")

    monkeypatch.setattr(Project, "find", nothing)


def test_outside_a_checkout_it_looks_at_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENTBOOK_ROOT", raising=False)
    outside(monkeypatch)
    well = call("doctor")
    assert (well.status, well.err) == (0, "")
    subjects = {line.split()[1].rstrip(":") for line in well.out.splitlines()}
    assert subjects == {"python", "threads", "chapters"}
    assert "note     chapters: no checkout of the project here" in well.out
    assert "set EVENTBOOK_ROOT" in well.out


def test_a_root_that_is_asked_for_must_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTBOOK_ROOT", "nowhere")
    outside(monkeypatch)
    with pytest.raises(UserError, match="expected a folder with"):
        project_here()
    assert call("doctor").status == 2


def test_data_that_is_missing_is_a_note_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the data sets themselves
    findings = {finding.subject: finding for finding in doctor._data()}
    lacking = findings["data fashion_mnist"]
    assert lacking.state == "note"
    assert lacking.text.startswith("FashionMNIST/raw/")
    assert lacking.text.endswith("run `eventbook data get fashion_mnist`")
    assert findings["data mnist"].state == "ok"


@pytest.mark.slow
def test_a_healthy_project(rendered: Project) -> None:
    healthy = found(rendered)
    assert {subject: state for subject, (state, _, _) in healthy.items() if state != "ok"} == {"lock": "note"}
    assert call("doctor").status == 0
