"""Tasks: what they contain, where the answer stands, and bad input."""

import math

import numpy as np
import pytest
import torch

from eventbook.models.in_context.tasks import (
    Tasks,
    half_square,
    scalar_tasks,
    sine_tasks,
    tasks_of_rows,
    vector_tasks,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_task_is_one_linear_map_for_examples_and_query():
    tasks = vector_tasks(20, context=12, features=5, generator=seeded())
    weight = torch.linalg.lstsq(tasks.x.double(), tasks.y.double()).solution.mT
    assert (weight @ tasks.query.double()[:, :, None])[..., 0].sub(tasks.answer).abs().max() < 1e-4
    other = weight.roll(1, 0)  # negative control: of another task
    assert (other @ tasks.query.double()[:, :, None])[..., 0].sub(tasks.answer).abs().max() > 0.1


def test_tokens_alternate_and_end_with_the_query():
    tasks = vector_tasks(3, context=4, features=5, generator=seeded())
    tokens = tasks.tokens()
    assert tokens.shape == (3, 9, 5)
    assert torch.equal(tokens[:, 0:8:2], tasks.x)
    assert torch.equal(tokens[:, 1:8:2], tasks.y)
    assert torch.equal(tokens[:, 8], tasks.query)


def test_one_output_stands_last_behind_zeros():
    tasks = scalar_tasks(3, context=4, features=5, generator=seeded())
    tokens = tasks.tokens()
    assert tokens[:, 1::2, :4].abs().sum() == 0
    assert torch.equal(tokens[:, 1::2, 4:], tasks.y)
    assert tasks.answer.shape == (3, 1)


def test_moments_are_those_of_the_uniform_law():
    tasks = vector_tasks(4000, input_range=2.0, weight_scale=3.0, generator=seeded())
    assert tasks.x.abs().max() <= 1
    assert float(tasks.x.square().mean()) == pytest.approx(4 / 12, rel=0.02)
    assert float(tasks.x.mean()) == pytest.approx(0, abs=0.01)
    assert float(tasks.answer.square().mean()) == pytest.approx(9 * 10 * 4 / 12, rel=0.05)


def test_rows_are_drawn_from_the_table():
    rows = torch.arange(12.0).view(4, 3) - 5.5
    tasks = tasks_of_rows(50, rows, context=6, generator=seeded())
    drawn = torch.cat([tasks.x.flatten(0, 1), tasks.query])
    assert {tuple(row.tolist()) for row in drawn} == {tuple(row.tolist()) for row in rows}
    assert tasks.y.shape == (50, 6, 3)


def test_correlated_keys_tie_amplitude_and_phase():
    """Both can be read off y at x = 0 and its derivative; here by least squares on sine and cosine."""

    def correlation(correlated):
        tasks = sine_tasks(400, context=20, correlated_keys=correlated, generator=seeded())
        basis = torch.cat([tasks.x.sin(), tasks.x.cos()], 2).double()
        parts = torch.linalg.lstsq(basis, tasks.y.double()).solution[..., 0]
        amplitude, phase = parts.norm(dim=1), torch.atan2(parts[:, 1], parts[:, 0])
        assert amplitude.min() > 0.09
        assert amplitude.max() < 5.01
        assert phase.min() > -1e-3
        assert phase.max() < math.pi + 1e-3
        return float(np.corrcoef(amplitude, phase)[0, 1])

    assert correlation(True) > 0.999
    assert abs(correlation(False)) < 0.15


@pytest.mark.parametrize("make", [vector_tasks, scalar_tasks, sine_tasks])
def test_tasks_come_from_the_generator_alone(make):
    state = torch.random.get_rng_state()
    first = make(5, generator=seeded(1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(map(torch.equal, make(5, generator=seeded(1)), first))
    assert not torch.equal(make(5, generator=seeded(2)).x, first.x)


def test_the_loss_is_half_a_square_of_the_last_entries():
    prediction = torch.tensor([[9.0, 1.0, 2.0], [9.0, 0.0, 0.0]])
    answer = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
    assert float(half_square(prediction, answer)) == (1 + 0 + 4 + 0) / 4 / 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: vector_tasks(0), ValueError, "count must be >= 1, got 0"),
        (lambda: vector_tasks(2, context=0), ValueError, "context must be >= 1, got 0"),
        (lambda: vector_tasks(2, features=2.5), TypeError, "features must be a whole number, got 2.5"),
        (lambda: vector_tasks(2, input_range=-1), ValueError, "input_range must be finite and > 0, got -1"),
        (lambda: vector_tasks(2, weight_scale=math.nan), ValueError, "weight_scale must be .* got nan"),
        (lambda: sine_tasks(2, input_range=math.inf), ValueError, "input_range must be .* got inf"),
        (lambda: tasks_of_rows(2, torch.zeros(3)), ValueError, r"rows must be \(row, features\)"),
        (lambda: tasks_of_rows(2, torch.zeros(0, 3)), ValueError, "rows must be at least one, got none"),
        (lambda: tasks_of_rows(2, torch.zeros(3, 3).long()), TypeError, "rows must be float32 or float64"),
        (
            lambda: tasks_of_rows(2, torch.tensor([[1.0], [math.nan]])), ValueError,
            "rows must be finite, got 1 as the first that is not",
        ),
        (
            lambda: Tasks(torch.zeros(2, 3, 1), torch.zeros(2, 3, 2), torch.zeros(2, 1), None).tokens(),
            ValueError, "y must have at most 1 outputs, got 2",
        ),
        (
            lambda: Tasks(torch.zeros(2, 3, 1), torch.zeros(2, 4, 1), torch.zeros(2, 1), None).tokens(),
            ValueError, r"y must be \(task, context, outputs\) = \(2, 3, outputs\), got \(2, 4, 1\)",
        ),
        (
            lambda: half_square(torch.zeros(2, 1), torch.zeros(2, 3)), ValueError,
            "prediction must have 3 entries or more, got 1",
        ),
    ],
)  # fmt: skip
def test_bad_input_gets_one_clear_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
