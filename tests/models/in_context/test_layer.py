"""The trainable layer: the construction inside it, pieces, gradients, first values and bad input."""

import copy
import io

import numpy as np
import pytest
import torch

from eventbook.models.in_context.construction import construction, predict
from eventbook.models.in_context.layer import Carried, GDLayer
from eventbook.models.in_context.oracle import answers, gradient_descent
from eventbook.models.in_context.tasks import scalar_tasks, vector_tasks


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def layer(seed=0, features=4, **options):
    return GDLayer(features, generator=seeded(seed), **options).double()


def tokens(time=11, features=4, batch=2, seed=5):
    return torch.randn(batch, time, features, generator=seeded(seed), dtype=torch.float64)


def window_by_window(made, sequence):
    """The equations of the module in NumPy, one sequence, one head or more."""
    get = {name: p.detach().numpy() for name, p in made.named_parameters()}
    f, w, heads = made.features, made.width, made.heads
    decay = np.exp(get["Lambda"] * np.exp(get["log_step"])[:, :, None])
    Z, found = np.zeros((heads, f, f)), []
    for start in range(0, len(sequence) - w + 1, made.stride):
        X = sequence[start : start + w].T  # (f, w)
        for h in range(heads):
            A = get["window_attention"][h]
            U = X @ A @ X.T if made.attends else np.ones((f, 1)) @ (A @ X.T)[None]
            Z[h] = decay[h] * Z[h] + U.T
        heads_now = [get["C"][h] @ Z[h] for h in range(heads)]
        E = heads_now[0]
        for k in range(1, heads, 2):
            E = E + E @ heads_now[k] + heads_now[k + 1]
        found.append(-E @ (X @ get["gate"] if made.gated else np.ones(f)))
    return np.array(found)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"gd_steps": 2}, {"gd_steps": 3}, {"width": 2}, {"width": 4, "stride": 1}, {"stride": 3},
        {"attention": False}, {"gate": False}, {"attention": False, "gate": False, "gd_steps": 2},
    ],
)  # fmt: skip
def test_the_layer_is_its_equations(options):
    made, sequence = layer(**options), tokens()
    with torch.no_grad():
        found, _ = made(sequence)
        last = made.predict(sequence)
    for row in range(2):
        expected = window_by_window(made, sequence[row].numpy())
        assert np.abs(found[row].numpy() - expected).max() < 1e-12
        assert np.abs(last[row].numpy() - expected[-1]).max() < 1e-12


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constructed_it_is_gradient_descent(steps, dtype):
    torch.set_default_dtype(dtype)
    try:
        tasks = vector_tasks(30, context=7, features=4, generator=seeded())
        made = GDLayer.constructed(4, 7, 3.0, gd_steps=steps)
    finally:
        torch.set_default_dtype(torch.float32)
    expected = answers(gradient_descent(tasks, 3.0, steps), tasks)
    with torch.no_grad():
        gap = (made.predict(tasks.tokens()) - expected).abs().max()
    assert gap < (1e-13 if dtype is torch.float64 else 2e-6)


def test_the_released_normalisation_and_a_decay_go_in():
    tasks = vector_tasks(5, context=7, features=4, generator=seeded())
    with torch.no_grad():
        for options in ({"normalise_by": "features"}, {"decay": 0.7}):
            made = GDLayer.constructed(4, 7, 3.0, **options)
            expected = predict(tasks.tokens(), construction(4, 7, 3.0, **options))
            assert (made(tasks.tokens())[0] - expected).abs().max() < 1e-6


def test_one_output_is_predicted_in_the_last_entry():
    tasks = scalar_tasks(20, context=7, features=4, generator=seeded())
    with torch.no_grad():
        found = GDLayer.constructed(4, 7, 3.0).predict(tasks.tokens())
    assert (found[:, -1:] - answers(gradient_descent(tasks, 3.0), tasks)).abs().max() < 2e-6
    assert found[:, :-1].abs().max() == 0


