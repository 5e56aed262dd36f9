"""The event-based GRU over pruned rows against the dense recurrence whose pruned weights are 0."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.kernels.events.csr_matrix import CSRBySource
from eventbook.kernels.events.egru import GATES, RESETS, egru_gradients, egru_need, egru_sequence
from eventbook.kernels.events.egru_csr import egru_csr_gradients, egru_csr_sequence
from eventbook.kernels.events.egru_reference import egru_reference, triangular

F32, F64 = torch.float32, torch.float64


def problem(batch=2, time=12, units=11, density=0.3, seed=0, dtype=F64, initial=True):
    """Arguments of a dense recurrence, a mask of its matrix, and gradients that arrive."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, scale=1.0):
        return scale * torch.randn(*shape, generator=generator, dtype=F64)

    spoke = torch.rand(batch, units, generator=generator) < 0.4
    mask = torch.rand(units, 3 * units, generator=generator) < density
    arguments = (
        normal(batch, time, 3 * units),
        normal(units, 3 * units, scale=(max(density, 0.1) * units) ** -0.5) * mask,
        normal(3 * units, scale=0.2),
        0.6 * torch.rand(units, generator=generator, dtype=F64),
        normal(batch, units, scale=0.3) * initial,
        normal(batch, units) * spoke * initial,
    )
    arriving = normal(batch, time, units), normal(batch, time, units), *(normal(batch, units) for _ in "hy")
    return [x.to(dtype) for x in arguments], mask, [x.to(dtype) for x in arriving]


def of_dense(arguments, mask, arriving, sequence=egru_sequence, **options):
    """Results and gradients by a dense matrix; that of the matrix at stored places."""
    leaves = [x.detach().requires_grad_() for x in arguments]
    run = sequence(*leaves, **options)
    results = run.output, run.state, run.carry, run.last_output
    gradients = list(torch.autograd.grad(results, leaves, arriving))
    gradients[1] = gradients[1][mask]
    return [r.detach() for r in results], gradients, run.counts


def of_rows(arguments, mask, arriving, **options):
    matrix = CSRBySource.from_dense(arguments[1], mask)
    leaves = [x.detach().requires_grad_() for x in arguments]
    leaves[1] = matrix.values.detach().requires_grad_()
    run = egru_csr_sequence(leaves[0], matrix.with_values(leaves[1]), *leaves[2:], **options)
    results = run.output, run.state, run.carry, run.last_output
    gradients = torch.autograd.grad(results, leaves, arriving)
    return [r.detach() for r in results], list(gradients), run.counts


