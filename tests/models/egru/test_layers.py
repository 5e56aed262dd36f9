"""A layer by events against the cell step by step: numbers, gradients, counts, and what it says of itself."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.kernels.events.egru import GATES, RESETS
from eventbook.models.egru import EGRUCell, EGRUState, SigmoidThreshold, layers, run_layer

F32, F64 = torch.float32, torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(seed=0, inputs=5, units=17, batch=3, time=9, dtype=F64, silent=False, **options):
    """A cell, an input of which half is zeros, a state, and lengths."""
    threshold = options.pop("threshold", partial(SigmoidThreshold, mean=-1.5, std=0.5))
    cell = EGRUCell(inputs, units, threshold=threshold, generator=seeded(seed), **options).to(dtype)
    chance = seeded(seed + 1)

    def normal(*shape):
        return torch.randn(*shape, generator=chance, dtype=F64)

    with torch.no_grad():
        for bias in (cell.bias, cell.recurrent_bias):
            if bias is not None:
                bias.copy_(0.3 * normal(len(bias)))
    x = normal(batch, time, inputs) * (torch.rand(batch, time, inputs, generator=chance) < 0.5)
    h, y = normal(batch, units), normal(batch, units) * (torch.rand(batch, units, generator=chance) < 0.4)
    state = EGRUState(*(0 * part if silent else part for part in (h, y)))
    lengths = torch.randint(0, time + 1, (batch,), generator=chance)
    return cell, x.to(dtype), EGRUState(*(part.to(dtype) for part in state)), lengths


def step_by_step(cell, x, state, lengths=None):
    """The cell itself, row by row: output, h and y after the last step."""
    outputs, ends = [], []
    for row in range(len(x)):
        now = EGRUState(*(part[row : row + 1] for part in state))
        said = []
        for t in range(x.shape[1] if lengths is None else int(lengths[row])):
            now = cell(x[row : row + 1, t], now)
            said.append(now.output[0])
        rest = x.new_zeros(x.shape[1] - len(said), cell.hidden_size)
        outputs.append(torch.cat([torch.stack(said), rest]) if said else rest)
        ends.append(now)
    return torch.stack(outputs), *(torch.cat(parts) for parts in zip(*ends, strict=True))


def with_gradients(function, cell, x, state, seed=5):
    leaves = [leaf.detach().requires_grad_() for leaf in (x, *state)]
    weights = [p for p in cell.parameters() if p.requires_grad]
    results = function(leaves[0], EGRUState(*leaves[1:]))
    chance = seeded(seed)
    arriving = [torch.randn(r.shape, generator=chance, dtype=F64).to(r.dtype) for r in results]
    alive = [(r, g) for r, g in zip(results, arriving, strict=True) if r.requires_grad]  # empty ones may not
    gradients = torch.autograd.grad(
        [r for r, _ in alive],
        leaves + weights,
        [g for _, g in alive],
        allow_unused=True,
        materialize_grads=True,
    )
    return [r.detach() for r in results], gradients


def relative(found, expected):
    assert found.shape == expected.shape
    if not found.numel():
        return 0.0
    apart, scale = ((x.detach().abs().max()) for x in (found - expected, expected))
    return float(apart / (scale or 1))


def agree(one, other, tolerance=1e-12):
    for parts, others in zip(one, other, strict=True):
        for a, b in zip(parts, others, strict=True):
            assert relative(a, b) <= tolerance


def of_run(run):
    return run.output, *run.state


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_both_ways_are_the_cell_step_by_step_for_any_option(data):
    draw = data.draw
    options = {
        "reset": draw(st.sampled_from(RESETS)),
        "reset_gate": draw(st.sampled_from(GATES)),
        "surrogate_support": draw(st.sampled_from([0.5, 2.0, 10.0, math.inf])),
        "surrogate_dampening": draw(st.sampled_from([0.0, 0.7, 3.6])),
        "bias": draw(st.booleans()),
    }
    sizes = {
        "batch": draw(st.integers(1, 3)),
        "time": draw(st.integers(0, 6)),
        "units": draw(st.sampled_from([1, 5, 16, 19])),
    }
    cell, x, state, lengths = problem(draw(st.integers(0, 50)), **sizes, **options)
    lengths = draw(st.sampled_from([None, lengths]))
    events = draw(st.booleans())
    expected = with_gradients(partial(step_by_step, cell, lengths=lengths), cell, x, state)
    for path in ("event", "dense"):

        def run(x, s, path=path):
            return of_run(run_layer(cell, x, s, lengths, path=path, events=events))

        agree(with_gradients(run, cell, x, state), expected)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
def test_both_ways_give_the_same_gradients_at_length(gate, reset):
    """Thresholds included, within one part in 10^12; and there is something to be wrong."""
    cell, x, state, lengths = problem(units=40, time=30, reset=reset, reset_gate=gate, surrogate_support=3.0)
    runs = [
        with_gradients(lambda x, s, p=p: of_run(run_layer(cell, x, s, lengths, path=p)), cell, x, state)
        for p in ("event", "dense")
    ]
    agree(*runs)
    assert all(g.abs().max() > 1e-3 for g in runs[0][1])


@pytest.mark.parametrize("path", ["event", "dense"])
def test_single_precision_has_single_accuracy(path):
    cell, x, state, lengths = problem()
    expected = run_layer(cell, x, state, lengths, path=path)
    single = run_layer(cell.float(), x.float(), EGRUState(*(p.float() for p in state)), lengths, path=path)
    assert single.output.dtype == F32
    assert torch.equal(single.output != 0, expected.output != 0)
    assert relative(single.output.double(), expected.output) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dense_way_takes_any_precision_and_the_other_says_so(dtype):
    cell, x, state, lengths = problem(dtype=dtype)
    assert run_layer(cell, x, state, lengths, path="dense").output.dtype == dtype
    assert run_layer(cell, x, state, lengths, path="auto").path == "dense"
    with pytest.raises(TypeError, match="projection must be float32 or float64, got"):
        run_layer(cell, x, state, lengths, path="event")


def test_the_gradient_of_events_from_below_is_formed_where_it_is_needed():
    cell, x, state, _ = problem(inputs=20)
    need = (x != 0) | (torch.rand(x.shape, generator=seeded(9)) < 0.3)

    def run(need):
        leaf = x.clone().requires_grad_()
        y = run_layer(cell, leaf, state, events=True, need=need).output
        return torch.autograd.grad(y.sum(), leaf)[0]

    full, part = run(None), run(need)
    assert torch.equal(part[need], full[need])
    assert not part[~need].any()
    assert full[~need].abs().max() > 1e-3


@pytest.mark.parametrize("path", ["event", "dense", "auto"])
def test_an_empty_batch_is_a_batch(path):
    cell, x, state, lengths = problem()
    none = EGRUState(state.carry[:0], state.output[:0])
    for steps in (None, lengths[:0]):
        run = run_layer(cell, x[:0], none, steps, path=path, events=True)
        assert run.output.shape == (0, 9, 17)
        assert run.state.carry.shape == run.state.output.shape == (0, 17)
        assert run.activity() == 0.0
        (gradient,) = torch.autograd.grad(run.output.sum(), cell.recurrent_kernel)
        assert not gradient.any()


# --- counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
def test_operations_are_exact(gate, reset):
    cell, x, state, lengths = problem(silent=True, reset=reset, reset_gate=gate)
    run = run_layer(cell, x, state, lengths, events=True)
    sent = sum(int((run.output[row, : max(0, n - 1)] != 0).sum()) for row, n in enumerate(lengths.tolist()))
    found = run.operations()
    assert found.events == sent > 0
    assert found.multiply_accumulates == 3 * 17 * sent
    came = run.input_operations()
    assert came.events == int((x != 0).sum())
    assert came.multiply_accumulates == 3 * 17 * came.events


def test_a_dense_run_counts_nothing():
    cell, x, state, _ = problem()
    dense, event = (run_layer(cell, x, state, path=path) for path in ("dense", "event"))
    assert (dense.path, event.path) == ("dense", "event")
    assert dense.operations() is None
    assert dense.input_operations() is event.input_operations() is None  # a dense input


# --- what a run says of itself -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["event", "dense"])
@pytest.mark.parametrize("reset", RESETS)
def test_states_after_the_reset_are_those_the_cell_carries(reset, path):
    """The whole sequence, and its gradients; the last one is the state that is handed on."""
    cell, x, state, lengths = problem(reset=reset)

    def of_cell(x, s):
        now, seen = s, []
        for t in range(x.shape[1]):
            now = cell(x[:, t], now)
            seen.append(now.carry)
        return (torch.stack(seen, 1),)

    def of_layer(x, s):
        return (run_layer(cell, x, s, path=path).after_reset(),)

    agree(with_gradients(of_layer, cell, x, state), with_gradients(of_cell, cell, x, state))
    run = run_layer(cell, x, state, lengths, path=path)
    for row, n in enumerate(lengths.tolist()):
        assert not run.after_reset()[row, n:].any()
        if n:
            assert relative(run.after_reset()[row, n - 1], run.state.carry[row]) < 1e-15


def test_shares_are_of_steps_that_are_no_padding():
    cell, x, state, lengths = problem()
    run = run_layer(cell, x, state, lengths)
    steps = run.steps()
    assert steps.sum(1).tolist() == lengths.tolist()
    assert run.activity() == float((run.output != 0)[steps].double().mean())
    near = (run.voltage - run.threshold).abs() < 1 / cell.dynamics.surrogate_support
    fired = run.voltage > run.threshold
    assert torch.equal(run.need(), (near | fired) & steps[..., None])
    assert run.need_share() == float(run.need()[steps].double().mean()) > run.activity()
    assert torch.equal(run.event(), (fired & steps[..., None]).double())
    nothing = run_layer(cell, x[:, :0], state)
    assert nothing.activity() == nothing.need_share() == 0.0


# --- drop connect, auto ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["event", "dense"])
def test_connections_are_dropped_for_a_whole_call(path):
    cell, x, state, _ = problem(units=30)
    kept = torch.rand(30, 90, generator=seeded(3)) < 0.4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            layers.functional, "dropout", lambda w, p, training: w * kept / (1 - p) if training else w
        )
        dropped = run_layer(cell, x, state, path=path, drop_connect=0.6)
        leaf = cell.recurrent_kernel
        (gradient,) = torch.autograd.grad(dropped.output.sum(), leaf)
    assert not gradient[~kept].any()
    assert gradient[kept].abs().max() > 1e-4
    with torch.no_grad():
        cell.recurrent_kernel.copy_(leaf * kept / 0.4)
    assert torch.equal(run_layer(cell, x, state, path=path).output, dropped.output)


@pytest.mark.parametrize("path", ["Dense", "", None])
def test_a_path_that_is_none_is_refused(path):
    cell, x, state, _ = problem()
    with pytest.raises(ValueError, match=f"path must be one of auto, dense, event, got {path!r}"):
        run_layer(cell, x, state, path=path)


def test_auto_takes_one_of_the_two_and_its_bits(monkeypatch):
    cell, x, state, lengths = problem()
    asked = []
    for path in ("event", "dense"):

        def choose(costs, activity, need, filled, path=path):
            asked.append((activity, need, filled))
            return path

        monkeypatch.setattr(layers, "measure_paths", lambda *sizes, **of: asked.append((*sizes, of)))
        monkeypatch.setattr(layers, "choose_path", choose)
        found = run_layer(cell, x, state, lengths, path="auto")
        assert found.path == path
        assert torch.equal(found.output, run_layer(cell, x, state, lengths, path=path).output)
    assert asked[0] == (3, 17, True, {"reset_gate": "after", "dtype": F64, "threads": 1})
    late = torch.arange(9) >= 4
    steps = (torch.arange(9) < lengths.clamp(max=8)[:, None]) & late
    probed = run_layer(cell, x, state, lengths)
    assert asked[1][0] == pytest.approx(float((probed.output[steps] != 0).double().mean()))
    assert asked[1][1] == pytest.approx(float(probed.need()[steps].double().mean()))
    assert asked[1][2] == int(lengths.sum()) / 27
    with torch.no_grad():
        run_layer(cell, x, state, path="auto", threads=2)
    assert asked[-2] == (3, 17, False, {"reset_gate": "after", "dtype": F64, "threads": 2})
    probed = run_layer(cell, x[:, :8], state)
    assert asked[-1] == (
        float((probed.output[:, 4:] != 0).double().mean()),
        float(probed.need()[:, 4:].double().mean()),
        1.0,
    )
    cell, x, state, _ = problem(dtype=F32, reset_gate="before")
    run_layer(cell, x, state, path="auto")
    assert asked[-2][3] == {"reset_gate": "before", "dtype": F32, "threads": 1}


@pytest.mark.parametrize("steps", [0, 2, 5, 9])
def test_padding_is_neither_activity_nor_need(steps, monkeypatch):
    """A row among empty ones is asked about as if it were alone, and as the eighth of a batch that it is."""
    cell, x, state, _ = problem(batch=8, surrogate_support=3.0)
    asked = []
    monkeypatch.setattr(layers, "measure_paths", lambda *sizes, **of: None)
    monkeypatch.setattr(layers, "choose_path", lambda costs, *shares: asked.append(shares) or "event")
    lengths = torch.tensor([0, 0, steps, 0, 0, 0, 0, 0])
    run_layer(cell, x, state, lengths, path="auto")
    among, one = asked[0], slice(2, 3)
    if not steps:
        assert among == (0, 0, 0)
        return
    run_layer(cell, x[one, :], EGRUState(*(s[one] for s in state)), lengths[one], path="auto")
    assert among[:2] == asked[1][:2]
    assert among[2] == asked[1][2] / 8
    begin = 4 if steps > 4 else 0
    run = run_layer(cell, x[one, : min(steps, 8)], EGRUState(*(s[one] for s in state)))
    assert among[0] == float((run.output[:, begin:] != 0).double().mean()) > 0
    assert among[1] == float(run.need()[:, begin:].double().mean()) < 1
