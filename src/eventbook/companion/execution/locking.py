"""One run at a time in a build folder."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError
from .processes import is_alive

PATIENCE_SECONDS = 15.0


@contextmanager
def locked(build: Path) -> Iterator[int]:
    """Hold the build folder's lock; yields its file descriptor.

    The lock belongs to the open file: it ends with the last process that holds the descriptor, however
    that ends, so it is never stale. Processes of a run that inherit it keep the next run away until they
    are gone, also if the run itself was killed; for those the next run waits.

    Raises
    ------
    UserError
        If another run is at work, or the folder cannot be written.
    """
    try:
        build.mkdir(parents=True, exist_ok=True)
        file = os.open(build / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _acquire(file, build)
            os.ftruncate(file, 0)
            os.pwrite(file, str(os.getpid()).encode(), 0)
        except BaseException:
            os.close(file)
            raise
    except OSError as error:
        raise UserError(f"cannot write to the build folder {build}: {error.strerror or error}") from error
    try:
        yield file
    finally:
        os.close(file)


def _acquire(file: int, build: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = os.pread(file, 32, 0).decode(errors="replace").strip()
            ending = holder.isdigit() and not is_alive(int(holder))
            if not ending or time.monotonic() > deadline:
                raise UserError(
                    f"another run (process {holder or '?'}) is at work in {build}; wait for it or stop it"
                ) from None
            time.sleep(0.2)
