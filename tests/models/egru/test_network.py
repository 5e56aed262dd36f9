"""The network called like torch.nn.GRU: layouts, lengths, packed sequences, carried states, reports."""

import copy
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from eventbook.kernels.events.egru import GATES, RESETS
from eventbook.models.egru import EGRU, EGRUState, SigmoidThreshold, compress, detached, run_layer

F64 = torch.float64
SIZES = (19, 12)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(seed=0, dtype=F64, hidden=SIZES, **options):
    options = {"batch_first": True, "threshold": partial(SigmoidThreshold, mean=-1.5, std=0.5)} | options
    model = EGRU(5, hidden, generator=seeded(seed), **options).to(dtype)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "bias" in name:
                p.copy_(0.3 * torch.randn(p.shape, generator=seeded(seed)))
    return model


def inputs(batch=3, time=9, seed=1, dtype=F64):
    chance = seeded(seed)
    x = torch.randn(batch, time, 5, generator=chance, dtype=F64).to(dtype)
    states = []
    for units in SIZES:
        h, y = (torch.randn(batch, units, generator=chance, dtype=F64) for _ in range(2))
        spoke = torch.rand(batch, units, generator=chance) < 0.4
        states.append(EGRUState(h.to(dtype), (y * spoke).to(dtype)))
    return x, tuple(states)


def flat(run):
    output, state = run
    return [output, *(part for its in state for part in its)]


def relative(found, expected):
    assert found.shape == expected.shape
    if not found.numel():
        return 0.0
    return float(((found - expected).abs().max() / (expected.abs().max() or 1)).detach())


def gradients(model, call, x, state):
    """Results, and their gradients for input, state and weights."""
    leaves = [x.clone().requires_grad_()]
    begin = tuple(EGRUState(*(p.clone().requires_grad_() for p in its)) for its in state)
    results = flat(call(leaves[0], begin))
    leaves += [part for its in begin for part in its] + [p for p in model.parameters() if p.requires_grad]
    chance = seeded(7)
    arriving = [torch.randn(r.shape, generator=chance, dtype=F64).to(r.dtype) for r in results]
    return results, torch.autograd.grad(results, leaves, arriving)


def agree(one, other, tolerance=1e-12):
    for parts, others in zip(one, other, strict=True):
        for a, b in zip(parts, others, strict=True):
            assert relative(a, b) <= tolerance


# --- both ways ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("support", [1.0, 6.0, math.inf])
def test_by_events_and_dense_are_the_same_network(gate, reset, support):
    """Outputs, states, gradients of everything: events and needs between layers lose nothing."""
    model = network(reset=reset, reset_gate=gate, surrogate_support=support)
    x, state = inputs(time=20)
    found = []
    for path in ("event", "dense"):
        model.path = path
        found.append(gradients(model, lambda x, s: model(x, s, torch.tensor([20, 3, 11])), x, state))
    agree(*found)
    names = ["x", *["h", "y"] * 2, *(name for name, _ in model.named_parameters())]
    for name, gradient in zip(names, found[0][1], strict=True):
        if not ("threshold" in name and support == math.inf and reset != "threshold"):
            assert gradient.abs().max() > 1e-4, name


