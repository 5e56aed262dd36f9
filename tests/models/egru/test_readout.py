"""Traces against their recurrence and its gradient in closed form; ends and means of padded rows."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.models.egru import EGRU, at_end, mean_over_time, trace

F64 = torch.float64


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 3), st.integers(0, 9), st.integers(1, 5), st.floats(0, 0.999), st.integers(0, 99))
def test_a_trace_is_its_recurrence(batch, time, units, decay, seed):
    chance = torch.Generator().manual_seed(seed)
    y = torch.randn(batch, time, units, generator=chance, dtype=F64)
    now = torch.randn(batch, units, generator=chance, dtype=F64)
    found, last = trace(y, now, decay=decay)
    assert found.shape == y.shape
    for t in range(time):
        now = decay * now + (1 - decay) * y[:, t]
        assert torch.allclose(found[:, t], now, rtol=1e-13, atol=1e-13)
    assert torch.allclose(last, now, rtol=1e-13, atol=1e-13)


def test_gradients_of_a_trace_are_powers_of_the_decay():
    y = torch.zeros(1, 6, 1, dtype=F64, requires_grad=True)
    initial = torch.zeros(1, 1, dtype=F64, requires_grad=True)
    to_y, to_initial = torch.autograd.grad(trace(y, initial)[0][0, -1, 0], (y, initial))
    expected = 0.1 * 0.9 ** torch.arange(5, -1, -1, dtype=F64)
    assert torch.allclose(to_y.flatten(), expected, rtol=1e-14)
    assert float(to_initial) == pytest.approx(0.9**6, rel=1e-14)


def test_a_trace_goes_on():
    y = torch.randn(2, 9, 3, dtype=F64)
    whole, end = trace(y)
    first, middle = trace(y[:, :4])
    second, last = trace(y[:, 4:], middle)
    assert torch.allclose(torch.cat([first, second], 1), whole, rtol=1e-14)
    assert torch.allclose(last, end, rtol=1e-14)


def test_gradients_reach_a_network_whose_last_step_is_silent():
    """What the trace is for: the output of the last step alone would teach nothing."""
    model = EGRU(2, 6, batch_first=True, threshold=0.1, generator=torch.Generator().manual_seed(0))
    x = torch.zeros(1, 8, 2)
    x[0, 0] = 4.0
    output, _ = model(x)
    assert output.any()
    assert not output[:, -1].any()
    (gradient,) = torch.autograd.grad(at_end(trace(output)[0]).sum(), model.cells[0].kernel)
    assert gradient.abs().max() > 1e-4


def test_ends_and_means_are_of_what_is_no_padding():
    values = torch.arange(24.0).reshape(2, 4, 3)
    lengths = torch.tensor([4, 2])
    assert torch.equal(at_end(values), values[:, -1])
    assert torch.equal(at_end(values, lengths), torch.stack([values[0, 3], values[1, 1]]))
    assert torch.allclose(mean_over_time(values), values.mean(1))
    assert torch.allclose(mean_over_time(values, lengths)[1], values[1, :2].mean(0))


@pytest.mark.parametrize("read", [at_end, mean_over_time])
@pytest.mark.parametrize("behind", [math.nan, math.inf])
def test_what_stands_in_padding_does_not_matter(read, behind):
    values, lengths = torch.randn(2, 4, 3), torch.tensor([4, 2])
    dirty = values.clone()
    dirty[1, 2:] = behind
    dirty.requires_grad_()
    found = read(dirty, lengths)
    assert torch.equal(found, read(values, lengths))
    (gradient,) = torch.autograd.grad(found.sum(), dirty)
    assert gradient.isfinite().all()
    assert not gradient[1, 2:].any()


@pytest.mark.parametrize("read", [at_end, mean_over_time])
def test_a_compiled_readout_looks_at_lengths(read):
    compiled = torch.compile(read, backend="aot_eager", fullgraph=True)
    values = torch.randn(2, 4, 3)
    assert torch.equal(compiled(values, torch.tensor([4, 2])), read(values, torch.tensor([4, 2])))
    for bad in (0, -1, 5):
        with pytest.raises(ValueError, match=rf"lengths\[1\] must be in 1..4 .* got {bad}"):
            compiled(values, torch.tensor([4, bad]))


@pytest.mark.parametrize(
    "call, error, complaint",
    [
        (lambda y: trace(y, decay=1.0), ValueError, "decay must be at least 0 and below 1, got 1.0"),
        (lambda y: trace(y, decay=-0.1), ValueError, "decay must be at least 0 and below 1, got -0.1"),
        (lambda y: trace(y[0]), ValueError, r"output must be \(batch, time, unit\), got \(4, 3\)"),
        (lambda y: trace(y, y[:1, 0]), ValueError, r"initial must be .* = \(2, 3\), got \(1, 3\)"),
        (lambda y: trace(y, y[:, 0].double()), TypeError, "initial must have the dtype of output"),
        (lambda y: at_end(y, torch.tensor([1, 5])), ValueError, r"lengths\[1\] must be in 1..4 .* got 5"),
        (lambda y: at_end(y, torch.tensor([0, 1])), ValueError, r"lengths\[0\] must be in 1..4 .* got 0"),
        (lambda y: mean_over_time(y, torch.ones(2)), TypeError, "lengths must be int64 or int32"),
        (lambda y: mean_over_time(y[:, :0]), ValueError, r"lengths\[0\] must be in 1..0 \(time\), got 0"),
    ],
)
def test_bad_readouts_are_refused(call, error, complaint):
    with pytest.raises(error, match=complaint):
        call(torch.ones(2, 4, 3))