# --- pieces ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"gd_steps": 2}, {"width": 4, "stride": 1}, {"width": 3, "stride": 3}]
)
@pytest.mark.parametrize("cuts", [[3, 4, 4, 9], list(range(1, 12))])
def test_pieces_are_the_whole(options, cuts):
    made, sequence = layer(**options), tokens(time=13)

    def found(cuts, forget=False):
        made.zero_grad()
        carried, parts = None, []
        for start, end in zip([0, *cuts], [*cuts, 13], strict=True):
            part, carried = made(sequence[:, start:end], carried)
            if forget:
                carried = carried._replace(accumulator=torch.zeros_like(carried.accumulator))
            parts.append(part)
        values = torch.cat(parts, 1)
        values.square().sum().backward()
        return [values.detach(), *(p.grad.clone() for p in made.parameters())]

    whole = found([])
    for one, other in zip(found(cuts), whole, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() < 1e-11 * max(1, float(other.abs().max()))
    assert (found(cuts, forget=True)[0] - whole[0]).abs().max() > 1e-4  # negative control


def test_tokens_that_no_window_takes_wait():
    made = layer()
    out, carried = made(tokens(2))
    assert out.shape == (2, 0, 4)
    assert carried.rest.shape == (2, 2, 4)
    out, carried = made(tokens(1), carried)
    assert out.shape == (2, 1, 4)
    assert carried.rest.shape == (2, 1, 4)


# --- gradients and values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"gd_steps": 2}, {"attention": False}, {"gate": False}])
def test_gradients_are_those_of_finite_differences(options):
    made = layer(features=2, **options)
    names = [name for name, _ in made.named_parameters()]

    def call(sequence, *weights):
        return torch.func.functional_call(made, dict(zip(names, weights, strict=True)), (sequence,))[0]

    assert torch.autograd.gradcheck(call, (tokens(7, 2).requires_grad_(), *made.parameters()), atol=1e-7)


def test_every_parameter_is_used():
    for options in ({}, {"gd_steps": 2}, {"attention": False}, {"gate": False}):
        made = layer(**options)
        made.predict(tokens()).square().sum().backward()
        for name, weight in made.named_parameters():
            assert weight.grad.abs().sum() > 0, name


def test_first_values_are_the_released_ones():
    made = GDLayer(60, generator=seeded())
    assert torch.equal(made.Lambda, torch.full((1, 60, 60), -0.5))
    steps = made.log_step.exp()
    assert steps.min() >= 1e-3 * 0.999
    assert steps.max() <= 0.1 * 1.001
    assert float(made.C.detach().std()) == pytest.approx(1 / 60, rel=0.05)
    other = GDLayer(60, output_map="trunc_standard_normal", generator=seeded())
    assert float(other.C.detach().std()) == pytest.approx(60**-0.5, rel=0.05)
    many = torch.stack([GDLayer(1, generator=seeded(s)).window_attention for s in range(200)])
    assert float(many.detach().std()) == pytest.approx(0.1, rel=0.1)
    gates = torch.stack([GDLayer(1, generator=seeded(s)).gate for s in range(200)]).detach()
    assert float(gates.std()) == pytest.approx(1, rel=0.1)
    assert sum(p.numel() for p in GDLayer(10).parameters()) == 9 + 100 + 10 + 100 + 3


def test_first_values_come_from_the_generator_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = GDLayer(4, generator=seeded()).state_dict()
    GDLayer.constructed(4, 5, 1.0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(map(torch.equal, GDLayer(4, generator=seeded()).state_dict().values(), first.values()))
    assert not torch.equal(GDLayer(4, generator=seeded(1)).C, first["C"])


def test_saved_and_copied_layers_are_the_same():
    made, sequence, buffer = layer(gd_steps=2), tokens(), io.BytesIO()
    torch.save(made.state_dict(), buffer)
    buffer.seek(0)
    other = layer(1, gd_steps=2)
    with torch.no_grad():
        expected = made(sequence)[0]
        assert not torch.equal(other(sequence)[0], expected)
        other.load_state_dict(torch.load(buffer, weights_only=True))
        assert torch.equal(other(sequence)[0], expected)
        assert torch.equal(copy.deepcopy(made)(sequence)[0], expected)


def test_only_the_product_of_parts_is_fixed():
    made, sequence = layer(), tokens()
    scaled = copy.deepcopy(made)
    with torch.no_grad():
        scaled.window_attention *= -2
        scaled.gate *= 5
        scaled.C /= -10
        assert (made(sequence)[0] - scaled(sequence)[0]).abs().max() < 1e-12
    assert (made.product_of_parts() - scaled.product_of_parts()).abs().max() < 1e-14
    product = GDLayer.constructed(4, 5, 2.0).product_of_parts()
    assert (product + 0.4 * torch.eye(4)).abs().max() < 1e-7


def test_the_groups_of_the_optimiser_hold_everything_once():
    for made in (layer(), layer(gate=False)):
        groups = made.parameter_groups(1e-3, 1e-4, 0.05)
        assert [(g["lr"], g["weight_decay"]) for g in groups] == [(1e-3, 0.05), (1e-4, 0.0)]
        held = [id(p) for g in groups for p in g["params"]]
        assert sorted(held) == sorted(map(id, made.parameters()))
        assert {id(p) for p in groups[1]["params"]} == {id(made.Lambda), id(made.log_step)}


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"features": 0}, ValueError, "features must be >= 1, got 0"),
        ({"features": 1.5}, TypeError, "features must be a whole number, got 1.5"),
        ({"gd_steps": 0}, ValueError, "gd_steps must be >= 1, got 0"),
        ({"width": 0}, ValueError, "width must be >= 1, got 0"),
        ({"stride": -1}, ValueError, "stride must be >= 1, got -1"),
        ({"stride": 4}, ValueError, "stride must be at most width = 3, got 4"),
        ({"output_map": "orthogonal"}, ValueError, "output_map must be one of lecun_normal, .* 'orthogonal'"),
    ],
)
def test_a_layer_that_makes_no_sense_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        GDLayer(**{"features": 4, **options})


