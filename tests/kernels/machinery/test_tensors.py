"""The boundary to torch: words of errors, views without copies, memory that suits the kernels."""

import numpy as np
import pytest
import torch

from eventbook.kernels.events import event_matvec
from eventbook.kernels.machinery.tensors import (
    ALIGNMENT,
    array,
    axes,
    beyond_cache,
    copy,
    flat,
    new,
    same_dtype,
)
from eventbook.kernels.scans import event_scan, linear_scan


def test_axes_bind_lengths_by_name() -> None:
    sizes = axes(a=(torch.zeros(2, 5, 3), "batch time state"), h=(torch.zeros(2, 3), "batch state"))
    assert sizes == {"batch": 2, "time": 5, "state": 3}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 4), r"h must be \(batch, state\) = \(2, 3\), got \(2, 4\)"),
        ((2,), r"h must be \(batch, state\) = \(2, 3\), got \(2,\)"),
    ],
)
def test_axes_that_do_not_fit_are_named(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        axes(a=(torch.zeros(2, 5, 3), "batch time state"), h=(torch.zeros(shape), "batch state"))


def test_dtypes_must_agree() -> None:
    assert same_dtype(a=torch.zeros(1), b=None, c=torch.zeros(2)) == torch.float32
    with pytest.raises(TypeError, match="c must have the dtype of a"):
        same_dtype(a=torch.zeros(1), c=torch.zeros(1, dtype=torch.float64))


def test_contiguous_tensors_are_viewed_and_others_copied_once() -> None:
    x = torch.zeros(3, 4)
    assert array(x).ctypes.data == x.data_ptr()
    assert array(x.T).ctypes.data != x.data_ptr()
    assert array(x.T).flags.c_contiguous


def test_lazy_conjugates_and_expanded_scalars_are_resolved() -> None:
    z = torch.tensor([1 + 2j])
    assert array(z.conj())[0] == 1 - 2j
    assert array(z.conj().imag)[0] == -2
    assert array(torch.ones(1).expand(3)).strides == (4,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
@pytest.mark.parametrize("shape", [(0,), (3, 0), (3, 5), (700, 900)])
def test_new_tensors_are_aligned(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = new(shape, torch.zeros(1, dtype=dtype))
    assert x.shape == shape
    assert x.dtype == dtype
    assert x.data_ptr() % ALIGNMENT == 0 or not x.numel()
    x.fill_(1)
    assert bool((x == 1).all())


def test_rows_are_flat_and_real() -> None:
    z = np.arange(12, dtype=np.complex64).reshape(2, 3, 2)
    rows = flat(z)
    assert rows.shape == (2, 12)
    assert rows.dtype == np.float32
    assert rows[1, 2] == z[1, 0, 1].real
    assert flat(np.zeros((3, 0, 4), np.complex128)).shape == (3, 0)


def test_only_large_aligned_rows_go_past_the_caches() -> None:
    def zeros(*shape: int) -> np.ndarray:
        return new(shape, torch.zeros(0)).numpy()

    assert beyond_cache(zeros(1, 1 << 18, 32))
    assert not beyond_cache(zeros(1, 1 << 10, 32))
    assert not beyond_cache(zeros(1, 1 << 18, 33))


def test_rows_that_begin_within_a_cache_line_are_not_written_past_the_caches() -> None:
    size = (1 << 23) + 32 * 4
    buffer = np.zeros(size + 128, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    for shift in (0, 4, 32):
        rows = buffer[start + shift : start + shift + size].view(np.float32).reshape(1, -1, 32)
        assert beyond_cache(rows) == (shift == 0)


def test_copies_are_of_what_a_tensor_shows_and_apart_from_it() -> None:
    z = torch.tensor([[1 + 2j, 3 - 4j]])
    for shown in (z.conj(), z.conj().imag, z.mT, z.expand(3, 2), z.requires_grad_()):
        copied = copy(shown)
        assert (copied.is_conj(), copied.is_neg(), copied.requires_grad) == (False, False, False)
        assert copied.is_contiguous()
        assert np.array_equal(copied.numpy(), array(shown))
        copied.zero_()
        assert bool((z != 0).all())


def test_a_tensor_without_memory_is_refused_unless_all_are() -> None:
    x, none = torch.zeros(2, 3), torch.zeros(2, 3, device="meta")
    assert axes(a=(none, "batch state"), b=(none, "batch state")) == {"batch": 2, "state": 3}
    for name, pair in (("b", (x, none)), ("a", (none, x))):
        with pytest.raises(ValueError, match=f"{name} must be on the CPU, where the kernels run, got meta"):
            axes(a=(pair[0], "batch state"), b=(pair[1], "batch state"))


def test_derivatives_that_kernels_lack_are_refused_and_not_taken_for_zero():
    lam, b = torch.tensor([-1 + 1j]), torch.ones(1, 3, 1, dtype=torch.complex64)
    gap, a = torch.ones(1, 3), torch.full((1, 3, 1), 0.5)
    said = "carries a tangent, and kernels have no forward-mode derivatives"
    with pytest.raises(NotImplementedError, match=f"gap {said}"):
        torch.func.jvp(lambda g: event_scan(lam, g, b)[0].real, (gap,), (gap,))
    with pytest.raises(NotImplementedError, match=f"a {said}"):
        torch.func.jacfwd(lambda x: linear_scan(x, a)[0])(a)
    with pytest.raises(NotImplementedError, match=f"activity {said}"):
        torch.func.jvp(lambda x: event_matvec(x, torch.eye(1)), (a[0],), (a[0],))
    for derive in (torch.func.grad, torch.func.jacrev):
        with pytest.raises(
            NotImplementedError, match=r"a is differentiated by torch\.func, which reaches no kernel"
        ):
            derive(lambda x: linear_scan(x, a)[0].sum())(a)
    # what does not depend on the tangent has none
    _, tangent = torch.func.jvp(lambda x: x + linear_scan(a, a)[0], (a,), (a,))
    assert torch.equal(tangent, a)
