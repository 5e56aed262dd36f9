r"""A classifier of sequences of numbers: pixels one after another, frames of events, features of speech.

    y = EGRU(x), GRU(x) or LSTM(x)
    tr_t = d tr_{t-1} + (1 - d) y_t
    scores = V tr_end + v             readout "end": the trace after the last step
           = V mean_t tr_t + v        readout "mean": its mean over all steps

| symbol | meaning | shape | name |
|---|---|---|---|
| x | a sequence's values, a step a row | (time, input) each | `streams` |
| y | what the last layer says | (batch, time, unit) | `SequenceRun.output` |
| d | decay of the trace | scalar | `decay` |
| - | how many steps of each row are no padding | (batch,) int64 | `lengths` |

The released code of arXiv:2206.06178 reads pixels by the trace at the last one, and gestures by its mean. The
trace of a GRU or an LSTM is that of its outputs, so that they are read alike.

Source: Subramoney et al., arXiv:2206.06178, and its released code; torch's GRU and LSTM as baselines; first
biases for long sequences: Tallec and Ollivier, arXiv:1804.11188.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.machinery.lengths import check_lengths, without_padding
from eventbook.models.decay import matrices_decay
from eventbook.models.egru import EGRU, LayerRun, at_end, mean_over_time, trace
from eventbook.models.egru.readout import DECAY
from eventbook.models.egru.regularisation import activity_target as target_term

CELLS = {"egru": EGRU, "gru": nn.GRU, "lstm": nn.LSTM}
READOUTS = {"end": at_end, "mean": mean_over_time}


class SequenceBatch(NamedTuple):
    """Sequences that were padded to one length."""

    values: Float[Tensor, "batch time input"]
    lengths: Int[Tensor, "batch"]

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the model is called with."""
        return self.values, self.lengths


class SequenceRun(NamedTuple):
    """What a call gives: scores, the last layer's outputs, and what each layer of an EGRU did."""

    scores: Float[Tensor, "batch n_classes"]
    output: Float[Tensor, "batch time unit"]
    layers: tuple[LayerRun, ...]


