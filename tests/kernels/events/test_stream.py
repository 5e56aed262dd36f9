"""A prepared product against the products that it runs, and what it refuses."""

import numpy as np
import pytest
import torch

from eventbook.kernels.events import CSRBySource, ProductStream, event_csr_counted, event_matvec_counted

DTYPES = [torch.float32, torch.float64]


def problem(dtype, sources=33, targets=70, density=0.3, time=5):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(time, sources, generator=generator, dtype=dtype)
    x = x * (torch.rand(time, sources, generator=generator) < 0.3)
    matrix = torch.randn(sources, targets, generator=generator, dtype=dtype)
    return x, matrix * (torch.rand(sources, targets, generator=generator) < density)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pruned", [True, False])
def test_gives_the_bits_and_the_counts_of_the_product(dtype, pruned):
    x, matrix = problem(dtype)
    form = CSRBySource.from_dense(matrix) if pruned else matrix
    expected, operations = (event_csr_counted if pruned else event_matvec_counted)(x, form)
    stream = ProductStream(form)
    single = [stream.push(row) for row in x.numpy()]
    np.testing.assert_array_equal(np.stack(single), expected)  # an earlier result is not written over
    assert stream.operations() == operations
    together = stream.push(x.numpy())
    np.testing.assert_array_equal(together, expected)
    assert together.dtype == expected.numpy().dtype
    assert stream.operations() == operations.plus(operations)


@pytest.mark.parametrize("pruned", [True, False])
def test_keeps_the_weights_that_it_was_given(pruned):
    x, matrix = problem(torch.float64)
    form = CSRBySource.from_dense(matrix) if pruned else matrix
    stream = ProductStream(form)
    before = stream.push(x)
    if pruned:
        for part in (form.indptr, form.indices, form.values):
            part.zero_()
    else:
        matrix.zero_()
    np.testing.assert_array_equal(stream.push(x), before)
    assert np.abs(before).max() > 0


def test_takes_anything_that_is_an_array():
    x, matrix = problem(torch.float32)
    stream = ProductStream(torch.nn.Parameter(matrix))
    expected = stream.push(x)
    strided = x.repeat_interleave(2, 1)[:, ::2].numpy()
    frozen = x.numpy().copy()
    frozen.flags.writeable = False
    for same in (x.tolist(), x.double().numpy(), strided, frozen):
        np.testing.assert_array_equal(stream.push(same), expected)
    assert stream.push(np.zeros((0, 33))).shape == (0, 70)
    assert ProductStream(torch.ones(0, 2)).push([]).tolist() == [0, 0]
    assert np.isnan(stream.push(np.full(33, np.nan))).all()


def test_bad_input_is_refused():
    stream = ProductStream(torch.ones(3, 2))
    for bad in (np.ones(2), np.ones((1, 2)), np.ones((1, 1, 3)), np.float32(1)):
        with pytest.raises(
            ValueError, match=r"x must be \(source,\) or \(time, source\) with 3 sources, got"
        ):
            stream.push(bad)
    for bad, kind in ((np.ones(3, complex), "complex128"), (["1", "2", "3"], "<U1"), ([None] * 3, "object")):
        with pytest.raises(TypeError, match=f"x must be real numbers, got {kind}"):
            stream.push(bad)
    assert stream.operations().events == 0
    for bad in (torch.ones(3, 2, dtype=torch.int64), torch.ones(3, 2, dtype=torch.float16)):
        with pytest.raises(TypeError, match="matrix must be float32 or float64"):
            ProductStream(bad)
    with pytest.raises(ValueError, match=r"matrix must be \(source, target\), got \(3,\)"):
        ProductStream(torch.ones(3))
    with pytest.raises(ValueError, match="matrix must be on the CPU, where the kernels run, got meta"):
        ProductStream(torch.ones(3, 2, device="meta"))
    with pytest.raises(TypeError, match="matrix must be a tensor or a CSRBySource, got ndarray"):
        ProductStream(np.ones((3, 2)))
    pruned = CSRBySource.from_dense(torch.ones(3, 2))
    pruned.indices[0] = 7
    with pytest.raises(ValueError, match=r"indices must be in 0\.\.1, got 7"):
        ProductStream(pruned)
