"""Each baseline reaches its budget, learns, and does what distinguishes it."""

import numpy as np
import pytest
import torch
from scipy import stats

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
from eventbook.learning.rewiring.soft_linear import SoftSparseLinear
from eventbook.learning.rewiring.sparse_linear import FreeSparseLinear, SparseLinear

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


def test_rigl_grows_by_the_sum_of_all_uses_of_a_shared_layer():
    torch.manual_seed(0)
    layer = FreeSparseLinear(10, 10, budget=40, dtype=torch.float64)
    xs = [torch.randn(7, 10, dtype=torch.float64) for _ in range(2)]
    probes = [torch.randn(7, 10, dtype=torch.float64) for _ in range(2)]
    optimizer = RigL(layer, lr=0.0, fraction=0.25, every=1)
    kept = set(layer.index[layer.value.detach().abs().argsort()[10:]].tolist())
    sum((layer(x) * probe).sum() for x, probe in zip(xs, probes, strict=True)).backward()
    optimizer.step()

    def grown(dense):
        size = dense.abs().flatten()
        size[list(kept)] = -1
        return set(size.topk(10).indices.tolist())

    each = [probe.T @ x for x, probe in zip(xs, probes, strict=True)]
    found = set(layer.index.tolist()) - kept
    assert found == grown(sum(each))
    assert found not in (grown(each[0]), grown(each[1]))  # one use alone would grow others


def test_rigl_takes_a_single_example_and_forgets_with_zero_grad():
    layer = FreeSparseLinear(10, 10, budget=40)
    optimizer = RigL(layer, lr=0.0, fraction=0.25, every=1)
    layer(torch.rand(10)).sum().backward()
    assert optimizer._dense[0].shape == (10, 10)
    optimizer.zero_grad()
    assert optimizer._dense == {}


@pytest.mark.parametrize("kind", [SET, RigL])
def test_a_fraction_of_few_connections_may_be_none(kind):
    layer = FreeSparseLinear(5, 5, budget=3)
    optimizer = kind(layer, lr=0.0, fraction=0.3, every=1)
    before = layer.index.clone()
    layer(torch.rand(2, 5)).sum().backward()
    optimizer.step()
    assert torch.equal(layer.index, before)
    assert optimizer.total_rewired == 0


@pytest.mark.parametrize("kind", [SET, RigL])
def test_torch_notices_new_connections(kind):
    layer = FreeSparseLinear(10, 10, budget=40)
    optimizer = kind(layer, lr=0.0, fraction=0.25, every=1)
    layer(torch.rand(3, 10)).sum().backward()
    old = layer(torch.rand(3, 10)).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        old.backward()


def test_replacements_come_every_nth_step_and_differ_between_layers_and_steps():
    def rewired(seed, every=2, steps=4):
        net = torch.nn.Sequential(FreeSparseLinear(12, 12, budget=40), FreeSparseLinear(12, 12, budget=40))
        net[1].load_state_dict(net[0].state_dict())
        optimizer = SET(net, lr=0.0, fraction=0.5, every=every, seed=seed)
        counts, wirings = [], []
        for _ in range(steps):
            optimizer.zero_grad()
            net(torch.ones(2, 12)).sum().backward()
            optimizer.step()
            counts.append(optimizer.total_rewired)
            wirings.append([layer.index.clone() for layer in net])
        return counts, wirings

    counts, wirings = rewired(0)
    assert counts == [0, 40, 40, 80]
    assert not torch.equal(*wirings[1])  # the same layer twice, another lottery each
    assert not torch.equal(wirings[1][0], wirings[3][0])
    assert torch.equal(wirings[1][0], wirings[2][0])
    assert not torch.equal(wirings[1][0], rewired(1)[1][1][0])
    assert torch.equal(wirings[1][0], rewired(0)[1][1][0])


def test_set_draws_uniformly_from_all_dormant_connections():
    counts = np.zeros(36, int)
    for seed in range(400):
        layer = FreeSparseLinear(6, 6, budget=12)
        with torch.no_grad():
            layer.value.copy_(torch.arange(1, 13))
        kept = layer.index[3:].clone()
        optimizer = SET(layer, lr=0.0, fraction=0.25, every=1, seed=seed)
        layer(torch.ones(1, 6)).sum().backward()
        optimizer.step()
        assert set(kept.tolist()) <= set(layer.index.tolist())
        counts[np.setdiff1d(layer.index.numpy(), kept.numpy())] += 1
    dormant = np.setdiff1d(np.arange(36), kept.numpy())
    assert counts[dormant].sum() == 1200
    assert stats.chisquare(counts[dormant]).pvalue > 1e-4


def test_l1_that_is_no_number():
    with pytest.raises(ValueError, match="l1 must be finite"):
        L1Shrinkage(dense(), 0.1, float("nan"))


def test_rigl_forms_a_dense_gradient_on_the_steps_that_replace_and_on_no_other():
    layer = FreeSparseLinear(10, 10, budget=40)
    optimizer = RigL(layer, lr=0.0, fraction=0.25, every=3)
    for step in range(6):
        optimizer.zero_grad()
        layer(torch.rand(2, 10)).sum().backward()
        assert (optimizer._dense != {}) == (step in (2, 5))
        with torch.no_grad():
            layer(torch.rand(2, 10))  # nothing to listen to
        optimizer.step()
    assert optimizer.total_rewired == 20


def test_pruning_keeps_the_largest_whatever_their_sign():
    model = torch.nn.Linear(4, 1, bias=False)
    model.weight.data = torch.tensor([[0.5, -3.0, 1.0, -0.1]])
    model.weight.grad = torch.zeros(1, 4)
    MagnitudePruning(model, 0.1, [0.5], prune_at=1).step()
    assert model.weight.tolist() == [[0.0, -3.0, 1.0, 0.0]]


def test_connectivity_counts_what_takes_a_place():
    signed, soft = SparseLinear(5, 4, budget=10), SoftSparseLinear(5, 4, connectivity=0.5)
    with torch.no_grad():
        signed.theta[:3], signed.theta[3] = -1.0, 0.0
        soft.theta[:] = -1.0
        soft.theta[0, :3] = torch.tensor([0.0, 1.0, 2.0])
    assert connectivity_of(signed) == 7 / 20  # a newborn at 0 counts
    assert connectivity_of(soft) == 2 / 20  # what is at 0 does not, in the soft rule
    assert connectivity_of(FreeSparseLinear(5, 4, budget=10)) == 10 / 20
    assert connectivity_of(torch.nn.Sequential(signed, soft)) == 9 / 40
