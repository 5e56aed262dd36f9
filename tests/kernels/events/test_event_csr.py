"""Compressed rows of events against scipy and dense masked torch; what the matrix refuses."""

import copy
import gc
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from eventbook.kernels.events import csr, csr_matrix
from eventbook.kernels.events.counters import Operations
from eventbook.kernels.events.csr import CSRBySource, event_csr, event_csr_counted, event_csr_reference

F32, F64 = torch.float32, torch.float64


def problem(batch, sources, targets, activity=0.3, density=0.2, seed=0, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, sources, generator=generator, dtype=F64)
    x = x * (torch.rand(batch, sources, generator=generator) < activity)
    matrix = torch.randn(sources, targets, generator=generator, dtype=F64)
    mask = torch.rand(sources, targets, generator=generator) < density
    g = torch.randn(batch, targets, generator=generator, dtype=F64)
    return x.to(dtype), matrix.to(dtype), mask, g.to(dtype)


def run(product, x, matrix, mask, g):
    x = x.detach().requires_grad_()
    pruned = CSRBySource.from_dense(matrix, mask)
    values = pruned.values.detach().requires_grad_()
    y = product(x, pruned.with_values(values))
    return y.detach(), *torch.autograd.grad(y, (x, values), g)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_equals_twin_scipy_and_masked_torch(data):
    batch, sources = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 40))
    targets, density = data.draw(st.integers(1, 50)), data.draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    x, matrix, mask, g = problem(batch, sources, targets, 0.4, density, data.draw(st.integers(0, 99)))
    y, to_x, to_values = run(event_csr, x, matrix, mask, g)
    for ours, twin in zip((y, to_x, to_values), run(event_csr_reference, x, matrix, mask, g), strict=True):
        np.testing.assert_allclose(ours, twin, rtol=0, atol=1e-12)
    oracle = sp.csr_array(np.where(mask, matrix, 0))
    np.testing.assert_allclose(y, x.numpy() @ oracle, rtol=0, atol=1e-12)
    np.testing.assert_allclose(to_x, (oracle @ g.numpy().T).T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(to_values, (x.t() @ g)[mask], rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 60), st.integers(1, 150), st.integers(0, 99))
def test_single_precision_has_single_accuracy(sources, targets, seed):
    x, matrix, mask, g = problem(2, sources, targets, 0.6, 0.3, seed, F32)
    exact = run(event_csr_reference, x.double(), matrix.double(), mask, g.double())
    for single, double in zip(run(event_csr, x, matrix, mask, g), exact, strict=True):
        assert single.dtype == F32
        np.testing.assert_allclose(single, double, rtol=0, atol=2e-5)


def test_comparison_notices_one_wrong_weight():
    x, matrix, mask, g = problem(2, 30, 20, 0.9, 0.5)
    y, _, _ = run(event_csr, x, matrix, mask, g)
    source, target = mask[x[0] != 0].nonzero()[0].tolist()
    wrong = torch.where(mask, matrix, 0)
    wrong[int((x[0] != 0).nonzero()[source]), target] *= -1
    assert (y - x @ wrong).abs().max() > 1e-3


def test_gradcheck():
    x, matrix, mask, _ = problem(2, 7, 5, 0.5, 0.6)
    pruned = CSRBySource.from_dense(matrix, mask)
    assert torch.autograd.gradcheck(
        lambda x, values: event_csr(x, pruned.with_values(values)),
        (x.requires_grad_(), pruned.values.requires_grad_()),
    )


@pytest.mark.parametrize("dtype", [F32, F64])
def test_need_selects_exactly_the_needed_messages(dtype):
    x, matrix, mask, g = problem(3, 33, 50, dtype=dtype)
    need = torch.rand(3, 33, generator=torch.Generator().manual_seed(1)) < 0.4
    _, full, values = run(event_csr, x, matrix, mask, g)
    _, some, same = run(lambda x, m: event_csr(x, m, need=need), x, matrix, mask, g)
    assert torch.equal(some, torch.where(need, full, 0))
    assert torch.equal(values, same)


