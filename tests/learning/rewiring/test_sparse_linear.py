"""SparseLinear and FreeSparseLinear: gradients against dense autograd, state, errors, memory."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from eventbook.learning.rewiring.sparse_linear import FreeSparseLinear, SparseLinear
from eventbook.learning.rewiring.wiring import random_wiring

BOTH = pytest.mark.parametrize("kind", [SparseLinear, FreeSparseLinear])


@BOTH
@pytest.mark.parametrize("batch", [(0,), (1,), (10,), (100,), (4, 3), ()])
@pytest.mark.parametrize("connectivity", [0.01, 0.3, 1.0])
def test_equals_dense_masked_autograd(kind, batch, connectivity):
    layer = kind(30, 20, connectivity=connectivity, bias=True, seed=3, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*batch, 30, dtype=torch.float64, generator=generator, requires_grad=True)
    twin_x = x.detach().clone().requires_grad_()
    dense = layer.to_dense().requires_grad_()
    probe = torch.randn(*batch, 20, dtype=torch.float64, generator=generator)
    y = layer(x)
    twin = nn.functional.linear(twin_x, dense, layer.bias)
    torch.testing.assert_close(y, twin, rtol=0, atol=1e-12)
    (y * probe).sum().backward()
    (twin * probe).sum().backward()
    torch.testing.assert_close(x.grad, twin_x.grad, rtol=0, atol=1e-12)
    slope = layer.sign if kind is SparseLinear else 1.0
    torch.testing.assert_close(
        layer.values.grad, slope * dense.grad.flatten()[layer.index], rtol=0, atol=1e-12
    )
    assert layer.values.grad.shape == (layer.budget,)


@BOTH
def test_gradcheck(kind):
    layer = kind(6, 5, budget=11, dtype=torch.float64)
    name = "theta" if kind is SparseLinear else "value"
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)

    def apply(x, values):
        return torch.func.functional_call(layer, {name: values}, (x,))

    assert torch.autograd.gradcheck(apply, (x, layer.values))


def test_negative_theta_is_dormant():
    layer = SparseLinear(8, 4, budget=10, dtype=torch.float64)
    with torch.no_grad():
        layer.theta[:] = 1.0
        layer.theta[4] = -1.0
        layer.theta[5] = 0.0
    x = torch.ones(2, 8, dtype=torch.float64)
    y = layer(x)
    torch.testing.assert_close(y, x @ layer.to_dense().T)
    assert layer.weight[4] == 0
    y.sum().backward()
    assert layer.theta.grad[4] == 0
    assert abs(layer.theta.grad[5]) == 2  # a newborn connection has a gradient


def test_signs_follow_the_connection_and_not_the_slot():
    one, other = SparseLinear(20, 10, budget=200, seed=5), SparseLinear(20, 10, budget=50, seed=5)
    signs = dict(zip(one.index.tolist(), one.sign.tolist(), strict=True))
    assert [signs[k] for k in other.index.tolist()] == other.sign.tolist()
    assert set(signs.values()) == {-1.0, 1.0}


def test_initial_theta_and_wiring():
    layer = SparseLinear(400, 500, connectivity=0.2, init_scale=3.0, seed=1)
    assert layer.budget == 40_000
    assert layer.theta.min() >= 0
    assert float(layer.theta.detach().square().mean()) == pytest.approx(9 / 400, rel=0.03)
    index = layer.index.numpy()
    assert (np.diff(index) > 0).all()
    assert int(layer.in_degree().sum()) == 40_000
    assert abs(layer.in_degree().double().mean() - 100) < 1e-9
    assert not torch.equal(random_wiring(50, 1000, 1), random_wiring(50, 1000, 2))


@BOTH
def test_state_round_trip_copy_and_double(kind):
    layer, other = kind(12, 9, budget=20, seed=1, bias=True), kind(12, 9, budget=33, seed=2, bias=True)
    x = torch.randn(4, 12)
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x), layer(x), rtol=0, atol=0)
    clone = copy.deepcopy(layer)
    with torch.no_grad():
        clone.values.add_(1)
    assert not torch.equal(clone(x), layer(x))
    expected = layer(x).double()
    torch.testing.assert_close(layer.double()(x.double()), expected, rtol=1e-5, atol=1e-5)


def test_state_without_the_seed_would_lose_the_signs():
    layer, other = SparseLinear(12, 9, budget=40, seed=1), SparseLinear(12, 9, budget=40, seed=2)
    state = layer.state_dict()
    state["_extra_state"] = {**state["_extra_state"], "seed": 2}
    other.load_state_dict(state)
    assert not torch.equal(other.weight, layer.weight)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"connectivity": 0.0}, r"connectivity must be in \(0, 1\], got 0.0"),
        ({"connectivity": 1.5}, r"connectivity must be in \(0, 1\], got 1.5"),
        ({"budget": 101}, "budget must be between 1 and 100"),
        ({"budget": 0}, "budget must be between 1 and 100"),
        ({}, "give either connectivity or budget"),
        ({"budget": 5, "connectivity": 0.1}, "give either connectivity or budget"),
        ({"budget": 5, "dtype": torch.float16}, "dtype must be"),
        ({"budget": 5, "seed": -1}, "seed must be"),
    ],
)
def test_constructor_errors(options, message):
    with pytest.raises(ValueError, match=message):
        SparseLinear(10, 10, **options)


def test_call_errors():
    layer = SparseLinear(10, 4, budget=5)
    with pytest.raises(ValueError, match="x must end in 10"):
        layer(torch.zeros(3, 9))
    with pytest.raises(ValueError, match="must have the layer"):
        layer(torch.zeros(3, 10, dtype=torch.float64))
    with pytest.raises(ValueError, match="runs on the CPU"):
        layer(torch.zeros(3, 10, device="meta"))


def test_second_derivative_is_refused():
    layer = SparseLinear(4, 3, budget=5)
    x = torch.randn(2, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(layer(x).sum(), x, create_graph=True)


def test_million_by_million_layer():
    """Dense, this layer has 4 TB: construction, use and gradient can only be O(K + n)."""
    layer = SparseLinear(10**6, 10**6, budget=10_000)
    y = layer(torch.ones(1, 10**6))
    y.sum().backward()
    torch.testing.assert_close(y.sum(), layer.weight.sum(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(layer.theta.grad, layer.sign)
    assert max(p.numel() for p in layer.state_dict().values() if torch.is_tensor(p)) == 10_000


@BOTH
def test_half_precision_is_refused_in_one_line(kind):
    layer = kind(10, 4, budget=5).half()
    with pytest.raises(ValueError, match=r"runs in float32 or float64, got torch\.float16"):
        layer(torch.zeros(3, 10, dtype=torch.float16))
