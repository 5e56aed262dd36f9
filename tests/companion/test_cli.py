"""The command line as a person meets it: help, plain output, one line for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_project import call, edit, environment, eventbook, snapshot

from eventbook.companion.project import Project

HELP = {
    "run": "Execute the notebooks that are stale",
    "build": "render the book into _build/html",
    "check": "Check the committed state without executing anything",
    "claims": "exit status 1 if a verdict is not the expected one",
    "fork": "compare it with the original",
    "sweep": "plot each claim against it",
    "doctor": "say what to do",
    "data": "verify the data sets",
}


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("command", HELP)
def test_help_names_what_a_command_does(command: str) -> None:
    shown = call(command, "--help")
    assert shown.status == 0
    assert HELP[command] in flat(shown.out)
    assert "\x1b" not in shown.out
    assert command in flat(call("--help").out)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["", "fork", "data"])
def test_help_through_a_pipe_has_no_frames_and_no_colours(tiny: Project, command: str) -> None:
    shown = eventbook(tiny.root, *command.split(), "--help", FORCE_COLOR="1").stdout
    assert "usage:" in shown.lower()
    assert shown.isascii()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "other"], "unknown chapter 'other'; the book has: tiny"),
        (["run", "-p", "steps"], "expected -p name=value, got 'steps'"),
        (["run", "tiny", "-p", "steps=x"], "parameter steps: expected int, got 'x' (str)"),
        (
            ["run", "tiny", "-p", "stepz=1"],
            "unknown parameter 'stepz'; valid parameters are one: numerator (float), steps (int), "
            "name (str), flags (list[int]); two: offset (int)",
        ),
        (["run", "--profile", "slow"], "unknown profile 'slow'; expected one of quick, full"),
        (["run", "--engine", "make"], "unknown engine 'make'; expected one of auto, snakemake, papermill"),
        (["run", "--record"], "--record needs --profile full and no -p"),
        (["claims", "--profile", "slow"], "unknown profile 'slow'; expected one of quick, full"),
        (["claims", "other"], "unknown chapter 'other'; the book has: tiny"),
        (["data", "get", "nothing"], "name: expected one of "),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(tiny: Project, arguments: list[str], said: str) -> None:
    before = snapshot(tiny.root)
    refused = call(*arguments)
    assert refused.status == 2
    assert refused.out == ""
    assert refused.err.startswith(f"error: {said}")
    assert len(refused.err.splitlines()) == 1
    assert snapshot(tiny.root) == before


@pytest.mark.parametrize("arguments", [["run", "--jobs", "0"], ["run", "--nothing"], ["nothing"]])
def test_what_is_no_command_is_refused(tiny: Project, arguments: list[str]) -> None:
    refused = call(*arguments)
    assert refused.status == 2
    assert "Usage:" in refused.err


def test_parameters_belong_to_one_chapter(tiny: Project) -> None:
    (tiny.root / "notebooks/second").mkdir()
    (tiny.root / "notebooks/second/claims.yml").write_text("")
    assert call("run", "-p", "steps=1").err == "error: -p needs exactly one chapter, got 2\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "claims", "build"])
def test_a_broken_ledger_is_named_with_its_lines(executed: Project, command: str) -> None:
    ledger = executed.root / "notebooks/tiny/claims.yml"
    edit(ledger, "kind: exact", "kind: sharp")
    edit(ledger, "threshold: 10", "treshold: 10")
    before = snapshot(executed.root / "notebooks")
    assert call("check").out.count("claims.yml:") == 2
    refused = call(command, *(["--no-run"] if command == "build" else []))
    assert refused.status == 2
    lines = refused.err.splitlines()
    assert len(lines) == 2
    assert "claims.yml:17: claims[1].kind: expected 'exact', 'numeric', 'trend' or 'qualitative'" in lines[0]
    assert "claims[3].treshold: unknown field" in lines[1]
    assert snapshot(executed.root / "notebooks") == before


@pytest.mark.slow
def test_lines_through_a_pipe_do_not_wrap_and_have_no_colours(executed: Project) -> None:
    ledger = executed.root / "notebooks/tiny/claims.yml"
    edit(ledger, "threshold: 4", "threshold: 5")
    piped = eventbook(executed.root, "claims", COLUMNS="20", FORCE_COLOR="1")
    assert piped.returncode == 1
    assert len(piped.stdout.splitlines()) == 5
    assert piped.stderr == (
        "tiny: tiny-total: expected 'reproduced', got 'differs' in the quick profile: "
        "total = 4, condition == 5\n"
    )
    run = eventbook(executed.root, "check", COLUMNS="20", FORCE_COLOR="1")
    assert "\x1b" not in run.stdout + run.stderr
    assert any(len(line) > 80 for line in run.stdout.splitlines())


@pytest.mark.slow
def test_a_check_of_a_clean_state_and_of_two_chapters_with_one_claim(rendered: Project) -> None:
    clean = call("check")
    assert (clean.status, clean.out) == (0, "all pairs, stamps, ledgers and counts are as they should be\n")
    for path in (rendered.root / "notebooks/tiny").iterdir():
        target = rendered.root / "notebooks/again" / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    red = call("check")
    assert red.status == 1
    assert red.out.count("is taken by tiny") + red.out.count("is taken by again") == 5


@pytest.mark.slow
def test_the_whole_state_as_json_is_json_alone(executed: Project) -> None:
    done = call("claims", "tiny", "--json", "--profile", "quick")
    assert {row["expected"] for row in json.loads(done.out)} == {
        "reproduced",
        "trend reproduced",
        "differs",
        "not attempted",
    }


def test_a_root_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTBOOK_ROOT", str(tmp_path / "nowhere"))
    refused = call("check")
    assert refused.status == 2
    assert f"_config.yml and notebooks/ at EVENTBOOK_ROOT={tmp_path}" in refused.err


@pytest.mark.parametrize("command", [("claims", "--json"), ("data", "list")], ids=" ".join)
def test_a_reader_that_has_seen_enough_is_no_error(tiny: Project, command: tuple[str, ...]) -> None:
    """As in `eventbook claims | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "eventbook.companion", *command],
        env=environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
