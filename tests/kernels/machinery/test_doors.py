"""A door checks when it is called from Python, and is the kernel itself inside other kernels."""

import inspect

import numpy as np
import pytest

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.doors import door, inside

calls = []


def positive(x, *_, **__):
    calls.append(x)
    if x <= 0:
        raise ValueError(f"x must be > 0, got {x}")


@door(positive)
@kernel()
def root(x, scale=1.0):
    """The root, scaled."""
    return scale * np.sqrt(x)


@inside
@kernel()
def half(x):
    return x / 2


@kernel()
def roots(x):
    total = 0.0
    for i in range(x.size):
        total += root(x[i]) + half(x[i])
    return total


def test_checked_from_python():
    assert root(4.0) == 2.0
    assert root(x=4.0, scale=3.0) == 6.0
    with pytest.raises(ValueError, match="x must be > 0, got -1"):
        root(-1.0)


def test_unchecked_from_kernels():
    calls.clear()
    assert roots(np.array([4.0, 9.0])) == 2 + 3 + 2 + 4.5
    assert np.isnan(roots(np.array([-4.0])))
    assert np.isnan(root.kernel(-4.0))
    assert calls == []


def test_inside_is_for_kernels():
    with pytest.raises(TypeError, match="half is callable from kernels alone"):
        half(2.0)
    assert half.kernel(2.0) == 1.0


def test_a_door_shows_the_function_behind_it():
    assert root.__doc__ == "The root, scaled."
    assert root.__name__ == "root"
    assert "return scale * np.sqrt(x)" in inspect.getsource(root.py_func)
    assert list(inspect.signature(root).parameters) == ["x", "scale"]
    assert "root, checked from Python" in repr(root)
