"""The idx format: one n-dimensional array in a file, as MNIST is published.

========  ==========================================================  =========
bytes     meaning                                                     name
========  ==========================================================  =========
0-1       zero
2         element type: 08 u8, 09 i8, 0B i16, 0C i32, 0D f32, 0E f64  `ELEMENT`
3         number of dimensions n
4 ...     n sizes, unsigned 32 bit, big-endian                        ``shape``
rest      the elements, row-major, big-endian
========  ==========================================================  =========

Source: the format description on the MNIST home page (LeCun, Cortes and Burges).
"""

import math
import struct

import numpy as np
from jaxtyping import Shaped

from eventbook.datasets.storage.errors import DataError

ELEMENT = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def decode_idx(content: bytes, name: str = "idx content") -> Shaped[np.ndarray, "..."]:
    """Decode the bytes of an idx file.

    Parameters
    ----------
    content : bytes
        The unpacked file.
    name : str
        What the errors call it.

    Returns
    -------
    ndarray
        Native byte order, writable, shaped as the header says.

    Raises
    ------
    DataError
        If the magic number is wrong, or bytes are missing or left over.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in ELEMENT:
        raise DataError(f"{name}: expected an idx magic number (00 00 type n), got {content[:4].hex(' ')!r}")
    dtype = np.dtype(ELEMENT[content[2]])
    n_dimensions = content[3]
    offset = 4 + 4 * n_dimensions
    if len(content) < offset:
        raise DataError(f"{name}: expected a header of {offset} bytes, got {len(content)} bytes")
    shape = struct.unpack(f">{n_dimensions}I", content[4:offset])
    expected = offset + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        fault = "truncated" if len(content) < expected else "has trailing bytes"
        raise DataError(f"{name}: {fault}: expected {expected} bytes for shape {shape}, got {len(content)}")
    elements = np.frombuffer(content, dtype, offset=offset).reshape(shape)
    return elements.astype(dtype.newbyteorder("="))


def encode_idx(array: Shaped[np.ndarray, "..."]) -> bytes:
    """Encode an array as the bytes of an idx file, the inverse of `decode_idx`.

    Raises
    ------
    DataError
        If the format has no code for the element type, or a size does not fit in 32 bits.
    """
    kind = array.dtype.newbyteorder(">")
    codes = {np.dtype(text): code for code, text in ELEMENT.items()}
    if kind not in codes:
        raise DataError(
            f"array: expected one of {', '.join(str(np.dtype(t)) for t in codes)}, got {array.dtype}"
        )
    if array.ndim > 255 or any(size >= 2**32 for size in array.shape):
        raise DataError(f"array: idx holds at most 255 sizes below 2**32, got shape {array.shape}")
    header = bytes([0, 0, codes[kind], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(kind).tobytes()
