"""Products over compressed rows, whole and by parts, against the same products over dense ones."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.kernels.events.compressed_rows import compressed_rows, end_to_end
from eventbook.kernels.events.csr_matrix import CSRBySource
from eventbook.kernels.events.rows import add_columns, add_rows, bytes_each, dot_columns, dot_rows, part
from eventbook.kernels.machinery.compile import kernel


@kernel()
def products(matrix, width, cut, index, value, vector, whole, parts, message, two):
    """All four products; counts of each."""
    done = np.zeros(7, np.int64)
    done[0] = add_rows(matrix, index, value, index.size, whole)
    done[1] = add_columns(matrix, width, 0, index, value, index.size, parts[:cut])
    done[2] = add_columns(matrix, width, cut, index, value, index.size, parts[cut:])
    done[3] = dot_rows(matrix, index, index.size, vector, message)
    done[4] = dot_columns(matrix, width, 0, index, index.size, vector[:cut], two[0])
    done[5] = dot_columns(matrix, width, cut, index, index.size, vector[cut:], two[1])
    done[6] = bytes_each(matrix)
    return done


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_products_of_all_rows_are_those_of_dense_ones(data):
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    sources, width = data.draw(st.integers(1, 20)), data.draw(st.integers(2, 40))
    cut = data.draw(st.integers(1, width - 1))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    mask = torch.rand(sources, width, generator=generator) < data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    dense = torch.randn(sources, width, generator=generator, dtype=dtype) * mask
    chosen = np.flatnonzero(torch.rand(sources, generator=generator).numpy() < 0.6)
    value = torch.randn(len(chosen), generator=generator, dtype=dtype).numpy()
    vector = torch.randn(width, generator=generator, dtype=dtype).numpy()
    matrix = CSRBySource.from_dense(dense, mask)
    rows = compressed_rows(matrix.indptr, matrix.indices, matrix.values, matrix.changes, width, cut)
    found = []
    for form in (dense.numpy().reshape(-1), rows):
        out = [np.zeros(size, value.dtype) for size in (width, width, sources)]
        two = np.zeros((2, sources), value.dtype)
        done = products(form, width, cut, chosen, value, vector, *out, two)
        found.append((*out, two, done))
    for a, b in zip(found[0][:4], found[1][:4], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 if dtype is torch.float64 else 1e-4)
    kept = mask.numpy()[chosen]
    first, last = int(kept[:, :cut].sum()), int(kept[:, cut:].sum())
    assert found[1][4].tolist() == [first + last, first, last] * 2 + [4 + dense.element_size()]
    area = len(chosen) * width
    parts = [len(chosen) * cut, len(chosen) * (width - cut)]
    assert found[0][4].tolist() == [area, *parts] * 2 + [dense.element_size()]


def test_only_a_matrix_that_was_proved_is_taken_as_it_is():
    matrix = CSRBySource.from_dense(torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]))
    parts = matrix.indptr, matrix.indices, matrix.values
    assert compressed_rows(*parts, matrix.changes, 3, 2).cut.tolist() == [1, 3]
    matrix.indices[0] = 7
    for changes in (-1, matrix.changes):
        with pytest.raises(ValueError, match=r"indices must be in 0..2, got 7"):
            compressed_rows(*parts, changes, 3, 2)


@kernel()
def from_one_of(matrices, at, sources, width, cut, index, value, whole, last):
    """Products with one of several matrices."""
    rows = part(matrices, at, sources, width)
    done = add_rows(rows, index, value, index.size, whole)
    return done + add_columns(rows, width, cut, index, value, index.size, last)


def test_each_of_several_matrices_is_found_again():
    chance = torch.Generator().manual_seed(0)
    sizes = [(3, 5), (1, 2), (4, 7)]
    dense = [torch.randn(size, generator=chance, dtype=torch.float64) for size in sizes]
    for matrix in dense:
        matrix.mul_(torch.rand(matrix.shape, generator=chance) < 0.5)
    stored = [CSRBySource.from_dense(matrix) for matrix in dense]
    together = end_to_end([
        compressed_rows(its.indptr, its.indices, its.values, its.changes, its.targets, 1) for its in stored
    ])  # fmt: skip
    flat = np.concatenate([matrix.numpy().reshape(-1) for matrix in dense])
    source = place = 0
    for matrix, (sources, width) in zip(dense, sizes, strict=True):
        index, value = np.arange(sources), np.arange(1.0, sources + 1)
        for all_of_them, at in ((flat, place), (together, source)):
            whole, last = np.zeros(width), np.zeros(width - 1)
            done = from_one_of(all_of_them, at, sources, width, 1, index, value, whole, last)
            np.testing.assert_allclose(whole, value @ matrix.numpy(), rtol=0, atol=1e-12)
            np.testing.assert_allclose(last, (value @ matrix.numpy())[1:], rtol=0, atol=1e-12)
            stored_here = matrix.count_nonzero() + matrix[:, 1:].count_nonzero()
            assert done == (sources * (2 * width - 1) if all_of_them is flat else stored_here)
        source, place = source + sources, place + sources * width
