"""The packed network: places that do not overlap, zeros in the padding, rows of what depends on tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from event_by_event import relative, varied

from eventbook.kernels.machinery.vectors import LANES
from eventbook.models.event_ssm import EventStream
from eventbook.models.event_ssm.streaming.loop import Field
from eventbook.models.event_ssm.streaming.packing import packed


def sizes(row) -> dict[Field, int]:
    """Numbers at each place of a layer's weights, from the shapes of the layer."""
    d_in, d_out, states = row[Field.D_IN], row[Field.D_OUT], row[Field.STATES]
    found = {
        Field.REAL: states, Field.IMAG: states, Field.SLOPE: d_in, Field.SHIFT: d_in,
        Field.INTO: 2 * states * d_in, Field.OUT: 2 * states * d_out,
        Field.THROUGH: d_in * d_out if row[Field.THROUGH_IS_MATRIX] else d_out,
        Field.GATE: d_out * d_out, Field.GATE_BIAS: d_out,
    }  # fmt: skip
    if row[Field.SKIP_IS_MATRIX]:
        found |= {Field.SKIP: d_in * d_out, Field.SKIP_BIAS: d_out}
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_places_cover_everything_once(dtype):
    network = packed(varied(expansion=2, layers=2, d_model=17, d_state=72).to(dtype))
    weights, memory = np.zeros(network.weights.size, int), np.zeros(network.memory, int)
    for row in network.plan:
        for field, size in sizes(row).items():
            weights[row[field] : row[field] + size] += 1
        for field, size in {
            Field.STATE: 2 * row[Field.STATES], Field.KEPT: 2 * row[Field.STATES],
            Field.THROUGH_SUM: row[Field.D_IN], Field.SKIPPED_SUM: row[Field.D_IN],
        }.items():  # fmt: skip
            memory[row[field] : row[field] + size] += 1
        assert all(row[field] % LANES == 0 for field in (Field.D_IN, Field.D_OUT, Field.STATES))
        assert all(row[field] % LANES == 0 for field in sizes(row))
    assert (weights == 1).all()
    assert (memory == 1).all()
    assert network.weights.dtype == network.table.dtype == {torch.float32: "f4", torch.float64: "f8"}[dtype]
    assert network.weights.ctypes.data % 64 == network.table.ctypes.data % 64 == 0
    assert network.widest == max(
        *network.plan[:, Field.D_IN], *network.plan[:, Field.D_OUT], *(2 * network.plan[:, Field.STATES])
    )


@pytest.mark.parametrize("discretization", ["async", "zoh"])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_row_of_the_table_is_drive_norm_and_embedding(norm, discretization):
    model = varied(norm=norm, discretization=discretization)
    network, first = packed(model), model.layers[0]
    d_in, states = network.plan[0, Field.D_IN], network.plan[0, Field.STATES]
    table = network.table.reshape(model.config.n_tokens, -1)
    drive, u, rows = np.split(table, [2 * states, 2 * states + d_in], axis=1)
    with torch.no_grad():
        normed = first.norm(model.embedding)
        B = torch.view_as_complex(first.B)
        expected = first.gain() * (normed.to(B.dtype) @ B.mT)
    assert relative(drive[:, :4] + 1j * drive[:, states : states + 4], expected) < 1e-14
    assert relative(u[:, :5], normed) < 1e-14
    assert relative(rows[:, :5], model.embedding) < 1e-15
    for padding in (drive[:, 4:states], drive[:, states + 4 :], u[:, 5:], rows[:, 5:]):
        assert padding.size
        assert not padding.any()


def test_padded_features_stay_zero():
    """What the loop keeps in memory has as many numbers as the network, and zeros besides."""
    model = varied(expansion=2)
    stream = EventStream(model)
    stream.push([1, 2, 3, 4, 5, 6, 0], [0, 10, 900, 2_000, 2_000, 3_000, 4_000])
    for row, layer in zip(stream._network.plan, model.layers, strict=True):
        states = row[Field.STATES]
        state = stream._memory[row[Field.STATE] : row[Field.STATE] + 2 * states].reshape(2, states)
        assert state[:, : len(layer.log_step)].all()
        assert not state[:, len(layer.log_step) :].any()
        through = stream._memory[row[Field.THROUGH_SUM] : row[Field.THROUGH_SUM] + row[Field.D_IN]]
        assert through[: layer.d_in].all()
        assert not through[layer.d_in :].any()


def test_an_integrator_cannot_hold_its_input_in_a_stream():
    model = varied(discretization="zoh")
    with torch.no_grad():
        model.layers[1].lam_real[2] = model.layers[1].lam_imag[2] = 0
    with pytest.raises(ValueError, match="lam must not be 0 where inputs are held: a stream divides by it"):
        packed(model)
