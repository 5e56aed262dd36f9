"""How near a layer is to a step: exact cases."""

import pytest
import torch

from eventbook.models.in_context.agreement import agreement, loss_of, predictions_of, sensitivities
from eventbook.models.in_context.layer import GDLayer
from eventbook.models.in_context.oracle import best_eta, gradient_descent
from eventbook.models.in_context.tasks import scalar_tasks, vector_tasks


def some(make=vector_tasks, count=700):
    return make(count, context=7, features=4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", [vector_tasks, scalar_tasks])
def test_the_construction_agrees_in_everything(make):
    tasks = some(make)
    eta = best_eta(tasks)
    found = agreement(GDLayer.constructed(4, 7, eta), tasks)
    assert found.eta == eta
    assert found.loss == pytest.approx(found.gd_loss, rel=1e-5)
    assert found.cosine == pytest.approx(1, abs=1e-5)
    assert found.sensitivity_difference < 1e-5
    assert found.prediction_difference < 1e-5


def test_another_rate_keeps_the_cosine_alone():
    tasks = some()
    eta = best_eta(tasks)
    found = agreement(GDLayer.constructed(4, 7, 2 * eta), tasks)
    assert found.cosine == pytest.approx(1, abs=1e-5)
    assert found.loss > found.gd_loss * 1.2
    weight = gradient_descent(tasks, eta)
    assert found.sensitivity_difference == pytest.approx(float(weight.norm(dim=2).mean()), rel=1e-4)


def test_the_other_sign_has_the_other_cosine():
    tasks = some()
    assert agreement(GDLayer.constructed(4, 7, -1.0), tasks, eta=1.0).cosine == pytest.approx(-1, abs=1e-5)


def test_sensitivities_are_the_implicit_weights():
    tasks = some(count=20)
    found = sensitivities(GDLayer.constructed(4, 7, 2.0, gd_steps=2), tasks)
    assert (found - gradient_descent(tasks, 2.0, 2)).abs().max() < 1e-5


def test_parts_are_the_whole():
    tasks = some()
    made = GDLayer(4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = made.predict(tasks.tokens())
    assert torch.allclose(predictions_of(made, tasks), whole, atol=1e-6)
    assert loss_of(made, tasks) == pytest.approx(float((whole - tasks.answer).square().mean() / 2), rel=1e-5)
