"""The block against its equations written element by element, carried state, gradients, first values."""

from __future__ import annotations

import copy
import io
import math
from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from eventbook.models.stream import BlockState, StreamBlock
from eventbook.models.stream.block import DISCRETIZATIONS, STEP_MAX, STEP_MIN, STEPS, log_uniform

CHOICES = list(product(STEPS, DISCRETIZATIONS))


def block(seed: int = 0, d_model: int = 4, d_state: int = 3, **changes) -> StreamBlock:
    """In double precision, every parameter away from its first value, and states that are heard."""
    made = StreamBlock(d_model, d_state, generator=torch.Generator().manual_seed(seed), **changes).double()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            weight += torch.from_numpy(0.3 * rng.standard_normal(tuple(weight.shape)))
            if name in ("dt_bias", "own_step"):
                weight += 3
        made.x_proj[made.rank :] *= 3
        made.out_proj *= 4
    return made


def sequence(n: int, seed: int = 0, batch: int = 2, d_model: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    gap = rng.exponential(0.1, (batch, n)) * (rng.random((batch, n)) < 0.8)
    return torch.from_numpy(rng.standard_normal((batch, n, d_model))), torch.from_numpy(gap)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max() / b.abs().max()) if a.numel() else 0.0


# --- the equations, in NumPy -------------------------------------------------------------------------------


def softplus(x):
    return np.logaddexp(0, x)


def silu(x):
    return x / (1 + np.exp(-x))