def test_a_need_that_is_too_small_would_be_noticed():
    """Control: with events alone for needs, gradients that go down are others."""
    model, (x, state) = network(), inputs()
    expected = gradients(model, model, x, state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eventbook.models.egru.layers.LayerRun.need", lambda run: run.output != 0)
        found = gradients(model, model, x, state)
    assert relative(found[0][0], expected[0][0]) == 0
    assert relative(found[1][0], expected[1][0]) > 1e-2


def test_it_can_be_made_where_it_will_live():
    model = EGRU(5, SIZES, generator=seeded(), dtype=F64, device="cpu")
    rounded = EGRU(5, SIZES, generator=seeded())
    assert {p.dtype for p in model.parameters()} == {F64}
    assert all(
        torch.equal(p.float(), q) for p, q in zip(model.parameters(), rounded.parameters(), strict=True)
    )
    assert not torch.equal(model.cells[1].kernel, rounded.cells[1].kernel.double())
    assert EGRU(5, SIZES, threshold=0.2, device="meta").cells[1].threshold().is_meta


def test_a_single_layer_and_equal_layers():
    deep = EGRU(5, 8, 3, threshold=0.1, generator=seeded())
    assert deep.hidden_sizes == (8, 8, 8)
    assert deep.num_layers == 3
    assert [tuple(cell.kernel.shape) for cell in deep.cells] == [(5, 24), (8, 24), (8, 24)]
    assert len(deep(torch.ones(4, 2, 5))[1]) == 3
    assert EGRU(5, (8, 6)).hidden_size == 6


# --- layouts -----------------------------------------------------------------------------------------------


def test_time_first_and_batch_first_are_the_same_numbers():
    x, state = inputs()
    first, second = network(batch_first=True), network(batch_first=False)
    lengths = torch.tensor([9, 2, 5])
    for steps in (None, lengths):
        a, b = flat(first(x, state, steps)), flat(second(x.transpose(0, 1), state, steps))
        b[0] = b[0].transpose(0, 1)
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_single_sequence_needs_no_batch(batch_first):
    x, state = inputs(batch=1)
    model = network(batch_first=batch_first)
    alone = tuple(EGRUState(*(part[0] for part in its)) for its in state)
    for batched, begin in ((state, alone), (None, None)):
        output, end = model(x[0], begin)
        expected = network()(x, batched)
        assert torch.equal(output, expected[0][0])
        assert all(
            torch.equal(a, b[0])
            for p, q in zip(end, expected[1], strict=True)
            for a, b in zip(p, q, strict=True)
        )


@pytest.mark.parametrize("path", ["event", "dense"])
@pytest.mark.parametrize("sort", [False, True])
def test_packed_sequences_are_lengths(path, sort):
    """In and out as torch.nn.GRU has them, states in the order of the user."""
    x, state = inputs(batch=5)
    model = network(path=path)
    lengths = torch.tensor([9, 7, 7, 3, 1] if sort else [3, 7, 9, 1, 7])
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=sort)
    output, end = model(packed, state)
    reference = nn.GRU(5, SIZES[-1], batch_first=True, dtype=F64)(packed)[0]
    assert torch.equal(output.batch_sizes, reference.batch_sizes)
    for a, b in (
        (output.sorted_indices, reference.sorted_indices),
        (output.unsorted_indices, reference.unsorted_indices),
    ):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)
    padded, steps = pad_packed_sequence(output, batch_first=True)
    expected, last = model(x, state, lengths)
    assert torch.equal(steps, lengths)
    assert torch.equal(padded, expected)
    assert all(torch.equal(a, b) for p, q in zip(end, last, strict=True) for a, b in zip(p, q, strict=True))


def test_ragged_sequences_are_each_alone():
    model, (x, _) = network(), inputs()
    rows = [x[0, :4], x[1], x[2, :1]]
    output, state = model(pack_sequence(rows, enforce_sorted=False))
    padded, _ = pad_packed_sequence(output, batch_first=True)
    for row, sequence in enumerate(rows):
        alone, end = model(sequence)
        assert relative(padded[row, : len(sequence)], alone) <= 1e-14
        assert all(
            relative(p[row], q) <= 1e-14
            for a, b in zip(state, end, strict=True)
            for p, q in zip(a, b, strict=True)
        )


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from(RESETS),
    st.sampled_from(GATES),
    st.lists(st.integers(0, 9), min_size=3, max_size=3),
    st.sampled_from(["event", "dense"]),
)
def test_padding_changes_nothing(reset, gate, lengths, path):
    """Each row as alone, whatever stands behind it; a row of no steps keeps its state."""
    model = network(reset=reset, reset_gate=gate, path=path)
    x, state = inputs()
    for row, n in enumerate(lengths):
        x[row, n:] = 1e3 * (row + 1)
    output, end = model(x, state, torch.tensor(lengths))
    for row, n in enumerate(lengths):
        begin = tuple(EGRUState(*(part[row : row + 1] for part in its)) for its in state)
        alone, last = model(x[row : row + 1, :n], begin)
        assert relative(output[row : row + 1, :n], alone) <= 1e-14
        assert not output[row, n:].any()
        for its, other in zip(end, last, strict=True):
            for part, whole in zip(its, other, strict=True):
                assert relative(part[row : row + 1], whole) <= 1e-14


