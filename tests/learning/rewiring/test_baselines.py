"""Each baseline reaches its budget, learns, and does what distinguishes it."""

import numpy as np
import pytest
import torch

from eventbook.learning.rewiring.baselines import (
    SET,
    FixedRandom,
    L1Shrinkage,
    MagnitudePruning,
    RigL,
    connectivity_of,
)
from eventbook.learning.rewiring.deep_r import DeepR
from eventbook.learning.rewiring.mlp_classifier import accuracy, dense_mlp, sparse_mlp, train
from eventbook.learning.rewiring.sparse_linear import FreeSparseLinear

SIZES, PS = (16, 40, 4), (0.2, 0.5)
NOMINAL = (128 + 80) / (640 + 160)


def data(n=600):
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((4, 16)) * 1.5
    labels = rng.integers(0, 4, n)
    images = centers[labels] + rng.standard_normal((n, 16))
    return torch.tensor(images, dtype=torch.float32), torch.tensor(labels)


def free():
    return sparse_mlp(SIZES, PS, layer=FreeSparseLinear)


def dense():
    return dense_mlp(SIZES)


METHODS = {
    "deep_r": lambda: (m := sparse_mlp(SIZES, PS), DeepR(m, 0.1, 1e-4, gdnoise=1e-4)),
    "fixed": lambda: (m := free(), FixedRandom(m, 0.1)),
    "set": lambda: (m := free(), SET(m, 0.1, every=20)),
    "rigl": lambda: (m := free(), RigL(m, 0.1, every=20)),
    "pruning": lambda: (m := dense(), MagnitudePruning(m, 0.1, list(PS), prune_at=100)),
}


@pytest.mark.parametrize("method", METHODS)
def test_reaches_its_budget_and_learns(method):
    images, labels = data()
    model, optimizer = METHODS[method]()
    before = accuracy(model, images, labels)
    history = train(model, optimizer, images, labels, batch_size=10, epochs=5)
    assert connectivity_of(model) == pytest.approx(NOMINAL, abs=1e-12)
    assert accuracy(model, images, labels) > max(0.8, before)
    assert history[-1]["loss"] < history[0]["loss"]


def test_fixed_wiring_is_fixed_and_set_moves():
    images, labels = data()
    for method, moves in (("fixed", False), ("set", True), ("rigl", True)):
        model, optimizer = METHODS[method]()
        before = model[0].index.clone()
        train(model, optimizer, images, labels, batch_size=10, epochs=1)
        assert torch.equal(before, model[0].index) != moves
        assert (np.diff(model[0].index.numpy()) > 0).all()


def test_set_drops_the_smallest():
    layer = FreeSparseLinear(20, 10, budget=40)
    optimizer = SET(layer, lr=0.0, fraction=0.25, every=1)
    order = layer.value.detach().abs().argsort()
    survivors = set(layer.index[order[10:]].tolist())
    layer(torch.ones(1, 20)).sum().backward()
    optimizer.step()
    assert survivors <= set(layer.index.tolist())
    assert int((layer.value == 0).sum()) == optimizer.total_rewired == 10


def test_rigl_grows_where_the_dense_gradient_is_largest():
    torch.manual_seed(0)
    layer = FreeSparseLinear(20, 10, budget=40, dtype=torch.float64)
    x, probe = torch.randn(7, 20, dtype=torch.float64), torch.randn(7, 10, dtype=torch.float64)
    optimizer = RigL(layer, lr=0.0, fraction=0.25, every=1)
    kept = set(layer.index[layer.value.detach().abs().argsort()[10:]].tolist())
    (layer(x) * probe).sum().backward()
    optimizer.step()
    size = (probe.T @ x).abs().flatten()
    size[list(kept)] = -1
    assert set(layer.index.tolist()) - kept == set(size.topk(10).indices.tolist())
    with pytest.raises(RuntimeError, match="forward and backward"):
        optimizer.step()


def test_pruned_weights_stay_zero():
    images, labels = data()
    model, optimizer = METHODS["pruning"]()
    train(model, optimizer, images, labels, batch_size=10, epochs=1)
    assert connectivity_of(model) == 1.0
    train(model, optimizer, images, labels, batch_size=10, epochs=1)
    assert [int(m.weight.count_nonzero()) for m in (model[0], model[2])] == [128, 80]


def test_l1_shrinkage_makes_exact_zeros_and_overshoots_less_with_more():
    images, labels = data()
    measured = []
    for l1 in (0.0, 3e-3, 1e-2):
        model = dense()
        train(model, L1Shrinkage(model, 0.1, l1), images, labels, batch_size=10, epochs=5)
        measured.append(connectivity_of(model))
    assert measured[0] == 1.0
    assert measured[0] > measured[1] > measured[2] > 0


def test_l1_step_is_the_proximal_map():
    model = torch.nn.Linear(3, 1, bias=False)
    model.weight.data = torch.tensor([[0.5, -0.05, -0.4]])
    model.weight.grad = torch.zeros(1, 3)
    L1Shrinkage(model, 0.5, 0.2).step()
    torch.testing.assert_close(model.weight.data, torch.tensor([[0.4, 0.0, -0.3]]))


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: FixedRandom(dense(), 0.1), "FreeSparseLinear layers, found none"),
        (lambda: SET(free(), 0.1, fraction=1.0), "fraction must be in"),
        (lambda: SET(free(), 0.1, every=0), "every must be an integer >= 1, got 0"),
        (lambda: MagnitudePruning(dense(), 0.1, [0.1], 5), "must have 2 entries, got 1"),
        (lambda: L1Shrinkage(dense(), 0.1, -1.0), "l1 must be finite and >= 0, got -1.0"),
        (lambda: connectivity_of(torch.nn.ReLU()), "found none"),
    ],
)
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
