"""Runs of the command line: what fails, what is killed, what is refused, and what goes on afterwards."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from rich.console import Console
from tiny_project import (
    BY_HAND,
    call,
    edit,
    environment,
    eventbook,
    kernels_of,
    snapshot,
    start,
    wait_until,
)

from eventbook.companion.errors import UserError
from eventbook.companion.execution import engines, running
from eventbook.companion.execution.engines import choose_engine
from eventbook.companion.execution.jobs import plan
from eventbook.companion.notebooks.pairs import read_notebook
from eventbook.companion.project import Project

ENGINES = ("papermill", "snakemake")
FIRST = "notebooks/light/first.py"


def leftovers(root: Path) -> list[str]:
    """Temporary names that a clean end must not leave."""
    temporary = ("*.progress.json", "*.log.ipynb", ".*.ipynb.*", ".*.json.*")
    return [path.name for pattern in temporary for path in root.rglob(pattern)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "old", "new", "error"),
    [
        ("papermill", "value: int = 1", "value: int = 0", "ZeroDivisionError"),
        ("snakemake", "print(10 // value)", "print(10 // value", "SyntaxError"),
    ],
)
def test_a_notebook_that_raises_is_shown_and_kept_and_the_other_finishes(
    light: Project, engine: str, old: str, new: str, error: str
) -> None:
    edit(light.root / FIRST, old, new)
    failed = eventbook(light.root, "run", "--engine", engine, "--jobs", "1")
    assert failed.returncode == 1
    assert f"light/first: cell 3 raised {error}:" in failed.stdout
    assert "    print(10 // value" in failed.stdout, "the cell"
    assert "----> 1 print(10 // value" in failed.stdout or "^" in failed.stdout, "the traceback"
    assert f"\n{error}: " in failed.stdout
    kept = light.build / "runs/quick/light/first.failed.ipynb"
    assert f"the notebook as far as it came: {light.shown(kept)}" in failed.stdout
    assert "1 executed, 0 current, 1 failed" in failed.stdout
    assert "\x1b" not in failed.stdout
    errors = [
        o for cell in read_notebook(kept).cells for o in cell.get("outputs", []) if o.output_type == "error"
    ]
    assert [output.ename for output in errors] == [error]
    chapter = light.chapter("light")
    assert not chapter.pair("first").is_file()
    assert read_notebook(chapter.pair("second")).cells[0].outputs[0].text == "second\n"
    assert leftovers(light.root) == []

    edit(light.root / FIRST, new, old)
    mended = eventbook(light.root, "run", "--engine", engine)
    assert mended.returncode == 0
    assert "1 executed, 1 current, 0 failed" in mended.stdout
    assert "second" not in mended.stdout, "only the mended one runs"
    assert read_notebook(chapter.pair("first")).cells[2].outputs[0].text == "10\n"
    assert not kept.exists()


@pytest.mark.slow
def test_a_result_from_before_never_stands_for_a_run_that_failed(light: Project) -> None:
    """The code is the same, so the old result would count as this run's."""
    edit(light.root / FIRST, "while Path", 'assert not Path("fail").exists()\nwhile Path')
    assert eventbook(light.root, "run", "--engine", "papermill").returncode == 0
    (job, _) = plan(light.chapter("light"))
    assert job.is_done()
    (light.root / "notebooks/light/fail").touch()
    failed = eventbook(light.root, "run", "--force", "--engine", "papermill")
    assert failed.returncode == 1
    assert "1 executed, 0 current, 1 failed" in failed.stdout
    assert not job.path("ipynb").exists()
    assert not job.is_done()


