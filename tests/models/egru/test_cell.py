"""The cell against its equations and torch.nn.GRUCell, in every form; gradients of all it has."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from eventbook.kernels.events.egru import GATES, RESETS
from eventbook.models.egru import (
    BetaThreshold,
    Dynamics,
    EGRUCell,
    EGRUState,
    FixedThreshold,
    SigmoidThreshold,
)
from eventbook.models.egru.cell import gate_blocks

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cell_and_state(seed=0, inputs=5, units=7, batch=3, dtype=F64, **options):
    threshold = options.pop("threshold", partial(SigmoidThreshold, mean=-1.5, std=0.5))
    cell = EGRUCell(inputs, units, threshold=threshold, generator=seeded(seed), **options).to(dtype)
    chance = seeded(seed + 1)
    with torch.no_grad():
        for bias in (cell.bias, cell.recurrent_bias):
            if bias is not None:
                bias.copy_(0.3 * torch.randn(len(bias), generator=chance))
    spoke = torch.rand(batch, units, generator=chance) < 0.4
    h, y = (torch.randn(batch, units, generator=chance, dtype=F64) for _ in range(2))
    x = torch.randn(batch, inputs, generator=chance, dtype=F64)
    return cell, x.to(dtype), EGRUState(h.to(dtype), (y * spoke).to(dtype))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
def test_a_step_is_its_equations(gate, reset):
    """Unit by unit, in numbers of Python."""
    cell, x, state = cell_and_state(reset=reset, reset_gate=gate)
    found = cell(x, state)
    W, R, b, b_r = (p.tolist() for p in (cell.kernel, cell.recurrent_kernel, cell.bias, cell.recurrent_bias))
    theta, H = cell.threshold().tolist(), cell.hidden_size
    sig = lambda a: 1 / (1 + math.exp(-a))  # noqa: E731
    events = 0
    for row in range(len(x)):
        xs, h, y = x[row].tolist(), state.carry[row].tolist(), state.output[row].tolist()
        p = [b[j] + sum(v * W[i][j] for i, v in enumerate(xs)) for j in range(3 * H)]
        q = [b_r[j] + sum(v * R[i][j] for i, v in enumerate(y)) for j in range(3 * H)]
        r = [sig(p[H + i] + q[H + i]) for i in range(H)]
        for i in range(H):
            z = sig(p[i] + q[i])
            j = 2 * H + i
            if gate == "after":
                g = math.tanh(p[j] + r[i] * q[j])
            else:
                g = math.tanh(p[j] + b_r[j] + sum(r[k] * y[k] * R[k][j] for k in range(H)))
            c = z * h[i] + (1 - z) * g - (y[i] if reset == "paper" else 0)
            o = c > theta[i]
            taken = {"threshold": theta[i], "value": c}.get(reset, 0.0) if o else 0.0
            events += o
            assert found.output[row, i].item() == pytest.approx(c if o else 0.0, abs=1e-14)
            assert found.carry[row, i].item() == pytest.approx(c - taken, abs=1e-14)
    assert 0 < events < len(x) * H


@given(st.sampled_from(RESETS), st.sampled_from(GATES), st.floats(0.3, 20), st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_one_step_depends_on_all_that_it_is_given(reset, gate, support, bias, seed):
    """Gradients are there, finite, and those of h and y are what a second step needs."""
    cell, x, state = cell_and_state(
        seed, units=40, reset=reset, reset_gate=gate, surrogate_support=support, bias=bias
    )
    leaves = [x, *state, *cell.parameters()]
    for leaf in leaves:
        leaf.requires_grad_()
    after = cell(x, cell(x, state))
    gradients = torch.autograd.grad((after.carry + 2 * after.output).sum(), leaves)
    assert all(g.isfinite().all() for g in gradients)
    assert all(g.abs().max() > 0 for g in gradients)


def test_always_firing_without_reset_is_a_gru_cell():
    cell, x, state = cell_and_state(reset="none", threshold=-math.inf)
    gru = nn.GRUCell(5, 7, dtype=F64)
    with torch.no_grad():
        for theirs, ours in (
            (gru.weight_ih, cell.kernel.t()),
            (gru.weight_hh, cell.recurrent_kernel.t()),
            (gru.bias_ih, cell.bias),
            (gru.bias_hh, cell.recurrent_bias),
        ):
            z, r, g = ours.chunk(3)
            theirs.copy_(torch.cat([r, z, g]))
    found = cell(x, EGRUState(state.carry, state.carry))
    assert torch.equal(found.carry, found.output)
    assert (found.output - gru(x, state.carry)).abs().max() <= 1e-15


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_precisions_are_the_same_to_rounding(dtype):
    cell, x, state = cell_and_state(threshold=0.25)
    expected = cell(x, state)
    margin = (expected.carry + 0.25 * (expected.output != 0) - 0.25).abs()
    found = cell.to(dtype)(x.to(dtype), EGRUState(*(part.to(dtype) for part in state)))
    sure = margin > 0.05  # a unit near its threshold may fall on either side
    assert sure.double().mean() > 0.5
    assert found.output.dtype == dtype
    assert (found.output.double() - expected.output)[sure].abs().max() < 16 * torch.finfo(dtype).eps


@pytest.mark.parametrize("carried", [False, True])
def test_a_single_input_needs_no_batch(carried):
    """As torch.nn.GRUCell has it: the row of a batch of one."""
    cell, x, state = cell_and_state(batch=1)
    found = cell(x[0], EGRUState(*(part[0] for part in state)) if carried else None)
    expected = cell(x, state if carried else None)
    for part, other in zip(found, expected, strict=True):
        assert torch.equal(part, other[0])


def of_ones_own(units, generator):
    """A factory of thresholds that knows nothing of devices and dtypes."""
    return SigmoidThreshold(units, generator=generator)


@pytest.mark.parametrize(
    "threshold",
    [
        SigmoidThreshold,
        partial(SigmoidThreshold, mean=-2.0),
        partial(BetaThreshold, mean=0.2),
        0.3,
        of_ones_own,
    ],
)
def test_weights_can_be_made_where_they_will_live(threshold):
    """In double precision they are those of a default of double precision, not rounded ones."""
    made = EGRUCell(4, 6, threshold=threshold, generator=seeded(), dtype=F64)
    torch.set_default_dtype(F64)
    try:
        expected = EGRUCell(4, 6, threshold=threshold, generator=seeded()).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    single = EGRUCell(4, 6, threshold=threshold, generator=seeded()).state_dict()
    for name, value in made.state_dict().items():
        assert value.dtype == F64
        assert torch.equal(value.float(), single[name])
        if not (threshold is of_ones_own and "threshold" in name):
            assert torch.equal(value, expected[name])
    half = EGRUCell(4, 6, threshold=threshold, generator=seeded(), dtype=torch.bfloat16, device="cpu")
    assert {value.dtype for value in half.state_dict().values()} == {torch.bfloat16}
    shapes = EGRUCell(4, 6, threshold=threshold, generator=seeded(), device="meta")
    assert {value.device.type for value in shapes.state_dict().values()} == {"meta"}
    with torch.device("meta"):
        shapes = EGRUCell(4, 6, threshold=threshold, generator=seeded())
    assert {value.device.type for value in shapes.state_dict().values()} == {"meta"}
    shapes.load_state_dict(single, assign=True)
    assert torch.equal(
        shapes(torch.ones(4)).carry,
        EGRUCell(4, 6, threshold=threshold, generator=seeded())(torch.ones(4)).carry,
    )


@pytest.mark.parametrize("bias", [False, True])
def test_under_autocast_it_is_the_same_cell(bias):
    cell, x, state = cell_and_state(dtype=torch.float32, bias=bias)
    single = EGRUState(*(part[0] for part in state))
    with torch.autocast("cpu", torch.bfloat16):
        pairs = [(cell(x, state), cell(x[0], single), cell(x.bfloat16())), (x, x[0], x.bfloat16().float())]
    expected = cell(pairs[1][0], state), cell(pairs[1][1], single), cell(pairs[1][2])
    for found, other in zip(pairs[0], expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, other, strict=True))


def test_silence_is_where_a_sequence_begins():
    cell, x, _ = cell_and_state()
    zeros = torch.zeros(3, 7, dtype=F64)
    for part, other in zip(cell(x), cell(x, EGRUState(zeros, zeros)), strict=True):
        assert torch.equal(part, other)


def test_a_detached_state_is_the_same_and_has_no_past():
    cell, x, state = cell_and_state()
    after = cell(x, state)
    cut = after.detach()
    assert torch.equal(cut.carry, after.carry)
    assert after.carry.requires_grad
    assert not cut.carry.requires_grad
    assert not cut.output.requires_grad


def test_weights_begin_as_said_and_are_the_same_in_either_precision():
    values = gate_blocks(40, 60, seeded())
    assert values.shape == (40, 180)
    assert float(values.std()) == pytest.approx(math.sqrt(2 / 100), rel=0.03)
    single = EGRUCell(4, 6, generator=seeded())
    torch.set_default_dtype(F64)
    try:
        double = EGRUCell(4, 6, generator=seeded())
    finally:
        torch.set_default_dtype(torch.float32)
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        assert torch.equal(a, b.float())
    assert not single.bias.any()


def test_a_cell_without_biases_has_none():
    cell, x, _ = cell_and_state(bias=False)
    assert not {name for name, _ in cell.named_parameters() if "bias" in name}
    other, *_ = cell_and_state()
    with torch.no_grad():
        other.bias.zero_()
        other.recurrent_bias.zero_()
    assert torch.equal(cell(x).output, other(x).output)


def test_weights_come_back_from_a_state_dict():
    cell, x, state = cell_and_state()
    other = EGRUCell(5, 7, threshold=SigmoidThreshold).double()
    assert not torch.equal(other(x, state).carry, cell(x, state).carry)
    other.load_state_dict(cell.state_dict())
    assert torch.equal(other(x, state).carry, cell(x, state).carry)


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, error, complaint",
    [
        ({"reset": "zero"}, ValueError, "reset must be one of threshold, value, none, paper, got 'zero'"),
        ({"reset_gate": "both"}, ValueError, "reset_gate must be one of after, before, got 'both'"),
        ({"surrogate_support": 0.0}, ValueError, "surrogate_support must be > 0, got 0.0"),
        ({"surrogate_support": math.nan}, ValueError, "surrogate_support must be > 0, got nan"),
        ({"surrogate_dampening": -0.1}, ValueError, "dampening must be >= 0 and finite, got -0.1"),
        ({"surrogate_dampening": math.inf}, ValueError, "dampening must be >= 0 and finite, got inf"),
        ({"threshold": -0.5}, ValueError, "threshold must be > 0 and finite, or -inf .* got -0.5"),
        ({"threshold": 0.0}, ValueError, "threshold must be > 0 and finite, or -inf .* got 0.0"),
        ({"threshold": -math.inf}, ValueError, "reset must not be threshold where the threshold is -inf"),
        ({"threshold": lambda size, generator: nn.Linear(1, 1)}, TypeError, "make a Threshold, got Linear"),
        ({"threshold": lambda size, generator: FixedThreshold(2, 1.0)}, ValueError, "7 thresholds.*, got 2"),
        ({"units": 0}, ValueError, "hidden_size must be >= 1, got 0"),
        ({"inputs": 1.5}, TypeError, "input_size must be a whole number, got 1.5"),
        ({"dtype": torch.int64}, TypeError, "dtype must be one of floating numbers, got torch.int64"),
        ({"units": True}, TypeError, "hidden_size must be a whole number, got True"),
        ({"threshold": SigmoidThreshold(7)}, TypeError, "like SigmoidThreshold itself, got a Sigm.* already"),
        ({"threshold": None}, TypeError, "threshold must be a number, or make .* got None"),
        ({"threshold": "beta"}, TypeError, "threshold must be a number, or make .* got 'beta'"),
        ({"threshold": BetaThreshold}, TypeError, "alone, .* got BetaThreshold, missing .* 'mean'"),
        ({"threshold": partial(FixedThreshold, value=1)}, TypeError, "alone, .* unexpected .* 'generator'"),
        ({"threshold": [0.1, 0.2]}, ValueError, r"value must be a number or \(7,\), got shape \(2,\)"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(options, error, complaint):
    sizes = {"inputs": options.pop("inputs", 5), "units": options.pop("units", 7)}
    with pytest.raises(error, match=complaint):
        EGRUCell(sizes["inputs"], sizes["units"], **options)


@pytest.mark.parametrize(
    "change, error, complaint",
    [
        (lambda x, s: (x[:, :4], s), ValueError, r"input must be \(batch, input_size\) = \(batch, 5\) or"),
        (lambda x, s: (x[None], s), ValueError, r"input must be .*\(batch, 5\) or \(5,\), got \(1, 3, 5\)"),
        (lambda x, s: (x[0, :4], s), ValueError, r"input must be .* got \(4,\)"),
        (lambda x, s: (x[0], s), ValueError, r"carry must be \(hidden_size,\) = \(7,\), got \(3, 7\)"),
        (lambda x, s: (x.float(), s), TypeError, "input must have the dtype of the weights"),
        (lambda x, s: (x[:2], s), ValueError, r"state.carry must be .* = \(2, 7\), got \(3, 7\)"),
        (
            lambda x, s: (x, EGRUState(s.carry, s.output[:, :3])),
            ValueError,
            r"state.output must be \(batch, hidden_size\) = \(3, 7\), got \(3, 3\)",
        ),
        (lambda x, s: (x.tolist(), s), TypeError, "input must be a tensor, got list"),
        (lambda x, s: (x.to("meta"), s), ValueError, "input must be on the device of the weights, cpu, got"),
        (
            lambda x, s: (x, s._replace(output=s.output.to("meta"))),
            ValueError,
            "state.output must be on the device of the weights, cpu, got meta",
        ),
        (lambda x, s: (x, s.carry), TypeError, "state must be an EGRUState of carry and output, got Tensor"),
        (lambda x, s: (x, EGRUState(s.carry, None)), TypeError, "state.output must be a tensor, got None"),
        (lambda x, s: (x, EGRUState(s.carry, s.output.float())), TypeError, "output must have the dtype"),
    ],
)  # fmt: skip
def test_a_bad_step_is_refused(change, error, complaint):
    cell, x, state = cell_and_state()
    with pytest.raises(error, match=complaint):
        cell(*change(x, state))


def test_options_are_shown():
    assert "reset='paper'" in repr(EGRUCell(2, 3, reset="paper"))
    assert Dynamics() == Dynamics("threshold", "after", 1.0, 0.7)