def spoilt(sequence, value):
    sequence = sequence.clone()
    sequence[1, 3, 2] = value
    return sequence


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t[0], ValueError, r"tokens must be \(batch, time, features\), got \(11, 4\)"),
        (lambda t: t[..., 1:], ValueError, r"tokens must be .* with features 4, got \(2, 11, 3\)"),
        (lambda t: t.float(), TypeError, "tokens must have the dtype of C, torch.float64, got torch.float32"),
        (lambda t: t.numpy(), TypeError, "tokens must be a tensor, got ndarray"),
        (lambda t: spoilt(t, np.nan), ValueError, r"tokens must be finite, got one that is not at \[1, 3\]"),
        (lambda t: spoilt(t, np.inf), ValueError, r"tokens must be finite, got one that is not at \[1, 3\]"),
        (lambda t: t[:, :2], ValueError, "tokens must be at least 3 in time, got 2"),
    ],
)
def test_bad_tokens_get_one_clear_line(change, error, message):
    with pytest.raises(error, match=message) as caught:
        layer().predict(change(tokens()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda c: c._replace(accumulator=c.accumulator[:1]), ValueError,
            r"carried.accumulator must be \(2, 1, 4, 4\), got \(1, 1, 4, 4\)",
        ),
        (
            lambda c: c._replace(rest=c.rest[..., :3]), ValueError,
            r"carried.rest must be .* = \(2, left, 4\), got \(2, 1, 3\)",
        ),
        (lambda c: Carried(c.accumulator.float(), c.rest), TypeError, "carried.accumulator must"),
    ],
)  # fmt: skip
def test_what_is_carried_is_checked(change, error, message):
    made = layer()
    _, carried = made(tokens())
    with pytest.raises(error, match=message):
        made(tokens(), change(carried))


def test_no_product_of_parts_without_the_parts():
    for options in ({"attention": False}, {"gate": False}, {"width": 2}):
        with pytest.raises(ValueError, match="product_of_parts is of layers with"):
            layer(**options).product_of_parts()
