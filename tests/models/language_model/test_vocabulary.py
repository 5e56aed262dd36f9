"""The loss in pieces is torch's cross entropy, and so are its gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from eventbook.models.language_model import vocabulary
from eventbook.models.language_model.vocabulary import vocabulary_loss, vocabulary_losses


def problem(tokens: int, words: int = 37, size: int = 5, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(tokens)
    hidden, weight, bias = (
        3 * torch.randn(*shape, generator=generator, dtype=dtype)
        for shape in ((tokens, size), (words, size), (words,))
    )
    return hidden, weight, bias, torch.randint(words, (tokens,), generator=generator)


@settings(deadline=None)  # the first call of torch takes long
@given(st.integers(1, 25), st.integers(1, 9))
def test_loss_and_gradients_are_those_of_cross_entropy(tokens: int, rows: int):
    whole, vocabulary.ROWS = vocabulary.ROWS, rows
    try:
        *given_, targets = problem(tokens)
        ours = [x.clone().requires_grad_() for x in given_]
        theirs = [x.clone().requires_grad_() for x in given_]
        loss = 2 * vocabulary_loss(*ours, targets)
        expected = 2 * functional.cross_entropy(functional.linear(*theirs), targets)
        torch.testing.assert_close(loss, expected, rtol=1e-13, atol=1e-13)
        loss.backward()
        expected.backward()
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-13)
        each = vocabulary_losses(*given_, targets)
        torch.testing.assert_close(each.mean(), expected.detach() / 2, rtol=1e-13, atol=1e-13)
    finally:
        vocabulary.ROWS = whole


def test_single_precision_at_its_own_size():
    """10,002 words, two pieces and a rest: what training meets."""
    hidden, weight, bias, targets = problem(1_100, 10_002, 64, torch.float32)
    ours = [(x / 10).requires_grad_() for x in (hidden, weight, bias)]
    exact = [x.detach().double().requires_grad_() for x in ours]
    loss = vocabulary_loss(*ours, targets)
    expected = functional.cross_entropy(functional.linear(*exact), targets)
    loss.backward()
    expected.backward()
    assert abs(float(loss.detach()) / float(expected.detach()) - 1) < 1e-6
    for a, b in zip(ours, exact, strict=True):
        assert float((a.grad - b.grad).norm() / b.grad.norm()) < 2e-6


def test_there_is_no_second_derivative_and_it_says_so():
    *given_, targets = problem(6)
    ours = [x.clone().requires_grad_() for x in given_]
    loss = vocabulary_loss(*ours, targets)
    (gradient,) = torch.autograd.grad(loss, ours[0], create_graph=True)
    with pytest.raises(RuntimeError, match="vocabulary_loss is differentiable once"):
        (loss + 100 * gradient.square().sum()).backward()


def test_autocast_leaves_its_precision_alone():
    *given_, targets = problem(6, dtype=torch.float32)
    ours, theirs = ([x.clone().requires_grad_() for x in given_] for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = vocabulary_loss(*ours, targets)
        of_half = vocabulary_loss(given_[0].bfloat16(), *given_[1:], targets)
    expected = vocabulary_loss(*theirs, targets)
    loss.backward()
    expected.backward()
    assert torch.equal(loss, expected)
    assert of_half.dtype == torch.float32
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours, theirs, strict=True))


def test_a_wrong_word_changes_the_gradient():
    hidden, weight, bias, targets = problem(6)
    gradients = []
    for shift in (0, 1):
        x = hidden.clone().requires_grad_()
        vocabulary_loss(x, weight, bias, (targets + shift) % 37).backward()
        gradients.append(x.grad)
    assert float((gradients[0] - gradients[1]).abs().max()) > 1e-2


def test_scores_beyond_what_exp_can_do():
    hidden, weight, bias, targets = problem(4)
    loss = vocabulary_loss(1e4 * hidden, weight, bias, targets)
    expected = functional.cross_entropy(functional.linear(1e4 * hidden, weight, bias), targets)
    torch.testing.assert_close(loss, expected)


def test_no_tokens():
    hidden, weight, bias, targets = problem(3)
    with pytest.raises(ValueError, match="targets must be a token at least, got none"):
        vocabulary_loss(hidden[:0], weight, bias, targets[:0])
    assert vocabulary_losses(hidden[:0], weight, bias, targets[:0]).shape == (0,)
