"""The bytes of a layer on a core: written by hand, by struct, and read back."""

import struct
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eventbook.learning.rewiring.sparse_linear import SparseLinear
from eventbook.spinnaker.connections import CORE_BYTES, pack, unpack


@dataclass
class Layer:
    """What `pack` asks of a layer, and nothing more."""

    in_features: int
    out_features: int
    index: object
    theta: object
    sign: object


def small():
    """Three connections of a 300 x 2 layer: (0, 1), (0, 258) and (1, 0)."""
    return Layer(
        300,
        2,
        np.array([1, 258, 300]),
        np.array([1.0, -0.5, 0.25], np.float32),
        np.array([-1.0, 1.0, -1.0], np.float32),
    )


BY_HAND = bytes.fromhex(
    "0000 0000 0100"  # rows 0, 0, 1, the low byte first
    "0100 0201 0000"  # columns 1, 258, 0
    "0000803f 000000bf 0000803e"  # 1.0, -0.5, 0.25
    "05"  # signs: bits 0 and 2 are set
)


def test_small_example_to_the_byte():
    assert pack(small()) == BY_HAND


def test_read_back_by_hand():
    row, column, theta, sign = unpack(BY_HAND, 3)
    assert row.tolist() == [0, 0, 1]
    assert column.tolist() == [1, 258, 0]
    assert theta.tolist() == [1.0, -0.5, 0.25]
    assert sign.tolist() == [-1.0, 1.0, -1.0]


def test_a_negative_theta_keeps_its_value_and_has_no_weight():
    connections = unpack(BY_HAND, 3)
    assert connections.theta[1] == -0.5
    assert connections.weight.tolist() == [-1.0, 0.0, -0.25]
    assert connections.weight.dtype == np.float32


def test_the_comparison_notices_one_bit():
    layer = small()
    layer.sign = np.array([-1.0, -1.0, -1.0], np.float32)
    assert pack(layer) != BY_HAND
    assert pack(layer)[:-1] == BY_HAND[:-1]


def by_struct(layer):
    """Oracle: the same memory, one field at a time."""
    pairs = [divmod(int(k), layer.in_features) for k in layer.index]
    data = b"".join(struct.pack("<H", i) for i, _ in pairs)
    data += b"".join(struct.pack("<H", j) for _, j in pairs)
    data += b"".join(struct.pack("<f", float(theta)) for theta in layer.theta)
    for first in range(0, len(pairs), 8):
        data += struct.pack("<B", sum((s < 0) << k for k, s in enumerate(layer.sign[first : first + 8])))
    return data


@st.composite
def layers(draw):
    n_in, n_out = draw(st.integers(1, 2**16)), draw(st.integers(1, 2**16))
    index = sorted(draw(st.sets(st.integers(0, n_in * n_out - 1), max_size=40)))
    signs = st.sampled_from([-1.0, 1.0])
    floats = st.floats(width=32, allow_nan=False)
    return Layer(
        n_in,
        n_out,
        np.array(index, np.int64),
        np.array([draw(floats) for _ in index], np.float32),
        np.array([draw(signs) for _ in index], np.float32),
    )


@given(layers())
def test_round_trip_and_struct(layer):
    data = pack(layer)
    connections = layer.index.size
    assert data == by_struct(layer)
    assert len(data) == connections * 8 + -(-connections // 8)
    row, column, theta, sign = unpack(data, connections)
    np.testing.assert_array_equal(row.astype(np.int64) * layer.in_features + column, layer.index)
    assert theta.tobytes() == layer.theta.astype("<f4").tobytes()
    np.testing.assert_array_equal(sign, layer.sign)


def test_a_layer_that_learns():
    layer = SparseLinear(784, 300, budget=2352, seed=3)
    with torch.no_grad():
        layer.theta[::5] *= -1
    data = pack(layer)
    connections = unpack(data, layer.budget)
    rebuilt = np.zeros((300, 784), np.float32)
    rebuilt[connections.row, connections.column] = connections.weight
    np.testing.assert_array_equal(rebuilt, layer.to_dense().numpy())
    assert len(data) == 2352 * 8 + 294


def test_the_authors_network_fits_into_a_core():
    budgets = [(784, 300, 2352), (300, 100, 900), (100, 10, 300)]
    sizes = [len(pack(SparseLinear(i, o, budget=k))) for i, o, k in budgets]
    assert sizes == [19110, 7313, 2438]
    assert sum(sizes) < CORE_BYTES == 65536


def test_the_last_unit_that_two_bytes_can_number():
    corner = Layer(2**16, 2**16, np.array([2**32 - 1]), np.ones(1, np.float32), np.ones(1, np.float32))
    row, column, *_ = unpack(pack(corner), 1)
    assert row.tolist() == column.tolist() == [65535]


@pytest.mark.parametrize("n_in, n_out", [(2**16 + 1, 1), (1, 2**16 + 1)])
def test_too_many_units(n_in, n_out):
    with pytest.raises(ValueError, match=f"at most 65536 inputs and outputs, got {n_in} and {n_out}"):
        pack(SparseLinear(n_in, n_out, budget=1))


@pytest.mark.parametrize("connections, expected", [(2, 17), (4, 33), (0, 0)])
def test_wrong_length(connections, expected):
    message = f"must have {expected} bytes for {connections} connections, got 25"
    with pytest.raises(ValueError, match=message):
        unpack(BY_HAND, connections)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"index": np.array([1, 258, 600])}, r"index must be in 0\.\.599, got 600 at position 2"),
        ({"index": np.array([-1, 258, 300])}, r"index must be in 0\.\.599, got -1 at position 0"),
        ({"index": np.array([1, 300, 258])}, "index must ascend, got 258 after 300"),
        ({"index": np.array([1.0, 258.0, 300.0])}, "index must be a vector of int64"),
        ({"theta": np.ones(2, np.float32)}, "theta must have one entry per entry of index, 3, got"),
        ({"sign": np.ones(4, np.float32)}, "sign must have one entry per entry of index, 3, got"),
    ],
)
def test_a_layer_that_is_not_whole_is_not_packed(change, message):
    layer = small()
    for name, value in change.items():
        setattr(layer, name, value)
    with pytest.raises(ValueError, match=message):
        pack(layer)


def test_fewer_connections_than_none():
    with pytest.raises(ValueError, match="connections must be >= 0, got -1"):
        unpack(b"", -1)
