"""event_scan, token_scan, event_step, discretize: against twins and all pairs; what time must do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_checks import DOUBLE, SINGLE, cast, compare, distance, frozen, outputs_and_gradients, random
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from eventbook.kernels.scans import discretize, event_scan, event_step, linear_scan, token_scan
from eventbook.kernels.scans.event import event_scan_reference
from eventbook.kernels.scans.oracles import pairwise_events

LENGTHS = (0, 1, 2, 31, 32, 33, 200)
WIDTHS = (1, 3, 16, 17, 64)


def problem(batch: int, time: int, width: int) -> dict[str, torch.Tensor]:
    lam = torch.complex(-random(width).abs() - 0.05, 4 * random(width, seed=1))
    return {
        "lam": lam.to(torch.complex64).to(torch.complex128),
        "gap": random(batch, time, seed=2).abs(),
        "b": random(batch, time, width, dtype=torch.complex128, seed=3),
        "h0": random(batch, width, dtype=torch.complex128, seed=4),
    }


@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize("width", WIDTHS)
def test_event_scan_is_its_twin(time: int, width: int) -> None:
    compare(event_scan, event_scan_reference, problem(3, time, width), single=5e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    inputs = tuple(t.requires_grad_() for t in problem(2, 4, 3).values())
    assert torch.autograd.gradcheck(event_scan, inputs)


def test_the_scan_is_the_sum_over_all_pairs() -> None:
    x = problem(2, 200, 4)
    assert distance(event_scan(**x)[0], pairwise_events(**x)) < 1e-11


def test_the_scan_is_linear_scan_on_discretized_decays() -> None:
    x = problem(2, 60, 5)
    decay, gain = discretize("dirac", x["lam"], torch.ones(5, dtype=torch.float64), x["gap"])
    assert distance(event_scan(**x)[0], linear_scan(decay, gain * x["b"], x["h0"])[0]) < 1e-13


@settings(max_examples=25, deadline=None)
@given(time=st.integers(1, 40), width=st.integers(1, 20), single=st.booleans(), data=st.data())
def test_any_cut_with_the_carried_state_changes_nothing(time: int, width: int, single: bool, data) -> None:
    cut = data.draw(st.integers(0, time))

    def in_two(lam, gap, b, h0):
        first, carried = event_scan(lam, gap[:, :cut], b[:, :cut], h0)
        second, last = event_scan(lam, gap[:, cut:], b[:, cut:], carried)
        return torch.cat([first, second], 1), last

    inputs = {name: cast(t, SINGLE if single else DOUBLE) for name, t in problem(2, time, width).items()}
    whole, cut_up = outputs_and_gradients(event_scan, inputs), outputs_and_gradients(in_two, inputs)
    assert max(distance(cut_up[name], whole[name]) for name in whole) < (1e-5 if single else 1e-12)


@pytest.mark.parametrize("dtypes", [DOUBLE, SINGLE], ids=["double", "single"])
def test_event_by_event_gives_the_very_numbers_of_the_scan(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    x = {name: cast(t, dtypes).detach() for name, t in problem(2, 30, 17).items()}
    state, states = x["h0"], []
    for t in range(30):
        state = event_step(x["lam"], x["gap"][:, t], x["b"][:, t], state)
        states.append(state)
    assert torch.equal(torch.stack(states, 1), event_scan(**x)[0])


# --- what time must do -------------------------------------------------------------------------------------


def with_null_events(x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An event without input at a random point of every gap."""
    batch, time, width = x["b"].shape
    share = random(batch, time, seed=9).abs().clamp(max=1)
    gap = torch.stack([x["gap"] * share, x["gap"] * (1 - share)], 2).reshape(batch, 2 * time)
    b = torch.stack([torch.zeros_like(x["b"]), x["b"]], 2).reshape(batch, 2 * time, width)
    return {**x, "gap": gap, "b": b}


def test_events_without_input_change_nothing() -> None:
    x = problem(2, 50, 4)
    assert distance(event_scan(**with_null_events(x))[0][:, 1::2], event_scan(**x)[0]) < 1e-12


def test_zero_order_hold_notices_events_without_input() -> None:
    """Control: an input that holds until the next event is cut short by one that says nothing."""
    x, step = problem(1, 50, 4), torch.ones(4, dtype=torch.float64)

    def held(x):
        decay, gain = discretize("zoh", x["lam"], step, x["gap"])
        return linear_scan(decay, gain * x["b"])[0]

    assert distance(held(with_null_events(x))[:, 1::2], held(x)) > 0.1


