"""The event-based GRU against autograd of its twin, torch.nn.GRU and exact counts."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.kernels.events import Operations, egru_operator
from eventbook.kernels.events.egru import GATES, RESETS, egru_gradients, egru_need, egru_sequence
from eventbook.kernels.events.egru_reference import egru_reference, triangular

F32, F64 = torch.float32, torch.float64
NAMES = ("projection", "recurrent", "recurrent_bias", "threshold", "carry", "output")


def problem(batch=2, time=12, units=11, seed=0, dtype=F64, initial=True):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, scale=1.0):
        return scale * torch.randn(*shape, generator=generator, dtype=F64)

    spoke = torch.rand(batch, units, generator=generator) < 0.4
    arguments = (
        normal(batch, time, 3 * units),
        normal(units, 3 * units, scale=units**-0.5),
        normal(3 * units, scale=0.2),
        0.6 * torch.rand(units, generator=generator, dtype=F64),
        normal(batch, units, scale=0.3) * initial,
        normal(batch, units) * spoke * initial,
    )
    arriving = (
        normal(batch, time, units),
        normal(batch, time, units),
        normal(batch, units),
        normal(batch, units),
    )
    return [x.to(dtype) for x in arguments], [x.to(dtype) for x in arriving]


def ours(arguments, **options):
    run = egru_sequence(*arguments, **options)
    return run.output, run.state, run.carry, run.last_output


def twin(arguments, surrogate_support=1.0, surrogate_dampening=0.7, event=None, lengths=None, **options):
    event = event or triangular(surrogate_support, surrogate_dampening)
    output, state, carry = egru_reference(*arguments, lengths=lengths, event=event, **options)
    if lengths is None:
        return output, state, carry, output[:, -1] if output.shape[1] else arguments[5]
    last = [output[row, n - 1] if n else arguments[5][row] for row, n in enumerate(lengths.tolist())]
    return output, state, carry, torch.stack(last) if last else arguments[5]


def with_gradients(function, arguments, arriving, **options):
    arguments = [x.detach().requires_grad_() for x in arguments]
    results = function(arguments, **options)
    return [r.detach() for r in results], torch.autograd.grad(results, arguments, arriving)


def relative(found, expected):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if not found.numel():
        return 0.0
    scale = float(expected.detach().abs().max())
    return float((found - expected).detach().abs().max()) / (scale or 1.0)


def agree(found, expected, tolerance):
    for results, others in zip(found, expected, strict=True):
        for a, b in zip(results, others, strict=True):
            assert relative(a, b) <= tolerance


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("support", [0.5, 3.0, 30.0, math.inf])
def test_outputs_and_all_gradients_equal_autograd_of_the_twin(gate, reset, support):
    arguments, arriving = problem(2, 40, 37)
    options = {"reset": reset, "reset_gate": gate, "surrogate_support": support}
    found = with_gradients(ours, arguments, arriving, **options)
    expected = with_gradients(twin, arguments, arriving, **options)
    agree(found, expected, 1e-12)
    assert torch.equal(found[0][0] != 0, expected[0][0] != 0)  # the same events
    assert 0.05 < float((found[0][0] != 0).double().mean()) < 0.6
    for name, gradient in zip(NAMES, found[1], strict=True):
        # Without a window, a threshold that is not subtracted has no influence.
        if name != "threshold" or reset == "threshold" or support < math.inf:
            assert float(gradient.abs().max()) > 1e-3, name


@pytest.mark.parametrize("function", [ours, twin])
@pytest.mark.parametrize("behind", [math.nan, math.inf])
def test_nothing_is_read_behind_the_length_of_a_row(function, behind):
    arguments, arriving = problem()
    lengths = torch.tensor([5, 0])
    expected = with_gradients(function, arguments, arriving, lengths=lengths)
    arguments[0][0, 5:] = arguments[0][1] = behind
    found = with_gradients(function, arguments, arriving, lengths=lengths)
    for a, b in zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("function", [ours, twin])
@pytest.mark.parametrize("bad", [-1, 13])
def test_kernels_and_twin_look_at_lengths(function, bad):
    arguments, _ = problem()
    with pytest.raises(ValueError, match=rf"lengths\[1\] must be in 0..12 \(time\), got {bad}"):
        function(arguments, lengths=torch.tensor([3, bad]))


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_shape(data):
    batch, time = data.draw(st.integers(0, 3)), data.draw(st.integers(1, 5))
    units, reset = data.draw(st.integers(1, 40)), data.draw(st.sampled_from(RESETS))
    arguments, arriving = problem(batch, time, units, data.draw(st.integers(0, 99)))
    options = {"reset": reset, "reset_gate": data.draw(st.sampled_from(GATES)), "surrogate_support": 2.0}
    if data.draw(st.booleans()):
        steps = st.lists(st.integers(0, time), min_size=batch, max_size=batch)
        options["lengths"] = torch.tensor(data.draw(steps), dtype=torch.int64)
    agree(
        with_gradients(ours, arguments, arriving, **options),
        with_gradients(twin, arguments, arriving, **options),
        1e-12,
    )


def test_the_form_of_the_paper():
    """Its equations as printed: u weighs the candidate, z is the candidate, c alone is carried."""
    (projection, recurrent, bias, threshold, c, y), _ = problem(2, 20, 13)
    run = egru_sequence(projection, recurrent, bias, threshold, c, y, reset="paper", reset_gate="before")
    W_u, W_r, W_z = recurrent.chunk(3, 1)
    b_u, b_r, b_z = bias.chunk(3)
    for t in range(20):
        p_u, p_r, p_z = projection[:, t].chunk(3, 1)
        u = torch.sigmoid(-(p_u + y @ W_u + b_u))
        r = torch.sigmoid(p_r + y @ W_r + b_r)
        z = torch.tanh(p_z + (r * y) @ W_z + b_z)
        c = u * z + (1 - u) * c - y
        y = c * (c > threshold)
        assert relative(run.state[:, t], c) <= 1e-12
        assert relative(run.output[:, t], y) <= 1e-12
    other = egru_sequence(projection, recurrent, bias, threshold, reset="paper")  # control
    assert (other.output - run.output).abs().max() > 1e-2


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_a_state_at_its_threshold_is_no_event(reset, dtype):
    """Theta(0) = 0, forward and back; seventeen units fill a vector of sixteen and begin another."""
    arguments, arriving = problem(batch=1, time=1, units=17, dtype=dtype)
    state = egru_sequence(*arguments, reset=reset).state[0, 0]  # of the first step: no threshold enters
    runs = []
    for way in (math.inf, 0.0, -math.inf):  # thresholds just above the state, at it, just below
        towards = torch.full_like(state, way) if way else state
        arguments[3] = torch.nextafter(state, towards)
        runs.append(with_gradients(ours, arguments, arriving, reset=reset))
    above, at, below = runs
    assert not at[0][0].any()
    agree(at, above, 1e-5)  # the surrogate is continuous
    assert torch.equal(below[0][0][0, 0], state)
    assert relative(at[1][0], below[1][0]) > 1e-2


def test_no_time_returns_the_initial_states():
    arguments, _ = problem(2, 0, 11)
    arguments = [x.requires_grad_() for x in arguments]
    run = egru_sequence(*arguments)
    assert run.output.shape == run.state.shape == (2, 0, 11)
    assert torch.equal(run.carry, arguments[4])
    assert torch.equal(run.last_output, arguments[5])
    g = torch.randn(2, 11, dtype=F64)
    gradients = torch.autograd.grad(run.carry, (arguments[1], arguments[4]), g)
    assert torch.equal(gradients[0], torch.zeros_like(gradients[0]))
    assert torch.equal(gradients[1], g)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("units", [1, 15, 16, 17, 64, 83])
def test_single_precision_has_single_accuracy(gate, reset, units):
    arguments, arriving = problem(2, 10, units, dtype=F32)
    exact = [[x.double() for x in given_] for given_ in (arguments, arriving)]
    options = {"reset": reset, "reset_gate": gate, "surrogate_support": 2.0}
    expected = with_gradients(twin, *exact, **options)
    found = with_gradients(ours, arguments, arriving, **options)
    # An event within rounding of its threshold would make the comparison meaningless.
    assert torch.equal(found[0][0] != 0, expected[0][0] != 0)
    as_double = [[x.double() for x in results] for results in found]
    agree(as_double, expected, 1e-5)


def test_a_wrong_surrogate_is_noticed():
    """A box in place of the triangle, the defect of a published kernel."""

    class Box(torch.autograd.Function):
        @staticmethod
        def forward(ctx, distance):
            ctx.save_for_backward(distance)
            return (distance > 0).to(distance.dtype)

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 0.7 * (ctx.saved_tensors[0].abs() < 1)

    arguments, arriving = problem()
    _, found = with_gradients(ours, arguments, arriving)
    _, boxed = with_gradients(twin, arguments, arriving, event=Box.apply)
    for name, a, b in zip(NAMES, found, boxed, strict=True):
        assert relative(a, b) >= 1e-2, name


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
def test_gradient_is_the_derivative_where_there_is_one(gate, reset):
    """Without a surrogate, what is left is the true derivative at almost every point."""
    arguments, _ = problem(1, 5, 4)
    state = egru_sequence(*arguments, reset=reset, reset_gate=gate).state
    assert (state - arguments[3]).abs().min() > 1e-4  # no event appears or vanishes on the way
    assert torch.autograd.gradcheck(
        lambda *a: ours(a, reset=reset, reset_gate=gate, surrogate_dampening=0.0),
        [x.requires_grad_() for x in arguments],
    )


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
def test_the_twin_is_differentiable_with_a_smooth_indicator(gate, reset):
    arguments, _ = problem(1, 4, 3)
    smooth = lambda distance: torch.sigmoid(5 * distance)  # noqa: E731
    assert torch.autograd.gradcheck(
        lambda *a: twin(a, reset=reset, reset_gate=gate, event=smooth)[:3],
        [x.requires_grad_() for x in arguments],
    )


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_touching_every_row_changes_nothing(gate, reset, dtype):
    arguments, arriving = problem(2, 15, 37, dtype=dtype)
    options = {"reset": reset, "reset_gate": gate, "surrogate_support": 4.0}
    sparse = with_gradients(ours, arguments, arriving, **options)
    dense = with_gradients(ours, arguments, arriving, every_row=True, **options)
    agree(sparse, dense, 0.0)


def test_always_firing_without_reset_is_a_gru():
    units, inputs = 13, 7
    gru = torch.nn.GRU(inputs, units, batch_first=True, dtype=F64)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 9, inputs, generator=generator, dtype=F64, requires_grad=True)
    h0 = torch.randn(2, units, generator=generator, dtype=F64, requires_grad=True)

    def reordered(parameter):  # torch's blocks r, z, n; here z, r, g
        r, z, n = parameter.chunk(3)
        return torch.cat([z, r, n])

    projection = x @ reordered(gru.weight_ih_l0).t() + reordered(gru.bias_ih_l0)
    threshold = torch.full((units,), -math.inf, dtype=F64)
    run = egru_sequence(
        projection,
        reordered(gru.weight_hh_l0).t(),
        reordered(gru.bias_hh_l0),
        threshold,
        h0,
        h0,
        reset="none",
    )
    expected, _ = gru(x, h0.unsqueeze(0))
    assert relative(run.output, expected) <= 1e-12
    leaves = [x, h0, *gru.parameters()]
    g = torch.randn(2, 9, units, generator=generator, dtype=F64)
    for a, b in zip(
        torch.autograd.grad(run.output, leaves, g), torch.autograd.grad(expected, leaves, g), strict=True
    ):
        assert relative(a, b) <= 1e-12


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
def test_two_windows_equal_one_run(gate, reset):
    arguments, arriving = problem(2, 12, 11)
    options = {"reset": reset, "reset_gate": gate}

    def windows(arguments):
        projection, *weights = arguments[:4]
        first = egru_sequence(projection[:, :5], *weights, *arguments[4:], **options)
        second = egru_sequence(projection[:, 5:], *weights, first.carry, first.last_output, **options)
        joined = (torch.cat([a, b], 1) for a, b in zip(first[:2], second[:2], strict=True))
        return *joined, second.carry, second.last_output

    whole = with_gradients(ours, arguments, arriving, **options)
    agree(with_gradients(windows, arguments, arriving), whole, 1e-12)


@pytest.mark.parametrize("k", [1, 2, 10, 1000])
def test_silence_is_a_power_of_an_affine_map(k):
    generator = torch.Generator().manual_seed(k)
    units = 20
    p = torch.randn(1, 1, 3 * units, generator=generator, dtype=F64).expand(1, k, -1)
    h0 = torch.randn(1, units, generator=generator, dtype=F64)
    never = torch.full((units,), 10.0, dtype=F64)
    run = egru_sequence(
        p, torch.zeros(units, 3 * units, dtype=F64), torch.zeros(3 * units, dtype=F64), never, h0
    )
    z, _, g = p[:, 0].chunk(3, -1)
    z, g = torch.sigmoid(z), torch.tanh(g)
    assert relative(run.carry, z**k * h0 + (1 - z**k) * g) <= 1e-12
    assert run.operations().multiply_accumulates == 0


# --- padding ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_what_is_padded_is_never_looked_at(gate, dtype):
    """Each row as if it were alone, bit by bit, whatever stands in the padding and arrives there."""
    arguments, arriving = problem(4, 12, 21, dtype=dtype)
    lengths = torch.tensor([12, 5, 0, 1])
    padding = torch.arange(12) >= lengths[:, None]
    arguments[0][padding] = math.nan
    arriving[0][padding] = arriving[1][padding] = math.nan
    options = {"reset_gate": gate, "surrogate_support": 2.0}
    results, (to_projection, *to_weights, to_carry, to_output) = with_gradients(
        ours, arguments, arriving, lengths=lengths, **options
    )
    sums = [torch.zeros_like(g) for g in to_weights]
    for row, n in enumerate(lengths.tolist()):
        projection, *weights, carry, output = arguments
        alone = [projection[row : row + 1, :n], *weights, carry[row : row + 1], output[row : row + 1]]
        g = [
            arriving[0][row : row + 1, :n],
            arriving[1][row : row + 1, :n],
            *(x[row : row + 1] for x in arriving[2:]),
        ]
        expected, (p, *w, h, y) = with_gradients(ours, alone, g, **options)
        for found, other in zip(results, expected, strict=True):
            assert torch.equal(found[row, :n] if found.ndim == 3 else found[row], other[0])
        assert torch.equal(to_projection[row, :n], p[0])
        assert torch.equal(to_carry[row], h[0])
        assert torch.equal(to_output[row], y[0])
        sums = [total + more for total, more in zip(sums, w, strict=True)]
    for found in (results[0], results[1], to_projection):
        assert (found[padding] == 0).all()
    agree([to_weights], [sums], 1e-12 if dtype is F64 else 1e-5)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("every_row", [False, True])
def test_counts_of_padded_rows_are_those_of_the_rows_alone(gate, every_row):
    arguments, (arriving, *_) = problem(3, 12, 9, initial=False)
    lengths, (projection, *weights) = torch.tensor([12, 1, 7]), arguments[:4]
    options = {"reset_gate": gate, "every_row": every_row}
    run = egru_sequence(projection, *weights, lengths=lengths, **options)
    _, back = egru_gradients(arriving, projection, *weights, lengths=lengths, **options)
    assert run.operations().events > 0
    forward, backward = (0, 0, 0, 0), (0, 0, 0, 0)
    for row, n in enumerate(lengths.tolist()):
        alone = projection[row : row + 1, :n]
        f = egru_sequence(alone, *weights, **options).operations()
        _, b = egru_gradients(arriving[row : row + 1, :n], alone, *weights, **options)
        forward, backward = f.plus(type(f)(*forward)), b.plus(type(b)(*backward))
    assert run.operations() == forward
    if not every_row:  # the dense gradient of R reads padding, like any dense product
        assert back == backward


# --- counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("support", [1.0, 10.0])
def test_counts_are_exact(gate, reset, dtype, support):
    batch, time, units = 2, 30, 23
    arguments, (arriving, *_) = problem(batch, time, units, dtype=dtype, initial=False)
    options = {"reset": reset, "reset_gate": gate, "surrogate_support": support}
    run = egru_sequence(*arguments, **options)
    events = int((run.output[:, :-1] != 0).sum())
    needed = int(egru_need(run.state, arguments[3], support)[:, :-1].sum())
    assert 0 < events < needed < batch * (time - 1) * units
    forward = run.operations()
    assert (forward.events, forward.needed) == (events, 0)
    assert forward.multiply_accumulates == 3 * units * events
    assert forward.bytes_read == 3 * units * events * arguments[1].element_size()
    _, backward = egru_gradients(arriving, *arguments[:4], **options)
    assert (backward.events, backward.needed) == (events, needed)
    assert backward.multiply_accumulates == 3 * units * (needed + events)
    assert backward.bytes_read == 3 * units * needed * arguments[1].element_size()


@pytest.mark.parametrize("wanted", [False, True])
def test_a_gated_first_output_is_read_once_more(wanted):
    """r_0 depends on y_0: without its gradient H products an event of y_0, with it all 3 H of every unit."""
    (projection, *weights, carry, output), (arriving, *_) = problem(2, 15, 11)
    run = egru_sequence(projection, *weights, carry, output, reset_gate="before")
    spoken = torch.cat([output[:, None], run.output[:, :-1]], 1)
    needed = int(egru_need(run.state, weights[2])[:, :-1].sum())
    first, events = int((output != 0).sum()), int((spoken != 0).sum())
    assert first > 0
    assert run.operations().multiply_accumulates == 33 * events
    if wanted:
        _, found = egru_gradients(arriving, projection, *weights, carry, output, reset_gate="before")
        assert found.multiply_accumulates == 33 * (needed + 2 * 11 + events)
        return
    options = torch.tensor([15, 15]), "threshold", True, 1.0, 0.7, False
    said, state, _, gates, cross, _ = egru_operator.egru(projection, *weights, carry, output, *options, 1)
    *_, counts = egru_operator.egru_backward(
        arriving, None, None, weights[0], weights[2], carry, output, said, state, gates, cross, *options,
        True, False, 1,
    )  # fmt: skip
    found = Operations.of(counts)
    assert (found.needed, found.events) == (needed + first, events)
    assert found.multiply_accumulates == 33 * (needed + events) + 11 * first


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("scale", [0.2, 1.0, 100.0])
def test_the_dense_path_counts_the_same_at_any_activity(gate, scale):
    time, units = 20, 17
    arguments, (arriving, *_) = problem(1, time, units, initial=False)
    arguments[3] = arguments[3] * scale
    dense = 3 * units**2 * (time - 1)
    options = {"reset_gate": gate, "every_row": True}
    assert egru_sequence(*arguments, **options).operations().multiply_accumulates == dense
    _, backward = egru_gradients(arriving, *arguments[:4], **options)
    assert backward.multiply_accumulates == 2 * dense
    assert egru_sequence(*arguments, reset_gate=gate).operations().multiply_accumulates < dense


def test_gradients_without_autograd_are_the_same():
    arguments, arriving = problem()
    silent = [arriving[0], *(torch.zeros_like(g) for g in arriving[1:])]
    _, expected = with_gradients(ours, arguments, silent)
    gradients, operations = egru_gradients(arriving[0], *arguments)
    assert gradients._fields == NAMES
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
    _, fewer = egru_gradients(arriving[0], *arguments[:5])
    assert operations.needed > fewer.needed  # the gradient of y_0 reads all rows once more


def test_need_sets_are_nested_in_beta_and_end_at_the_events():
    arguments, _ = problem(2, 30, 23)
    run = egru_sequence(*arguments)
    needs = [egru_need(run.state, arguments[3], beta) for beta in (1.0, 2.0, 5.0, 10.0, math.inf)]
    sizes = [int(need.sum()) for need in needs]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]
    assert all(bool((~inner | outer).all()) for outer, inner in pairwise(needs))
    assert torch.equal(needs[-1], run.output != 0)


# --- silence -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_rows_of_silent_units_are_never_read(gate, dtype):
    """Some units never fire; their rows may hold noise, or NaN, and y is bitwise equal."""
    arguments, arriving = problem(2, 20, 23, dtype=dtype, initial=False)
    arguments[3][::3] = 50.0
    support, place = 10.0, {"reset_gate": gate}
    run = egru_sequence(*arguments, **place)
    silent = (run.output == 0).all(1).all(0)
    assert int(silent.sum()) >= 8
    for noise in (1000.0, math.nan):
        poisoned = list(arguments)
        poisoned[1] = arguments[1].clone()
        poisoned[1][silent] = noise
        assert torch.equal(egru_sequence(*poisoned, **place).output, run.output)
    unneeded = ~egru_need(run.state, arguments[3], support).any(1).any(0)
    assert int(unneeded.sum()) >= 5
    poisoned[1] = torch.where(unneeded.unsqueeze(1), torch.nan, arguments[1])
    found = egru_gradients(arriving[0], *poisoned[:4], surrogate_support=support, **place)[0]
    expected = egru_gradients(arriving[0], *arguments[:4], surrogate_support=support, **place)[0]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    loud = list(arguments)  # control: an active row
    loud[1] = torch.where(silent.unsqueeze(1), arguments[1], arguments[1] + 0.1)
    assert (egru_sequence(*loud, **place).output - run.output).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [F32, F64])
def test_nan_fires_and_travels(dtype):
    arguments, _ = problem(2, 6, 20, dtype=dtype)
    arguments[0][0, 2, 3] = math.nan
    output = egru_sequence(*arguments).output
    expected = twin(arguments)[0]
    assert torch.equal(output.isnan(), expected.isnan())
    assert output[0, 2, 3].isnan()
    assert output[0, 3:].isnan().all()
    assert not output[1].isnan().any()


# --- torch -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_threads_and_repetition_give_the_same_bits(gate, dtype):
    arguments, arriving = problem(5, 9, 33, dtype=dtype)
    options = {"reset_gate": gate, "lengths": torch.tensor([9, 2, 7, 0, 9])}
    once = with_gradients(ours, arguments, arriving, **options)
    for threads in (1, 2, 3, 8):
        agree(with_gradients(ours, arguments, arriving, threads=threads, **options), once, 0.0)


def test_strided_inputs_and_broadcast_gradients():
    arguments, arriving = problem(4, 10, 11)
    projection, recurrent, *rest = arguments
    strided = [
        projection[::2, ::3],
        recurrent.t().contiguous().t(),
        rest[0],
        rest[1],
        rest[2][::2],
        rest[3][::2],
    ]
    arriving = [arriving[0][::2, ::3], arriving[1][::2, ::3], arriving[2][::2], arriving[3][::2]]
    plain = [x.contiguous() for x in strided]
    agree(with_gradients(ours, strided, arriving), with_gradients(ours, plain, arriving), 0.0)
    a = [x.requires_grad_() for x in plain]
    (summed,) = torch.autograd.grad(egru_sequence(*a).output.sum(), a[:1])
    (ones,) = torch.autograd.grad(twin(a)[0].sum(), a[:1])
    assert relative(summed, ones) <= 1e-12


def test_compiles_whole_and_twice_in_one_graph():
    arguments, arriving = problem(2, 6, 8)

    def stacked(arguments):
        projection, *weights = arguments
        first = egru_sequence(projection, *weights)
        second = egru_sequence(
            first.output.repeat(1, 1, 3) + projection, *weights, surrogate_support=2.0, reset_gate="before"
        )
        return second.output, second.state, second.carry, second.last_output

    compiled = torch.compile(stacked, backend="aot_eager", fullgraph=True)
    agree(with_gradients(compiled, arguments, arriving), with_gradients(stacked, arguments, arriving), 1e-15)


def test_lengths_in_a_compiled_graph_are_looked_at_when_it_runs():
    (projection, *weights), _ = problem(2, 6, 8)

    def run(lengths):
        result = egru_sequence(projection, *weights, lengths=lengths)
        return result.output, result.last_output

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    good = torch.tensor([6, 2])
    for found, expected in zip(compiled(good), run(good), strict=True):
        assert torch.equal(found, expected)
    with pytest.raises(ValueError, match=r"lengths\[1\] must be in 0..6 \(time\), got 7"):
        compiled(torch.tensor([6, 7]))


def test_vmap_folds_into_the_batch():
    (projection, *weights, carry, output), _ = problem(6, 5, 9)
    together = egru_sequence(projection, *weights, carry, output)

    def run(p, h, y):
        return egru_sequence(p, *weights, h, y).output

    parts = (projection.view(3, 2, 5, 27), carry.view(3, 2, 9), output.view(3, 2, 9))
    assert torch.equal(torch.vmap(run)(*parts).reshape(6, 5, 9), together.output)
    scaled = torch.vmap(lambda r: egru_sequence(projection, r, *weights[1:]).output)
    both = torch.stack([weights[0], 2 * weights[0]])
    assert torch.equal(scaled(both)[1], egru_sequence(projection, both[1], *weights[1:]).output)


def test_only_what_is_wanted_is_computed():
    (projection, recurrent, *rest), (arriving, *_) = problem(initial=False)
    run = egru_sequence(projection.requires_grad_(), recurrent, *rest)
    (alone,) = torch.autograd.grad(run.output, projection, arriving)
    assert relative(alone, egru_gradients(arriving, projection, recurrent, *rest[:2])[0].projection) == 0


def test_second_derivative_is_refused():
    arguments, _ = problem(1, 3, 2)
    arguments = [x.requires_grad_() for x in arguments]
    (first,) = torch.autograd.grad(egru_sequence(*arguments).output.sum(), arguments[1], create_graph=True)
    with pytest.raises(RuntimeError, match="egru_sequence is differentiable once"):
        first.sum().backward()


@pytest.mark.parametrize(
    "at, change, error, complaint",
    [
        (0, lambda x: x[0], ValueError, r"projection must be .* = \(batch, time, 33\), got \(12, 33\)"),
        (0, lambda x: x[..., :9], ValueError, r"= \(batch, time, 33\), got \(2, 12, 9\)"),
        (1, lambda x: x.t(), ValueError, r"recurrent must be \(unit, three_units\) = \(11, three_units\)"),
        (
            1,
            lambda x: x[:, :30],
            ValueError,
            r"recurrent_bias must be \(three_units\,\) = \(30\,\), got \(33\,\)",
        ),
        (3, lambda x: x[:5], ValueError, r"recurrent must be \(unit, three_units\) = \(5, three_units\)"),
        (4, lambda x: x[:1], ValueError, r"carry must be \(batch, unit\) = \(2, 11\), got \(1, 11\)"),
        (5, lambda x: x[:, 1:], ValueError, r"output must be \(batch, unit\) = \(2, 11\), got \(2, 10\)"),
        (3, lambda x: x.float(), TypeError, "threshold must have the dtype of projection"),
        (4, lambda x: x.float(), TypeError, "carry must have the dtype of projection"),
        (5, lambda x: x.float(), TypeError, "output must have the dtype of projection"),
        (4, lambda x: x.to("meta"), ValueError, "carry must be on the CPU, .*, got meta"),
    ],
)
def test_errors_name_argument_expectation_and_value(at, change, error, complaint):
    arguments, _ = problem()
    egru_sequence(*arguments)  # control
    arguments[at] = change(arguments[at])
    with pytest.raises(error, match=complaint):
        egru_sequence(*arguments)


def test_bad_options_are_refused():
    arguments, (arriving, *_) = problem()
    with pytest.raises(ValueError, match="reset must be one of threshold, value, none, paper, got 'zero'"):
        egru_sequence(*arguments, reset="zero")
    with pytest.raises(ValueError, match="reset_gate must be one of after, before, got 'both'"):
        egru_sequence(*arguments, reset_gate="both")
    for lengths, error, complaint in (
        ([12, 13], ValueError, r"lengths\[1\] must be in 0..12 \(time\), got 13"),
        ([-1, 3], ValueError, r"lengths\[0\] must be in 0..12 \(time\), got -1"),
        ([1, 2, 3], ValueError, r"lengths must be \(batch,\) = \(2,\), got \(3,\)"),
        ([1.0, 2.0], TypeError, "lengths must be int64 or int32, got float32"),
    ):
        with pytest.raises(error, match=complaint):
            egru_sequence(*arguments, lengths=torch.tensor(lengths))
    with pytest.raises(ValueError, match="surrogate_support must be > 0, got 0"):
        egru_sequence(*arguments, surrogate_support=0)
    with pytest.raises(ValueError, match="surrogate_dampening must be >= 0 and finite, got -1"):
        egru_sequence(*arguments, surrogate_dampening=-1)
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        egru_sequence(*arguments, threads=0)
    with pytest.raises(ValueError, match="output_gradient must be"):
        egru_gradients(arriving[:, 1:], *arguments)
    three = [arguments[0][..., :22], arguments[1][:, :22], arguments[2][:22], *arguments[3:]]
    with pytest.raises(
        ValueError, match="recurrent must have 3 columns per unit, blocks z, r, g: 33, got 22"
    ):
        egru_sequence(*three)


@pytest.mark.parametrize("lengths", [(0, 5, 3), (2, 0, 3), (2, 5, 0)], ids=["batch", "time", "units"])
def test_what_has_no_length_has_gradients_of_its_shape(lengths):
    batch, time, units = lengths
    given = [
        torch.randn(*shape).requires_grad_()
        for shape in ((batch, time, 3 * units), (units, 3 * units), (3 * units,), (units,), (batch, units))
    ]
    run = egru_sequence(*given)
    assert run.output.shape == (batch, time, units)
    gradients = torch.autograd.grad(run.output.sum() + run.carry.sum(), given)
    assert [g.shape for g in gradients] == [x.shape for x in given]
    assert all(torch.isfinite(g).all() for g in gradients)


def test_what_is_needed_at_the_threshold_and_at_the_edges_of_the_window():
    state = torch.tensor([[[0.0, 0.5, 1.0, 1.5, 2.0, 2.5]]])
    threshold = torch.ones(6)
    assert egru_need(state, threshold, 1.0).flatten().tolist() == [False, True, True, True, True, True]
    # without a window only what fires is needed, and a unit at its threshold does not
    assert egru_need(state, threshold, float("inf")).flatten().tolist() == [False] * 3 + [True] * 3
    assert egru_need(torch.full((1, 1, 6), float("nan")), threshold).all()
