"""selective_scan, coordinate_scan, selective_step: against twins, other packages and sums over all pairs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_checks import DOUBLE, SINGLE, cast, compare, distance, frozen, outputs_and_gradients, random
from torch import Tensor

from eventbook.kernels.scans import coordinate_scan, event_scan, selective_scan, selective_step
from eventbook.kernels.scans.oracles import pairwise_coordinates
from eventbook.kernels.scans.selective import RULES, selective_scan_reference
from eventbook.kernels.scans.selective_kernels import CHUNK

OWN = ("u", "delta", "A", "B", "C", "D", "h0")
GIVEN = (*OWN, "delta_a")
COORDINATES = (*OWN, "gap", "rate")


def problem(
    batch: int, time: int, width: int, states: int, names: tuple[str, ...] = GIVEN
) -> dict[str, Tensor]:
    shapes = {
        "u": (batch, time, width), "delta": (batch, time, width), "A": (width, states),
        "B": (batch, time, states), "C": (batch, time, states), "D": (width,), "h0": (batch, width, states),
        "delta_a": (batch, time, width), "gap": (batch, time), "rate": (width,),
    }  # fmt: skip
    drawn = {name: random(*shapes[name], seed=k) for k, name in enumerate(shapes)}
    for name in ("delta", "delta_a", "gap", "rate"):
        drawn[name] = drawn[name].abs() * 0.5
    drawn["A"] = -drawn["A"].abs() - 0.125
    return {name: drawn[name] for name in names}


def by_coordinates(gap: Tensor, rate: Tensor, **rest: Tensor) -> tuple[Tensor, Tensor]:
    return selective_scan_reference(**rest, delta_a=gap[..., None] * rate)


@pytest.mark.parametrize("time", [0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 100])
@pytest.mark.parametrize(("width", "states"), [(1, 1), (3, 8), (16, 16), (17, 16), (33, 5)])
@pytest.mark.parametrize("names", [OWN, GIVEN, COORDINATES], ids=["own", "given", "coordinates"])
def test_the_scan_is_its_twin(time: int, width: int, states: int, names: tuple[str, ...]) -> None:
    kernel, twin = selective_scan, selective_scan_reference
    if names is COORDINATES:
        kernel, twin = coordinate_scan, by_coordinates
    compare(kernel, twin, problem(2, time, width, states, names), single=5e-6)


@pytest.mark.parametrize("rule", ["zoh", "bilinear"])
@pytest.mark.parametrize("names", [OWN, GIVEN, COORDINATES], ids=["own", "given", "coordinates"])
def test_other_rules_are_their_twins(rule: str, names: tuple[str, ...]) -> None:
    def kernel(**x: Tensor) -> tuple[Tensor, Tensor]:
        return (coordinate_scan if names is COORDINATES else selective_scan)(**x, rule=rule)

    def twin(**x: Tensor) -> tuple[Tensor, Tensor]:
        if names is COORDINATES:
            x["delta_a"] = x.pop("gap")[..., None] * x.pop("rate")
        return selective_scan_reference(**x, rule=rule)

    compare(kernel, twin, problem(2, 45, 17, 6, names), single=1e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("names", [OWN, GIVEN, COORDINATES], ids=["own", "given", "coordinates"])
def test_gradients_are_those_of_finite_differences(rule: str, names: tuple[str, ...]) -> None:
    x = problem(2, 3, 2, 3, names)
    scan: Callable[..., tuple[Tensor, Tensor]] = coordinate_scan if names is COORDINATES else selective_scan

    def of_values(*values: Tensor) -> tuple[Tensor, Tensor]:
        return scan(**dict(zip(names, values, strict=True)), rule=rule)

    assert torch.autograd.gradcheck(of_values, tuple(t.requires_grad_() for t in x.values()))


def test_zoh_gain_and_slopes_meet_where_the_series_ends() -> None:
    """The closed form and the series of the gain's derivative are used on both sides of |delta A| = 1/2."""
    x = problem(1, 64, 16, 4, OWN)
    x["delta"] = (
        torch.linspace(0.01, 1.2, 64, dtype=torch.float32).double()[None, :, None].expand(1, 64, 16).clone()
    )
    x["A"] = -torch.ones(16, 4, dtype=torch.float64)
    compare(
        lambda **k: selective_scan(**k, rule="zoh"),
        lambda **k: selective_scan_reference(**k, rule="zoh"),
        x,
        5e-6,
    )


def test_the_scan_is_that_of_mambapy_frozen() -> None:
    case = frozen("mambapy_selective")
    expected = case.pop("y")
    assert distance(selective_scan(**case)[0], expected) < 1e-11
    assert distance(selective_scan(**{k: v.float() for k, v in case.items()})[0].double(), expected) < 2e-6