@pytest.mark.slow
def test_a_report_from_before_never_stands_for_a_run_without_one(
    executed: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that ends without running anything, as after a kill."""
    jobs = plan(executed.chapter("tiny"))
    assert all(job.is_done() for job in jobs)
    monkeypatch.setattr(running, "run_with_pool", lambda *_: None)
    console = Console(file=io.StringIO())
    outcome = running.run_jobs(jobs, executed, console, engine="papermill", force=True)
    assert (outcome.executed, outcome.current, outcome.failed) == ([], [], jobs)
    assert outcome.exit_status == 1


def blocked(light: Project, *arguments: str) -> subprocess.Popen[str]:
    """A run whose first notebook waits, with its kernel at work."""
    (light.root / "notebooks/light/block").touch()
    process = start(light.root, "run", *arguments)
    progress = light.build / "runs/quick/light/first.progress.json"
    wait_until(lambda: progress.is_file() and json.loads(progress.read_text())["cell"] == 2)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_run_takes_its_notebooks_along_and_the_next_completes(light: Project, engine: str) -> None:
    process = blocked(light, "--engine", engine)
    kernels = kernels_of(process.pid)
    assert kernels
    second = call("run", "--engine", "papermill")
    assert second.status == 2
    assert f"another run (process {process.pid}) is at work" in second.err
    process.send_signal(signal.SIGKILL)
    process.communicate()
    pair = light.chapter("light").pair("first")
    assert not pair.exists()
    wait_until(lambda: not any(kernel.is_running() for kernel in kernels), 15)
    (light.root / "notebooks/light/block").unlink()
    resumed = eventbook(light.root, "run", "--engine", engine)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert " 0 failed" in resumed.stdout
    assert read_notebook(pair).cells[2].outputs[0].text == "10\n"
    assert leftovers(light.root) == []


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupted_run_leaves_no_process(light: Project, engine: str) -> None:
    process = blocked(light, "--engine", engine)
    kernels = kernels_of(process.pid)
    assert kernels
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; finished notebooks are kept" in said
    assert "Traceback" not in said
    wait_until(lambda: not any(kernel.is_running() for kernel in kernels), 15)
    assert not light.chapter("light").pair("first").exists()


@pytest.mark.slow
def test_a_killed_kernel_is_a_failed_notebook(light: Project) -> None:
    process = blocked(light, "--engine", "papermill")
    wait_until(lambda: light.chapter("light").pair("second").is_file())
    (kernel,) = kernels_of(process.pid)
    kernel.kill()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "light/first: cell 2 raised DeadKernelError" in said
    assert "1 executed, 0 current, 1 failed" in said
    assert not light.chapter("light").pair("first").exists()


def limited(size: int) -> Callable[[], None]:
    """No file may grow beyond `size` bytes, as on a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 2500])
