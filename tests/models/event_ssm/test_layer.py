"""One layer: over tokens as over vectors, gradients, state, gains, dropout, errors."""

from __future__ import annotations

import cmath
from itertools import product

import pytest
import torch
from event_by_event import relative
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from eventbook.models.event_ssm import EventSSMLayer
from eventbook.models.event_ssm.layer import after

TOKENS, D_IN, LENGTHS = 6, 3, [11, 8, 0, 5]


def layer(d_out: int = 4, seed: int = 0, **changes) -> EventSSMLayer:
    generator = torch.Generator().manual_seed(seed)
    made = EventSSMLayer(
        D_IN, d_out, 8, **{"blocks": 2, "dt_min": 0.05, "dt_max": 0.9, "generator": generator, **changes}
    )
    made = made.double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return made


def problem(seed: int = 0) -> dict[str, Tensor]:
    """Rows, tokens with padding behind, gaps, lengths, states."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(LENGTHS)
    valid = torch.arange(12) < lengths[:, None]
    token = torch.randint(TOKENS, (4, 12), generator=g)
    return {
        "rows": torch.randn(TOKENS, D_IN, dtype=torch.float64, generator=g),
        "token": torch.where(valid, token, torch.tensor(TOKENS)),
        "gap": torch.where(valid, torch.rand(4, 12, dtype=torch.float64, generator=g), 0.0),
        "lengths": lengths,
        "h0": torch.randn(4, 4, dtype=torch.complex128, generator=g),
    }


# --- tokens and vectors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("discretization", "norm", "pooling", "kept", "stride"),
    [
        *product(("async", "zoh"), ("layer", "batch"), ("last", "average", "time"), ("last", "first"), (3,)),
        *product(("dirac",), ("batch",), ("average",), ("last",), (1, 2, 13)),
    ],
)
def test_tokens_are_the_vectors_of_their_rows(discretization, norm, pooling, kept, stride):
    """Values, state, running averages, gradients; in training, where a batch norm counts events."""
    found = []
    for over_tokens in (True, False):
        p = problem()
        rows, gap, h0 = (p[name].requires_grad_() for name in ("rows", "gap", "h0"))
        made = layer(discretization=discretization, norm=norm, pooling=pooling, kept=kept, stride=stride)
        if over_tokens:
            out = made.from_tokens(rows, p["token"], gap, p["lengths"], h0)
        else:
            padded = torch.cat([rows, rows.new_full((1, D_IN), 0.3)])  # padding holds anything
            out = made(padded[p["token"]], gap, p["lengths"], h0)
        valid = torch.arange(12 // stride) < p["lengths"][:, None] // stride
        assert torch.equal(out.lengths, p["lengths"] // stride)
        values = out.values[valid]
        loss = (values.square() * torch.linspace(-1, 1, values.numel()).view_as(values)).sum()
        (loss + out.state.real.square().sum() + out.state.imag.sum()).backward()
        found.append(
            {
                "values": values,
                "gap": out.gap[valid],
                "state": out.state,
                **{f"average {name}": buffer for name, buffer in made.named_buffers()},
                **{f"gradient {name}": w.grad for name, w in made.named_parameters() if w.grad is not None},
                "rows": rows.grad,
                "gaps": gap.grad,
                "h0": h0.grad,
            }
        )
    assert found[0].keys() == found[1].keys()
    for name, value in found[1].items():
        assert value.shape == found[0][name].shape, name
        assert not value.numel() or (found[0][name] - value).abs().max() < 1e-12 * (1 + value.abs().max()), (
            name
        )


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("discretization", ["async", "dirac", "zoh"])
@pytest.mark.parametrize(("stride", "pooling"), [(1, "average"), (2, "time")])
def test_gradients_are_those_of_finite_differences(norm, discretization, stride, pooling):
    made = layer(discretization=discretization, norm=norm, stride=stride, pooling=pooling, conj_sym=False,
                 blocks=4).eval()  # fmt: skip
    p = problem()
    x = torch.randn(2, 4, D_IN, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    h0 = torch.randn(2, 8, dtype=torch.complex128, generator=torch.Generator().manual_seed(6))
    names, weights = zip(*made.named_parameters(), strict=True)
    buffers = dict(made.named_buffers())

    def run(x, gap, h0, *weights):
        out = torch.func.functional_call(
            made, {**dict(zip(names, weights, strict=True)), **buffers}, (x, gap, torch.tensor([4, 3]), h0)
        )
        return out.values, out.gap, out.state

    inputs = (x.requires_grad_(), (p["gap"][:2, :4] + 0.1).requires_grad_(), h0.requires_grad_(), *weights)
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True, atol=1e-6)


def test_an_error_in_the_gradient_would_be_found():
    """Negative control of the check above: a gap that is used without its gradient."""
    made, p = layer(), problem()

    def run(gap):
        return made.from_tokens(p["rows"], p["token"][:2], gap.detach() + 0 * gap, p["lengths"][:2]).values

    with pytest.raises(GradcheckError):
        torch.autograd.gradcheck(run, ((p["gap"][:2] + 0.1).requires_grad_(),), fast_mode=True)


# --- state -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 3])
def test_the_state_is_that_after_the_last_event_of_each_row(stride):
    made, p = layer(stride=stride), problem()
    for h0 in (None, p["h0"]):
        whole = made.from_tokens(p["rows"], p["token"], p["gap"], p["lengths"], h0)
        for row, n in enumerate(LENGTHS):
            alone = made.from_tokens(
                p["rows"], p["token"][row : row + 1, :n], p["gap"][row : row + 1, :n], torch.tensor([n]),
                None if h0 is None else h0[row : row + 1],
            )  # fmt: skip
            assert (whole.state[row] - alone.state[0]).abs().max() < 1e-14
    assert torch.equal(whole.state[2], p["h0"][2])  # no events
    assert (whole.state[0] - p["h0"][0]).abs().max() > 0.1


def test_after_of_no_time_is_the_start():
    h0 = torch.ones(2, 3, dtype=torch.complex128)
    nothing, lengths = torch.empty(2, 0, 3, dtype=torch.complex128), torch.zeros(2, dtype=torch.int64)
    assert torch.equal(after(nothing, lengths, h0), h0)
    assert torch.equal(after(nothing, lengths, None), 0 * h0)


# --- parts -------------------------------------------------------------------------------------------------


def test_gains_are_those_of_the_table():
    for word, gain in {
        "dirac": lambda lam, s: 1,
        "async": lambda lam, s: (cmath.exp(lam * s) - 1) / lam,
        "zoh": lambda lam, s: 1 / lam,
    }.items():
        made = layer(discretization=word)
        expected = [gain(lam, s) for lam, s in zip(made.lam.tolist(), made.step.tolist(), strict=True)]
        assert relative(made.gain(), expected) < 1e-14


def test_an_integrator_gains_its_step():
    made = layer(discretization="async")
    with torch.no_grad():
        made.lam_real[0] = made.lam_imag[0] = 0
    assert made.gain()[0] == made.step[0]
    p = problem()
    out = made.from_tokens(p["rows"].requires_grad_(), p["token"], p["gap"], p["lengths"])
    out.state.abs().sum().backward()
    assert all(w.grad is None or w.grad.isfinite().all() for w in made.parameters())


def test_clipped_eigenvalues_decay():
    made = layer(clip_eigs=True)
    free = layer(clip_eigs=False)
    with torch.no_grad():
        for one in (made, free):
            one.lam_real[:2] = torch.tensor([0.25, -2e-5])
    assert made.lam.real[:2].tolist() == [-1e-4, -1e-4]
    assert torch.equal(made.lam.real[2:], made.lam_real[2:])
    assert free.lam.real[0] == 0.25


def test_layers_of_one_width_keep_their_features_and_others_map_them():
    same, wider = layer(D_IN), layer(4)
    assert same.D.shape == (D_IN,)
    assert isinstance(same.skip, nn.Identity)
    assert wider.D.shape == (4, D_IN)
    assert wider.skip.weight.shape == (4, D_IN)


def test_dropout_takes_whole_channels_of_a_stream():
    made = layer(64, dropout=0.25).train()
    made = EventSSMLayer(64, 64, 8, dropout=0.25, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():  # y = u, gate 1/2: what is added is u/2, channel by channel dropped or scaled
        made.C.zero_()
        made.D.fill_(1)
        made.gate.weight.zero_()
    x = torch.randn(40, 6, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gap, lengths = torch.ones(40, 6, dtype=torch.float64), torch.full((40,), 6)
    torch.manual_seed(0)
    factor = (made(x, gap, lengths).values - x) / (made.norm(x) / 2)
    kept = factor[:, 0] > 0.5
    assert torch.allclose(factor, torch.where(kept, 4 / 3, 0.0)[:, None].double(), atol=1e-9)
    assert 0.7 < kept.double().mean() < 0.8
    assert not torch.equal(kept[0], kept[1])
    made.eval()
    assert torch.allclose((made(x, gap, lengths).values - x) / (made.norm(x) / 2), torch.ones_like(x))


def test_dropout_acts_before_the_gate_too():
    made = EventSSMLayer(8, 8, 8, dropout=0.5, generator=torch.Generator().manual_seed(0)).double()
    x, gap = torch.randn(1, 6, 8, dtype=torch.float64), torch.ones(1, 6, dtype=torch.float64)
    seen = []
    made.gate.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    made(x, gap, torch.tensor([6]))
    silent = (seen[0] == 0).all(1)
    assert 0 < silent.sum() < 8
    assert not (seen[0] == 0)[~silent.expand(1, 8)[:, None].expand(1, 6, 8)].any()


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("rows", lambda r: r[:, :2], ValueError, r"rows must be \(tokens, d_in\) = .*, got \(6, 2\)"),
        ("rows", lambda r: r.float(), TypeError, "rows must have the dtype of B, torch.float64, got"),
        ("token", lambda k: k - 1, ValueError, r"token must be in 0..6, got -1 at \["),
        ("token", lambda k: k + 1, ValueError, r"token must be in 0..6, got 7 at \["),
        ("token", lambda k: k.double(), TypeError, "token must be int64, got float64"),
        ("gap", lambda g: g - 1, ValueError, r"gap must be >= 0, got -.* at \[0, 0\]"),
        ("gap", lambda g: g.float(), TypeError, "gap must have the dtype of B, torch.float64, got"),
        ("lengths", lambda n: n + 2, ValueError, r"lengths\[0\] must be in 0..12 \(time\), got 13"),
        ("h0", lambda h: h[:, :3], ValueError, r"h0 must be \(batch, state\) = \(4, 4\), got \(4, 3\)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("discretization", ["async", "zoh"])
def test_bad_tokens_get_one_clear_line(discretization, name, change, error, message):
    made, p = layer(discretization=discretization, norm="batch"), problem()
    with pytest.raises(error, match=message) as caught:
        made.from_tokens(**{**p, name: change(p[name])})
    assert "\n" not in str(caught.value)
    assert not made.norm.mean.any()  # nothing was counted


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("x", lambda x: x[..., :2], ValueError, r"x must be \(batch, time, d_in\) = \(batch, time, 3\), got"),
        ("x", lambda x: x[0], ValueError, r"x must be \(batch, time, d_in\) = .* got \(12, 3\)"),
        ("x", lambda x: x.float(), TypeError, "x must have the dtype of B, torch.float64, got torch.float32"),
        ("gap", lambda g: g[:3], ValueError, r"gap must be \(batch, time\) = \(4, 12\), got \(3, 12\)"),
        ("gap", lambda g: g * torch.nan, ValueError, r"gap must be >= 0, got nan at \[0, 0\]"),
        ("lengths", lambda n: n - 9, ValueError, r"lengths\[1\] must be in 0..12 \(time\), got -1"),
        ("lengths", lambda n: n[None], ValueError, r"lengths must be \(batch,\) = \(4,\), got \(1, 4\)"),
        ("h0", lambda h: h.to(torch.complex64), TypeError, "h0 must have the dtype of"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stride", [1, 2])
def test_bad_vectors_get_one_clear_line(stride, name, change, error, message):
    made, p = layer(stride=stride), problem()
    arguments = {"x": p["rows"].new_ones(4, 12, D_IN), **{k: p[k] for k in ("gap", "lengths", "h0")}}
    with pytest.raises(error, match=message) as caught:
        made(**{**arguments, name: change(arguments[name])})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"d_in": 0}, ValueError, "d_in must be >= 1, got 0"),
        ({"d_out": 2.5}, TypeError, "d_out must be a whole number, got 2.5"),
        ({"stride": 0}, ValueError, "stride must be >= 1, got 0"),
        ({"dropout": -0.1}, ValueError, "dropout must be in 0..1, below 1, got -0.1"),
        ({"norm": "none"}, ValueError, "norm must be one of layer, batch, got 'none'"),
    ],
)
def test_a_layer_that_makes_no_sense_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        EventSSMLayer(**{"d_in": 3, "d_out": 3, "d_state": 4, **changes})
