"""The event-driven product against torch, over shapes, strides and activities."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from eventbook.kernels.events import matvec
from eventbook.kernels.events.counters import Operations
from eventbook.kernels.events.matvec import event_matvec, event_matvec_counted, event_matvec_reference

F32, F64 = torch.float32, torch.float64


def problem(batch, sources, targets, activity=0.3, seed=0, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, sources, generator=generator, dtype=F64)
    x = x * (torch.rand(batch, sources, generator=generator) < activity)
    matrix = torch.randn(sources, targets, generator=generator, dtype=F64)
    g = torch.randn(batch, targets, generator=generator, dtype=F64)
    return x.to(dtype), matrix.to(dtype), g.to(dtype)


def gradients(product, x, matrix, g):
    x, matrix = x.detach().requires_grad_(), matrix.detach().requires_grad_()
    y = product(x, matrix)
    return y.detach(), *torch.autograd.grad(y, (x, matrix), g)


def close(found, expected, tolerance):
    scale = max(1.0, float(expected.abs().max()) if expected.numel() else 1.0)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert torch.allclose(found, expected, rtol=0, atol=tolerance * scale)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_equals_twin_and_torch(data):
    batch, sources = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 40))
    targets, activity = data.draw(st.integers(0, 70)), data.draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    x, matrix, g = problem(batch, sources, targets, activity, data.draw(st.integers(0, 99)))
    found = gradients(event_matvec, x, matrix, g)
    for one, twin, plain in zip(
        found,
        gradients(event_matvec_reference, x, matrix, g),
        gradients(torch.matmul, x, matrix, g),
        strict=True,
    ):
        close(one, twin, 1e-12)
        close(one, plain, 1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 60), st.integers(0, 150), st.integers(0, 99))
def test_single_precision_has_single_accuracy(sources, targets, seed):
    x, matrix, g = problem(2, sources, targets, 0.6, seed, F32)
    exact = gradients(torch.matmul, x.double(), matrix.double(), g.double())
    for single, double in zip(gradients(event_matvec, x, matrix, g), exact, strict=True):
        close(single.double(), double, 2e-6)


def test_comparison_notices_one_wrong_weight():
    x, matrix, _ = problem(2, 20, 30, 0.5)
    y = event_matvec(x, matrix)
    wrong = matrix.clone()
    wrong[int((x[0] != 0).nonzero()[0]), 3] *= -1
    assert (y - x @ wrong).abs().max() > 1e-2


def test_gradcheck():
    x, matrix, _ = problem(2, 7, 5, 0.5)
    assert torch.autograd.gradcheck(event_matvec, (x.requires_grad_(), matrix.requires_grad_()))


@pytest.mark.parametrize("dtype", [F32, F64])
def test_need_selects_exactly_the_needed_messages(dtype):
    x, matrix, g = problem(3, 33, 50, dtype=dtype)
    need = torch.rand(3, 33, generator=torch.Generator().manual_seed(1)) < 0.4
    _, full, to_matrix = gradients(event_matvec, x, matrix, g)
    _, some, same = gradients(lambda x, m: event_matvec(x, m, need=need), x, matrix, g)
    assert torch.equal(some, torch.where(need, full, 0))
    assert torch.equal(same, to_matrix)
    assert full[x == 0].abs().min() > 0  # silence is not a zero gradient


@pytest.mark.parametrize("dtype", [F32, F64])
def test_silent_rows_are_never_read(dtype):
    x, matrix, _ = problem(1, 40, 60, dtype=dtype)
    y = event_matvec(x, matrix)
    poisoned = torch.where(x[0].unsqueeze(1) == 0, torch.nan, matrix)
    assert torch.equal(event_matvec(x, poisoned), y)
    loud = torch.where(x[0].unsqueeze(1) == 0, matrix, matrix + torch.randn_like(matrix))
    assert not torch.allclose(event_matvec(x, loud), y)  # control
    assert (
        event_matvec_counted(x, poisoned, every_row=True)[0].isnan().all()
    )  # control: the dense path reads them


def test_rows_of_the_gradient_without_event_are_zero():
    x, matrix, g = problem(2, 30, 20, 0.2)
    to_matrix = gradients(event_matvec, x, matrix, g)[2]
    spoke = (x != 0).any(0)
    assert torch.equal(to_matrix[~spoke], torch.zeros_like(to_matrix[~spoke]))
    assert (to_matrix[spoke] != 0).all()


@pytest.mark.parametrize("dtype", [F32, F64])
def test_nan_is_an_event(dtype):
    x, matrix, _ = problem(2, 20, 40, dtype=dtype)
    x[0, 3] = torch.nan
    y, operations = event_matvec_counted(x, matrix)
    assert y[0].isnan().all()
    assert not y[1].isnan().any()
    assert operations.events == int((x != 0).sum())


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("activity", [0.0, 0.05, 0.5, 1.0])
def test_counts_are_events_times_targets(dtype, activity):
    x, matrix, _ = problem(3, 50, 37, activity, dtype=dtype)
    events = int((x != 0).sum())
    _, operations = event_matvec_counted(x, matrix)
    assert operations == Operations(events, 0, 37 * events, 37 * events * matrix.element_size())
    y, dense = event_matvec_counted(
        x, matrix, every_row=True
    )  # control: silence saves the dense path nothing
    assert dense.multiply_accumulates == 3 * 50 * 37
    assert torch.equal(y, event_matvec(x, matrix))


@pytest.mark.parametrize("dtype", [F32, F64])
def test_threads_and_repetition_give_the_same_bits(dtype):
    x, matrix, g = problem(5, 61, 83, dtype=dtype)
    once = gradients(event_matvec, x, matrix, g)
    for threads in (1, 2, 3, 8):
        again = gradients(lambda x, m, n=threads: event_matvec(x, m, threads=n), x, matrix, g)
        assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_one_batch_row_does_not_depend_on_the_others():
    x, matrix, _ = problem(5, 61, 83, dtype=F32)
    together = event_matvec(x, matrix)
    assert torch.equal(together, torch.cat([event_matvec(row.unsqueeze(0), matrix) for row in x]))


@pytest.mark.parametrize("dtype", [F32, F64])
def test_strided_inputs(dtype):
    x, matrix, g = problem(4, 30, 40, dtype=dtype)
    expected = gradients(
        event_matvec, x[::2, 5:25:2].contiguous(), matrix[5:25:2, ::3].contiguous(), g[::2, ::3]
    )
    found = gradients(event_matvec, x[::2, 5:25:2], matrix[5:25:2, ::3], g[::2, ::3])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    transposed = event_matvec(x, matrix.t().contiguous().t())
    assert torch.equal(transposed, event_matvec(x, matrix))


def test_compiles_whole_and_twice_in_one_graph():
    x, matrix, g = problem(2, 20, 20)

    def twice(x, matrix):
        return event_matvec(torch.relu(event_matvec(x, matrix)), matrix)

    plain = gradients(twice, x, matrix, g[:, :20])
    compiled = gradients(torch.compile(twice, backend="aot_eager", fullgraph=True), x, matrix, g[:, :20])
    dense = gradients(lambda x, m: torch.relu(x @ m) @ m, x, matrix, g[:, :20])
    for a, b, c in zip(compiled, plain, dense, strict=True):
        assert torch.equal(a, b)
        close(a, c, 1e-12)


def test_vmap_over_batches_and_over_matrices():
    x, matrix, _ = problem(6, 20, 30)
    folded = torch.vmap(event_matvec, in_dims=(0, None))(x.view(3, 2, 20), matrix)
    assert torch.equal(folded.reshape(6, 30), event_matvec(x, matrix))
    many = torch.stack([matrix, 2 * matrix])
    each = torch.vmap(event_matvec, in_dims=(None, 0))(x, many)
    close(each, x @ many, 1e-12)


def test_second_derivative_is_refused():
    x, matrix, _ = problem(1, 4, 3, 1.0)
    y = event_matvec(x.requires_grad_(), matrix.requires_grad_())
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        first.sum().backward()


def test_errors_name_argument_expectation_and_value():
    x, matrix, _ = problem(2, 4, 3)
    with pytest.raises(ValueError, match=r"matrix must be \(source, target\) = \(4, target\), got \(3, 4\)"):
        event_matvec(x, matrix.t())
    with pytest.raises(ValueError, match=r"activity must be \(batch, source\), got \(4,\)"):
        event_matvec(x[0], matrix)
    with pytest.raises(TypeError, match="matrix must have the dtype of activity"):
        event_matvec(x, matrix.float())
    with pytest.raises(TypeError, match="activity must be float32 or float64, got int64"):
        event_matvec(x.long(), matrix.long())
    with pytest.raises(ValueError, match=r"need must be \(batch, source\) = \(2, 4\), got \(2, 3\)"):
        event_matvec(x, matrix, need=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(TypeError, match="need must be bool, got float64"):
        event_matvec(x, matrix, need=torch.ones_like(x))
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        event_matvec(x, matrix, threads=0)


def test_cost_is_events_not_sources():
    """A million silent sources around three events: only three rows are touched."""
    sources = 1_000_000
    x = torch.zeros(1, sources)
    x[0, torch.tensor([3, 500_000, 999_999])] = torch.tensor([1.0, 2.0, 3.0])
    matrix = torch.ones(sources, 2)
    y, operations = event_matvec_counted(x, matrix)
    np.testing.assert_array_equal(y.numpy(), [[6, 6]])
    assert operations == Operations(3, 0, 6, 24)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_count_what_they_do(dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 40, generator=generator, dtype=dtype) * (torch.rand(3, 40, generator=generator) < 0.3)
    matrix, g = torch.rand(40, 30, generator=generator, dtype=dtype), torch.ones(3, 30, dtype=dtype)
    need = torch.rand(3, 40, generator=generator) < 0.4
    _, counts = matvec._event_matvec_messages(g, need, matrix, 1)
    needed, size = int(need.sum()), matrix.element_size()
    assert Operations.of(counts) == Operations(0, needed, 30 * needed, 30 * needed * size)
    _, counts = matvec._event_matvec_row_gradient(x, g, False, 1)
    events = int((x != 0).sum())
    assert Operations.of(counts) == Operations(events, 0, 30 * events, 0)


# --- past the operator -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_past_the_operator_bits_and_counts_are_the_same(data):
    shape = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 40)), data.draw(st.integers(0, 70))
    dtype, activity = data.draw(st.sampled_from([F32, F64])), data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    x, matrix, _ = problem(*shape, activity, data.draw(st.integers(0, 99)), dtype)
    for everything in (False, True):
        y, counts = matvec._event_matvec(x, matrix, None, everything, 1)
        found, operations = event_matvec_counted(x, matrix, every_row=everything)
        assert torch.equal(found, y)
        assert (found.dtype, found.requires_grad) == (y.dtype, False)
        assert operations == Operations.of(counts)
    assert torch.equal(event_matvec(x, matrix), matvec._event_matvec(x, matrix, None, False, 1)[0])


def test_the_operator_is_called_where_somebody_listens(monkeypatch):
    x, matrix, _ = problem(6, 20, 30)
    calls, operator = [], matvec._event_matvec
    expected = operator(x, matrix, None, False, 1)[0]
    monkeypatch.setattr(matvec, "_event_matvec", lambda *a: calls.append(a) or operator(*a))

    def count(call):
        calls.clear()
        assert torch.equal(call(), expected)
        return len(calls)

    weight = torch.nn.Parameter(matrix)
    assert count(lambda: event_matvec(x, matrix)) == 0
    assert count(lambda: torch.no_grad()(event_matvec)(x, weight)) == 0
    assert count(lambda: torch.inference_mode()(event_matvec)(x, weight)) == 0
    assert count(lambda: event_matvec(x, weight)) == 1
    assert count(lambda: event_matvec(x.clone().requires_grad_(), matrix)) == 1
    assert count(lambda: event_matvec(x, matrix, threads=2)) == 1
    assert count(lambda: event_matvec(x, matrix, need=x != 0)) == 1
    assert count(lambda: torch.vmap(event_matvec, (0, None))(x.view(3, 2, 20), matrix).view(6, 30)) == 1
    assert count(lambda: torch.func.functionalize(event_matvec)(x, matrix)) == 1
    with torch.utils.flop_counter.FlopCounterMode(display=False):
        assert count(lambda: event_matvec(x, matrix)) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_the_operator_is_in_every_trace():
    x, matrix, _ = problem(2, 20, 30)
    other, changed = torch.randn_like(x), torch.randn_like(matrix)
    for graph in (
        make_fx(lambda x, m: event_matvec(x, m))(x, matrix),
        torch.jit.trace(event_matvec, (x, matrix), check_trace=False),
        torch.compile(event_matvec, backend="aot_eager", fullgraph=True),
    ):
        assert torch.equal(graph(other, changed), event_matvec(other, changed))  # nothing became a constant
    with torch._subclasses.fake_tensor.FakeTensorMode() as mode:
        assert event_matvec(mode.from_tensor(x), mode.from_tensor(matrix)).shape == (2, 30)


def test_errors_are_the_same_with_and_without_the_operator():
    x, matrix, _ = problem(2, 20, 30)

    def complaint(x, matrix):
        with pytest.raises((ValueError, TypeError, RuntimeError)) as error:
            event_matvec(x, matrix)
        return type(error.value), str(error.value)

    for bad in (
        (x[:, 1:], matrix),
        (x[0], matrix),
        (x, matrix[0]),
        (x.float(), matrix),
        (x.int(), matrix.int()),
        (x.half(), matrix.half()),
        (x.to("meta"), matrix),
        (x, matrix.to("meta")),
        (x.to_sparse_coo(), matrix),
        (x.numpy(), matrix),
    ):
        plain = complaint(*bad)
        with torch.utils.flop_counter.FlopCounterMode(display=False):  # the way through the operator
            assert complaint(*bad) == plain
        assert "\n" not in plain[1]


def test_weights_are_read_as_they_are_now():
    x, matrix, _ = problem(2, 20, 30)
    y = event_matvec(x, matrix)
    matrix.data[:] *= 2
    assert torch.equal(event_matvec(x, matrix), 2 * y)
    matrix.data = matrix * 2
    assert torch.equal(event_matvec(x, matrix), 4 * y)
    assert torch.equal(event_matvec(torch._neg_view(x), torch._neg_view(matrix)), 4 * y)
