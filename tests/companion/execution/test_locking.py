"""The lock of a build folder is held by whoever works there, and by nobody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eventbook.companion.errors import UserError
from eventbook.companion.execution import locking
from eventbook.companion.execution.locking import locked
from eventbook.companion.execution.processes import is_alive

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_second_run_is_refused_and_a_later_one_is_not(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "build"),
        pytest.raises(UserError, match=r"another run \(process \d+\) is at work"),
        locked(tmp_path / "build"),
    ):
        pass
    with locked(tmp_path / "build"):
        pass


def test_what_a_dead_run_left_at_work_keeps_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "PATIENCE_SECONDS", 0.3)
    with locked(tmp_path) as lock:
        child = subprocess.Popen(SLEEP, pass_fds=(lock,))
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        (tmp_path / ".lock").write_text(str(gone.pid))
    try:
        with pytest.raises(UserError, match=f"process {gone.pid}"), locked(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()
    with locked(tmp_path):
        pass


def test_a_lock_file_alone_locks_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("1")
    with locked(tmp_path):
        pass


def test_a_process_that_nobody_waited_for_is_not_alive() -> None:
    process = subprocess.Popen(SLEEP)
    assert is_alive(process.pid)
    process.kill()
    while is_alive(process.pid):
        pass
    process.wait()
    assert not is_alive(process.pid)
