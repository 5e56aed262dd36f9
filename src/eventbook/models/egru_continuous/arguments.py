"""What a run in continuous time is given, and what it says when that is wrong.

Symbols and names: `eventbook.models.egru_continuous.function`.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.machinery.tensors import array, axes, same_dtype

GATES = ("target", "source")
RESETS = ("zero", "threshold")
PAYLOADS = ("graded", "unit")
STEPS_PER_TIME_CONSTANT = 16  # of the faster one, where no step is given
MOST_STEPS = 10**8  # of a run, which nobody can interrupt


class Options(NamedTuple):
    """Everything about a run that is no tensor."""

    duration: float
    gate_of: str
    reset: str
    payload: str
    tau_s: float
    tau_m: float
    step: float
    max_events: int

    def words(self) -> tuple[bool, bool, bool]:
        """The choices as the kernels take them: by target's gate, by subtraction, graded."""
        return self.gate_of == "target", self.reset == "threshold", self.payload == "graded"


class Arguments(NamedTuple):
    """The tensors of a run, looked at, and what was left out filled in."""

    time: Tensor
    token: Tensor
    kernel: Tensor
    recurrent: Tensor
    bias: Tensor
    threshold: Tensor
    asked: Tensor
    value: Tensor
    state: Tensor


def options(
    duration: float,
    gate_of: str,
    reset: str,
    payload: str,
    tau_s: float,
    tau_m: float,
    step: float | None,
    max_events: int,
) -> Options:
    """The options, or one clear error.

    Raises
    ------
    ValueError
        If a word is none of those named, a number is out of range, or it requires a gradient.
    TypeError
        If `max_events` is no whole number.
    """
    for name, word, known in (("gate_of", gate_of, GATES), ("reset", reset, RESETS),
                              ("payload", payload, PAYLOADS)):  # fmt: skip
        if word not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {word!r}")
    if step is None:
        step = min(tau_s, tau_m) / STEPS_PER_TIME_CONSTANT
    for name, number in (("tau_s", tau_s), ("tau_m", tau_m), ("step", step), ("duration", duration)):
        if getattr(number, "requires_grad", False):  # of a tensor, which `float` would cut off
            raise ValueError(f"{name} must not require a gradient: a run is not differentiated in its {name}")
        if not 0 < number < math.inf:
            raise ValueError(f"{name} must be > 0 and finite, got {number}")
    if duration / step > MOST_STEPS:
        raise ValueError(f"step must be at least duration / {MOST_STEPS:.0e}, got {step} for {duration} ms")
    max_events = whole(max_events, "max_events", 0)
    return Options(
        float(duration), gate_of, reset, payload, float(tau_s), float(tau_m), float(step), max_events
    )


def checked(
    time: Tensor,
    token: Tensor,
    kernel: Tensor,
    recurrent: Tensor,
    bias: Tensor,
    threshold: Tensor,
    asked: Tensor | None,
    value: Tensor | None,
    state: Tensor | None,
    duration: float,
) -> Arguments:
    """The tensors, or one clear error.

    Raises
    ------
    ValueError
        If shapes do not fit, a number is not finite, times do not rise within 0..duration, a token has no
        row, a threshold is not positive, or a state begins at its threshold or above; names the first.
    TypeError
        If tokens are not int64 or anything else is not float64.
    """
    required = {
        "time": time, "token": token, "kernel": kernel, "recurrent": recurrent, "bias": bias,
        "threshold": threshold,
    }  # fmt: skip
    for name, tensor in required.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    units = axes(threshold=(threshold, "unit"), recurrent=(recurrent, "unit three_units"))["unit"]
    if recurrent.shape[1] != 3 * units:
        raise ValueError(
            f"recurrent must have 3 columns per unit, blocks u, r, z: {3 * units}, got {recurrent.shape[1]}"
        )
    asked = time.new_empty(0) if asked is None else asked
    value = torch.ones_like(time) if value is None else value
    sizes = axes(
        recurrent=(recurrent, "unit three_units"),
        kernel=(kernel, "tokens three_units"),
        bias=(bias, "three_units"),
        time=(time, "event"),
        token=(token, "event"),
        value=(value, "event"),
        asked=(asked, "asked"),
    )
    state = threshold.new_zeros(4, units) if state is None else state
    axes(state=(state, "rows unit"), threshold=(threshold, "unit"))
    if len(state) != 4:
        raise ValueError(f"state must be (4, unit), rows c, a_u, a_r, a_z, got {tuple(state.shape)}")
    if token.dtype != torch.int64:
        raise TypeError(f"token must be int64, got {str(token.dtype).removeprefix('torch.')}")
    numbers = {
        "time": time, "kernel": kernel, "recurrent": recurrent, "bias": bias, "threshold": threshold,
        "asked": asked, "value": value, "state": state,
    }  # fmt: skip
    same_dtype((torch.float64,), **numbers)
    if asked.requires_grad:
        raise ValueError("asked must not require a gradient: states are not differentiated in their times")
    for name, tensor in numbers.items():
        _check(~np.isfinite(array(tensor)), name, "be finite", array(tensor))
    for name, stamps in (("time", array(time)), ("asked", array(asked))):
        _check((stamps < 0) | (stamps > duration), name, f"be in 0..{duration:g} ms, the duration", stamps)
        falls = np.diff(stamps, prepend=0.0) < 0
        _check(falls, name, "not be earlier than the one before", stamps)
    rows = array(token)
    _check((rows < 0) | (rows >= sizes["tokens"]), "token", f"be in 0..{sizes['tokens'] - 1}", rows)
    _check(array(threshold) <= 0, "threshold", "be > 0", array(threshold))
    above = array(state)[0] >= array(threshold)
    _check(above, "state", "begin with c below the threshold", np.where(above, array(state)[0], 0.0))
    return Arguments(time, token, kernel, recurrent, bias, threshold, asked, value, state)


def _check(wrong: NDArray[np.bool_], name: str, expected: str, values: NDArray[Any]) -> None:
    """ValueError that names the first wrong number."""
    if wrong.any():
        at = np.unravel_index(int(wrong.argmax()), wrong.shape)
        place = ", ".join(str(int(k)) for k in at)
        raise ValueError(f"{name} must {expected}, got {values[at]:.6g} at [{place}]")
