"""Pairs: what makes two notebooks the same, and what travels between them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from lab import opens_and_saves
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from tiny_project import call, edit

from eventbook.companion.errors import UserError
from eventbook.companion.notebooks.pairs import (
    INJECTED,
    as_saved,
    differences,
    edited_outputs,
    is_current,
    parameters_of,
    read_notebook,
    read_source,
    refresh,
    refuse_edits,
    write_pair,
)
from eventbook.companion.project import Project
from eventbook.companion.variants.forks import create_fork

SCRIPT = """\
# %% [markdown]
# # Title

# %% tags=["parameters"]
a: int = 1  # a number

# %%
print(a)

# %%
a + 1
"""


# --- in JupyterLab -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "two"])
def test_a_pair_opens_and_saves_in_jupyterlab_after_a_run(executed: Project, name: str) -> None:
    opens_and_saves(executed.root, executed.chapter("tiny").source(name), "assert ", "assert  ")
    assert "edited" not in call("run").out, "what was edited in both files is taken up"


@pytest.mark.slow
def test_a_pair_of_a_fork_opens_and_saves_in_jupyterlab(executed: Project) -> None:
    fork = create_fork(executed, "tiny", "hot", {"numerator": 2.0})
    script = fork.source("one")
    write_pair(script.with_suffix(".ipynb"), read_source(script))
    opens_and_saves(executed.root, script, "assert ", "assert  ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('mystnb={"figure"', 'tags=["hide-input"] mystnb={"figure"', 40),
        ('tags=["parameters"]', 'tags=["parameters",]', 18),
        ("#     formats: ipynb,py:percent", "#     formats:   ipynb,py:percent", 5),
    ],
)
def test_what_jupyterlab_would_rewrite_is_found(executed: Project, old: str, new: str, line: int) -> None:
    script = executed.chapter("tiny").source("one")
    assert as_saved(script) == script.read_text()
    edit(script, old, new)
    assert as_saved(script) != script.read_text()
    assert call("run").status == 0
    said = f"notebooks/tiny/one.py:{line}: JupyterLab would save this line otherwise; "
    assert said in call("check").out
    # and the advice works
    pair = script.with_suffix(".ipynb")
    command = [sys.executable, "-m", "jupytext", "--to", "py:percent", str(pair)]
    subprocess.run(command, check=True, capture_output=True)
    assert said not in call("check").out


# --- contents ----------------------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "one.py"
    path.write_text(SCRIPT)
    return path


def executed(title: str = "# Title") -> nbformat.NotebookNode:
    """What Papermill would return: an injected cell, printing in pieces, times, its own counts."""
    print_ = new_code_cell("print(a)", execution_count=7)
    print_.outputs = [
        new_output("stream", name="stdout", text="1"),
        new_output("stream", name="stdout", text="\n"),
        new_output("stream", name="stderr", text="/tmp/ipykernel_123/456.py:1: UserWarning: careful\n"),
    ]
    print_.metadata.papermill = {"duration": 0.5}
    sum_ = new_code_cell("a + 1", execution_count=9)
    sum_.outputs = [new_output("execute_result", data={"text/plain": "2"}, execution_count=9)]
    return new_notebook(
        cells=[
            new_markdown_cell(title),
            new_code_cell("a: int = 1  # a number", metadata={"tags": ["parameters"]}, execution_count=5),
            new_code_cell("a = 1", metadata={"tags": [INJECTED]}, execution_count=6),
            print_,
            sum_,
        ]
    )


def test_reading_a_script_twice_gives_the_same_ids(script: Path) -> None:
    first, second = read_source(script), read_source(script)
    assert [cell.id for cell in first.cells] == [cell.id for cell in second.cells]
    script.write_text(SCRIPT + "\n# %%\nprint(a)\n")
    ids = [cell.id for cell in read_source(script).cells]
    assert len(set(ids)) == 5
    nbformat.validate(read_source(script))


def test_outputs_travel_without_what_changes_from_run_to_run(script: Path) -> None:
    source = read_source(script)
    fresh = refresh(source, executed(), "stamp", "quick")
    assert len(fresh.cells) == 4
    assert [cell.get("execution_count") for cell in fresh.cells] == [None, 1, 2, 3]
    printed, warned = fresh.cells[2].outputs
    assert printed.text == "1\n"
    assert warned.text == "456.py:1: UserWarning: careful\n"
    assert fresh.cells[3].outputs[0].execution_count == 3
    assert "papermill" not in fresh.cells[2].metadata
    assert fresh.metadata.eventbook.stamp == "stamp"
    assert "outputs" in source.cells[2]
    assert source.cells[2].outputs == [], "the source is not changed"
    nbformat.validate(fresh)


def test_text_is_the_sources_and_code_must_be(script: Path) -> None:
    fresh = refresh(read_source(script), executed("# Old title"), "stamp", "quick")
    assert fresh.cells[0].source == "# Title"
    script.write_text(SCRIPT.replace("a + 1", "a + 2"))
    with pytest.raises(UserError, match="the executed notebook is not this source"):
        refresh(read_source(script), executed(), "stamp", "quick")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("print(a)", "print(2)", "cell 3: source differs (.py has 'print(2)', .ipynb has 'print(a)')"),
        ("# # Title", "# # Other", "cell 1: source differs (.py has '# Other', .ipynb has '# Title')"),
        ('["parameters"]', '["parameters", "x"]', "cell 2: tags differs"),
        ("# %%\na + 1", '# %% mystnb={"figure": {"name": "f"}}\na + 1', "cell 4: figure metadata differs"),
        ("# %% [markdown]\n# # Title", "# %%\n# # Title", "cell 1: type differs"),
        ("# %%\na + 1\n", "", "the .py has 3 cells, the .ipynb 4"),
    ],
)
def test_differences_are_named(script: Path, old: str, new: str, said: str) -> None:
    pair = refresh(read_source(script), executed(), "stamp", "quick")
    assert differences(read_source(script), pair) == []
    assert SCRIPT.count(old) == 1
    script.write_text(SCRIPT.replace(old, new))
    assert any(line.startswith(said) for line in differences(read_source(script), pair))


def test_an_edited_output_is_found_by_its_cell(script: Path) -> None:
    pair = refresh(read_source(script), executed(), "stamp", "quick")
    assert edited_outputs(pair) == []
    assert is_current(pair, read_source(script), "stamp")
    assert not is_current(pair, read_source(script), "other stamp")
    pair.cells[3].outputs[0].data["text/plain"] = "3"
    assert edited_outputs(pair) == [4]
    assert not is_current(pair, read_source(script), "stamp")
    pair.cells[3].outputs = []
    assert edited_outputs(pair) == [4]


def test_outputs_without_a_record_are_nobodys() -> None:
    notebook = executed()
    assert edited_outputs(notebook) == [2, 3, 4, 5]


def test_an_edit_of_the_notebook_alone_is_not_overwritten(script: Path) -> None:
    path = script.with_suffix(".ipynb")
    fresh = refresh(read_source(script), executed(), "stamp", "quick")
    assert write_pair(path, fresh)
    assert not write_pair(path, fresh), "the same again is no write"
    edited = read_notebook(path)
    edited.cells[2].source = "print(a, a)"
    nbformat.write(edited, path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"one\.ipynb was edited .*cell 3.*jupytext --to py:percent"):
        write_pair(path, fresh)
    assert path.read_bytes() == before
    script.write_text(SCRIPT.replace("print(a)", "print(a, a)"))  # the edit is taken over
    refuse_edits(path, read_source(script))


def test_an_edit_of_the_script_alone_is_written_over_the_pair(script: Path) -> None:
    path = script.with_suffix(".ipynb")
    write_pair(path, refresh(read_source(script), executed(), "stamp", "quick"))
    script.write_text(SCRIPT.replace("# # Title", "# # New title"))
    assert write_pair(path, refresh(read_source(script), executed(), "stamp", "quick"))
    assert read_notebook(path).cells[0].source == "# New title"


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text('{"cells": [')
    with pytest.raises(UserError, match=r"a\.ipynb: expected a Jupyter notebook"):
        read_notebook(path)
    with pytest.raises(UserError, match=r"expected the notebook .*b\.ipynb, found none"):
        read_notebook(tmp_path / "b.ipynb")
    with pytest.raises(UserError, match=r"expected the notebook source .*b\.py, found none"):
        read_source(tmp_path / "b.py")


def test_two_parameters_cells_are_one_too_many(script: Path) -> None:
    script.write_text(SCRIPT.replace("# %%\na + 1", '# %% tags=["parameters"]\nb: int = 1  # x'))
    with pytest.raises(UserError, match=r"one\.py: expected one cell tagged 'parameters', found 2"):
        parameters_of(read_source(script), "one.py")