def agree(found, expected, tolerance):
    for results, others in zip(found[:2], expected[:2], strict=True):
        for a, b in zip(results, others, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            scale = float(b.abs().max()) if b.numel() else 0.0
            assert float((a - b).abs().max() if b.numel() else 0) <= tolerance * (scale or 1.0)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("support", [0.5, 3.0, math.inf])
def test_outputs_and_gradients_are_those_of_the_masked_recurrence(gate, reset, support):
    arguments, mask, arriving = problem(2, 30, 64, 0.2)
    options = {"reset": reset, "reset_gate": gate, "surrogate_support": support}
    found = of_rows(arguments, mask, arriving, **options)
    expected = of_dense(arguments, mask, arriving, **options)
    agree(found, expected, 1e-12)
    assert torch.equal(found[0][0] != 0, expected[0][0] != 0)  # the same events
    assert 0.05 < float((found[0][0] != 0).double().mean()) < 0.6
    assert float(found[1][1].abs().max()) > 1e-3


def test_and_those_of_autograd_of_the_twin():
    arguments, mask, arriving = problem(2, 30, 37)
    leaves = [x.detach().requires_grad_() for x in arguments]
    output, state, carry = egru_reference(*leaves, event=triangular(2.0, 0.7))
    results = output, state, carry, output[:, -1]
    gradients = list(torch.autograd.grad(results, leaves, arriving))
    gradients[1] = gradients[1][mask]
    found = of_rows(arguments, mask, arriving, surrogate_support=2.0)
    agree(found, ([r.detach() for r in results], gradients), 1e-12)
    wrong = list(arguments)  # control: one weight
    where = mask.nonzero()[0]
    wrong[1] = arguments[1].clone()
    wrong[1][where[0], where[1]] += 0.5
    assert (of_rows(wrong, mask, arriving)[0][1] - found[0][1]).abs().max() > 1e-3


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_shape_density_and_option(data):
    batch, time = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 5))
    units, density = data.draw(st.integers(1, 40)), data.draw(st.sampled_from([0.0, 0.02, 0.4, 1.0]))
    arguments, mask, arriving = problem(batch, time, units, density, data.draw(st.integers(0, 99)))
    options = {
        "reset": data.draw(st.sampled_from(RESETS)),
        "reset_gate": data.draw(st.sampled_from(GATES)),
        "surrogate_support": 2.0,
        "every_row": data.draw(st.booleans()),
        "threads": data.draw(st.integers(1, 3)),
    }
    if data.draw(st.booleans()):
        steps = st.lists(st.integers(0, time), min_size=batch, max_size=batch)
        options["lengths"] = torch.tensor(data.draw(steps), dtype=torch.int64)
    agree(
        of_rows(arguments, mask, arriving, **options), of_dense(arguments, mask, arriving, **options), 1e-12
    )


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("units", [1, 16, 17, 83])
def test_single_precision_has_single_accuracy(gate, units):
    arguments, mask, arriving = problem(2, 10, units, dtype=F32)
    exact = [[x.double() for x in given_] for given_ in (arguments, arriving)]
    options = {"reset_gate": gate, "surrogate_support": 2.0}
    expected = of_dense(exact[0], mask, exact[1], **options)
    found = of_rows(arguments, mask, arriving, **options)
    assert torch.equal(found[0][0] != 0, expected[0][0] != 0)
    agree([[x.double() for x in results] for results in found[:2]], expected, 1e-5)


@pytest.mark.parametrize("gate", GATES)
def test_a_full_matrix_is_the_dense_recurrence_with_the_same_counts(gate):
    arguments, _, arriving = problem(2, 20, 17, 1.0, initial=False)
    everywhere = torch.ones_like(arguments[1], dtype=torch.bool)
    rows, dense = (f(arguments, everywhere, arriving, reset_gate=gate) for f in (of_rows, of_dense))
    agree(rows, dense, 1e-12)
    assert torch.equal(rows[2][:, :3], dense[2][:, :3])  # all but bytes, for there are indices to read


# --- counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_counts_are_stored_weights_of_events_and_of_needed_rows(gate, reset, dtype):
    arguments, mask, (arriving, *_) = problem(2, 30, 23, dtype=dtype, initial=False)
    matrix, row = CSRBySource.from_dense(arguments[1], mask), mask.sum(1)
    options = {"reset": reset, "reset_gate": gate, "surrogate_support": 3.0}
    given_ = arguments[0], matrix, *arguments[2:4]
    run = egru_csr_sequence(*given_, **options)
    spoke = run.output[:, :-1] != 0
    need = egru_need(run.state, arguments[3], 3.0)[:, :-1]
    forward, (_, backward) = run.operations(), egru_csr_gradients(arriving, *given_, **options)
    products, messages = int((spoke.long() @ row).sum()), int((need.long() @ row).sum())
    assert 0 < products < messages < 2 * 29 * int(row.sum())
    each = 4 + arguments[1].element_size()
    assert forward == (int(spoke.sum()), 0, products, products * each)
    assert backward == (int(spoke.sum()), int(need.sum()), messages + products, messages * each)
    _, dense = egru_gradients(arriving, *arguments[:4], **options)
    assert (dense.events, dense.needed) == (backward.events, backward.needed)
    assert dense.multiply_accumulates > 2 * backward.multiply_accumulates