def test_a_full_disk_is_one_line_and_leaves_the_pairs(executed: Project, size: int) -> None:
    edit(executed.root / "notebooks/tiny/two.py", "2 + 2 + offset", "4 + offset")
    before = snapshot(executed.root / "notebooks")
    done = subprocess.run(
        [sys.executable, "-m", "eventbook.companion", "run", "--engine", "papermill"],
        cwd=executed.root,
        env=environment(PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited(size),
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if "cannot write" in line]
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert len(said) == 1
    assert "File too large" in said[0]
    assert snapshot(executed.root / "notebooks") == before


@pytest.mark.parametrize("build", ["/proc/nowhere", "README.md/build", "README.md"])
@pytest.mark.parametrize("command", [["run"], ["build"], ["fork", "tiny", "--name", "x"]])
def test_a_build_folder_that_cannot_be_is_one_line(
    tiny: Project, monkeypatch: pytest.MonkeyPatch, build: str, command: list[str]
) -> None:
    monkeypatch.setenv("EVENTBOOK_BUILD", build)
    before = snapshot(tiny.root)
    refused = call(*command)
    assert refused.status == 2
    (line,) = refused.err.splitlines()
    assert line.startswith("error: cannot ")
    assert build in line
    assert snapshot(tiny.root) == before


@pytest.mark.slow
def test_edited_outputs_are_named_and_restored_without_running(executed: Project) -> None:
    pair = executed.chapter("tiny").pair("one")
    before = pair.read_bytes()
    notebook = read_notebook(pair)
    notebook.cells[3].outputs[0].text = "printed something else\n"
    nbformat.write(notebook, pair)
    red = call("check")
    assert red.status == 1
    assert "notebooks/tiny/one.ipynb: cell 4: outputs are not those of the execution" in red.out
    restored = call("run")
    assert restored.status == 0
    assert "tiny/one: outputs restored from the executed notebook" in restored.out
    assert "0 executed, 2 current, 0 failed" in restored.out
    assert pair.read_bytes() == before


@pytest.mark.slow
def test_a_deleted_pair_is_restored_without_running(executed: Project) -> None:
    pair = executed.chapter("tiny").pair("two")
    before = pair.read_bytes()
    pair.unlink()
    assert "two.ipynb: expected the pair of two.py, found none" in call("check").out
    assert "0 executed, 2 current" in call("run").out
    assert pair.read_bytes() == before


@pytest.mark.slow
def test_an_edit_of_the_text_reaches_the_pair_without_running(executed: Project) -> None:
    edit(executed.root / "notebooks/tiny/one.py", "# # One", "# # The first")
    assert "cell 1: source differs" in call("check").out
    assert "0 executed, 2 current" in call("run").out
    assert read_notebook(executed.chapter("tiny").pair("one")).cells[0].source.startswith("# The first")
    assert "one.ipynb" not in call("check").out


@pytest.mark.slow
def test_an_edit_of_the_code_is_stale(executed: Project) -> None:
    edit(executed.root / "notebooks/tiny/two.py", "2 + 2 + offset", "offset + 4")
    red = call("check")
    assert red.status == 1
    assert "notebooks/tiny/two.ipynb: stale" in red.out
    assert "one.ipynb" not in red.out


@pytest.mark.slow
def test_an_edit_of_the_notebook_alone_is_refused_and_kept(executed: Project) -> None:
    pair = executed.chapter("tiny").pair("two")
    notebook = read_notebook(pair)
    notebook.cells[2].source += "\nprint('mine')"
    nbformat.write(notebook, pair)
    edited = pair.read_bytes()
    for _ in range(2):
        refused = call("run")
        assert refused.status == 2
        assert "tiny/two: " in refused.out
        assert "was edited and differs from its .py (cell 3: source differs" in refused.out
        assert f"'jupytext --to py:percent {pair}'" in refused.out
        assert "0 executed, 1 current, 0 failed, 1 refused" in refused.out
        assert pair.read_bytes() == edited
    # and the advice works
    command = [sys.executable, "-m", "jupytext", "--to", "py:percent", str(pair)]
    subprocess.run(command, check=True, capture_output=True)
    assert "print('mine')" in (executed.root / "notebooks/tiny/two.py").read_text()
    assert "two.ipynb: stale" in call("check").out


@pytest.mark.slow
def test_touching_runs_nothing(executed: Project) -> None:
    for path in executed.root.rglob("*"):
        os.utime(path)
    assert "0 executed, 2 current, 0 failed" in call("run").out


@pytest.mark.slow
def test_a_second_run_is_the_same_byte_for_byte(executed: Project) -> None:
    before = snapshot(executed.root / "notebooks")
    text = before["tiny/one.ipynb"].decode()
    assert "UserWarning: a warning" in text, "what names a temporary file of the kernel is among the outputs"
    assert "ipykernel_" not in text
    forced = eventbook(executed.root, "run", "--force", "--engine", "papermill")
    assert "2 executed, 0 current, 0 failed" in forced.stdout
    assert snapshot(executed.root / "notebooks") == before


@pytest.mark.slow
def test_a_variant_never_reaches_the_pair(executed: Project) -> None:
    before = snapshot(executed.root, "_build")
    done = eventbook(executed.root, "run", "tiny", "-p", "offset=3", "--engine", "papermill")
    assert done.returncode == 0
    assert "tiny/two (offset=3): done" in done.stdout
    assert "1 executed, 1 current" in done.stdout, "the other notebook has no such parameter"
    assert "  tiny-total: 7 (== 4): differs" in done.stdout
    assert "  tiny-half: 0.5 (in [0.49, 0.51]): reproduced" in done.stdout
    assert snapshot(executed.root, "_build") == before
    assert call("check").out.splitlines() == [
        "README.md: the table of chapters is not current; 'eventbook build' writes it"
    ]


def test_engines_are_chosen_by_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [choose_engine(name) for name in engines.ENGINES] == ["snakemake", "snakemake", "papermill"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_engine("auto") == "papermill"
    with pytest.raises(UserError, match="engine snakemake is not installed"):
        choose_engine("snakemake")
    with pytest.raises(UserError, match="unknown engine 'make'; expected one of auto, snakemake, papermill"):
        choose_engine("make")


@pytest.mark.slow
def test_snakemake_by_hand_does_the_same_and_renders_the_book(
    executed_tree: Path, rendered_tree: Path
) -> None:
    for name in ("one", "two"):
        pair = f"notebooks/tiny/{name}.ipynb"
        assert (rendered_tree / pair).read_bytes() == (executed_tree / pair).read_bytes()
    build = rendered_tree / "_build"
    assert (build / "html/notebooks/tiny/one.html").is_file()
    assert json.loads((build / "claims.json").read_text())[0]["verdict"] == "reproduced"
    again = subprocess.run(
        BY_HAND, cwd=rendered_tree, env=environment(), capture_output=True, text=True, check=True
    )
    assert "Nothing to be done" in again.stderr


@pytest.mark.slow
def test_a_full_run_is_recorded_also_without_snakemake(light: Project) -> None:
    assert call("run", "--record").status == 2
    hidden = "import sys; sys.modules['snakemake'] = None; from eventbook.companion.cli import main; main()"
    command = [sys.executable, "-c", hidden, "run", "--profile", "full", "--record"]
    done = subprocess.run(
        command, cwd=light.root, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (light.build / "snakemake.log").exists()
    assert "recorded in results/full/light.json" in done.stdout
    record = json.loads(light.recorded("light").read_text())
    assert record["notebooks"]["first"]["parameters"] == {"value": 2}
    assert set(record) == {"chapter", "notebooks", "values"}
    assert {"recorded", "commit", "machine", "versions"} <= set(record["notebooks"]["first"])
    assert not light.chapter("light").pair("first").exists(), "the full profile leaves the pairs alone"
    edit(light.root / FIRST, "10 //", "20 //")
    job = plan(light.chapter("light"), "full")[0]
    assert not job.is_done()