class SequenceClassifier(nn.Module):
    """See the module; can be trained by `eventbook.learning.classification.train`.

    Parameters
    ----------
    n_inputs, hidden_size, n_classes, num_layers
        Sizes; all layers have the same.
    cell
        "egru", "gru" or "lstm".
    readout, decay
        "end" or "mean", and d of the trace; 0 for the outputs themselves.
    activity_target, activity_strength
        Of the term that training adds for each layer of an EGRU, strength (mean activity - target)^2; none
        with a strength of 0.
    memory
        Steps that gates are to bridge at first, above 2: the biases of the gates that keep a state, forget
        gates of an LSTM, update gates of the others, are log u with u uniform in [1, memory - 1], those of an
        LSTM's input gates their negatives. None for biases as drawn by the cell.
    generator
        Source of the initial weights; torch's own if not given.
    **options
        Of `EGRU`: thresholds, reset, surrogate, and so on.

    Raises
    ------
    ValueError
        If a size is not positive, a word is none of those named, or a number is out of range.
    TypeError
        If a size is no whole number, options come with another cell, or one is a device or dtype.

    Examples
    --------
    >>> model = SequenceClassifier(1, 8, 10, generator=torch.Generator().manual_seed(0))
    >>> batch = model.collate([np.ones((5, 1)), np.ones((3, 1))])
    >>> model(*batch.inputs).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        n_inputs: int,
        hidden_size: int,
        n_classes: int,
        num_layers: int = 1,
        *,
        cell: str = "egru",
        readout: str = "end",
        decay: float = DECAY,
        activity_target: float = 0.05,
        activity_strength: float = 0.0,
        memory: float | None = None,
        generator: Generator | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        sizes = {"n_inputs": n_inputs, "hidden_size": hidden_size, "n_classes": n_classes}
        for name, size in {**sizes, "num_layers": num_layers}.items():
            whole(size, name, 1)
        for name, word, known in (("cell", cell, CELLS), ("readout", readout, READOUTS)):
            if word not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {word!r}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
        if not 0 <= activity_target <= 1:
            raise ValueError(f"activity_target must be a share in [0, 1], got {activity_target}")
        if not 0 <= activity_strength < float("inf"):
            raise ValueError(f"activity_strength must be >= 0 and finite, got {activity_strength}")
        if memory is not None and not 2 < memory < float("inf"):
            raise ValueError(f"memory must be above 2 and finite, got {memory}")
        if cell != "egru" and (options or activity_strength):
            given = ", ".join(options) or "activity_strength"
            raise TypeError(f"{given} must not be given with a cell of {cell}, which has no events")
        if memory is not None and not options.get("bias", True):
            raise TypeError("memory must not be given without biases")
        for name in ("device", "dtype"):  # of one part alone would not do
            if name in options:
                raise TypeError(f"{name} must not be given, a model is moved by its method to, got {name}")
        self.n_inputs, self.cell, self.readout, self.decay = n_inputs, cell, readout, decay
        self.activity_target, self.activity_strength = activity_target, activity_strength
        self.recurrent: EGRU | nn.GRU | nn.LSTM
        if cell == "egru":
            self.recurrent = EGRU(
                n_inputs, hidden_size, num_layers, batch_first=True, generator=generator, **options
            )
        else:
            kind = nn.GRU if cell == "gru" else nn.LSTM
            self.recurrent = kind(n_inputs, hidden_size, num_layers, batch_first=True)
            _draw(self.recurrent, hidden_size, generator)
        if memory is not None:
            _remember(self.recurrent, hidden_size, memory, generator)
        self.scores = nn.Linear(hidden_size, n_classes)
        _draw(self.scores, hidden_size, generator)
        self._last: tuple[LayerRun, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """A copy, or a model that is saved whole, knows nothing of the last call and its graph."""
        return {**self.__dict__, "_last": ()}

    def collate(self, streams: Sequence[NDArray[np.floating]]) -> SequenceBatch:
        """Pad sequences (time, input) to a batch, in the precision of the weights.

        Raises
        ------
        ValueError
            If there are none, or one is not (time, n_inputs) with a step at least; names the first.
        """
        if not len(streams):
            raise ValueError("streams must be at least one, got none")
        for at, one in enumerate(streams):
            if np.ndim(one) != 2 or one.shape[1] != self.n_inputs or not len(one):
                raise ValueError(
                    f"streams[{at}] must be (time, n_inputs) = (1 or more, {self.n_inputs}), "
                    f"got {np.shape(one)}"
                )
        lengths = torch.tensor([len(one) for one in streams])
        values = torch.zeros(len(streams), int(lengths.max()), self.n_inputs, dtype=self.scores.weight.dtype)
        for row, one in zip(values, streams, strict=True):
            row[: len(one)] = torch.as_tensor(np.asarray(one))
        return SequenceBatch(values, lengths)

    def parameter_groups(self, lr: float, ssm_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Matrices decay, offsets and thresholds do not; there are no state-space parameters."""
        return matrices_decay(self, lr, weight_decay)

    def forward(
        self, values: Float[Tensor, "batch time input"], lengths: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch n_classes"]:
        """Scores of each sequence, padded at its end.

        Raises
        ------
        ValueError
            If shapes do not fit or a length is not in 1..time; names the first.
        TypeError
            If something is no tensor, dtypes are not those of the weights, or lengths are no integers.
        """
        run = self.run(values, lengths)
        self._last = run.layers if self.training else ()
        return run.scores

    def run(self, values: Float[Tensor, "batch time input"], lengths: Int[Tensor, "batch"]) -> SequenceRun:
        """As a call, with what each layer did."""
        for name, given in (("values", values), ("lengths", lengths)):
            if not isinstance(given, Tensor):
                raise TypeError(f"{name} must be a tensor, got {type(given).__name__}")
        if values.ndim != 3 or values.shape[2] != self.n_inputs:
            raise ValueError(
                f"values must be (batch, time, n_inputs) with n_inputs {self.n_inputs}, "
                f"got {tuple(values.shape)}"
            )
        if tuple(lengths.shape) != (len(values),):
            raise ValueError(f"lengths must be (batch,) = ({len(values)},), got {tuple(lengths.shape)}")
        lengths = check_lengths(lengths, values.shape[1], 1)
        layers: tuple[LayerRun, ...] = ()
        if isinstance(self.recurrent, EGRU):
            run = self.recurrent.run(values, lengths=lengths)
            y, layers = run.output, run.layers
        else:  # padding comes last, and changes no output before it; of gradients it must be no part either
            y = self.recurrent(without_padding(values, lengths))[0].to(values.dtype)  # autocast may round it
        assert isinstance(y, Tensor)
        traces, _ = trace(y, decay=self.decay)
        return SequenceRun(self.scores(READOUTS[self.readout](traces, lengths)), y, layers)

    def penalty(self) -> Float[Tensor, ""]:
        """What training adds to the loss of the batch that was called last; 0 where nothing is asked for."""
        total = self.scores.weight.new_zeros(())
        if self.activity_strength:
            for layer in self._last:
                total = total + self.activity_strength * target_term(layer, self.activity_target)
        return total


def _draw(layer: nn.Module, size: int, generator: Generator | None) -> None:
    """Weights as torch's own: uniform in +-1/sqrt(size)."""
    with torch.no_grad():
        for weight in layer.parameters():
            weight.uniform_(-(size**-0.5), size**-0.5, generator=generator)


def _remember(layer: EGRU | nn.RNNBase, size: int, memory: float, generator: Generator | None) -> None:
    """First biases of the gates that keep a state, for so many steps."""
    first, second = slice(0, size), slice(size, 2 * size)  # blocks of gates
    keeps = first if isinstance(layer, EGRU) else second
    offsets: list[tuple[Any, Any]]
    if isinstance(layer, EGRU):
        offsets = [(cell.bias, cell.recurrent_bias) for cell in layer.cells]
    else:
        offsets = [(weights[2], weights[3]) for weights in layer.all_weights]
    with torch.no_grad():
        for bias, recurrent_bias in offsets:
            kept = bias.new_empty(size).uniform_(1, memory - 1, generator=generator).log()
            bias[keeps], recurrent_bias[keeps] = kept, 0
            if isinstance(layer, nn.LSTM):
                bias[first], recurrent_bias[first] = -kept, 0
