"""Processes that end together: a run, the notebooks it executes, and their kernels.

A kernel runs in a session of its own, and so does each notebook of a run; a signal to one of them does not
reach the others. Here they are told.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

import psutil

RUN_VARIABLE = "EVENTBOOK_RUN"
POLL_SECONDS = 0.5


def is_alive(pid: int) -> bool:
    """True if a process exists and has not ended (one that nobody has waited for still exists)."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end_with_children() -> None:
    """On SIGTERM, end this process and everything it started, kernels among them."""

    def end(number: int, frame: FrameType | None) -> None:
        for child in psutil.Process().children(recursive=True):
            child.kill()
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


def end_with_run() -> None:
    """Watch the run that EVENTBOOK_RUN names by its process, and end this process group when it is gone.

    Without it a run that is killed would leave notebooks executing, and the next run would meet them.
    """
    run = os.environ.get(RUN_VARIABLE, "")
    if not run.isdigit():
        return

    def watch() -> None:
        while is_alive(int(run)):
            time.sleep(POLL_SECONDS)
        os.killpg(os.getpgrp(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