@pytest.mark.parametrize("gate", GATES)
def test_counts_of_padded_rows_are_those_of_the_rows_alone(gate):
    arguments, mask, (arriving, *_) = problem(3, 12, 9, initial=False)
    matrix, lengths = CSRBySource.from_dense(arguments[1], mask), torch.tensor([12, 1, 7])
    run = egru_csr_sequence(arguments[0], matrix, *arguments[2:4], lengths=lengths, reset_gate=gate)
    _, back = egru_csr_gradients(
        arriving, arguments[0], matrix, *arguments[2:4], lengths=lengths, reset_gate=gate
    )
    forward = backward = type(back)()
    for row, n in enumerate(lengths.tolist()):
        alone = arguments[0][row : row + 1, :n], matrix, *arguments[2:4]
        forward = forward.plus(egru_csr_sequence(*alone, reset_gate=gate).operations())
        backward = backward.plus(egru_csr_gradients(arriving[row : row + 1, :n], *alone, reset_gate=gate)[1])
    assert (run.operations(), back) == (forward, backward)
    assert forward.events > 0


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("scale", [0.2, 100.0])
def test_reading_every_row_costs_the_same_at_any_activity(gate, scale):
    arguments, mask, (arriving, *_) = problem(1, 20, 17, initial=False)
    matrix, options = CSRBySource.from_dense(arguments[1], mask), {"reset_gate": gate, "every_row": True}
    given_ = arguments[0], matrix, arguments[2], scale * arguments[3]
    run = egru_csr_sequence(*given_, **options)
    assert run.operations().multiply_accumulates == 19 * int(mask.sum())
    _, backward = egru_csr_gradients(arriving, *given_, **options)
    assert backward.multiply_accumulates == 2 * 19 * int(mask.sum())
    assert torch.equal(run.output, egru_csr_sequence(*given_, reset_gate=gate).output)


# --- what is never read ------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_rows_of_silent_units_are_never_read(gate, dtype):
    arguments, mask, (arriving, *_) = problem(2, 20, 23, dtype=dtype, initial=False)
    arguments[3][::3] = 50.0
    matrix = CSRBySource.from_dense(arguments[1], mask)
    rest, options = (arguments[0], *arguments[2:4]), {"reset_gate": gate, "surrogate_support": 10.0}

    def run(noise, where):
        spoilt = CSRBySource.from_dense(torch.where(where[:, None], noise, arguments[1]), mask)
        return egru_csr_sequence(rest[0], spoilt, *rest[1:], **options).output, egru_csr_gradients(
            arriving, rest[0], spoilt, *rest[1:], **options
        )[0]

    here = egru_csr_sequence(rest[0], matrix, *rest[1:], **options)
    unneeded = ~egru_need(here.state, arguments[3], 10.0).any(1).any(0)
    assert int(unneeded.sum()) >= 5
    output, gradients = run(math.nan, unneeded)
    assert torch.equal(output, here.output)
    expected = egru_csr_gradients(arriving, rest[0], matrix, *rest[1:], **options)[0]
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
    assert (run(0.3, ~unneeded)[0] - here.output).abs().max() > 1e-3  # control


def test_gradients_reach_the_dense_matrix_at_stored_places_only():
    arguments, mask, arriving = problem()
    dense = arguments[1].requires_grad_()
    run = egru_csr_sequence(arguments[0], CSRBySource.from_dense(dense, mask), *arguments[2:])
    run.output.backward(arriving[0])
    assert (dense.grad[~mask] == 0).all()
    assert (dense.grad[mask] != 0).any()


# --- torch -------------------------------------------------------------------------------------------------


def test_gradient_is_the_derivative_where_there_is_one():
    arguments, mask, _ = problem(1, 5, 4, 0.5)
    matrix = CSRBySource.from_dense(arguments[1], mask)

    def run(projection, values, *rest):
        return egru_csr_sequence(projection, matrix.with_values(values), *rest, surrogate_dampening=0.0)[:4]

    leaves = [arguments[0], matrix.values, *arguments[2:]]
    assert torch.autograd.gradcheck(run, [x.detach().requires_grad_() for x in leaves])


