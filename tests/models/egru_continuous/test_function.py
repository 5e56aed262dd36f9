"""The network in continuous time against other integrators, central differences and its own limits."""

import math

import numpy as np
import pytest
import torch
from continuous_streams import GROUPS, VARIANTS, differences, gradients, loss, problem, relative
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from eventbook.models.egru_continuous.function import egru_continuous

F64 = {"dtype": torch.float64}


def name_of(variant):
    return "-".join(variant.values())


def by_scipy(p, gate_of, payload, reset, tau_s=5.0, tau_m=20.0):
    """Events and the last state by an adaptive solver of order 8 that stops at events."""
    b, theta, n = p["bias"].numpy().reshape(3, -1), p["threshold"].numpy(), len(p["threshold"])

    def slopes(_, x):
        c, a_u, _, a_z = x.reshape(4, n)
        u = 1 / (1 + np.exp(-a_u))
        return np.concatenate([u * (np.tanh(a_z) - c) / tau_m, ((b - x.reshape(4, n)[1:]) / tau_s).ravel()])

    def watch(m):
        def crosses(_, x):
            return x[m] - theta[m]

        crosses.terminal, crosses.direction = True, 1
        return crosses

    def jump(x, weights, sent, gate):
        x = x.reshape(4, n).copy()
        w = weights.numpy().reshape(3, n)
        x[1:] += sent * np.stack([w[0], w[1], gate * w[2]])
        return x

    x, now, found = p["state"].numpy().ravel(), 0.0, []
    for k, until in enumerate([*p["time"].tolist(), p["duration"]]):
        while now < until:
            done = solve_ivp(
                slopes, (now, until), x, method="DOP853", rtol=1e-12, atol=1e-14, max_step=0.25,
                events=[watch(m) for m in range(n)],
            )  # fmt: skip
            now, x = done.t[-1], done.y[:, -1]
            fired = [m for m in range(n) if len(done.t_events[m])]
            if fired:
                (m,) = fired
                found.append((now, m))
                r = 1 / (1 + np.exp(-x.reshape(4, n)[2]))
                sent = x[m] if payload == "graded" else 1.0
                x = jump(x, p["recurrent"][m], sent, r if gate_of == "target" else r[m])
                x[0, m] = 0.0 if reset == "zero" else x[0, m] - theta[m]
                x = x.ravel()
        if k < len(p["time"]):
            gate = 1 / (1 + np.exp(-x.reshape(4, n)[2])) if gate_of == "target" else 1.0
            x = jump(x, p["kernel"][p["token"][k]], p["value"][k].item(), gate).ravel()
    return np.array(found), x.reshape(4, n)


@pytest.mark.parametrize("variant", VARIANTS, ids=name_of)
def test_events_and_states_are_those_of_an_adaptive_solver(variant):
    p = problem()
    run = egru_continuous(**p, **variant)
    events, last = by_scipy(p, **variant)
    assert 9 <= len(run.time) <= 15
    assert run.unit.tolist() == events[:, 1].tolist()
    assert set(run.unit.tolist()) == set(range(4))
    assert np.abs(run.time.numpy() - events[:, 0]).max() < 1e-8
    assert np.abs(run.last.numpy() - last).max() < 1e-9


@pytest.mark.parametrize("variant", VARIANTS, ids=name_of)
def test_gradients_are_central_differences(variant):
    p = problem()
    found = gradients(egru_continuous, p, **variant)
    for group in GROUPS:
        assert relative(found[group], differences(egru_continuous, p, group, **variant)) < 1e-6, group


@pytest.mark.parametrize("gate_of", ["target", "source"])
def test_resets_and_graded_values_say_the_same_in_other_words(gate_of):
    """A unit fires at its threshold: c - theta is 0 there, and a graded value is theta."""
    p = problem()
    zero, less = (egru_continuous(**p, gate_of=gate_of, reset=reset) for reset in ("zero", "threshold"))
    assert torch.equal(zero.unit, less.unit)
    assert (zero.time - less.time).abs().max() < 1e-11
    assert (zero.value - p["threshold"][zero.unit]).abs().max() < 1e-15
    both = [gradients(egru_continuous, p, gate_of=gate_of, reset=reset) for reset in ("zero", "threshold")]
    assert all(relative(both[0][group], both[1][group]) < 1e-9 for group in GROUPS)
    # a control: gates and payloads are no other words
    other = egru_continuous(**p, gate_of="source" if gate_of == "target" else "target")
    assert (other.last - zero.last).abs().max() > 1e-2
    assert (egru_continuous(**p, gate_of=gate_of, payload="unit").last - zero.last).abs().max() > 1e-2


