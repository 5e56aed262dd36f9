"""Norms: torch's as oracles, weights as repetitions, running averages."""

from __future__ import annotations

import pytest
import torch
from event_by_event import relative
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from eventbook.models.event_ssm.norm import EPSILON, MOMENTUM, BatchNorm, LayerNorm


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def with_random_weights(norm):
    norm = norm.double()
    with torch.no_grad():
        norm.weight.copy_(1 + 0.3 * normal(len(norm.weight), seed=1))
        norm.bias.copy_(normal(len(norm.bias), seed=2))
    return norm


def test_layer_norm_is_that_of_torch_and_of_its_equation():
    norm, x = with_random_weights(LayerNorm(5)), 3 + 2 * normal(4, 6, 5)
    assert torch.equal(norm(x), functional.layer_norm(x, (5,), norm.weight, norm.bias, 1e-6))
    assert torch.equal(norm(x, torch.zeros(4, 6)), norm(x))
    mean, variance = x.mean(2, keepdim=True), x.var(2, unbiased=False, keepdim=True)
    expected = norm.weight * (x - mean) / (variance + EPSILON).sqrt() + norm.bias
    assert relative(norm(x), expected) < 1e-14


@given(counts=st.lists(st.integers(0, 4), min_size=2, max_size=9).filter(lambda c: sum(c) > 1))
@settings(max_examples=40, deadline=None)
def test_weights_are_repetitions(counts):
    """torch's batch norm over the rows that are there, each as often as it counts."""
    counts = torch.tensor(counts)
    ours, theirs = with_random_weights(BatchNorm(3)), torch.nn.BatchNorm1d(3, EPSILON, 1 - MOMENTUM).double()
    theirs.load_state_dict({"weight": ours.weight, "bias": ours.bias}, strict=False)
    x, g = (2 + normal(len(counts), 3)).requires_grad_(), normal(len(counts), 3, seed=3)
    twin = x.detach().clone().requires_grad_()
    y = ours(x, counts)
    (y * g * counts[:, None]).sum().backward()
    repeated = twin.repeat_interleave(counts, 0)
    expected = theirs(repeated)
    (expected * g.repeat_interleave(counts, 0)).sum().backward()
    n = int(counts.sum())
    assert (y.repeat_interleave(counts, 0) - expected).abs().max() < 1e-10
    assert (x.grad - twin.grad).abs().max() < 1e-7 * (1 + twin.grad.abs().max())
    for a, b in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        assert (a.grad - b.grad).abs().max() < 1e-10 * (1 + b.grad.abs().max())
    assert (ours.mean - theirs.running_mean).abs().max() < 1e-14
    # torch's running variance is the unbiased one
    biased = MOMENTUM + (theirs.running_var - MOMENTUM) * (n - 1) / n
    assert (ours.variance - biased).abs().max() < 1e-14


def test_without_weights_every_row_counts_once():
    x = normal(4, 6, 3)
    assert relative(BatchNorm(3).double()(x), BatchNorm(3).double()(x, torch.ones(4, 6))) < 1e-14


def test_rows_that_do_not_count_change_nothing_to_the_bit():
    found = []
    for padding in (0.0, 1e6):
        norm, x = with_random_weights(BatchNorm(3)), normal(4, 6, 3)
        x[:, 4:] = padding
        y = norm(x, torch.tensor([1.0, 1, 1, 1, 0, 0]).expand(4, 6))
        found.append((y[:, :4], norm.mean, norm.variance))
    assert all(map(torch.equal, *found))
    norm = with_random_weights(BatchNorm(3))
    assert not torch.equal(norm(x)[:, :4], found[1][0])  # negative control: they count


def test_evaluation_uses_the_averages_and_leaves_them():
    norm, x = with_random_weights(BatchNorm(3)), 5 + normal(8, 3)
    norm(x)
    assert (MOMENTUM, EPSILON) == (0.95, 1e-6)
    assert relative(norm.mean, (1 - MOMENTUM) * x.mean(0)) < 1e-14
    assert relative(norm.variance, MOMENTUM + (1 - MOMENTUM) * x.var(0, unbiased=False)) < 1e-14
    norm.eval()
    before = norm.mean.clone(), norm.variance.clone()
    expected = norm.weight * (x - before[0]) / (before[1] + EPSILON).sqrt() + norm.bias
    assert relative(norm(x, torch.zeros(8)), expected) < 1e-14
    assert torch.equal(norm.mean, before[0])
    assert torch.equal(norm.variance, before[1])


@pytest.mark.parametrize("x", [torch.ones(0, 3), torch.ones(2, 3)])
def test_a_batch_of_nothing_has_no_mean(x):
    norm = BatchNorm(3)
    with pytest.raises(
        ValueError, match="weight must count at least one row of a batch in training, got none"
    ):
        norm(x, torch.zeros(len(x)))
    assert not norm.mean.any()
    assert torch.equal(norm.variance, torch.ones(3))