@pytest.mark.parametrize("path", ["event", "dense", "auto"])
@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("behind", [math.nan, math.inf, 7.0])
def test_what_stands_in_padding_is_part_of_nothing(path, events, compressed, behind):
    """Outputs, states, counts and all gradients, to the bit those of zeros there."""
    model = network(path=path, event_input=events)
    if compressed:
        model = compress(
            model, {f"cells.{n}.recurrent_kernel": torch.rand(u, 3 * u) < 0.4 for n, u in enumerate(SIZES)}
        )
    x, state = inputs()
    lengths = torch.tensor([4, 0, 9])
    padding = torch.arange(9) >= lengths[:, None]
    clean, dirty = x.masked_fill(padding[..., None], 0), x.masked_fill(padding[..., None], behind)
    found, expected = (gradients(model, lambda x, s: model(x, s, lengths), v, state) for v in (dirty, clean))
    for a, b in zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True):
        assert torch.equal(a, b)
        assert b.isfinite().all()
    assert expected[1][0].abs().max() > 1e-4
    counts = [[layer.input_counts for layer in model.run(v, state, lengths).layers] for v in (dirty, clean)]
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(*counts, strict=True))


@pytest.mark.parametrize("path", ["event", "dense"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("cut", [0, 1, 4, 9])
def test_windows_with_carried_state_are_one_long_run(path, reset, cut):
    """Gradients too: the state is the whole past."""
    model = network(reset=reset, path=path)
    x, state = inputs()

    def windows(x, s):
        first, middle = model(x[:, :cut], s)
        second, end = model(x[:, cut:], middle)
        return torch.cat([first, second], 1), end

    agree(gradients(model, windows, x, state), gradients(model, model, x, state))


def test_carrying_the_outputs_alone_is_another_network():
    """The released code's windows: h begins at 0 in each."""
    model, (x, state) = network(), inputs()
    expected, _ = model(x, state)
    first, middle = model(x[:, :4], state)
    forgetful = tuple(EGRUState(torch.zeros_like(its.carry), its.output) for its in middle)
    second, _ = model(x[:, 4:], forgetful)
    assert relative(torch.cat([first, second], 1), expected) > 1e-2


@pytest.mark.parametrize("other", [None, torch.ones(2, 3), EGRUState(torch.ones(1), torch.ones(1)), [None]])
def test_what_is_no_state_cannot_be_detached(other):
    with pytest.raises(TypeError, match="must be an EGRUState"):
        detached(other)


def test_a_detached_state_ends_gradients():
    model, (x, state) = network(), inputs()
    leaf = x.clone().requires_grad_()
    _, middle = model(leaf[:, :4], state)
    output, _ = model(leaf[:, 4:], detached(middle))
    (gradient,) = torch.autograd.grad(output.sum(), leaf)
    assert not gradient[:, :4].any()
    assert gradient[:, 4:].abs().max() > 0


# --- what it reports ---------------------------------------------------------------------------------------


def test_a_run_says_what_each_layer_did():
    model, (x, _) = network(event_input=True), inputs()
    x = x * (torch.rand(x.shape, generator=seeded()) < 0.3)
    lengths = torch.tensor([9, 1, 4])
    run = model.run(x, lengths=lengths)
    output, state = model(x, lengths=lengths)
    assert torch.equal(run.output, output)
    assert torch.equal(run.state[1].carry, state[1].carry)
    assert torch.equal(run.layers[-1].output, output)
    steps = torch.arange(9) < lengths[:, None]
    below = x * steps[..., None]
    for layer, units in zip(run.layers, SIZES, strict=True):
        spoken = layer.output != 0
        sent = sum(int(spoken[row, : n - 1].sum()) for row, n in enumerate(lengths.tolist()))
        assert layer.operations().multiply_accumulates == 3 * units * sent
        assert layer.input_operations().multiply_accumulates == 3 * units * int((below != 0).sum())
        assert layer.activity() == float(spoken[steps].double().mean())
        below = layer.output
    dense = network().run(inputs()[0])
    assert dense.layers[0].input_operations() is None
    assert dense.layers[1].input_operations() is not None


def test_a_layer_that_says_nothing_costs_nothing_above():
    model = EGRU(5, SIZES, threshold=2.0, generator=seeded())
    run = model.run(torch.randn(9, 3, 5, generator=seeded()))
    assert not run.output.any()
    assert [layer.operations().multiply_accumulates for layer in run.layers] == [0, 0]
    assert run.layers[1].input_operations().multiply_accumulates == 0


# --- dropout -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["step", "sequence"])
def test_dropout_is_between_layers_and_in_training_alone(over, monkeypatch):
    model = network(dropout=0.4, dropout_over=over)
    x, state = inputs(time=30)
    expected = network()(x, state)[0]
    assert torch.equal(model.eval()(x, state)[0], expected)
    seen = []
    true = EGRU._dropped
    monkeypatch.setattr(EGRU, "_dropped", lambda self, y: seen.append((y, true(self, y))) or seen[-1][1])
    torch.manual_seed(0)
    model.train()(x, state)
    (said, went_up), *more = seen
    assert not more
    kept = (went_up != 0) & (said != 0)
    assert torch.allclose(went_up[kept], said[kept] / 0.6)
    assert 0.4 < float(kept.sum() / (said != 0).sum()) < 0.8
    constant = all(
        len(set((went_up[b, :, u] != 0)[said[b, :, u] != 0].tolist())) < 2
        for b in range(3)
        for u in range(19)
    )
    assert constant is (over == "sequence")


def test_dropped_connections_are_drawn_once_a_call():
    model = network(drop_connect=0.5)
    x, state = inputs()
    torch.manual_seed(0)
    a, b = model.train()(x, state)[0], model(x, state)[0]
    assert not torch.equal(a, b)
    torch.manual_seed(0)
    assert torch.equal(model(x, state)[0], a)
    assert torch.equal(model.eval()(x, state)[0], network()(x, state)[0])


# --- torch -------------------------------------------------------------------------------------------------


def test_weights_come_back_from_a_state_dict(tmp_path):
    model, (x, state) = network(), inputs()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = network(seed=3)
    assert not torch.equal(other(x, state)[0], model(x, state)[0])
    other.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert torch.equal(other(x, state)[0], model(x, state)[0])
    assert "cells.1.recurrent_kernel" in model.state_dict()


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("path", ["event", "auto", "dense"])
def test_torch_compiles_the_whole_of_it(path, gate):
    """One graph, forward and back; "auto" takes the events, for nothing can be measured there."""
    model = network(path=path, reset_gate=gate)
    x, state = inputs(time=4)
    lengths = torch.tensor([4, 1, 3])
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    found = gradients(model, lambda x, s: compiled(x, s, lengths), x, state)
    model.path = "dense" if path == "dense" else "event"
    agree(found, gradients(model, lambda x, s: model(x, s, lengths), x, state), 1e-14)


@pytest.mark.parametrize("path", ["dense", "auto"])
@pytest.mark.parametrize("compressed", [False, True])
def test_torch_func_derives_the_dense_path_in_all_ways(path, compressed):
    model = network(path=path)
    model = compress(model) if compressed else model
    x = inputs(batch=2, time=4)[0]
    weights = dict(model.named_parameters())

    def loss(weights, x):
        return torch.func.functional_call(model, weights, (x,))[0].square().sum()

    expected = torch.autograd.grad(loss(weights, x), list(weights.values()))
    found = torch.func.grad(loss)(weights, x)
    assert all(relative(found[name], g) <= 1e-12 for name, g in zip(weights, expected, strict=True))
    rows = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x[:, None])
    assert all(relative(rows[name].sum(0), g) <= 1e-12 for name, g in zip(weights, expected, strict=True))
    model.path = "dense"  # autograd's second derivative; torch.func's takes "auto" for it, too
    second = torch.autograd.functional.hessian(lambda x: loss(weights, x), x)
    model.path = path
    assert relative(torch.func.hessian(loss, 1)(weights, x), second) <= 1e-12
    assert second.abs().max() > 1e-4
    slope = torch.func.jvp(lambda x: loss(weights, x), (x,), (x,))[1]
    assert relative(slope, (torch.func.grad(loss, 1)(weights, x) * x).sum()) <= 1e-12


@pytest.mark.parametrize("events", [False, True])
def test_kernels_say_that_torch_func_does_not_reach_them(events):
    model, x = network(event_input=events), inputs(batch=2, time=4)[0]

    def loss(x):
        return model(x)[0].square().sum()

    name = "activity" if events else "projection"
    grad = torch.func.grad(loss)
    for derive, given_ in ((grad, x), (torch.func.jacrev(loss), x), (torch.func.vmap(grad), x[None])):
        with pytest.raises(NotImplementedError, match=rf"^{name} is differentiated by torch\.func, which"):
            derive(given_)
    alone = torch.func.grad(lambda v: v.sum() + loss(x).detach())  # what does not depend on it may be there
    assert torch.equal(alone(x), torch.ones_like(x))
    with pytest.raises(NotImplementedError, match="carries a tangent"):
        torch.func.jvp(loss, (x,), (x,))
    assert torch.equal(torch.func.vmap(lambda x: model(x)[0])(x[None])[0], model(x)[0])
    x.requires_grad_()
    (first,) = torch.autograd.grad(loss(x), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once, got a backward pass through its gradient"):
        first.sum().backward()


@pytest.mark.parametrize("path", ["event", "dense"])
@pytest.mark.parametrize("bad", [-1, 99])
def test_a_compiled_network_refuses_lengths_as_any_other(path, bad):
    model, (x, state) = network(path=path), inputs(time=4)
    torch.compiler.reset()  # of graphs of other tests, which count
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for call in (model, compiled):
        with pytest.raises(ValueError, match=rf"lengths\[2\] must be in 0..4 \(time\), got {bad}"):
            call(x, state, torch.tensor([4, 1, bad]))


def test_threads_and_precisions():
    x, state = inputs(batch=5)
    one, two = network(), network(threads=2)
    agree(gradients(one, one, *inputs(batch=5)), gradients(two, two, x, state), 0.0)
    single = network(dtype=torch.float32)
    found = single(*inputs(batch=5, dtype=torch.float32))[0]
    assert found.dtype == torch.float32
    assert relative(found.double(), one(x, state)[0]) < 1e-5


def test_it_learns_to_remember():
    """The sign of the first of six inputs, through events alone."""
    torch.manual_seed(0)
    model, head = EGRU(1, 24, batch_first=True, threshold=0.1, generator=seeded()), nn.Linear(24, 1)
    optimiser = torch.optim.Adam([*model.parameters(), *head.parameters()], 3e-2)
    chance, losses = seeded(3), []
    for _ in range(80):
        x = torch.randn(64, 6, 1, generator=chance)
        loss = nn.functional.binary_cross_entropy_with_logits(head(model(x)[0][:, -1]), (x[:, 0] > 0).float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.6
    assert sum(losses[-10:]) / 10 < 0.25


@pytest.mark.parametrize("path", ["event", "dense", "auto"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_under_autocast_it_is_the_same_network(path, bias, compressed):
    """To the bit, forward and back, wherever its input and state came from."""
    model = network(path=path, bias=bias, dtype=torch.float32)
    if compressed:
        model = compress(model, {"cells.1.kernel": torch.rand(19, 36, generator=seeded()) < 0.4})
    x, state = inputs(dtype=torch.float32)
    rounded = x.bfloat16(), tuple(EGRUState(*(part.bfloat16() for part in its)) for its in state)
    widened = x.bfloat16().float(), tuple(EGRUState(*(p.float() for p in its)) for its in rounded[1])
    lengths = torch.tensor([9, 2, 5])

    def automatic(x, s):
        with torch.autocast("cpu", torch.bfloat16):
            assert (x[0] @ x[0].t()).dtype == torch.bfloat16  # control
            return model(x, s, lengths)

    def plain(x, s):
        return model(x, s, lengths)

    found = [gradients(model, automatic, *given_) for given_ in ((x, state), rounded)]
    expected = [gradients(model, plain, *given_) for given_ in ((x, state), widened)]
    found, expected = (
        [tensor for run in runs for part in run for tensor in part] for runs in (found, expected)
    )
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b if a.dtype == b.dtype else b.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        packed = pack_padded_sequence(rounded[0], lengths, batch_first=True, enforce_sorted=False)
        assert model(packed)[0].data.dtype == torch.float32


def test_autocast_excuses_no_other_dtype():
    model, (x, _) = network(dtype=torch.float32), inputs()
    complaint = r"input must have the dtype of the weights, torch\.float32, got"
    with torch.autocast("cpu", torch.bfloat16):
        for other in (x, x.half(), x.long()):
            with pytest.raises(TypeError, match=complaint):
                model(other)
        torch.compiler.reset()  # of graphs of other tests, which count
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        assert torch.equal(compiled(x.bfloat16())[0], model(x.bfloat16())[0])
    with pytest.raises(TypeError, match=complaint):
        model(x.bfloat16())


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, error, complaint",
    [
        ({"reset": "zero"}, ValueError, "reset must be one of threshold, value, none, paper, got 'zero'"),
        ({"path": "fast"}, ValueError, "path must be one of auto, dense, event, got 'fast'"),
        ({"dropout_over": "batch"}, ValueError, "dropout_over must be one of step, sequence, got 'batch'"),
        ({"dropout": 1.0}, ValueError, "dropout must be in 0..1, below 1, got 1.0"),
        ({"drop_connect": -0.1}, ValueError, "drop_connect must be in 0..1, below 1, got -0.1"),
        ({"threshold": -1}, ValueError, "threshold must be > 0 and finite, or -inf .* got -1.0"),
        ({"threads": 0}, ValueError, "threads must be >= 1, got 0"),
        ({"hidden": ()}, ValueError, "hidden_size must have a layer at least, got none"),
        ({"hidden": (4, 0)}, ValueError, r"hidden_size\[1\] must be >= 1, got 0"),
        ({"hidden": (4, 5), "num_layers": 3}, ValueError, "num_layers must be 2, one for each .* got 3"),
        ({"hidden": True}, TypeError, "hidden_size must be a whole number, got True"),
        ({"hidden": 4, "num_layers": True}, TypeError, "num_layers must be a whole number, got True"),
        ({"num_layers": 0, "hidden": 4}, ValueError, "num_layers must be >= 1, got 0"),
    ],
)
def test_bad_options_are_refused(options, error, complaint):
    with pytest.raises(error, match=complaint):
        EGRU(5, options.pop("hidden", SIZES), **options)


@pytest.mark.parametrize(
    "name, value, error, complaint",
    [
        ("path", "Dense", ValueError, "path must be one of auto, dense, event, got 'Dense'"),
        ("dropout_over", "typo", ValueError, "dropout_over must be one of step, sequence, got 'typo'"),
        ("dropout", 1.5, ValueError, "dropout must be in 0..1, below 1, got 1.5"),
        ("drop_connect", math.nan, ValueError, "drop_connect must be in 0..1, below 1, got nan"),
        ("threads", 0, ValueError, "threads must be >= 1, got 0"),
        ("threads", True, TypeError, "threads must be a whole number, got True"),
    ],
)
def test_what_may_be_changed_is_looked_at_whenever_it_is(name, value, error, complaint):
    model = network()
    before = getattr(model, name)
    with pytest.raises(error, match=complaint):
        setattr(model, name, value)
    assert getattr(model, name) == before
    twin = copy.deepcopy(model)
    twin.path, twin.threads, twin.dropout, twin.dropout_over = "dense", 2, 0.5, "sequence"
    assert (twin.path, twin.threads, twin.dropout, twin.dropout_over) == ("dense", 2, 0.5, "sequence")
    assert twin.run(inputs()[0]).layers[0].path == "dense"


@pytest.mark.parametrize(
    "change, error, complaint",
    [
        (lambda x, s: (x[..., :4], s), ValueError, r"with input_size 5, got \(3, 9, 4\)"),
        (lambda x, s: (x[None], s), ValueError, r"input must be \(batch, time, input_size\) or \(time, inp"),
        (lambda x, s: (x.float(), s), TypeError, "input must have the dtype of the weights, tor"),
        (lambda x, s: (x.tolist(), s), TypeError, "input must be a tensor, got list"),
        (lambda x, s: (x.numpy(), s), TypeError, "input must be a tensor, got ndarray"),
        (lambda x, s: (x, s, [9, 9, 9]), TypeError, "lengths must be a tensor, got list"),
        (lambda x, s: (x.to("meta"), s), ValueError, "input must be on the device of the weights, cpu, got"),
        (
            lambda x, s: (x, (EGRUState(s[0].carry.to("meta"), s[0].output), s[1])),
            ValueError,
            r"state\[0\].carry must be on the device of the weights, cpu, got meta",
        ),
        (lambda x, s: (x[0], (s[0], None)), TypeError, r"state\[1\] must be an EGRUState of .* got NoneType"),
        (lambda x, s: (x, s[:1]), ValueError, "state must have 2 members, one a layer, got 1"),
        (lambda x, s: (x, s[0]), TypeError, "state must be an EGRUState for each layer, got EGRUState"),
        (lambda x, s: (x, s[0].carry), TypeError, "state must be an EGRUState for each layer, got Tensor"),
        (lambda x, s: (x, s[::-1]), ValueError, r"state\[0\].carry must be .* = \(3, 19\), got \(3, 12\)"),
        (lambda x, s: (x[:2], s), ValueError, r"state\[0\].carry must be .* = \(2, 19\), got \(3, 19\)"),
        (lambda x, s: (x, s, torch.tensor([9, 10, 9])), ValueError, r"lengths\[1\] .* 0..9 \(time\), got 10"),
        (lambda x, s: (x, s, torch.tensor([9, 9, -1])), ValueError, r"lengths\[2\] .* 0..9 .* got -1"),
        (lambda x, s: (x, s, torch.tensor([9, 9])), ValueError, r"lengths must be .* = \(3,\), got \(2,\)"),
        (lambda x, s: (x, s, torch.ones(3)), TypeError, "lengths must be int64 or int32, got float32"),
        (lambda x, s: (x[0], None, torch.tensor([9])), ValueError, "lengths must not be given for a single"),
        (
            lambda x, s: (pack_sequence(list(x)), s, torch.tensor([9, 9, 9])),
            ValueError,
            "lengths must not be given beside a packed sequence",
        ),
    ],
)  # fmt: skip
def test_bad_calls_are_refused(change, error, complaint):
    model, (x, state) = network(), inputs()
    model(x, state)  # control
    with pytest.raises(error, match=complaint):
        model(*change(x, state))


def test_kernels_run_on_the_cpu_and_say_so():
    """Shapes without memory pass among themselves, and lengths, which may be on the CPU, go along."""
    model, (x, state), lengths = network().to("meta"), inputs(), torch.tensor([1, 2, 3])
    shapes = tuple(EGRUState(*(p.to("meta") for p in its)) for its in state)
    assert model(x.to("meta"), shapes, lengths)[0].shape == (3, 9, 12)
    with pytest.raises(ValueError, match="must be on the CPU, where the kernels run, got meta"):
        run_layer(model.cells[0], x.to("meta"), shapes[0], lengths)
