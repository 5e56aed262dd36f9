r"""One step of the event-based GRU: a GRU whose units say something only when their state crosses a threshold.

    p_t = x_t W + b                        q_t = y_{t-1} R + b_r              blocks z, r, g of 3 H each
    z = sig(p_z + q_z)    r = sig(p_r + q_r)    g = tanh(p_g + r q_g)
    c_t = z h_{t-1} + (1 - z) g            o_t = [c_t > theta]
    y_t = o_t c_t                          h_t = c_t - o_t theta
    d o_t / d c_t  :=  gamma max(0, 1 - beta |c_t - theta|)

| symbol | meaning | shape | name |
|---|---|---|---|
| x | input | (batch, input_size) | `input` |
| W, R | kernels: a row is what a source sends, column blocks are gates | (input_size, 3 H), (H, 3 H) | `kernel`, `recurrent_kernel` |
| b, b_r | biases | (3 H,) | `bias`, `recurrent_bias` |
| theta | threshold | (H,) | `threshold` |
| h | state after the reset | (batch, H) | `carry` |
| y | what units say: 0, or the state that crossed the threshold | (batch, H) | `output` |
| c | state before the reset | (batch, H) | - |
| beta, gamma | inverse half-width and height of the surrogate derivative | numbers | `surrogate_support`, `surrogate_dampening` |

What an event takes away and where the reset gate acts differ between the paper and its released code; both
are options (`Dynamics`), and so are a reset by value and none. With no reset and thresholds of -inf the cell
is torch.nn.GRUCell.

Source: Subramoney et al., arXiv:2206.06178, and its released code, of which the default is the form.
"""  # noqa: E501 (a table)

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.events.egru import check_form
from eventbook.kernels.events.egru_reference import egru_step, triangular
from eventbook.models.egru.thresholds import (
    FixedThreshold,
    SigmoidThreshold,
    Threshold,
    fires_always,
    normal_numbers,
    placed,
)


@dataclass(frozen=True)
class Dynamics:
    """What all forms of the cell agree to differ in.

    Parameters
    ----------
    reset
        What an event takes from the state: "threshold" (the released code), "value", "none", or "paper",
        which lowers the next c by y, outside of the leak.
    reset_gate
        Where r acts: "after" the recurrent product (the released code, torch.nn.GRU) or "before" it (the
        paper), which sends a second value, r y, in a second round of each step.
    surrogate_support
        beta > 0; inf for no window, so that gradients pass where units fired and nowhere else. A larger beta
        is a narrower window.
    surrogate_dampening
        gamma >= 0, finite.

    Raises
    ------
    ValueError
        If a word is none of those named or a number out of range.
    """

    reset: str = "threshold"
    reset_gate: str = "after"
    surrogate_support: float = 1.0
    surrogate_dampening: float = 0.7

    def __post_init__(self) -> None:
        check_form(self.reset, self.reset_gate, self.surrogate_support, self.surrogate_dampening)

    def event(self, distance: Tensor) -> Tensor:
        """[distance > 0], differentiable through the surrogate."""
        return triangular(self.surrogate_support, self.surrogate_dampening)(distance)


class EGRUState(NamedTuple):
    """What one layer carries from step to step: h and y, both (batch, unit).

    The released code carries y alone and lets h begin at 0 in each window; to do as it does, hand over a
    state whose `carry` is zeros.
    """

    carry: Float[Tensor, "batch unit"]
    output: Float[Tensor, "batch unit"]

    def detach(self) -> "EGRUState":
        """The same numbers, cut off from what made them: for gradients that end at a window."""
        return EGRUState(self.carry.detach(), self.output.detach())