def element_by_element(made: StreamBlock, v, gap) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and last state of one row: the equations of the module, one element after the other."""
    w = {name: weight.detach().numpy() for name, weight in made.named_parameters()}
    v, gap = v.numpy(), gap.numpy()
    A, (d_inner, d_state) = -np.exp(w["A_log"]), w["A_log"].shape
    h, inputs, outputs = np.zeros((d_inner, d_state)), [], []
    for i, (feature, distance) in enumerate(zip(v, gap, strict=True)):
        centred = feature - feature.mean()
        normed = centred / np.sqrt((centred**2).mean() + 1e-5) * w["norm.weight"] + w["norm.bias"]
        both = w["in_proj"] @ normed
        x, z = both[:d_inner], both[d_inner:]
        inputs.append(x)
        if made.conv_width:
            x = w["conv_bias"].copy()
            for back in range(min(made.conv_width, i + 1)):
                x += w["conv"][:, -1 - back] * inputs[i - back]
        x = silu(x)
        projected = w["x_proj"] @ x
        rank = len(projected) - 2 * d_state
        B, C = projected[rank : rank + d_state], projected[rank + d_state :]
        delta = softplus(w["dt_proj"] @ projected[:rank] + w["dt_bias"]) if rank else None
        step = distance * softplus(w["beta"]) if made.step == "coordinate" else delta
        for d in range(d_inner):
            for n in range(d_state):
                a = A[d, n]
                decay = math.exp(step[d] * a)
                if made.discretization == "mamba":
                    gain = delta[d]
                elif made.discretization == "zoh":
                    gain = (math.exp(delta[d] * a) - 1) / a
                elif made.discretization == "bilinear":
                    decay = (1 + step[d] * a / 2) / (1 - step[d] * a / 2)
                    gain = delta[d] / (1 - delta[d] * a / 2)
                elif made.discretization == "dirac":
                    gain = 1.0
                else:
                    gain = (math.exp(softplus(w["own_step"][d]) * a) - 1) / a
                h[d, n] = decay * h[d, n] + gain * B[n] * x[d]
        y = h @ C + w["D"] * x
        outputs.append(feature + w["out_proj"] @ (y * silu(z)))
    return np.array(outputs), h


@pytest.mark.parametrize("expand", [1, 2])
@pytest.mark.parametrize("conv_width", [0, 4])
@pytest.mark.parametrize(("step", "discretization"), CHOICES)
def test_the_block_is_its_equations(step, discretization, conv_width, expand):
    made = block(step=step, discretization=discretization, conv_width=conv_width, expand=expand)
    v, gap = sequence(13)
    with torch.no_grad():
        found, carried = made(v, gap)
    for row in range(2):
        outputs, state = element_by_element(made, v[row], gap[row])
        assert relative(found[row], torch.from_numpy(outputs)) < 1e-12
        assert relative(carried.state[row], torch.from_numpy(state)) < 1e-12


@given(
    d_model=st.integers(1, 20), d_state=st.integers(1, 4), expand=st.integers(1, 3),
    conv_width=st.integers(0, 5), choice=st.sampled_from(CHOICES), n=st.integers(1, 9),
    seed=st.integers(0, 1000),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_a_block_of_any_size_is_its_equations(d_model, d_state, expand, conv_width, choice, n, seed):
    """Also with a rank above one, and a convolution wider than the sequence."""
    step, discretization = choice
    made = block(
        seed, d_model, d_state, step=step, discretization=discretization, conv_width=conv_width, expand=expand
    )
    v, gap = sequence(n, seed, 1, d_model)
    with torch.no_grad():
        found, _ = made(v, gap)
    expected, _ = element_by_element(made, v[0], gap[0])
    assert relative(found[0], torch.from_numpy(expected)) < 1e-12


def test_the_equations_notice_another_choice():
    """Negative control: no two of the ten choices are the same function of the same weights."""
    v, gap = sequence(13)
    made, found = block(), {}
    made.own_step = block(discretization="async").own_step
    for made.step, made.discretization in CHOICES:
        found[made.step, made.discretization] = element_by_element(made, v[0], gap[0])[0]
    for one, other in combinations(CHOICES, 2):
        assert np.abs(found[one] - found[other]).max() > 1e-3, (one, other)


def test_single_precision_is_the_equations_to_rounding():
    made = block(conv_width=4, expand=2)
    v, gap = sequence(40)
    with torch.no_grad():
        found, _ = copy.deepcopy(made).float()(v.float(), gap.float())
    assert relative(found[0].double(), torch.from_numpy(element_by_element(made, v[0], gap[0])[0])) < 2e-5


# --- what it is built from ---------------------------------------------------------------------------------


@pytest.mark.parametrize("conv_width", [2, 4])
def test_with_learned_steps_it_is_a_block_of_mamba(conv_width):
    """Against another implementation, weights copied over; the norm before it and the residual are ours."""
    mamba = pytest.importorskip("mambapy.mamba", reason="mambapy is not installed")
    made = block(d_model=20, step="learned", expand=2, conv_width=conv_width)
    config = mamba.MambaConfig(d_model=20, n_layers=1, d_state=3, expand_factor=2, d_conv=conv_width)
    peer = mamba.MambaBlock(config).double()
    with torch.no_grad():
        for its, own in (
            (peer.in_proj.weight, made.in_proj), (peer.conv1d.weight, made.conv[:, None]),
            (peer.conv1d.bias, made.conv_bias), (peer.x_proj.weight, made.x_proj),
            (peer.dt_proj.weight, made.dt_proj), (peer.dt_proj.bias, made.dt_bias),
            (peer.A_log, made.A_log), (peer.D, made.D), (peer.out_proj.weight, made.out_proj),
        ):  # fmt: skip
            assert its.shape == own.shape
            its.copy_(own)
        v, gap = sequence(24, d_model=20)
        expected = v + peer(made.norm(v))
        # its scan is in single precision at places
        assert relative(made(v, gap)[0], expected) < 1e-5
        made.conv += 1e-2  # negative control
        assert relative(made(v, gap)[0], expected) > 1e-3


@pytest.mark.parametrize("discretization", DISCRETIZATIONS)
def test_distances_count_with_step_coordinate_alone(discretization):
    v, gap = sequence(20)
    for step in STEPS:
        made = block(step=step, discretization=discretization)
        with torch.no_grad():
            change = relative(made(v, 2 * gap)[0], made(v, gap)[0])
        assert (change > 1e-3) if step == "coordinate" else (change == 0)


def test_distance_and_rate_scale_against_each_other():
    """S8 on the block: distances times c, rates divided by c."""
    made, (v, gap), c = block(), sequence(20), 2.5
    slower = copy.deepcopy(made)
    with torch.no_grad():
        slower.beta.copy_(torch.log(torch.expm1(made.rate / c)))
        assert relative(slower.rate, made.rate / c) < 1e-14
        assert relative(slower(v, c * gap)[0], made(v, gap)[0]) < 1e-12
        assert relative(slower(v, gap)[0], made(v, gap)[0]) > 1e-3  # negative control


@pytest.mark.parametrize("conv_width", [0, 4])
def test_the_block_is_causal(conv_width):
    made, (v, gap) = block(conv_width=conv_width), sequence(20)
    later_v, later_gap = v.clone(), gap.clone()
    later_v[:, 12:], later_gap[:, 12:] = 3, 0.7
    with torch.no_grad():
        found, expected = made(later_v, later_gap)[0], made(v, gap)[0]
    assert torch.equal(found[:, :12], expected[:, :12])
    assert relative(found[:, 12:], expected[:, 12:]) > 0.1


# --- carried state -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("conv_width", [0, 1, 4])
@pytest.mark.parametrize(("step", "discretization"), CHOICES)
def test_carried_state_makes_pieces_the_whole(step, discretization, conv_width):
    """S5: with gradients; pieces shorter than the convolution, empty ones, and one element at a time."""
    made = block(step=step, discretization=discretization, conv_width=conv_width)
    v, gap = sequence(24)

    def found(cuts, forget=()):
        made.zero_grad()
        carried, parts = None, []
        for start, end in zip(cuts, [*cuts[1:], 24], strict=True):
            part, carried = made(v[:, start:end], gap[:, start:end], carried)
            zeros = {name: torch.zeros_like(getattr(carried, name)) for name in forget}
            carried = carried._replace(**zeros)
            parts.append(part)
        values = torch.cat(parts, 1)
        values.square().sum().backward()
        return [values.detach(), *(p.grad.clone() for p in made.parameters())]

    whole = found([0])
    for cuts in ([0, 8, 9, 9, 11], list(range(24))):
        assert max(relative(a, b) for a, b in zip(found(cuts), whole, strict=True)) < 1e-11
    for name in ("state", "window") if conv_width > 1 else ("state",):  # negative controls
        assert relative(found([0, 8], forget=(name,))[0], whole[0]) > 1e-3


# --- gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conv_width", [0, 2])
@pytest.mark.parametrize(("step", "discretization"), CHOICES)
def test_gradients_are_those_of_finite_differences(step, discretization, conv_width):
    """S9: every parameter, feature, gap, and what is carried; outputs and what is handed on."""
    made = block(d_model=2, d_state=2, step=step, discretization=discretization, conv_width=conv_width)
    v, gap = sequence(4, d_model=2)
    gap = gap + 0.1  # zero has a neighbour on one side alone
    names = [name for name, _ in made.named_parameters()]
    with torch.no_grad():
        before = made(*sequence(4, 1, d_model=2))[1]
    learns = step == "coordinate"

    def call(v, gap, state, window, *weights):
        values, carried = torch.func.functional_call(
            made, dict(zip(names, weights, strict=True)), (v, gap, BlockState(state, window))
        )
        return (values, carried.state, carried.window) if conv_width else (values, carried.state)

    given = (v.requires_grad_(), gap.requires_grad_(learns), *(x.requires_grad_() for x in before))
    assert torch.autograd.gradcheck(call, (*given, *made.parameters()), atol=1e-7)


@pytest.mark.parametrize("conv_width", [0, 4])
@pytest.mark.parametrize(("step", "discretization"), CHOICES)
def test_every_parameter_is_used(step, discretization, conv_width):
    made = StreamBlock(
        5, 3, step=step, discretization=discretization, conv_width=conv_width, expand=2,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    v, gap = sequence(9, d_model=5)
    made(v.float(), gap.float())[0].square().sum().backward()
    for name, weight in made.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name
    assert hasattr(made, "beta") == (step == "coordinate")
    assert hasattr(made, "own_step") == (discretization == "async")
    assert hasattr(made, "conv") == (conv_width > 0)
    assert hasattr(made, "dt_proj") == (step == "learned" or discretization not in ("dirac", "async"))


# --- first values ------------------------------------------------------------------------------------------


def kolmogorov(values: np.ndarray, low: float, high: float) -> float:
    """Distance of a sample's distribution from the log-uniform one over low..high."""
    at = np.sort(np.log(values / low) / np.log(high / low))
    n = len(at)
    return float(max((np.arange(1, n + 1) / n - at).max(), (at - np.arange(n) / n).max()))


