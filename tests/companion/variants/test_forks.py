"""Forks: copied, executed, compared, rerun, removed."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_project import Called, call, copy_project, edit, eventbook, snapshot

from eventbook.companion.project import Project
from eventbook.companion.variants.forks import changed_parameters, create_fork, list_forks, open_fork

FORK = ("fork", "tiny", "--name", "hot", "-p", "numerator=2", "--engine", "papermill")


@pytest.fixture(scope="session")
def forked_tree(executed_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The executed project with a fork ``hot`` made on the command line; copy it, never change it."""
    root = copy_project(executed_tree, tmp_path_factory.mktemp("forked") / "tiny")
    done = eventbook(root, *FORK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[1/1] forks/hot/one: done" in done.stdout, "the other notebook has nothing to run for"
    return root


@pytest.fixture
def forked(forked_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    root = copy_project(forked_tree, tmp_path / "tiny")
    monkeypatch.chdir(root)
    return Project.find()


@pytest.mark.slow
def test_a_fork_is_a_plain_pair_with_other_defaults(executed_tree: Path, forked: Project) -> None:
    original, fork = forked.chapter("tiny"), open_fork(forked, "hot")
    old, new = (c.source("one").read_text().splitlines() for c in (original, fork))
    assert [pair for pair in zip(old, new, strict=True) if pair[0] != pair[1]] == [
        (
            "numerator: float = 1.0  # the number above the line",
            "numerator: float = 2.0  # the number above the line",
        )
    ]
    assert fork.pair("two").read_bytes() == original.pair("two").read_bytes()
    assert fork.pair("one").is_file()
    assert (fork.folder / "fork.yml").read_text() == "chapter: tiny\nparameters:\n  numerator: 2.0\n"
    assert [c["name"] for c in changed_parameters(forked, fork)] == ["numerator"]
    assert snapshot(executed_tree / "notebooks") == snapshot(forked.root / "notebooks")


@pytest.mark.slow
def test_the_comparison_sets_the_fork_beside_the_original(forked: Project) -> None:
    book = forked.build / "forks/hot/html"
    assert (book / "index.html").is_file()
    page = (book / "notebooks/tiny/index.html").read_text()
    for text in (
        "numerator",
        "the number above the line",
        "0.5",
        ">1<",
        "+0.5",
        "verdict-differs",
        "fig-line",
    ):
        assert text in page, text
    code = "".join(re.findall('<div class="highlight-diff[^"]*">.*?</pre>', page, re.DOTALL))
    code = html.unescape(re.sub("<[^>]+>", "", code)).splitlines()
    assert "--- notebooks/tiny/one.py" in code
    assert "-numerator: float = 1.0  # the number above the line" in code
    assert "+numerator: float = 2.0  # the number above the line" in code
    assert "1 further figure" not in page
    assert "Not executed in the fork" not in page
    assert (book / "notebooks/tiny/one.html").is_file()
    assert len(list((book / "_static/comparison").iterdir())) == 2


@pytest.mark.slow
def test_forks_are_listed_and_never_checked(forked: Project) -> None:
    listed = call("fork", "--list")
    assert (listed.status, listed.out) == (0, "hot\ttiny\tnumerator=2\n")
    (open_fork(forked, "hot").folder / "claims.yml").write_text("broken")
    assert not any("forks" in line for line in call("check").out.splitlines())


@pytest.mark.slow
def test_a_removed_fork_leaves_no_trace(executed_tree: Path, forked: Project) -> None:
    assert call("fork", "--remove", "hot").out == "removed fork hot\n"
    # a job file beside the original's results is what a run leaves, with or without a fork
    assert snapshot(forked.root).keys() == snapshot(executed_tree).keys()
    assert not (forked.root / "forks").exists()
    assert {path.name for path in forked.build.iterdir()} == {
        path.name for path in (executed_tree / "_build").iterdir()
    }
    assert list_forks(forked) == []
    again = call("fork", "--remove", "hot")
    assert (again.status, again.err) == (2, "error: unknown fork 'hot'; there are: none\n")


@pytest.mark.slow
def test_a_rerun_takes_up_edits_and_shows_what_failed(forked: Project) -> None:
    fork = open_fork(forked, "hot")
    edit(fork.source("two"), "2 + 2 + offset", "2 + 3 + offset")
    edit(fork.source("one"), "steps: int = 3", "steps: int = 0")
    rerun = eventbook(forked.root, "fork", "--rerun", "hot", "--engine", "papermill")
    assert rerun.returncode == 1
    assert "forks/hot/one: cell 3 raised AssertionError" in rerun.stdout
    assert "1 executed" not in rerun.stderr
    page = (forked.build / "forks/hot/html/notebooks/tiny/index.html").read_text()
    assert "Not executed in the fork: one" in page
    assert "not measured" in page, "what the fork measured before its edit is not shown"
    assert "record(total=2 + 3 + offset)" in page.replace("</span>", "").replace('<span class="gi">', "")
    assert not (forked.build / "forks/hot/html/notebooks/tiny/one.html").exists()
    assert call("check").out.count("one.ipynb") == 0, "the original is as it was"


def test_parameters_that_a_fork_adds_are_listed(tiny: Project) -> None:
    fork = create_fork(tiny, "tiny", "hot", {"offset": 2})
    edit(fork.source("two"), "# added to the sum\n", "# added to the sum\nextra: int = 7  # mine\n")
    changes = [(c["notebook"], c["name"], c["original"], c["fork"]) for c in changed_parameters(tiny, fork)]
    assert changes == [("two", "offset", 0, 2), ("two", "extra", None, 7)]


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "chapter": (("fork", "other", "--name", "x"), "unknown chapter 'other'; the book has: tiny"),
    "parameter": (
        ("fork", "tiny", "--name", "x", "-p", "nam=1"),
        "unknown parameter 'nam'; valid parameters are one: ",
    ),
    "type": (
        ("fork", "tiny", "--name", "x", "-p", "steps=1.5"),
        "parameter steps: expected int, got 1.5 (float)",
    ),
    "name": (("fork", "tiny", "--name", "Bad Name"), "--name: expected lower-case letters, digits, - and _"),
    "path": (("fork", "tiny", "--name", "../x"), "--name: expected lower-case letters"),
    "line": (("fork", "tiny", "--name", "x\n"), "--name: expected lower-case letters"),
    "no name": (("fork", "tiny"), "expected --name NAME"),
    "nothing": (("fork",), "expected one of: fork CHAPTER"),
    "two": (("fork", "tiny", "--list"), "expected one of: fork CHAPTER"),
    "engine": (("fork", "tiny", "--name", "x", "--engine", "make"), "unknown engine 'make'"),
    "remove": (
        ("fork", "--remove", "../notebooks/tiny"),
        "unknown fork '../notebooks/tiny'; there are: none",
    ),
    "rerun": (("fork", "--rerun", "x"), "unknown fork 'x'; there are: none"),
    "stray": (("fork", "--list", "-p", "steps=1"), "--name and -p belong to"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_leaves_nothing_behind(tiny: Project, case: str) -> None:
    arguments, said = REFUSED[case]
    before = snapshot(tiny.root)
    refused = call(*arguments)
    assert refused.status == 2
    assert refused.out == ""
    assert refused.err.startswith(f"error: {said}")
    assert len(refused.err.splitlines()) == 1
    assert snapshot(tiny.root) == before
    assert not (tiny.root / "forks").exists()


def test_a_taken_name_is_refused_and_the_fork_stays(tiny: Project) -> None:
    create_fork(tiny, "tiny", "hot", {"steps": 4})
    before = snapshot(tiny.root)
    refused = call("fork", "tiny", "--name", "hot", "-p", "steps=5")
    assert refused.status == 2
    assert "the fork 'hot' exists already; remove it with 'eventbook fork --remove hot'" in refused.err
    assert snapshot(tiny.root) == before


def test_a_disk_that_fills_while_forking_leaves_nothing(
    tiny: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    before = snapshot(tiny.root)
    monkeypatch.setattr(Path, "rename", rename)
    refused: Called = call("fork", "tiny", "--name", "hot")
    assert refused.status == 2
    assert refused.err.startswith("error: cannot write the fork ")
    assert snapshot(tiny.root) == before
    assert not (tiny.root / "forks").exists()


def test_a_damaged_fork_is_named(tiny: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    fork = create_fork(tiny, "tiny", "hot", {})
    damages: list[tuple[Callable[[Path], object], str]] = [
        (lambda path: path.write_text("chapter: [1\n"), "fork.yml:2: expected YAML"),
        (lambda path: path.write_text("name: x\n"), "fork.yml: expected a mapping with the field 'chapter'"),
        (lambda path: path.write_text("chapter: gone\n"), "unknown chapter 'gone'"),
    ]
    for damage, said in damages:
        damage(fork.folder / "fork.yml")
        assert said in call("fork", "--list").err
