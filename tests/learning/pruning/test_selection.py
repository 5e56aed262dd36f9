"""Masks are exact in count, ties included, and those of torch where there are none."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune as torch_prune

from eventbook.learning.pruning.selection import magnitude_masks, random_masks
from eventbook.learning.pruning.weights import SCOPES, chosen, parts
from eventbook.models.egru import EGRU

MODELS = {
    "egru": lambda: EGRU(5, (7, 9), generator=torch.Generator().manual_seed(0)),
    "gru": lambda: nn.GRU(5, 7, 2),
    "lstm": lambda: nn.LSTM(5, 7, 2),
}


def model_of(kind, levels=0):
    """A network; with `levels` its weights are quantised, so that many are equal."""
    torch.manual_seed(0)
    model = MODELS[kind]()
    if levels:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(levels / parameter.abs().max().clamp(min=1e-9)).round_()
    return model


def counts(model, masks, scope):
    weights, _ = chosen(model, None)
    return [
        (sum(v.numel() for v in views), sum(int((~v).sum()) for v in views))
        for _, views in parts(weights, masks, scope)
    ]


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(sorted(MODELS)), st.floats(0, 1), st.sampled_from(SCOPES), st.sampled_from([0, 1, 3]))
def test_each_scope_loses_exactly_its_share(kind, sparsity, scope, levels):
    model = model_of(kind, levels)
    for masks in (magnitude_masks(model, sparsity, scope), random_masks(model, sparsity, scope)):
        for size, gone in counts(model, masks, scope):
            assert gone == round(sparsity * size)


@pytest.mark.parametrize("scope", SCOPES)
def test_what_stays_is_no_smaller_than_what_goes(scope):
    model = model_of("egru")
    masks = magnitude_masks(model, 0.6, scope)
    weights, parameters = chosen(model, None)
    values = parts(weights, {n: p.abs() for n, p in parameters.items()}, scope)
    for (_, of), (_, kept) in zip(values, parts(weights, masks, scope), strict=True):
        flat, stays = torch.cat([v.reshape(-1) for v in of]), torch.cat([m.reshape(-1) for m in kept])
        assert flat[stays].min() >= flat[~stays].max()


def test_of_equal_weights_the_first_go():
    model = nn.GRU(4, 4)
    with torch.no_grad():
        model.weight_hh_l0.fill_(0.5)
        model.weight_hh_l0[0, 0] = -0.1
    mask = magnitude_masks(model, 0.25, weights=["weight_hh_l0"])["weight_hh_l0"]
    expected = torch.ones(12, 4, dtype=torch.bool)
    expected.view(-1)[:12] = False
    assert torch.equal(mask, expected)


def test_a_threshold_fails_on_ties():
    """The control: the k-th smallest magnitude as a threshold, as pruning is often written."""
    model = model_of("gru", levels=3)
    weight = model.weight_hh_l0.detach()
    k = round(0.5 * weight.numel())
    threshold = weight.abs().flatten().kthvalue(k).values
    above, from_it_on = int((weight.abs() <= threshold).sum()), int((weight.abs() < threshold).sum())
    assert above > k > from_it_on  # too many, or too few
    assert int((~magnitude_masks(model, 0.5)["weight_hh_l0"]).sum()) == k


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9, 1.0])
def test_without_ties_masks_are_those_of_torch(sparsity):
    model = model_of("lstm")
    masks = magnitude_masks(model, sparsity)
    everywhere = magnitude_masks(model, sparsity, "global")
    for name, mask in masks.items():
        k = round(sparsity * mask.numel())
        other = torch_prune.L1Unstructured(k).compute_mask(
            model.get_parameter(name).detach(), torch.ones(mask.shape)
        )
        assert torch.equal(mask, other.bool()), name
    total = round(sparsity * sum(m.numel() for m in masks.values()))
    names = [(model, name) for name in masks]
    torch_prune.global_unstructured(names, torch_prune.L1Unstructured, amount=total)
    for name, mask in everywhere.items():
        assert torch.equal(mask, getattr(model, name + "_mask").bool()), name


def test_scopes_give_different_networks():
    model = model_of("egru")
    with torch.no_grad():
        model.cells[1].kernel.mul_(0.1)
        model.cells[0].kernel[:, :7].mul_(0.1)
    found = [magnitude_masks(model, 0.8, scope) for scope in SCOPES]
    for one, other in pairwise(found):
        assert any(not torch.equal(one[name], other[name]) for name in one)


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(SCOPES), st.integers(0, 9))
def test_what_is_gone_stays_gone(first, second, scope, seed):
    low, high = sorted((first, second))
    model, generator = model_of("egru", levels=2), torch.Generator().manual_seed(seed)
    before = random_masks(model, low, scope, generator=generator)
    for masks in (
        magnitude_masks(model, high, scope, within=before),
        random_masks(model, high, scope, within=before),
    ):
        assert all(bool((~masks[name] | before[name]).all()) for name in masks)
        assert all(gone == round(high * size) for size, gone in counts(model, masks, scope))


def test_random_masks_follow_their_generator():
    model = model_of("gru")
    one, again = (random_masks(model, 0.5, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    other = random_masks(model, 0.5, generator=torch.Generator().manual_seed(4))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_model_is_left_as_it_is():
    model = model_of("egru")
    before = {name: p.clone() for name, p in model.state_dict().items()}
    magnitude_masks(model, 0.9)
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


@pytest.mark.parametrize("sparsity", [-0.1, 1.01, math.nan])
def test_a_sparsity_that_is_no_share_is_refused(sparsity):
    for make in (magnitude_masks, random_masks):
        with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\], got"):
            make(nn.GRU(3, 4), sparsity)


def test_other_bad_input_is_refused():
    model = nn.GRU(3, 4)
    with pytest.raises(ValueError, match="scope must be one of matrix, gate, layer, global, got 'row'"):
        magnitude_masks(model, 0.5, "row")
    some = magnitude_masks(model, 0.5)
    with pytest.raises(
        ValueError, match=r"sparsity must not fall below that of the masks within, 0.5 in 'we"
    ):
        magnitude_masks(model, 0.25, within=some)
    with pytest.raises(TypeError, match="masks must be bool, got float32 for 'weight_hh_l0'"):
        magnitude_masks(model, 0.5, within={"weight_hh_l0": torch.ones(12, 4)})
    with pytest.raises(ValueError, match="within must name parameters of the model, got 'weight_hh_l9'"):
        magnitude_masks(model, 0.5, within={"weight_hh_l9": torch.ones(12, 4, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"their parameters, \(12, 4\) for 'weight_hh_l0', got \(4, 12\)"):
        magnitude_masks(model, 0.5, within={"weight_hh_l0": some["weight_hh_l0"].t()})
    with torch.no_grad():
        model.weight_hh_l0[2, 2] = math.nan
    with pytest.raises(ValueError, match=r"model must have finite weights .* got others in 'weight_hh_l0'"):
        magnitude_masks(model, 0.5)
