"""linear_scan and constant_scan: against their twins, other packages, each other; shapes, cuts, errors."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_checks import cast, compare, distance, frozen, outputs_and_gradients, random
from scipy.signal import lfilter

from eventbook.kernels.scans import constant_scan, linear_scan
from eventbook.kernels.scans.constant import constant_scan_reference
from eventbook.kernels.scans.linear import linear_scan_reference
from eventbook.kernels.scans.oracles import associative_scan_reference

REAL_AND_COMPLEX = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.complex128], ids=["real", "complex"]
)
LENGTHS = (0, 1, 2, 31, 32, 33, 200)
WIDTHS = (1, 3, 16, 17, 64)


def problem(batch: int, time: int, width: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    a = random(batch, time, width, dtype=dtype)
    a = a / (1 + a.abs())  # below one in modulus
    return {
        "a": a.to(torch.complex64 if dtype.is_complex else torch.float32).to(dtype),
        "b": random(batch, time, width, dtype=dtype, seed=1),
        "h0": random(batch, width, dtype=dtype, seed=2),
    }


@REAL_AND_COMPLEX
@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize("width", WIDTHS)
def test_linear_scan_is_its_twin(time: int, width: int, dtype: torch.dtype) -> None:
    compare(linear_scan, linear_scan_reference, problem(3, time, width, dtype), single=2e-6)


@REAL_AND_COMPLEX
@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize("width", WIDTHS)
def test_constant_scan_is_its_twin(time: int, width: int, dtype: torch.dtype) -> None:
    inputs = problem(3, time, width, dtype)
    a = random(width, dtype=dtype)
    inputs["a"] = (a / (1 + a.abs())).to(torch.complex64 if dtype.is_complex else torch.float32).to(dtype)
    compare(constant_scan, constant_scan_reference, inputs, single=2e-6)


@REAL_AND_COMPLEX
def test_gradients_are_those_of_finite_differences(dtype: torch.dtype) -> None:
    inputs = tuple(t.requires_grad_() for t in problem(2, 4, 3, dtype).values())
    assert torch.autograd.gradcheck(linear_scan, inputs)
    assert torch.autograd.gradcheck(constant_scan, (inputs[0][0, 0].detach().requires_grad_(), *inputs[1:]))


def test_a_wrong_sign_is_seen_by_the_check_of_gradients() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b, h0):
            ctx.save_for_backward(a, b, h0)
            return linear_scan(a, b, h0)[0].detach()

        @staticmethod
        def backward(ctx, g):
            inputs = [t.detach().requires_grad_() for t in ctx.saved_tensors]
            with torch.enable_grad():
                gradients = torch.autograd.grad(linear_scan(*inputs)[0], inputs, g)
            return -gradients[0], *gradients[1:]

    inputs = tuple(t.requires_grad_() for t in problem(1, 3, 2, torch.float64).values())
    assert not torch.autograd.gradcheck(Wrong.apply, inputs, raise_exception=False)


# --- other packages ----------------------------------------------------------------------------------------


def test_linear_scan_is_that_of_jax_frozen() -> None:
    case = frozen("jax_linear")
    leaves = [case[name].clone().requires_grad_() for name in ("a", "b", "h0")]
    h, _ = linear_scan(*leaves)
    assert distance(h, case["h"]) < 1e-11
    for gradient, name in zip(
        torch.autograd.grad(h, leaves, case["h_gradient"]), ("a", "b", "h0"), strict=True
    ):
        assert distance(gradient, case[f"{name}_gradient"]) < 1e-10


def test_linear_scan_is_that_of_jax() -> None:
    jax = pytest.importorskip("jax")
    inputs = {
        name: cast(t, (torch.float32, torch.complex64))
        for name, t in problem(2, 100, 5, torch.complex128).items()
    }
    a, b, h0 = (jax.numpy.asarray(t.detach().numpy()) for t in inputs.values())

    def states(a, b, h0):
        def step(h, x):
            h = x[0] * h + x[1]
            return h, h

        return jax.numpy.swapaxes(jax.lax.scan(step, h0, (a.swapaxes(0, 1), b.swapaxes(0, 1)))[1], 0, 1)

    expected, pull_back = jax.vjp(states, a, b, h0)
    g = random(2, 100, 5, dtype=torch.complex64)
    theirs = pull_back(
        jax.numpy.conj(jax.numpy.asarray(g.numpy()))
    )  # the other convention for complex gradients
    h, _ = linear_scan(**inputs)
    assert distance(h.detach(), torch.from_numpy(np.array(expected))) < 2e-6
    for ours, other in zip(torch.autograd.grad(h, list(inputs.values()), g), theirs, strict=True):
        assert distance(ours, torch.from_numpy(np.array(other)).conj()) < 2e-6


def test_constant_scan_is_a_recursive_filter() -> None:
    b = random(1, 300, 1)
    h, _ = constant_scan(torch.tensor([0.93], dtype=torch.float64), b)
    assert np.abs(h.flatten().numpy() - lfilter([1], [1, -0.93], b.flatten().numpy())).max() < 1e-12


def test_constant_scan_with_one_is_a_cumulative_sum() -> None:
    b = random(2, 50, 3)
    assert distance(constant_scan(torch.ones(3, dtype=torch.float64), b)[0], b.cumsum(1)) < 1e-13


@REAL_AND_COMPLEX
@pytest.mark.parametrize("time", [1, 2, 3, 64, 100])
def test_one_after_the_other_is_doubling(time: int, dtype: torch.dtype) -> None:
    inputs = problem(2, time, 4, dtype)
    assert (
        distance(
            linear_scan(inputs["a"], inputs["b"])[0], associative_scan_reference(inputs["a"], inputs["b"])
        )
        < 1e-12
    )


# --- cuts, views, threads ----------------------------------------------------------------------------------


@REAL_AND_COMPLEX
@settings(max_examples=25, deadline=None)
@given(time=st.integers(1, 40), width=st.integers(1, 20), data=st.data())
def test_any_cut_with_the_carried_state_changes_nothing(
    dtype: torch.dtype, time: int, width: int, data
) -> None:
    cut = data.draw(st.integers(0, time))

    def in_two(a, b, h0):
        first, carried = linear_scan(a[:, :cut], b[:, :cut], h0)
        second, last = linear_scan(a[:, cut:], b[:, cut:], carried)
        return torch.cat([first, second], 1), last

    inputs = {
        name: cast(t, (torch.float64, torch.complex128)) for name, t in problem(2, time, width, dtype).items()
    }
    whole, cut_up = outputs_and_gradients(linear_scan, inputs), outputs_and_gradients(in_two, inputs)
    assert max(distance(cut_up[name], whole[name]) for name in whole) < 1e-12


def test_forgetting_the_state_at_a_cut_is_wrong() -> None:
    inputs = problem(1, 20, 3, torch.float64)
    a, b = 0.9 + 0 * inputs["a"], inputs["b"]
    whole, _ = linear_scan(a, b)
    assert distance(linear_scan(a[:, 10:], b[:, 10:])[0], whole[:, 10:]) > 0.1


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    time=st.integers(0, 9),
    width=st.integers(1, 33),
    order=st.permutations([0, 1, 2]),
    step=st.sampled_from([1, 2, -1]), single=st.booleans(),
)  # fmt: skip
def test_strided_views_are_read_as_what_they_show(batch, time, width, order, step, single) -> None:
    dtype = torch.complex64 if single else torch.complex128
    shape = [(batch, time, width)[axis] for axis in order]
    back = [order.index(axis) for axis in range(3)]
    views = [
        random(*(2 * n for n in shape), dtype=dtype, seed=k)[tuple(slice(None, n) for n in shape)]
        for k in (0, 1)
    ]
    a, b = (view.permute(back) for view in views)
    a, b = (x.flip(2) if step < 0 else x for x in (a, b))
    assert torch.equal(linear_scan(0.3 * a, b)[0], linear_scan((0.3 * a).contiguous(), b.contiguous())[0])


@REAL_AND_COMPLEX
@pytest.mark.parametrize("single", [False, True], ids=["double", "single"])
def test_threads_give_the_same_bits(dtype: torch.dtype, single: bool) -> None:
    dtypes = (torch.float32, torch.complex64) if single else (torch.float64, torch.complex128)
    inputs = {name: cast(t, dtypes) for name, t in problem(5, 70, 17, dtype).items()}
    for scan in (linear_scan, lambda a, b, h0, threads: constant_scan(a[0, 0], b, h0, threads=threads)):
        runs = [outputs_and_gradients(partial(scan, threads=n), inputs) for n in (1, 2, 3, 8)]
        assert all(torch.equal(runs[0][name], run[name]) for run in runs[1:] for name in run)


def test_large_results_are_written_past_the_caches_and_right() -> None:
    a, b = torch.full((2, 40_000, 64), 0.5), random(2, 40_000, 64, dtype=torch.float32)
    h, last = linear_scan(a, b)
    assert h.numel() * h.element_size() > 1 << 24
    assert torch.equal(h[:, -1], last)
    expected = linear_scan_reference(a[:, -40:].double(), b[:, -40:].double())[1]
    assert distance(last.double(), expected) < 2e-6


def test_a_million_elements_do_not_drift() -> None:
    time = 1_000_000
    b = random(1, time, 2, dtype=torch.float32)
    a = torch.tensor([0.999, -0.5])
    h, _ = constant_scan(a, b)
    expected = [lfilter([1], [1, -float(x)], b[0, :, k].double().numpy()) for k, x in enumerate(a)]
    for k in range(2):
        assert np.abs(h[0, :, k].numpy() - expected[k]).max() < 2e-6 * np.abs(expected[k]).max() * 10
    slope = a.clone().requires_grad_()
    constant_scan(slope, b)[0].sum().backward()
    exact = a.double().requires_grad_()
    constant_scan(exact, b.double())[0].sum().backward()
    # a sum of terms of both signs is only as exact as its terms are large
    terms = h[0, :-1].double() / (1 - a.double())
    scale = terms.abs().sum(0)
    assert ((slope.grad.double() - exact.grad).abs() / scale).max() < 1e-6
    running = terms.float().numpy().cumsum(0, dtype=np.float32)[-1]  # control: one sum in single precision
    assert np.abs(running - exact.grad.numpy())[0] / scale[0] > 1e-6


def test_denormal_states_are_exact() -> None:
    b = torch.zeros(1, 400, 1, dtype=torch.float32)
    b[0, 0] = 1.0
    h, _ = linear_scan(torch.full_like(b, 0.7), b)
    expected = torch.from_numpy(np.power(np.float64(0.7), np.arange(400)))
    assert (h.flatten().double() - expected).abs().max() < 1e-6
    assert h[0, -1] >= 0


# --- torch -------------------------------------------------------------------------------------------------


def test_a_graph_may_use_the_scan_twice() -> None:
    a, b = (random(2, 6, 3, seed=k).requires_grad_() for k in (0, 1))

    def twice(a, b, scan):
        return scan(0.3 * a, scan(0.5 * b, a)[0])[0].square().sum()

    ours = torch.autograd.grad(twice(a, b, linear_scan), (a, b))
    theirs = torch.autograd.grad(twice(a, b, linear_scan_reference), (a, b))
    assert max(map(distance, ours, theirs)) < 1e-12


@pytest.mark.parametrize("subset", [{"a"}, {"b"}, {"h0"}, {"a", "h0"}])
def test_only_what_asks_for_a_gradient_gets_one(subset: set[str]) -> None:
    inputs = {name: t.requires_grad_(name in subset) for name, t in problem(1, 3, 2, torch.float64).items()}
    linear_scan(**inputs)[0].sum().backward()
    assert {name for name, t in inputs.items() if t.grad is not None} == subset


def test_the_scan_survives_tracing() -> None:
    def loss(a, b):
        return linear_scan(a, b)[0].abs().square().sum() + constant_scan(a[0, 0], b)[1].abs().sum()

    a, b = (0.3 * random(2, 5, 3, dtype=torch.complex64, seed=k).requires_grad_() for k in (0, 1))
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    for ours, theirs in zip(
        torch.autograd.grad(compiled(a, b), (a, b)), torch.autograd.grad(loss(a, b), (a, b)), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("in_dims", [(0, 0), (1, None), (None, 2)])
def test_vmap_is_a_loop(in_dims: tuple[int | None, int | None]) -> None:
    shapes = [(2, 4, 3) if dim is None else (*(2, 4, 3)[:dim], 5, *(2, 4, 3)[dim:]) for dim in in_dims]
    a, b = (0.3 * random(*shape, seed=k) for k, shape in enumerate(shapes))
    mapped = torch.vmap(linear_scan, in_dims)(a, b)
    slices = [
        linear_scan(*(x if dim is None else x.select(dim, k) for x, dim in zip((a, b), in_dims, strict=True)))
        for k in range(5)
    ]
    for ours, expected in zip(mapped, zip(*slices, strict=True), strict=True):
        assert torch.equal(ours, torch.stack(expected))


def test_a_second_derivative_is_refused_in_words() -> None:
    a = random(1, 3, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(linear_scan(a, a)[0].sum(), a, create_graph=True)
    with pytest.raises(RuntimeError, match="linear_scan is differentiable once"):
        gradient.sum().backward()


def test_the_last_state_is_memory_of_its_own() -> None:
    b = random(1, 3, 2)
    h, last = linear_scan(0.5 * b, b)
    last.zero_()
    assert h[:, -1].abs().min() > 0


# --- bad input ---------------------------------------------------------------------------------------------

A, H = torch.zeros(2, 5, 3), torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: linear_scan(A[:, :4], A),
            ValueError,
            r"a must be \(batch, time, state\) = \(2, 5, 3\), got \(2, 4, 3\)",
        ),
        (lambda: linear_scan(A, A[0]), ValueError, r"b must be \(batch, time, state\), got \(5, 3\)"),
        (
            lambda: linear_scan(A, A, H[:1]),
            ValueError,
            r"h0 must be \(batch, state\) = \(2, 3\), got \(1, 3\)",
        ),
        (
            lambda: linear_scan(A.double(), A),
            TypeError,
            "a must have the dtype of b, torch.float32, got torch.float64",
        ),
        (
            lambda: linear_scan(A.int(), A.int()),
            TypeError,
            "b must be float32 or float64 or complex64 or complex128, got int32",
        ),
        (lambda: linear_scan(A, A, threads=0), ValueError, "threads must be >= 1, got 0"),
        (lambda: constant_scan(H, A), ValueError, r"a must be \(state,\) = \(3,\), got \(2, 3\)"),
    ],
)
def test_bad_input_gets_one_clear_line(call, error, message) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_what_is_not_a_number_stays_so() -> None:
    for dtype in (torch.float32, torch.complex64, torch.float64):
        b = torch.zeros(1, 40, 17, dtype=dtype)
        b[0, 7, 5] = torch.nan
        h, _ = linear_scan(torch.full_like(b, 0.5), b)
        assert h[0, 7:, 5].isnan().all()
        assert not h[0, :7].isnan().any()
        assert not h[0, :, :5].isnan().any()
