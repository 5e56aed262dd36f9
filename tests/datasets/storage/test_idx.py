"""idx: what is written is read again, what is broken is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eventbook.datasets import DataError
from eventbook.datasets.storage.idx import decode_idx, encode_idx

DTYPES = ["u1", "i1", "<i2", ">i2", "<i4", ">i4", "<f4", ">f8"]
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)


@settings(max_examples=150, deadline=None)
@given(arrays)
def test_round_trip(array):
    again = decode_idx(encode_idx(array))
    assert again.dtype == array.dtype.newbyteorder("=")
    assert again.dtype.isnative
    assert again.flags.writeable
    np.testing.assert_array_equal(again, array)


@settings(max_examples=50, deadline=None)
@given(arrays.filter(lambda array: array.size > 0), st.data())
def test_any_truncation_is_refused(array, data):
    content = encode_idx(array)
    kept = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(DataError):
        decode_idx(content[:kept])


def test_the_bytes_are_those_of_the_format():
    # by hand: magic 00 00, type 0B (int16), 2 dimensions, sizes 1 and 2, elements 1 and -2, all big-endian
    by_hand = bytes.fromhex("0000 0b02 00000001 00000002 0001 fffe".replace(" ", ""))
    assert encode_idx(np.array([[1, -2]], np.int16)) == by_hand
    np.testing.assert_array_equal(decode_idx(by_hand), [[1, -2]])


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "expected an idx magic number"),
        (bytes.fromhex("00010801"), "got '00 01 08 01'"),
        (bytes.fromhex("00000a01"), "got '00 00 0a 01'"),
        (bytes.fromhex("0000080300000001"), "expected a header of 16 bytes, got 8"),
        (bytes.fromhex("00000801 00000003 0102"), r"truncated: expected 11 bytes for shape \(3,\), got 10"),
        (bytes.fromhex("00000801 00000001 0102"), "has trailing bytes: expected 9 bytes"),
        (b"\x1f\x8b\x08\x00" + bytes(9), "magic number"),  # forgot to unpack
    ],
)
def test_broken_content_is_named(content, message):
    with pytest.raises(DataError, match=message) as error:
        decode_idx(content, "some-file")
    assert str(error.value).startswith("some-file: ")


def test_element_types_without_a_code_are_refused():
    with pytest.raises(DataError, match="got int64"):
        encode_idx(np.zeros(3, np.int64))