def test_simultaneous_events_may_be_swapped() -> None:
    x = problem(1, 20, 3)
    x["gap"][0, 11] = 0
    swapped = {**x, "b": x["b"].clone()}
    swapped["b"][0, [10, 11]] = x["b"][0, [11, 10]]
    ours, theirs = event_scan(**x)[0], event_scan(**swapped)[0]
    assert distance(theirs[:, 11:], ours[:, 11:]) < 1e-12
    assert distance(theirs[:, 10], ours[:, 10]) > 0.1


def test_a_scale_of_time_can_be_moved_into_the_step() -> None:
    x = problem(2, 30, 3)
    scaled = {**x, "gap": 8 * x["gap"], "lam": x["lam"] / 8}
    assert torch.equal(event_scan(**scaled)[0], event_scan(**x)[0])


def test_an_event_after_a_very_long_gap_finds_an_empty_state() -> None:
    for dtypes in (DOUBLE, SINGLE):
        x = {name: cast(t, dtypes).detach() for name, t in problem(1, 3, 16).items()}
        x["gap"][0, 1] = 1e6
        h, _ = event_scan(**x)
        assert distance(h[:, 1], x["b"][:, 1]) < 1e-6
        assert h.isfinite().all()


def test_a_million_events_do_not_drift() -> None:
    lam = torch.tensor([-1e-3 + 0.3j, -2.0 + 40j])
    gap = random(1, 1_000_000, dtype=torch.float32).abs()
    b = random(1, 1_000_000, 2, dtype=torch.complex64)
    h, _ = event_scan(lam, gap, b)
    exact, _ = event_scan(lam.to(torch.complex128), gap.double(), b.to(torch.complex128))
    assert distance(h.to(torch.complex128), exact) < 1e-4  # a memory of a thousand events adds up roundings


# --- tokens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtypes", [DOUBLE, SINGLE], ids=["double", "single"])
@pytest.mark.parametrize("width", WIDTHS)
def test_token_scan_is_event_scan_on_the_rows_it_looks_up(width: int, dtypes) -> None:
    x = {name: cast(t, dtypes) for name, t in problem(3, 40, width).items()}
    table = cast(random(11, width, dtype=torch.complex128, seed=8), dtypes)
    token = torch.randint(11, (3, 40), generator=torch.Generator().manual_seed(0))
    given_rows = {"lam": x["lam"], "gap": x["gap"], "table": table, "h0": x["h0"]}
    ours = outputs_and_gradients(lambda **k: token_scan(token=token, **k, threads=2), given_rows)
    theirs = outputs_and_gradients(
        lambda lam, gap, table, h0: event_scan(lam, gap, table[token], h0), given_rows
    )
    assert torch.equal(ours["output 0"], theirs["output 0"])
    assert max(distance(ours[name], theirs[name]) for name in theirs) < (1e-5 if dtypes is SINGLE else 1e-12)


def test_token_scan_of_nothing() -> None:
    x = problem(2, 0, 3)
    h, last = token_scan(
        x["lam"], x["gap"], x["b"].new_zeros(4, 3), torch.empty(2, 0, dtype=torch.int64), x["h0"]
    )
    assert h.shape == (2, 0, 3)
    assert torch.equal(last, x["h0"])


# --- discretize --------------------------------------------------------------------------------------------


def test_zero_order_hold_is_the_matrix_exponential() -> None:
    lam = torch.tensor([-0.3 + 2j, -1e-9 + 0j, 0j], dtype=torch.complex128)
    decay, gain = discretize(
        "zoh", lam, torch.ones(3, dtype=torch.float64), torch.tensor([[0.7]], dtype=torch.float64)
    )
    for k in range(3):
        augmented = expm(0.7 * torch.tensor([[lam[k], 1], [0, 0]]).numpy())
        assert abs(decay[0, 0, k] - augmented[0, 0]) < 1e-13
        assert abs(gain[0, 0, k] - augmented[0, 1]) < 1e-13


def test_asynchronous_gain_is_a_unit_input_held_for_one_step() -> None:
    lam, step = -0.4 + 1.5j, 0.6
    _, gain = discretize(
        "async", torch.tensor([lam], dtype=torch.complex128), torch.tensor([step], dtype=torch.float64),
        torch.tensor([[5.0]], dtype=torch.float64),
    )  # fmt: skip
    held = solve_ivp(lambda t, h: lam * h + 1, (0, step), [0j], rtol=1e-11, atol=1e-13).y[0, -1]
    assert abs(gain.item() - held) < 1e-9


def test_zero_order_hold_is_that_of_s5_frozen() -> None:
    case = frozen("s5_zoh")
    decay, gain = discretize("zoh", case["lam"], case["step"], torch.ones(1, 1, dtype=torch.float64))
    assert distance(decay[0, 0], case["decay"]) < 1e-11
    assert distance(gain[0, 0], case["gain"]) < 1e-11


