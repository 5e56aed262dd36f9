"""A kernel with a door: called from Python it checks its arguments, called from a kernel it does not.

    @door(check)          @inside
    @kernel()             @kernel()
    def step(...): ...    def walk(...): ...

    step(...)             from Python: check(...), then the kernel;      from a kernel: the kernel alone
    step.kernel(...)      the kernel alone, for a caller that has proved the arguments once for many calls
    walk(...)             from Python: an error;                         from a kernel: the kernel

Compiled loops trust their caller, so they stay as fast as they are; what they rely on stands in their
docstrings.
"""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from numba import types
from numba.extending import typeof_impl


class Door:
    """A kernel and the check that stands between it and Python.

    Attributes
    ----------
    kernel
        The compiled function itself, unchecked.
    py_func
        The function as it was written.
    """

    def __init__(self, kernel: Any, check: Callable[..., None]) -> None:
        update_wrapper(self, kernel.py_func)
        self.kernel, self.py_func, self.check = kernel, kernel.py_func, check

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.check(*args, **named)
        return self.kernel(*args, **named)

    def __repr__(self) -> str:
        return f"<kernel {self.py_func.__module__}.{self.py_func.__qualname__}, checked from Python>"


@typeof_impl.register(Door)
def _(value: Door, context: Any) -> types.Dispatcher:
    """Inside other kernels a door is the kernel behind it."""
    return types.Dispatcher(value.kernel)


def door(check: Callable[..., None]) -> Callable[[Any], Door]:
    """Let a kernel be called from Python after `check`, which takes the same arguments and raises."""
    return lambda kernel: Door(kernel, check)


def inside(kernel: Any) -> Door:
    """Let a kernel be called from kernels alone."""

    def refuse(*args: Any, **named: Any) -> None:
        raise TypeError(f"{kernel.py_func.__name__} is callable from kernels alone: it checks nothing")

    return Door(kernel, refuse)
