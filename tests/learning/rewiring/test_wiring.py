"""Wirings are drawn, proved at first use and after each change, and nothing else."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from eventbook.kernels.machinery import indices
from eventbook.learning.rewiring import wiring
from eventbook.learning.rewiring.deep_r import DeepR, GlobalDeepR
from eventbook.learning.rewiring.sparse_linear import SparseLinear


@pytest.mark.parametrize("budget, potential", [(11, 10), (-1, 10), (2**63, 2**63), (3, 2)])
def test_more_connections_than_exist(budget, potential):
    with pytest.raises(ValueError, match=f"budget must be between 0 and potential = {potential}"):
        wiring.random_wiring(budget, potential, 0)


def test_all_and_no_connections():
    assert wiring.random_wiring(10, 10, 3).tolist() == list(range(10))
    assert wiring.random_wiring(0, 10, 3).tolist() == []


@pytest.mark.parametrize("seed", [-1, 2**63, 0.5, float("nan"), "1", None])
def test_seeds(seed):
    with pytest.raises(ValueError, match=r"seed must be an integer in \[0, 2\^63\), got"):
        wiring.check_seed(seed)
    assert wiring.check_seed(np.int64(5)) == 5
    assert wiring.check_seed(2**63 - 1) == 2**63 - 1


@pytest.mark.parametrize("count", [0, -1, 1.5, float("nan"), "1"])
def test_counts(count):
    with pytest.raises(ValueError, match="thin must be an integer >= 1, got"):
        wiring.check_count("thin", count)
    assert wiring.check_count("thin", np.int32(1)) == 1


@pytest.fixture
def walks(monkeypatch):
    """Sizes of the indices that were walked through."""
    made = []

    def counted(index, potential, name="index"):
        made.append(len(index))
        indices.check_index(index, potential, name)

    monkeypatch.setattr(wiring, "check_index", counted)
    return made


def test_an_index_is_walked_through_once_and_after_each_change(walks):
    layer, x = SparseLinear(20, 15, budget=30), torch.rand(4, 20)
    for _ in range(5):
        layer(x).sum().backward()
    assert walks == [30]
    layer.index.copy_(layer.index.clone())
    for _ in range(5):
        layer(x)
        layer.to_dense()
    assert walks == [30, 30]
    layer.index = layer.index.clone()
    layer(x)
    assert walks == [30] * 3
    twin = copy.deepcopy(layer)
    twin(x)
    twin(x)
    assert walks == [30] * 4
    twin.in_features, twin.out_features = 10, 30  # other bounds, the same number of potential connections
    twin(x[:, :10])
    assert walks == [30] * 4
    twin.out_features = 1
    with pytest.raises(ValueError, match=r"index must be in 0\.\.9"):
        twin(x[:, :10])


@pytest.mark.parametrize("kind", [DeepR, GlobalDeepR])
def test_rewiring_keeps_the_proof(walks, kind):
    """The optimiser counts all connections after each step: that was the walk."""
    net = nn.Sequential(SparseLinear(20, 15, budget=60), nn.ReLU(), SparseLinear(15, 5, budget=30))
    optimizer = kind(net, 0.1, l1=1e-3, temperature=1e-3)
    for _ in range(10):
        optimizer.zero_grad()
        net(torch.rand(4, 20)).square().sum().backward()
        optimizer.step()
    assert optimizer.total_rewired > 10
    assert walks == [60, 30]


def test_a_layer_made_under_inference_mode_is_proved_at_each_call(walks):
    with torch.inference_mode():
        layer = SparseLinear(20, 15, budget=30)
        layer(torch.rand(4, 20))
        layer.index[0] = -5
        with pytest.raises(ValueError, match=r"index must be in 0\.\.299, got -5"):
            layer(torch.rand(4, 20))
    assert walks == [30, 30]


def test_values_and_indices_of_different_lengths():
    layer = SparseLinear(20, 15, budget=30)
    layer.theta.data = layer.theta.data[:3].clone()
    for use in (lambda: layer(torch.rand(4, 20)), lambda: layer.weight, layer.to_dense, layer.in_degree):
        with pytest.raises(ValueError, match=r"index must have one entry per value, \(3,\), got \(30,\)"):
            use()


def test_a_gradient_of_another_length_is_not_used():
    layer = SparseLinear(20, 15, budget=30)
    layer(torch.rand(4, 20)).sum().backward()
    kept = layer.theta.grad
    layer.theta.data, layer.index = layer.theta.data[:4].clone(), layer.index[:4].clone()
    assert layer.theta.grad is kept
    with pytest.raises(ValueError, match=r"theta.grad must be \(4,\) like theta, got \(30,\)"):
        DeepR(layer, 0.1).step()
