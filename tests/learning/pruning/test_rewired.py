"""Deep Rewiring on the kernels that pruning would prune: count fixed, places chosen while training."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from eventbook.learning import DeepR, other_parameters
from eventbook.learning.pruning.rewired import connection_masks, rewire, settle
from eventbook.learning.pruning.weights import recurrent_weights
from eventbook.learning.rewiring.deep_r import sparse_connections
from eventbook.learning.rewiring.sparsify import SparseWeight
from eventbook.models.decay import matrices_decay
from eventbook.models.egru import EGRU

MODELS = {
    "egru": lambda: EGRU(5, (7, 9), threshold=0.05),
    "gru": lambda: nn.GRU(5, 9, 2),
    "lstm": lambda: nn.LSTM(5, 9),
}


def train(model, optimizers, steps):
    for step in range(steps):
        x = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(step))
        model.zero_grad()
        loss = (model(x)[0] - 0.3).square().mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("kind", MODELS)
def test_connections_move_and_their_count_does_not(kind):
    torch.manual_seed(0)
    model = MODELS[kind]()
    names = [weight.name for weight in recurrent_weights(model)]
    sizes = [model.get_parameter(name).numel() for name in names]
    assert rewire(model, 0.8, seed=3) is model
    before = connection_masks(model)
    assert list(before) == names
    budget = [size - round(0.8 * size) for size in sizes]
    assert [int(mask.sum()) for mask in before.values()] == budget
    rest = torch.optim.AdamW(other_parameters(model), 1e-2)
    deep = DeepR(model, lr=0.05, l1=1e-3, temperature=1e-3, seed=1)
    train(model, (deep, rest), 40)
    after = connection_masks(model)
    assert deep.active() == [int(mask.sum()) for mask in after.values()] == budget
    assert any(not torch.equal(after[name], before[name]) for name in names)
    assert deep.total_rewired > 0


def test_it_learns():
    torch.manual_seed(0)
    model = rewire(EGRU(5, 16, threshold=0.05), 0.7)
    optimizers = DeepR(model, lr=0.2), torch.optim.AdamW(other_parameters(model), 1e-2)
    first = train(model, optimizers, 1)
    assert train(model, optimizers, 100) < 0.7 * first


def test_only_what_was_chosen_is_rewired():
    torch.manual_seed(0)
    model = EGRU(5, (7, 9))
    rewire(model, 0.5, recurrent_weights(model, inputs=False))
    assert list(connection_masks(model)) == ["cells.0.recurrent_kernel", "cells.1.recurrent_kernel"]
    assert "cells.0.kernel" in dict(model.named_parameters())


def test_a_unit_hears_as_much_as_before():
    torch.manual_seed(0)
    model = EGRU(300, 300)
    before = {w.name: model.get_parameter(w.name).detach().square().sum() for w in recurrent_weights(model)}
    rewire(model, 0.9)
    for name, total in before.items():
        now = getattr(model.cells[0], name.rpartition(".")[2]).detach()
        assert now.square().sum() / total == pytest.approx(1, rel=0.05)
        assert 0.45 < float((now[now != 0] > 0).float().mean()) < 0.55


def test_seeds_name_places_signs_and_values():
    dense = [EGRU(5, 7, generator=torch.Generator().manual_seed(0)) for _ in range(3)]
    one, same, other = (rewire(m, 0.5, seed=s).cells[0] for m, s in zip(dense, (0, 0, 1), strict=True))
    assert torch.equal(one.recurrent_kernel, same.recurrent_kernel)
    assert not torch.equal(one.recurrent_kernel, other.recurrent_kernel)


@pytest.mark.parametrize("kind", MODELS)
def test_settled_weights_are_dense_parameters_under_masks(kind):
    torch.manual_seed(0)
    model = rewire(MODELS[kind](), 0.8)
    train(model, (DeepR(model, lr=0.05, l1=1e-3),), 5)
    x = torch.randn(4, 2, 5)
    said, expected = model(x)[0].detach(), connection_masks(model)
    masks = settle(model)
    assert not any(isinstance(module, SparseWeight) for module in model.modules())
    assert torch.equal(model(x)[0], said)
    assert all(torch.equal(mask, expected[name]) for name, mask in masks.items())
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    masks.hold(optimizer)
    train(model, (optimizer,), 3)
    for name, mask in masks.items():
        assert (model.get_parameter(name)[~mask] == 0).all()
        assert not torch.equal(model.get_parameter(name), said)
    with pytest.raises(ValueError, match="model must have rewired parameters, found none"):
        settle(model)


@pytest.mark.parametrize("kind", MODELS)
def test_copies_do_not_notice_that_a_model_is_settled(kind):
    torch.manual_seed(0)
    model = rewire(MODELS[kind](), 0.8)
    copy, x = deepcopy(model), torch.randn(4, 2, 5)
    said = model(x)[0].detach()
    settle(model)
    assert torch.equal(copy(x)[0], said)
    train(copy, (DeepR(copy, lr=0.05, l1=1e-3),), 2)
    assert torch.equal(model(x)[0], said)
    settle(copy)
    assert type(copy) is type(model)
    assert not any(isinstance(module, SparseWeight) for module in copy.modules())


def test_a_state_goes_round():
    torch.manual_seed(0)
    one, other = rewire(EGRU(5, 9), 0.5, seed=1), rewire(EGRU(5, 9), 0.5, seed=2)
    train(one, (DeepR(one, lr=0.05, l1=1e-3),), 5)
    other.load_state_dict(one.state_dict())
    x = torch.randn(4, 2, 5)
    assert torch.equal(one(x)[0], other(x)[0])


@pytest.mark.parametrize(
    "sparsity, weights, complaint",
    [
        (1.5, None, r"sparsity must be in \[0, 1\], got 1.5"),
        (1.0, None, "sparsity must leave a connection in 'cells.0.kernel', got 1.0"),
        (0.5, ["cells.0.bias"], "weights must have two axes or more to be rewired, got 'cells.0.bias'"),
        (0.5, ["cells.3.kernel"], "weights must name parameters of the model, got 'cells.3.kernel'"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(sparsity, weights, complaint):
    model = EGRU(3, 4)
    with pytest.raises(ValueError, match=complaint):
        rewire(model, sparsity, weights)
    assert connection_masks(model) == {}


def test_connections_do_not_decay():
    """Control: the matrices that they take the place of did."""
    model = MODELS["egru"]()
    dense, _ = matrices_decay(model, 0.1, 0.5)
    assert len(dense["params"]) == 4
    rewire(model, 0.7, ["cells.0.kernel", "cells.1.recurrent_kernel"])
    thetas = {id(connections.theta) for connections in sparse_connections(model)}
    assert len(thetas) == 2
    matrices, vectors = matrices_decay(model, 0.1, 0.5)
    assert len(matrices["params"]) == 2
    assert not thetas & {id(parameter) for parameter in matrices["params"]}
    assert thetas <= {id(parameter) for parameter in vectors["params"]}
