"""DeepR, GlobalDeepR, SoftDeepR: bound, twin, resume, schedulers, errors, and naive code that fails."""

import copy

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from eventbook.kernels.rewiring.steps import count_active, deep_r_step_reference
from eventbook.learning.rewiring import deep_r as dr
from eventbook.learning.rewiring.deep_r import (
    BudgetError,
    DeepR,
    GlobalDeepR,
    SoftDeepR,
    SoftSparseLinear,
    SparseLinear,
)

RATES = {"lr": 0.1, "l1": 1e-3, "temperature": 1e-3}


def network(seed=0, dtype=torch.float64):
    return nn.Sequential(
        SparseLinear(20, 15, connectivity=0.2, seed=seed, dtype=dtype),
        nn.ReLU(),
        SparseLinear(15, 5, connectivity=0.4, seed=seed + 1, dtype=dtype),
    )


def run(net, optimizer, steps, first=0, check=None):
    losses = []
    for step in range(first, first + steps):
        x = torch.randn(8, 20, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        loss = (net(x) - x[:, :5]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if check is not None:
            check()
    return losses


@pytest.mark.parametrize("kind", [DeepR, GlobalDeepR])
def test_bound_signs_and_sparsity_at_every_step(kind):
    net = network()
    optimizer = kind(net, **RATES)
    layers = [net[0], net[2]]
    total = sum(optimizer.active())
    signs = [dict(zip(m.index.tolist(), m.sign.tolist(), strict=True)) for m in layers]

    def check():
        assert sum(optimizer.active()) == total
        for layer, known in zip(layers, signs, strict=True):
            assert layer.theta.min() >= 0
            for k, s, w in zip(layer.index.tolist(), layer.sign.tolist(), layer.weight.tolist(), strict=True):
                assert known.setdefault(k, s) == s
                assert w * s >= 0
            assert int(layer.to_dense().count_nonzero()) <= layer.budget

    losses = run(net, optimizer, 300, check=check)
    assert optimizer.total_rewired > 100
    assert np.mean(losses[-30:]) < 0.8 * np.mean(losses[:30])


def test_training_equals_masked_autograd_and_the_twin():
    """Dense weights, torch autograd, the NumPy step: the same trajectory in float64."""
    net, twin = network(), network()
    optimizer = DeepR(net, **RATES, seed=7)
    layers = [twin[0], twin[2]]
    noise = np.sqrt(2 * RATES["lr"] * RATES["temperature"])
    for step in range(60):
        x = torch.randn(8, 20, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        dense = [m.to_dense().requires_grad_() for m in layers]
        out = torch.relu(x @ dense[0].T) @ dense[1].T
        (out - x[:, :5]).square().mean().backward()
        for number, (layer, w) in enumerate(zip(layers, dense, strict=True)):
            gradient = (layer.sign * w.grad.flatten()[layer.index]).numpy()
            state = (layer.theta.detach().numpy(), layer.index.numpy(), gradient, layer.potential)
            theta, index, _ = deep_r_step_reference(*state, 7, number, step, RATES["lr"], RATES["l1"], noise)
            layer.theta.data, layer.index = torch.from_numpy(theta), torch.from_numpy(index)
        run(net, optimizer, 1, first=step)
        for ours, theirs in zip([net[0], net[2]], layers, strict=True):
            assert torch.equal(ours.index, theirs.index)
            torch.testing.assert_close(ours.theta, theirs.theta, rtol=0, atol=1e-10)
    assert optimizer.total_rewired > 0


def test_naive_mixture_of_active_tests_breaks_the_bound_and_is_caught():
    """Count theta > 0, mask theta >= 0, reset to 0, dead inputs, no noise: the active count grows."""
    rng = np.random.default_rng(0)
    potential, budget = 400, 40
    theta = np.full(potential, -1.0)
    theta[rng.choice(potential, budget, replace=False)] = 0.01
    dead = np.arange(potential) % 2 == 0
    violations = 0
    for _ in range(50):
        active = theta >= 0
        theta[active & ~dead] -= 0.1 * rng.standard_normal((active & ~dead).sum())
        missing = budget - (theta > 0).sum()  # counts another set than the mask
        dormant = np.flatnonzero(theta < 0)
        theta[rng.choice(dormant, max(0, min(missing, dormant.size)), replace=False)] = 0.0
        violations += count_active(theta, np.arange(potential), potential) > budget
    assert violations > 0

    layer = SparseLinear(20, 20, budget=budget)
    with torch.no_grad():
        layer.theta[::2] = 0.0
    optimizer = DeepR(layer, lr=0.1)  # T = 0, alpha = 0, and every other input dead: the setting above
    for step in range(50):
        x = torch.rand(4, 20, generator=torch.Generator().manual_seed(step))
        x[:, ::2] = 0
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        optimizer.step()
        assert optimizer.active() == [budget]


def test_corrupt_state_is_reported():
    net = network()
    optimizer = DeepR(net, **RATES)
    twice = int(net[0].index[2])
    net[0].index[3] = twice
    with pytest.raises(
        ValueError, match=f"index of '0' must ascend, got {twice} after {twice} at position 3"
    ):
        optimizer.step()
    assert optimizer.steps == 0
    net = network()
    optimizer = DeepR(net, **RATES)
    net[2].theta.grad = torch.full_like(net[2].theta, float("nan"))
    with pytest.raises(
        BudgetError, match="theta of layer '2' must be finite, got inf or nan: training has diverged"
    ):
        optimizer.step()


@pytest.mark.parametrize("kind", [DeepR, GlobalDeepR])
def test_resume_repeats_the_trajectory(kind):
    net = network()
    optimizer = kind(net, **RATES, seed=3)
    run(net, optimizer, 50)
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    losses = run(net, optimizer, 50, first=50)
    again = network(seed=90)
    resumed = kind(again, lr=9.0, seed=4)
    again.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    assert run(again, resumed, 50, first=50) == losses
    assert resumed.total_rewired == optimizer.total_rewired
    for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True):
        assert a == b if isinstance(a, dict) else torch.equal(a, b)
    other = network(seed=90)  # negative control: another seed, another trajectory
    other.load_state_dict(saved[0])
    assert run(other, kind(other, **RATES, seed=4), 50, first=50) != losses


def test_waits_between_rewirings():
    net = network()
    optimizer = DeepR(net, **RATES, rewire_every=10)
    rewired = []
    run(net, optimizer, 40, check=lambda: rewired.append((optimizer.rewired, sum(optimizer.active()))))
    for step, (count, active) in enumerate(rewired):
        assert (count > 0) == ((step + 1) % 10 == 0)
        assert active == 90 if (step + 1) % 10 == 0 else active <= 90
    assert min(active for _, active in rewired) < 90


def test_global_budget_moves_connections_between_layers():
    net = network()
    optimizer = GlobalDeepR(net, **RATES)
    sizes = set()
    run(net, optimizer, 200, check=lambda: sizes.add(tuple(optimizer.active())))
    assert len(sizes) > 5
    assert {sum(s) for s in sizes} == {90}


def test_scheduler_and_both_noise_conventions():
    net = network()
    optimizer = DeepR(net, lr=0.5, gdnoise=1e-2)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    assert dr.noise_of(optimizer.param_groups[0]) == pytest.approx(0.5 * 1e-2, rel=1e-12)
    run(net, optimizer, 1)
    scheduler.step()
    group = optimizer.param_groups[0]
    assert group["lr"] == 0.25
    assert dr.noise_of(group) == pytest.approx(0.25 * 1e-2, rel=1e-12)
    temperature = dr.temperature_from_gdnoise(0.25, 1e-2)
    assert dr.gdnoise_from_temperature(0.25, temperature) == pytest.approx(1e-2, rel=1e-12)
    assert dr.noise_of({"lr": 0.25, "temperature": temperature, "gdnoise": 0.0}) == pytest.approx(
        2.5e-3, rel=1e-12
    )
    assert dr.temperature_from_gdnoise(0.5, 1e-5) == pytest.approx(2.5e-11, rel=1e-12)


def test_step_between_forward_and_backward_is_noticed():
    net = network()
    optimizer = DeepR(net, **RATES)
    run(net, optimizer, 1)
    loss = net(torch.randn(3, 20, dtype=torch.float64)).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lr": -1.0}, "lr must be finite and >= 0, got -1.0"),
        ({"lr": 0.1, "l1": float("nan")}, "l1 must be finite and >= 0"),
        ({"lr": 0.1, "temperature": 1.0, "gdnoise": 1.0}, "give temperature or gdnoise, not both"),
        ({"lr": 0.1, "rewire_every": 0}, "rewire_every must be an integer >= 1, got 0"),
        ({"lr": 0.1, "seed": -3}, "seed must be"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        DeepR(network(), **options)


def test_errors_of_models_and_states():
    with pytest.raises(ValueError, match="must have sparse layers"):
        DeepR(nn.Linear(3, 3), lr=0.1)
    with pytest.raises(ValueError, match="must come from DeepR"):
        DeepR(network(), lr=0.1).load_state_dict(torch.optim.SGD(network().parameters(), lr=0.1).state_dict())
    with pytest.raises(ValueError, match="must have SoftSparseLinear layers"):
        SoftDeepR(network(), 0.1, 1e-3, temperature=1e-3)
    with pytest.raises(ValueError, match="must be > 0"):
        SoftDeepR(SoftSparseLinear(3, 3, connectivity=0.5), 0.1, 1e-3)


# ---- soft rule ----


def test_soft_layer_equals_masked_autograd():
    layer = SoftSparseLinear(12, 9, connectivity=0.3, bias=True, dtype=torch.float64)
    theta = layer.theta.detach()
    sign = SparseLinear(12, 9, connectivity=1.0, dtype=torch.float64).sign.view(
        9, 12
    )  # same seed, all indices
    twin = theta.clone().requires_grad_()
    x = torch.randn(4, 12, dtype=torch.float64)
    y, z = layer(x), x @ (sign * torch.relu(twin)).T
    torch.testing.assert_close(y, z, rtol=0, atol=1e-12)
    y.square().sum().backward()
    z.square().sum().backward()
    torch.testing.assert_close(layer.theta.grad, twin.grad, rtol=0, atol=1e-12)
    assert layer.connectivity == pytest.approx(32 / 108)


def test_soft_deep_r_clips_and_resumes():
    def build():
        net = nn.Sequential(
            SoftSparseLinear(20, 15, connectivity=0.1, dtype=torch.float64),
            nn.ReLU(),
            SoftSparseLinear(15, 5, connectivity=0.3, dtype=torch.float64),
        )
        return net, SoftDeepR(net, 0.05, 1e-3, temperature=1e-4)

    net, optimizer = build()
    expected = [-0.9 / 0.1 * 0.1, -0.7 / 0.3 * 0.1]
    assert optimizer.theta_min() == pytest.approx(expected)
    losses = run(net, optimizer, 100)
    assert net[0].theta.min() >= optimizer.theta_min()[0]
    assert optimizer.connectivity() == [net[0].connectivity, net[2].connectivity]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    rest = run(net, optimizer, 20, first=100)
    again, resumed = build()
    again.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    assert run(again, resumed, 20, first=100) == rest


@pytest.mark.parametrize("gdnoise", [1e-2, 3e-2])
@pytest.mark.parametrize("lr", [0.5, 0.1])
def test_the_clip_follows_gdnoise_as_it_follows_the_temperature(lr, gdnoise):
    """gdnoise is another name of T = lr gdnoise^2 / 2; the clip is -(1 - p) T / (p l1)."""
    layer = SoftSparseLinear(12, 9, connectivity=0.25)
    optimizer = SoftDeepR(layer, lr, 1e-3, gdnoise=gdnoise)
    assert optimizer.theta_min() == pytest.approx([-3 * lr * gdnoise**2 / 2 / 1e-3])
    temperature = dr.temperature_from_gdnoise(lr, gdnoise)
    assert optimizer.theta_min() == pytest.approx(SoftDeepR(layer, lr, 1e-3, temperature).theta_min())
    layer.theta.grad = torch.zeros_like(layer.theta)
    with torch.no_grad():
        layer.theta.fill_(-1e6)
    optimizer.step()
    assert layer.theta.tolist() == [[pytest.approx(optimizer.theta_min()[0])] * 12] * 9
    optimizer.param_groups[0]["lr"] = lr / 2  # a schedule cools it
    assert optimizer.theta_min() == pytest.approx([-3 * lr * gdnoise**2 / 4 / 1e-3])


def test_a_full_layer_gets_no_more_connections():
    """Connections that leave a large layer must not go to a small one beyond its potential."""
    net = nn.Sequential(
        SparseLinear(20, 15, connectivity=0.5, dtype=torch.float64),
        SparseLinear(15, 2, connectivity=0.9, dtype=torch.float64),
    )
    optimizer = GlobalDeepR(net, lr=1.0, seed=1)
    optimizer.score[:] = 1.0, 1e9  # the small one wins whenever it has room
    with torch.no_grad():
        net[0].theta[:100] = -1.0
        net[1].theta[3:] = -1.0
    optimizer.step()
    assert optimizer.active() == [177 - 30, 30]
    assert net[1].index.tolist() == list(range(30))


def test_a_new_connection_goes_to_a_layer_by_its_share_at_the_start():
    net = nn.Sequential(
        SparseLinear(100, 60, budget=3000, dtype=torch.float64),
        SparseLinear(60, 50, budget=500, dtype=torch.float64),
    )
    optimizer = GlobalDeepR(net, lr=1.0)
    with torch.no_grad():
        net[0].theta[:1400] = -1.0
    optimizer.step()
    gained = np.array(optimizer.active()) - [1600, 500]
    assert gained.sum() == optimizer.rewired == 1400
    assert gained[1] == pytest.approx(1400 / 7, abs=5 * np.sqrt(1400 / 7 * 6 / 7))


def test_layers_of_one_wiring_get_noise_and_lotteries_of_their_own():
    net = nn.Sequential(*[SparseLinear(10, 10, budget=40, seed=3, dtype=torch.float64) for _ in range(2)])
    optimizer = DeepR(net, lr=0.1, temperature=1e-4)
    for layer in net:
        layer.theta.grad = torch.zeros_like(layer.theta)
        with torch.no_grad():
            layer.theta[:20], layer.theta[20:] = -1.0, 1.0
    optimizer.step()
    assert not torch.equal(net[0].index, net[1].index)
    survivors = [layer.theta.detach()[layer.theta > 0.5] for layer in net]
    assert not torch.equal(*survivors)


def test_soft_layers_that_do_not_lie_row_by_row():
    """A transposed theta has another order in memory than its flat indices."""
    plain, turned = (SoftSparseLinear(12, 9, connectivity=0.3, dtype=torch.float64) for _ in range(2))
    turned.theta.data = turned.theta.data.T.contiguous().T
    assert not turned.theta.is_contiguous()
    torch.testing.assert_close(turned.to_dense(), plain.to_dense(), rtol=0, atol=0)
    for layer in (plain, turned):
        optimizer = SoftDeepR(layer, 0.05, 1e-3, temperature=1e-3)
        layer.theta.grad = torch.arange(108.0, dtype=torch.float64).view(9, 12)
        optimizer.step()
    torch.testing.assert_close(turned.theta, plain.theta, rtol=0, atol=0)


@pytest.mark.parametrize("lr, temperature", [(0.0, 1.0), (-0.1, 1.0), (0.1, -1.0), (float("nan"), 1.0)])
def test_gdnoise_of_rates_that_are_none(lr, temperature):
    with pytest.raises(ValueError, match="lr must be > 0 and temperature >= 0, got"):
        dr.gdnoise_from_temperature(lr, temperature)


@pytest.mark.parametrize("kind", [SoftSparseLinear, SparseLinear])
@pytest.mark.parametrize("sizes", [(0, 4), (4, 0), (-3, -4), (4, 2.5)])
def test_layers_without_units(kind, sizes):
    with pytest.raises(ValueError, match=r"(in|out)_features must be an integer >= 1, got"):
        kind(*sizes, budget=1)


# ---- what layers and steps must not share ----


def zero_gradients(net):
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)


def test_every_layer_has_its_own_rates():
    net = network()
    optimizer = DeepR(net, lr=0.1, rewire_every=100)
    optimizer.param_groups[1].update(lr=0.3, l1=0.5)
    before = [m.theta.detach().clone() for m in (net[0], net[2])]
    for layer in (net[0], net[2]):
        layer.theta.grad = torch.ones_like(layer.theta)
    optimizer.step()
    torch.testing.assert_close(net[0].theta.detach(), before[0] - 0.1)
    torch.testing.assert_close(net[2].theta.detach(), before[1] - 0.3 * 1.5)


def test_torch_notices_a_step_that_moves_and_does_not_rewire():
    net = network()
    optimizer = DeepR(net, lr=1e-9, rewire_every=100)
    zero_gradients(net)
    loss = net(torch.randn(3, 20, dtype=torch.float64)).sum()
    optimizer.step()
    assert optimizer.total_rewired == 0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_torch_notices_a_step_that_rewires_and_does_not_move():
    net = network()
    optimizer = DeepR(net, lr=0.1)
    with torch.no_grad():
        net[0].theta[:5] = -1.0
    loss = net(torch.randn(3, 20, dtype=torch.float64)).sum()
    optimizer.step()
    assert optimizer.total_rewired == 5
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_which_layer_gains_says_nothing_about_the_connection_that_it_gets():
    """Numbers of one stream would send the draws that chose the first layer to its first connections."""
    places = []
    for seed in range(600):
        layers = [SparseLinear(30, 30, budget=100, seed=k, dtype=torch.float64) for k in range(2)]
        net = nn.Sequential(*layers)
        optimizer = GlobalDeepR(net, lr=0.1, seed=seed)
        with torch.no_grad():
            layers[1].theta[0] = -1.0
        known = set(layers[0].index.tolist())
        optimizer.step()
        places += [k / 900 for k in layers[0].index.tolist() if k not in known]
    assert 230 < len(places) < 370
    assert stats.kstest(places, "uniform").pvalue > 1e-4


def test_equal_layers_gain_other_connections_from_one_budget():
    compared = 0
    for seed in range(40):
        net = nn.Sequential(*[SparseLinear(12, 12, budget=40, seed=3, dtype=torch.float64) for _ in range(2)])
        optimizer = GlobalDeepR(net, lr=0.1, seed=seed)
        with torch.no_grad():
            for layer in net:
                layer.theta[:20] = -1.0
        optimizer.step()
        if optimizer.active() == [40, 40]:
            compared += 1
            assert not torch.equal(net[0].index, net[1].index)
    assert compared > 1


def test_soft_layers_and_steps_have_noise_of_their_own():
    net = nn.Sequential(*[SoftSparseLinear(12, 12, connectivity=0.3, dtype=torch.float64) for _ in range(2)])
    optimizer = SoftDeepR(net, 0.1, 1e-9, temperature=1e-4)
    moves = []
    for _ in range(2):
        with torch.no_grad():
            for layer in net:
                layer.theta.zero_()
        zero_gradients(net)
        optimizer.step()
        moves += [layer.theta.detach().flatten().clone() for layer in net]
    correlation = np.corrcoef(np.stack(moves))
    assert np.abs(correlation - np.eye(4)).max() < 0.4


def test_torch_notices_a_soft_step():
    layer = SoftSparseLinear(12, 9, connectivity=0.3)
    loss = layer.theta.square().sum()
    layer.theta.grad = torch.zeros_like(layer.theta)
    SoftDeepR(layer, 0.05, 1e-3, temperature=1e-3).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("kind", [DeepR, GlobalDeepR, SoftDeepR])
def test_a_closure_is_differentiated_and_its_loss_returned(kind):
    layer_kind = SoftSparseLinear if kind is SoftDeepR else SparseLinear
    one, two = (layer_kind(6, 5, connectivity=0.4, dtype=torch.float64) for _ in range(2))
    x = torch.ones(2, 6, dtype=torch.float64)

    def closure():
        loss = one(x).square().sum()
        loss.backward()
        return loss

    found = kind(one, 0.05, 1e-3, temperature=1e-4).step(closure)
    loss = two(x).square().sum()
    loss.backward()
    assert kind(two, 0.05, 1e-3, temperature=1e-4).step() is None
    assert found.item() == loss.item()
    assert torch.equal(one.theta, two.theta)


def test_other_parameters_are_neither_thetas_nor_soft_thetas():
    net = nn.Sequential(
        SparseLinear(6, 5, budget=4, bias=True),
        SoftSparseLinear(5, 4, connectivity=0.5, bias=True),
        nn.Linear(4, 2),
    )
    expected = [net[0].bias, net[1].bias, net[2].weight, net[2].bias]
    assert list(map(id, dr.other_parameters(net))) == list(map(id, expected))


def test_a_soft_theta_at_zero_is_not_active():
    layer = SoftSparseLinear(3, 2, connectivity=0.5, dtype=torch.float64)
    with torch.no_grad():
        layer.theta[:] = torch.tensor([[0.0, 1.0, -1.0], [0.0, 2.0, -2.0]])
    layer(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
    assert (layer.theta.grad != 0).tolist() == [[False, True, False]] * 2
    assert layer.connectivity == 2 / 6
