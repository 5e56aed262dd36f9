"""Making existing networks sparse."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from eventbook.learning.rewiring.deep_r import (
    DeepR,
    SparseLinear,
    other_parameters,
    sparse_connections,
    sparsify,
)
from eventbook.learning.rewiring.sparsify import SparseWeight


def test_linear_layers_become_sparse_and_keep_biases():
    net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Sequential(nn.Linear(30, 5, bias=False)))
    bias = net[0].bias
    assert sparsify(net, connectivity=0.1) is net
    assert isinstance(net[0], SparseLinear)
    assert net[0].bias is bias
    assert [c.name for c in sparse_connections(net)] == ["0", "2.0"]
    assert [c.theta.numel() for c in sparse_connections(net)] == [60, 15]
    assert [id(p) for p in other_parameters(net)] == [id(bias)]


def test_lone_linear_is_replaced():
    assert isinstance(sparsify(nn.Linear(5, 4), budget=7), SparseLinear)


@pytest.mark.parametrize("budget", [37, 100, 1111])
def test_budget_is_met_exactly(budget):
    net = nn.Sequential(nn.Conv2d(3, 7, 3), nn.Flatten(), nn.Linear(31, 17), nn.LSTM(17, 9))
    sparsify(net, budget=budget)
    assert sum(c.theta.numel() for c in sparse_connections(net)) == budget


@pytest.mark.parametrize("make", [lambda: nn.LSTM(6, 8, bidirectional=True), lambda: nn.Conv1d(6, 4, 3)])
def test_other_modules_train_within_budget(make):
    torch.manual_seed(0)
    net = sparsify(make(), connectivity=0.2)
    optimizer = DeepR(net, lr=0.1, l1=1e-2, temperature=1e-3)
    before = optimizer.active()
    for _ in range(30):
        out = net(torch.randn(5, 6, 6))
        out = out[0] if isinstance(out, tuple) else out
        optimizer.zero_grad()
        out.square().mean().backward()
        optimizer.step()
    assert optimizer.active() == before
    assert optimizer.total_rewired > 0
    for name, home, theta in sparse_connections(net):
        owner, _, weight = name.rpartition(".")
        dense = getattr(net.get_submodule(owner), weight).detach()
        assert dense.shape == home.shape
        assert int(dense.count_nonzero()) == int((theta > 0).sum())
        assert set(dense.flatten().nonzero().flatten().tolist()) <= set(home.index.tolist())


def test_gradient_of_a_scattered_weight_is_the_masked_gradient():
    torch.manual_seed(0)
    conv = sparsify(nn.Conv1d(3, 4, 3, dtype=torch.float64), connectivity=0.3)
    (connections,) = sparse_connections(conv)
    x = torch.randn(2, 3, 9, dtype=torch.float64)
    dense = conv.weight.detach().clone().requires_grad_()
    nn.functional.conv1d(x, dense, conv.bias).square().sum().backward()
    conv(x).square().sum().backward()
    picked = dense.grad.flatten()[connections.home.index]
    sign = torch.sign(conv.weight.detach().flatten()[connections.home.index])
    torch.testing.assert_close(connections.theta.grad, sign * picked, rtol=0, atol=1e-12)


def test_shared_module_stays_shared():
    shared = nn.Linear(5, 5)
    net = sparsify(nn.Sequential(shared, nn.ReLU(), shared), connectivity=0.5)
    assert net[0] is net[2]


def test_errors():
    with pytest.raises(ValueError, match="at least one weight matrix"):
        sparsify(nn.ReLU(), connectivity=0.1)
    with pytest.raises(ValueError, match="give either"):
        sparsify(nn.Linear(3, 3))


@pytest.mark.parametrize(
    "make", [lambda: nn.LSTM(9, 9), lambda: nn.Sequential(*[nn.Linear(9, 36) for _ in range(3)])]
)
def test_every_matrix_draws_a_wiring_and_thetas_of_its_own(make):
    """Matrices of one shape and one budget: the same seed would give them the same connections."""
    net = sparsify(make(), connectivity=0.2, seed=4)
    found = sparse_connections(net)
    assert len({c.theta.numel() for c in found}) == 1
    for one, other in itertools.combinations(found, 2):
        assert one.home.seed != other.home.seed
        assert not torch.equal(one.home.index, other.home.index)
        assert not torch.equal(one.theta, other.theta)


def test_noise_differs_between_matrices_and_steps():
    net = sparsify(nn.LSTM(9, 9), connectivity=0.2)
    for c in sparse_connections(net):  # one wiring, so that the noise alone can differ
        c.home.index = sparse_connections(net)[0].home.index.clone()
        with torch.no_grad():
            c.theta.fill_(1.0)
    optimizer = DeepR(net, lr=0.1, temperature=1e-4)
    moves = []
    for _ in range(2):
        before = [c.theta.detach().clone() for c in sparse_connections(net)]
        for c in sparse_connections(net):
            c.theta.grad = torch.zeros_like(c.theta)
        optimizer.step()
        moves += [c.theta.detach() - b for c, b in zip(sparse_connections(net), before, strict=True)]
    for one, other in itertools.combinations(moves, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.5


@pytest.mark.parametrize("budget", [1, 3])
def test_a_budget_too_small_for_the_matrices_changes_nothing(budget):
    net = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 20), nn.Linear(20, 1))
    kinds = [type(m) for m in net]
    with pytest.raises(ValueError, match=rf"connection in each of 3 matrices .*got {budget}"):
        sparsify(net, budget=budget)
    assert [type(m) for m in net] == kinds


@pytest.mark.parametrize("budget", [0, 31, 10**9])
def test_a_weight_has_no_more_connections_than_entries(budget):
    with pytest.raises(ValueError, match="budget must be between 1 and 30"):
        SparseWeight(torch.Size((5, 6)), budget)


def test_a_weight_needs_one_theta_per_connection():
    weight = SparseWeight(torch.Size((5, 6)), 7)
    assert weight(torch.ones(7)).shape == (5, 6)
    with pytest.raises(ValueError, match=r"index must have one entry per value, \(1,\), got \(7,\)"):
        weight(torch.ones(1))


def test_thetas_start_by_the_number_of_inputs():
    """Of a weight (outputs, ...), which is all that follows the first axis."""
    conv = sparsify(nn.Conv1d(40, 10, 25), connectivity=0.5, init_scale=3.0)
    (connections,) = sparse_connections(conv)
    assert float(connections.theta.detach().square().mean()) == pytest.approx(9 / 1000, rel=0.1)


def test_a_newborn_connection_of_a_scattered_weight_has_a_gradient():
    conv = sparsify(nn.Conv1d(3, 4, 3, dtype=torch.float64), connectivity=0.5)
    (connections,) = sparse_connections(conv)
    with torch.no_grad():
        connections.theta[:] = torch.tensor([0.0, -1.0] * 9, dtype=torch.float64)
    conv(torch.ones(1, 3, 9, dtype=torch.float64)).sum().backward()
    assert (connections.theta.grad != 0).tolist() == [True, False] * 9
    assert not conv.weight.any()


@pytest.mark.parametrize("training", [True, False])
def test_a_module_stays_in_its_mode(training):
    net = nn.Sequential(nn.Linear(5, 4), nn.Dropout()).train(training)
    sparsify(net, connectivity=0.5)
    assert [m.training for m in net] == [training] * 2
