"""A step of a training: the bound of gradients, and gradients that are none."""

import math

import pytest
import torch

from eventbook.learning.steps import take_step


def weights(*values: float) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def test_gradients_are_bounded_together_and_only_if_asked():
    for clip, expected in ((1.0, [-0.6, -0.8]), (0.0, [-3.0, -4.0]), (10.0, [-3.0, -4.0])):
        first, second = weights(0.0), weights(0.0)
        optimizer = torch.optim.SGD([first, second], lr=1.0)
        first.grad = torch.full_like(first, 7.0)  # of the step before: cleared
        take_step(optimizer, 3 * first.sum() + 4 * second.sum(), [first, second], clip, 0)
        assert [first.item(), second.item()] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_gradient_that_is_none_is_refused_before_the_step(wrong: float, clip: float):
    weight = weights(1.0, 2.0)
    optimizer = torch.optim.Adam([weight], lr=1.0)
    loss = (weight * torch.tensor([1.0, wrong])).sum()
    with pytest.raises(
        FloatingPointError, match=rf"^gradient must be finite, got a norm of {wrong} at step 7$"
    ):
        take_step(optimizer, loss, [weight], clip, 7)
    assert weight.tolist() == [1.0, 2.0]
    assert not optimizer.state
