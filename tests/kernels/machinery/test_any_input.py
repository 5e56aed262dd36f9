"""No input crashes the interpreter, hangs it, or is answered with memory that nobody wrote."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("any_input.py")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="pages are protected by POSIX's mprotect")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        cwd=PROGRAM.parent,
    )


@pytest.mark.parametrize("room", ["scans", "encoders"])
def test_anything_is_answered_or_refused_in_one_line(room):
    done = run(str(PROGRAM), room, "0", "300")
    assert done.returncode == 0, done.stdout[-200:] + done.stderr[-2_000:]
    counts = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines()[1:])
    functions = {name.rsplit(" ", 1)[0] for name in counts}
    assert len(functions) == {"scans": 11, "encoders": 12}[room]
    for function in functions:  # neither only good arguments nor only bad ones
        assert int(counts[f"{function} accepted"]) > 0
        assert int(counts[f"{function} refused"]) > 0


READER = """
import numpy as np
from any_input import guarded
from eventbook.kernels.machinery.compile import kernel

@kernel()
def last(x, beyond):
    return x[x.size - 1 + beyond]

print(last(guarded(np.arange(5.0)), {beyond}))
"""


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_kernel_that_reads_beyond_its_array_ends_the_process(beyond):
    """Control: the memory behind an argument is guarded."""
    done = run("-c", READER.format(beyond=beyond))
    assert (done.returncode, done.stdout) == ((0, "4.0\n") if not beyond else (done.returncode, ""))
    assert (done.returncode < 0) == bool(beyond)


WHOLE_CHUNKS = """
import torch
from any_input import guard_results
from eventbook.kernels.scans import selective_scan
from eventbook.kernels.scans.selective_kernels import CHUNK

guard_results()
for time in (1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK):
    for width in (1, 16, 17, 32):
        x, p = torch.rand(2, time, width, requires_grad=True), torch.rand(2, time, 3)
        selective_scan(x, x, -torch.ones(width, 3), p, p)[0].sum().backward()
        assert x.grad.isfinite().all()
print("done")
"""


def test_whole_chunks_read_no_state_that_was_not_kept():
    """The backward pass starts each chunk of time from a kept state, and there is none behind the last."""
    done = run("-c", WHOLE_CHUNKS)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2_000:]
