"""Finding the project and its chapters."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_project import edit

from eventbook.companion.errors import UserError
from eventbook.companion.project import Project


def test_the_project_is_found_from_below(tiny: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.root / "notebooks" / "tiny")
    assert Project.find() == tiny


def test_variables_name_root_and_build(
    tiny: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVENTBOOK_ROOT", str(tiny.root))
    monkeypatch.setenv("EVENTBOOK_BUILD", "elsewhere")
    assert Project.find() == Project(tiny.root, tmp_path / "elsewhere")
    monkeypatch.setenv("EVENTBOOK_ROOT", str(tmp_path))
    with pytest.raises(UserError, match=f"EVENTBOOK_ROOT={tmp_path}, found none"):
        Project.find()


def test_chapters_and_notebooks_come_in_reading_order(tiny: Project) -> None:
    chapter = tiny.chapter("tiny")
    assert chapter.title == "Tiny things"
    assert chapter.notebooks == ["one", "two"]
    text = (tiny.root / "_toc.yml").read_text()
    (tiny.root / "_toc.yml").write_text(
        text.replace("one", "xxx").replace("two", "one").replace("xxx", "two")
    )
    assert Project.find().chapter("tiny").notebooks == ["two", "one"]


def test_an_unknown_chapter_lists_the_known(tiny: Project) -> None:
    with pytest.raises(UserError, match="unknown chapter 'other'; the book has: tiny"):
        tiny.chapter("other")


def test_a_chapter_without_notebooks_says_so(tiny: Project) -> None:
    for name in ("one", "two"):
        (tiny.root / "notebooks" / "tiny" / f"{name}.py").unlink()
    with pytest.raises(UserError, match="expected notebooks"):
        _ = tiny.chapter("tiny").notebooks


def test_a_broken_table_of_contents_is_named_with_its_line(tiny: Project) -> None:
    edit(tiny.root / "_toc.yml", "root: book/introduction", "root: [book/introduction")
    with pytest.raises(UserError, match=r"_toc\.yml:3: expected YAML"):
        _ = tiny.toc_pages
