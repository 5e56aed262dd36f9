"""torch.nn.GRU as the EGRU that always fires: outputs and gradients, both ways; refusals."""

import math

import pytest
import torch
from torch import nn

from eventbook.models.egru import EGRU, from_gru, state_from_gru, state_to_gru, to_gru

F64 = torch.float64


def gru_and_input(layers=2, seed=0, **options):
    torch.manual_seed(seed)
    gru = nn.GRU(5, 9, layers, dtype=F64, **options)
    first = options.get("batch_first", False)
    x = torch.randn(*((3, 7, 5) if first else (7, 3, 5)), dtype=F64)
    return gru, x, torch.randn(layers, 3, 9, dtype=F64)


def relative(found, expected):
    return float(((found - expected).abs().max() / expected.abs().max()).detach())


@pytest.mark.parametrize("path", ["event", "dense"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_limit_is_torch_nn_gru(path, batch_first, bias, layers):
    """Outputs, last states, and gradients of input, state and every weight."""
    gru, x, h = gru_and_input(layers, batch_first=batch_first, bias=bias)
    model = from_gru(gru, path=path)
    x.requires_grad_()
    h.requires_grad_()
    expected, last = gru(x, h)
    found, state = model(x, state_from_gru(h))
    assert relative(found, expected) <= 1e-12
    assert relative(state_to_gru(state), last) <= 1e-12
    g, g_last = torch.randn_like(expected), torch.randn_like(last)
    theirs = torch.autograd.grad((expected, last), (x, h, *gru.parameters()), (g, g_last))
    ours = torch.autograd.grad((found, state_to_gru(state)), (x, h, *model.parameters()), (g, g_last))
    assert relative(ours[0], theirs[0]) <= 1e-12
    assert relative(ours[1], theirs[1]) <= 1e-12
    by_name = dict(zip((name for name, _ in model.named_parameters()), ours[2:], strict=True))
    pairs = {
        "weight_ih": "kernel",
        "weight_hh": "recurrent_kernel",
        "bias_ih": "bias",
        "bias_hh": "recurrent_bias",
    }
    for (name, _), gradient in zip(gru.named_parameters(), theirs[2:], strict=True):
        kind, layer = name.rsplit("_l", 1)
        z, r, g = by_name[f"cells.{layer}.{pairs[kind]}"].t().chunk(3)
        assert relative(torch.cat([r, z, g]), gradient) <= 1e-12, name


def test_weights_come_back():
    gru, x, h = gru_and_input()
    back = to_gru(from_gru(gru))
    assert all(torch.equal(a, b) for a, b in zip(gru.parameters(), back.parameters(), strict=True))
    assert [n for n, _ in gru.named_parameters()] == [n for n, _ in back.named_parameters()]
    assert torch.equal(gru(x, h)[0], back(x, h)[0])


def test_an_egru_of_its_own_that_always_fires_is_a_gru():
    model = EGRU(5, 9, 2, threshold=-math.inf, reset="none", dropout=0.3).double().eval()
    gru = to_gru(model)
    assert gru.dropout == 0.3
    assert not gru.training
    x = torch.randn(7, 3, 5, dtype=F64)
    assert relative(gru(x)[0], model(x)[0]) <= 1e-12


def test_options_are_taken_over():
    gru = nn.GRU(5, 9, 2, batch_first=True, dropout=0.2).eval()
    model = from_gru(gru, threads=2)
    assert (model.batch_first, model.dropout, model.training, model.threads) == (True, 0.2, False, 2)
    assert model.cells[0].kernel.dtype == torch.float32


def test_a_copy_is_a_copy():
    gru, x, _ = gru_and_input()
    model = from_gru(gru)
    before = model(x)[0]
    with torch.no_grad():
        for p in gru.parameters():
            p.zero_()
    assert torch.equal(model(x)[0], before)


def test_thresholding_a_trained_gru_is_another_function():
    """The control of the chapter: the same weights, small values left out."""
    gru, x, h = gru_and_input()
    model = from_gru(gru, threshold=0.15)
    run = model.run(x, state_from_gru(h))
    assert 0 < run.layers[0].activity() < 1
    assert relative(run.output, gru(x, h)[0]) > 1e-2
    said = run.layers[0].output
    assert (said[said != 0] > 0.15).all()


@pytest.mark.parametrize(
    "make, error, complaint",
    [
        (lambda: from_gru(nn.LSTM(2, 3)), TypeError, "gru must be a torch.nn.GRU, got LSTM"),
        (lambda: from_gru(nn.GRU(2, 3, bidirectional=True)), ValueError, "gru must have one direction"),
        (lambda: to_gru(nn.GRU(2, 3)), TypeError, "model must be an EGRU, got GRU"),
        (lambda: to_gru(EGRU(2, 3)), ValueError, "model must always fire, threshold -inf"),
        (lambda: to_gru(EGRU(2, 3, threshold=0.5)), ValueError, "model must always fire, threshold -inf"),
        (
            lambda: to_gru(EGRU(2, 3, threshold=-math.inf, reset="value")),
            ValueError,
            "model must have reset 'none' like a GRU, got 'value'",
        ),
        (
            lambda: to_gru(EGRU(2, 3, threshold=-math.inf, reset="none", reset_gate="before")),
            ValueError,
            "model must have reset_gate 'after' like a GRU, got 'before'",
        ),
        (
            lambda: to_gru(EGRU(2, (3, 4), threshold=-math.inf, reset="none")),
            ValueError,
            r"model must have layers of one size, got \(3, 4\)",
        ),
        (
            lambda: to_gru(EGRU(2, 3, threshold=-math.inf, reset="none", drop_connect=0.1)),
            ValueError,
            "model must drop nothing but values between layers",
        ),
        (lambda: state_from_gru(torch.zeros(0, 2, 4)), ValueError, r"h must be .* got \(0, 2, 4\)"),
        (lambda: state_from_gru([1.0]), TypeError, "h must be a tensor, got list"),
        (lambda: state_to_gru(()), ValueError, r"state must have layers of one size, got \[\]"),
        (lambda: state_to_gru(torch.ones(1, 2)), TypeError, "state must be an EGRUState for each layer"),
        (
            lambda: state_to_gru(EGRU(2, (3, 4))(torch.ones(1, 1, 2))[1]),
            ValueError,
            r"state must have layers of one size, got \[\(1, 3\), \(1, 4\)\]",
        ),
        (lambda: state_from_gru(torch.ones(3)), ValueError, r"h must be \(layer, batch, hidden_size\) or"),
    ],
)
def test_what_is_no_gru_is_refused(make, error, complaint):
    with pytest.raises(error, match=complaint):
        make()
