r"""The weights of an Event-SSM as the streaming loop reads them: end to end, widths padded to whole vectors.

Every product of the loop then runs over vectors alone. Padding is zero everywhere, so padded features stay
zero: a padded channel has slope and shift 0, no row and no column of a map leads from or to it.

What the loop would compute for each event and what depends on the token alone is computed here, a row for
each token: the norm u, the input B u with its gain, and the embedding.

Source: derived from `layer`; the places are those of `loop.Field`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eventbook.kernels.machinery.aligned import aligned
from eventbook.kernels.machinery.tensors import FLOATING, same_dtype
from eventbook.kernels.machinery.vectors import LANES
from eventbook.models.event_ssm.classifier import EventSSM
from eventbook.models.event_ssm.layer import EventSSMLayer
from eventbook.models.event_ssm.norm import EPSILON, BatchNorm
from eventbook.models.event_ssm.streaming.loop import FIELDS, UNITS, Field

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class PackedNetwork:
    """Arrays of `loop`, lengths of `memory` and `head`, and the widest vector that the loop works on."""

    table: Array
    weights: Array
    plan: NDArray[np.int64]
    readout: Array
    memory: int
    head: int
    widest: int


def packed(model: EventSSM) -> PackedNetwork:
    """Copy the weights of a network, in the state of evaluation; TypeError if not float32 or float64."""
    same_dtype(FLOATING, model=model.embedding)
    layers = [layer for layer in model.layers if isinstance(layer, EventSSMLayer)]
    plan = np.zeros((len(layers), FIELDS), np.int64)
    pieces: list[Array] = []
    memory = at = 0
    for row, layer in zip(plan, layers, strict=True):
        d_in, d_out, states = _padded(layer.d_in), _padded(layer.d_out), _padded(len(layer.log_step))
        sizes = {
            Field.D_IN: d_in, Field.D_OUT: d_out, Field.STATES: states,
            Field.STRIDE: layer.stride, Field.WIDTH: layer.d_in,
            Field.THROUGH_IS_MATRIX: layer.D.ndim == 2, Field.SKIP_IS_MATRIX: layer.d_in != layer.d_out,
        }  # fmt: skip
        for field, size in sizes.items():
            row[field] = size
        for field, piece in _weights(layer, d_in, d_out, states).items():
            row[field], at = at, at + piece.size
            pieces.append(piece.reshape(-1))
        lengths = {
            Field.STATE: 2 * states, Field.KEPT: 2 * states, Field.THROUGH_SUM: d_in, Field.SKIPPED_SUM: d_in,
        }  # fmt: skip
        for field, length in lengths.items():
            row[field], memory = memory, memory + length
    width, classes = _padded(layers[-1].d_out), _padded(model.config.n_classes)
    readout = [
        _to(_array(model.readout.weight).T, width, classes),
        _to(_array(model.readout.bias)[None], 1, classes),
    ]
    return PackedNetwork(
        table=_aligned(_table(model, layers[0])),
        weights=_aligned(np.concatenate(pieces)),
        plan=plan,
        readout=_aligned(np.concatenate(readout).reshape(-1)),
        memory=memory,
        head=width + 1,
        widest=int(max(plan[:, [Field.D_IN, Field.D_OUT]].max(), 2 * plan[:, Field.STATES].max(), classes)),
    )


def _weights(layer: EventSSMLayer, d_in: int, d_out: int, states: int) -> dict[Field, Array]:
    """The weights of a layer by field, padded."""
    slope, shift = _norm(layer)
    exponents = _array(layer.lam * layer.step)
    real, imaginary = UNITS[slope.dtype]
    matrix = layer.D.ndim == 2
    found = {
        Field.REAL: _to(exponents.real.astype(np.float64) / real, states),
        Field.IMAG: _to(exponents.imag.astype(np.float64) / imaginary, states),
        Field.SLOPE: _to(slope, d_in),
        Field.SHIFT: _to(shift, d_in),
        Field.INTO: _to(_driving(layer, states), d_in, 2 * states),
        Field.OUT: _apart(_array(layer.output_matrix()).T, states).T,
        Field.THROUGH: _to(_array(layer.D).T, d_in, d_out) if matrix else _to(_array(layer.D), d_out),
        Field.GATE: _to(_array(layer.gate.weight).T, d_out, d_out),
        Field.GATE_BIAS: _to(_array(layer.gate.bias), d_out),
    }
    found[Field.OUT] = _to(found[Field.OUT], 2 * states, d_out)
    if isinstance(layer.skip, nn.Linear):
        found[Field.SKIP] = _to(_array(layer.skip.weight).T, d_in, d_out)
        found[Field.SKIP_BIAS] = _to(_array(layer.skip.bias), d_out)
    return {field: piece.astype(slope.dtype) for field, piece in found.items()}


def _driving(layer: EventSSMLayer, states: int) -> Array:
    """Gain and input map, (d_in, 2 states), all real parts before all imaginary ones.

    A held input is driven by (a - 1) B u / lambda: what no gap changes is folded in.
    """
    matrix = layer.input_matrix()
    if layer.discretization == "zoh":
        if (layer.lam == 0).any():
            raise ValueError("lam must not be 0 where inputs are held: a stream divides by it")
        pairs = torch.view_as_complex(matrix.unflatten(-1, (-1, 2))) * layer.gain()
        matrix = torch.view_as_real(pairs).flatten(-2)
    return _apart(_array(matrix), states)


def _norm(layer: EventSSMLayer) -> tuple[Array, Array]:
    """Slope and shift; those of a batch norm hold its running averages."""
    norm: Any = layer.norm
    slope, shift = _array(norm.weight), _array(norm.bias)
    if isinstance(norm, BatchNorm):
        slope = slope / np.sqrt(_array(norm.variance) + slope.dtype.type(EPSILON))
        shift = shift - _array(norm.mean) * slope
    return slope, shift


def _table(model: EventSSM, first: EventSSMLayer) -> Array:
    """(rows, 2 states + 2 d_in) flat: input, norm and embedding of each token."""
    d_in, states = _padded(first.d_in), _padded(len(first.log_step))
    rows = _array(model.embedding)
    with torch.no_grad():
        training, first_norm = first.norm.training, first.norm.eval()
        u = _array(first_norm(model.embedding))
        first.norm.train(training)
    driven = u @ _driving(first, states).astype(u.dtype)
    parts = driven, _to(u, len(u), d_in), _to(rows, len(rows), d_in)
    return np.concatenate(parts, axis=1).reshape(-1)


def _apart(pairs: Array, states: int) -> Array:
    """(..., 2 n) real and imaginary parts in turn -> (..., 2 states), real parts first, padded."""
    n = pairs.shape[-1] // 2
    apart = np.zeros((*pairs.shape[:-1], 2 * states), pairs.dtype)
    apart[..., :n], apart[..., states : states + n] = pairs[..., ::2], pairs[..., 1::2]
    return apart


def _to(values: Array, *shape: int) -> Array:
    """Zeros behind, up to this shape."""
    return np.pad(values, [(0, longer - size) for size, longer in zip(values.shape, shape, strict=True)])


def _padded(width: int) -> int:
    return -(-width // LANES) * LANES


def _array(tensor: Tensor) -> Array:
    return tensor.detach().resolve_conj().numpy()


def _aligned(values: Array) -> Array:
    copy = zeros(values.size, values.dtype)
    copy[:] = values
    return copy


def zeros(size: int, dtype: np.dtype[Any]) -> Array:
    """(size,) zeros that begin at a cache line: a vector across two lines costs twice."""
    found: Array = aligned.py_func(size, dtype)
    found[:] = 0
    return found