def test_gradient_reaches_the_dense_matrix_at_stored_entries_only():
    x, matrix, mask, g = problem(2, 20, 30)
    matrix.requires_grad_()
    event_csr(x, CSRBySource.from_dense(matrix, mask)).backward(g)
    torch.testing.assert_close(matrix.grad, torch.where(mask, x.t() @ g, 0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("activity", [0.0, 0.1, 1.0])
def test_counts_are_stored_weights_of_rows_with_an_event(dtype, activity):
    x, matrix, mask, _ = problem(3, 40, 30, activity, dtype=dtype)
    pruned = CSRBySource.from_dense(matrix, mask)
    y, operations = event_csr_counted(x, pruned)
    products = int(((x != 0).long() @ mask.sum(1)).sum())
    size = 4 + matrix.element_size()
    assert operations == Operations(int((x != 0).sum()), 0, products, products * size)
    every, dense = event_csr_counted(x, pruned, every_row=True)  # control
    assert dense.multiply_accumulates == 3 * int(mask.sum())
    assert torch.equal(every, y)


def test_silent_rows_are_never_read_and_nan_is_an_event():
    x, matrix, mask, _ = problem(1, 40, 60, density=0.5)
    y = event_csr(x, CSRBySource.from_dense(matrix, mask))
    poisoned = torch.where(x[0].unsqueeze(1) == 0, torch.nan, matrix)
    assert torch.equal(event_csr(x, CSRBySource.from_dense(poisoned, mask)), y)
    x[0, int((x[0] == 0).nonzero()[0])] = torch.nan
    assert event_csr(x, CSRBySource.from_dense(matrix, mask)).isnan().any()


@pytest.mark.parametrize("dtype", [F32, F64])
def test_threads_give_the_same_bits(dtype):
    arguments = problem(5, 61, 83, dtype=dtype)
    once = run(event_csr, *arguments)
    for threads in (2, 3, 8):
        again = run(lambda x, m, n=threads: event_csr(x, m, threads=n), *arguments)
        assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_strided_and_empty_inputs():
    x, matrix, mask, g = problem(4, 30, 40)
    found = run(event_csr, x[::2, ::3], matrix[::3, ::2], mask[::3, ::2], g[::2, ::2])
    expected = run(
        event_csr, x[::2, ::3].contiguous(), matrix[::3, ::2].contiguous(), mask[::3, ::2], g[::2, ::2]
    )
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    nothing = CSRBySource.from_dense(torch.zeros(0, 3))
    assert torch.equal(event_csr(torch.zeros(2, 0), nothing), torch.zeros(2, 3))
    assert event_csr(torch.zeros(0, 30, dtype=F64), CSRBySource.from_dense(matrix, mask)).shape == (0, 40)


def test_compiles_whole_and_vmaps():
    x, matrix, mask, g = problem(6, 20, 30)
    compiled = torch.compile(lambda x, m: event_csr(x, m) * 2, backend="aot_eager", fullgraph=True)
    plain = run(lambda x, m: event_csr(x, m) * 2, x, matrix, mask, g)
    pruned = CSRBySource.from_dense(matrix, mask)
    values = pruned.values.requires_grad_()
    y = compiled(x, pruned.with_values(values))
    assert torch.equal(y, plain[0])
    assert torch.equal(torch.autograd.grad(y, values, g)[0], plain[2])
    folded = torch.vmap(lambda x: event_csr(x, pruned))(x.view(3, 2, 20))
    assert torch.equal(folded.reshape(6, 30), event_csr(x, pruned))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_conversions():
    _, matrix, mask, _ = problem(1, 20, 30)
    masked = torch.where(mask, matrix, 0)
    for pruned in (
        CSRBySource.from_dense(matrix, mask),
        CSRBySource.from_dense(masked),
        CSRBySource.from_torch(masked.to_sparse_csr()),
    ):
        assert torch.equal(pruned.to_dense(), masked)
        assert pruned.density == int(mask.sum()) / 600
    with pytest.raises(ValueError, match="must be a CSR tensor"):
        CSRBySource.from_torch(masked)
    stored_zero = CSRBySource.from_dense(torch.zeros(2, 2), torch.eye(2, dtype=torch.bool))
    assert len(stored_zero.values) == 2


def parts():
    return [
        torch.tensor([0, 2, 2, 3]),
        torch.tensor([0, 4, 1], dtype=torch.int32),
        torch.ones(3),
        5,
    ]


@pytest.mark.parametrize(
    "at, part, complaint",
    [
        (0, torch.tensor([0, 2, 2, 4]), "indptr must run from 0 to the number of values, 3, got from 0 to 4"),
        (0, torch.tensor([], dtype=torch.int64), "got an empty vector"),
        (0, torch.tensor([0, 3, 2, 3]), "indptr must not fall, got a fall after source 1"),
        (0, torch.tensor([[0, 3]]), r"indptr must be a vector on the CPU, got \(1, 2\)"),
        (1, torch.tensor([0, 4], dtype=torch.int32), "indices must have one entry per value, 3, got 2"),
        (1, torch.tensor([0, 5, 1], dtype=torch.int32), r"indices must be in 0\.\.4, got 5"),
        (1, torch.tensor([0, -1, 1], dtype=torch.int32), r"indices must be in 0\.\.4, got -1"),
        (1, torch.tensor([4, 0, 1], dtype=torch.int32), "must ascend within a source, got 4, 0 in source 0"),
        (1, torch.tensor([4, 4, 1], dtype=torch.int32), "must ascend within a source, got 4, 4 in source 0"),
    ],
)
def test_bad_matrices_are_refused(at, part, complaint):
    CSRBySource(*parts())  # control: the parts as they are
    bad = parts()
    bad[at] = part
    with pytest.raises(ValueError, match=complaint):
        CSRBySource(*bad)


def test_wrong_types_and_shapes_are_refused():
    bad = parts()
    bad[1] = bad[1].long()
    with pytest.raises(TypeError, match="indptr must be int64 and indices int32, got int64 and int64"):
        CSRBySource(*bad)
    matrix = CSRBySource(*parts())
    with pytest.raises(ValueError, match="one column per source of matrix, 3, got 4"):
        event_csr(torch.zeros(1, 4), matrix)
    with pytest.raises(TypeError, match="values must have the dtype of activity"):
        event_csr(torch.zeros(1, 3, dtype=F64), matrix)
    with pytest.raises(ValueError, match=r"need must be \(batch, source\) = \(1, 3\), got \(2, 3\)"):
        event_csr(torch.zeros(1, 3), matrix, need=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="mask must be"):
        CSRBySource.from_dense(torch.ones(2, 3), torch.ones(3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="indices must have one entry per value"):
        matrix.with_values(torch.ones(4))


@pytest.mark.parametrize("targets", [-1, 3.5, 2**31, 2**40])
def test_targets_that_no_index_can_number(targets):
    with pytest.raises(ValueError, match=r"targets must be an integer in 0\.\.2147483647, got"):
        CSRBySource(torch.tensor([0, 0]), torch.zeros(0, dtype=torch.int32), torch.zeros(0), targets)


@pytest.mark.parametrize("stored", [3, 4])
def test_an_indptr_whose_differences_wrap_around_is_refused(stored):
    """Its differences in 64 bits are all positive, and its ends are right."""
    indptr = torch.tensor([0, 2**63 - 1, -2, stored])
    assert bool((indptr.diff() >= 0).all())
    with pytest.raises(ValueError, match="indptr must not fall, got a fall after source 1"):
        CSRBySource(indptr, torch.arange(stored, dtype=torch.int32), torch.ones(stored), 5)


@pytest.mark.parametrize(
    "change, complaint",
    [
        (lambda m: m.indices.fill_(2**30), r"indices must be in 0\.\.4, got 1073741824"),
        (lambda m: m.indptr.copy_(torch.tensor([0, 2, -7, 3])), "indptr must not fall"),
        (
            lambda m: m.indices.set_(torch.full((3,), 9, dtype=torch.int32)),
            r"indices must be in 0\.\.4, got 9",
        ),
        (lambda m: m.values.set_(torch.ones(2)), "indices must have one entry per value, 2, got 3"),
    ],
)
@pytest.mark.parametrize("product", [event_csr, event_csr_counted])
def test_a_change_in_place_is_noticed(change, complaint, product):
    matrix = CSRBySource(*parts())
    x = torch.ones(1, 3)
    product(x, matrix)
    change(matrix)
    with pytest.raises(ValueError, match=complaint):
        product(x, matrix)


def test_a_good_change_in_place_is_taken_and_proved_once(monkeypatch):
    matrix, proofs = CSRBySource(*parts()), []
    monkeypatch.setattr(csr_matrix, "prove", lambda *parts: proofs.append(parts))
    x = torch.ones(1, 3)
    event_csr(x, matrix)
    matrix.with_values(torch.zeros(3))
    assert proofs == []
    matrix.indices[0] = 1
    for _ in range(3):
        assert event_csr(x, matrix).tolist() == [[0.0, 2.0, 0.0, 0.0, 1.0]]
    assert len(proofs) == 1


def test_a_change_in_place_is_noticed_by_a_compiled_graph():
    matrix = CSRBySource(*parts())
    compiled = torch.compile(lambda x: event_csr(x, matrix), backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(torch.ones(1, 3)), event_csr(torch.ones(1, 3), matrix))
    matrix.indices[0] = -1
    with pytest.raises(ValueError, match=r"indices must be in 0\.\.4, got -1"):
        compiled(torch.ones(1, 3))


def test_a_matrix_made_under_inference_mode_is_proved_at_each_call():
    with torch.inference_mode():
        matrix = CSRBySource(*parts())
        event_csr(torch.ones(1, 3), matrix)
        matrix.indices[0] = 77
        with pytest.raises(ValueError, match=r"indices must be in 0\.\.4, got 77"):
            event_csr(torch.ones(1, 3), matrix)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_gradients_count_what_they_do(dtype):
    x, matrix, mask, g = problem(3, 40, 30, dtype=dtype)
    pruned = CSRBySource.from_dense(matrix, mask)
    need = torch.rand(3, 40, generator=torch.Generator().manual_seed(1)) < 0.4
    places = pruned.indptr, pruned.indices
    _, counts = csr._event_csr_messages(g, need, pruned.values, *places, 1)
    products = int((need.long() @ mask.sum(1)).sum())
    size = 4 + matrix.element_size()
    assert Operations.of(counts) == Operations(0, int(need.sum()), products, products * size)
    _, counts = csr._event_csr_value_gradient(x, g, *places, 1)
    products = int(((x != 0).long() @ mask.sum(1)).sum())
    assert Operations.of(counts) == Operations(int((x != 0).sum()), 0, products, 0)


# --- past the operator -------------------------------------------------------------------------------------


@pytest.fixture
def operator_calls(monkeypatch):
    """How often the operator was called; the kernel alone leaves no trace here."""
    calls, operator = [], csr._event_csr

    def counted(*arguments):
        calls.append(arguments)
        return operator(*arguments)

    monkeypatch.setattr(csr, "_event_csr", counted)
    return calls


def by_operator(x, matrix, everything=False):
    return csr._checked(x, matrix, None, everything, 1)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_past_the_operator_bits_and_counts_are_the_same(data):
    shape = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 40)), data.draw(st.integers(0, 50))
    dtype, density = data.draw(st.sampled_from([F32, F64])), data.draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    x, matrix, mask, _ = problem(*shape, 0.4, density, data.draw(st.integers(0, 99)), dtype)
    pruned = CSRBySource.from_dense(matrix, mask)
    for everything in (False, True):
        y, counts = by_operator(x, pruned, everything)
        found, operations = event_csr_counted(x, pruned, every_row=everything)
        assert torch.equal(found, y)
        assert (found.dtype, found.requires_grad) == (y.dtype, False)
        assert operations == Operations.of(counts)
    assert torch.equal(event_csr(x, pruned), by_operator(x, pruned)[0])


def test_the_operator_is_called_where_somebody_listens(operator_calls):
    x, matrix, mask, _ = problem(6, 20, 30)
    pruned = CSRBySource.from_dense(matrix, mask)
    expected = by_operator(x, pruned)[0]
    learning = pruned.with_values(pruned.values.clone().requires_grad_())
    operator_calls.clear()

    def count(call):
        operator_calls.clear()
        assert torch.equal(call(), expected)
        return len(operator_calls)

    assert count(lambda: event_csr(x, pruned)) == 0
    assert count(lambda: torch.no_grad()(event_csr)(x, learning)) == 0
    assert count(lambda: torch.inference_mode()(event_csr)(x, pruned)) == 0
    assert count(lambda: event_csr(x, learning)) == 1
    assert count(lambda: event_csr(x.clone().requires_grad_(), pruned)) == 1
    assert count(lambda: event_csr(x, pruned, threads=2)) == 1
    assert count(lambda: event_csr(x, pruned, need=x != 0)) == 1
    assert count(lambda: torch.vmap(lambda x: event_csr(x, pruned))(x.view(3, 2, 20)).view(6, 30)) == 1
    assert count(lambda: torch.func.functionalize(event_csr)(x, pruned)) == 1
    with torch.utils.flop_counter.FlopCounterMode(display=False):
        assert count(lambda: event_csr(x, pruned)) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_the_operator_is_in_every_trace():
    x, matrix, mask, _ = problem(2, 20, 30)
    pruned = CSRBySource.from_dense(matrix, mask)
    other = torch.randn_like(x)
    for graph in (
        make_fx(lambda x: event_csr(x, pruned))(x),
        torch.jit.trace(lambda x: event_csr(x, pruned), x, check_trace=False),
        torch.compile(lambda x: event_csr(x, pruned), backend="aot_eager", fullgraph=True),
    ):
        assert torch.equal(graph(other), event_csr(other, pruned))  # nothing was taken for a constant
    with torch.no_grad():
        compiled = torch.compile(event_csr, backend="aot_eager", fullgraph=True)
        assert torch.equal(compiled(other, pruned), event_csr(other, pruned))
    with torch._subclasses.fake_tensor.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert event_csr(mode.from_tensor(x), pruned).shape == (2, 30)


def changes():
    """In place, by name: what happens to the parts of a matrix that was used before."""

    def values_in_place(m):
        m.values.mul_(-3)

    def values_past_the_counter(m):
        m.values.data[1] = 99

    def values_elsewhere(m):
        m.values.data = m.values * 5

    def values_strided(m):
        m.values.data = torch.arange(2.0 * len(m.values), dtype=F64)[::2]

    def values_strided_at_the_same_place(m):
        m.values.set_(m.values.untyped_storage(), 0, m.values.shape, (0,))

    def values_of_single_precision(m):
        m.values.data = m.values.float()

    def indices_in_place(m):
        m.indices.copy_(m.indices.flip(0))

    def connections_elsewhere(m):
        m.indices.set_(m.indices + 1)
        m.indptr.set_(torch.tensor([0, 1, 2, 4]))

    return [f for f in locals().values()]


@pytest.mark.parametrize("change", changes(), ids=lambda f: f.__name__)
def test_what_is_remembered_is_never_stale(change):
    def parts():
        indices = torch.tensor([0, 1, 2, 3], dtype=torch.int32)
        return torch.tensor([0, 1, 3, 4]), indices, torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=F64), 5

    x = torch.tensor([[1.0, 10.0, 100.0]], dtype=F64)
    used, fresh = CSRBySource(*parts()), CSRBySource(*parts())
    before = event_csr(x, used)
    assert torch.equal(event_csr(x, used), before)  # from what is remembered
    outcomes = []
    for matrix, call in ((used, event_csr), (fresh, lambda x, m: by_operator(x, m)[0])):
        try:
            change(matrix)
            outcomes.append(call(x, matrix).tolist())
            change(matrix)  # and again
            outcomes.append(call(x, matrix).tolist())
        except (TypeError, ValueError) as refusal:
            outcomes.append(f"{type(refusal).__name__}: {refusal}")
    middle = len(outcomes) // 2
    assert outcomes[:middle] == outcomes[middle:]
    assert outcomes[0] != before.tolist()