@pytest.mark.parametrize("mode", ["dirac", "async", "zoh"])
def test_discretize_has_gradients_at_the_integrator_too(mode: str) -> None:
    lam = torch.tensor([-0.5 + 2j, 0j], dtype=torch.complex128)
    step = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    gap = random(1, 3).abs().requires_grad_()
    for out in discretize(mode, lam, step, gap):
        if out.requires_grad:
            for gradient in torch.autograd.grad(
                out.abs().sum(), (step, gap), retain_graph=True, allow_unused=True
            ):
                assert gradient is None or gradient.isfinite().all()


def test_discretize_gradients_are_those_of_finite_differences() -> None:
    lam = torch.tensor([-0.5 + 2j, -0.1 - 1j], dtype=torch.complex128, requires_grad=True)
    step, gap = random(2).abs().requires_grad_(), random(1, 3).abs().requires_grad_()
    for mode in ("async", "zoh"):
        assert torch.autograd.gradcheck(lambda *x, m=mode: discretize(m, *x), (lam, step, gap))


# --- torch -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtypes", [DOUBLE, SINGLE], ids=["double", "single"])
def test_threads_give_the_same_bits(dtypes) -> None:
    inputs = {name: cast(t, dtypes) for name, t in problem(5, 130, 17).items()}
    runs = [outputs_and_gradients(lambda n=n, **x: event_scan(**x, threads=n), inputs) for n in (1, 2, 5)]
    assert all(torch.equal(runs[0][name], run[name]) for run in runs[1:] for name in run)


def test_the_scan_survives_tracing_and_vmap() -> None:
    x = {name: cast(t, SINGLE) for name, t in problem(2, 6, 3).items()}

    def loss(lam, gap, b, h0):
        return event_scan(lam, gap, b, h0)[0].abs().square().sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    leaves = tuple(x.values())
    for ours, theirs in zip(
        torch.autograd.grad(compiled(*leaves), leaves),
        torch.autograd.grad(loss(*leaves), leaves),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    many = torch.stack([x["lam"], 2 * x["lam"]])
    mapped, _ = torch.vmap(event_scan, (0, None, None, None))(many, x["gap"], x["b"], x["h0"])
    assert torch.equal(mapped[1], event_scan(2 * x["lam"], x["gap"], x["b"], x["h0"])[0])


# --- bad input ---------------------------------------------------------------------------------------------


def bad(**changes):
    x = {
        name: t.to(torch.complex64 if t.is_complex() else torch.float32)
        for name, t in problem(2, 5, 3).items()
    }
    return event_scan(**{**x, **{name: change(x[name]) for name, change in changes.items()}})


def negative(gap: torch.Tensor) -> torch.Tensor:
    gap = gap.clone()
    gap[1, 3] = -0.25
    return gap


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"gap": negative}, ValueError, r"gap must be >= 0, got -0.25 at \[1, 3\]"),
        ({"gap": lambda g: g * torch.nan}, ValueError, r"gap must be >= 0, got nan at \[0, 0\]"),
        ({"gap": lambda g: g[:, :4]}, ValueError, r"gap must be \(batch, time\) = \(2, 5\), got \(2, 4\)"),
        ({"gap": lambda g: g.double()}, TypeError, "gap must be torch.float32, the real part's dtype of lam"),
        ({"lam": lambda v: v.real}, TypeError, "lam must be complex64 or complex128, got float32"),
        ({"lam": lambda v: v[:2]}, ValueError, r"lam must be \(state,\) = \(3,\), got \(2,\)"),
        ({"b": lambda v: v.to(torch.complex128)}, TypeError, "b must have the dtype of lam"),
    ],
)
def test_bad_input_gets_one_clear_line(changes, error, message) -> None:
    with pytest.raises(error, match=message) as caught:
        bad(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("token", [-1, 4])
def test_a_token_without_a_row_is_named(token: int) -> None:
    x = problem(1, 3, 2)
    tokens = torch.tensor([[0, 3, token]])
    with pytest.raises(ValueError, match=rf"token must be in 0..3, got {token} at \[0, 2\]"):
        token_scan(x["lam"], x["gap"], x["b"].new_zeros(4, 2), tokens)


def test_unknown_modes_are_listed() -> None:
    with pytest.raises(ValueError, match="mode must be one of dirac, async, zoh, got 'tustin'"):
        discretize("tustin", torch.zeros(1, dtype=torch.complex64), torch.ones(1), torch.ones(1, 1))