@pytest.mark.parametrize(("rate_min", "rate_max"), [(0.5, 10.0), (1e-3, 200.0), (3.0, 3.0)])
def test_first_rates_and_steps_are_log_uniform(rate_min, rate_max):
    n = 2000
    made = StreamBlock(
        n, 1, rate_min=rate_min, rate_max=rate_max, discretization="async",
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    for weight, low, high in (
        (made.beta, rate_min, rate_max),
        (StreamBlock(n, 1, generator=torch.Generator().manual_seed(0)).dt_bias, STEP_MIN, STEP_MAX),
        (made.own_step, STEP_MIN, STEP_MAX),
    ):
        values = functional.softplus(weight.detach().double()).numpy()
        assert values.min() > low * (1 - 1e-4)
        assert values.max() < high * (1 + 1e-4)
        if low < high:
            assert kolmogorov(values, low, high) < 1.63 / math.sqrt(n)  # of one sample in a hundred
            assert kolmogorov(np.linspace(low, high, n), low, high) > 0.2  # negative control: uniform
    assert torch.equal(made.rate, functional.softplus(made.beta))


def test_other_first_values_are_those_of_mamba():
    made = StreamBlock(8, 5, expand=2, conv_width=4)
    assert torch.allclose(-torch.exp(made.A_log), -torch.arange(1.0, 6).expand(16, 5))
    assert torch.equal(made.D, torch.ones(16))
    assert made.conv_bias.abs().sum() == 0
    for weight, inputs in ((made.in_proj, 8), (made.x_proj, 16), (made.out_proj, 16), (made.conv, 4)):
        assert 0.5 < weight.abs().max() * inputs**0.5 <= 1


@pytest.mark.parametrize("d_model", [1, 16, 17, 33])
def test_the_rank_is_a_sixteenth_of_the_width_rounded_up(d_model):
    made = StreamBlock(d_model, 2)
    assert made.dt_proj.shape == (d_model, math.ceil(d_model / 16))


def test_small_and_large_values_survive_the_softplus():
    for value in (1e-12, 1.0, 700.0):
        assert float(functional.softplus(log_uniform(1, value, value, None).double())) == pytest.approx(
            value, rel=1e-5
        )


@pytest.mark.parametrize(("step", "discretization"), CHOICES)
def test_first_values_come_from_the_generator_alone(step, discretization):
    def made(seed):
        generator = torch.Generator().manual_seed(seed)
        return StreamBlock(
            4, 2, step=step, discretization=discretization, conv_width=4, generator=generator
        ).state_dict()

    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = made(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    assert all(map(torch.equal, made(0).values(), first.values()))
    assert not torch.equal(made(1)["in_proj"], first["in_proj"])


def test_without_a_generator_that_of_torch_is_asked():
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(StreamBlock(4, 2).in_proj)
    assert torch.equal(*found)
    assert not torch.equal(StreamBlock(4, 2).in_proj, found[0])


def test_saved_and_copied_blocks_are_the_same():
    made, (v, gap) = block(conv_width=4, discretization="async"), sequence(9)
    buffer = io.BytesIO()
    torch.save(made.state_dict(), buffer)
    buffer.seek(0)
    other = block(1, conv_width=4, discretization="async")
    with torch.no_grad():
        expected = made(v, gap)[0]
        assert not torch.equal(other(v, gap)[0], expected)
        other.load_state_dict(torch.load(buffer, weights_only=True))
        assert torch.equal(other(v, gap)[0], expected)
        assert torch.equal(copy.deepcopy(made)(v, gap)[0], expected)


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"step": "time"}, ValueError, "step must be one of coordinate, learned, got 'time'"),
        ({"discretization": "euler"}, ValueError, "discretization must be one of mamba, .*, got 'euler'"),
        ({"d_model": 0}, ValueError, "d_model must be >= 1, got 0"),
        ({"d_state": -1}, ValueError, "d_state must be >= 1, got -1"),
        ({"d_state": 2.0}, TypeError, "d_state must be a whole number, got 2.0"),
        ({"expand": 0}, ValueError, "expand must be >= 1, got 0"),
        ({"conv_width": -1}, ValueError, "conv_width must be >= 0, got -1"),
        ({"conv_width": 1.5}, TypeError, "conv_width must be a whole number, got 1.5"),
        ({"rate_min": 0.0}, ValueError, "rate_min and rate_max must be .*, got 0.0 and 10.0"),
        ({"rate_min": 11.0}, ValueError, "rate_min and rate_max must be .*, got 11.0 and 10.0"),
        ({"rate_min": math.nan}, ValueError, "rate_min and rate_max must be .*, got nan and 10.0"),
        ({"rate_max": math.inf}, ValueError, "rate_min and rate_max must be .*, got 0.5 and inf"),
    ],
)
def test_a_block_that_makes_no_sense_is_refused(changes, error, message):
    with pytest.raises(error, match=message) as caught:
        StreamBlock(**{"d_model": 4, "d_state": 2, **changes})
    assert "\n" not in str(caught.value)