def test_errors_fall_with_the_sixth_power_of_the_step():
    p = problem()
    exact, exact_gradient = egru_continuous(**p, step=0.02), gradients(egru_continuous, p, step=0.02)
    steps = (4.0, 2.0, 1.0, 0.5)
    errors = {"time": [], "last": [], "integral": [], "gradient": []}
    for step in steps:
        run, gradient = egru_continuous(**p, step=step), gradients(egru_continuous, p, step=step)
        for name in ("time", "last", "integral"):
            errors[name].append((getattr(run, name) - getattr(exact, name)).abs().max().item())
        errors["gradient"].append(relative(gradient["recurrent"], exact_gradient["recurrent"]))
    for name, found in errors.items():
        order = math.log2(found[0] / found[-1]) / (len(steps) - 1)
        assert 5 < order < 7.5, (name, found)
    at_default = egru_continuous(**p)
    assert (at_default.time - exact.time).abs().max() < 1e-9
    assert (at_default.last - exact.last).abs().max() < 1e-10


def test_no_crossing_is_missed_by_long_steps():
    p = problem()
    short, long = egru_continuous(**p), egru_continuous(**p, step=p["duration"])
    assert torch.equal(short.unit, long.unit)
    assert (short.time - long.time).abs().max() < 0.05


def test_without_events_it_is_autograd_through_an_integrator():
    p = problem()
    p["threshold"] = p["threshold"] + 5.0
    p["time"], p["token"], p["value"] = p["time"][:0], p["token"][:0], p["value"][:0]

    def by_torch(time, token, kernel, recurrent, bias, threshold, duration, asked, value, state):
        b = bias.view(3, -1)

        def slopes(x):
            u, z = torch.sigmoid(x[1]), torch.tanh(x[3])
            return torch.cat([(u * (z - x[0]) / 20.0)[None], (b - x[1:4]) / 5.0, x[:1]])

        x, states, now = torch.cat([state, torch.zeros_like(state[:1])]), [], 0.0
        for until in asked.tolist():
            h = (until - now) / 400
            for _ in range(400 * (until > now)):
                k1 = slopes(x)
                k2 = slopes(x + h / 2 * k1)
                k3 = slopes(x + h / 2 * k2)
                x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + slopes(x + h * k3))
            states.append(x[:4])
            now = until
        empty = state.new_empty(0)
        run = egru_continuous(time, token, kernel, recurrent, bias, threshold, duration=duration)
        assert len(run.time) == 0
        return run._replace(time=empty, value=empty, states=torch.stack(states), last=x[:4], integral=x[4])

    ours, its = egru_continuous(**p), by_torch(**p)
    assert (ours.states - its.states).abs().max() < 1e-10
    assert (ours.integral - its.integral).abs().max() < 1e-9
    found = gradients(egru_continuous, p)
    mine = {k: v.clone().requires_grad_() if k in ("bias", "state") else v for k, v in p.items()}
    loss(by_torch(**mine)).backward()
    for group in ("bias", "state"):
        assert relative(found[group], mine[group].grad) < 1e-9
    for group in ("kernel", "recurrent", "threshold"):
        assert not found[group].any()  # no event, nothing to learn from


def test_two_calls_are_one_long_run():
    p = problem()
    cut, whole = 31.0, egru_continuous(**p)
    first = p["time"] <= cut
    rest = {k: v for k, v in p.items() if k not in ("time", "token", "value", "asked", "duration", "state")}
    one = egru_continuous(
        p["time"][first], p["token"][first], value=p["value"][first], state=p["state"], duration=cut, **rest
    )
    two = egru_continuous(
        p["time"][~first] - cut, p["token"][~first], value=p["value"][~first], state=one.last,
        duration=p["duration"] - cut, **rest,
    )  # fmt: skip
    assert torch.equal(torch.cat([one.unit, two.unit]), whole.unit)
    assert (torch.cat([one.time, two.time + cut]) - whole.time).abs().max() < 1e-9
    assert (two.last - whole.last).abs().max() < 1e-10
    assert (one.integral + two.integral - whole.integral).abs().max() < 1e-9


def test_a_silent_stretch_of_any_length_is_cut_and_gives_the_same():
    p = problem()
    long = egru_continuous(**p, step=0.01)  # thousands of steps: stretches of 256
    assert (long.last - egru_continuous(**p).last).abs().max() < 1e-10
    a, b = gradients(egru_continuous, p, step=0.01), gradients(egru_continuous, p)
    assert all(relative(a[group], b[group]) < 1e-8 for group in GROUPS)


def twins(units=3, **changes):
    """Units that are all alike and cross together."""
    generator = torch.Generator().manual_seed(0)
    recurrent = 0.2 * torch.randn(units, 3 * units, generator=generator, **F64)
    p = {
        "time": torch.tensor([1.0], **F64),
        "token": torch.tensor([0]),
        "kernel": torch.tensor([[2.0, 0.0, 4.0]], **F64).repeat_interleave(units, 1),
        "recurrent": recurrent,
        "bias": torch.tensor([0.0, 0.0, 1.0], **F64).repeat_interleave(units),
        "threshold": torch.full((units,), 0.2, **F64),
        "duration": 14.0,
    }
    return {**p, **changes}