@pytest.mark.parametrize("gate", GATES)
def test_compiles_whole(gate):
    arguments, mask, arriving = problem(2, 6, 8)
    matrix = CSRBySource.from_dense(arguments[1], mask)

    def run(projection, values, *rest):
        made = egru_csr_sequence(projection, matrix.with_values(values), *rest, reset_gate=gate)
        return made.output, made.state, made.carry, made.last_output

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    leaves = [x.detach().requires_grad_() for x in (arguments[0], matrix.values, *arguments[2:])]
    results = compiled(*leaves)
    found = [r.detach() for r in results], torch.autograd.grad(results, leaves, arriving)
    agree(found, of_rows(arguments, mask, arriving, reset_gate=gate), 1e-15)


def test_vmap_folds_into_the_batch():
    (projection, dense, *weights, carry, output), mask, _ = problem(6, 5, 9)
    matrix = CSRBySource.from_dense(dense, mask)
    together = egru_csr_sequence(projection, matrix, *weights, carry, output)
    parts = projection.view(3, 2, 5, 27), carry.view(3, 2, 9), output.view(3, 2, 9)
    found = torch.vmap(lambda p, h, y: egru_csr_sequence(p, matrix, *weights, h, y).output)(*parts)
    assert torch.equal(found.reshape(6, 5, 9), together.output)


def test_second_derivative_is_refused():
    arguments, mask, _ = problem(1, 3, 2, 1.0)
    matrix = CSRBySource.from_dense(arguments[1], mask)
    values = matrix.values.requires_grad_()
    run = egru_csr_sequence(arguments[0], matrix.with_values(values), *arguments[2:])
    (first,) = torch.autograd.grad(run.output.sum(), values, create_graph=True)
    with pytest.raises(RuntimeError, match="egru_csr_sequence is differentiable once"):
        first.sum().backward()


# --- bad input ---------------------------------------------------------------------------------------------


def test_bad_input_is_refused():
    arguments, mask, (arriving, *_) = problem()
    projection, dense, *rest = arguments
    matrix = CSRBySource.from_dense(dense, mask)
    egru_csr_sequence(projection, matrix, *rest)  # control
    for call in (egru_csr_sequence, lambda *a, **o: egru_csr_gradients(arriving, *a, **o)):
        with pytest.raises(TypeError, match="recurrent must be a CSRBySource, got Tensor"):
            call(projection, dense, *rest)
        with pytest.raises(ValueError, match=r"recurrent must be \(unit, 3 unit\) = \(11, 33\), .* got \(33"):
            call(projection, CSRBySource.from_dense(dense.t()), *rest)
        with pytest.raises(TypeError, match="recurrent must have the dtype of projection"):
            call(projection, matrix.with_values(matrix.values.float()), *rest)
        with pytest.raises(
            ValueError, match=r"projection must be .* = \(batch, time, 33\), got \(2, 12, 32\)"
        ):
            call(projection[..., 1:], matrix, *rest)
        with pytest.raises(ValueError, match=r"recurrent_bias must have 3 columns per unit.* 33, got 32"):
            call(projection[..., 1:], matrix, rest[0][1:], *rest[1:])
        with pytest.raises(ValueError, match="reset must be one of threshold, value, none, paper, got 'no'"):
            call(projection, matrix, *rest, reset="no")
        with pytest.raises(ValueError, match="surrogate_support must be > 0, got 0"):
            call(projection, matrix, *rest, surrogate_support=0)
        with pytest.raises(ValueError, match=r"lengths\[1\] must be in 0..12 \(time\), got 13"):
            call(projection, matrix, *rest, lengths=torch.tensor([12, 13]))
        with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
            call(projection, matrix, *rest, threads=0)
    with pytest.raises(ValueError, match="output_gradient must be"):
        egru_csr_gradients(arriving[:, 1:], projection, matrix, *rest)


def test_a_matrix_that_was_spoilt_is_looked_at_again_also_in_a_graph():
    arguments, mask, _ = problem()
    matrix = CSRBySource.from_dense(arguments[1], mask)
    run = lambda p: egru_csr_sequence(p, matrix, *arguments[2:]).output  # noqa: E731
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(arguments[0]), run(arguments[0]))
    matrix.indices[3] = 10**6
    for call in (run, compiled):
        with pytest.raises(ValueError, match=r"indices must be in 0..32, got 1000000"):
            call(arguments[0])
