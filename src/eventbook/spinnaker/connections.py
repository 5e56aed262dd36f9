r"""Connections of a sparse layer as a core stores them: row, column, parameter and one sign bit each.

    bytes = K (2 + 2 + 4) + ceil(K / 8)  =  8 1/8 bytes a connection

| symbol | meaning | type | name |
|---|---|---|---|
| i_k, j_k | output and input unit | uint16, little endian | `row`, `column` |
| theta_k | parameter, w_k = s_k theta_k | float32, little endian | `theta` |
| s_k | sign, bit 1 means -1 | 1 bit, eight to a byte, lowest first | `sign` |

The four arrays follow each other. Signs are stored and not derived here: a core would rather read a bit than
compute a hash.

Source: layout of the authors' C version for the SpiNNaker 2 prototype; local memory of a core, 64 KB, from
the
abstract of Liu et al., Frontiers in Neuroscience 2018.
"""

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float32, UInt16
from numpy import ndarray as Array

from eventbook.kernels.machinery.indices import check_index, check_vectors

CORE_BYTES = 64 * 1024


class SparseLayer(Protocol):
    """What `pack` needs of a layer; `eventbook.learning.SparseLinear` has it."""

    in_features: int
    out_features: int

    @property
    def index(self) -> object: ...
    @property
    def theta(self) -> object: ...
    @property
    def sign(self) -> object: ...


class ConnectionList(NamedTuple):
    """Connections of one layer, each array (K,)."""

    row: UInt16[Array, "K"]
    column: UInt16[Array, "K"]
    theta: Float32[Array, "K"]
    sign: Float32[Array, "K"]

    @property
    def weight(self) -> Float32[Array, "K"]:
        """s_k theta_k where theta_k >= 0, else 0."""
        return np.where(self.theta >= 0, self.sign * self.theta, np.float32(0))


def pack(layer: SparseLayer) -> bytes:
    """The connections of a layer as a core's memory holds them, K (8 + 1/8) bytes rounded up.

    Raises
    ------
    ValueError
        If the layer has more than 65,536 inputs or outputs, which two bytes cannot number, if its indices do
        not ascend within it, or if a theta or a sign is missing.
    """
    if max(layer.in_features, layer.out_features) > 2**16:
        raise ValueError(
            "layer must have at most 65536 inputs and outputs, "
            f"got {layer.in_features} and {layer.out_features}"
        )
    index = np.asarray(layer.index)
    check_index(index, layer.in_features * layer.out_features)
    theta = np.asarray(layer.theta.detach() if hasattr(layer.theta, "detach") else layer.theta)
    sign = np.asarray(layer.sign)
    check_vectors(index=index, theta=theta, sign=sign)
    row, column = np.divmod(index, layer.in_features)
    negative = np.packbits(sign < 0, bitorder="little")
    parts = row.astype("<u2"), column.astype("<u2"), theta.astype("<f4"), negative
    return b"".join(part.tobytes() for part in parts)


def unpack(data: bytes, connections: int) -> ConnectionList:
    """Read back what `pack` wrote.

    Parameters
    ----------
    data
        The bytes of one layer.
    connections
        K.

    Raises
    ------
    ValueError
        If the length is not that of K connections.
    """
    if connections < 0:
        raise ValueError(f"connections must be >= 0, got {connections}")
    expected = connections * 8 + (connections + 7) // 8
    if len(data) != expected:
        raise ValueError(f"data must have {expected} bytes for {connections} connections, got {len(data)}")
    row = np.frombuffer(data, "<u2", connections, 0)
    column = np.frombuffer(data, "<u2", connections, 2 * connections)
    theta = np.frombuffer(data, "<f4", connections, 4 * connections)
    bits = np.frombuffer(data, np.uint8, offset=8 * connections)
    negative = np.unpackbits(bits, count=connections, bitorder="little")
    return ConnectionList(row, column, theta, np.where(negative == 1, np.float32(-1), np.float32(1)))