class EGRUCell(nn.Module):
    """One step at a time, in operations of torch, for any floating dtype and device; see the module.

    Under torch.autocast it computes in the dtype of its weights, to which it brings what autocast made of its
    input and state: rounding to eight bits would decide who crosses a threshold.

    Parameters
    ----------
    input_size, hidden_size, bias
        As torch.nn.GRUCell.
    threshold
        A number > 0 for all units, -inf for a cell that always fires, or what makes a `Threshold`: called
        with the number of units and `generator=`. Sigmoids of normal numbers if not given.
    reset, reset_gate, surrogate_support, surrogate_dampening
        See `Dynamics`.
    generator
        Source of the initial weights; torch's own if not given.
    device, dtype
        Of the weights, as in modules of torch. They are drawn where the generator is, in double precision, so
        that the same numbers are drawn for all.

    As torch.nn.GRUCell it takes a batch or a single input. What it carries is not one vector `hx`, which is
    both there, but an `EGRUState` of h and y, called `state`; and it returns that, not the output alone.

    Raises
    ------
    ValueError
        If a size is not positive, a word is none of those named, a number is out of range, or a threshold of
        -inf would be taken from the state.
    TypeError
        If a size is no whole number, `threshold` is no number and makes no thresholds, or the dtype is none
        of floating numbers.

    Examples
    --------
    >>> cell = EGRUCell(3, 4, threshold=0.1, generator=torch.Generator().manual_seed(0))
    >>> state = cell(torch.ones(2, 3))
    >>> state = cell(torch.ones(2, 3), state)
    >>> state.output.shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        threshold: float | Callable[..., Threshold] = SigmoidThreshold,
        reset: str = "threshold",
        reset_gate: str = "after",
        surrogate_support: float = 1.0,
        surrogate_dampening: float = 0.7,
        generator: Generator | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype must be one of floating numbers, got {dtype}")
        home: dict[str, Any] = {"device": device, "dtype": dtype}
        self.input_size = whole(input_size, "input_size", 1)
        self.hidden_size = whole(hidden_size, "hidden_size", 1)
        self.dynamics = Dynamics(reset, reset_gate, surrogate_support, surrogate_dampening)
        self.kernel = nn.Parameter(gate_blocks(input_size, hidden_size, generator, **home))
        self.recurrent_kernel = nn.Parameter(gate_blocks(hidden_size, hidden_size, generator, **home))
        self.bias = nn.Parameter(torch.zeros(3 * hidden_size, **home)) if bias else None
        self.recurrent_bias = nn.Parameter(torch.zeros(3 * hidden_size, **home)) if bias else None
        self.threshold = _threshold(threshold, hidden_size, generator, device, dtype)
        if reset == "threshold" and isinstance(self.threshold, FixedThreshold) and self.threshold.always:
            raise ValueError("reset must not be threshold where the threshold is -inf, got 'threshold'")

    @property
    def like(self) -> Tensor:
        """A tensor of the dtype and device of the weights."""
        return self.recurrent_kernel

    def project(self, input: Float[Tensor, "*row input_size"]) -> Float[Tensor, "*row three_units"]:
        """x W + b of any number of rows."""
        projected = input @ self.kernel
        return projected if self.bias is None else projected + self.bias

    def recurrent_bias_or_zeros(self) -> Float[Tensor, "three_units"]:
        """b_r, zeros without biases."""
        if self.recurrent_bias is None:
            return self.like.new_zeros(3 * self.hidden_size)
        return self.recurrent_bias

    def judge(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Before a state is loaded: ValueError if the constructor would not take its thresholds."""
        self.threshold.judge(state_dict, f"{prefix}threshold.")
        theta = state_dict.get(f"{prefix}threshold.theta")
        if not isinstance(self.threshold, FixedThreshold) or not isinstance(theta, Tensor):
            return
        if self.dynamics.reset == "threshold" and fires_always(theta):
            raise ValueError(
                f"{prefix}threshold.theta must not be -inf where the reset is threshold, got -inf"
            )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        self.judge(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def silent(self, batch: int) -> EGRUState:
        """The state of `batch` rows before anything came in."""
        zeros = self.like.new_zeros(batch, self.hidden_size)
        return EGRUState(zeros, zeros.clone())

    def check_state(self, state: EGRUState, batch: int | None, name: str) -> None:
        """ValueError or TypeError if it is not of this cell and batch; None for one without a batch axis."""
        check_parts(state, name)
        expected = (self.hidden_size,) if batch is None else (batch, self.hidden_size)
        dtype, device = self.like.dtype, self.like.device
        for part, tensor in zip(EGRUState._fields, state, strict=True):
            if tuple(tensor.shape) != expected:
                axes = "(hidden_size,)" if batch is None else "(batch, hidden_size)"
                raise ValueError(f"{name}.{part} must be {axes} = {expected}, got {tuple(tensor.shape)}")
            if tensor.dtype != dtype:
                raise TypeError(
                    f"{name}.{part} must have the dtype of the weights, {dtype}, got {tensor.dtype}"
                )
            if tensor.device != device:
                raise ValueError(
                    f"{name}.{part} must be on the device of the weights, {device}, got {tensor.device}"
                )

    def forward(self, input: Float[Tensor, "*batch input_size"], state: EGRUState | None = None) -> EGRUState:
        """The state after one step; its `output` is y_t.

        Parameters
        ----------
        input
            x_t, (batch, input_size) or (input_size,).
        state
            What an earlier step returned, (batch, hidden_size) or (hidden_size,) each; silence if not given.

        Raises
        ------
        ValueError
            If shapes do not fit, or devices differ.
        TypeError
            If something is no tensor, or dtypes differ.
        """
        check_tensor(input, "input")
        if under_autocast(input):
            with torch.autocast(input.device.type, enabled=False):
                return self.forward(restored(input, self.like), restored(state, self.like))
        if input.shape == (self.input_size,):
            if state is not None:
                self.check_state(state, None, "state")
                state = EGRUState(*(part.unsqueeze(0) for part in state))
            return EGRUState(*(part.squeeze(0) for part in self.forward(input.unsqueeze(0), state)))
        if input.ndim != 2 or input.shape[1] != self.input_size:
            raise ValueError(
                f"input must be (batch, input_size) = (batch, {self.input_size}) or ({self.input_size},), "
                f"got {tuple(input.shape)}"
            )
        check_input(input, self.like)
        if state is None:
            state = self.silent(len(input))
        self.check_state(state, len(input), "state")
        y, _, h = egru_step(
            self.project(input), self.recurrent_kernel, self.recurrent_bias_or_zeros(), self.threshold(),
            state[0], state[1], reset=self.dynamics.reset, reset_gate=self.dynamics.reset_gate,
            event=self.dynamics.event,
        )  # fmt: skip
        return EGRUState(h, y)

    def extra_repr(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in vars(self.dynamics).items())
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias is not None}, {options}"


