"""The construction is gradient descent, and nothing that looks like it is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from eventbook.models.in_context.construction import (
    accumulate,
    construction,
    implicit_weight,
    outer_products,
    predict,
    predictions,
    step_scale,
    windows_of,
)
from eventbook.models.in_context.oracle import answers, gradient_descent
from eventbook.models.in_context.tasks import vector_tasks

pytestmark = pytest.mark.usefixtures("double")


def some(count=6, **sizes):
    return vector_tasks(count, generator=torch.Generator().manual_seed(0), **sizes)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.floats(-3, 8),
    st.sampled_from(["context", "features"]), st.integers(0, 1000),
)  # fmt: skip
def test_k_steps_are_k_steps(context, features, steps, eta, normalise_by, seed):
    generator = torch.Generator().manual_seed(seed)
    tasks = vector_tasks(3, context=context, features=features, generator=generator)
    parts = construction(features, context, eta, gd_steps=steps, normalise_by=normalise_by)
    expected = answers(gradient_descent(tasks, eta, steps, normalise_by=normalise_by), tasks)
    found = predict(tasks.tokens(), parts)[:, -1]
    assert (found - expected).abs().max() <= 1e-12 * max(1, float(expected.abs().max()))


def test_each_window_is_a_step_on_what_came_before():
    tasks = some(context=5, features=4)
    found = predict(tasks.tokens(), construction(4, 5, 2.0))
    for n in range(1, 5):
        part = tasks._replace(x=tasks.x[:, :n], y=tasks.y[:, :n], query=tasks.x[:, n])
        expected = answers(gradient_descent(part, 2.0 * n / 5), part)
        assert (found[:, n - 1] - expected).abs().max() < 1e-13


def test_a_decay_is_a_weighted_loss():
    tasks, decay = some(context=7, features=4), 0.8
    weight = decay ** torch.arange(6, -1, -1.0)
    expected = answers(gradient_descent(tasks, 2.0, example_weight=weight), tasks)
    found = predict(tasks.tokens(), construction(4, 7, 2.0, decay=decay))[:, -1]
    assert (found - expected).abs().max() < 1e-13
    reverse = answers(gradient_descent(tasks, 2.0, example_weight=weight.flip(0)), tasks)  # control
    assert (found - reverse).abs().max() > 1e-2


def test_without_its_transpose_the_accumulator_is_wrong_and_swapped_attention_mends_it():
    tasks = some(context=7, features=4)
    parts = construction(4, 7, 2.0)
    expected = answers(gradient_descent(tasks, 2.0), tasks)
    windows = windows_of(tasks.tokens())

    def straight(attention):
        states, _ = accumulate(outer_products(windows, attention).mT, parts.decay)
        return predictions(implicit_weight(states, parts.C), windows @ parts.gate)[:, -1]

    assert (straight(parts.attention) - expected).abs().max() > 0.1
    assert (straight(parts.attention.mT) - expected).abs().max() < 1e-13


def test_the_accumulator_is_cumsum_or_a_filter():
    products = torch.randn(2, 30, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    states, last = accumulate(products, torch.ones(1, 3, 3))
    assert (states - products.cumsum(1)).abs().max() < 1e-13
    assert torch.equal(last, states[:, -1])
    states, _ = accumulate(products, torch.full((1, 3, 3), 0.9))
    expected = lfilter([1], [1, -0.9], products.numpy(), axis=1)
    assert (states - torch.from_numpy(expected)).abs().max() < 1e-13


def test_heads_are_joined_as_written():
    states = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(0))
    C = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(1))
    a1, b2, a2, b3, a3 = C @ states
    E2 = a1 + a1 @ b2 + a2
    assert (implicit_weight(states, C) + E2 + E2 @ b3 + a3).abs().max() < 1e-13


def test_windows_are_pairs_and_what_follows():
    tokens = torch.arange(14.0).view(1, 7, 2)
    windows = windows_of(tokens)
    assert windows.shape == (1, 3, 2, 3)
    assert windows[0, 1, 0].tolist() == [4.0, 6.0, 8.0]
    assert windows_of(tokens[:, :2]).shape == (1, 0, 2, 3)
    assert windows_of(tokens, 2)[0, -1, 0].tolist() == [8.0, 10.0]  # the last token is not reached


def test_the_released_rate_is_the_same_step():
    assert step_scale(2.0 * 5 / 10, 10, 5, "features") == pytest.approx(step_scale(2.0, 10, 5))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"features": 0}, ValueError, "features must be >= 1, got 0"),
        ({"context": 1.5}, TypeError, "context must be a whole number, got 1.5"),
        ({"gd_steps": 0}, ValueError, "gd_steps must be >= 1, got 0"),
        ({"eta": float("inf")}, ValueError, "eta must be finite, got inf"),
        ({"decay": -0.5}, ValueError, r"decay must be in \(0, 1\], got -0.5"),
        ({"decay": float("nan")}, ValueError, r"decay must be in \(0, 1\], got nan"),
        ({"decay": 1.5}, ValueError, r"decay must be in \(0, 1\], got 1.5"),
        ({"normalise_by": "batch"}, ValueError, "normalise_by must be one of context, features, got 'batch'"),
    ],
)
def test_bad_input_gets_one_clear_line(changes, error, message):
    with pytest.raises(error, match=message) as caught:
        construction(**{"features": 3, "context": 4, "eta": 1.0, **changes})
    assert "\n" not in str(caught.value)