def spoilt(tensor, row, t, value):
    tensor = tensor.clone()
    tensor[row, t] = value
    return tensor


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("v", lambda v: v[0], ValueError, r"v must be \(batch, time, d_model\), got \(9, 4\)"),
        ("v", lambda v: v[..., 1:], ValueError, r"v must be .* with d_model 4, got \(2, 9, 3\)"),
        ("v", lambda v: v.float(), TypeError, "v must have the dtype of D, torch.float64, got torch.float32"),
        ("v", lambda v: v.numpy(), TypeError, "v must be a tensor, got ndarray"),
        ("gap", lambda g: g[:, 1:], ValueError, r"gap must be \(batch, time\) = \(2, 9\), got \(2, 8\)"),
        ("gap", lambda g: g.float(), TypeError, "gap must have the dtype of D"),
        ("gap", lambda g: spoilt(g, 1, 3, -2.0), ValueError, r"gap must be >= 0, got -2 at \[1, 3\]"),
        ("gap", lambda g: spoilt(g, 0, 3, np.nan), ValueError, r"gap must be >= 0, got nan at \[0, 3\]"),
        ("gap", lambda g: spoilt(g, 0, 3, np.inf), ValueError, r"gap must be <= 2\^100, got inf at \[0, 3\]"),
        (
            "carried", lambda c: c._replace(state=c.state[1:]), ValueError,
            r"carried.state must be \(2, 4, 3\), got \(1, 4, 3\)",
        ),
        (
            "carried", lambda c: c._replace(window=c.window[:, 1:]), ValueError,
            r"carried.window must be \(2, 3, 4\), got \(2, 2, 4\)",
        ),
        ("carried", lambda c: c._replace(state=c.state.float()), TypeError, "carried.state must have the d"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_clear_line(name, change, error, message):
    made, (v, gap) = block(conv_width=4), sequence(9)
    arguments = {"v": v, "gap": gap, "carried": made(v, gap)[1]}
    with pytest.raises(error, match=message) as caught:
        made(**{**arguments, name: change(arguments[name])})
    assert "\n" not in str(caught.value)


def test_no_elements_leave_the_state_as_it_is():
    made, (v, gap) = block(conv_width=4), sequence(9)
    _, before = made(v, gap)
    values, after = made(v[:, :0], gap[:, :0], before)
    assert values.shape == (2, 0, 4)
    assert all(map(torch.equal, after, before))


def test_scan_can_be_changed_by_a_subclass():
    """Others count twice, a point itself once: far apart, where others are forgotten, nothing changes."""

    class OthersTwice(StreamBlock):
        def scan(self, x, gap, learned, B, C, h0):
            y, state = super().scan(x, gap, learned, 2 * B, C, h0)
            return y - (B * C).sum(2, keepdim=True) * learned * x, state

    one = block()
    other = copy.deepcopy(one)
    other.__class__ = OthersTwice
    v, gap = sequence(9)
    assert relative(other(v, gap)[0], one(v, gap)[0]) > 1e-3
    far = torch.full_like(gap, 1e5)
    torch.testing.assert_close(other(v, far)[0], one(v, far)[0], rtol=1e-12, atol=1e-12)