def check_parts(state: Any, name: str) -> None:
    """TypeError unless it is two tensors, carry and output."""
    if not isinstance(state, tuple) or len(state) != 2:
        raise TypeError(f"{name} must be an EGRUState of carry and output, got {type(state).__name__}")
    for part, tensor in zip(EGRUState._fields, state, strict=True):
        check_tensor(tensor, f"{name}.{part}")


def check_tensor(value: Any, name: str) -> None:
    """TypeError if it is none: a list, an array."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")


def under_autocast(input: Tensor) -> bool:
    """Whether torch would compute with it in another dtype than it has."""
    kind = "cpu" if input.is_cpu else input.device.type
    return kind != "meta" and torch.is_autocast_enabled(kind)


def restored(given: Any, weights: Tensor) -> Any:
    """Tensors that autocast made, also those in a tuple, in the dtype of the weights; all else as it is."""
    if isinstance(given, EGRUState):
        return EGRUState(*(restored(part, weights) for part in given))
    if isinstance(given, list | tuple):
        return tuple(restored(part, weights) for part in given)
    made = isinstance(given, Tensor) and given.dtype == torch.get_autocast_dtype(weights.device.type)
    return given.to(weights.dtype) if made else given


def check_input(input: Tensor, weights: Tensor) -> None:
    """TypeError if an input is of another dtype than the weights, ValueError if it is elsewhere."""
    if input.dtype != weights.dtype:
        raise TypeError(f"input must have the dtype of the weights, {weights.dtype}, got {input.dtype}")
    if input.device != weights.device:
        raise ValueError(f"input must be on the device of the weights, {weights.device}, got {input.device}")


def gate_blocks(
    sources: int, units: int, generator: Generator | None, device: Any = None, dtype: Any = None
) -> Float[Tensor, "source three_units"]:
    """Weights of three gates side by side, each Xavier normal: variance 2 / (sources + units).

    Drawn in double precision, so that networks of either precision begin at the same weights.
    """
    normal = normal_numbers(sources, 3 * units, generator=generator)
    return placed(normal * math.sqrt(2 / (sources + units)), device, dtype)


def _threshold(
    threshold: float | Callable[..., Threshold],
    units: int,
    generator: Generator | None,
    device: Any,
    dtype: torch.dtype | None,
) -> Threshold:
    if isinstance(threshold, Threshold):
        kind = type(threshold).__name__
        raise TypeError(f"threshold must make thresholds, like {kind} itself, got a {kind} already made")
    if not callable(threshold):
        try:
            return FixedThreshold(units, threshold, device=device, dtype=dtype)
        except TypeError:
            raise TypeError(
                f"threshold must be a number, or make thresholds like SigmoidThreshold, got {threshold!r}"
            ) from None
    options: dict[str, Any] = {"generator": generator}
    try:
        known = inspect.signature(threshold)
        known.bind(units, generator=generator)
    except (TypeError, ValueError) as complaint:
        name = getattr(threshold, "__name__", type(threshold).__name__)
        raise TypeError(
            "threshold must be callable with a number of units and generator= alone, like "
            f"partial(BetaThreshold, mean=0.2), got {name}, {complaint}"
        ) from None
    if {"device", "dtype"} <= known.parameters.keys():  # to be drawn at full precision
        options |= {"device": device, "dtype": dtype}
    made = threshold(units, **options)
    if not isinstance(made, Threshold):
        raise TypeError(f"threshold must make a Threshold, got {type(made).__name__}")
    if made.size != units:
        raise ValueError(f"threshold must make {units} thresholds, one a unit, got {made.size}")
    return made.to(device=device, dtype=dtype)
