r"""Layers of the event-based GRU one upon another, called like torch.nn.GRU.

    y^0 = x,    y^l = layer_l(dropout(y^{l-1}))          what goes up, too, is events
    output, state = EGRU(input_size, hidden_size, num_layers)(x, state, lengths)

| symbol | meaning | shape | name |
|---|---|---|---|
| x | input, time first unless `batch_first` | (time, batch, input_size) | `input` |
| y^L | what the last layer says | (time, batch, hidden_size) | `output` |
| h, y | of each layer after the last step | (batch, hidden_size) each | `state`: an `EGRUState` a layer |
| - | steps of each sequence that are no padding | (batch,) | `lengths` |

What differs from torch.nn.GRU: layers may have different sizes; lengths can be given beside a padded input,
in any order, instead of a packed sequence; and the state is not one tensor `hx` (layer, batch, hidden_size)
but `state`, a tuple of an `EGRUState` a layer, for a unit's h and y are two numbers (`state_from_gru` makes
it of the former). Only the first layer's input is dense (`event_input` says that it is not either).

Three ways to leave something out in training: `dropout` between layers, anew at every step or, with
`dropout_over="sequence"`, one mask for all steps; `drop_connect` on recurrent weights, one mask for a call.

Under torch.autocast a network computes in the dtype of its weights, see `EGRUCell`.

The default way through a layer, "event", makes the same bits wherever the same instructions run. "auto" looks
at the activity of the first steps and at what was measured on this machine, so that the rounding of its
results is the machine's and the moment's.

Source: Subramoney et al., arXiv:2206.06178, and its released code, which has neither lengths nor a state to
begin from, and cannot be asked what it did.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.machinery.lengths import check_lengths, without_padding
from eventbook.models.egru.cell import (
    EGRUCell,
    EGRUState,
    check_input,
    check_parts,
    check_tensor,
    restored,
    under_autocast,
)
from eventbook.models.egru.layers import PATHS, LayerRun, run_layer
from eventbook.models.egru.thresholds import SigmoidThreshold, Threshold

DROPOUTS = ("step", "sequence")
WORDS = {"dropout_over": DROPOUTS, "path": PATHS}
CHANCES = ("dropout", "drop_connect")


class NetworkRun(NamedTuple):
    """What a call gives, and what each layer did (batch first, without dropout)."""

    output: Tensor | PackedSequence
    state: tuple[EGRUState, ...]
    layers: tuple[LayerRun, ...]


class EGRU(nn.Module):
    """See the module.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout
        As torch.nn.GRU; hidden_size may be a sequence, one size a layer, and num_layers is then its length.
    dropout_over
        "step" or "sequence": how long a mask between layers lasts.
    drop_connect
        Chance that a recurrent weight is left out of a call in training.
    threshold, reset, reset_gate, surrogate_support, surrogate_dampening
        As `EGRUCell`; thresholds are made for each layer.
    event_input
        Whether the input is mostly zeros: only rows of other numbers are then read.
    path
        "event", "dense" or "auto", see `eventbook.models.egru.layers`.
    threads
        Of the kernels, over the batch.
    generator
        Source of the initial weights; torch's own if not given. Masks of dropout come from torch's own.
    device, dtype
        Of the weights, as in torch.nn.GRU.

    `path`, `threads` and what is said of dropout may be changed at any time; they are looked at as here.

    Raises
    ------
    ValueError
        If a size is not positive, a word is none of those named, or a number is out of range.
    TypeError
        If a size is no whole number, or otherwise as `EGRUCell`.

    Examples
    --------
    >>> model = EGRU(3, 8, 2, batch_first=True, generator=torch.Generator().manual_seed(0))
    >>> output, state = model(torch.ones(4, 5, 3))
    >>> output, state = model(torch.ones(4, 5, 3), state)      # goes on
    >>> output.shape, len(state), state[0].carry.shape
    (torch.Size([4, 5, 8]), 2, torch.Size([4, 8]))
    >>> run = model.run(torch.ones(4, 5, 3), lengths=torch.tensor([5, 1, 3, 2]))
    >>> [layer.operations().multiply_accumulates % 24 for layer in run.layers]
    [0, 0]
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        *,
        dropout_over: str = "step",
        drop_connect: float = 0.0,
        threshold: float | Callable[..., Threshold] = SigmoidThreshold,
        reset: str = "threshold",
        reset_gate: str = "after",
        surrogate_support: float = 1.0,
        surrogate_dampening: float = 0.7,
        event_input: bool = False,
        path: str = "event",
        threads: int = 1,
        generator: Generator | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = _sizes(hidden_size, num_layers)
        self.input_size, self.hidden_sizes = whole(input_size, "input_size", 1), sizes
        self.batch_first = batch_first
        self.dropout, self.dropout_over, self.drop_connect = dropout, dropout_over, drop_connect
        self.event_input, self.path, self.threads = event_input, path, threads
        options: dict[str, Any] = {
            "threshold": threshold, "reset": reset, "reset_gate": reset_gate,
            "surrogate_support": surrogate_support, "surrogate_dampening": surrogate_dampening,
            "generator": generator, "device": device, "dtype": dtype,
        }  # fmt: skip
        self.cells = nn.ModuleList(
            EGRUCell(below, size, bias, **options)
            for below, size in zip((input_size, *sizes), sizes, strict=False)
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name in WORDS and value not in WORDS[name]:
            raise ValueError(f"{name} must be one of {', '.join(WORDS[name])}, got {value!r}")
        if name in CHANCES and not 0 <= value < 1:
            raise ValueError(f"{name} must be in 0..1, below 1, got {value}")
        if name == "threads":
            value = whole(value, name, 1)
        super().__setattr__(name, value)

    def judge(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Before a state is loaded: ValueError if a layer could not be what it says."""
        for number, cell in enumerate(cells_of(self)):
            cell.judge(state_dict, f"{prefix}cells.{number}.")

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        self.judge(state_dict, prefix)  # all layers, before the first takes anything
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @property
    def num_layers(self) -> int:
        """Layers."""
        return len(self.cells)

    @property
    def hidden_size(self) -> int:
        """Units of the last layer."""
        return self.hidden_sizes[-1]

    def forward(
        self,
        input: Float[Tensor, "time batch input_size"] | PackedSequence,
        state: Sequence[EGRUState] | None = None,
        lengths: Int[Tensor, "batch"] | None = None,
    ) -> tuple[Any, tuple[EGRUState, ...]]:
        """What the last layer says, and the state of each layer after the last step of each sequence.

        Parameters
        ----------
        input
            (time, batch, input_size), or (batch, time, input_size) with `batch_first`, or (time, input_size),
            or a packed sequence.
        state
            What an earlier call returned; silence if not given.
        lengths
            Steps of each sequence that are no padding, (batch,) integers; 0 leaves the state as it was. What
            stands behind them does not matter, NaN included, to results, gradients or counts.

        Returns
        -------
        output, state
            Output of the kind of the input, 0 in padding.

        Raises
        ------
        ValueError
            If shapes do not fit, a length is not in 0..time (names the first), lengths come beside a packed
            sequence or for a single one, the state is not of this network, or something is elsewhere than
            the weights.
        TypeError
            If something is no tensor, dtypes are not those of the weights, or lengths are no integers.
        """
        run = self.run(input, state, lengths)
        return run.output, run.state

    def run(
        self,
        input: Float[Tensor, "time batch input_size"] | PackedSequence,
        state: Sequence[EGRUState] | None = None,
        lengths: Int[Tensor, "batch"] | None = None,
    ) -> NetworkRun:
        """As a call, with what each layer did: events, states, needs and operations.

        Parameters
        ----------
        input, state, lengths
            As a call.

        Returns
        -------
        NetworkRun
            `output` and `state` as a call gives them; `layers`, a `LayerRun` each, batch first whatever the
            input is, without dropout, of a single sequence with a batch of one.

        Raises
        ------
        ValueError, TypeError
            As a call.
        """
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths must not be given beside a packed sequence, which has its own")
            padded, steps = pad_packed_sequence(input, batch_first=True)
            run = self._run(padded, state, steps, ("batch", "time"))
            return run._replace(output=_packed_like(input, run.output, steps))
        check_tensor(input, "input")
        axes = ("batch", "time") if self.batch_first else ("time", "batch")
        if input.ndim == 2:
            if lengths is not None:
                raise ValueError("lengths must not be given for a single sequence, which has no padding")
            if state is not None:
                check_states(state, self.num_layers)
            batched = None if state is None else _each(state, lambda x: x.unsqueeze(0))
            run = self._run(input.unsqueeze(0), batched, None, ("batch", "time"))
            return run._replace(output=run.output.squeeze(0), state=_each(run.state, lambda x: x.squeeze(0)))
        if input.ndim != 3:
            raise ValueError(
                f"input must be ({', '.join(axes)}, input_size) or (time, input_size), "
                f"got {tuple(input.shape)}"
            )
        run = self._run(input if self.batch_first else input.transpose(0, 1), state, lengths, axes)
        return run if self.batch_first else run._replace(output=run.output.transpose(0, 1))

    def _run(
        self, x: Tensor, state: Sequence[EGRUState] | None, lengths: Tensor | None, axes: tuple[str, str]
    ) -> Any:
        """`run` of a batch with its batch first; `axes` is the order in which the user has them."""
        batch, time, width = x.shape
        if width != self.input_size:
            given = (batch, time, width) if axes[0] == "batch" else (time, batch, width)
            raise ValueError(
                f"input must be ({', '.join(axes)}, input_size) with input_size {self.input_size}, "
                f"got {given}"
            )
        like = cells_of(self)[0].like
        if under_autocast(x):  # kernels have no other precision, and thresholds need the one of the weights
            with torch.autocast(x.device.type, enabled=False):
                return self._run(restored(x, like), restored(state, like), lengths, axes)
        check_input(x, like)
        if lengths is not None:
            check_tensor(lengths, "lengths")
            if lengths.ndim != 1 or len(lengths) != batch:
                raise ValueError(f"lengths must be (batch,) = ({batch},), got {tuple(lengths.shape)}")
            lengths = check_lengths(lengths, time).to(x.device)  # of a packed sequence: on the CPU
            x = without_padding(x, lengths)
        begin = self._states(state, batch)
        runs: list[LayerRun] = []
        for number, cell in enumerate(cells_of(self)):
            if number:
                x = self._dropped(runs[-1].output)
            run = run_layer(
                cell, x, begin[number], lengths, path=self.path,
                events=bool(number) or self.event_input,
                need=runs[-1].need() if number and torch.is_grad_enabled() else None,
                drop_connect=self.drop_connect if self.training else 0.0, threads=self.threads,
            )  # fmt: skip
            runs.append(run)
        return NetworkRun(runs[-1].output, tuple(run.state for run in runs), tuple(runs))

    def _states(self, state: Sequence[EGRUState] | None, batch: int) -> list[EGRUState]:
        if state is None:
            return [cell.silent(batch) for cell in cells_of(self)]
        check_states(state, len(self.cells))
        for number, (cell, its) in enumerate(zip(cells_of(self), state, strict=True)):
            cell.check_state(its, batch, f"state[{number}]")
        return [EGRUState(*its) for its in state]

    def _dropped(self, y: Tensor) -> Tensor:
        """What goes up: silence stays silence."""
        if not self.training or not self.dropout:
            return y
        if self.dropout_over == "step":
            return functional.dropout(y, self.dropout)
        return y * functional.dropout(y.new_ones(len(y), 1, y.shape[2]), self.dropout)

    def extra_repr(self) -> str:
        words = ("batch_first", "dropout", "dropout_over", "drop_connect", "event_input", "path")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in words)


def cells_of(model: EGRU) -> list[EGRUCell]:
    """The layers of a network."""
    return [cell for cell in model.cells if isinstance(cell, EGRUCell)]


def check_states(state: Any, layers: int | None = None) -> None:
    """Look at the state of a network, whatever its shapes, and of any number of layers if none is given.

    Raises
    ------
    TypeError
        If it is something else: a tensor, as torch.nn.GRU has it, or the state of one layer.
    ValueError
        If it has not a member for each layer.
    """
    if not isinstance(state, list | tuple) or isinstance(state, EGRUState):
        raise TypeError(f"state must be an EGRUState for each layer, got {type(state).__name__}")
    if layers is not None and len(state) != layers:
        raise ValueError(f"state must have {layers} members, one a layer, got {len(state)}")
    for number, its in enumerate(state):
        check_parts(its, f"state[{number}]")


def _sizes(hidden_size: int | Sequence[int], num_layers: int) -> tuple[int, ...]:
    if not isinstance(hidden_size, Sequence):
        return (whole(hidden_size, "hidden_size", 1),) * whole(num_layers, "num_layers", 1)
    sizes = tuple(whole(size, f"hidden_size[{at}]", 1) for at, size in enumerate(hidden_size))
    if not sizes:
        raise ValueError("hidden_size must have a layer at least, got none")
    if num_layers not in (1, len(sizes)):
        raise ValueError(f"num_layers must be {len(sizes)}, one for each hidden_size, got {num_layers}")
    return sizes


def _each(state: Sequence[EGRUState], change: Callable[[Tensor], Tensor]) -> tuple[EGRUState, ...]:
    """The state of a single sequence with its batch axis, or without."""
    return tuple(EGRUState(*(change(x) for x in its)) for its in state)


def _packed_like(given: PackedSequence, output: Tensor, steps: Tensor) -> PackedSequence:
    """Pack a padded output in the order of a packed sequence."""
    order = given.sorted_indices
    if order is not None:
        output, steps = output[order], steps[order.cpu()]
    data = pack_padded_sequence(output, steps, batch_first=True).data
    return PackedSequence(data, given.batch_sizes, given.sorted_indices, given.unsorted_indices)


def detached(state: Sequence[EGRUState]) -> tuple[EGRUState, ...]:
    """The state of a network, cut off from what made it: for gradients that end at a window.

    An `EGRUState` a layer, as it was; TypeError if it is none.
    """
    check_states(state)
    return tuple(its.detach() for its in state)
