"""Encoded streams, kept on disk: what was computed once is read the next time.

    name of the file = sha256(parameters, hash of the source data, sources of encoders and loader, versions)

So a file is never out of date: whatever would change its content changes its name. It begins with the sha256
of the rest, which is checked on reading; a file that is cut short or altered is computed again and replaced.
It is written under a temporary name of its own and then renamed, so that any number of processes may do it at
once. A folder that cannot be written to means computing without a cache.

The folder is ``streams`` under ``EVENTBOOK_CACHE`` or, if that is not set, under the cache folder of the
person (``~/.cache/eventbook`` on Linux). Nothing is ever removed from it; it may be removed whole at any
time.

Source: derived.
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

MAGIC = b"eventbook streams 1\n"
ROOMS = ("eventbook.kernels.encoders", "eventbook.kernels.machinery")  # whose sources decide about events
COMPILERS = ("numpy", "numba", "llvmlite")  # whose versions may move a rounding

Arrays = dict[str, NDArray[Any]]


def cached(name: str, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
    """Return what `compute` returns, from the cache if it holds it.

    Parameters
    ----------
    name : str
        How the files begin, for people who look into the folder.
    key : mapping
        Everything that decides about the result besides the code: parameters, and hashes of the data. JSON.
    compute : callable
        Without arguments; returns arrays by name, none of objects. Its errors pass through.

    Returns
    -------
    dict of ndarray
    """
    path = cache_folder() / f"{name}-{digest(key, compute)}.npz"
    found = _read(path)
    if found is None:
        found = compute()
        # without room or permission for a cache the result is as good
        with contextlib.suppress(OSError):
            _write(path, found)
    return found


def cache_folder() -> Path:
    """Where the files are; it need not exist."""
    named = os.environ.get("EVENTBOOK_CACHE")
    return (Path(named) if named else user_cache_path("eventbook", appauthor=False)) / "streams"


def digest(key: Mapping[str, Any], compute: Callable[[], Arrays]) -> str:
    """Hash of a key, of the sources of encoders and of `compute`, and of the versions of compilers."""
    versions = {package: metadata.version(package) for package in COMPILERS}
    recipe = hashlib.sha256(Path(compute.__code__.co_filename).read_bytes()).hexdigest()
    whole = json.dumps([dict(key), encoder_sources(), recipe, versions], sort_keys=True, allow_nan=False)
    return hashlib.sha256(whole.encode()).hexdigest()


@functools.cache
def encoder_sources() -> str:
    """Hash of the sources of the encoders, found without importing them."""
    whole = hashlib.sha256()
    for room in ROOMS:
        spec = find_spec(room)
        assert spec is not None
        assert spec.origin is not None
        for path in sorted(Path(spec.origin).parent.glob("*.py")):
            whole.update(f"{room}/{path.name}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _read(path: Path) -> Arrays | None:
    """The arrays of a file, or None if it is not there or not whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    head = len(MAGIC) + hashlib.sha256().digest_size
    packed = memoryview(content)[head:]
    if content[:head] != MAGIC + hashlib.sha256(packed).digest():
        return None
    with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
        return dict(stored)


def _write(path: Path, arrays: Arrays) -> None:
    """Write a file under a name that no other process has, then rename it; a failure leaves nothing."""
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    content = packed.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(MAGIC + hashlib.sha256(content).digest() + content)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
