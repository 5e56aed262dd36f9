"""Units that never speak can go without a trace; which go is decided by how often they speak."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from eventbook.learning.pruning.masks import Masks
from eventbook.learning.pruning.units import prune_units, unit_activity
from eventbook.models.egru import EGRU, BetaThreshold, FixedThreshold, SigmoidThreshold

F64 = torch.float64


def network(silent=(), sizes=(11, 8), threshold=0.2, **options):
    """A network of which some units of each layer cannot reach their threshold, and an input."""
    generator = torch.Generator().manual_seed(4)

    def high(units, generator=None):
        theta = torch.full((units,), threshold)
        theta[list(silent)] = 40.0  # above any state
        return FixedThreshold(units, theta)

    model = EGRU(5, sizes, batch_first=True, threshold=high, generator=generator, **options).to(F64)
    with torch.no_grad():
        for cell in model.cells:
            for bias in (cell.bias, cell.recurrent_bias):
                bias.copy_(0.5 * torch.randn(bias.shape, generator=generator, dtype=F64))
    return model, torch.randn(3, 20, 5, generator=generator, dtype=F64)


def test_activity_is_the_share_of_steps():
    model, x = network()
    lengths = torch.tensor([20, 3, 0])
    runs = model.run(x, lengths=lengths), model.run(2 * x)
    for layer, found in enumerate(unit_activity(*runs)):
        spoken = sum((run.layers[layer].output != 0).sum((0, 1)) for run in runs)
        assert torch.equal(found, spoken.double() / (23 + 60))
        assert 0 < float(found.mean()) < 1
    with pytest.raises(ValueError, match="runs must have a run at least, got none"):
        unit_activity()
    with pytest.raises(ValueError, match="runs must be of one network"):
        unit_activity(runs[0], network(sizes=(3,))[0].run(x))


@pytest.mark.parametrize("reset", ["threshold", "value", "none", "paper"])
@pytest.mark.parametrize("gate", ["after", "before"])
def test_dropping_units_that_never_spoke_changes_nothing(reset, gate):
    model, x = network(silent=(0, 4, 5), reset=reset, reset_gate=gate)
    run = model.run(x)
    activity = unit_activity(run)
    never = [int((a == 0).sum()) for a in activity]
    assert all(count >= 3 for count in never)
    pruned = prune_units(model, activity, [count / len(a) for count, a in zip(never, activity, strict=True)])
    assert all(torch.equal(kept, a > 0) for kept, a in zip(pruned.kept, activity, strict=True))
    small = pruned.model.run(x)
    assert pruned.model.hidden_sizes == tuple(len(a) - n for n, a in zip(never, activity, strict=True))
    for layer, kept in enumerate(pruned.kept):
        full, less = run.layers[layer], small.layers[layer]
        torch.testing.assert_close(less.output, full.output[..., kept], rtol=0, atol=1e-12)
        assert less.operations().events == full.operations().events
        assert less.operations().multiply_accumulates < full.operations().multiply_accumulates
    Masks(model, pruned.masks)
    masked = model.run(x)
    for layer, kept in enumerate(pruned.kept):
        assert (masked.layers[layer].voltage[..., ~kept] == 0).all()
        torch.testing.assert_close(masked.layers[layer].output, run.layers[layer].output, rtol=0, atol=1e-12)


def test_masked_and_smaller_networks_agree_whatever_the_dropped_units_said():
    model, x = network()
    before = model(x)[0]
    pruned = prune_units(model, unit_activity(model.run(x)), 0.5)
    assert [int(kept.sum()) for kept in pruned.kept] == [5, 4]  # round(5.5) is 6
    small = pruned.model(x)[0]
    assert (small - before[..., pruned.kept[-1]]).abs().max() > 1e-3  # control: they had said something
    Masks(model, pruned.masks)
    torch.testing.assert_close(small, model(x)[0][..., pruned.kept[-1]], rtol=0, atol=1e-12)


def test_the_least_active_go_and_ties_go_in_order():
    model, _ = network()
    activity = torch.zeros(11), torch.tensor([0.5, 0.1, 0.1, 0.1, 0.9, 0.0, 0.3, 0.2])
    kept = prune_units(model, activity, (0.3, 3 / 8)).kept
    assert (~kept[0]).nonzero().flatten().tolist() == [0, 1, 2]
    assert (~kept[1]).nonzero().flatten().tolist() == [1, 2, 5]


@pytest.mark.parametrize(
    "threshold", [SigmoidThreshold, lambda n, generator=None: BetaThreshold(n, 0.3), 0.1]
)
def test_every_threshold_can_be_cut_and_trained_on(threshold):
    model = EGRU(3, 8, 2, threshold=threshold, dropout=0.3, drop_connect=0.2, dropout_over="sequence")
    pruned = prune_units(model, [torch.arange(8.0)] * 2, 0.25).model
    for cell, full in zip(pruned.cells, model.cells, strict=True):
        assert torch.equal(cell.threshold(), full.threshold()[2:])
        assert cell.threshold.size == cell.hidden_size == 6
        assert [p.requires_grad for p in cell.parameters()] == [p.requires_grad for p in full.parameters()]
    assert (pruned.dropout, pruned.dropout_over, pruned.drop_connect) == (0.3, "sequence", 0.2)
    pruned(torch.randn(4, 2, 3))[0].sum().backward()
    again = EGRU(3, 6, 2, threshold=threshold)
    again.load_state_dict(pruned.state_dict())
    assert model.hidden_sizes == (8, 8)  # left as it was


def test_no_bias_no_mask_of_it():
    model = EGRU(3, 8, bias=False)
    pruned = prune_units(model, [torch.arange(8.0)], 0.5)
    assert set(pruned.masks) == {"cells.0.kernel", "cells.0.recurrent_kernel"}
    assert pruned.model(torch.randn(4, 2, 3))[0].shape == (4, 2, 4)


@pytest.mark.parametrize(
    "activity, fraction, error, complaint",
    [
        ([torch.ones(11)], 0.5, ValueError, "activity must have 2 members, one a layer, got 1"),
        ([torch.ones(11), torch.ones(9)], 0.5, ValueError, r"activity\[1\] must be \(8,\) finite numbers"),
        ([torch.ones(11), torch.full((8,), math.nan)], 0.5, ValueError, r"activity\[1\] must be \(8,\)"),
        ([torch.ones(11), torch.ones(8)], 1.0, ValueError, "fraction must leave a unit of each layer"),
        ([torch.ones(11), torch.ones(8)], -0.1, ValueError, r"fraction must be in \[0, 1\], got -0.1"),
        ([torch.ones(11), torch.ones(8)], (0.5,), ValueError, "fraction must have 2 members, one a layer"),
    ],
)
def test_bad_input_is_refused(activity, fraction, error, complaint):
    with pytest.raises(error, match=complaint):
        prune_units(network()[0], activity, fraction)


def test_other_networks_are_refused():
    with pytest.raises(TypeError, match="model must be an EGRU, got GRU"):
        prune_units(nn.GRU(3, 4), [torch.ones(4)], 0.5)


@pytest.mark.parametrize("of", [list, tuple, np.array, torch.tensor])
def test_shares_of_layers_may_be_any_sequence(of):
    activity = [torch.arange(11.0), torch.arange(8.0)]
    kept = prune_units(network()[0], activity, of([0.5, 0.25])).kept
    assert [int(stays.sum()) for stays in kept] == [11 - round(5.5), 6]
