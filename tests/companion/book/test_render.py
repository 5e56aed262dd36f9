"""The book: rendered from nothing when something it shows has changed, or left as it was."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest
from tiny_project import call, edit, eventbook, snapshot

from eventbook.companion.book.render import book_digest, check_version, publish, render
from eventbook.companion.errors import UserError
from eventbook.companion.project import Project


@pytest.mark.slow
def test_nothing_changed_nothing_rendered(rendered: Project) -> None:
    # the copied tree stands elsewhere, the book in it does not know
    before = snapshot(rendered.root)
    again = call("build", "--no-run")
    assert again.status == 0
    assert again.out == "book: current: _build/html/index.html\n"
    assert snapshot(rendered.root) == before
    page = (rendered.build / "html/notebooks/tiny/one.html").read_text()
    assert 'A value cited in the text: <span class="pasted-text">0.50</span>' in page
    assert 'id="half"' in page, "where the tables link to"


@pytest.mark.slow
def test_a_broken_book_is_refused_each_time_and_leaves_the_old_one(rendered: Project) -> None:
    edit(
        rendered.root / "notebooks/tiny/two.py",
        "# # Two",
        "# # Two\n#\n# {glue:text}`nowhere`, [lost](lost.md)",
    )
    assert "0 executed" in call("run").out
    before = snapshot(rendered.build / "html")
    for _ in range(2):  # Sphinx warns about what it reads: a second build over the first would not
        refused = eventbook(rendered.root, "build", "--no-run")
        assert refused.returncode == 2
        assert "rendering failed (log: " in refused.stderr
        assert "nowhere" in refused.stderr
        assert "lost" in refused.stderr
        assert snapshot(rendered.build / "html") == before


@pytest.mark.slow
def test_a_missing_page_is_named_by_check(rendered: Project) -> None:
    (rendered.root / "notebooks/tiny/extra.py").write_text("# %%\n1\n")
    (rendered.root / "notebooks/tiny/stray.ipynb").write_text("{}")
    (rendered.root / "notebooks/other").mkdir()
    (rendered.root / "notebooks/other/a.py").write_text("# %%\n1\n")
    with (rendered.root / "_toc.yml").open("a") as toc:
        toc.write("- file: book/absent\n")
    found = call("check").out.splitlines()
    for line in (
        "_toc.yml: expected book/absent.md or book/absent.ipynb, found neither",
        "_toc.yml: expected notebooks/tiny/extra, found none",
        "notebooks/tiny/stray.ipynb: expected its source stray.py, found none",
        "notebooks/other: expected the ledger claims.yml, found none",
    ):
        assert line in found


def test_a_page_that_was_not_rendered_is_named(tiny: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter Book can end well and leave pages out."""

    def built(source: Path, output: Path, *, strict: bool) -> Path:
        for page in tiny.toc_pages[:-1]:
            (output / f"{page}.html").parent.mkdir(parents=True, exist_ok=True)
            (output / f"{page}.html").touch()
        return output

    monkeypatch.setattr("eventbook.companion.book.render.jupyter_book", built)
    with pytest.raises(UserError, match="the book lacks pages of its table of contents: notebooks/tiny/two"):
        render(tiny)
    assert not (tiny.build / "html").exists()


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("book/introduction.md", True),
        ("notebooks/tiny/claims.yml", True),
        ("book/_static/style.css", True),
        ("_toc.yml", True),
        ("requirements.lock", True),
        ("README.md", False),
        ("data/manifest.yml", False),
        ("notebooks/tiny/.ipynb_checkpoints/one-checkpoint.ipynb", False),
    ],
)
def test_what_the_book_depends_on(tiny: Project, path: str, shown: bool) -> None:
    before = book_digest(tiny)
    target = tiny.root / path
    if target.is_file():
        os.utime(target, (1, 1))
        assert book_digest(tiny) == before
    target.parent.mkdir(exist_ok=True)
    target.write_text((target.read_text() if target.is_file() else "") + "\n")
    assert (book_digest(tiny) != before) == shown


@pytest.mark.parametrize(("version", "said"), [("2.0.1", "found 2.0.1"), (None, "found none")])
def test_jupyter_book_2_is_refused_before_anything_runs(
    tiny: Project, monkeypatch: pytest.MonkeyPatch, version: str | None, said: str
) -> None:
    check_version()
    before = snapshot(tiny.root)

    def installed(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", installed)
    with pytest.raises(UserError, match=rf"expected jupyter-book 1\.x, {said}"):
        check_version()
    refused = call("build")
    assert refused.status == 2
    assert refused.err == f"error: expected jupyter-book 1.x, {said}; install the lock with 'make'\n"
    assert snapshot(tiny.root) == before
    assert f"expected jupyter-book 1.x, {said}" in call("check").out


def test_publishing_replaces_the_whole_folder(tmp_path: Path) -> None:
    for name, page in (("new", "b"), ("html", "a"), ("html.old", "c")):
        (tmp_path / name).mkdir()
        (tmp_path / name / page).touch()
    publish(tmp_path / "new", tmp_path / "html")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "html",
        "html/b",
    ]
    with pytest.raises(UserError, match="cannot write the book to"):
        publish(tmp_path / "absent", tmp_path / "html")
