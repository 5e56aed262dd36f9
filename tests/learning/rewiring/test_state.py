"""A state is loaded whole or not at all: what is refused leaves the layer as it was."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from eventbook.learning.rewiring.deep_r import DeepR, GlobalDeepR, sparsify
from eventbook.learning.rewiring.soft_linear import SoftSparseLinear
from eventbook.learning.rewiring.sparse_linear import FreeSparseLinear, SparseLinear

KINDS = [SparseLinear, FreeSparseLinear]


def contents(module):
    """Everything a module consists of, and the tensors themselves."""
    own = [*module.parameters(), *module.buffers()]
    return [id(t) for t in own], [t.detach().clone() for t in own], module.state_dict()["_extra_state"]


def assert_untouched(module, before):
    (ids, values, extra), (ids_before, values_before, extra_before) = contents(module), before
    assert ids == ids_before
    assert extra == extra_before
    assert all(torch.equal(a, b) for a, b in zip(values, values_before, strict=True))


def without(state, *keys):
    return {k: v for k, v in state.items() if k not in keys}


def spoil(state, **changes):
    return {**state, **changes}


BAD = {
    "larger": (
        lambda kind, s: kind(784, 300, budget=40, bias=True).state_dict(),
        "must be that of a layer with",
    ),
    "transposed": (lambda kind, s: kind(9, 12, budget=20, bias=True).state_dict(), "in_features 12, got 9"),
    "negative": (lambda kind, s: spoil(s, index=s["index"] - 10**6), r"index must be in 0\.\.107, got -"),
    "beyond": (lambda kind, s: spoil(s, index=s["index"] + 100), r"index must be in 0\.\.107, got 1"),
    "falls": (lambda kind, s: spoil(s, index=s["index"].flip(0)), "index must ascend, got"),
    "int32": (lambda kind, s: spoil(s, index=s["index"].int()), "index must be a vector of int64"),
    "meta": (lambda kind, s: spoil(s, index=s["index"].to("meta")), "index must be on the CPU"),
    "no index": (lambda kind, s: without(s, "index"), "must both be tensors, got NoneType for .*index"),
    "no values": (lambda kind, s: without(s, "theta", "value"), "must both be tensors, got NoneType for"),
    "fewer values": (
        lambda kind, s: spoil(s, **{k: s[k][:3] for k in ("theta", "value") if k in s}),
        "must have one entry per entry of .*index, 20, got shape",
    ),
    "longer, bias wrong": (
        lambda kind, s: spoil(kind(12, 9, budget=33, bias=True, seed=5).state_dict(), bias=torch.zeros(4)),
        "size mismatch for .*bias",
    ),
    "no bias": (lambda kind, s: without(s, "bias"), "Missing key.*bias"),
    "more": (lambda kind, s: spoil(s, more=torch.zeros(3)), "Unexpected key.*more"),
    "no extra": (lambda kind, s: without(s, "_extra_state"), "Missing key.*_extra_state"),
    "extra of another kind": (
        lambda kind, s: spoil(s, _extra_state={"seed": 1}),
        "_extra_state must have seed",
    ),
    "extra no mapping": (lambda kind, s: spoil(s, _extra_state=7), "_extra_state must have seed.*got int"),
    "seed": (
        lambda kind, s: spoil(s, _extra_state={**s["_extra_state"], "seed": -1}),
        "seed must be an integer",
    ),
}


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", BAD)
def test_refused_and_untouched(fault, kind, assign):
    make, message = BAD[fault]
    layer = kind(12, 9, budget=20, bias=True, seed=1)
    layer(torch.rand(3, 12)).sum().backward()
    state = make(kind, kind(12, 9, budget=20, bias=True, seed=2).state_dict())
    before = contents(layer)
    with pytest.raises((ValueError, RuntimeError), match=message):
        layer.load_state_dict(state, assign=assign)
    assert_untouched(layer, before)
    assert layer.values.grad is not None
    layer(torch.rand(3, 12))


@pytest.mark.parametrize("fault", [f for f in BAD if f not in ("no bias", "more", "no extra")])
def test_inside_a_network_the_layer_stays_as_well(fault):
    make, message = BAD[fault]
    net = nn.Sequential(SparseLinear(12, 9, budget=20, bias=True, seed=1))
    state = make(SparseLinear, SparseLinear(12, 9, budget=20, bias=True, seed=2).state_dict())
    before = contents(net[0])
    with pytest.raises((ValueError, RuntimeError), match=message):
        net.load_state_dict({f"0.{key}": value for key, value in state.items()})
    assert_untouched(net[0], before)


def test_the_complaint_names_the_layer_of_the_network():
    net = nn.Sequential(SparseLinear(12, 9, budget=20), nn.ReLU(), SparseLinear(9, 5, budget=20))
    state = net.state_dict()
    state["2.index"] = state["2.index"].flip(0)
    with pytest.raises(ValueError, match=r"2\.index must ascend"):
        net.load_state_dict(state)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("assign", [False, True])
def test_a_part_of_a_state_is_taken_on_request(kind, assign):
    layer, other = kind(12, 9, budget=20, bias=True, seed=1), kind(12, 9, budget=33, bias=True, seed=2)
    with torch.no_grad():
        layer.bias += 1
    found = layer.load_state_dict(without(other.state_dict(), "bias"), strict=False, assign=assign)
    assert found.missing_keys == ["bias"]
    assert layer.bias.tolist() == [1.0] * 9
    x = torch.rand(3, 12)
    torch.testing.assert_close(layer(x), other(x) + 1)


def test_a_state_of_another_kind_of_layer():
    layer = SparseLinear(12, 9, budget=20)
    before = contents(layer)
    with pytest.raises((ValueError, RuntimeError), match="theta"):
        layer.load_state_dict(FreeSparseLinear(12, 9, budget=20).state_dict())
    assert_untouched(layer, before)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda s: spoil_extra(s, target=1.5), r"target of _extra_state must be in \(0, 1\), got 1.5"),
        (lambda s: spoil_extra(s, seed=0.5), "seed must be an integer"),
        (lambda s: {**s, "_extra_state": {"seed": 1}}, "_extra_state must have seed, target"),
        (lambda s: {**s, "theta": torch.zeros(3, 4)}, "size mismatch for theta"),
        (lambda s: without(s, "bias"), "Missing key"),
    ],
)
def test_a_soft_layer_stays_as_well(spoil, message):
    layer = SoftSparseLinear(12, 9, connectivity=0.3, bias=True, seed=1)
    before = contents(layer)
    state = SoftSparseLinear(12, 9, connectivity=0.5, bias=True, seed=2).state_dict()
    with pytest.raises((ValueError, RuntimeError), match=message):
        layer.load_state_dict(spoil(state))
    assert_untouched(layer, before)


def spoil_extra(state, **changes):
    return {**state, "_extra_state": {**state["_extra_state"], **changes}}


# ---- matrices of other modules ----


def sparse_lstm(seed=0):
    torch.manual_seed(seed)
    return sparsify(nn.LSTM(6, 8), connectivity=0.2, seed=seed)


PLACE = "parametrizations.weight_ih_l0."


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: {PLACE + "0.index": s[PLACE + "0.index"] + 1000}, r"0\.index must be in 0\.\.191"),
        (lambda s: {PLACE + "0.index": s[PLACE + "0.index"].flip(0)}, r"0\.index must ascend"),
        (
            lambda s: {PLACE + "original": s[PLACE + "original"][:5]},
            r"original must have one entry per entry",
        ),
        (
            lambda s: {PLACE + "0._extra_state": {"seed": 1, "shape": [6, 32]}},
            r"shape \[32, 6\], got \[6, 32\]",
        ),
        (lambda s: {PLACE + "original": None}, "must both be tensors"),
    ],
)
def test_a_sparsified_module_stays_as_it_was(change, message):
    lstm, state = sparse_lstm(), sparse_lstm(3).state_dict()
    before = [t.detach().clone() for t in (*lstm.parameters(), *lstm.buffers())]
    with pytest.raises(ValueError, match=message):
        lstm.load_state_dict({**state, **change(state)})
    now = [*lstm.parameters(), *lstm.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, now, strict=True))


def test_a_sparsified_module_resumes_after_its_connections_have_moved():
    """With one budget for all matrices their numbers of connections differ from those of a fresh module."""

    def run(net, optimizer, steps):
        for step in range(steps):
            x = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            net(x)[0].square().mean().backward()
            optimizer.step()

    net = sparse_lstm()
    optimizer = GlobalDeepR(net, 0.1, l1=1e-2, temperature=1e-3)
    fresh = optimizer.active()
    run(net, optimizer, 20)
    assert optimizer.active() != fresh
    again = sparse_lstm(3)
    resumed = GlobalDeepR(again, 0.1)
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    again.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    assert resumed.active() == optimizer.active()
    for pair in ((net, optimizer), (again, resumed)):
        run(*pair, 10)
    for a, b in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


# ---- optimisers ----


def optimizer_of(kind):
    net = nn.Sequential(SparseLinear(12, 9, budget=20), nn.ReLU(), SparseLinear(9, 5, budget=20))
    return kind(net, 0.1, gdnoise=0.01, seed=3)


@pytest.mark.parametrize(
    "kind, change, message",
    [
        (DeepR, lambda own: {**own, "more": 1}, "must come from DeepR, with seed, steps, rewired"),
        (GlobalDeepR, lambda own: without(own, "score"), "must come from GlobalDeepR"),
        (GlobalDeepR, lambda own: {**own, "score": [20.0]}, "score must be the connections of 2 layers"),
        (
            GlobalDeepR,
            lambda own: {**own, "score": [20.0, 1e9]},
            "score must be the connections of 2 layers, 153",
        ),
        (
            GlobalDeepR,
            lambda own: {**own, "score": [20.0, np.nan]},
            "score must be the connections of 2 layers",
        ),
        (GlobalDeepR, lambda own: {**own, "score": [40.0, 0.0]}, "score must be the connections of 2 layers"),
        (DeepR, lambda own: {**own, "seed": 0.5}, "seed must be an integer"),
    ],
)
def test_an_optimiser_keeps_its_state_if_another_is_refused(kind, change, message):
    optimizer, other = optimizer_of(kind), optimizer_of(kind)
    other.param_groups[0]["lr"] = 0.7
    state = other.state_dict()
    state["rewiring"] = change(state["rewiring"])
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    assert optimizer.state_dict() == before
