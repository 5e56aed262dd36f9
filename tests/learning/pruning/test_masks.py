"""Masks hold: pruned weights stay exactly 0 under every optimiser, and nothing else is touched."""

import copy
import math

import pytest
import torch
from torch import nn

from eventbook.learning.pruning.masks import Masks, prune
from eventbook.learning.pruning.selection import magnitude_masks
from eventbook.models.egru import EGRU

OPTIMIZERS = {
    "adamw without momentum": lambda p: torch.optim.AdamW(p, 1e-2, betas=(0.0, 0.99), weight_decay=0.5),
    "adam with l2": lambda p: torch.optim.Adam(p, 1e-2, weight_decay=0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.9, weight_decay=0.1),
    "amsgrad, one by one": lambda p: torch.optim.AdamW(p, 1e-2, amsgrad=True, foreach=False),
}
MODELS = {"egru": lambda: EGRU(5, (7, 9), threshold=0.05), "lstm": lambda: nn.LSTM(5, 9, 2)}


def train(model, optimizer, steps, seed=0, clip=None):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(6, 3, 5, generator=generator)
        optimizer.zero_grad()
        (model(x)[0] - 0.5).square().mean().backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_pruned_weights_stay_exactly_zero(kind, make):
    torch.manual_seed(1)
    model = MODELS[kind]()
    optimizer = make(model.parameters())
    train(model, optimizer, 5)  # momentum from before the pruning
    masks = prune(model, 0.8).hold(optimizer)
    before, dense = masks.state_dict(), {n: p.detach().clone() for n, p in model.named_parameters()}
    train(model, optimizer, 20, seed=1)
    for name, mask in masks.items():
        parameter = model.get_parameter(name).detach()
        assert torch.equal(mask, before[name])
        assert (parameter[~mask] == 0).all()
        assert (parameter[mask] != dense[name][mask]).float().mean() > 0.9  # the others learn
        for kept in optimizer.state[model.get_parameter(name)].values():
            if kept.shape == mask.shape:
                assert (kept[~mask] == 0).all()


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_without_the_mask_after_the_step_they_come_back(make):
    """The control: pruned once, trained on."""
    torch.manual_seed(1)
    model = nn.LSTM(5, 9)
    optimizer = make(model.parameters())
    train(model, optimizer, 5)
    masks = prune(model, 0.8)
    train(model, optimizer, 3)
    assert any((model.get_parameter(name)[~mask] != 0).any() for name, mask in masks.items())


def test_kept_weights_are_trained_as_in_a_smaller_network():
    """Masked training is training of what is there: against a parameter that holds those weights alone."""
    torch.manual_seed(0)
    weight = torch.randn(6, 7)
    linear = nn.Linear(7, 6, bias=False)
    with torch.no_grad():
        linear.weight.copy_(weight)
    masks = prune(linear, 0.5, weights=["weight"])
    mask = masks["weight"]
    alone = nn.Parameter(weight[mask].clone())
    options = {"lr": 0.05, "betas": (0.9, 0.99), "weight_decay": 0.3}
    one, other = torch.optim.AdamW([linear.weight], **options), torch.optim.AdamW([alone], **options)
    masks.hold(one)
    for step in range(10):
        x = torch.randn(5, 7, generator=torch.Generator().manual_seed(step))
        scattered = torch.zeros(6, 7).masked_scatter(mask, alone)
        for optimizer, product, parameters in (
            (one, linear(x), [linear.weight]),
            (other, x @ scattered.t(), [alone]),
        ):
            optimizer.zero_grad()
            product.sin().sum().backward()
            torch.nn.utils.clip_grad_norm_(parameters, 0.3)  # sees the same norm
            optimizer.step()
    torch.testing.assert_close(linear.weight.detach()[mask], alone.detach(), rtol=1e-5, atol=1e-6)


def test_gradients_that_were_written_do_not_pass():
    linear = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(linear.parameters(), 1.0, momentum=0.9)
    masks = prune(linear, 0.5, weights=["weight"]).hold(optimizer)
    linear.weight.grad = torch.full((4, 4), math.nan)
    linear.weight.grad[masks["weight"]] = 1.0
    optimizer.step()
    assert linear.weight.isfinite().all()
    assert (optimizer.state[linear.weight]["momentum_buffer"][~masks["weight"]] == 0).all()


def test_weights_that_are_loaded_later_are_masked_at_the_next_step():
    model = nn.LSTM(5, 9)
    full = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    masks = prune(model, 0.8).hold(optimizer)
    model.load_state_dict(full)
    pruned = [(model.get_parameter(name), ~mask) for name, mask in masks.items()]
    assert all(bool(weight[gone].ne(0).all()) for weight, gone in pruned)  # they are back
    train(model, optimizer, 1)
    assert not any(bool(weight[gone].any()) for weight, gone in pruned)