def test_the_scan_is_that_of_mambapy() -> None:
    mamba = pytest.importorskip("mambapy.mamba")
    config = mamba.MambaConfig(d_model=12, n_layers=1, d_state=16)
    x = {name: t.float() for name, t in problem(2, 64, 24, 16, ("u", "delta", "A", "B", "C", "D")).items()}
    expected = mamba.MambaBlock(config).selective_scan(*x.values())
    assert distance(selective_scan(**x)[0], expected.detach()) < 2e-6


def test_the_scan_is_the_sum_over_all_pairs() -> None:
    x = problem(2, 60, 3, 4, COORDINATES)
    del x["h0"]
    assert distance(coordinate_scan(**x)[0], pairwise_coordinates(**x)) < 1e-11


def test_with_constant_projections_it_is_the_scan_of_events() -> None:
    x = problem(1, 50, 3, 1, COORDINATES)
    x["B"], x["C"], x["delta"] = (torch.ones_like(x[name]) for name in ("B", "C", "delta"))
    y, _ = coordinate_scan(**{**x, "D": torch.zeros_like(x["D"])})
    lam = (x["rate"] * x["A"][:, 0]).to(torch.complex128)
    h, _ = event_scan(lam, x["gap"], x["u"].to(torch.complex128), x["h0"][..., 0].to(torch.complex128))
    assert distance(y, h.real) < 1e-12


def test_a_given_step_equal_to_delta_is_mamba() -> None:
    x = problem(2, 40, 17, 8, OWN)
    assert torch.equal(selective_scan(**x, delta_a=x["delta"])[0], selective_scan(**x)[0])
    assert distance(selective_scan(**x, delta_a=2 * x["delta"])[0], selective_scan(**x)[0]) > 0.01


def test_gate_and_softplus_are_the_ones_of_torch() -> None:
    x = problem(2, 20, 5, 4, OWN)
    raw, z = random(2, 20, 5, seed=50), random(2, 20, 5, seed=51)
    y, last = selective_scan(**{**x, "delta": raw}, z=z, delta_softplus=True)
    plain, state = selective_scan(**{**x, "delta": torch.nn.functional.softplus(raw)})
    assert torch.equal(y, plain * torch.nn.functional.silu(z))
    assert torch.equal(last, state)


@pytest.mark.parametrize("dtypes", [DOUBLE, SINGLE], ids=["double", "single"])
def test_element_by_element_gives_the_very_numbers_of_the_scan(dtypes) -> None:
    x = {name: cast(t, dtypes).detach() for name, t in problem(2, 40, 17, 5).items()}
    state, outputs = x["h0"], []
    for t in range(40):
        now = {name: x[name][:, t] for name in ("u", "delta", "B", "C", "delta_a")}
        y, state = selective_step(**now, A=x["A"], D=x["D"], h=state)
        outputs.append(y)
    whole, last = selective_scan(**x)
    assert torch.equal(torch.stack(outputs, 1), whole)
    assert torch.equal(state, last)


@settings(max_examples=20, deadline=None)
@given(
    time=st.integers(1, 70),
    width=st.integers(1, 20),
    states=st.integers(1, 9),
    single=st.booleans(),
    data=st.data(),
)
def test_any_cut_with_the_carried_state_changes_nothing(time, width, states, single, data) -> None:
    cut = data.draw(st.integers(0, time))

    def in_two(u, delta, A, B, C, D, h0, delta_a):
        early, late = (
            {k: v[:, part] for k, v in (("u", u), ("delta", delta), ("B", B), ("C", C), ("delta_a", delta_a))}
            for part in (slice(None, cut), slice(cut, None))
        )
        first, carried = selective_scan(**early, A=A, D=D, h0=h0)
        second, last = selective_scan(**late, A=A, D=D, h0=carried)
        return torch.cat([first, second], 1), last

    inputs = {k: cast(v, SINGLE if single else DOUBLE) for k, v in problem(2, time, width, states).items()}
    whole, cut_up = outputs_and_gradients(selective_scan, inputs), outputs_and_gradients(in_two, inputs)
    assert max(distance(cut_up[name], whole[name]) for name in whole) < (1e-5 if single else 1e-12)


def test_forgetting_the_state_at_a_cut_is_wrong() -> None:
    x = problem(1, 40, 3, 4, OWN)
    late = {k: v[:, 20:] if k in ("u", "delta", "B", "C") else v for k, v in x.items()}
    assert distance(selective_scan(**late)[0], selective_scan(**x)[0][:, 20:]) > 0.01


