"""The form with products in its tokens."""

import pytest
import torch

from eventbook.models.in_context.constructed_token import ConstructedTokenLayer, constructed_tokens
from eventbook.models.in_context.layer import GDLayer
from eventbook.models.in_context.oracle import answers, gradient_descent
from eventbook.models.in_context.tasks import scalar_tasks, vector_tasks


def some(context=7):
    return scalar_tasks(20, context=context, features=4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("normalise_by", ["context", "features"])
def test_it_is_a_step_after_every_example(normalise_by):
    tasks = some()
    made = ConstructedTokenLayer(4, 7, 3.0, normalise_by=normalise_by)
    with torch.no_grad():
        found, _ = made(constructed_tokens(tasks))
        same, _ = GDLayer.constructed(4, 7, 3.0, normalise_by=normalise_by)(tasks.tokens())
    expected = answers(gradient_descent(tasks, 3.0, normalise_by=normalise_by), tasks)
    assert (found[:, -1:] - expected).abs().max() < 2e-6
    assert (found - same[:, :, -1]).abs().max() < 2e-6
    assert (found[:, -1:] + expected).abs().max() > 0.1  # negative control: the sign


def test_pieces_carry_the_state():
    tasks, made = some(), ConstructedTokenLayer(4, 7, 3.0)
    with torch.no_grad():
        made.log_decay.fill_(-0.1)
        tokens = constructed_tokens(tasks)
        whole, last = made(tokens)
        first, state = made(tokens[:, :3])
        second, state = made(tokens[:, 3:], state)
    assert (torch.cat([first, second], 1) - whole).abs().max() < 1e-6
    assert (state - last).abs().max() < 1e-6


def test_everything_is_trainable():
    made = ConstructedTokenLayer(4, 7, 3.0)
    made(constructed_tokens(some()))[0].square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in made.parameters())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: constructed_tokens(vector_tasks(2, features=3)), ValueError, "y must have one output"),
        (lambda: ConstructedTokenLayer(0, 7, 3.0), ValueError, "features must be >= 1, got 0"),
        (lambda: ConstructedTokenLayer(4, 7, 1.0)(torch.zeros(2, 3, 7)), ValueError, r"tokens must be .*8"),
        (lambda: ConstructedTokenLayer(4, 7, 1.0)(torch.zeros(2, 8)), ValueError, "tokens must be"),
        (
            lambda: ConstructedTokenLayer(4, 7, 1.0)(torch.zeros(2, 3, 8).double()), TypeError,
            "tokens must have the dtype of B",
        ),
    ],
)  # fmt: skip
def test_bad_input_gets_one_clear_line(call, error, message):
    with pytest.raises(error, match=message):
        call()