def test_masks_of_two_optimisers():
    model = nn.LSTM(5, 9)
    one = torch.optim.SGD([model.weight_ih_l0], 0.1, momentum=0.9)
    other = torch.optim.Adam([model.weight_hh_l0, model.bias_hh_l0], 0.1)
    masks = prune(model, 0.7).hold(one).hold(other).hold(one)
    for optimizer in (one, other, one):
        train(model, optimizer, 2)
    for name, mask in masks.items():
        assert int(model.get_parameter(name).count_nonzero()) == int(mask.sum())


def test_released_masks_let_go():
    torch.manual_seed(0)
    model = nn.LSTM(5, 9)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    masks = prune(model, 0.7).hold(optimizer)
    masks.release()
    train(model, optimizer, 2)
    assert (model.weight_hh_l0[~masks["weight_hh_l0"]] != 0).any()
    masks.apply()
    masks.hold(optimizer)
    train(model, optimizer, 2)
    assert (model.weight_hh_l0[~masks["weight_hh_l0"]] == 0).all()


def test_replaced_masks_hold_too():
    torch.manual_seed(0)
    model = nn.LSTM(5, 9)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    masks = prune(model, 0.5).hold(optimizer)
    train(model, optimizer, 3)
    masks.replace(magnitude_masks(model, 0.9, within=dict(masks.items())))
    train(model, optimizer, 3)
    assert masks.sparsity() == pytest.approx(0.9, abs=2e-3)
    for name, mask in masks.items():
        parameter = model.get_parameter(name)
        assert (parameter[~mask] == 0).all()
        assert (optimizer.state[parameter]["exp_avg"][~mask] == 0).all()
    model.zero_grad()
    model(torch.ones(4, 2, 5))[0].sum().backward()
    for name, mask in masks.items():  # as they arrive, so that a norm of gradients does not see them
        gradient = model.get_parameter(name).grad
        assert (gradient[~mask] == 0).all()
        assert (gradient[mask] != 0).any()


def test_a_state_goes_round():
    torch.manual_seed(0)
    model = nn.LSTM(5, 9)
    masks = prune(model, 0.8)
    stored = copy.deepcopy(masks.state_dict())
    other = nn.LSTM(5, 9)
    theirs = prune(other, 0.0)
    theirs.load_state_dict(stored)
    assert all(torch.equal(mask, masks[name]) for name, mask in theirs.items())
    assert int(other.weight_hh_l0.count_nonzero()) == int(masks["weight_hh_l0"].sum())
    stored["weight_hh_l0"].fill_(False)  # a copy
    assert theirs["weight_hh_l0"].any()
    with pytest.raises(ValueError, match="state_dict must have masks of weight_ih_l0, weight_hh_l0, got we"):
        theirs.load_state_dict({"weight_hh_l0": masks["weight_hh_l0"]})


def test_shares():
    model = nn.Linear(4, 5)
    mask = torch.zeros(5, 4, dtype=torch.bool)
    mask[0] = True
    masks = Masks(model, {"weight": mask, "bias": torch.ones(5, dtype=torch.bool)})
    assert masks.names == ("weight", "bias")
    assert masks.sparsity("weight") == 0.8
    assert masks.sparsity() == pytest.approx(16 / 25)
    assert Masks(model, {}).sparsity() == 0
    mask.fill_(True)  # the caller's own
    assert masks.sparsity("weight") == 0.8


GOOD = torch.ones(5, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    "masks, error, complaint",
    [
        ({"wait": GOOD}, ValueError, "masks must name parameters of the model, got 'wait', which is none"),
        ({"weight": GOOD.t()}, ValueError, r"their parameters, \(5, 4\) for 'weight', got \(4, 5\)"),
        ({"weight": GOOD.float()}, TypeError, "masks must be bool, got float32 for 'weight'"),
        ({"weight": [True]}, TypeError, "masks must be bool, got list for 'weight'"),
    ],
)
def test_wrong_masks_are_refused_and_change_nothing(masks, error, complaint):
    model = nn.Linear(4, 5)
    before = model.weight.detach().clone()
    with pytest.raises(error, match=complaint):
        Masks(model, masks)
    good = Masks(model, {"weight": GOOD})
    with pytest.raises(error, match=complaint):
        good.replace({"bias": torch.zeros(5, dtype=torch.bool), **masks})
    assert good.names == ("weight",)
    assert torch.equal(model.weight, before)


def test_an_optimiser_of_other_parameters_is_refused():
    with pytest.raises(ValueError, match="optimizer must have a masked parameter, got one that has none"):
        prune(nn.GRU(3, 4), 0.5).hold(torch.optim.SGD(nn.Linear(3, 4).parameters(), 0.1))