@pytest.mark.parametrize("dtypes", [DOUBLE, SINGLE], ids=["double", "single"])
def test_threads_give_the_same_bits(dtypes) -> None:
    for names, scan in ((GIVEN, selective_scan), (COORDINATES, coordinate_scan)):
        inputs = {k: cast(v, dtypes) for k, v in problem(5, 70, 17, 4, names).items()}
        runs = [outputs_and_gradients(lambda n=n, s=scan, **x: s(**x, threads=n), inputs) for n in (1, 2, 5)]
        assert all(torch.equal(runs[0][name], run[name]) for run in runs[1:] for name in run)


def test_strided_and_expanded_inputs_are_read_as_what_they_show() -> None:
    x = {k: v.float() for k, v in problem(2, 20, 17, 4, OWN).items()}
    views = {
        **x,
        "u": x["u"].transpose(1, 2).contiguous().transpose(1, 2),
        "B": x["B"][:, :1].expand(2, 20, 4),
    }
    plain = {**views, "u": x["u"], "B": views["B"].contiguous()}
    assert torch.equal(selective_scan(**views)[0], selective_scan(**plain)[0])


def test_extreme_steps_stay_finite() -> None:
    for scale in (0.0, 1e-30, 1e30):
        x = {k: cast(v, SINGLE) for k, v in problem(1, 40, 16, 4).items()}
        x["delta_a"] = torch.full_like(x["delta_a"], scale).requires_grad_()
        assert all(t.isfinite().all() for t in outputs_and_gradients(selective_scan, x).values())


def test_what_is_not_a_number_stays_so() -> None:
    x = {k: v.float() for k, v in problem(1, 40, 17, 4, OWN).items()}
    x["u"][0, 7, 5] = torch.nan
    y, _ = selective_scan(**x)
    assert y[0, 7:, 5].isnan().all()
    assert not y[0, :7].isnan().any()
    assert not y[0, :, :5].isnan().any()


def test_the_scan_survives_tracing_and_vmap() -> None:
    x = {k: cast(v, SINGLE) for k, v in problem(2, 6, 3, 4, OWN).items()}

    def loss(*values):
        return selective_scan(**dict(zip(OWN, values, strict=True)))[0].square().sum()

    leaves = tuple(x.values())
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    for ours, theirs in zip(
        torch.autograd.grad(compiled(*leaves), leaves),
        torch.autograd.grad(loss(*leaves), leaves),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    many = torch.stack([x["u"].detach(), 2 * x["u"].detach()])

    def of_input(u):
        return selective_scan(**{**{k: v.detach() for k, v in x.items()}, "u": u})[0]

    assert torch.equal(torch.vmap(of_input)(many)[1], of_input(many[1]))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"delta": lambda t: t[:, :3]},
            ValueError,
            r"delta must be \(batch, time, channel\) = \(2, 5, 3\), got \(2, 3, 3\)",
        ),
        ({"A": lambda t: t[0]}, ValueError, r"A must be \(channel, state\) = \(3, state\), got \(4,\)"),
        (
            {"C": lambda t: t[..., :2]},
            ValueError,
            r"C must be \(batch, time, state\) = \(2, 5, 4\), got \(2, 5, 2\)",
        ),
        (
            {"B": lambda t: t.double()},
            TypeError,
            "B must have the dtype of u, torch.float32, got torch.float64",
        ),
        ({"u": lambda t: t.to(torch.complex64)}, TypeError, "u must be float32 or float64, got complex64"),
        (
            {"h0": lambda t: t[:1]},
            ValueError,
            r"h0 must be \(batch, channel, state\) = \(2, 3, 4\), got \(1, 3, 4\)",
        ),
    ],
)
def test_bad_input_gets_one_clear_line(changes, error, message) -> None:
    x = {k: v.float() for k, v in problem(2, 5, 3, 4, OWN).items()}
    with pytest.raises(error, match=message) as caught:
        selective_scan(**{**x, **{k: change(x[k]) for k, change in changes.items()}})
    assert "\n" not in str(caught.value)


def test_negative_gaps_and_unknown_rules_are_named() -> None:
    x = problem(2, 5, 3, 4, COORDINATES)
    with pytest.raises(ValueError, match="rule must be one of mamba, zoh, bilinear, got 'euler'"):
        coordinate_scan(**x, rule="euler")
    x["gap"][1, 2] = -1
    with pytest.raises(ValueError, match=r"gap must be >= 0, got -1 at \[1, 2\]"):
        coordinate_scan(**x)
