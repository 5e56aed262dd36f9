"""Weight decay in e-folds: what a run without gradients does, step by step and in all."""

import math

import pytest
import torch
from torch import nn

from eventbook.learning.pruning.decay import DecayMeter, efolds, shrinkage


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_without_a_gradient_weights_shrink_by_the_product(kind):
    weight = nn.Parameter(torch.randn(50, dtype=torch.float64))
    before = weight.detach().clone()
    optimizer = kind([weight], lr=0.02, weight_decay=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    meter, rates = DecayMeter(optimizer), []
    for _ in range(200):
        weight.grad = torch.zeros_like(weight)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    expected = before * shrinkage(rates, 0.3)
    assert float((weight.detach() / expected - 1).abs().max()) <= 1e-12
    assert meter.shrinkage[0] == pytest.approx(shrinkage(rates, 0.3), rel=1e-12)
    assert meter.efolds[0] == pytest.approx(efolds(rates, 0.3), rel=1e-12)
    assert shrinkage(rates, 0.3) == pytest.approx(math.exp(-meter.efolds[0]), rel=0.01)
    assert efolds([0.02] * 200, 0.3) > meter.efolds[0]  # control: a constant rate is another run


def test_an_l2_term_has_no_such_law():
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.Adam([weight], lr=0.02, weight_decay=0.3)
    for _ in range(20):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    assert abs(float(weight.detach()) / shrinkage([0.02] * 20, 0.3) - 1) > 0.1
    for other in (optimizer, torch.optim.SGD([weight], 0.1, momentum=0.9, weight_decay=0.1)):
        with pytest.raises(TypeError, match="optimizer must shrink weights by 1 - lr weight_decay"):
            DecayMeter(other)


def test_each_group_has_its_own_and_counting_can_stop():
    weights = [nn.Parameter(torch.ones(1)) for _ in range(3)]
    optimizer = torch.optim.AdamW(
        [{"params": weights[:1], "weight_decay": 0.0}, {"params": weights[1:2]}], 0.1
    )
    meter = DecayMeter(optimizer)
    optimizer.step()
    optimizer.add_param_group({"params": weights[2:], "weight_decay": 1.0})
    optimizer.step()
    assert meter.efolds == pytest.approx([0.0, 2 * 0.1 * 0.01, 0.1])
    meter.release()
    optimizer.step()
    assert meter.efolds == pytest.approx([0.0, 2 * 0.1 * 0.01, 0.1])


def test_the_runs_that_the_text_compares():
    paper = [1.2e-3] * 700 + [1.2e-3 * (1 + math.cos(math.pi * k / 300)) / 2 for k in range(300)]
    windows = 929_589 // (64 * 70)  # of an epoch of Penn Treebank
    assert efolds(paper, 0.10) * windows == pytest.approx(22, rel=0.1)


@pytest.mark.parametrize(
    "lr, weight_decay, complaint",
    [
        ([-0.1], 0.1, "lr must be >= 0 and finite, got -0.1"),
        ([0.1, math.inf], 0.1, "lr must be >= 0 and finite, got inf"),
        ([0.1], -1.0, "weight_decay must be >= 0 and finite, got -1.0"),
        ([0.1], math.nan, "weight_decay must be >= 0 and finite, got nan"),
    ],
)
def test_numbers_that_are_none_are_refused(lr, weight_decay, complaint):
    for law in (efolds, shrinkage):
        with pytest.raises(ValueError, match=complaint):
            law(lr, weight_decay)