def test_units_that_cross_together_fire_in_order_and_once():
    run = egru_continuous(**twins(), reset="zero")
    assert run.unit.tolist() == [0, 1, 2]
    assert (run.time - run.time[0]).abs().max() < 1e-12
    assert bool((run.last[0] < 0.2).all())


def test_a_unit_that_is_turned_back_at_its_threshold_does_not_fire():
    p = twins(2)
    p["recurrent"] = torch.zeros(2, 6, **F64)
    p["recurrent"][0, 5] = -50.0  # unit 0 turns unit 1 round as both arrive
    run = egru_continuous(**p)
    assert run.unit.tolist() == [0]
    assert run.last[0, 1] < 0.2


def test_an_answer_comes_after_all_inputs_at_its_time():
    both = {"time": torch.tensor([1.0, 1.0], **F64), "token": torch.tensor([0, 0])}
    run = egru_continuous(**twins(1, **both, asked=torch.tensor([1.0 - 1e-9, 1.0], **F64)))
    jump = run.states[1] - run.states[0]
    assert abs(jump[1, 0].item() - 4.0) < 1e-6  # twice 2, through no gate
    assert abs(jump[3, 0].item() - 4.0) < 1e-6  # twice 4, through sig(0)
    assert abs(jump[0, 0].item()) < 1e-6


def test_two_inputs_at_once_arrive_in_their_order():
    """The second one sees the gate that the first one moved."""
    kernel = torch.tensor([[0.0, 3.0, 0.0], [0.0, 0.0, 1.0]], **F64)
    at = {"time": torch.tensor([1.0, 1.0], **F64), "kernel": kernel, "asked": torch.tensor([1.0], **F64)}
    opened, closed = (
        egru_continuous(**twins(1, token=torch.tensor(order), **at)).states[0, 3, 0]
        for order in ([0, 1], [1, 0])
    )
    assert abs((opened - closed).item() - (1 / (1 + math.exp(-3)) - 0.5)) < 1e-12


def test_layers_follow_each_other_and_times_carry_gradients_between_them():
    p = problem()
    rest = {k: v for k, v in p.items() if k not in ("time", "token", "value", "asked", "kernel")}
    above = problem(2)["kernel"].repeat(2, 1)[:4] + 0.5

    def last_of(kernel):
        below = egru_continuous(**{**p, "kernel": kernel}, payload="graded")
        run = egru_continuous(below.time, below.unit, above * 8, value=below.value, **rest)
        assert len(run.time) > 0
        return run.last.sum() + 0.1 * run.time.sum()

    kernel = p["kernel"].clone().requires_grad_()
    last_of(kernel).backward()
    for at in ((0, 1), (1, 6), (2, 10)):
        ends = []
        for sign in (1, -1):
            moved = p["kernel"].clone()
            moved[at] += sign * 1e-5
            ends.append(last_of(moved).item())
        difference = (ends[0] - ends[1]) / 2e-5
        assert abs(kernel.grad[at].item() - difference) < 1e-5 * max(1.0, abs(difference))


def test_a_network_that_runs_away_is_stopped():
    p = problem()
    p["threshold"], p["state"] = torch.full_like(p["threshold"], 1e-4), None
    message = r"more than max_events = 50 events by [\d.]+ ms of 60 ms: the network runs away"
    with pytest.raises(RuntimeError, match=message):
        egru_continuous(**p, max_events=50)
    assert len(egru_continuous(**problem(), max_events=12).time) == 12
    with pytest.raises(RuntimeError, match="more than max_events = 11 events"):
        egru_continuous(**problem(), max_events=11)


def test_a_state_that_overflows_is_an_error():
    p = problem()
    p["kernel"] = p["kernel"] * 1e307
    p["value"] = p["value"] * 1e10
    with pytest.raises(RuntimeError, match="the state left the range of float64"):
        egru_continuous(**p)


def test_it_is_differentiable_once():
    p = problem()
    kernel = p["kernel"].clone().requires_grad_()
    run = egru_continuous(**{**p, "kernel": kernel})
    (gradient,) = torch.autograd.grad(run.last.sum(), kernel, create_graph=True)
    with pytest.raises(RuntimeError, match="egru_continuous is differentiable once"):
        gradient.sum().backward()
    assert not run.unit.requires_grad
    assert not run.slope.requires_grad


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from(VARIANTS), st.floats(0.2, 8.0))
def test_between_events_no_unit_is_above_its_threshold(seed, variant, step):
    p = problem(seed)
    p["asked"] = torch.linspace(0, p["duration"], 601, **F64)
    run = egru_continuous(**p, **variant, step=step)
    assert bool((run.states[:, 0] <= p["threshold"] + 1e-12).all())
    assert bool((run.slope > 0).all())
    assert bool((run.time.diff() >= 0).all())
