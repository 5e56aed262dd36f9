"""The one way in which this package compiles Numba kernels.

Every kernel is compiled with ``error_model="numpy"`` (division by zero yields inf or nan, as in NumPy;
Python's checked division blocks vectorisation), releases the GIL and is cached on disk.

Numba's own cache looks at the file of the cached function alone: after an edit of a helper in another file it
goes on running the old machine code. Here the folder of the cache is named after a hash of all sources of
``eventbook.kernels`` and the stamp of each entry is the hash of the kernel's own file. So a kernel may call
kernels of its own file and of ``eventbook.kernels``, whatever room it lives in, and is never stale.

The folder is ``$NUMBA_CACHE_DIR`` if set, else ``$XDG_CACHE_HOME/eventbook`` or the platform's equivalent.
Where it cannot be written, kernels are compiled anew in every process and work the same. Numba's global
configuration, hence the cache of any other package, is left alone.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator


def _digest(*files: Path) -> str:
    sha = hashlib.sha256()
    for file in files:
        sha.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return sha.hexdigest()


@cache
def kernel_sources_digest() -> str:
    """Sha256 (hex) over the names and contents of all source files of ``eventbook.kernels``."""
    return _digest(*sorted(Path(__file__).parents[1].rglob("*.py")))


def cache_folder() -> Path:
    """Folder of the compiled kernels that belong to the present sources of ``eventbook.kernels``."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        base = Path(chosen)
    elif xdg := os.environ.get("XDG_CACHE_HOME"):
        base = Path(xdg) / "eventbook"
    elif sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        base = Path(local) / "eventbook"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches" / "eventbook"
    else:
        base = Path.home() / ".cache" / "eventbook"
    return base / f"numba-{kernel_sources_digest()[:16]}"


class _SourcesLocator(_CacheLocator):
    """Places the cache of a kernel by content, never by file time (which a checkout scrambles)."""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        self._file = Path(file)
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return _digest(self._file)

    def get_disambiguator(self) -> str:
        # Two checkouts of the package may share the folder: their paths must not collide.
        where = hashlib.sha256(str(self._file.resolve()).encode()).hexdigest()[:8]
        return f"{where}-{self._line}"

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> "_SourcesLocator | None":
        if not Path(file).exists():  # typed into an interpreter: there is no source to hash
            return None
        locator = cls(function, file)
        try:
            locator.ensure_cache_path()
        except (OSError, RuntimeError):  # not writable, or no home folder
            return None
        return locator


class _SourcesCacheImpl(CompileResultCacheImpl):
    _locator_classes = [_SourcesLocator]  # noqa: RUF012 (the attribute that Numba reads)


class _SourcesCache(FunctionCache):
    _impl_class = _SourcesCacheImpl


def kernel(*, fastmath: frozenset[str] = frozenset(), inline: bool = False) -> Callable[[Callable], Any]:
    """Compile a function to machine code on its first call, cached by source content.

    Parameters
    ----------
    fastmath
        LLVM flags that this kernel may use, e.g. ``frozenset({"reassoc", "contract"})`` for a sum whose order
        does not matter. None by default: results do not depend on the vector width of the machine.
    inline
        Ask LLVM to inline the compiled function wherever another kernel calls it, for helpers of a few
        operations.

    Returns
    -------
    decorator
        Turns a Python function into a Numba dispatcher; ``.py_func`` is the original.
    """

    def decorate(function: Callable) -> Any:
        dispatcher: Any = numba.njit(
            error_model="numpy",
            nogil=True,
            fastmath=set(fastmath) or False,
            forceinline=inline,
        )(function)
        with suppress(RuntimeError):  # Numba's "no locator available": run without a disk cache
            dispatcher._cache = _SourcesCache(function)
        return dispatcher

    return decorate