def test_memory_that_is_remembered_is_not_given_away():
    matrix = CSRBySource(
        torch.tensor([0, 1000]), torch.arange(1000, dtype=torch.int32), torch.ones(1000), 1000
    )
    x = torch.ones(1, 1)
    event_csr(x, matrix)
    address = matrix.values.data_ptr()
    matrix.values.data = torch.full((1000,), 2.0)
    gc.collect()
    assert all(torch.full((1000,), 3.0).data_ptr() != address for _ in range(100))
    assert torch.equal(event_csr(x, matrix), torch.full((1, 1000), 2.0))


def test_copies_and_relatives_remember_nothing():
    x, matrix, mask, _ = problem(1, 20, 30)
    pruned = CSRBySource.from_dense(matrix, mask)
    y = event_csr(x, pruned)
    for other in (copy.deepcopy(pruned), pickle.loads(pickle.dumps(pruned))):
        other.values.mul_(2)
        assert torch.equal(event_csr(x, other), 2 * y)
    relative = pruned.with_values(pruned.values * 3)
    assert torch.equal(event_csr(x, relative), event_csr_reference(x, relative))
    assert torch.equal(event_csr(x, pruned), y)


def test_errors_are_the_same_with_and_without_the_operator():
    x, matrix, mask, _ = problem(2, 20, 30)
    pruned = CSRBySource.from_dense(matrix, mask)

    def complaint(x, matrix, **options):
        with pytest.raises((ValueError, TypeError, RuntimeError)) as error:
            event_csr(x, matrix, **options)
        return type(error.value), str(error.value)

    broken = CSRBySource.from_dense(matrix, mask)
    broken.indices[0] = 99
    single = pruned.with_values(pruned.values.float())
    for bad in (
        (x[:, 1:], pruned),
        (x[0], pruned),
        (x[None], pruned),
        (x.float(), pruned),
        (x.int(), pruned),
        (x.to_sparse_coo(), pruned),
        (x, single),
        (x, broken),
        (x, matrix),
        (x.numpy(), pruned),
    ):
        plain = complaint(*bad)
        with torch.utils.flop_counter.FlopCounterMode(display=False):  # the way through the operator
            assert complaint(*bad) == plain
        assert "\n" not in plain[1]
    assert complaint(x, matrix) == (TypeError, "matrix must be a CSRBySource, got Tensor")
    assert complaint(x, pruned, threads=0) == (ValueError, "threads must be >= 1, got 0")


def test_views_that_only_torch_can_read():
    x, matrix, mask, _ = problem(2, 20, 30)
    pruned = CSRBySource.from_dense(matrix, mask)
    y = event_csr(x, pruned)
    negative = torch._neg_view(x)
    assert negative.is_neg()
    assert torch.equal(event_csr(negative, pruned), -y)
    minus = pruned.with_values(torch._neg_view(pruned.values))
    assert torch.equal(event_csr(x, minus), -y)
    pruned.values.mul_(2)
    assert torch.equal(event_csr(x, minus), -2 * y)
    assert torch.equal(event_csr(torch._efficientzerotensor((2, 20), dtype=F64), pruned), torch.zeros_like(y))
